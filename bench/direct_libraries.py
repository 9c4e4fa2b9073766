"""Sparse direct libraries behind one interface, and one run of one of them: what `bench/direct.py` starts as a process.

    python bench/direct_libraries.py rslab laplacian-3d 30000 1      # library, matrix, unknowns, threads

A run has a process of its own, so that a library that ends the process is seen to, and so that its memory is measured.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from relaxon.solvers import gallery
from relaxon.solvers.sparse import MatrixSystem

KINDS = {"saddle-2d": "symmetric-indefinite", "shifted-2d": "symmetric-indefinite", "convection-2d": "nonsymmetric"}
"""Matrices that are not positive definite and that the gallery does not have; all others are its own."""


def other(name: str, n: int) -> Any:
    """A matrix that is not positive definite: a saddle point, a Helmholtz operator, upwind convection and diffusion."""
    if name == "saddle-2d":
        return stokes(max(4, int((n / 3) ** 0.5)))
    a = gallery.matrix("laplacian-2d", n)
    size = a.shape[0]
    if name == "shifted-2d":
        return sparse.csr_array(a - 0.03 * float(a.diagonal().max()) * sparse.eye_array(size))
    upwind = sparse.diags_array([-1.0, 1.0], offsets=[-1, 0], shape=(size, size))
    return sparse.csr_array(a + 2.0 * float(a.diagonal().max()) * upwind)


def stokes(m: int) -> Any:
    """Stokes flow in a closed box of `m` by `m` cells, velocities on the faces, one pressure held: a saddle point."""
    second = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    inner = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m - 1, m - 1))
    slope = sparse.diags_array([1.0, -1.0], offsets=[0, -1], shape=(m, m - 1))
    one, less = sparse.eye_array(m), sparse.eye_array(m - 1)
    along = sparse.kron(inner, one) + sparse.kron(less, second)
    across = sparse.kron(second, less) + sparse.kron(one, inner)
    divergence = sparse.hstack([sparse.kron(slope, one), sparse.kron(one, slope)], format="csr")[1:]
    velocity = sparse.block_diag([along, across])
    return sparse.csr_array(sparse.block_array([[velocity, divergence.T], [divergence, None]], format="csr"))


def matrix(name: str, n: int) -> tuple[Any, str]:
    """The matrix and its kind; "singular" is a closed box as it is, "neumann-2d" with one unknown held."""
    if name in KINDS:
        return other(name, n), KINDS[name]
    if name == "singular":
        return gallery.matrix("neumann-2d", n), "singular"
    return MatrixSystem.of(gallery.matrix(name, n)).regular(), "spd"


class Library:
    """One library: `analysed` (what depends on the pattern), then `factored`, then `solve`."""

    kinds: tuple[str, ...] = ("spd", "singular")
    distribution = ""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def analyse(self, a: Any, kind: str) -> None: ...

    def factor(self, a: Any) -> None:
        raise NotImplementedError

    def solve(self, b: Any) -> Any:
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """Entries of the factor and, where the library foretells it, the bytes that it expects to need."""
        return {}


class SuperLU(Library):
    kinds = ("spd", "singular", "symmetric-indefinite", "nonsymmetric")
    distribution = "scipy"

    def analyse(self, a: Any, kind: str) -> None:
        self.kind = kind

    def factor(self, a: Any) -> None:
        from scipy.sparse.linalg import splu

        if self.kind in ("spd", "singular"):
            options: dict[str, Any] = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
            self.lu = splu(a.tocsc(), permc_spec="MMD_AT_PLUS_A", **options)
        else:
            self.lu = splu(a.tocsc(), permc_spec="MMD_AT_PLUS_A" if self.kind != "nonsymmetric" else "COLAMD")

    def solve(self, b: Any) -> Any:
        return self.lu.solve(b)

    def figures(self) -> dict[str, float]:
        return {"factor": float(self.lu.nnz)}


class Rslab(Library):
    kinds = SuperLU.kinds
    distribution = "rslab"
    ordering = "auto"

    def analyse(self, a: Any, kind: str) -> None:
        import rslab

        self.path = "lu" if kind == "nonsymmetric" else "ldlt"
        self.symbolic = rslab.analyze(a, path=self.path, ordering=self.ordering, threads=self.threads)
        self.plan = self.symbolic.memory_plan("float64", threads=self.threads)

    def factor(self, a: Any) -> None:
        self.made = self.symbolic.factor(a, threads=self.threads)

    def solve(self, b: Any) -> Any:
        return self.made.solve(b) if b.ndim == 1 else self.made.solve_many(b)

    def figures(self) -> dict[str, float]:
        return {"factor": float(self.made.factor_nnz), "foretold": float(self.plan["peak_bytes"])}


class RslabFill(Rslab):
    """The order of minimum fill alone, as `solver="direct"` asks for in two dimensions; no race of orders."""

    ordering = "amf"


class Multifrontal(Library):
    """The project's own factor."""

    distribution = "relaxon"

    def analyse(self, a: Any, kind: str) -> None:
        from relaxon.solvers.kernels.threads import set_num_threads
        from relaxon.solvers.sparse.direct.multifrontal import MultifrontalFactoriser

        set_num_threads(self.threads)
        self.analysis = MultifrontalFactoriser(a)

    def factor(self, a: Any) -> None:
        self.made = self.analysis.factor(a)

    def solve(self, b: Any) -> Any:
        return self.made.solve(b)

    def figures(self) -> dict[str, float]:
        return {"factor": self.made.entries, "foretold": self.analysis.size.memory_bytes}


class Feral(Library):
    kinds = ("spd", "singular", "symmetric-indefinite", "nonsymmetric")
    distribution = "feral-solver"

    def analyse(self, a: Any, kind: str) -> None:
        import feral

        self.kind, self.feral = kind, feral
        self.solver = None if kind == "nonsymmetric" else feral.Solver(parallel=self.threads > 1)

    def factor(self, a: Any) -> None:
        if self.solver is None:
            c = a.tocoo()
            rows, columns = c.row.astype(np.int64), c.col.astype(np.int64)
            self.lu = self.feral.LuFactor(self.feral.LuMatrix.from_triplet(a.shape[0], rows, columns, c.data))
            return
        status, _ = self.solver.factor(self.feral.from_scipy(a, symmetric="full"))
        if status != self.feral.FactorStatus.SUCCESS:
            raise RuntimeError(f"status {status}")

    def solve(self, b: Any) -> Any:
        if self.solver is None:
            return self.lu.ftran(b) if b.ndim == 1 else np.stack([self.lu.ftran(c) for c in b.T], axis=1)
        return self.solver.solve(b)

    def figures(self) -> dict[str, float]:
        return {"factor": float(self.lu.factor_nnz if self.solver is None else self.solver.factor_nnz)}


class Pardiso(Library):
    kinds = SuperLU.kinds
    distribution = "pypardiso"
    types: ClassVar[dict[str, int]] = {"spd": 2, "singular": 2, "symmetric-indefinite": -2, "nonsymmetric": 11}

    def analyse(self, a: Any, kind: str) -> None:
        from pypardiso import PyPardisoSolver

        self.kind, self.solver = kind, PyPardisoSolver(mtype=self.types[kind])

    def _half(self, a: Any) -> Any:
        if self.kind == "nonsymmetric":
            return sparse.csr_matrix(a)
        half = sparse.coo_array(sparse.triu(a))
        n = a.shape[0]
        rows, columns = np.concatenate([half.row, np.arange(n)]), np.concatenate([half.col, np.arange(n)])
        data = np.concatenate([half.data, np.zeros(n)])
        return sparse.csr_matrix((data, (rows, columns)), shape=(n, n))  # every diagonal entry is stored

    def factor(self, a: Any) -> None:
        self.a = self._half(a)
        self.solver.factorize(self.a)

    def solve(self, b: Any) -> Any:
        return self.solver.solve(self.a, b)

    def figures(self) -> dict[str, float]:
        return {"factor": float(self.solver.iparm[17])}


class Cholespy(Library):
    distribution = "cholespy"

    def factor(self, a: Any) -> None:
        from cholespy import CholeskySolverD, MatrixType

        self.n = a.shape[0]
        self.solver = CholeskySolverD(
            self.n, a.indptr.astype(np.int32), a.indices.astype(np.int32), a.data, MatrixType.CSR
        )

    def solve(self, b: Any) -> Any:
        x = np.zeros_like(b)
        self.solver.solve(b, x)
        return x


class Homa(Library):
    kinds = ("spd", "singular")
    distribution = "homapy"

    def analyse(self, a: Any, kind: str) -> None:
        import homapy

        self.solver = homapy.Solver(backend="cholmod", dtype="float64")

    def factor(self, a: Any) -> None:
        self.solver.set_matrix(sparse.csr_matrix(a))
        self.solver.ordering()
        self.solver.analyze_pattern()
        self.solver.factorize()

    def solve(self, b: Any) -> Any:
        return self.solver.solve(b)


LIBRARIES: dict[str, type[Library]] = {
    "multifrontal": Multifrontal,
    "superlu": SuperLU,
    "rslab": Rslab,
    "rslab-fill": RslabFill,
    "feral": Feral,
    "pardiso": Pardiso,
    "cholespy": Cholespy,
    "homapy": Homa,
}


def peak_bytes(reset: bool = False) -> int:
    """The most memory that this process has held since the last reset, or holds now where there is no `/proc`."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Elapsed and processor seconds, and what `run` returns."""
    start, busy = time.perf_counter(), time.process_time()
    found = run()
    return time.perf_counter() - start, time.process_time() - busy, found


def run_once(library: str, name: str, n: int, threads: int) -> dict[str, Any]:
    """Factor and solve: seconds of analysis, factor, one and eight solves, a second factor; residual, memory."""
    a, kind = matrix(name, n)
    rng = np.random.default_rng(1)
    made = LIBRARIES[library](threads)
    found: dict[str, Any] = {"unknowns": a.shape[0], "entries": a.nnz, "kind": kind}
    if kind not in made.kinds:
        return found | {"cut": "no"}
    found["version"] = metadata.version(made.distribution)
    small, _ = matrix(name, 400)
    warm = LIBRARIES[library](threads)  # loads the library
    if kind != "singular":
        warm.analyse(small, kind)
        warm.factor(small)
        warm.solve(np.ones(small.shape[0]))
    b = a @ rng.standard_normal(a.shape[0])
    before = peak_bytes(reset=True)
    found["analyse"], first, _ = timed(lambda: made.analyse(a, kind))
    found["factor"], second, _ = timed(lambda: made.factor(a))
    found["solve"], third, x = timed(lambda: made.solve(b))
    found["bytes"] = peak_bytes() - before
    found["processor"] = first + second + third
    found["residual"] = float(np.linalg.norm(b - a @ x) / np.linalg.norm(b))
    found |= {f"library_{key}": value for key, value in made.figures().items()}
    if kind != "singular":
        eight = rng.standard_normal((a.shape[0], 8))
        found["eight"], _, _ = timed(lambda: made.solve(eight))
        found["again"], _, _ = timed(lambda: made.factor(2.0 * a))
    return found


if __name__ == "__main__":
    library, name, n, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    out = os.dup(1)
    os.dup2(2, 1)  # what a library writes is no part of the answer
    try:
        answer = run_once(library, name, n, threads)
    except Exception as error:  # a library may raise anything; it is shown
        answer = {"cut": f"{type(error).__name__}: {error}"[:200]}
    os.write(out, json.dumps(answer).encode())
