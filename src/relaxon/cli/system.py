"""The system that `relaxon solve` is asked for: a gallery problem, or the user's own arrays."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relaxon.cli import grid_kinds
from relaxon.cli.completion import completed_by
from relaxon.cli.errors import UsageError
from relaxon.solvers.grid.poisson_grid import PoissonGrid

DEFAULT_PROBLEM, DEFAULT_SIZE = "pool", 64


@dataclass(frozen=True, slots=True)
class System:
    """A grid and a right-hand side on it: `b` is `grid.shape float64`."""

    name: str
    summary: str
    grid: PoissonGrid
    b: NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what to solve."""
    group = parser.add_argument_group("the problem")
    problem = group.add_argument(
        "--problem",
        metavar="NAME",
        help=f"a gallery problem (default {DEFAULT_PROBLEM}; --problem list lists them)",
    )
    completed_by(problem, problem_names)
    group.add_argument("--size", type=int, metavar="N", help=f"cells a side (default {DEFAULT_SIZE})")
    group.add_argument("--ndim", type=int, choices=(2, 3), help="dimensions (default 3)")
    group.add_argument("--seed", type=int, help="of the problem's random parts (default 0); with --matrix, of b")
    group.add_argument("--cells", type=Path, metavar="FILE.npy", help="your own cell types: 0 fluid, 1 solid, 2 air")
    group.add_argument(
        "--rhs", type=Path, metavar="FILE", help="your own right-hand side, for --cells (.npy) or --matrix"
    )
    grid_kinds.add_arguments(group)


def load(args: argparse.Namespace) -> System:
    """The system that the arguments name; UsageError where they do not name one."""
    gallery_only = {"--problem": args.problem, "--size": args.size, "--ndim": args.ndim, "--seed": args.seed}
    own_only = {"--rhs": args.rhs} | {f"--{name}": getattr(args, name) for name in grid_kinds.OPTIONS}
    if args.cells is None:
        _refuse(own_only, "needs --cells")
        return _from_gallery(args)
    _refuse(gallery_only, "cannot stand beside --cells")
    if args.rhs is None:
        raise UsageError("--cells needs --rhs, the right-hand side")
    return _from_files(args)


def problem_names() -> tuple[str, ...]:
    """The gallery's problems."""
    from relaxon.solvers import gallery

    return tuple(gallery.names())


def _from_gallery(args: argparse.Namespace) -> System:
    name = args.problem or DEFAULT_PROBLEM
    size = DEFAULT_SIZE if args.size is None else args.size
    if size < 2:
        raise UsageError(f"--size must be at least 2, got {size}")
    if name not in problem_names():
        raise UsageError(f"--problem must be one of {', '.join(problem_names())}, got {name!r}")
    from relaxon.solvers import gallery

    try:
        problem = gallery.make(name, size, ndim=args.ndim or 3, seed=args.seed or 0)
    except ValueError as error:
        raise UsageError(f"--problem {name}: {error}") from error
    return System(problem.name, problem.summary, problem.grid, np.asarray(problem.b, np.float64))


def _from_files(args: argparse.Namespace) -> System:
    cells, b = grid_kinds.read_array("--cells", args.cells), grid_kinds.read_array("--rhs", args.rhs)
    kinds = grid_kinds.read_kinds(args, cells.shape)
    try:
        grid = PoissonGrid(cells, **kinds)
        if b.dtype.kind not in "fiu":
            raise TypeError(f"rhs must be real numbers, got dtype {b.dtype}")
        if b.shape != grid.shape and b.ndim == 2 and b.shape[0] == grid.unknowns != 1 < b.shape[1]:
            raise ValueError(f"rhs must be one right-hand side, got {b.shape[1]} columns: solve one after the other")
        full = b if b.shape == grid.shape else grid.unpack(b.reshape(-1) if b.shape[1:] == (1,) else b)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--cells {args.cells}, --rhs {args.rhs}: {error}") from error
    right = np.where(grid.fluid, full, 0.0).astype(np.float64, copy=False)
    if not np.isfinite(right).all():
        raise UsageError(f"--rhs must be finite in the fluid cells, {args.rhs} holds NaN or infinity")
    return System(args.cells.name, "from files", grid, right)


def _refuse(options: dict[str, object], why: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {why}")
