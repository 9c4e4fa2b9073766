"""Run by `test_mpi.py` in several processes: `DistributedPoissonGrid` over mpi4py beside a solve in one process."""

import json
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

sys.path.append(str(Path(__file__).parents[3] / "helpers"))
from grid_kinds import UNCHOSEN, arguments_of_part, possible_arguments

from relaxon.solvers import PoissonGrid, gallery, solve
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.distributed import Decomposition, DistributedPoissonGrid


def main() -> None:
    comm, found = MPI.COMM_WORLD, []
    for name in ("box", "spheres", "pool", "random", "neumann", "periodic"):
        grid, b = periodic() if name == "periodic" else of_gallery(name)
        split = Decomposition.of(grid.shape, comm.size)
        own = split.owned(comm.rank)
        mine = DistributedPoissonGrid(grid.cells[own], split, comm, spacing=grid.spacing, boundary=grid.boundary)
        solution = mine.solve(b[own], rtol=1e-8)
        parts = comm.gather(solution.x)
        if comm.rank == 0:
            x = put_together(parts, split)
            one = solve(grid, b, solver="dcdm", rtol=1e-8)
            found.append(
                {
                    "case": name,
                    "result": solution.result.name,
                    "iterations": solution.iterations,
                    "alone": one.iterations,
                    "difference": float(np.linalg.norm(x - one.x) / np.linalg.norm(one.x)),
                    "residual": float(np.linalg.norm(grid.operator().residual(b, x)) / np.linalg.norm(b)),
                }
            )
    for seed, shape in ((3, (48, 40, 32)), (4, (160, 90)), (9, (48, 40, 32))):
        found.append(solved_of_any_kind(seed, shape, comm))
    refused = ""
    split = Decomposition.of((16, 16, 16), comm.size)
    cells = np.zeros((16, 16, 16), np.uint8)[split.owned(comm.rank)]
    try:
        # What is wrong in the last process alone is to be raised in all of them.
        DistributedPoissonGrid(cells[:-1] if comm.rank == comm.size - 1 else cells, split, comm)
    except ValueError as error:
        refused = str(error)
    everyone = comm.gather(refused)
    if comm.rank == 0:
        sys.stdout.write(json.dumps({"solves": found, "refused": everyone}) + "\n")


def solved_of_any_kind(seed: int, shape: tuple[int, ...], comm: MPI.Comm) -> dict[str, object]:
    """A grid with a part of each kind, among them κ that varies and σ."""
    arguments = possible_arguments(seed, shape)
    grid = PoissonGrid(**arguments)
    b = np.random.default_rng(seed).standard_normal(shape)
    split = Decomposition.of(shape, comm.size)
    own = split.owned(comm.rank)
    mine = DistributedPoissonGrid(decomposition=split, comm=comm, **arguments_of_part(arguments, own))
    solution = mine.solve(b[own], rtol=1e-8, inconsistent="project")
    x = put_together(comm.allgather(solution.x), split)
    one = solve(
        grid, b, solver=DeepConjugateDirectionCycle(rescue=False, choice=UNCHOSEN), rtol=1e-8, inconsistent="project"
    )
    return {
        "case": f"any kind {seed}",
        "result": solution.result.name,
        "iterations": solution.iterations,
        "alone": one.iterations,
        "difference": float(np.linalg.norm(x - one.x) / np.linalg.norm(one.x)),
        "residual": solution.relative_residual,
        "kinds": repr(grid),
    }


def put_together(parts: list[np.ndarray], split: Decomposition) -> np.ndarray:
    """The whole array of all processes' parts."""
    x = np.zeros(split.shape)
    for rank, part in enumerate(parts):
        x[split.owned(rank)] = part
    return x


def of_gallery(name: str) -> tuple[PoissonGrid, np.ndarray]:
    problem = gallery.make(name, 40)
    return problem.grid, problem.b


def periodic() -> tuple[PoissonGrid, np.ndarray]:
    rng = np.random.default_rng(0)
    cells = (rng.random((40, 32, 24)) < 0.1).astype(np.uint8)
    grid = PoissonGrid(cells, (1.0, 0.5, 0.7), ["periodic", "periodic", ("dirichlet", "neumann")])
    b = rng.standard_normal(grid.shape) * grid.fluid
    grid.nullspace.project(b)
    return grid, b


if __name__ == "__main__":
    main()
