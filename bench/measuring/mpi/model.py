"""What constants measured here say of a run on a thousand processes: a model, with its assumptions beside it."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from mpi4py import MPI
from rich.console import Console

from relaxon.solvers import PoissonGrid, gallery
from relaxon.solvers.distributed import Decomposition, DistributedPoissonGrid
from relaxon.solvers.distributed.halo import KEPT

Row = dict[str, Any]
PROCESSES, SIDE, PER_NODE = 1000, 2160, 64
"""2160³ is 1.008 · 10^10 cells."""
LATENCY, BANDWIDTH = 2e-6, 12e9
"""Assumed of the network: seconds a message, bytes a second into and out of a node, which its processes share."""
SIZES = (96, 128, 160)
CYCLE_HALOS, OUTER_HALOS, TOTALS = 2, 1, 4
"""Exchanges of each shared level in a cycle, of the finest in an outer step, and sums over all processes in a step."""
GROWTH_PER_DOUBLING = 0.5
"""Assumed: iterations more for each doubling of the side, beyond what is measured."""


def model_rows(world: Any, console: Console) -> Row:
    """Measure what the model takes, on all processes at once as on a full node, and print what it says."""
    points = [_measured(world, n) for n in SIZES]
    cells = np.array([p["cells"] for p in points], float)
    step = np.polyfit(cells, [p["step"] for p in points], 1, w=1 / cells)
    setup = np.polyfit(cells, [p["setup"] for p in points], 1, w=1 / cells)
    gathered = _gathered_cycle(world)
    plan = _plan()
    local = SIDE**3 / PROCESSES
    network = plan["halo_messages"] * LATENCY + plan["halo_bytes"] * PER_NODE / BANDWIDTH
    network += TOTALS * _allgather(8.0 * 2)
    gather = _allgather(plan["gathered_cells"] * 4 / PROCESSES)
    coarse = gathered["seconds_per_cell"] * plan["gathered_cells"]
    compute = float(step[0]) * local
    iterations = points[-1]["iterations"] + GROWTH_PER_DOUBLING * math.log2(SIDE / SIZES[-1])
    one = compute + network + gather + coarse
    found = {
        "assumed": {
            "processes": PROCESSES,
            "cells": SIDE**3,
            "processes_a_node": PER_NODE,
            "latency_s": LATENCY,
            "node_bandwidth_bytes_per_s": BANDWIDTH,
            "iterations": iterations,
        },
        "measured": {
            "points": points,
            "seconds_per_cell_and_step": float(step[0]),
            "setup_seconds_per_cell": float(setup[0]),
            "gathered": gathered,
        },
        "plan": plan,
        "step_seconds": {"compute": compute, "network": network, "gather": gather, "coarse": coarse, "all": one},
        "solve_seconds": iterations * one,
        "setup_seconds": float(setup[0]) * local,
    }
    parts = ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in found["step_seconds"].items())
    console.print(
        f"\n[bold]model[/bold] {PROCESSES} processes ({PER_NODE} a node), {SIDE}³ cells, box: a step takes {parts}; "
        f"{iterations:.1f} steps: solve {found['solve_seconds']:.2f} s, set-up {found['setup_seconds']:.2f} s. "
        f"Assumed: {LATENCY * 1e6:g} µs a message, {BANDWIDTH / 1e9:g} GB/s a node, as many steps as measured at "
        f"{SIZES[-1]}³ and {GROWTH_PER_DOUBLING:g} for each doubling, nothing overlapped."
    )
    return found


def _measured(world: Any, n: int) -> Row:
    """A step and the set-up on cells of each process's own, all processes at work at once."""
    problem = gallery.make("box", n)
    grid = problem.grid
    alone = DistributedPoissonGrid(
        grid.cells, Decomposition.of(grid.shape, 1), spacing=grid.spacing, boundary=grid.boundary
    )
    alone.prepare().solve(problem.b)
    world.Barrier()
    start = time.perf_counter()
    prepared = alone.prepare()
    middle = time.perf_counter()
    solution = prepared.solve(problem.b)
    seconds = time.perf_counter() - middle
    setup = world.allreduce(middle - start, op=MPI.MAX)
    step = world.allreduce(seconds / max(solution.iterations, 1), op=MPI.MAX)
    return {"side": n, "cells": n**3, "setup": setup, "step": step, "iterations": solution.iterations}


def _gathered_cycle(world: Any) -> Row:
    """The cycle of levels that every process does whole, all at it at once."""
    n = 128
    grid = PoissonGrid(np.zeros((n,) * 3, np.uint8), 1 / n, "dirichlet")
    cycle = grid.preconditioner()
    r = np.random.default_rng(0).standard_normal(grid.unknowns)
    cycle.matvec(r)
    world.Barrier()
    start = time.perf_counter()
    for _ in range(3):
        cycle.matvec(r)
    seconds = world.allreduce((time.perf_counter() - start) / 3, op=MPI.MAX)
    return {"cells": n**3, "seconds": seconds, "seconds_per_cell": seconds / n**3}


def _plan() -> Row:
    """Levels, messages and bytes of a step at full size, as the code would cut it."""
    from relaxon.solvers.distributed.communicator import Alone

    class Many(Alone):
        size = PROCESSES

        def gathered(self, array: Any) -> list[Any]:
            return [np.array(array).reshape(-1)] * PROCESSES

        def totals(self, values: Any) -> Any:
            return np.asarray(values, float) * PROCESSES

    split = Decomposition.of((SIDE,) * 3, PROCESSES)
    middle = split.parts[0] // 2 * split.parts[1] + split.parts[1] // 2
    communicator = Many()
    communicator.rank = middle
    own = tuple(cut.stop - cut.start for cut in split.owned(middle))
    cells = np.broadcast_to(np.uint8(0), own)
    grid = DistributedPoissonGrid.__new__(DistributedPoissonGrid)
    grid.communicator, grid.decomposition = communicator, split
    grid.spacing, grid.cells = (1 / SIDE,) * 3, cells
    grid.boundary = PoissonGrid(np.zeros((4, 4, 4), np.uint8), boundary="dirichlet").boundary
    plan = grid.plan
    messages, size = 0, 0.0
    for depth in range(plan.levels):
        box = plan.box(middle, depth)
        (a, b), (c, d) = box.shape, tuple(o.stop - o.start for o in box.own)
        beside = (a * b - c * d) * plan.shapes[depth][2]
        exchanges = CYCLE_HALOS + (OUTER_HALOS if depth == 0 else 0)
        messages += exchanges * 4
        size += exchanges * beside * 4
    return {
        "parts": split.parts,
        "own": own,
        "shared_levels": plan.levels,
        "gathered_shape": plan.shapes[-1],
        "gathered_cells": math.prod(plan.shapes[-1]),
        "kept_planes": KEPT,
        "halo_messages": messages,
        "halo_bytes": size,
    }


def _allgather(own_bytes: float) -> float:
    """Every process's bytes to every one, by doubling, each node's traffic once."""
    return math.ceil(math.log2(PROCESSES)) * LATENCY + PROCESSES * own_bytes / BANDWIDTH
