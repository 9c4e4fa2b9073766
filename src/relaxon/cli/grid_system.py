"""The grid and the right-hand side of `relaxon solve`: a gallery problem, or the user's own arrays."""

# Imported on first use, for their weight: `core.pictures`, `solvers.gallery`.

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.cli import grid_options
from relaxon.cli.completion import complete_from
from relaxon.cli.errors import UsageError
from relaxon.solvers.grid.poisson_grid import PoissonGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from relaxon.cli.contest import Order, Run

DEFAULT_SOLVER = "dcdm"
DEFAULT_PROBLEM, DEFAULT_SIZE = "pool", 64


@dataclass(frozen=True, slots=True)
class GridSystem:
    """A grid and a right-hand side on it, `grid.shape float64`."""

    name: str
    summary: str
    grid: PoissonGrid
    b: NDArray[np.float64]

    def describe(self) -> str:
        """Return the name and the sizes in one line."""
        shape = "×".join(map(str, self.grid.shape))
        return f"{self.name} {shape}, {self.grid.unknowns:,} unknowns"

    def as_dict(self) -> dict[str, Any]:
        """Return the properties as JSON values."""
        grid = self.grid
        return {
            "problem": {
                "name": self.name,
                "summary": self.summary,
                "shape": list(grid.shape),
                "unknowns": grid.unknowns,
                "spacing": [one.tolist() if isinstance(one, np.ndarray) else one for one in grid.spacing],
                "boundary": [[str(side) for side in pair] for pair in grid.boundary],
            }
        }

    def draw(self, figure: Figure, axes: Axes, run: Run, order: Order) -> None:
        """Draw a slice of the solution of a run."""
        from relaxon.core.pictures import draw_slice

        assert run.x is not None
        draw_slice(figure, axes, self.grid.cells, run.x, f"solution by {run.solver}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what to solve."""
    group = parser.add_argument_group("the problem")
    problem = group.add_argument(
        "--problem",
        metavar="NAME",
        help=f"a gallery problem (default {DEFAULT_PROBLEM}; --problem list lists them)",
    )
    complete_from(problem, list_problem_names)
    group.add_argument("--size", type=int, metavar="N", help=f"cells per side (default {DEFAULT_SIZE})")
    group.add_argument("--ndim", type=int, choices=(2, 3), help="dimensions (default 3)")
    group.add_argument("--seed", type=int, help="seed of the problem's random parts (default 0); with --matrix, of b")
    group.add_argument("--cells", type=Path, metavar="FILE.npy", help="your own cell types: 0 fluid, 1 solid, 2 air")
    group.add_argument(
        "--rhs", type=Path, metavar="FILE", help="your own right-hand side, for --cells (.npy) or --matrix"
    )
    grid_options.add_arguments(group)


def load(args: argparse.Namespace) -> GridSystem:
    """Return the system that the arguments name; UsageError where they do not name one."""
    gallery_only = {"--problem": args.problem, "--size": args.size, "--ndim": args.ndim, "--seed": args.seed}
    own_only = {"--rhs": args.rhs} | {f"--{name}": getattr(args, name) for name in grid_options.OPTIONS}
    if args.cells is None:
        _refuse_options(own_only, "needs --cells")
        return _load_problem(args)
    _refuse_options(gallery_only, "cannot be used with --cells")
    if args.rhs is None:
        raise UsageError("--cells needs --rhs, the right-hand side")
    return _load_files(args)


def list_problem_names() -> tuple[str, ...]:
    """Return the names of the gallery's problems."""
    from relaxon.solvers import gallery

    return tuple(gallery.names())


def _load_problem(args: argparse.Namespace) -> GridSystem:
    name = args.problem or DEFAULT_PROBLEM
    size = DEFAULT_SIZE if args.size is None else args.size
    if size < 2:
        raise UsageError(f"--size must be at least 2, got {size}")
    if name not in list_problem_names():
        raise UsageError(f"--problem must be one of {', '.join(list_problem_names())}, got {name!r}")
    from relaxon.solvers import gallery

    try:
        problem = gallery.make(name, size, ndim=args.ndim or 3, seed=args.seed or 0)
    except ValueError as error:
        raise UsageError(f"--problem {name}: {error}") from error
    return GridSystem(problem.name, problem.summary, problem.grid, np.asarray(problem.b, np.float64))


def _load_files(args: argparse.Namespace) -> GridSystem:
    cells, b = grid_options.read_array("--cells", args.cells), grid_options.read_array("--rhs", args.rhs)
    kinds = grid_options.read_options(args, cells.shape)
    try:
        grid = PoissonGrid(cells, **kinds)
        if b.dtype.kind not in "fiu":
            raise TypeError(f"rhs must be real numbers, got dtype {b.dtype}")
        if b.shape != grid.shape and b.ndim == 2 and b.shape[0] == grid.unknowns != 1 < b.shape[1]:
            raise ValueError(f"rhs must be one right-hand side, got {b.shape[1]} columns: solve one after another")
        full = b if b.shape == grid.shape else grid.unpack(b.reshape(-1) if b.shape[1:] == (1,) else b)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--cells {args.cells}, --rhs {args.rhs}: {error}") from error
    right = np.where(grid.fluid, full, 0.0).astype(np.float64, copy=False)
    if not np.isfinite(right).all():
        raise UsageError(f"--rhs must be finite in the fluid cells, {args.rhs} holds NaN or infinity")
    return GridSystem(args.cells.name, "from files", grid, right)


def _refuse_options(options: dict[str, object], why: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {why}")
