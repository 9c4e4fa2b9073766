"""Systems of equations: what is said of a matrix's unknowns, and the multigrid that makes use of it."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from scipy import sparse

from relaxon.solvers import PoissonGrid, Result, SingularSystemError, gallery, prepare, solve, solve_many
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.choice.automatic import Successors
from relaxon.solvers.sparse.choice.costs import load_costs
from relaxon.solvers.sparse.choice.estimates import Estimates
from relaxon.solvers.sparse.families.bodies import box
from relaxon.solvers.sparse.nodal import hierarchy
from relaxon.solvers.sparse.nodal.cycle import BlockCycle
from relaxon.solvers.sparse.nodal.hierarchy import BlockHierarchy, build_finest, coarsen
from relaxon.solvers.sparse.system.near_null import recognise_block_size, rigid_motions
from relaxon.solvers.sparse.system.properties import MatrixProperties

POINTS = np.stack(np.meshgrid(np.arange(4.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)
IDENTITY = sparse.csr_array(sparse.eye_array(24))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"near_null": np.ones((23, 2))}, ValueError, "near_null must have shape (24, k) or (24,), got (23, 2)"),
        ({"near_null": np.ones((24, 0))}, ValueError, "near_null must have 1 to 16 columns, got 0"),
        ({"near_null": np.eye(24)[:, :17]}, ValueError, "near_null must have 1 to 16 columns, got 17"),
        ({"near_null": np.full(24, np.nan)}, ValueError, "near_null must be finite"),
        ({"near_null": np.ones(24, complex)}, TypeError, "near_null must be an array of float32"),
        ({"near_null": np.ma.masked_less(np.arange(24.0), 2)}, ValueError, "near_null must have no masked entries"),
        ({"near_null": np.eye(24)[:, :2] * [1, 0]}, ValueError, "near_null must have no column of zeros, got one in "),
        ({"near_null": np.outer(np.arange(24.0), [1, 2])}, ValueError, "near_null must have linearly independent col"),
        ({"near_null": sparse.eye_array(24)}, TypeError, "near_null must be a dense array"),
        ({"coordinates": POINTS[:-1]}, ValueError, "coordinates must have shape (12, 2) or (8, 3) for 24 unknowns"),
        ({"coordinates": np.zeros((12, 2))}, ValueError, "coordinates must differ from one another"),
        ({"coordinates": np.full((12, 2), np.inf)}, ValueError, "coordinates must be finite"),
        (
            {"coordinates": POINTS, "block_size": 3},
            ValueError,
            "block_size must be 2 with coordinates of shape (12, 2)",
        ),
        ({"coordinates": POINTS, "near_null": np.ones(24)}, ValueError, "near_null must be None where coordinates are"),
        ({"block_size": 5}, ValueError, "block_size must divide the number of unknowns, 24, got 5"),
        ({"block_size": 2.0}, TypeError, "block_size must be an integer, got float"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1, got 0"),
        ({"symmetric": 1}, TypeError, "symmetric must be a bool or None, got int"),
        ({"M": 3.0}, TypeError, "M must be a callable, a LinearOperator or a sparse matrix, got float"),
        ({"M": IDENTITY[:3, :3]}, ValueError, "M must have shape (24, 24), got (3, 3)"),
    ],
)
def test_what_is_said_of_a_matrix_is_refused_by_name_where_it_does_not_fit(given, error, message):
    solve_one = partial(solve, b=np.ones(24))
    solve_several = partial(solve_many, b=[np.ones(24)])
    for call in (prepare, solve_one, solve_several):
        with pytest.raises(error, match=re.escape(message)):
            call(IDENTITY, **given)


@pytest.mark.parametrize("name", ["near_null", "coordinates", "block_size", "symmetric", "M"])
def test_a_grid_takes_nothing_that_goes_with_a_matrix(name):
    grid = PoissonGrid(np.zeros((3, 4), np.uint8))
    for call in (prepare, partial(solve, b=np.ones((3, 4)))):
        with pytest.raises(ValueError, match=f"{name} must be None with a grid"):
            call(grid, **{name: POINTS})


def test_what_is_said_is_copied_and_its_size_does_not_matter():
    vectors = np.random.default_rng(0).standard_normal((24, 2)).astype(np.float32)
    kept = vectors.copy()
    found = MatrixProperties(near_null=vectors * np.float32(1e30)).validate(24).near_null
    assert found.dtype == np.float64
    found[...] = 0.0
    assert np.array_equal(vectors, kept)
    huge = MatrixProperties(near_null=vectors.astype(np.float64) * 1e300).validate(24).near_null
    assert np.isfinite(np.square(huge).sum())


@pytest.mark.parametrize("ndim", [2, 3])
def test_rigid_motions_strain_nothing(ndim):
    points = 1e3 + np.random.default_rng(ndim).random((9, ndim)) * np.arange(1, ndim + 1)
    motions = rigid_motions(points).reshape(9, ndim, -1)
    assert motions.shape[-1] == {2: 3, 3: 6}[ndim]
    apart = points[:, None] - points[None]
    # Of two points the relative motion is at right angles to the line between them.
    along = np.einsum("ija,ijak->ijk", apart, motions[:, None] - motions[None])
    assert np.abs(along).max() < 1e-10
    assert np.linalg.matrix_rank(motions.reshape(9 * ndim, -1)) == motions.shape[-1]


def body_system(name, n):
    body = gallery.elastic_body(name, n)
    return MatrixSystem.of(body.matrix, MatrixProperties(coordinates=body.coordinates))


def dense(blocks, columns):
    """A matrix of blocks, dense."""
    out = np.zeros((blocks.rows * blocks.height, columns * blocks.width))
    for i in range(blocks.rows):
        for k in range(blocks.first[i], blocks.last[i]):
            row, column = i * blocks.height, int(blocks.columns[k]) * blocks.width
            out[row : row + blocks.height, column : column + blocks.width] += blocks.values[k].T
    return out


def in_range(a, seed=1):
    return a @ np.random.default_rng(seed).standard_normal(a.shape[0])


@pytest.mark.parametrize("name", gallery.elastic_body_names())
def test_a_body_is_symmetric_canonical_semidefinite_and_strained_by_no_rigid_motion_inside(name):
    body, again = gallery.elastic_body(name, 300, seed=3), gallery.elastic_body(name, 300, seed=3)
    a = body.matrix
    assert a.dtype == np.float64
    assert a.indices.dtype == np.int32
    assert a.has_canonical_format
    assert (a != again.matrix).nnz == 0
    assert body.coordinates.size == a.shape[0]
    full = a.toarray()
    np.testing.assert_allclose(full, full.T, atol=1e-12 * abs(full).max())
    assert np.linalg.eigvalsh(full)[0] > (1e-10 if "floating" not in name else -1e-12) * abs(full).max()
    first = np.repeat(body.coordinates[:, 0], body.coordinates.shape[1])
    inside = first > first.min() + 1.5  # not beside the clamped side
    strained = np.abs(a @ rigid_motions(body.coordinates))
    assert strained[inside].max() < 1e-12 * abs(full).max()


def test_the_gallery_of_bodies_names_what_it_refuses():
    with pytest.raises(ValueError, match="^name must be one of .* did you mean 'beam-2d'"):
        gallery.elastic_body("beam-2", 100)
    with pytest.raises(ValueError, match="^n must be at least 64, got 63"):
        gallery.elastic_body("beam-2d", 63)


@pytest.mark.parametrize(
    ("name", "most"),
    [(name, 16) for name in ("cantilever-2d", "cantilever-3d", "floating-2d", "floating-3d", "beam-3d")]
    + [
        ("inclusions-3d", 24),
        ("incompressible-3d", 22),
        ("tetrahedra-3d", 22),
        ("triangles-2d", 18),
        ("flat-2d", 22),
        ("flat-3d", 22),
    ],
)
def test_bodies_converge_in_few_iterations_to_the_true_residual(name, most):
    body = gallery.elastic_body(name, 3_000)
    b = in_range(body.matrix)
    solution = solve(body.matrix, b, coordinates=body.coordinates, solver="amg")
    assert solution.result is Result.CONVERGED, solution.message
    assert np.linalg.norm(b - body.matrix @ solution.x) <= 1e-6 * np.linalg.norm(b)
    assert solution.iterations <= most
    assert solution.fallbacks == 0


@pytest.mark.parametrize("name", ["cantilever-2d", "cantilever-3d"])
def test_iterations_hardly_grow_with_the_body(name):
    counts = []
    for n in (1_500, 30_000):
        body = gallery.elastic_body(name, n)
        counts.append(solve(body.matrix, in_range(body.matrix), coordinates=body.coordinates).iterations)
    assert counts[1] <= counts[0] + 3


@pytest.mark.parametrize("name", ["floating-2d", "floating-3d"])
def test_rigid_motions_are_in_the_range_of_every_prolongator(name):
    """Of a floating body: elsewhere smoothing bends them beside what holds it."""
    system = body_system(name, 2_500)
    level, vectors, place = build_finest(system, system.near_null)
    assert np.array_equal(place, np.arange(system.unknowns))
    levels = 0
    while level.unknowns > 60:
        wanted = vectors.reshape(level.unknowns, -1).copy()
        following, coarse = coarsen(level, vectors)
        found = dense(level.prolongator, following.matrix.rows) @ coarse.reshape(following.unknowns, -1)
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
        level, vectors = following, coarse
        levels += 1
    assert levels >= 2


def test_weak_couplings_are_left_out_so_that_rigid_motions_stay_in_the_range(monkeypatch):
    monkeypatch.setattr(hierarchy, "WIDE", 0.0)
    body = box((14, 14, 3), (1.0, 1.0, 0.1), clamped=False)
    system = MatrixSystem.of(body.matrix, MatrixProperties(coordinates=body.coordinates))
    level, vectors, _ = build_finest(system, system.near_null)
    given = vectors.reshape(level.unknowns, -1).copy()
    following, coarse = coarsen(level, vectors)
    monkeypatch.setattr(hierarchy, "WIDE", np.inf)
    other = build_finest(system, system.near_null)[0]
    coarsen(other, given.reshape(vectors.shape).copy())
    assert len(level.prolongator.columns) < 0.8 * len(other.prolongator.columns)
    p = dense(level.prolongator, following.matrix.rows)
    np.testing.assert_allclose(p @ coarse.reshape(following.unknowns, -1), given, atol=1e-4)


@pytest.mark.parametrize("name", ["cantilever-3d", "inclusions-2d", "beam-2d"])
def test_coarse_matrices_are_galerkin_products_and_the_cycle_is_symmetric_and_definite(name):
    system = body_system(name, 1_500)
    levels = BlockHierarchy.of(system)
    for above, below in zip(levels.levels, levels.levels[1:], strict=False):
        a, p = dense(above.matrix, above.matrix.rows), dense(above.prolongator, below.matrix.rows)
        product = p.T @ a @ p
        np.testing.assert_allclose(dense(below.matrix, below.matrix.rows), product, atol=1e-4 * abs(product).max())
    cycle = BlockCycle(levels)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, system.unknowns)).astype(np.float32)

    def applied(v):
        cycle.right[...] = v
        return cycle.apply().astype(np.float64)

    m_x, m_y = applied(x), applied(y)
    assert abs(y @ m_x - x @ m_y) < 1e-4 * np.linalg.norm(y) * np.linalg.norm(m_x)
    assert x @ m_x > 0


@pytest.mark.parametrize("name", ["floating-2d", "floating-3d"])
@pytest.mark.parametrize("solver", ["auto", "scipy-direct", "ic-cg"])
def test_a_floating_body_is_solved_and_its_solution_has_no_rigid_motion(name, solver):
    body = gallery.elastic_body(name, 1_200)
    a, motions = body.matrix, np.linalg.qr(rigid_motions(body.coordinates))[0]
    wanted = np.random.default_rng(0).standard_normal(a.shape[0])
    wanted -= motions @ (motions.T @ wanted)
    solution = solve(a, a @ wanted, coordinates=body.coordinates, solver=solver, rtol=1e-10)
    assert solution.result is Result.CONVERGED, solution.message
    np.testing.assert_allclose(solution.x, wanted, atol=1e-6)
    assert np.abs(motions.T @ solution.x).max() < 1e-10 * np.linalg.norm(wanted)


def test_a_load_that_a_floating_body_cannot_bear_is_refused_with_the_motion_that_it_causes():
    body = gallery.elastic_body("floating-3d", 1_200)
    a, motions = body.matrix, rigid_motions(body.coordinates)
    turning = in_range(a) + 0.5 * motions[:, 4]
    with pytest.raises(
        SingularSystemError, match="along the rotation in the plane of axes 0 and 2 it has a net source"
    ):
        solve(a, turning, coordinates=body.coordinates)
    reported = solve(a, turning, coordinates=body.coordinates, inconsistent="report")
    assert reported.result is Result.SINGULAR_INCONSISTENT
    projected = solve(a, turning, coordinates=body.coordinates, inconsistent="project")
    assert projected.result is Result.CONVERGED
    basis = np.linalg.qr(motions)[0]
    left = turning - basis @ (basis.T @ turning)
    assert np.linalg.norm(left - a @ projected.x) <= 1.1e-6 * np.linalg.norm(left)


def test_null_vectors_are_found_in_each_part_and_among_combinations_and_only_where_they_are_null():
    floating, held = gallery.elastic_body("floating-2d", 300), gallery.elastic_body("cantilever-2d", 300)
    points = np.concatenate([floating.coordinates, held.coordinates + 40.0])
    both = sparse.csr_array(sparse.block_diag([floating.matrix, held.matrix]))
    system = MatrixSystem.of(both, MatrixProperties(coordinates=points))
    assert [component.basis.shape for component in system.null_vectors] == [(floating.coordinates.size, 3)]
    # Held in one point it can turn about it: a combination of translations and the rotation.
    pinned = sparse.csr_array(floating.matrix[2:][:, 2:])
    turning = MatrixSystem.of(pinned, MatrixProperties(coordinates=floating.coordinates[1:])).null_vectors
    assert [component.basis.shape[1] for component in turning] == [1]
    assert np.abs(pinned @ turning[0].basis).max() < 1e-14
    # Springs at one node are no rounding: the body can still turn about it, and no more.
    at_first = np.where(np.arange(floating.matrix.shape[0]) < 2, 1.0, 0.0)
    for stiffness in (1e-9, 1e-12):
        spring = sparse.csr_array(floating.matrix + sparse.diags_array(stiffness * at_first))
        soft = MatrixSystem.of(spring, MatrixProperties(coordinates=floating.coordinates)).null_vectors
        assert [component.basis.shape[1] for component in soft] == [1]


def test_unknowns_held_by_rows_of_their_own_leave_nodes_incomplete_and_the_rest_is_solved():
    body = gallery.elastic_body("floating-2d", 2_000)
    n = body.matrix.shape[0]
    rollers = np.arange(n) < 60
    rollers[1:60:2] = False  # the first components of some nodes
    rollers[1] = True
    rows = sparse.diags_array(np.where(rollers, 0.0, 1.0))
    a = sparse.csr_array(rows @ body.matrix @ rows + sparse.diags_array(np.where(rollers, 1.0, 0.0)))
    b = np.random.default_rng(0).standard_normal(n)
    solution = solve(a, b, coordinates=body.coordinates)
    assert solution.result is Result.CONVERGED
    assert solution.info["eliminated"] == rollers.sum()
    assert solution.iterations < 20
    assert np.linalg.norm(b - a @ solution.x) <= 1.01e-6 * np.linalg.norm(b)


def test_bits_do_not_depend_on_the_number_of_threads():
    answers = []
    for name in ("cantilever-2d", "floating-3d"):
        body = gallery.elastic_body(name, 30_000)
        b = in_range(body.matrix)
        for count in (1, 2, 4):
            with num_threads(count):
                answers.append(solve(body.matrix, b, coordinates=body.coordinates, rtol=1e-4).x)
        first, *others = answers[-3:]
        assert all(np.array_equal(first, other) for other in others)


def test_nodes_numbered_at_random_converge_as_quickly():
    body = gallery.elastic_body("cantilever-2d", 30_000)
    nodes = np.random.default_rng(0).permutation(len(body.coordinates))
    order = (2 * nodes[:, None] + np.arange(2)).ravel()
    a = sparse.csr_array(body.matrix[order][:, order])
    b = in_range(body.matrix)
    plain = solve(body.matrix, b, coordinates=body.coordinates)
    mixed = solve(a, b[order], coordinates=body.coordinates[nodes])
    assert mixed.result is Result.CONVERGED
    assert mixed.iterations <= plain.iterations + 4


def test_near_null_vectors_of_any_number_and_size_give_the_answer_of_a_factor():
    from scipy.sparse.linalg import spsolve

    body = gallery.elastic_body("cantilever-2d", 1_000)
    a = body.matrix
    b = in_range(a)
    wanted = spsolve(a.tocsc(), b)
    motions = rigid_motions(body.coordinates).astype(np.float32) * np.array([1e-20, 1.0, 1e15], np.float32)
    for said in ({"near_null": motions}, {"near_null": np.ones(len(b)), "block_size": 1}, {"block_size": 2}):
        solution = solve(a, b, rtol=1e-10, **said)
        assert solution.result is Result.CONVERGED, said
        np.testing.assert_allclose(solution.x, wanted, atol=1e-6 * np.abs(wanted).max())
        assert "near-null vector" in solution.message


def test_several_right_hand_sides_share_the_set_up_and_float32_is_taken():
    body = gallery.elastic_body("cantilever-3d", 1_500)
    sides = np.random.default_rng(0).standard_normal((3, body.matrix.shape[0]))
    solutions = solve_many(body.matrix, sides, coordinates=body.coordinates)
    assert {solution.setup_seconds for solution in solutions} == {solutions[0].setup_seconds}
    alone = solve(body.matrix, sides[2], coordinates=body.coordinates)
    assert np.array_equal(solutions[2].x, alone.x)
    single = solve(body.matrix.astype(np.float32), sides[0].astype(np.float32), coordinates=body.coordinates)
    assert single.result is Result.CONVERGED
    floating = gallery.elastic_body("floating-3d", 1_500)
    b = in_range(floating.matrix).astype(np.float32)
    found = solve(floating.matrix.astype(np.float32), b, coordinates=floating.coordinates, rtol=1e-5)
    assert found.result is Result.CONVERGED, found.message


def squares(n: int) -> sparse.csr_array:
    """A free plate of bilinear squares of one material, in many of whose blocks entries cancel."""

    def chain(*entries: float) -> sparse.coo_array:
        places = np.add.outer([[0, 0], [1, 1]], np.arange(n)), np.add.outer([[0, 1], [0, 1]], np.arange(n))
        values = np.repeat(entries, n).astype(float)
        return sparse.coo_array((values, tuple(place.ravel() for place in places)), shape=(n + 1, n + 1))

    stiff, mass, half = chain(1, -1, -1, 1), chain(2, 1, 1, 2) / 6, chain(-1, -1, 1, 1) / 2
    xx, yy, xy = (sparse.kron(a, b) for a, b in ((stiff, mass), (mass, stiff), (half, half.T)))
    mixed = 1.5 * xy + xy.T
    blocks = {(0, 0): 3.5 * xx + yy, (0, 1): mixed, (1, 0): mixed.T, (1, 1): xx + 3.5 * yy}
    total = sum(sparse.kron(part, np.eye(2)[:, [i]] @ np.eye(2)[[j]]) for (i, j), part in blocks.items())
    plate = sparse.csr_array(total)
    plate.data[np.abs(plate.data) < 1e-13] = 0.0
    plate.eliminate_zeros()
    return plate


def test_nodes_are_recognised_by_the_pattern_and_follow_where_multigrid_is_slow():
    sizes = {name: recognise_block_size(gallery.matrix(name, 1_000)) for name in gallery.matrix_names()}
    assert {name for name, size in sizes.items() if size > 1} == {"elasticity-2d", "elasticity-3d"}
    assert all(
        recognise_block_size(gallery.elastic_body(name, 1_000).matrix) == int(name[-2])
        for name in gallery.elastic_body_names()
    )
    band = sparse.diags_array([np.ones(600 - abs(k)) for k in range(-9, 10)], offsets=range(-9, 10)).tocsr()
    assert recognise_block_size(sparse.csr_array(band)) == 1
    plate = squares(40)
    assert recognise_block_size(plate) == 2
    following = Successors(Estimates.of(MatrixSystem.of(plate + sparse.eye_array(plate.shape[0])), load_costs()))
    following.tried |= {"amg", "ic-cg", "jacobi-cg", "direct", "scipy-direct"}
    chosen = following.cheapest(1e9)
    assert chosen.solver == "amg in blocks of 2"
    assert following.set_up(chosen, 1e9).system.near_null.block_size == 2


def test_a_factor_takes_over_from_rigid_motions_that_converge_slowly():
    plate = squares(50)
    inclusions = np.repeat(np.where(np.random.default_rng(0).random(plate.shape[0] // 2) < 0.3, 1e3, 1.0), 2)
    points = np.stack(np.divmod(np.arange(51 * 51), 51), axis=1).astype(float)
    a = sparse.csr_array(sparse.diags_array(inclusions) @ plate @ sparse.diags_array(inclusions))
    a = sparse.csr_array(a + 1e-4 * sparse.diags_array(a.diagonal()))
    solution = solve(a, np.random.default_rng(1).standard_normal(a.shape[0]), coordinates=points)
    assert "2 unknowns; not done after 10 iterations" in solution.message
    assert "direct went on" in solution.message
    assert solution.converged


def test_elements_with_several_values_at_a_point_are_no_nodes():
    """Symmetric interior penalty on bilinear elements, with four unknowns a cell."""
    n = 40
    faces = np.where(np.arange(2 * n - 1) % 2, -10.0, -1.0)
    line = sparse.diags_array([faces, faces], offsets=[-1, 1]).toarray()
    line -= np.diag(line.sum(axis=1) - 1e-3)
    mass = sparse.kron(sparse.eye_array(n), np.array([[2.0, 1.0], [1.0, 2.0]]) / 6)
    a = sparse.csr_array(sparse.kron(line, mass) + sparse.kron(mass, line))
    assert recognise_block_size(a) == 1


@pytest.mark.parametrize(("name", "strict"), [("flat-2d", True), ("flat-3d", True), ("cantilever-2d", False)])
def test_flat_elements_are_aggregated_along_their_strongest_couplings(name, strict):
    body = gallery.elastic_body(name, 5_000)
    system = MatrixSystem.of(body.matrix, MatrixProperties(coordinates=body.coordinates))
    first = BlockHierarchy.of(system).levels[0]
    assert (first.couplings.square == hierarchy.STRICT) == strict
    level, vectors, _ = build_finest(system, system.near_null)
    group, _ = hierarchy.aggregate(level)
    chosen, count, basis, _ = hierarchy.choose_aggregates(level, vectors)
    assert np.array_equal(group, chosen) != strict
    # On every aggregate the vectors are orthonormal, or zero where they depend on those before.
    products = np.zeros((count, basis.shape[1], basis.shape[1]))
    held = chosen >= 0
    np.add.at(products, chosen[held], np.einsum("nkc,nqc->nkq", basis[held], basis[held]))
    diagonal = np.einsum("gkk->gk", products)
    assert (np.minimum(abs(diagonal - 1), abs(diagonal)) < 1e-5).all()
    assert abs(products - diagonal[:, :, None] * np.eye(diagonal.shape[1])).max() < 1e-5


def test_the_last_level_is_inverted_on_its_range_whether_it_is_regular_or_not():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((30, 30))
    for matrix in (np.eye(30) + root @ root.T / 30, root[:, :27] @ root[:, :27].T):
        scale = 1 / np.sqrt(matrix.diagonal())
        matrix = matrix * scale * scale[:, None]
        expected = np.linalg.pinv(matrix, rcond=hierarchy.LEAST, hermitian=True)
        np.testing.assert_allclose(hierarchy._invert_range(matrix), expected, atol=1e-9 * abs(expected).max())
