"""The system that `relaxon solve --matrix FILE` is asked for: a matrix and a right-hand side from files."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.cli import grid_kinds
from relaxon.cli.errors import CommandError, UsageError
from relaxon.cli.json_output import check_writable

if TYPE_CHECKING:
    from relaxon.solvers.sparse.structure import MatrixStructure

DEFAULT_SOLVER = "auto"
HALVES = {"yes": True, "no": False}
OUTPUTS = (".npy", ".mtx")
SINGULAR_DEFECT = 1e-10
"""Of `‖A·1‖` relative to `‖|A|·1‖`, below which all ones would give no right-hand side."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A sparse matrix (`(n, n)` CSR) and a right-hand side (`(n,)`), and where both come from, in words."""

    name: str
    layout: str
    notes: tuple[str, ...]
    matrix: Any
    b: NDArray[Any]
    side: str
    structure: MatrixStructure

    def describe(self) -> str:
        """Return a line: the name and the sizes."""
        found = self.structure
        each = found.entries / max(found.unknowns, 1)
        return f"{self.name}, {found.unknowns:,} unknowns, {found.entries:,} entries ({each:.1f} a row)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a matrix's files and say how they are read."""
    group = parser.add_argument_group(
        "a matrix", "Matrix Market, Harwell-Boeing, PETSc binary, SciPy's .npz, OpenFOAM's LDU, text; gzip too."
    )
    group.add_argument("--matrix", type=Path, metavar="FILE", help="solve with this matrix (LDU: its folder)")
    group.add_argument("--rhs-column", type=int, metavar="K", help="which of the file's right-hand sides, from 0")
    half = "whether a triangular matrix is half a symmetric one, where its file does not say"
    group.add_argument("--symmetric-half", choices=list(HALVES), help=half)
    group.add_argument("--index-base", type=int, choices=(0, 1), help="what a text file's indices are counted from")
    group.add_argument("--negate", action="store_true", help="solve −A x = −b: for a negative definite matrix")
    group.add_argument("--max-bytes", type=int, metavar="N", help="what a compressed file may become (default 16 GiB)")


def refuse_without_matrix(args: argparse.Namespace) -> None:
    """Raise UsageError where an option of matrices stands without one."""
    for option in ("rhs_column", "symmetric_half", "index_base", "negate", "max_bytes", "out"):
        if getattr(args, option) not in (None, False):
            raise UsageError(f"--{option.replace('_', '-')} needs --matrix")


def check(args: argparse.Namespace) -> None:
    """Refuse, before anything is read, options that cannot stand beside --matrix."""
    for option in ("problem", "size", "ndim", "cells", *grid_kinds.OPTIONS):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option} cannot stand beside --matrix")
    if args.seed is not None and (args.rhs is not None or args.seed < 0):
        raise UsageError(f"--seed must be at least 0 and cannot stand beside --rhs with --matrix, got {args.seed}")
    if args.rhs_column is not None and args.rhs is None:
        raise UsageError("--rhs-column needs --rhs")
    if args.max_bytes is not None and args.max_bytes < 1:
        raise UsageError(f"--max-bytes must be at least 1, got {args.max_bytes}")
    if args.out is not None:
        check_writable("--out", args.out)
        if args.out.suffix not in OUTPUTS:
            raise UsageError(f"--out must end in {' or '.join(OUTPUTS)}, got {args.out.name!r}")


def load(args: argparse.Namespace) -> FileSystem:
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
    structure = examine_structure(read.matrix)
    b, side = (given, f"{args.rhs.name}") if given is not None else _make_side(read.matrix, structure, args.seed)
    notes = read.notes
    matrix = read.matrix
    if args.negate:
        matrix, b, notes = -matrix, -b, (*notes, "negated, and the right-hand side with it")
        structure = examine_structure(matrix)
    return FileSystem(args.matrix.name or str(args.matrix), read.layout, notes, matrix, b, side, structure)


def _make_side(matrix: Any, structure: MatrixStructure, seed: int | None) -> tuple[NDArray[Any], str]:
    """Return a right-hand side in the matrix's range, and what it is."""
    n = structure.unknowns
    ones = np.ones(n)
    b = matrix @ ones
    size = float(np.linalg.norm(abs(matrix) @ ones))
    if seed is None and float(np.linalg.norm(b)) > SINGULAR_DEFECT * size:
        return b, "A·1: the solution is all ones"
    x = np.random.default_rng(seed or 0).standard_normal(n)
    why = "" if seed is not None else " (A·1 is 0)"
    return matrix @ x, f"A·x of normally distributed x, seed {seed or 0}{why}"


def write_solution(path: Path, x: NDArray[Any]) -> None:
    """Write a solution `(n,)` as `.npy`, or as a Matrix Market array with all of its digits."""
    if path.suffix == ".npy":
        np.save(path, x)
        return
    field = "complex" if np.iscomplexobj(x) else "real"
    parts = [x.real, x.imag] if field == "complex" else [x]
    with path.open("w", encoding="ascii") as file:
        file.write(f"%%MatrixMarket matrix array {field} general\n{len(x)} 1\n")
        np.savetxt(file, np.stack(parts, axis=1), "%.17g")
