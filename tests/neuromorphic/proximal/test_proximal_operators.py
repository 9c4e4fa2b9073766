"""Forward operators: exact adjoints, norms, what each is to compute, and refusals."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

from relaxon.neuromorphic.proximal import (
    OPERATORS,
    BlurOperator,
    CompositeOperator,
    IdentityOperator,
    MaskOperator,
    PoissonMap,
    RadonOperator,
)
from relaxon.neuromorphic.proximal.classical import ClassicalMethods, build_differences
from relaxon.neuromorphic.proximal.forward.normal_equations import NormalEquations, build_dense_matrix
from relaxon.solvers import PoissonGrid

RNG = np.random.default_rng(0)
CELLS = np.zeros((6, 5), np.uint8)
CELLS[2, 2:4] = 1


def make_grid(boundary="dirichlet", coefficient=None):
    return PoissonGrid(CELLS, 0.2, boundary, coefficient)


def make_operators():
    kernel = np.arange(15.0).reshape(3, 5) - 4
    mask = RNG.random((6, 5)) < 0.5
    poisson = PoissonMap(make_grid(coefficient=1 + RNG.random((6, 5))))
    return {
        "identity": IdentityOperator((3, 4)),
        "mask": MaskOperator(mask),
        "blur": BlurOperator((6, 7), kernel),
        "blur periodic": BlurOperator((6, 7), kernel, boundary="periodic"),
        "blur line": BlurOperator((2, 7), [1.0, -2.0, 4.0]),
        "blur gaussian": BlurOperator.gaussian((6, 7), 0.8),
        "radon": RadonOperator((6, 5), [0.0, 30.0, 45.0, 90.0, 163.0]),
        "radon narrow": RadonOperator((6, 5), [0.0, 30.0], 3),
        "poisson": poisson,
        "poisson singular": PoissonMap(make_grid("neumann"), solver="dcdm"),
        "composite": CompositeOperator([poisson, MaskOperator(mask)]),
    }


MADE = make_operators()


@pytest.mark.parametrize("name", MADE)
def test_the_adjoint_is_the_transpose(name):
    operator = MADE[name]
    x, y = RNG.standard_normal(operator.input_shape), RNG.standard_normal(operator.output_shape)
    before = x.copy()
    forward, backward = operator.apply(x), operator.adjoint(y)
    assert forward.shape == operator.output_shape
    assert float((forward * y).sum()) == pytest.approx(float((x * backward).sum()), rel=1e-9, abs=1e-9)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", MADE)
def test_the_norm_is_the_largest_singular_value_or_a_little_more(name):
    operator = MADE[name]
    largest = np.linalg.svd(build_dense_matrix(operator), compute_uv=False)[0]
    assert largest <= operator.norm <= 1.01 * largest


@pytest.mark.parametrize("name", ["composite", "radon", "blur"])
def test_the_normal_equations_are_solved_by_factor_and_by_iteration(name, monkeypatch):
    operator = MADE[name]
    right = RNG.standard_normal(operator.input_shape)
    matrix = build_dense_matrix(operator)
    expected = np.linalg.solve(3.0 * matrix.T @ matrix + 0.5 * np.eye(right.size), right.ravel())
    found = NormalEquations(operator, 3.0, 0.5).solve(right, np.zeros_like(right))
    monkeypatch.setattr("relaxon.neuromorphic.proximal.forward.normal_equations.DENSE_SIDE", 0)
    slow = NormalEquations(operator, 3.0, 0.5).solve(right, np.zeros_like(right))
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(slow.ravel(), expected, rtol=1e-8, atol=1e-10)


def test_blurs_agree_with_sums_written_out():
    kernel, x = RNG.standard_normal((3, 3)), RNG.standard_normal((4, 5))
    padded, wrapped = np.pad(x, 1), np.pad(x, 1, mode="wrap")
    for boundary, source in (("zero", padded), ("periodic", wrapped)):
        expected = [[(kernel * source[i : i + 3, j : j + 3]).sum() for j in range(5)] for i in range(4)]
        np.testing.assert_allclose(BlurOperator((4, 5), kernel, boundary=boundary).apply(x), expected, atol=1e-12)


def test_projections_of_a_disc_are_its_chords_and_keep_its_mass():
    side, radius = 101, 40.0
    centre = np.arange(side) - (side - 1) / 2
    disc = (centre[:, None] ** 2 + centre[None, :] ** 2 <= radius**2).astype(float)
    operator = RadonOperator((side, side), [0.0, 20.0, 45.0, 90.0, 131.0])
    projections = operator.apply(disc)
    np.testing.assert_allclose(projections.sum(1), disc.sum(), rtol=1e-12)
    t = np.arange(operator.detectors) + 0.5 - operator.detectors / 2
    chords = 2 * np.sqrt(np.maximum(radius**2 - t**2, 0.0))
    inner = np.abs(t) < 0.9 * radius
    assert np.abs(projections - chords)[:, inner].max() < 2.5


def test_a_projection_at_0_and_90_degrees_sums_columns_and_rows():
    image = RNG.random((4, 6))
    found = RadonOperator((4, 6), [0.0, 90.0], 6).apply(image)
    np.testing.assert_allclose(found[0], image.sum(0), atol=1e-12)
    np.testing.assert_allclose(found[1], np.pad(image.sum(1), 1), atol=1e-9)


def test_the_poisson_map_is_the_solve():
    source = RNG.standard_normal(CELLS.shape)
    grid = make_grid()
    field = PoissonMap(grid).apply(source)
    np.testing.assert_allclose(grid.operator().to_scipy() @ grid.pack(field), grid.pack(source), atol=1e-9)
    assert (field[CELLS == 1] == 0).all()


def test_every_name_leads_to_its_class():
    from importlib import import_module

    for name, (module, kind) in OPERATORS.items():
        assert getattr(import_module(module), kind).name == name


def test_total_variation_of_a_step_shrinks_it_by_the_known_amount():
    # Denoising of a step with k cells at 0 and k at 1: the plateaus move towards each other by 1/(w k).
    k, weight = 5, 2.0
    step = np.repeat([0.0, 1.0], k)
    found = ClassicalMethods(IdentityOperator((2 * k,))).solve_total_variation(step, weight, tolerance=1e-9)
    assert found.converged
    np.testing.assert_allclose(found.x, np.repeat([1 / (weight * k), 1 - 1 / (weight * k)], k), atol=1e-7)


def test_total_variation_is_optimal_in_two_dimensions_alone_and_in_a_batch():
    operator = BlurOperator.gaussian((6, 5), 0.7)
    classical = ClassicalMethods(operator)
    b = RNG.standard_normal((3, 6, 5))
    weight, differences = 4.0, build_differences((6, 5))

    def objective(x, b):
        lengths = np.sqrt(((differences @ x.ravel()).reshape(2, -1) ** 2).sum(0))
        return 0.5 * weight * ((operator.apply(x) - b) ** 2).sum() + lengths.sum()

    for lower in (None, 0.0):
        together = classical.solve_total_variation(b, weight, lower=lower, tolerance=1e-9)
        assert together.converged
        alone = classical.solve_total_variation(b[1], weight, lower=lower, tolerance=1e-9).x
        np.testing.assert_allclose(together.x[1], alone, atol=1e-5)
        best = objective(alone, b[1])
        for step in 1e-2 * RNG.standard_normal((20, 6, 5)):
            moved = alone + step if lower is None else np.maximum(alone + step, lower)
            assert objective(moved, b[1]) >= best - 1e-8


def test_tikhonov_solves_its_normal_equations():
    operator = BlurOperator.gaussian((6, 5), 0.7)
    b, matrix, differences = RNG.standard_normal((6, 5)), build_dense_matrix(operator), build_differences((6, 5))
    for order, penalty in ((0, np.eye(30)), (1, (differences.T @ differences).toarray())):
        x = ClassicalMethods(operator).solve_tikhonov(b, 7.0, order).x
        np.testing.assert_allclose(
            (7.0 * matrix.T @ matrix + penalty) @ x.ravel(), 7.0 * matrix.T @ b.ravel(), atol=1e-10
        )


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: IdentityOperator(()), "shape must have at least one axis"),
        (lambda: IdentityOperator((3, 0)), "shape must be at least 1"),
        (lambda: MaskOperator([1, 0]), "observed must be boolean"),
        (lambda: MaskOperator(np.zeros((2, 2), bool)), "observed must have at least one True"),
        (lambda: BlurOperator((4,), [0.5, 0.5]), "kernel must have odd sides"),
        (lambda: BlurOperator((4,), [0.0]), "kernel must have an entry other than 0"),
        (lambda: BlurOperator((4,), [1.0], boundary="reflect"), "boundary must be 'zero' or 'periodic'"),
        (lambda: BlurOperator.gaussian((4, 4), -1.0), "width must be greater than 0"),
        (lambda: RadonOperator((4,), [0.0]), "shape must have 2 axes"),
        (lambda: RadonOperator((4, 4), []), "angles must have one axis with at least one entry"),
        (lambda: RadonOperator((4, 4), [np.nan]), "angles must be finite"),
        (lambda: RadonOperator((4, 4), [0.0], 0), "detectors must be at least 1"),
        (lambda: PoissonMap(CELLS), "grid must be a PoissonGrid"),
        (lambda: PoissonMap(make_grid(), solver="none"), "solver must be one of"),
        (lambda: CompositeOperator([]), "operators must have at least one"),
        (
            lambda: CompositeOperator([IdentityOperator((3,)), IdentityOperator((4,))]),
            r"operators\[1\] must have the input shape",
        ),
        (lambda: IdentityOperator((3,)).apply([1.0, 2.0]), r"x must have shape \(3,\), got \(2,\)"),
        (lambda: IdentityOperator((2,)).adjoint([1.0, np.nan]), "y must be finite"),
        (lambda: ClassicalMethods(IdentityOperator((3000,))), "operator must take signals of at most"),
        (lambda: ClassicalMethods(IdentityOperator((3,))).solve_tikhonov(np.zeros(3), 0.0), "data_weight must be gr"),
        (lambda: ClassicalMethods(IdentityOperator((3,))).solve_tikhonov(np.zeros(2), 1.0), "observation must have"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises((TypeError, ValueError), match=said):
        call()
