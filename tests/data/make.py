"""Write the matrices beside this file: `python tests/data/make.py`, which gives the same bytes each time.

- `heat-plate.mtx.gz`: heat conduction on random triangles with contrast, 600 unknowns, symmetric, Matrix Market.
- `heat-plate-rhs.mtx.gz`: a source for it.
- `network.npz`: the Laplacian of a road-like network in two parts, 900 nodes, singular by constants.
- `beam.rsa.gz`: an elastic body, 544 unknowns, Harwell-Boeing with Fortran's exponents and a right-hand side.
- `half.petsc`: the upper half of a symmetric matrix, as PETSc's SBAIJ writes it.
- `cavity/`: an OpenFOAM LDU matrix of a pressure equation on 12×12 cells, with its source.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from relaxon.solvers import gallery

FOLDER = Path(__file__).parent
FOAM = """FoamFile
{{
    version     2.0;
    format      ascii;
    class       {kind};
    object      {name};
}}

{count}
(
{values}
)
"""


def pack(name: str, text: str) -> None:
    """Write text by gzip without a time or a name in it."""
    with (FOLDER / name).open("wb") as file, gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
        packed.write(text.encode())


def rounded(matrix: Any) -> Any:
    """The matrix with entries of six digits, which is as symmetric and takes less room."""
    own = sparse.csr_array(matrix)
    own.data = np.array([float(f"{value:.5e}") for value in own.data])
    return own


def market(matrix: Any) -> str:
    """A symmetric matrix as Matrix Market text."""
    low = sparse.tril(matrix).tocoo()
    lines = [f"{i + 1} {j + 1} {value:.5e}" for i, j, value in zip(low.row, low.col, low.data, strict=True)]
    head = "%%MatrixMarket matrix coordinate real symmetric\n% heat conduction on random triangles, with contrast"
    return "\n".join([head, f"{low.shape[0]} {low.shape[1]} {low.nnz}", *lines]) + "\n"


def boeing(matrix: Any, b: NDArray[np.float64]) -> str:
    """A symmetric matrix and a right-hand side as Harwell-Boeing text, with `D` exponents that touch each other."""
    low = sparse.tril(matrix).tocsc()
    low.sort_indices()

    def lines(texts: list[str], each: int) -> list[str]:
        return ["".join(texts[at : at + each]) for at in range(0, len(texts), each)]

    def numbers(values: Any) -> list[str]:
        return lines([f"{value:12.5e}".replace("e", "D") for value in values], 6)

    pointers = lines([f"{value + 1:6d}" for value in low.indptr], 12)
    indices = lines([f"{value + 1:6d}" for value in low.indices], 12)
    values, right = numbers(low.data), numbers(b)
    n = matrix.shape[0]
    counts = [len(pointers), len(indices), len(values), len(right)]
    head = [
        f"{'An elastic body, plane strain':<72}{'BEAM':<8}",
        "".join(f"{count:14d}" for count in (sum(counts), *counts)),
        f"{'RSA':<14}{n:14d}{n:14d}{low.nnz:14d}{0:14d}",
        f"{'(12I6)':<16}{'(12I6)':<16}{'(1P,6D12.5)':<20}{'(1P,6D12.5)':<20}",
        f"{'F':<14}{1:14d}{0:14d}",
    ]
    return "\n".join([*head, *pointers, *indices, *values, *right]) + "\n"


def petsc(matrix: Any) -> bytes:
    """The upper half of a matrix in PETSc's binary format."""
    half = sparse.csr_array(sparse.triu(matrix))
    half.sort_indices()
    head = np.array([1211216, *half.shape, half.nnz], ">i4")
    parts = (head, np.diff(half.indptr).astype(">i4"), half.indices.astype(">i4"), half.data.astype(">f8"))
    return b"".join(part.tobytes() for part in parts)


def cavity(side: int) -> None:
    """A pressure equation as OpenFOAM assembles it: negative diagonal, one cell held."""
    folder = FOLDER / "cavity"
    folder.mkdir(exist_ok=True)
    number = np.arange(side * side).reshape(side, side)
    lower = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    upper = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    order = np.lexsort((upper, lower))  # faces are numbered by their lower cell
    lower, upper = lower[order], upper[order]
    couplings = np.ones(len(lower))
    diagonal = -(np.bincount(lower, minlength=side * side) + np.bincount(upper, minlength=side * side)).astype(float)
    diagonal[0] *= 2  # the reference cell
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    source = np.sin(np.pi * (x + 0.5) / side) * np.cos(np.pi * (y + 0.5) / side)
    for name, kind, values in (
        ("diag", "scalarField", diagonal),
        ("upper", "scalarField", couplings),
        ("source", "scalarField", source.ravel()),
        ("lowerAddr", "labelList", lower),
        ("upperAddr", "labelList", upper),
    ):
        text = "\n".join(f"{value:.6g}" for value in values)
        (folder / name).write_text(FOAM.format(kind=kind, name=name, count=len(values), values=text))


def main() -> None:
    plate = rounded(gallery.matrix("triangles-2d", 600, seed=1))
    spread = sparse.diags_array(np.round(10.0 ** np.random.default_rng(2).uniform(-0.5, 0.5, plate.shape[0]), 2))
    plate = rounded(spread @ plate @ spread)
    pack("heat-plate.mtx.gz", market(plate))
    source = np.round(np.random.default_rng(3).standard_normal(plate.shape[0]), 3)
    text = "\n".join(f"{value:g}" for value in source)
    pack("heat-plate-rhs.mtx.gz", f"%%MatrixMarket matrix array real general\n{len(source)} 1\n{text}\n")
    roads = [gallery.matrix("neumann-2d", n) for n in (400, 500)]
    stream = io.BytesIO()
    sparse.save_npz(stream, sparse.csr_array(sparse.block_diag(roads)))
    (FOLDER / "network.npz").write_bytes(stream.getvalue())
    beam = rounded(gallery.matrix("elasticity-2d", 500))
    pack("beam.rsa.gz", boeing(beam, np.round(beam @ np.ones(beam.shape[0]), 4)))
    (FOLDER / "half.petsc").write_bytes(petsc(gallery.matrix("laplacian-2d", 100)))
    cavity(12)


if __name__ == "__main__":
    main()
