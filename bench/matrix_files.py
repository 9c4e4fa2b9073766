"""Reading matrix files: CPU seconds a format takes, beside SciPy's own reader where there is one.

    python bench/matrix_files.py                     # a million entries
    python bench/matrix_files.py --entries 100000 --repeats 1

The matrix is a three-dimensional Laplacian's pattern with random values of all digits. Least of the repeats,
interleaved. Each matrix that is read is compared with the one that was written.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from measuring.tables import terminal_table
from rich.console import Console
from scipy import io, sparse

from relaxon.solvers import gallery, read_matrix

ENTRIES_A_ROW = 6.9


def make_matrix(entries: int) -> Any:
    """A Laplacian's pattern with random values."""
    matrix = gallery.matrix("laplacian-3d", max(64, round(entries / ENTRIES_A_ROW)))
    matrix.data = np.random.default_rng(0).standard_normal(matrix.nnz)
    return matrix


def write_files(folder: Path, matrix: Any) -> dict[str, tuple[Path, Callable[[Path], Any] | None]]:
    """Write the matrix in every format; returns the files, each with SciPy's reader of it."""
    market = folder / "a.mtx"
    io.mmwrite(market, matrix)
    text = market.read_bytes()
    (folder / "fortran.mtx").write_bytes(text.replace(b"e-", b"D-"))
    (folder / "a.mtx.gz").write_bytes(gzip.compress(text, 1))
    sparse.save_npz(folder / "a.npz", matrix, compressed=False)
    io.hb_write(folder / "a.rua", matrix.tocsc())
    own = sparse.csr_array(matrix)
    parts: tuple[Any, ...] = (
        np.array([1211216, *own.shape, own.nnz], ">i4"),
        np.diff(own.indptr).astype(">i4"),
        own.indices.astype(">i4"),
        own.data.astype(">f8"),
    )
    (folder / "a.petsc").write_bytes(b"".join(part.tobytes() for part in parts))
    entries = own.tocoo()
    np.savetxt(folder / "a.txt", np.stack([entries.row, entries.col, entries.data], axis=1), "%d %d %.17g")
    return {
        "Matrix Market": (market, io.mmread),
        "Matrix Market, gzip": (folder / "a.mtx.gz", io.mmread),
        "Matrix Market, D exponents": (folder / "fortran.mtx", None),
        "Harwell-Boeing": (folder / "a.rua", io.hb_read),
        "PETSc binary": (folder / "a.petsc", None),
        "SciPy .npz": (folder / "a.npz", sparse.load_npz),
        "text triples": (folder / "a.txt", None),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    matrix = make_matrix(args.entries)
    wrong: list[str] = []
    cells: list[list[str]] = []
    with TemporaryDirectory() as name:
        for form, (path, theirs) in write_files(Path(name), matrix).items():
            least = {"ours": np.inf, "theirs": np.inf}
            for _ in range(args.repeats):
                for who, read in (("ours", read_matrix), ("theirs", theirs)):
                    if read is None:
                        continue
                    start = time.process_time()
                    found = sparse.csr_array(read(path))
                    least[who] = min(least[who], time.process_time() - start)
                    if who == "ours" and abs(found - matrix).max() > 1e-15 * abs(matrix).max():
                        wrong.append(form)
            other = f"{least['theirs']:.2f}" if theirs else ""
            cells.append([form, f"{path.stat().st_size / 1e6:.1f}", f"{least['ours']:.2f}", other])
    title = f"{matrix.nnz} entries, {matrix.shape[0]} rows"
    Console(width=100).print(terminal_table(("format", "MB", "ours, s", "SciPy, s"), cells, title))
    print(f"read wrong: {wrong or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
