"""Verdicts that a few huge rows, float32 entries and extreme numbers cannot mislead; the better of two ends."""

import warnings

import numpy as np
import pytest
from scipy import sparse

from relaxon.solvers import (
    CellType,
    ConjugateDirectionsWith,
    PoissonGrid,
    Result,
    gallery,
    norms,
    prepare,
    solve,
    solve_many,
)
from relaxon.solvers.sparse import MATRIX_SOLVERS, MatrixSystem
from relaxon.solvers.sparse.system.row_sums import is_rounded_to_single

N = 12
LENGTH = np.broadcast_to((1 + 2 * np.arange(N) / (N - 1))[:, None, None], (N, N, N)).ravel()
"""From 1 to 3 along the first axis: the solution between two sides with these values."""
ENDS = np.flatnonzero((LENGTH == 1) | (LENGTH == 3))
BETTER_THAN = 1e-4


def closed_box():
    return PoissonGrid(np.zeros((N, N, N), np.uint8)).operator().to_csr()


def penalised(weight):
    """Dirichlet values by a penalty: the matrix, the right-hand side."""
    d, b = np.zeros(N**3), np.zeros(N**3)
    d[ENDS], b[ENDS] = weight, weight * LENGTH[ENDS]
    return sparse.csr_array(closed_box() + sparse.diags_array(d)), b


def backward_error(a, b, x):
    r = b - a @ x
    return float(np.max(np.abs(r) / (abs(a) @ np.abs(x) + np.abs(b))))


# --- a few huge rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", MATRIX_SOLVERS)
@pytest.mark.parametrize("weight", [1e6, 1e10, 1e30])
def test_a_penalty_does_not_hide_the_error_of_the_other_unknowns(weight, solver):
    a, b = penalised(weight)
    solution = solve(a, b, solver=solver)
    assert solution.converged, solution.message
    assert np.abs(solution.x - LENGTH).max() <= BETTER_THAN
    assert solution.info["eliminated"] == len(ENDS)
    assert len(solution.residuals) == solution.iterations + 1
    assert solution.backward_error == pytest.approx(backward_error(a, b, solution.x), rel=1e-3)


def test_unit_rows_beside_tiny_conductances_do_not_hide_the_error():
    tiny = 1e-14 * closed_box()
    unit, b = np.zeros(N**3), np.zeros(N**3)
    unit[ENDS], b[ENDS] = 1.0, LENGTH[ENDS]
    with_columns = sparse.csr_array(tiny + sparse.diags_array(unit))
    inside = sparse.diags_array(1 - unit)
    without = sparse.csr_array(inside @ tiny @ inside + sparse.diags_array(unit))
    for a, side in ((with_columns, b), (without, b - (1 - unit) * (tiny @ b))):
        solution = solve(a, side)
        assert solution.converged
        assert np.abs(solution.x - LENGTH).max() <= BETTER_THAN


def scaled_residual(a, b, x):
    root = 1 / np.sqrt(a.diagonal())
    return np.linalg.norm(root * (b - a @ x)) / np.linalg.norm(root * b)


@pytest.mark.parametrize("solver", ["ic-cg", "cg", "jacobi-cg", "scipy-direct"])
def test_converged_holds_in_the_norm_scaled_by_the_diagonal_too(solver):
    """Blocks of 1 and 1e-8 that no diagonal decides: ‖b − A x‖ ≤ 1e-6 ‖b‖ leaves the second one's error at 1."""
    a = sparse.csr_array(closed_box() + sparse.eye_array(N**3))
    both = sparse.csr_array(sparse.block_diag([a, 1e-8 * a]))
    b = both @ np.concatenate([LENGTH, LENGTH])
    solution = solve(both, b, solver=solver)
    assert solution.converged
    assert scaled_residual(both, b, solution.x) <= 1e-6 * (1 + 1e-6)
    assert np.abs(solution.x - 1).max() <= 2 + 0.05
    cut = solve(both, b, solver=solver, rtol=1e-15, max_iterations=1)
    assert not cut.converged or cut.relative_residual <= 1e-15


def test_a_complex_right_hand_side_is_judged_in_the_same_way():
    a, b = penalised(1e10)
    solution = solve(a, (2 - 1j) * b)
    assert solution.converged
    assert np.abs(solution.x - (2 - 1j) * LENGTH).max() <= BETTER_THAN
    r = (2 - 1j) * b - a @ solution.x
    bound = np.max(np.abs(r) / (abs(a) @ np.abs(solution.x) + np.abs((2 - 1j) * b)))
    assert bound <= solution.backward_error * 1.001
    almost_real = solve(a, b + 1e-17j * b)
    assert almost_real.converged
    assert np.abs(almost_real.x - LENGTH).max() <= BETTER_THAN


def test_a_start_in_which_the_decided_unknowns_are_wrong_is_put_right():
    a, b = penalised(1e6)
    solution = solve(a, b, x0=np.full(N**3, 7.0))
    assert solution.converged
    assert np.abs(solution.x - LENGTH).max() <= BETTER_THAN


def test_a_residual_within_atol_suffices_alone():
    a, b = penalised(1e10)
    solution = solve(a, b, atol=1e12)
    assert solution.converged
    assert solution.iterations == 0


def test_a_diagonal_matrix_is_solved_in_each_row():
    d = 10.0 ** np.arange(-25, 25)
    solution = solve(sparse.csr_array(sparse.diags_array(d)), d * 3)
    assert solution.converged
    np.testing.assert_allclose(solution.x, 3.0, rtol=1e-12)


def test_rows_that_are_huge_from_both_sides_are_not_taken_for_decided():
    """`D A D` with entries over sixteen decades: its huge rows hang on tiny unknowns, which elimination would lose."""
    a = gallery.make("variable", 20, ndim=2).grid.operator().to_csr()
    d = sparse.diags_array(10.0 ** np.random.default_rng(0).uniform(-4, 4, a.shape[0]))
    scaled = sparse.csr_array(d @ a @ d)
    solution = solve(scaled, scaled @ np.ones(a.shape[0]), solver="scipy-direct", rtol=1e-10)
    assert solution.converged, solution.message
    assert solution.info.get("eliminated", 0) < a.shape[0] / 4


def test_a_callers_preconditioner_keeps_the_size_that_the_caller_knows():
    a, b = penalised(1e10)
    inverse, sizes = 1 / a.diagonal(), []

    def precondition(r):
        sizes.append(len(r))
        assert not r[ENDS].any()
        return inverse * r

    solution = solve(a, b, solver=ConjugateDirectionsWith(precondition))
    assert solution.converged
    assert np.abs(solution.x - LENGTH).max() <= BETTER_THAN
    assert set(sizes) == {N**3}


def test_progress_and_limits_hold_where_unknowns_are_eliminated():
    a, b = penalised(1e6)
    seen = []
    solution = solve(a, b, solver="cg", max_iterations=4, callback=lambda p: seen.append(p.iteration))
    assert solution.result is Result.MAX_ITERATIONS
    assert seen[-1] == solution.iterations == 4
    stopped = solve(a, b, solver="cg", callback=lambda p: p.iteration == 2)
    assert stopped.result is Result.CANCELLED
    assert stopped.iterations == 2


# --- κ over many orders, on grids -------------------------------------------------------------------------------------


def penalised_grid(weight):
    """A closed box between two layers of AIR; κ on the faces towards AIR is a penalty."""
    cells = np.zeros((N + 2, 5, 4), np.uint8)
    cells[0] = cells[-1] = CellType.AIR
    faces = [np.ones([n + (a == axis) for a, n in enumerate(cells.shape)]) for axis in range(3)]
    faces[0][1] = faces[0][-2] = weight
    b = np.zeros(cells.shape)
    b[1], b[-2] = weight * 1.0, weight * 3.0
    exact = np.zeros(cells.shape)
    exact[1:-1] = (1 + 2 * np.arange(N) / (N - 1))[:, None, None]
    return PoissonGrid(cells, coefficient=faces), b, exact


def unit_rows(stiffness, load):
    """Dirichlet values by rows of the identity whose columns are kept: a stiff matrix, a right-hand side."""
    free, b = np.ones(N**3), np.random.default_rng(0).standard_normal(N**3) * load
    free[ENDS], b[ENDS] = 0.0, LENGTH[ENDS]
    a = sparse.diags_array(stiffness * free) @ closed_box() + sparse.diags_array(1.0 - free)
    return sparse.csr_array(a), b


@pytest.mark.parametrize("solver", ["auto", "amg", "direct", "gmres", "ic-cg"])
@pytest.mark.parametrize("stiffness", [1e3, 1e6, 1e9])
def test_what_known_values_contribute_to_stiff_rows_does_not_loosen_the_tolerance(stiffness, solver):
    """The remaining system's right-hand side is up to 10⁷ times the whole one's, by whose norm the tolerance goes."""
    a, b = unit_rows(stiffness, 100.0)
    solution = solve(a, b, solver=solver)
    assert solution.converged, solution.message
    assert np.linalg.norm(b - a @ solution.x) <= 1e-6 * np.linalg.norm(b)


def test_an_answer_that_is_exact_but_for_rounding_says_so_where_no_answer_can_meet_the_tolerance():
    a, b = unit_rows(1e13, 0.0)
    solution = solve(a, b)
    assert solution.result is Result.STAGNATED
    assert "float64 can do no better: the backward error is" in solution.message
    assert np.abs(solution.x - LENGTH).max() <= 1e-11
    assert "float64" not in solve(a, b, max_iterations=1, solver="cg").message


@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "ic-cg", "jacobi-cg", "cg", "scipy-direct", "pyamg-sa", "amg"])
@pytest.mark.parametrize("weight", [1e6, 1e30])
def test_a_penalty_on_a_grid_does_not_hide_the_error(weight, solver):
    grid, b, exact = penalised_grid(weight)
    solution = solve(grid, b, solver=solver)
    assert solution.converged, solution.message
    assert np.abs(solution.x - exact).max() <= BETTER_THAN
    packed = solve(grid, grid.pack(b), solver=solver)
    np.testing.assert_allclose(grid.unpack(packed.x), solution.x, rtol=1e-7)  # PyAMG draws random numbers
    matrix = grid.operator().to_csr()
    assert solution.backward_error == pytest.approx(backward_error(matrix, grid.pack(b), packed.x), rel=1e-3, abs=1e-15)


def test_a_grids_preconditioner_of_the_callers_keeps_its_size_and_a_penalty_can_come_and_go():
    grid, b, exact = penalised_grid(1e8)
    inverse = 1 / grid.operator().to_csr().diagonal()
    solution = solve(grid, b, solver=ConjugateDirectionsWith(lambda r: inverse * r))
    assert solution.converged
    assert np.abs(solution.x - exact).max() <= BETTER_THAN
    plain = penalised_grid(1.0)[0]
    updated = prepare(plain, solver="mg-cg").update(grid)
    assert np.abs(updated.solve(b).x - exact).max() <= BETTER_THAN
    back = updated.update(plain).solve(penalised_grid(1.0)[1])
    np.testing.assert_allclose(back.x, solve(plain, penalised_grid(1.0)[1], solver="mg-cg").x)


def test_kappa_over_ten_orders_converges_in_the_scaled_norm():
    rng = np.random.default_rng(3)
    cells = np.zeros((16, 16), np.uint8)
    kappa = np.where(np.arange(16)[:, None] < 8, 1.0, 1e-10) * np.ones((16, 16))
    grid = PoissonGrid(cells, boundary="dirichlet", coefficient=kappa)
    matrix = grid.operator().to_csr()
    b = matrix @ rng.standard_normal(256)
    for solver in ("dcdm", "mg-cg", "cg", "ic-cg", "scipy-direct"):
        solution = solve(grid, grid.unpack(b), solver=solver)
        assert solution.converged, solution.message
        assert scaled_residual(matrix, b, grid.pack(solution.x)) <= 1e-6 * (1 + 1e-6), solver


# --- float32 entries --------------------------------------------------------------------------------------------------


def ring(n=3000, seed=0):
    """A connected ring with chords, weights in (0.1, 1): its Laplacian, rounded to float32."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.arange(n), rng.integers(n, size=n)])
    columns = np.concatenate([(np.arange(n) + 1) % n, rng.integers(n, size=n)])
    keep = rows != columns
    w = sparse.coo_array((rng.uniform(0.1, 1, keep.sum()), (rows[keep], columns[keep])), shape=(n, n)).tocsr()
    w = w + w.T
    return sparse.csr_array(sparse.diags_array(w.sum(axis=1)) - w).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [300, 3000])
def test_a_laplacian_rounded_to_float32_is_singular_in_either_dtype(n, dtype):
    a = ring(n).astype(dtype)
    assert MatrixSystem.of(a).null.dimension == 1
    with pytest.raises(ValueError, match="not in the range of the singular operator"):
        solve(a, np.ones(n))
    exact = np.random.default_rng(1).standard_normal(n)
    exact -= exact.mean()
    b = ring(n).astype(np.float64) @ exact
    for solver in ("auto", "ic-cg", "scipy-direct", "pyamg-sa"):
        solution = solve(a, b, solver=solver, rtol=1e-8)
        assert solution.converged, solution.message
        assert "float32" in solution.message
        assert abs(solution.x.mean()) < 1e-12
        assert np.abs(solution.x - exact).max() < 1e-4


def test_a_shift_that_float32_holds_is_not_taken_for_rounding():
    shifted = ring(300) + 1e-4 * sparse.eye_array(300, dtype=np.float32)
    assert MatrixSystem.of(sparse.csr_array(shifted)).null.dimension == 0
    large = sparse.diags_array([1000001.0, -500000.0, -500000.0], offsets=[0, 1, -1], shape=(40, 40)).tolil()
    large[0, -1] = large[-1, 0] = -500000.0
    assert MatrixSystem.of(sparse.csr_array(large)).null.dimension == 0


def test_numbers_rounded_to_float32_are_told_from_short_ones():
    rng = np.random.default_rng(0)
    assert is_rounded_to_single(rng.uniform(0.1, 1, 1000).astype(np.float32).astype(np.float64))
    assert not is_rounded_to_single(rng.uniform(0.1, 1, 1000))
    assert not is_rounded_to_single(rng.integers(-1000, 1000, 1000).astype(np.float64))
    assert not is_rounded_to_single(np.array([4.0, -1.0, 0.25, 1e30]))


# --- NaN outside the fluid --------------------------------------------------------------------------------------------


def holed():
    cells = np.zeros((9, 8), np.uint8)
    cells[2:4, 3:6] = CellType.SOLID
    cells[:, -1] = CellType.AIR
    return cells


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_nan_outside_the_fluid_is_ignored_in_b_and_x0_and_refused_inside(dtype):
    grid = PoissonGrid(holed(), boundary="dirichlet")
    b = np.where(grid.fluid, 1.0, 0.0).astype(dtype)
    expected = solve(grid, b, x0=b).x
    for strange in (np.nan, np.inf, 9.97e36):
        dirty = np.where(grid.fluid, b, strange).astype(dtype)
        np.testing.assert_array_equal(solve(grid, dirty, x0=dirty).x, expected)
    dirty[0, 0] = np.nan
    with pytest.raises(ValueError, match="^b must be finite, got 1 NaN or infinite of 72"):
        solve(grid, dirty)
    with pytest.raises(ValueError, match="^x0 must be finite, got 1 NaN"):
        solve(grid, b, x0=dirty)


def test_kappa_is_read_in_the_fluid_and_in_the_air_beside_it_alone():
    cells = holed()
    kappa = np.random.default_rng(0).uniform(0.5, 2, cells.shape)
    grid = PoissonGrid(cells, boundary="dirichlet", coefficient=kappa)
    b = np.ones(cells.shape)
    expected = solve(grid, b).x
    for strange in (np.nan, np.inf, -1.0, 0.0):
        dirty = np.where(cells == CellType.SOLID, strange, kappa)
        np.testing.assert_array_equal(solve(PoissonGrid(cells, boundary="dirichlet", coefficient=dirty), b).x, expected)
    for place in ((0, 0), (0, 7)):  # in the fluid, in the air beside it
        dirty = kappa.copy()
        dirty[place] = np.nan
        with pytest.raises(ValueError, match="^coefficient must be finite, got 1 NaN"):
            PoissonGrid(cells, coefficient=dirty)
    faces = [np.ones((10, 8)), np.ones((9, 9))]
    expected = solve(PoissonGrid(cells, boundary="dirichlet", coefficient=faces), b).x
    faces[0][3, 3:6] = faces[1][2:4, 4:6] = np.nan
    grid = PoissonGrid(cells, boundary="dirichlet", coefficient=faces)
    np.testing.assert_array_equal(solve(grid, b).x, expected)
    # Cells that read what was ignored are refused, not solved with some other κ.
    with pytest.raises(ValueError, match=r"^coefficient\[0\] must be finite"):
        PoissonGrid(np.zeros_like(cells), coefficient=grid.given_coefficient)


# --- extreme numbers --------------------------------------------------------------------------------------------------

EXPONENTS = (-665, -532, 498)
"""Of two: about 1e-200, 1e-160 and 1e150."""
GRID_SOLVERS = ("dcdm", "mg-cg", "ic-cg", "jacobi-cg", "cg", "scipy-direct", "pyamg-sa", "pyamg-rs", "scipy-cg", "amg")


@pytest.mark.parametrize("solver", GRID_SOLVERS)
def test_the_size_of_b_and_of_kappa_changes_no_bit_of_a_grids_solution(solver):
    problem = gallery.make("variable", 10)
    grid, b, kappa = problem.grid, np.round(problem.b * 2**10) / 2**10, problem.grid.coefficient
    expected = solve(grid, b, solver=solver)
    assert expected.converged
    for exponent in EXPONENTS:
        found = solve(grid, np.ldexp(b, exponent), solver=solver)
        assert found.converged
        # Brought to 1 the numbers differ from `b` by another power of two, which PyAMG's and SciPy's tests may see.
        np.testing.assert_allclose(
            np.ldexp(found.x, -exponent), expected.x, rtol=1e-6, atol=1e-7 * abs(expected.x).max()
        )
        assert found.relative_residual <= 1e-6
        np.testing.assert_allclose(
            np.ldexp(found.true_residual, -exponent), found.relative_residual * np.linalg.norm(b)
        )
    for exponent in (-900, 900):
        stiff = PoissonGrid(grid.cells, grid.spacing, grid.boundary, np.ldexp(kappa, exponent))
        found = solve(stiff, b, solver=solver)
        assert found.converged
        np.testing.assert_allclose(
            np.ldexp(found.x, exponent), expected.x, rtol=1e-6, atol=1e-7 * abs(expected.x).max()
        )


@pytest.mark.parametrize("solver", MATRIX_SOLVERS)
def test_the_size_of_b_and_of_a_matrix_changes_nothing(solver):
    a = gallery.make("variable", 12, ndim=2).grid.operator().to_csr()
    b = np.round(np.random.default_rng(0).standard_normal(a.shape[0]) * 2**10)
    expected = solve(a, b, solver=solver, rtol=1e-9)
    assert expected.converged
    close = {"rtol": 1e-6, "atol": 1e-7 * abs(expected.x).max()}
    for exponent in EXPONENTS:
        found = solve(a, np.ldexp(b, exponent), solver=solver, rtol=1e-9)
        assert found.converged
        np.testing.assert_allclose(np.ldexp(found.x, -exponent), expected.x, **close)
    for exponent in (-900, 900):
        other = sparse.csr_array((np.ldexp(a.data, exponent), a.indices, a.indptr), shape=a.shape)
        found = solve(other, b, solver=solver, rtol=1e-9)
        assert found.converged
        np.testing.assert_allclose(np.ldexp(found.x, exponent), expected.x, **close)
        found = solve(other, np.ldexp(b, exponent // 2), solver=solver, rtol=1e-9)
        np.testing.assert_allclose(np.ldexp(found.x, exponent - exponent // 2), expected.x, **close)


def test_a_solution_that_float64_cannot_hold_is_not_called_right():
    a = sparse.csr_array(sparse.diags_array(np.full(5, 1e300)))
    assert not solve(a, np.full(5, 1e-20)).converged  # 1e-320 has four digits
    assert solve(sparse.csr_array(sparse.diags_array(np.full(5, 1e-300))), np.full(5, 1e20)).result is Result.NON_FINITE


def test_a_start_an_imaginary_part_and_a_source_keep_their_sizes():
    grid = PoissonGrid(np.zeros((8, 8), np.uint8))
    b = np.eye(8) - np.eye(8)[::-1]
    plain = solve(grid, b)
    tiny = solve(grid, b * 2.0**-665, x0=plain.x * 2.0**-665)
    assert tiny.converged
    assert tiny.iterations == 0
    both = solve(grid, b * 2.0**-600 + 1j * b * 2.0**-665, rtol=1e-6)
    assert both.converged
    np.testing.assert_allclose(both.x.real * 2.0**600, plain.x, atol=1e-6)
    with pytest.raises(ValueError, match="net source"):
        solve(grid, np.full((8, 8), 2.0**-665))
    huge_start = solve(grid, b * 2.0**-1000, x0=np.full((8, 8), 1e300))
    assert huge_start.converged
    values = []
    solve(grid, b * 2.0**-665, solver="cg", callback=lambda p: values.append((p.residual, p.tolerance)))
    assert 0 < values[0][0] < 1e-190
    assert values[0][1] == pytest.approx(1e-6 * np.linalg.norm(b) * 2.0**-665)


@pytest.mark.parametrize(("size", "start"), [(2.0**-532, 1.0), (1.0, 1e200), (2.0**-1000, 1e300), (2.0**600, 0.0)])
def test_a_start_whose_residual_has_no_norm_in_float64_is_left_out(size, start):
    """As where a source dies away between two steps, or bursts for one."""
    rng = np.random.default_rng(0)
    grid = PoissonGrid(np.zeros((9, 8), np.uint8), boundary="dirichlet", coefficient=rng.uniform(0.5, 2, (9, 8)))
    b = rng.standard_normal(grid.shape)
    exact, matrix = solve(grid, b, rtol=1e-12).x, grid.operator().to_csr()
    given = [(grid, b, name) for name in ("dcdm", "mg-cg", "cg", "ic-cg", "pyamg-sa", "scipy-cg", "scipy-direct")]
    given += [(matrix, b.ravel() * part, name) for part in (1, 1 - 2j) for name in ("auto", *MATRIX_SOLVERS)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for system, side, solver in given:
            expected = exact.reshape(side.shape) * (side.flat[0] / b.flat[0])
            solution = solve(system, side * size, x0=np.full(side.shape, start), solver=solver)
            assert solution.converged, (solver, solution.message)
            np.testing.assert_allclose(solution.x / size, expected, atol=1e-4 * np.abs(expected).max())
            assert ("started from zero" in solution.message) == (start > 0) or size < 1e-200


def test_coefficients_beyond_single_precision_s_range_end_without_a_warning_and_are_not_said_to_be_solved():
    rng = np.random.default_rng(0)
    kappa = 10.0 ** rng.uniform(-20, 20, (24, 20))
    grid = PoissonGrid(np.zeros(kappa.shape, np.uint8), boundary="dirichlet", coefficient=kappa)
    b, matrix = rng.standard_normal(kappa.shape), grid.operator().to_csr()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for solver in ("dcdm", "mg-cg", "mg-rbgs-cg"):
            solution = solve(grid, b, solver=solver, max_iterations=25)
            assert solution.converged == (norms.scaled_residual(matrix, grid.pack(b), grid.pack(solution.x)) <= 1e-6)


def test_float32_entries_that_were_scaled_in_float64_are_said_to_be_nearly_singular():
    rng = np.random.default_rng(0)
    n = 300
    ends = np.stack([np.arange(n), (np.arange(n) + 1) % n])
    ends = np.concatenate([ends, rng.integers(0, n, (2, n))], axis=1)
    ends = ends[:, ends[0] != ends[1]]
    graph = sparse.coo_array((rng.uniform(0.1, 1, ends.shape[1]), tuple(ends)), shape=(n, n)).tocsr()
    graph = graph + graph.T
    laplacian = sparse.csr_array(sparse.diags_array(graph.sum(axis=1)) - graph)
    single = sparse.csr_array(laplacian.astype(np.float32).astype(np.float64) / 0.3)
    shifted = sparse.csr_array(laplacian + 1e-3 * sparse.eye_array(n))
    b = laplacian @ rng.standard_normal(n)
    for matrix, said in (
        (single, True),
        (laplacian, False),
        (shifted, False),
        (sparse.csr_array(laplacian / 3), False),
    ):
        for solver in ("auto", "cg"):
            assert ("nearly singular" in solve(matrix, b, solver=solver).message) == said


# --- the better of two ends -------------------------------------------------------------------------------------------


def wandering():
    """A matrix on which conjugate gradients' residual rises: many orders of eigenvalues, none of them decided alone."""
    rng = np.random.default_rng(5)
    q = np.linalg.qr(rng.standard_normal((80, 80)))[0]
    a = q @ np.diag(10.0 ** np.linspace(0, 9, 80)) @ q.T
    return sparse.csr_array((a + a.T) / 2), q @ (10.0 ** np.linspace(0, 3, 80))


def test_a_solve_that_is_cut_off_behind_a_rise_gives_back_the_step_before():
    a, b = wandering()
    full = solve(a, b, solver="cg", max_iterations=60, rtol=1e-12).residuals
    rise = int(np.flatnonzero(np.diff(full) > 0)[3]) + 1
    before = solve(a, b, solver="cg", max_iterations=rise - 1, rtol=1e-12)
    cut = solve(a, b, solver="cg", max_iterations=rise, rtol=1e-12)
    assert cut.result is Result.MAX_ITERATIONS
    assert cut.true_residual <= cut.residuals[-1]
    assert cut.true_residual <= min(cut.residuals[-2] * (1 + 1e-6), np.linalg.norm(b))
    assert "whose residual is less" in cut.message
    if before.true_residual < np.linalg.norm(b):
        np.testing.assert_allclose(cut.x, before.x, atol=1e-6 * np.abs(before.x).max())


@pytest.mark.parametrize("solver", ["cg", "jacobi-cg", "ic-cg", "dcdm", "mg-cg", "scipy-cg"])
def test_no_end_on_a_grid_is_worse_than_its_start_or_the_step_before(solver):
    rng = np.random.default_rng(2)
    cells = np.zeros((24, 20), np.uint8)
    kappa = 10.0 ** rng.uniform(-4, 4, cells.shape)
    grid = PoissonGrid(cells, boundary=["dirichlet", "neumann"], coefficient=kappa)
    b = rng.standard_normal(cells.shape)
    exact = solve(grid, b, solver="scipy-direct", rtol=1e-10).x
    start = exact * (1 + 1e-3 * rng.standard_normal(cells.shape))
    for limit in range(1, 12):
        for x0 in (None, start):
            solution = solve(grid, b, solver=solver, rtol=1e-12, max_iterations=limit, x0=x0)
            ends = [solution.residuals[0], *solution.residuals[-2:], np.linalg.norm(b)]
            assert solution.true_residual <= min(ends) * (1 + 1e-6), (limit, solution.message)


def test_a_start_that_is_better_than_the_end_is_given_back():
    a, b = wandering()
    start = np.linalg.solve(a.toarray(), b) * (1 + 1e-9)
    before = start.copy()
    for solution in (
        solve(a, b, solver="cg", max_iterations=2, rtol=1e-15, x0=start),
        *solve_many(a, [b, b], solver="cg", max_iterations=2, rtol=1e-15, x0=[start, start]),
    ):
        assert solution.true_residual <= solution.residuals[0] * (1 + 1e-6)
    np.testing.assert_array_equal(start, before)


# --- the same on a device of torch, and distributed


@pytest.mark.parametrize("exponent", [0, -665, -532, 498])
def test_a_solve_of_tensors_keeps_all_of_it(exponent):
    torch = pytest.importorskip("torch")
    from relaxon.solvers.torch import poisson_solve, solve_tensor

    grid = PoissonGrid(holed(), boundary="dirichlet")
    b = np.where(grid.fluid, 1.0, np.nan)
    expected = solve(grid, b, rtol=1e-10).x
    prepared = prepare(grid, device="cpu")
    side = torch.from_numpy(np.ldexp(b, exponent))
    solution = solve_tensor(prepared, side, x0=side)
    assert solution.converged
    np.testing.assert_allclose(np.ldexp(solution.x.numpy(), -exponent), expected, atol=1e-5 * expected.max())
    x = np.where(grid.fluid, solution.x.numpy(), 0.0)
    clean, matrix = np.ldexp(np.where(grid.fluid, 1.0, 0.0), exponent), grid.operator().to_csr()
    found = backward_error(matrix, grid.pack(clean), grid.pack(x))
    assert solution.backward_error == pytest.approx(found, rel=1e-3)
    through = poisson_solve(grid, torch.from_numpy(np.ldexp(np.where(grid.fluid, 1.0, 0.0), exponent)))
    np.testing.assert_allclose(np.ldexp(through.numpy(), -exponent), expected, atol=1e-5 * expected.max())
    huge = solve_tensor(prepared, side, x0=torch.full_like(side, 1e200))
    assert huge.converged
    assert exponent or "started from zero" in huge.message
    wrong = side.clone()
    wrong[0, 0] = np.nan
    with pytest.raises(ValueError, match="^b must have a finite norm"):
        solve_tensor(prepared, wrong)
    cut = solve_tensor(prepared, side, x0=torch.from_numpy(solution.x.numpy()), rtol=1e-12, max_iterations=1)
    assert cut.true_residual <= cut.residuals[0] * (1 + 1e-3)


@pytest.mark.parametrize("exponent", [0, -665, 498])
def test_a_distributed_grid_keeps_all_of_it(exponent):
    from relaxon.solvers.distributed import Decomposition, DistributedPoissonGrid

    cells = np.zeros((16, 16, 16), np.uint8)
    cells[4:8, 4:8, 4:8] = CellType.SOLID
    grid = PoissonGrid(cells, boundary="dirichlet")
    b = np.ldexp(np.where(grid.fluid, 1.0, np.nan), exponent)
    split = DistributedPoissonGrid(cells, Decomposition.of(cells.shape, 1), boundary="dirichlet")
    expected = solve(grid, b)
    for side in (b, b * (1 + 1j)):
        solution = split.solve(side, x0=side)
        assert solution.converged
        np.testing.assert_allclose(solution.x.real, expected.x, atol=1e-4 * np.abs(expected.x).max())
    plain = split.solve(b)
    assert plain.backward_error == pytest.approx(
        backward_error(grid.operator().to_csr(), grid.pack(np.where(grid.fluid, b, 0)), grid.pack(plain.x)),
        rel=1e-3,
    )
    b[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="^b must be finite, got 1 NaN"):
        split.solve(b)
