"""The losses: residual, start and step are what the loss's own values say they are."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from relaxon.neuromorphic.boosting.networks.model_kernels import find_sums_along
from relaxon.neuromorphic.boosting.training import losses

RNG = np.random.default_rng(3)
N = 60
NUMBERS = RNG.gamma(2.0, size=(2, N))
SIGNS = np.where(RNG.random((1, N)) < 0.3, 1.0, -1.0)
ONE_HOT = np.eye(3)[RNG.integers(3, size=N)].T.copy()
WEIGHTS = (w := RNG.uniform(0.2, 2.0, N)) / w.sum()
CASES: dict[str, tuple[Any, Any]] = {
    "squared": (losses.SquaredLoss(), NUMBERS),
    "absolute": (losses.AbsoluteLoss(), NUMBERS),
    "quantile": (losses.QuantileLoss(quantile=0.8), NUMBERS),
    "huber": (losses.HuberLoss(delta=np.array([0.5, 1.5])), NUMBERS),
    "poisson": (losses.PoissonLoss(), NUMBERS),
    "binary": (losses.BinaryLogLoss(), SIGNS),
    "classes": (losses.LogLoss(), ONE_HOT),
}
SMOOTH = ["squared", "huber", "poisson", "binary", "classes"]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, Any, Any, Any]:
    loss, y = CASES[request.param]
    return request.param, loss, y, np.random.default_rng(4).normal(size=y.shape)


def test_the_residual_is_the_negative_gradient(case: tuple[str, Any, Any, Any]) -> None:
    name, loss, y, F = case
    direction, h = np.random.default_rng(5).normal(size=y.shape), 1e-6
    slope = (loss.values(y, F + h * direction, WEIGHTS) - loss.values(y, F - h * direction, WEIGHTS)).sum() / (2 * h)
    # The absolute loss is |e|, its residual that of ½|e|: the stage is fitted to its sign alone.
    expected = -((loss.residual(y, F) * direction) @ WEIGHTS).sum() * (2.0 if name == "absolute" else 1.0)
    assert slope == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_no_constant_is_better_than_the_start(case: tuple[str, Any, Any, Any]) -> None:
    _, loss, y, _ = case
    start = loss.initial(y, WEIGHTS)[:, None]
    best = loss.values(y, np.tile(start, (1, N)), WEIGHTS).sum()
    for shift in np.random.default_rng(6).normal(scale=0.05, size=(20, len(y), 1)):
        assert loss.values(y, np.tile(start + shift, (1, N)), WEIGHTS).sum() >= best - 1e-4 * abs(best)


def guarded_step(loss: Any, y: Any, F: Any, f: Any) -> Any:
    r = loss.residual(y, F)
    return loss.guarded_step(y, F, r, f, WEIGHTS, *find_sums_along(r, f, WEIGHTS)[:2])


@pytest.mark.parametrize("name", ["squared", "absolute", "quantile"])
def test_the_step_is_the_exact_minimum_along_the_line(name: str) -> None:
    loss, y = CASES[name]
    F = np.random.default_rng(7).normal(size=y.shape)
    f = loss.residual(y, F) + np.random.default_rng(8).normal(size=y.shape)
    rho = guarded_step(loss, y, F, f)
    for k in range(len(y)):

        def along(step: float, k: int = k) -> float:
            return float(loss.values(y[k : k + 1], F[k : k + 1] + step * f[k : k + 1], WEIGHTS)[0])

        assert along(rho[k]) <= minimize_scalar(along, bracket=(-1.0, 1.0)).fun + 1e-9


@pytest.mark.parametrize("name", ["poisson", "binary"])
def test_the_step_is_newtons(name: str) -> None:
    loss, y = CASES[name]
    F, f = np.random.default_rng(7).normal(size=(2, *y.shape))
    h = 1e-4

    def along(step: float) -> Any:
        return loss.values(y, F + step * f, WEIGHTS)

    slope = (along(h) - along(-h)) / (2 * h)
    curvature = (along(h) - 2 * along(0.0) + along(-h)) / h**2
    rho = guarded_step(loss, y, F, f)
    np.testing.assert_allclose(rho, -slope / curvature, rtol=1e-4)


def test_the_multi_class_step_is_newtons_per_class() -> None:
    loss, y = CASES["classes"]
    F, f = np.random.default_rng(7).normal(size=(2, *y.shape))
    rho = loss.published_step(y, F, loss.residual(y, F), f, WEIGHTS)
    p, h = losses.softmax(F), 1e-5
    for k in range(3):
        one = np.zeros((3, 1))
        one[k] = h
        slope = (loss.values(y, F + one * f, WEIGHTS) - loss.values(y, F - one * f, WEIGHTS)) / (2 * h)
        curvature = (f[k] ** 2 * p[k] * (1 - p[k])) @ WEIGHTS
        assert rho[k] == pytest.approx(-slope[0] / curvature, rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_logits_and_log_means_at_the_ends_of_their_range_stay_finite(name: str) -> None:
    loss, y = CASES[name]
    for size in (50.0, 600.0):
        F = size * np.sign(np.random.default_rng(1).normal(size=y.shape))
        r = loss.residual(y, F)
        assert np.isfinite(r).all()
        assert np.isfinite(loss.values(y, F, WEIGHTS)).all()
        values, residual = loss.evaluate(y, F, WEIGHTS)
        np.testing.assert_allclose(values, loss.values(y, F, WEIGHTS), rtol=1e-12)
        np.testing.assert_allclose(residual, r, rtol=1e-12, atol=1e-300)
        assert np.isfinite(guarded_step(loss, y, F, np.zeros_like(F))).all()
        assert np.isfinite(guarded_step(loss, y, F, np.ones_like(F))).all()


@pytest.mark.parametrize("quantile", [0.1, 0.25, 0.5, 0.9])
def test_a_weighted_quantile_is_that_of_repeated_values(quantile: float) -> None:
    values, counts = RNG.normal(size=21), RNG.integers(1, 5, size=21)
    repeated = np.repeat(values, counts)
    weighted = losses.weighted_quantile(values, counts.astype(float), quantile)
    assert weighted == losses.weighted_quantile(repeated, np.ones(repeated.size), quantile)


def test_the_median_of_an_even_number_is_the_midpoint() -> None:
    assert losses.weighted_quantile(np.array([4.0, 1.0, 3.0, 2.0]), np.ones(4), 0.5) == 2.5
