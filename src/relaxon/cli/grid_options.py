"""Options of `relaxon solve` that describe the user's own grid: widths, sides, κ, σ and cut cells."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.cli.completion import complete_from
from relaxon.cli.errors import UsageError
from relaxon.solvers.grid.sides import Boundary, Robin

OPTIONS = ("spacing", "stretch", "boundary", "coefficient", "reaction", "volume")
SIDES = ", ".join(side.value for side in Boundary)


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options, all of which need --cells."""
    group.add_argument(
        "--spacing",
        metavar="H",
        help="cell width for --cells (default 1): a number; or for each axis, separated by commas, a number or a "
        "file (.npy) of the widths of its cells",
    )
    group.add_argument(
        "--stretch",
        metavar="R",
        help="for --cells: ratio of the last width along an axis to the first, with constant ratios between "
        "neighbours; one number for all axes, or one for each, separated by commas; --spacing is then the mean width",
    )
    boundary = group.add_argument(
        "--boundary",
        metavar="SIDES",
        help=f"for --cells: {SIDES} or robin:H for all sides (default neumann); or for each axis, separated by commas, "
        "one entry, or two as low/high where the two sides differ: dirichlet/robin:2.5,neumann,periodic; robin:H means "
        "κ ∂x/∂n + H x = 0",
    )
    complete_from(boundary, lambda: [side.value for side in Boundary])
    group.add_argument(
        "--coefficient",
        type=Path,
        metavar="FILE",
        help="κ for --cells: of cells (.npy), or on faces x, y, z (.npz)",
    )
    group.add_argument(
        "--reaction", metavar="SIGMA", help="σ of (σ − ∇·κ∇) x = b, for --cells (default 0): a number or a file (.npy)"
    )
    group.add_argument(
        "--volume", type=Path, metavar="FILE.npy", help="for --cells: the part of each cell that is not cut away"
    )


def read_options(args: argparse.Namespace, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments of `PoissonGrid` other than the cells; UsageError names an option that cannot be read."""
    return {
        "spacing": _read_widths(args.spacing, args.stretch, shape),
        "boundary": Boundary.NEUMANN if args.boundary is None else _read_sides(args.boundary, len(shape)),
        "coefficient": None if args.coefficient is None else _read_coefficient(args.coefficient, len(shape)),
        "reaction": None if args.reaction is None else _read_number_or_file("--reaction", args.reaction),
        "volume": None if args.volume is None else read_array("--volume", args.volume),
    }


def read_array(option: str, path: Path) -> NDArray[Any]:
    """Return the array of a .npy file; UsageError names the option."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{option} {path} cannot be read as an array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{option} {path} must hold one array (.npy), not an archive")
    return array


def _split_axes(option: str, text: str, ndim: int) -> list[str]:
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) == 1:
        return entries * ndim
    if len(entries) != ndim:
        raise UsageError(f"{option} must be one entry or {ndim}, one for each axis, got {len(entries)}")
    return entries


def _read_number_or_file(option: str, text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return read_array(option, Path(text))


def _read_widths(spacing: str | None, stretch: str | None, shape: tuple[int, ...]) -> Any:
    given = [1.0] * len(shape)
    if spacing is not None:
        given = [_read_number_or_file("--spacing", entry) for entry in _split_axes("--spacing", spacing, len(shape))]
    if stretch is None:
        return given
    found: list[Any] = []
    for width, n, entry in zip(given, shape, _split_axes("--stretch", stretch, len(shape)), strict=True):
        try:
            ratio = float(entry)
        except ValueError:
            raise UsageError(f"--stretch must be numbers, got {entry!r}") from None
        if not 0 < ratio < np.inf:
            raise UsageError(f"--stretch must be greater than 0 and finite, got {entry}")
        if np.ndim(width):
            raise UsageError("--stretch cannot be used with a file of widths in --spacing")
        graded = ratio ** np.linspace(0.0, 1.0, n)
        found.append(width if ratio == 1 else width * graded / graded.mean())
    return found


def _read_sides(text: str, ndim: int) -> Any:
    found = []
    for entry in _split_axes("--boundary", text, ndim):
        pair = [_read_side(name.strip()) for name in entry.split("/")]
        if len(pair) > 2:
            raise UsageError(f"--boundary must have one or two sides for each axis, got {entry!r}")
        found.append((pair[0], pair[-1]))
    return found


def _read_side(name: str) -> Boundary | Robin:
    kind, _, value = name.partition(":")
    try:
        return Robin(float(value)) if kind == "robin" else Boundary(name)
    except ValueError as error:
        wrong = f": {error}" if kind == "robin" and "h must" in str(error) else f", got {name!r}"
        raise UsageError(f"--boundary must be {SIDES} or robin:H with a number{wrong}") from None


def _read_coefficient(path: Path, ndim: int) -> Any:
    if path.suffix != ".npz":
        return read_array("--coefficient", path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[name] for name in "xyz"[:ndim]]
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UsageError(f"--coefficient {path} must hold the arrays {', '.join('xyz'[:ndim])}: {error}") from error
