"""The matrix and the right-hand side of `relaxon solve --matrix FILE`, from files.

Imported on first use, for their weight: the readers of matrix files, matplotlib.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.cli import grid_options
from relaxon.cli.errors import CommandError, UsageError
from relaxon.cli.json_output import check_writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from relaxon.cli.contest import Order, Run
    from relaxon.solvers.sparse.structure import MatrixStructure

DEFAULT_SOLVER = "auto"
HALVES = {"yes": True, "no": False}
OUTPUTS = (".npy", ".mtx")
SINGULAR_DEFECT = 1e-10
"""Where `‖A·1‖` is below this part of `‖|A|·1‖`, all ones are in the null space and give no right-hand side."""


@dataclass(frozen=True, slots=True)
class FileMatrixSystem:
    """A sparse matrix (`(n, n)` CSR) and a right-hand side (`(n,)`), with where both come from, in words."""

    name: str
    layout: str
    notes: tuple[str, ...]
    matrix: Any
    b: NDArray[Any]
    side: str
    structure: MatrixStructure

    def describe(self) -> str:
        """Return the name and the sizes in one line."""
        found = self.structure
        each = found.entries / max(found.unknowns, 1)
        return f"{self.name}, {found.unknowns:,} unknowns, {found.entries:,} entries ({each:.1f} a row)"

    def as_dict(self) -> dict[str, Any]:
        """Return the properties as JSON values."""
        found = self.structure
        structure = {
            name: value if not isinstance(value, float) or abs(value) < float("inf") else None
            for name, value in asdict(found).items()
        }
        return {
            "matrix": {
                "file": self.name,
                "format": self.layout,
                "notes": list(self.notes),
                "kind": found.kind,
                "symmetric": found.symmetric,
                "hermitian": found.hermitian,
                **structure,
            },
            "right_hand_side": self.side,
        }

    def draw(self, figure: Figure, axes: Axes, run: Run, order: Order) -> None:
        """Draw the pattern of the matrix, its rows in `order`."""
        from relaxon.cli.matrix_pattern import draw_pattern

        draw_pattern(figure, axes, self.matrix, order)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the files of a matrix and say how to read them."""
    group = parser.add_argument_group(
        "a matrix", "Matrix Market, Harwell-Boeing, PETSc binary, SciPy's .npz, OpenFOAM's LDU, text; gzip too."
    )
    group.add_argument("--matrix", type=Path, metavar="FILE", help="solve with this matrix (LDU: its folder)")
    group.add_argument("--rhs-column", type=int, metavar="K", help="which right-hand side of the file, counted from 0")
    half = "whether a triangular matrix is one half of a symmetric matrix, where the file does not say"
    group.add_argument("--symmetric-half", choices=list(HALVES), help=half)
    group.add_argument("--index-base", type=int, choices=(0, 1), help="the first index in a text file")
    group.add_argument("--negate", action="store_true", help="solve −A x = −b, for a negative definite matrix")
    group.add_argument(
        "--max-bytes",
        type=int,
        metavar="N",
        help="largest decompressed size of a file (default 16 GiB)",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse, before anything is read, options for matrices without --matrix, and others with it."""
    if args.matrix is not None:
        _check_matrix_options(args)
        return
    for option in ("rhs_column", "symmetric_half", "index_base", "negate", "max_bytes", "out"):
        if getattr(args, option) not in (None, False):
            raise UsageError(f"--{option.replace('_', '-')} needs --matrix")


def _check_matrix_options(args: argparse.Namespace) -> None:
    for option in ("problem", "size", "ndim", "cells", *grid_options.OPTIONS):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} cannot be used with --matrix")
    if args.seed is not None and (args.rhs is not None or args.seed < 0):
        raise UsageError(f"--seed must be at least 0 and cannot be used with --rhs and --matrix, got {args.seed}")
    if args.rhs_column is not None and args.rhs is None:
        raise UsageError("--rhs-column needs --rhs")
    if args.max_bytes is not None and args.max_bytes < 1:
        raise UsageError(f"--max-bytes must be at least 1, got {args.max_bytes}")
    if args.out is not None:
        check_writable("--out", args.out)
        if args.out.suffix not in OUTPUTS:
            raise UsageError(f"--out must end in {' or '.join(OUTPUTS)}, got {args.out.name!r}")


def load(args: argparse.Namespace) -> FileMatrixSystem:
    """Return the system that the arguments name; UsageError where the files do not hold one."""
    from relaxon.solvers.matrix_files import load_matrix, read_vector
    from relaxon.solvers.matrix_files.contents import MAX_BYTES
    from relaxon.solvers.sparse.structure import examine_structure

    most = MAX_BYTES if args.max_bytes is None else args.max_bytes
    try:
        half = None if args.symmetric_half is None else HALVES[args.symmetric_half]
        read = load_matrix(args.matrix, symmetric_half=half, index_base=args.index_base, max_bytes=most)
        given = None if args.rhs is None else read_vector(args.rhs, column=args.rhs_column, max_bytes=most)
    except (OSError, ValueError) as error:
        raise UsageError(f"--matrix or --rhs cannot be read: {error}") from error
    except MemoryError as error:
        raise CommandError(f"--matrix {args.matrix} does not fit into memory") from error
    rows, columns = read.matrix.shape
    if rows != columns or rows == 0:
        raise UsageError(f"--matrix {args.matrix} must be square, got {rows} rows and {columns} columns")
    if given is not None and given.shape != (rows,):
        raise UsageError(f"--rhs {args.rhs} must have the matrix's {rows} rows, got {given.shape[0]}")
    matrix, notes, structure = read.matrix, read.notes, examine_structure(read.matrix)
    b, side = (given, f"{args.rhs.name}") if given is not None else _make_side(matrix, structure.unknowns, args.seed)
    if args.negate:
        matrix, b, notes = -matrix, -b, (*notes, "negated, and the right-hand side with it")
        structure = examine_structure(matrix)
    return FileMatrixSystem(args.matrix.name or str(args.matrix), read.layout, notes, matrix, b, side, structure)


def _make_side(matrix: Any, n: int, seed: int | None) -> tuple[NDArray[Any], str]:
    """Return a right-hand side in the range of the matrix, and its description."""
    ones = np.ones(n)
    b = matrix @ ones
    size = float(np.linalg.norm(abs(matrix) @ ones))
    if seed is None and float(np.linalg.norm(b)) > SINGULAR_DEFECT * size:
        return b, "A·1: the solution is all ones"
    x = np.random.default_rng(seed or 0).standard_normal(n)
    why = "" if seed is not None else " (A·1 is 0)"
    return matrix @ x, f"A·x of normally distributed x, seed {seed or 0}{why}"


def write_solution(path: Path, x: NDArray[Any]) -> None:
    """Write a solution `(n,)` as `.npy`, or as a Matrix Market array with all its digits."""
    if path.suffix == ".npy":
        np.save(path, x)
        return
    field = "complex" if np.iscomplexobj(x) else "real"
    parts = [x.real, x.imag] if field == "complex" else [x]
    with path.open("w", encoding="ascii") as file:
        file.write(f"%%MatrixMarket matrix array {field} general\n{len(x)} 1\n")
        np.savetxt(file, np.stack(parts, axis=1), "%.17g")
