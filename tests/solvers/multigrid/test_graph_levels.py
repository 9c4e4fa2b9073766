"""The levels whose couplings make a graph, against dense matrices."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from relaxon.solvers.multigrid.graph_kernels import LanedRows, Rows, add_rows, graph_sweep, join_nodes, label_nodes


def random_graph(count, seed):
    """Return the couplings of a graph some of whose nodes have none: as rows, and dense."""
    rng = np.random.default_rng(seed)
    matrix = np.triu(rng.random((count, count)) * (rng.random((count, count)) < 4 / count), 1)
    matrix[: count // 8] = matrix[:, : count // 8] = 0
    matrix = (matrix + matrix.T).astype(np.float32)
    rows = csr_array(matrix)
    return Rows(rows.indptr.astype(np.int32), rows.indices.astype(np.int32), rows.data), matrix


@pytest.mark.parametrize("count", [1, 8, 61])
def test_sweeps_over_lanes_are_those_of_the_matrix(count):
    rows, matrix = random_graph(count, 0)
    laned = LanedRows.of(rows, 0.5)
    full = 8 * (len(laned.begins) - 1)
    rng = np.random.default_rng(1)
    diagonal, inverse, x, r = (np.zeros(full, np.float32) for _ in range(4))
    for array in (diagonal, inverse, x, r):
        array[:count] = rng.random(count)
    residual = r[:count] - diagonal[:count] * x[:count] + 0.5 * matrix @ x[:count]
    found = np.full(full, np.nan, np.float32)
    graph_sweep(laned, diagonal, inverse, np.float32(0.7), x, r, False, found)
    np.testing.assert_allclose(found[:count], residual, rtol=1e-5, atol=1e-6)
    graph_sweep(laned, diagonal, inverse, np.float32(0.7), x, r, True, found)
    np.testing.assert_allclose(found[:count], x[:count] + 0.7 * inverse[:count] * residual, rtol=1e-5, atol=1e-6)
    assert (found[count:] == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_parts_are_what_strong_couplings_within_a_block_connect(seed):
    rows, matrix = random_graph(80, seed)
    strength = add_rows(rows)
    np.testing.assert_allclose(strength, matrix.sum(1), rtol=1e-6)
    block = (np.arange(80) // 20).astype(np.int32)
    part, waiting = np.empty(80, np.int32), np.empty(80, np.int32)
    count = label_nodes(*rows, strength, block, 0.2, part, waiting)
    strong = (matrix >= 0.2 * np.sqrt(np.outer(strength, strength))) & (matrix > 0)
    _, expected = connected_components(csr_array(strong & (block[:, None] == block)), directed=False)
    kept = strength > 0
    assert (part[~kept] == -1).all()
    assert set(part[kept]) == set(range(count))
    np.testing.assert_array_equal(part[kept][:, None] == part[kept], expected[kept][:, None] == expected[kept])


def test_couplings_of_parts_are_sums_over_their_members():
    rows, matrix = random_graph(80, 5)
    part = np.random.default_rng(0).integers(0, 9, 80).astype(np.int32)
    members = np.argsort(part, kind="stable").astype(np.int32)
    first = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=9))])
    joined = join_nodes(first, members, part, rows)
    transfer = np.eye(9)[part]
    expected = transfer.T @ matrix @ transfer
    np.fill_diagonal(expected, 0)
    found = csr_array((joined.couplings, joined.others, joined.starts), (9, 9)).toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(joined.others) == np.count_nonzero(expected)
