"""Two sweeps in a pass are the two sweeps one after the other, on any shape and any number of threads."""

import numpy as np
import pytest

from relaxon.solvers import PoissonGrid
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.multigrid import paired_sweeps, sweeps
from relaxon.solvers.multigrid.variable import VariableCycle
from relaxon.solvers.multigrid.variable_levels import VariableLevel

SHAPES = [(1, 1, 40), (1, 30, 37), (1, 9, 1), (2, 3, 4), (5, 1, 33), (7, 6, 1), (13, 12, 11), (40, 50, 30)]
OMEGAS = [np.float32(omega) for omega in (0.7, 0.9, 0.6, 0.8)]


def finest_level(shape: tuple[int, ...]) -> VariableLevel:
    rng = np.random.default_rng(len(shape) * shape[0])
    kappa = 10.0 ** rng.uniform(-2, 2, shape)
    cells = (rng.random(shape) < 0.2).astype(np.uint8)
    cells.flat[0] = 0
    level = VariableCycle(PoissonGrid(cells, 1.0, "dirichlet", kappa).operator(), sweeps=4).levels[0]
    level.r[...] = np.where(level.diagonal != 0, rng.standard_normal(level.shape), 0)
    level.share = rng.random(level.shape).astype(np.float32)
    return level


def pair(level, x, before, one, two):
    """Return what `kept` and `y` get."""
    kept, y = np.full_like(x, np.nan), np.full_like(x, np.nan)
    weights = level.inverse_diagonal, level.share
    paired_sweeps.pair(x, before, one, two, level.r, *weights, level.operator, kept, y)
    return kept, y


def single(level, x, omega):
    y = np.empty_like(x)
    sweeps.jacobi_sweep(x, level.r, omega, level.inverse_diagonal, level.operator, y)
    return y


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("zero", [False, True])
def test_a_pair_is_two_sweeps_or_a_sweep_and_the_residual(shape, threads, zero, monkeypatch):
    monkeypatch.setattr(paired_sweeps, "threads_for", lambda size: threads)
    level = finest_level(shape)
    before = OMEGAS[0] if zero else None
    x = np.random.default_rng(1).standard_normal(level.shape).astype(np.float32)
    x = before * level.inverse_diagonal * level.r if zero else np.where(level.diagonal != 0, x, np.float32(0))
    unused = np.full_like(x, np.nan) if zero else x
    first = single(level, x, OMEGAS[1])
    second = single(level, first, OMEGAS[2])
    residual = np.empty_like(x)
    sweeps.weighted_residual(first, level.r, level.share, level.operator, residual)
    with num_threads(threads):
        untouched, swept = pair(level, unused, before, OMEGAS[1], OMEGAS[2])
        kept, left = pair(level, unused, before, OMEGAS[1], None)
    assert np.isnan(untouched).all()
    for found, expected in ((swept, second), (kept, first), (left, residual)):
        np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(level.r).max() + 1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_level_s_smoothing_in_pairs_is_that_sweep_by_sweep(count):
    level = finest_level((12, 13, 10))
    level.dampings = (*OMEGAS, OMEGAS[0])[:count]
    x = np.asarray(level.dampings[0] * level.inverse_diagonal * level.r)
    for omega in level.dampings[1:]:
        x = single(level, x, omega)
    t = np.empty_like(x)
    sweeps.weighted_residual(x, level.r, level.share, level.operator, t)
    level.smooth_to_residual()
    scale = np.abs(x).max()
    np.testing.assert_allclose(level.x, x, atol=1e-5 * scale)
    np.testing.assert_allclose(level.work, t, atol=1e-5 * np.abs(level.r).max())
    for omega in level.dampings[::-1]:
        x = single(level, x, omega)
    level.smooth()
    np.testing.assert_allclose(level.x, x, atol=1e-5 * scale)
