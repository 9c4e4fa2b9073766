"""Systems of equations: what is said of a matrix's unknowns, and the multigrid that makes use of it."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from scipy import sparse

from relaxon.solvers import PoissonGrid, prepare, solve, solve_many
from relaxon.solvers.sparse.near_null import rigid_motions
from relaxon.solvers.sparse.properties import MatrixProperties

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
    found = MatrixProperties(near_null=vectors * np.float32(1e30)).checked(24).near_null
    assert found.dtype == np.float64
    found[...] = 0.0
    assert np.array_equal(vectors, kept)
    huge = MatrixProperties(near_null=vectors.astype(np.float64) * 1e300).checked(24).near_null
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
