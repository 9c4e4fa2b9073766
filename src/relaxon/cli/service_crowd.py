"""A process of `relaxon stress service`: clients that use a server in every way, check each answer, and can be killed.

    python -m relaxon.cli.service_crowd TARGET SEED CLIENTS [once]

The process prints "ready" when it has begun, then a JSON line for each operation that is done and for each violation.
It runs until it is killed. With "once" each client performs each operation once, and the process ends.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

import relaxon
from relaxon.client import Client, GridLost, ResourceExhausted, Retries, Step
from relaxon.core import errors as client_errors
from relaxon.core.solution import Solution
from relaxon.solvers import PoissonGrid, Result
from relaxon.solvers.norms import scaled_residual
from relaxon.solvers.stress import assembled

SOLVERS = ("dcdm", "mg-cg", "ic-cg", "jacobi-cg")
RTOL = 1e-7
LARGE = (400, 350)
"""Shape of a grid whose arrays pass through shared memory."""
ROUNDING = 1e-3
"""Relative amount by which a recomputed residual may exceed the tolerance."""
MOST_SIDE = 48
"""Cells per side of the small grids, at most."""
ALLOWED = (ResourceExhausted, GridLost)
"""Errors of a busy server: it is full, or has deleted an idle grid to make room."""


class Violation(Exception):
    """The server did something that it must not do."""


class Stresser:
    """One client of the crowd."""

    def __init__(self, client: Client, seed: int) -> None:
        self._client = client
        self._rng = np.random.default_rng(seed)

    def run(self, name: str | None = None) -> str:
        """Perform an operation, a random one where none is named, and return its name; raise Violation if it fails."""
        names = list(OPERATIONS)
        chosen = name or names[int(self._rng.integers(len(names)))]
        try:
            OPERATIONS[chosen](self)
        except ALLOWED:
            pass
        except (Violation, KeyboardInterrupt):
            raise
        except Exception as error:
            raise Violation(f"{chosen}: {type(error).__name__}: {error}") from error
        return chosen

    def solves(self) -> None:
        """Solve for right-hand sides of every type on a small grid with an obstacle."""
        grid = self._grid()
        with self._kept(grid) as kept:
            for kind in (np.float64, np.float32, np.complex128):
                b = self._side(grid.shape, kind)
                self._check(grid, b, kept.solve(b, solver=self._solver(), rtol=RTOL))

    def large(self) -> None:
        """Solve on a large grid, whose arrays pass through shared memory where that is used."""
        grid = PoissonGrid(np.zeros(LARGE, np.uint8), boundary="dirichlet")
        with self._kept(grid) as kept:
            b = self._side(grid.shape)
            self._check(grid, b, kept.solve(b, solver="mg-cg", rtol=RTOL, x0=self._side(grid.shape)))

    def steps(self) -> None:
        """Solve steps with an obstacle that moves."""
        cells = np.zeros((MOST_SIDE, 30), np.uint8)
        steps, grids = [], []
        for place in range(5):
            moved = cells.copy()
            moved[2 + 3 * place : 8 + 3 * place, 5:15] = 1
            grids.append(PoissonGrid(moved, boundary="dirichlet"))
            steps.append(Step(self._side(cells.shape), moved))
        with self._kept(PoissonGrid(cells, boundary="dirichlet")) as kept:
            found = kept.solve_steps(steps, solver=self._solver(), rtol=RTOL)
            for step, grid, solution in zip(steps, grids, found, strict=True):
                self._check(grid, np.asarray(step.b), solution)

    def updates(self) -> None:
        """Replace the cells between two solves."""
        first, second = self._grid(), None
        with self._kept(first) as kept:
            b, solver = self._side(first.shape), self._solver()
            self._check(first, b, kept.solve(b, solver=solver, rtol=RTOL))
            second = self._grid(first.shape)
            kept.update(second.cells)
            self._check(second, b, kept.solve(b, solver=solver, rtol=RTOL))

    def systems(self) -> None:
        """Solve with a sparse matrix."""
        grid = self._grid()
        matrix = assembled(grid)
        with self._client.linear.matrix(matrix) as kept:
            b = self._rng.standard_normal(kept.unknowns)
            solution = kept.solve(b, rtol=RTOL)
            _judge(solution, float(np.linalg.norm(b - matrix @ solution.x)), solution.tolerance)
            scaled = scaled_residual(matrix, b, solution.x)
            if not scaled <= RTOL * (1 + ROUNDING):
                raise Violation(f"{solution.solver}: CONVERGED is wrong: scaled residual {scaled:.3e}, rtol {RTOL:g}")

    def stops(self) -> None:
        """Stop solves by callbacks and deadlines, and leave an iteration over steps."""
        grid = PoissonGrid(np.zeros(LARGE, np.uint8), boundary="dirichlet")
        with self._kept(grid) as kept:
            b = self._side(grid.shape)
            options: dict[str, Any] = {"solver": "cg", "rtol": 1e-300, "max_iterations": 10**6}
            if kept.solve(b, callback=lambda _: True, **options).result is Result.CONVERGED:
                raise Violation("stops: a solve to 1e-300 reports convergence")
            with suppress(client_errors.DeadlineExceeded):
                kept.solve(b, timeout=0.05, **options)
            for _ in kept.solve_steps((b for _ in range(100)), solver="cg", max_iterations=2):
                break

    def mistakes(self) -> None:
        """Make mistakes, each of which must be refused by the name of the argument."""
        with self._kept(self._grid()) as kept:
            bad = np.full(kept.shape, np.nan)
            for mistake in (
                lambda: kept.solve(bad),
                lambda: kept.solve(np.ones((3, 3, 3))),
                lambda: kept.solve(np.ones(kept.shape), solver="none"),
                lambda: list(kept.solve_steps([np.ones(kept.shape), bad], solver="cg")),
                lambda: kept.update(np.full(kept.shape, 9)),
            ):
                try:
                    mistake()
                except client_errors.InvalidArgument:
                    continue
                raise Violation("mistakes: one was not refused")

    def floods(self) -> None:
        """Open more grids than there is room for and delete none: they go with the client, or make room for others."""
        for _ in range(40):
            self._client.poisson.grid(np.zeros((60, 60), np.uint8), boundary="dirichlet")

    def _grid(self, shape: tuple[int, ...] | None = None) -> PoissonGrid:
        rng = self._rng
        shape = shape or tuple(int(n) for n in rng.integers(8, MOST_SIDE, int(rng.integers(2, 4))))
        cells = np.zeros(shape, np.uint8)
        low = [int(rng.integers(0, n - 4)) for n in shape]
        cells[tuple(slice(n, n + int(rng.integers(1, 4))) for n in low)] = 1
        return PoissonGrid(cells, boundary="dirichlet")

    def _kept(self, grid: PoissonGrid) -> Any:
        return self._client.poisson.grid(grid.cells, grid.mean_spacing, grid.boundary)

    def _solver(self) -> str:
        return SOLVERS[int(self._rng.integers(len(SOLVERS)))]

    def _side(self, shape: tuple[int, ...], kind: Any = np.float64) -> NDArray[Any]:
        b = self._rng.standard_normal(shape)
        if np.dtype(kind).kind == "c":
            b = b + 1j * self._rng.standard_normal(shape)
        return b.astype(kind)

    def _check(self, grid: PoissonGrid, b: NDArray[Any], solution: Solution) -> None:
        """Recompute the residual of a solution and judge it."""
        operator, fluid = grid.operator(), grid.fluid
        parts = [(b.real, solution.x.real), (b.imag, solution.x.imag)] if b.dtype.kind == "c" else [(b, solution.x)]
        square = 0.0
        for right, x in parts:
            image = operator.apply(np.ascontiguousarray(x.reshape(grid.shape3), np.float64), np.empty(grid.shape3))
            defect = (right.astype(np.float64) - image.reshape(grid.shape))[fluid]
            square += float(defect @ defect)
        _judge(solution, square**0.5, solution.tolerance)


def _judge(solution: Solution, residual: float, tolerance: float) -> None:
    if solution.result is not Result.CONVERGED:
        raise Violation(f"{solution.solver}: a sound system ended {solution.result.value}: {solution.message}")
    if not residual <= tolerance * (1 + ROUNDING):
        raise Violation(f"{solution.solver}: CONVERGED is wrong: residual {residual:.3e}, tolerance {tolerance:.3e}")


OPERATIONS: dict[str, Callable[[Stresser], None]] = {
    "solves": Stresser.solves,
    "large": Stresser.large,
    "steps": Stresser.steps,
    "updates": Stresser.updates,
    "systems": Stresser.systems,
    "stops": Stresser.stops,
    "mistakes": Stresser.mistakes,
    "floods": Stresser.floods,
}


def main(arguments: list[str]) -> int:
    target, seed, clients = arguments[0], int(arguments[1]), int(arguments[2])
    names = list(OPERATIONS) if arguments[3:] == ["once"] else itertools.repeat(None)
    print_lock = threading.Lock()

    def say(word: dict[str, str]) -> None:
        with print_lock:
            print(json.dumps(word), flush=True)

    def work(number: int) -> None:
        # Every other client sends its arrays instead of sharing memory.
        options: dict[str, Any] = {"shared_memory": number % 2 == 0, "retries": Retries(attempts=3)}
        try:
            with relaxon.connect(target, **options) as client:
                stresser = Stresser(client, seed * 1000 + number)
                for name in names:
                    try:
                        say({"done": stresser.run(name)})
                    except Violation as violation:
                        say({"violation": str(violation)})
        except Exception as error:
            say({"violation": f"connecting: {type(error).__name__}: {error}"})

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
