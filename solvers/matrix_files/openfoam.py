"""OpenFOAM's LDU matrices: lists of the diagonal, upper and lower coefficients, and of the two cells of each face.

A folder holds `diag` and `upper`, `lower` where the matrix is not symmetric, and the addressing: `lowerAddr` and
`upperAddr`, or the mesh's `owner` and `neighbour`, there or in a nearby `polyMesh`. Face f couples its lower cell l and
its upper cell u: `A[l, u] = upper[f]`, `A[u, l] = lower[f]`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.assembly import MatrixFile, assemble, check_indices, parse_indices
from relaxon.solvers.matrix_files.contents import MatrixBytes, MatrixFileError, open_bytes
from relaxon.solvers.matrix_files.number_text import NumberTextError, parse_rows

PARTS = ("diag", "upper", "lower")
ADDRESSES = (("lowerAddr", "upperAddr"), ("owner", "neighbour"))
"""Names of the lists of the faces' lower and upper cells, of the matrix and of the mesh."""
MESHES = (".", "polyMesh", "constant/polyMesh", "../polyMesh", "../constant/polyMesh", "../../constant/polyMesh")
"""Folders that may hold the lists of the mesh, relative to that of the matrix."""
COMMENT = re.compile(rb"/\*.*?\*/|//[^\n]*", re.DOTALL)
HEADER = re.compile(rb"\s*FoamFile\s*\{([^}]*)\}")
BINARY = re.compile(rb"format\s+binary\s*;")
LIST = re.compile(rb"\s*(?:nonuniform\s+)?(?:List<\w+>\s*)?(\d+)\s*([({])")


def is_openfoam(start: bytes) -> bool:
    """Return whether a file with this start is a list of OpenFOAM with its header."""
    return HEADER.match(COMMENT.sub(b"", start)) is not None


def read_openfoam_matrix(path: Path, max_bytes: int) -> MatrixFile:
    """Return the matrix of a folder, or of the folder that one of its files lies in."""
    folder = path if path.is_dir() else path.parent
    diagonal = _read_part(folder, "diag", max_bytes)
    upper = _read_part(folder, "upper", max_bytes)
    lower = _read_part(folder, "lower", max_bytes) if _find(folder, "lower") else upper
    first, second, where = _read_addresses(folder, max_bytes, len(upper))
    for name, values in (("lower", lower), (where[0], first), (where[1], second)):
        if len(values) != len(upper):
            raise MatrixFileError(folder / name, "", f"expected {len(upper)} values, as upper has, got {len(values)}")
    n = len(diagonal)
    check_indices(folder / where[0], first, n, "cell", 0)
    check_indices(folder / where[1], second, n, "cell", 0)
    cells = np.arange(n)
    rows = np.concatenate([cells, first, second])
    columns = np.concatenate([cells, second, first])
    matrix, notes = assemble(folder, (n, n), rows, columns, np.concatenate([diagonal, upper, lower]))
    said = () if _find(folder, "lower") else ("there is no file lower: the matrix is symmetric",)
    return MatrixFile(matrix, f"OpenFOAM LDU, addressed by {where[0]} and {where[1]}", (*said, *notes))


def read_openfoam_columns(file: MatrixBytes) -> NDArray[Any]:
    """Return a list of scalars, such as a source, as `(n, 1)`."""
    return _read_list(file).reshape(-1, 1)


def _read_addresses(
    folder: Path, max_bytes: int, faces: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, str]]:
    for names in ADDRESSES:
        for place in MESHES if names[0] == "owner" else MESHES[:1]:
            if _find(folder / place, names[0]) and _find(folder / place, names[1]):
                first, second = (_read_part(folder / place, name, max_bytes) for name in names)
                # The owners are those of all faces, of which the inner ones come first.
                first = first[:faces] if names[0] == "owner" else first
                return parse_indices(folder / names[0], first, ""), parse_indices(folder / names[1], second, ""), names
    raise MatrixFileError(
        folder, "", "expected the faces' cells as lowerAddr and upperAddr, or a mesh's owner and neighbour, got neither"
    )


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_part(folder: Path, name: str, max_bytes: int) -> NDArray[np.float64]:
    path = _find(folder, name)
    if path is None:
        raise MatrixFileError(folder, "", f"expected the files {', '.join(PARTS)} of an LDU matrix, {name} is missing")
    with open_bytes(path, max_bytes) as file:
        return _read_list(file)


def _read_list(file: MatrixBytes) -> NDArray[np.float64]:
    """Return an ASCII list: `N ( … )`, or `N{value}` where all values are equal."""
    content = file.read_all()
    head = COMMENT.sub(lambda found: b"\n" * found.group().count(b"\n"), content[:4096]) + content[4096:]
    header = HEADER.match(head)
    if header and BINARY.search(header.group(1)):
        raise file.error_at("", "expected format ascii, got binary: convert it by foamFormatConvert")
    start = LIST.match(head, header.end() if header else 0)
    if start is None:
        raise file.error_at("", "expected a list 'N ( … )' behind the header, got none")
    count, uniform = int(start.group(1)), start.group(2) == b"{"
    end = head.find(b"}" if uniform else b")", start.end())
    if end < 0:
        raise file.error_at("", f"expected the end of a list of {count} values, got the end of the file")
    line = head.count(b"\n", 0, start.end()) + 1
    if not uniform:
        file.check_room(count, 2, "values")
    body = b"\n".join(head[start.end() : end].split()) if uniform or b"\n" not in head[start.end() : end] else None
    try:
        values = parse_rows(body if body is not None else head[start.end() : end], 1)[:, 0]
    except NumberTextError as error:
        raise file.error_at(f"line {line + error.line}", error.problem) from None
    if len(values) != (1 if uniform else count):
        raise file.error_at(f"line {line}", f"{count} values are declared, the list holds {len(values)}")
    if uniform:
        if count > file.max_bytes // 8:
            raise file.error_at(
                f"line {line}", f"{count} equal values take more than max_bytes = {file.max_bytes} bytes"
            )
        return np.full(count, values[0])
    return values
