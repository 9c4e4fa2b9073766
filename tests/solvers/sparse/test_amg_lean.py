"""What multigrid keeps and reads: half of each symmetric level, the set-up's arrays only as long as they are needed."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from relaxon.solvers import gallery, prepare
from relaxon.solvers.kernels.compiled import kernel
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.amg import cycle_kernels
from relaxon.solvers.sparse.amg import hierarchy as module
from relaxon.solvers.sparse.amg import lower as lower_module
from relaxon.solvers.sparse.amg.cycle import LENGTHS, Cycle
from relaxon.solvers.sparse.amg.hierarchy import Hierarchy
from relaxon.solvers.sparse.amg.level_release import restore_levels
from relaxon.solvers.sparse.choice.features import _count_few, count_levels
from relaxon.solvers.sparse.system.inspection import find_components


def level_matrix(level):
    """A level's matrix, `(n, n)` CSR, from what its set-up has."""
    lengths = level.last.astype(int) - level.first
    rows = np.repeat(np.arange(level.rows), lengths)
    places = np.concatenate([np.arange(a, b) for a, b in zip(level.first, level.last, strict=True)])
    off = sparse.csr_array(
        (level.values[places].astype(float), (rows, level.columns[places])), shape=(level.rows, level.rows)
    )
    return sparse.csr_array(off + sparse.diags_array(level.surplus - off.sum(axis=1)))


def memory_of(thing, seen):
    """Bytes of the arrays that an object holds on to, each piece of memory once."""
    if isinstance(thing, np.ndarray):
        while isinstance(thing.base, np.ndarray):
            thing = thing.base
        found = 0 if id(thing) in seen else thing.nbytes
        seen.add(id(thing))
        return found
    if id(thing) in seen or isinstance(thing, type) or callable(thing):
        return 0
    seen.add(id(thing))
    if isinstance(thing, list | tuple):
        return sum(memory_of(one, seen) for one in thing)
    names = [*getattr(thing, "__dict__", {}), *(n for c in type(thing).__mro__ for n in getattr(c, "__slots__", ()))]
    return sum(memory_of(getattr(thing, name), seen) for name in names if hasattr(thing, name))


@pytest.fixture
def in_blocks(monkeypatch):
    """Levels are divided from 1,000 rows on."""
    monkeypatch.setattr(module, "DIVIDED", 1_000)
    monkeypatch.setattr(module, "BLOCK", 400)


@kernel()
def _product(table, x, y, b, parts):
    cycle_kernels.apply_matrix(0, table[0, cycle_kernels.BLOCKS], table[0], x, y)
    cycle_kernels.sum_products(0, table[0, cycle_kernels.BLOCKS], table[0], x, y, b, parts[0])
    cycle_kernels.sum_energy(0, table[0, cycle_kernels.BLOCKS], table[0], x, b, y, parts[1])


def test_a_cycle_leaves_weak_couplings_to_the_aggregates_where_most_are_weak():
    """What is left out are weak couplings alone, row sums stay, and the cycle is still symmetric and definite."""
    hierarchy = Hierarchy.of(MatrixSystem.of(gallery.matrix("stretched-3d", 3_000)))
    level = hierarchy.levels[0]
    a, n, lower = level_matrix(level), level.rows, level.lower
    half = sparse.csr_array((lower.values, lower.columns.astype(int), lower.starts.astype(int)), shape=(n, n))
    rows = np.repeat(lower.across.rows, np.diff(lower.across.starts).astype(int))
    across = sparse.csr_array((lower.across.values, (rows, lower.across.columns)), shape=(n, n))
    kept = half + half.T + across
    left = a - sparse.diags_array(a.diagonal()) - kept
    left.data[abs(left.data) < 1e-6 * abs(a).max()] = 0
    left.eliminate_zeros()
    assert left.nnz > 0.5 * (a.nnz - n)
    assert abs(left).max() <= lower_module.WEAK * level.most.max()
    diagonal = 1.0 / lower.inverse.astype(float) - lower.excess
    assert abs(diagonal + kept.sum(axis=1) - level.surplus).max() <= 1e-5 * a.diagonal().max()
    cycle = Cycle(hierarchy).with_lengths(LENGTHS)
    maps = []
    for seed in range(3):
        cycle.right[...] = np.random.default_rng(seed).standard_normal(n)
        maps.append((cycle.right.astype(float), cycle.apply().astype(float)))
    (one, image), (two, other), _ = maps
    assert abs(one @ other - two @ image) <= 1e-5 * np.sqrt((one @ image) * (two @ other))
    assert all(b @ x > 0 for b, x in maps)


@pytest.mark.parametrize(("name", "pieces"), [("tetrahedra-3d", 6), ("rotated-2d", 6), ("random-jumps-3d", 2)])
def test_what_a_cycle_reads_is_the_whole_matrix(name, pieces, monkeypatch):
    """Entries before the diagonal, their mirror images and those between blocks; and its product is the matrix's.
    Whether the set-up had the blocks or the cycle alone."""
    monkeypatch.setattr(lower_module, "SPLIT", 1_000)
    if pieces > 2:
        monkeypatch.setattr(module, "DIVIDED", 1_000)
        monkeypatch.setattr(module, "BLOCK", 450)
    hierarchy = Hierarchy.of(MatrixSystem.of(gallery.matrix(name, 3_000)))
    level = hierarchy.levels[0]
    a, n, lower = level_matrix(level), level.rows, level.lower
    assert len(lower.bounds) == pieces + 1
    half = sparse.csr_array((lower.values, lower.columns.astype(int), lower.starts.astype(int)), shape=(n, n))
    assert (sparse.tril(half, -1) != half).nnz == 0
    assert (lower.near == [0, *half.diagonal(-1)]).all()
    assert (lower.ends == lower.starts[1:] - (lower.near != 0)).all()
    rows = np.repeat(lower.across.rows, np.diff(lower.across.starts).astype(int))
    across = sparse.csr_array((lower.across.values, (rows, lower.across.columns)), shape=(n, n))
    block = np.searchsorted(lower.bounds, np.arange(n), side="right")
    assert (block[rows] != block[lower.across.columns]).all()
    whole = half + half.T + across + sparse.diags_array(a.diagonal())
    assert abs(whole - a).max() <= 1e-5 * abs(a).max()
    x, b, y = (np.random.default_rng(seed).standard_normal(n).astype(np.float32) for seed in range(3))
    parts = np.zeros((2, pieces, 5))
    cycle = Cycle(hierarchy)
    _product(cycle._arguments[0], x, y, b, parts)
    scale = abs(a) @ abs(x.astype(float))
    assert (abs(y - a @ x.astype(float)) <= 1e-5 * scale).all()
    wide = x.astype(float)
    found, energy = parts.sum(axis=1)
    expected = [wide @ y, wide @ b, b @ b.astype(float), b.astype(float) @ y, y @ y.astype(float)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * scale.max())
    np.testing.assert_allclose(energy[:3], [wide @ (a @ wide), wide @ b, wide @ y], rtol=1e-4, atol=1e-4 * scale.max())


@pytest.mark.parametrize("blocks", [False, True])
def test_a_cycle_of_one_level_is_symmetric_successive_over_relaxation(blocks, request):
    """`(D + U)⁻¹ D (D + L)⁻¹` within blocks, `D` the diagonal with what makes up for what lies between them."""
    if blocks:
        request.getfixturevalue("in_blocks")
    hierarchy = Hierarchy.of(MatrixSystem.of(gallery.matrix("triangles-2d", 1_600 if blocks else 900)))
    level = hierarchy.levels[0]
    level.group[:] = -1  # nothing goes down
    level.smoothed = None
    cycle = Cycle(hierarchy)
    assert (len(level.bounds) > 2) is blocks
    a, n = level_matrix(level).toarray(), level.rows
    block = np.searchsorted(level.bounds, np.arange(n), side="right")
    within = np.where(block[:, None] == block, a, 0.0)
    m = np.tril(within) + np.diag(level.excess)
    b = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    cycle.right[:] = b
    x = np.linalg.solve(m, b)
    expected = x + np.linalg.solve(m.T, b - a @ x)
    np.testing.assert_allclose(cycle.apply(), expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize(("name", "n"), [("lognormal-3d", 50_000), ("tetrahedra-3d", 8_000), ("bilinear-2d", 8_000)])
def test_a_set_up_keeps_few_bytes_an_entry(name, n):
    """At most 25 beside the matrix's copy, before anything is solved and after."""
    prepared = prepare(gallery.matrix(name, n), solver="amg")
    engine, a = prepared.engine, prepared.system.matrix
    for _ in range(2):
        held = {id(one) for one in (a.data, a.indices, a.indptr)}
        assert memory_of((engine.hierarchy, engine.cycle), held) <= 25 * a.nnz
        prepared.solve(a @ np.ones(a.shape[0]))


@pytest.mark.parametrize("name", ["lognormal-3d", "neighbours-3d", "stretched-3d", "parts"])
def test_what_was_given_up_is_made_again(name, in_blocks):
    prepared = prepare(gallery.matrix(name, 4_000), solver="amg")
    engine = prepared.engine
    whole = Hierarchy.of(engine.system)
    assert all(len(level.columns) == 0 for level in engine.hierarchy.levels)
    assert engine.level_sizes == tuple((level.rows, level.entries) for level in whole.levels)
    restore_levels(engine.hierarchy, engine.system)
    for own, level in zip(engine.hierarchy.levels, whole.levels, strict=True):
        np.testing.assert_array_equal(own.group, level.group)
        assert (own.smoothed is None) == (level.smoothed is None)
        a, b = level_matrix(own), level_matrix(level)
        assert abs(a - b).max() <= 1e-6 * abs(b).max()
        # Couplings to rows that are left out are taken off in float32.
        np.testing.assert_allclose(own.surplus, level.surplus, rtol=1e-6, atol=1e-12 * abs(b).max())


def test_a_preconditioner_shares_the_matrices_and_has_vectors_of_its_own():
    system = MatrixSystem.of(gallery.matrix("lognormal-3d", 4_000))
    cycle, other = Cycle(Hierarchy.of(system)), Cycle(Hierarchy.of(system), LENGTHS)
    again = cycle.with_lengths(LENGTHS)
    assert cycle.lower is again.lower
    b = np.random.default_rng(0).standard_normal(system.unknowns)
    cycle.right[:] = again.right[:] = other.right[:] = b
    before = cycle.apply().copy()
    np.testing.assert_array_equal(again.apply(), other.apply())
    np.testing.assert_array_equal(cycle.result, before)


@pytest.mark.parametrize("density", [1e-5, 5e-5, 1e-3])
def test_components_and_levels_are_those_of_scipy(density):
    a = sparse.random_array((21_000, 21_000), density=density, rng=np.random.default_rng(0), format="csr")
    a = sparse.csr_array(a + a.T)
    a.indices, a.indptr = a.indices.astype(np.int32), a.indptr.astype(np.int32)
    count, label = find_components(a)
    expected, labels = connected_components(a, directed=False)
    assert count == expected
    np.testing.assert_array_equal(label, labels)
    assert count_levels(a) == _count_few(a)


@pytest.mark.parametrize("name", ["lognormal-3d", "triangles-2d"])
def test_an_update_changes_no_bit_of_the_set_up_that_it_is_called_on(name, in_blocks):
    a = gallery.matrix(name, 9_000)
    prepared = prepare(a, solver="amg")
    assert len(prepared.engine.cycle.levels[1].bounds) > 2  # levels that are read where they are made again
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    before = prepared.solve(b)
    later = prepared.update(2.0 * a)
    np.testing.assert_array_equal(prepared.solve(b).x, before.x)
    assert abs(later.solve(b).iterations - before.iterations) <= 1
