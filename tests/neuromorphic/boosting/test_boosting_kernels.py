"""The compiled stage fit against its plain NumPy twin, compiled and interpreted."""

import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from relaxon.neuromorphic.boosting.networks import model_kernels, prediction_kernels
from relaxon.neuromorphic.boosting.stages import (
    descent_kernels,
    lbfgs_kernels,
    projection_kernels,
    reference,
    sigmoid_kernels,
    start_kernels,
)
from relaxon.neuromorphic.boosting.stages import kernels as passes
from relaxon.neuromorphic.boosting.stages.fitting import Draws
from relaxon.solvers import num_threads

SHAPES = [(1, 1, 3), (1, 1, 4), (2, 3, 5), (4, 1, 9), (3, 2, 1)]
"""Units, outputs, features: multiples of the unrolled four, and not."""
PARTS: list[tuple[Any, tuple[str, ...]]] = [
    (sigmoid_kernels, ("sigmoid_double", "sigmoid_single", "sigmoid", "read_power")),
    (
        passes,
        (
            *("add_rows", "add_dots", "activate", "add_products", "solve_outputs", "find_errors", "differentiate"),
            *("objective", "squares", "weigh"),
        ),
    ),
    (model_kernels, ("combine", "unit_activations", "activate_rows", "sum_moments", "sum_along", "join_ends")),
    (lbfgs_kernels, ("two_loop", "remember", "shorten_step", "lengthen_step")),
    (
        projection_kernels,
        (
            *("find_sums", "find_value", "find_deltas", "find_gradient", "descend_projected", "screen_starts"),
            "projected_objective",
        ),
    ),
    (descent_kernels, ("minimise", "descend", "buffers", "minimise_batch", "screen")),
    (start_kernels, ("next_word", "next_uniform", "draw_blocks", "draw_starts")),
]


def gathered() -> types.SimpleNamespace:
    """The compiled functions of the three modules under one name."""
    return types.SimpleNamespace(**{name: getattr(module, name) for module, names in PARTS for name in names})


def interpreted() -> types.SimpleNamespace:
    """The kernels as plain Python, calling one another as plain Python."""
    scope: dict[str, Any] = {}
    for module, _ in PARTS:
        scope |= vars(module)
    for module, names in PARTS:
        for name in names:
            function = getattr(getattr(module, name), "py_func", getattr(module, name))
            scope[name] = types.FunctionType(function.__code__, scope, name, function.__defaults__)
    return types.SimpleNamespace(**{name: scope[name] for _, names in PARTS for name in names})


kernels = gathered()


def evaluated(kernel: Any, theta: Any, x: Any, r: Any, w: Any, n: int, units: int, ridge: float, project: bool) -> Any:
    """The objective and its gradient; under `project` by the hidden weights, the solved outputs put into `theta`."""
    scratch = kernel.buffers(x.shape[0], x.shape[1], units, r.shape[0], 5, x.dtype)
    if not project:
        value = kernel.objective(theta, x, r, w, n, units, ridge, scratch[0], *scratch[2:6], scratch[8])
        return value, scratch[8]
    kernel.weigh(r, w, n, *scratch[:2])
    value = kernel.projected_objective(theta, x, r, w, n, units, ridge, *scratch[:9], *scratch[-4:-1])
    return value, scratch[8][: units * (x.shape[0] + 1)]


def problem(units: int, outputs: int, d: int, n: int = 40) -> tuple[Any, ...]:
    rng = np.random.default_rng(units + 10 * outputs + 100 * d)
    x, r, w = rng.normal(size=(d, n)), rng.normal(size=(outputs, n)), rng.uniform(0.5, 1.5, n)
    return rng.normal(size=units * (d + 1) + (units + 1) * outputs), x, r, w / w.sum()


@pytest.fixture(params=["compiled", "interpreted"])
def kernel(request: pytest.FixtureRequest) -> Any:
    return kernels if request.param == "compiled" else interpreted()


def test_the_sigmoid_is_exact_to_the_last_bits_over_its_whole_range() -> None:
    """Through an activation: one unit of weight 1 on one column. Interpreted, the reduction has no fused products."""
    z = np.concatenate([np.linspace(-800, 800, 1601), np.linspace(-40, 40, 2001), [0.0, -0.0]])
    found = model_kernels.unit_activations(np.ones((1, 1)), np.zeros(1), z[None])[0]
    np.testing.assert_allclose(found, expit(z), rtol=2e-15, atol=1e-300)
    plain = [interpreted().sigmoid(value) for value in z[::50]]
    np.testing.assert_allclose(plain, expit(z[::50]), rtol=3e-13, atol=1e-300)


def test_the_sigmoid_in_single_precision_is_within_its_rounding() -> None:
    z = np.concatenate([np.linspace(-28, 28, 2001), [0.0, -200.0, 200.0]]).astype(np.float32)
    h, theta = np.empty((1, z.size), np.float32), np.array([1.0, 0.0], np.float32)
    model_kernels.activate_rows(theta, z[None], h)
    np.testing.assert_allclose(h[0], expit(z.astype(float)), rtol=2.5e-7, atol=1e-12)


@pytest.mark.parametrize(("units", "outputs", "d"), [*SHAPES, (1, 1, 8), (2, 1, 13)])
def test_the_objective_in_single_precision_is_the_double_one_but_for_rounding(units: int, outputs: int, d: int) -> None:
    theta, x, r, w = problem(units, outputs, d, 700)
    rounded = [array.astype(np.float32) for array in (x, r, w)]
    one, double = evaluated(kernels, theta.copy(), x, r, w, 600, units, 0.03, True)
    two, single = evaluated(kernels, theta.copy(), *rounded, 600, units, 0.03, True)
    assert two == pytest.approx(one, rel=1e-5)
    np.testing.assert_allclose(single, double, atol=1e-5)


@pytest.mark.parametrize(("units", "outputs", "d"), [(1, 1, 1), (4, 2, 8), (7, 3, 5), (200, 1, 21)])
@pytest.mark.parametrize(("dtype", "close"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_merged_predictions_are_the_plain_ones_however_the_rows_are_cut(
    units: int, outputs: int, d: int, dtype: Any, close: float
) -> None:
    rng = np.random.default_rng(units + d)
    x, W, b = rng.normal(2.0, 3.0, (1100, d)), rng.normal(size=(units, d)), rng.normal(size=units)
    C, c, shift, scale = rng.normal(size=(units, outputs)), rng.normal(size=outputs), rng.normal(size=d), np.ones(d)
    x[5, 0], x[6, 0], W[0, 0] = np.nan, 1e300, 1e6  # a unit beyond the exponential's range, either way
    z = np.clip(x - shift, -50.0, 50.0)
    plain = expit(np.nan_to_num(z) @ W.T + b) @ C + c
    packed = prediction_kernels.pack_units(W, b, C, dtype)
    found = prediction_kernels.predict_rows(x, shift, scale, 50.0, packed, c)
    assert np.abs(found - plain).max() < close * (1.0 + np.abs(C).sum(axis=0).max())
    with num_threads(2):
        np.testing.assert_array_equal(prediction_kernels.predict_rows(x, shift, scale, 50.0, packed, c), found)
    pieces = [
        prediction_kernels.predict_rows(part, shift, scale, 50.0, packed, c) for part in (x[:1], x[1:264], x[264:])
    ]
    np.testing.assert_allclose(np.concatenate(pieces), found, rtol=0, atol=1e-12 if dtype is np.float64 else 1e-4)


@pytest.mark.parametrize(("units", "outputs", "d"), SHAPES)
def test_the_objective_and_its_gradient_are_the_plain_ones(kernel: Any, units: int, outputs: int, d: int) -> None:
    theta, x, r, w = problem(units, outputs, d)
    value, found = evaluated(kernel, theta, x, r, w, x.shape[1], units, 0.03, False)
    plain, gradient = reference.objective(theta, x.T, r.T, w, units, 0.03)
    assert value == pytest.approx(plain, rel=1e-13)
    np.testing.assert_allclose(found, gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("units", "outputs", "d"), SHAPES)
def test_projection_solves_the_outputs_and_leaves_them_no_gradient(
    kernel: Any, units: int, outputs: int, d: int
) -> None:
    theta, x, r, w = problem(units, outputs, d)
    expected = reference.project_outputs(theta, x.T, r.T, w, units, 0.03)
    value, found = evaluated(kernel, theta, x, r, w, x.shape[1], units, 0.03, True)
    np.testing.assert_allclose(theta, expected, rtol=1e-8, atol=1e-9)
    plain, gradient = reference.objective(expected, x.T, r.T, w, units, 0.03)
    assert value == pytest.approx(plain, rel=1e-11)
    np.testing.assert_allclose(found, gradient[: units * (d + 1)], rtol=1e-8, atol=1e-10)
    assert np.abs(gradient[units * (d + 1) :]).max() < 1e-9


def test_the_projected_gradient_is_that_of_the_reduced_objective() -> None:
    """Taylor remainder of slope 2 in the hidden weights alone, the outputs solved anew at every point."""
    theta, x, r, w = problem(3, 2, 5)
    value, gradient = evaluated(kernels, theta, x, r, w, x.shape[1], 3, 0.01, True)
    direction = np.random.default_rng(0).normal(size=18)
    remainders = []
    for h in (1e-2, 1e-3, 1e-4):
        moved = theta.copy()
        moved[:18] += h * direction
        there, _ = evaluated(kernels, moved, x, r, w, x.shape[1], 3, 0.01, True)
        remainders.append(abs(there - value - h * gradient @ direction))
    slopes = np.diff(np.log10(remainders))
    np.testing.assert_allclose(slopes, -2.0, atol=0.1)


@pytest.mark.parametrize("rows", [1, 511, 512, 513, 1100])
def test_blocks_of_rows_join_without_a_seam(rows: int) -> None:
    theta, x, r, w = problem(2, 2, 6, rows)
    value, found = evaluated(kernels, theta, x, r, w, rows, 2, 0.0, False)
    plain, gradient = reference.objective(theta, x.T, r.T, w, 2, 0.0)
    assert value == pytest.approx(plain, rel=1e-12)
    np.testing.assert_allclose(found, gradient, rtol=1e-9, atol=1e-12)
    solved, gradient = evaluated(kernels, theta.copy(), x, r, w, rows, 2, 0.1, True)
    kept = reference.project_outputs(theta, x.T, r.T, w, 2, 0.1)
    plain, expected = reference.objective(kept, x.T, r.T, w, 2, 0.1)
    assert solved == pytest.approx(plain, rel=1e-9)
    np.testing.assert_allclose(gradient, expected[: gradient.size], rtol=1e-7, atol=1e-11)
    W, b, C, c = reference.unpack_parameters(theta, 6, 2, 2)
    plain_outputs = (expit(x.T @ W.T + b) @ C + c).T
    outputs = kernels.combine(kernels.unit_activations(W, b, x), C, c)
    np.testing.assert_allclose(outputs, plain_outputs, rtol=1e-12, atol=1e-13)


def minimised(kernel: Any, theta: Any, x: Any, r: Any, w: Any, units: int, project: bool, iterations: int) -> Any:
    found = theta.copy()
    scratch = kernel.buffers(x.shape[0], x.shape[1], units, r.shape[0], 10)
    went = kernel.minimise(found, x, r, w, x.shape[1], units, 1e-3, project, iterations, 0.0, 1.0, *scratch)
    return found, *went


@pytest.mark.parametrize("project", [False, True])
def test_lbfgs_ends_at_a_stationary_point_as_low_as_scipys(project: bool) -> None:
    theta, x, r, w = problem(2, 1, 3, 200)
    found, value, _, _ = minimised(kernels, theta, x, r, w, 2, project, 2000)
    plain, gradient = reference.objective(found, x.T, r.T, w, 2, 1e-3)
    assert value == pytest.approx(plain, rel=1e-12)
    assert np.abs(gradient).max() < 1e-6
    scipys = minimize(
        reference.objective, found, (x.T, r.T, w, 2, 1e-3), method="L-BFGS-B", jac=True, options={"maxiter": 500}
    )
    assert value <= scipys.fun + 1e-9


def test_lbfgs_interpreted_takes_the_same_path() -> None:
    theta, x, r, w = problem(2, 2, 3, 30)
    for project in (False, True):
        compiled = minimised(kernels, theta, x, r, w, 2, project, 6)
        plain = minimised(interpreted(), theta, x, r, w, 2, project, 6)
        np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-6, atol=1e-8)
        assert compiled[2:] == plain[2:]


def test_a_batch_of_descents_is_each_descent_alone() -> None:
    theta, x, r, w = problem(2, 1, 4, 100)
    starts = np.random.default_rng(1).normal(size=(5, theta.size))
    alone = [minimised(kernels, start, x, r, w, 2, True, 50) for start in starts]
    batch, values, counts = starts.copy(), np.empty(5), np.empty((5, 2), np.int64)
    kernels.minimise_batch(batch, values, counts, x, r, w, 100, 2, 1e-3, True, 50, 0.0, 1.0, 10)
    for index, (found, value, done, evaluations) in enumerate(alone):
        np.testing.assert_array_equal(batch[index], found)
        assert (values[index], *counts[index]) == (value, done, evaluations)


def test_screening_gives_the_projected_objective(kernel: Any) -> None:
    theta, x, r, w = problem(2, 1, 4)
    starts, values = np.stack([theta, 2.0 * theta]), np.empty(2)
    kernel.screen(starts, values, x, r, w, x.shape[1], 2, 0.01, kernel.buffers(4, x.shape[1], 2, 1, 5))
    expected = []
    for start in (theta, 2.0 * theta):
        solved = reference.project_outputs(start, x.T, r.T, w, 2, 0.01)
        expected.append(reference.objective(solved, x.T, r.T, w, 2, 0.01)[0])
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_two_equal_units_still_have_a_projected_solution() -> None:
    theta, x, r, w = problem(2, 1, 3)
    theta[3:6], theta[7] = theta[:3], theta[6]
    assert np.isfinite(evaluated(kernels, theta, x, r, w, x.shape[1], 2, 0.0, True)[0])
    assert np.isfinite(theta).all()


def test_the_kernels_modify_no_data() -> None:
    theta, x, r, w = problem(2, 1, 3)
    kept: list[Any] = [a.copy() for a in (x, r, w)]
    check: Callable[..., None] = np.testing.assert_array_equal
    minimised(kernels, theta, x, r, w, 2, True, 20)
    for before, after in zip(kept, (x, r, w), strict=True):
        check(before, after)


def test_rows_in_blocks_from_anywhere_are_those_rows() -> None:
    theta, x, r, w = problem(2, 2, 5, 3 * passes.BLOCK)
    places = np.array([passes.BLOCK + 48, 16])
    rows = 2 * passes.BLOCK - 7
    kept = (places[:, None] + np.arange(passes.BLOCK)).ravel()[:rows]
    found, alone = theta.copy(), theta.copy()
    scratch = (places, *kernels.buffers(5, rows, 2, 2, 5)[1:])
    went = kernels.minimise(found, x, r, w, rows, 2, 1e-3, True, 20, 0.0, 0.0, *scratch)
    some = [np.ascontiguousarray(array[..., kept]) for array in (x, r, w)]
    expected = kernels.minimise(alone, *some, rows, 2, 1e-3, True, 20, 0.0, 0.0, *kernels.buffers(5, rows, 2, 2, 5))
    assert went == expected
    np.testing.assert_array_equal(found, alone)


def test_blocks_are_drawn_without_repeats_and_from_all_rows(kernel: Any) -> None:
    rows, seen = 5 * passes.BLOCK + 100, np.zeros(5 * passes.BLOCK + 100)
    for stage in range(60):
        places = np.empty(5, np.int64)
        with np.errstate(over="ignore"):  # interpreted, words that wrap round are told
            kernel.draw_blocks(Draws(3, stage).state(), rows, places)
        covered = (places[:, None] + np.arange(passes.BLOCK)).ravel() % rows
        assert np.unique(covered).size == covered.size
        seen[covered[: 2 * passes.BLOCK]] += 1
    share = 2 * passes.BLOCK / rows
    assert abs(seen / 60 - share).max() < 5 * np.sqrt(share / 60)


def test_candidates_have_random_directions_and_pass_through_rows(kernel: Any) -> None:
    x = np.random.default_rng(0).normal(size=(5, 40))
    starts = np.zeros((400, 2 * 6 + 3))
    with np.errstate(over="ignore"):
        kernel.draw_starts(Draws(0, 1).state(), x, 30, np.array([0]), 2, 1, 0.5, starts)
    assert np.abs(starts[0, :12]).max() <= 0.5
    W, b = starts[1:, :10].reshape(-1, 5), starts[1:, 10:12].ravel()
    steepness = np.linalg.norm(W, axis=1)
    assert 1.0 <= steepness.min() < 1.1 < 9.0 < steepness.max() <= 10.0
    through = np.abs(W @ x[:, :30] + b[:, None]).min(axis=1)
    assert through.max() < 1e-12
    cosines = (W / steepness[:, None]).T @ (W / steepness[:, None]) / len(W)
    np.testing.assert_allclose(cosines, np.eye(5) / 5, atol=0.05)


def test_moments_and_sums_along_are_the_plain_ones(kernel: Any) -> None:
    rng = np.random.default_rng(0)
    H, w, r = rng.random((3, 50)), rng.random(50), rng.normal(size=(3, 50))
    w /= w.sum()
    H[1] = 0.25
    mean, spread, along, square = np.empty((4, 3))
    kernel.sum_moments(H, w, mean, spread)
    np.testing.assert_allclose(mean, H @ w)
    np.testing.assert_allclose(spread, np.sqrt(np.square(H - mean[:, None]) @ w), atol=1e-12)
    explained = kernel.sum_along(r, H, w, along, square)
    np.testing.assert_allclose(along, (r * H) @ w)
    np.testing.assert_allclose(square, np.square(H) @ w)
    assert explained == pytest.approx((along**2 / square).sum())
