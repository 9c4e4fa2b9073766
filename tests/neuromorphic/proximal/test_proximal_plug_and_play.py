"""Plug-and-play iterations end at stationary points, say how they went, and refuse what may not end."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.proximal import (  # noqa: E402
    BlurOperator,
    CompositeOperator,
    IdentityOperator,
    MaskOperator,
    NetworkSettings,
    ProximalModel,
    RadonOperator,
)
from relaxon.neuromorphic.proximal.potentials import build_potential  # noqa: E402
from relaxon.solvers import Result  # noqa: E402

SHAPE = (5, 5)
RNG = np.random.default_rng(0)
OPERATORS = {
    "blur": BlurOperator.gaussian(SHAPE, 0.6),
    "radon": RadonOperator(SHAPE, [0.0, 50.0, 100.0]),
    "masked blur": CompositeOperator([BlurOperator.gaussian(SHAPE, 0.6), MaskOperator(RNG.random(SHAPE) < 0.6)]),
}
TRUTH = RNG.random(SHAPE)


@pytest.fixture(scope="module")
def model():
    settings = NetworkSettings(SHAPE, "convolutional", hidden=(4, 3), alpha=0.05, seed=2)
    return ProximalModel(build_potential(settings), 0.1)


def weight_of(operator, curvature):
    return curvature / operator.norm**2


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("method", "curvature"), [("pgd", 0.9), ("admm", 0.9), ("mirror", 0.9), ("mirror", 20.0)])
def test_the_end_is_a_fixed_point_where_the_objective_is_least_around(model, name, method, curvature):
    operator = OPERATORS[name]
    b, weight = operator.apply(TRUTH), weight_of(OPERATORS[name], curvature)
    found = model.solve(b, operator, data_weight=weight, method=method, tolerance=1e-9)
    assert found.result is Result.CONVERGED
    assert found.guaranteed
    assert found.residual <= 1e-9
    assert len(found.residuals) == len(found.objectives) == found.iterations + 1
    step = weight * operator.adjoint(operator.apply(found.x) - b)
    np.testing.assert_allclose(model.denoise(found.x - step), found.x, atol=1e-7)

    def objective(x):
        return 0.5 * weight * ((operator.apply(x) - b) ** 2).sum() + model.prior(x).values[0]

    best = objective(found.x)
    assert best == pytest.approx(found.objectives[-1], rel=1e-9, abs=1e-9)
    for move in 1e-2 * RNG.standard_normal((3, *SHAPE)):
        assert objective(found.x + move) > best


def test_all_methods_come_to_the_same_objective(model):
    operator = OPERATORS["blur"]
    b = operator.apply(TRUTH)
    ends = [
        model.solve(b, operator, data_weight=weight_of(operator, 1.5), tolerance=1e-7, **options)
        for options in ({"method": "mirror"}, {"method": "admm"}, {"method": "admm", "penalty": 1.2})
    ]
    assert [end.converged for end in ends] == [True, True, True]
    assert [end.guaranteed for end in ends] == [True, True, False]
    for end in ends[1:]:
        np.testing.assert_allclose(end.x, ends[0].x, atol=1e-5)


def test_proximal_gradient_descent_lowers_the_objective_at_each_step(model):
    operator = OPERATORS["radon"]
    found = model.solve(operator.apply(TRUTH), operator, data_weight=weight_of(operator, 0.95), tolerance=1e-9)
    assert (np.diff(found.objectives) <= 1e-12 * abs(found.objectives[0])).all()


def test_noise_of_the_observation_sets_the_weight(model):
    b = TRUTH + 0.01
    found = model.solve(b, IdentityOperator(SHAPE), observation_noise=0.2)
    assert found.data_weight == pytest.approx((0.1 / 0.2) ** 2)
    same = model.solve(b, IdentityOperator(SHAPE), data_weight=0.25)
    np.testing.assert_array_equal(found.x, same.x)


def test_a_start_at_the_solution_is_at_once_done(model):
    operator = IdentityOperator(SHAPE)
    first = model.solve(TRUTH, operator, data_weight=0.5, tolerance=1e-10)
    y = first.x - 0.5 * (first.x - TRUTH)
    again = model.solve(TRUTH, operator, data_weight=0.5, tolerance=1e-8, x0=y)
    assert (again.result, again.iterations) == (Result.CONVERGED, 0)


def test_endings_are_values(model):
    operator, seen = OPERATORS["blur"], []
    b, weight = operator.apply(TRUTH), weight_of(OPERATORS["blur"], 0.5)
    short = model.solve(b, operator, data_weight=weight, tolerance=1e-12, max_iterations=3)
    assert (short.result, short.iterations) == (Result.MAX_ITERATIONS, 3)
    stopped = model.solve(
        b, operator, data_weight=weight, tolerance=1e-12, callback=lambda p: seen.append(p) or p.iteration == 2
    )
    assert (stopped.result, stopped.iterations) == (Result.CANCELLED, 2)
    assert [p.iteration for p in seen] == [1, 2]
    assert seen[-1].residual == stopped.residual
    zero = model.solve(np.zeros(SHAPE), operator, data_weight=weight)
    assert zero.converged


def test_a_model_that_gives_nan_ends_the_run_and_keeps_what_was_finite():
    settings = NetworkSettings(SHAPE, hidden=(3,), alpha=0.05)
    broken = ProximalModel(build_potential(settings), 0.1)
    calls = iter(range(100))
    found = broken.potential.value_and_proximal
    broken.potential.value_and_proximal = lambda y: tuple(
        part * (float("nan") if next(calls) >= 6 else 1.0) for part in found(y)
    )
    end = broken.solve(TRUTH, IdentityOperator(SHAPE), data_weight=0.5, tolerance=1e-15)
    assert end.result is Result.NON_FINITE
    assert np.isfinite(end.x).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "^data_weight must be given if and only if observation_noise is not"),
        ({"data_weight": 1.0, "observation_noise": 1.0}, "^data_weight must be given if"),
        ({"data_weight": -1.0}, "data_weight must be greater than 0"),
        ({"observation_noise": 0.0}, "observation_noise must be greater than 0"),
        ({"data_weight": 1.0}, "data_weight must be below 1/‖A‖²"),
        ({"data_weight": 0.5, "method": "newton"}, "method must be 'pgd', 'admm' or 'mirror'"),
        ({"data_weight": 0.5, "penalty": 2.0}, "penalty must be None where method is 'pgd'"),
        ({"data_weight": 0.5, "method": "admm", "penalty": 0.5}, "penalty must be at least 1"),
        ({"data_weight": 0.5, "tolerance": 0.0}, "tolerance must be greater than 0"),
        ({"data_weight": 0.5, "max_iterations": 0}, "max_iterations must be at least 1"),
        ({"data_weight": 0.5, "x0": np.zeros(3)}, "x0 must have shape"),
        ({"data_weight": 0.5, "callback": 3}, "callback must be callable"),
    ],
)
def test_what_does_not_fit_is_refused(model, options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        model.solve(TRUTH, IdentityOperator(SHAPE), **options)


def test_observations_and_operators_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="observation must be finite"):
        model.solve(np.full(SHAPE, np.nan), IdentityOperator(SHAPE), data_weight=0.5)
    with pytest.raises(ValueError, match=r"observation must have shape \(5, 5\)"):
        model.solve(np.zeros(25), IdentityOperator(SHAPE), data_weight=0.5)
    with pytest.raises(TypeError, match="operator must be a ForwardOperator"):
        model.solve(TRUTH, np.eye(25), data_weight=0.5)
    with pytest.raises(ValueError, match="operator must accept signals of the model's shape"):
        model.solve(np.zeros(4), IdentityOperator((4,)), data_weight=0.5)
