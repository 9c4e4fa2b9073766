"""What `bench/sparse_choice.py` is fitted to: seconds of every solver of the project on every family, size by size."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from relaxon.core.extras import find_missing
from relaxon.solvers import gallery, prepare
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.choice.features import count_levels
from relaxon.solvers.sparse.direct.solver import DirectFactorisation

Clock = Callable[[], float]
RTOL = 1e-6
SOLVERS = ("amg", "ic-cg", "jacobi-cg", "direct", "scipy-direct")
"""In the order in which they are run: what is likely to be quick first, as its time bounds that of the others."""
NEEDS = {"direct": "rslab"}
FLOPS = {"direct": 8e9, "scipy-direct": 1.2e9}
"""Operations a second at the least, by which factors that would take too long are left out before they are begun."""
CUBES = 5.0
"""Operations of a factor, at the least, for the cube of the graph's mean level: what bounds them before the pattern is
analysed, which takes minutes where it fills up."""
PATIENCE, LEAST_LIMIT = 3.0, 0.2
"""A run is stopped after so many times the best of those before it, and not within so many seconds."""
REPEATS = {3_000: 3, 30_000: 2}
"""Of matrices up to so many unknowns, the least time is taken; one of those with more."""


def available() -> tuple[str, ...]:
    """The solvers whose packages are installed."""
    return tuple(name for name in SOLVERS if name not in NEEDS or not find_missing([NEEDS[name]]))


UNFITTED = (("laplacian-3d", 1_000_000), ("plate-2d", 300_000), ("flat-2d", 100_000), ("inclusions-2d", 100_000))
"""Matrices that the constants are not fitted to, but judged by: larger ones, and elastic bodies."""
UNFITTED_SOLVERS = ("amg", "ic-cg", "jacobi-cg", "direct")
"""Whose set-ups take seconds there, not minutes."""


def matrix_of(family: str, size: int) -> Any:
    """A matrix of the gallery, or of one of its elastic bodies."""
    if family in gallery.matrix_names():
        return gallery.matrix(family, size, seed=size)
    return gallery.elastic_body(family, size).matrix


def matrices(families: list[str], sizes: list[int]) -> Iterator[tuple[str, int]]:
    """Every family at every size."""
    for n in sizes:
        for family in families:
            yield family, n


def factor_flops(name: str, system: MatrixSystem) -> float:
    """Operations of a factor, counted from the pattern; 0 for another method."""
    if name not in FLOPS:
        return 0.0
    size = DirectFactorisation("superlu" if name == "scipy-direct" else "auto").analyse(system).size
    return 0.0 if size is None else size.flops


def solved(a: Any, b: Any, name: str, limit: float, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """Seconds, iterations and how many are expected in all; `cut` where it was stopped or did not converge."""
    start = clock()
    prepared = prepare(a, solver=name)
    setup = clock() - start
    solution = prepared.solve(b, rtol=RTOL, callback=lambda _: clock() - start > limit)
    seconds, done = clock() - start, solution.iterations
    left = solution.relative_residual
    # At the mean rate so far, where that is one.
    expected = done * math.log(RTOL) / math.log(left) if RTOL < left < 0.5 and done > 20 else 0.0
    return {
        "seconds": seconds,
        "setup": setup,
        "iterations": done,
        "expected": float(done) if solution.converged else expected,
        "cut": not solution.converged,
        "message": solution.message[:200],
    }


def best_of(run: Callable[[], dict[str, Any]], repeats: int) -> dict[str, Any]:
    """The quickest of some runs; of one that was cut there is no other."""
    first = run()
    runs = [first] + [run() for _ in range(0 if first["cut"] else repeats - 1)]
    return min(runs, key=lambda one: one["seconds"])


def race(a: Any, names: tuple[str, ...], longest: float, clock: Clock = time.perf_counter) -> dict[str, dict[str, Any]]:
    """Every solver on one matrix; those that fail or are cut say so."""
    system = MatrixSystem.of(a)
    b = system.project(np.random.default_rng(1).standard_normal(a.shape[0]))
    repeats = next((count for most, count in REPEATS.items() if a.shape[0] <= most), 1)
    found: dict[str, dict[str, Any]] = {}
    best, levels = math.inf, count_levels(system.matrix)
    for name in names:
        limit = min(longest, max(LEAST_LIMIT, PATIENCE * best))
        try:
            affordable = limit * FLOPS.get(name, math.inf)
            if name in FLOPS and CUBES * (a.shape[0] / levels) ** 3 > affordable:
                found[name] = {"seconds": limit, "cut": True, "message": "would take too long"}
                continue
            flops = factor_flops(name, system)
            if flops > affordable:
                found[name] = {"seconds": limit, "cut": True, "flops": flops, "message": "would take too long"}
                continue
            found[name] = best_of(partial(solved, a, b, name, limit, clock), repeats) | {"flops": flops}
        except ValueError as error:
            found[name] = {"seconds": limit, "cut": True, "message": str(error)[:200]}
            continue
        if not found[name]["cut"]:
            best = min(best, found[name]["seconds"])
    return found


def warm(names: tuple[str, ...]) -> None:
    """Compile and load all of them, for small systems and for large ones."""
    for n in (500, 45_000, 45_000):
        a = gallery.matrix("lognormal-3d", n)
        for name in names:
            if n < 1_000 or name not in FLOPS:
                prepare(a, solver=name).solve(np.ones(a.shape[0]), max_iterations=3)
