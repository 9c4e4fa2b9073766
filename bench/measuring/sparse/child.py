"""One contestant of `bench/sparse.py` in a process of its own: it solves what it is told to, and measures itself.

    python bench/measuring/sparse/child.py NAME --threads N [--cpu]

A line of JSON on the standard input is a job, `{"system": FOLDER, "rtol": …, "dimension": …, "bytes": …}`; two lines
answer: one when the matrix is loaded, and one with seconds, iterations and, where `bytes` are asked for, those. Only
then free memory is given back to the system before and after the run. The answer itself is left in the folder.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RELAXON_NUM_THREADS")
WARM_UP, FEW = 45_000, 1_500
"""Unknowns of the systems that are solved first, so that everything is compiled: whatever `auto` may choose, too."""
MAX_ITERATIONS = 1_000
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "pyamg sa": ("smoothed_aggregation_solver", {}),
    "pyamg sa 0.25": ("smoothed_aggregation_solver", {"strength": ("symmetric", {"theta": 0.25})}),
    "pyamg rs": ("ruge_stuben_solver", {}),
}
"""PyAMG's set-ups: its defaults, and smoothed aggregation by strong couplings alone."""
COARSENINGS = {"amgcl sa": "smoothed_aggregation", "amgcl rs": "ruge_stuben", "amgcl aggregation": "aggregation"}
Answer = tuple[Any, dict[str, Any], object]
"""`x`, what to say about it, and what has to be kept for another right-hand side."""


def own(name: str, a: Any, b: Any, rtol: float, dimension: int) -> Answer:
    """One of the project's solvers."""
    from relaxon.solvers import prepare

    del dimension
    prepared = prepare(a, solver=name)
    solution = prepared.solve(b, rtol=rtol)
    says = {"iterations": solution.iterations, "says": solution.result.value, "message": solution.message}
    return solution.x, says, prepared


def pyamg(name: str, a: Any, b: Any, rtol: float, dimension: int) -> Answer:
    """PyAMG under one of `OPTIONS`, with its conjugate gradients."""
    import numpy as np
    import pyamg as peer
    from scipy import sparse

    del dimension
    factory, options = OPTIONS[name]
    # Its estimates of spectral radii draw from this stream.
    np.random.seed(0)  # noqa: NPY002
    residuals: list[float] = []
    hierarchy = getattr(peer, factory)(sparse.csr_matrix(a), **options)
    x = hierarchy.solve(b, tol=rtol, accel="cg", maxiter=MAX_ITERATIONS, residuals=residuals)
    return x, {"iterations": len(residuals) - 1}, hierarchy


def peer(name: str, a: Any, b: Any, rtol: float, dimension: int) -> Answer:
    """A solver of `relaxon.solvers.sparse.peers` by itself: set-up and one answer, without this library's checks."""
    from relaxon.solvers.sparse.peers import AMGCL, PEERS, Hypre

    solver: Any = AMGCL(COARSENINGS[name]) if name in COARSENINGS else PEERS[name.split()[0]]  # type: ignore[arg-type]
    if name == "hypre nodes":
        solver = Hypre(dimension)
    factor = solver.set_up(a)
    x, iterations = factor(b, rtol)
    return x, {"iterations": iterations}, factor


def contestant(name: str) -> Callable[..., Answer]:
    """Who answers to a name."""
    if name in OPTIONS:
        return pyamg
    return peer if name.split()[0] in ("hypre", "cholmod", "pardiso", "apxchol", "amgcl") else own


def status(field: str) -> int:
    """A figure of this process's memory, in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


def settle() -> int:
    """Give free memory back to the system and forget the peak; the resident bytes."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def load(folder: Path, name: str) -> tuple[Any, Any]:
    """The matrix and the right-hand side of a job; direct peers get the regular one of a singular system."""
    import numpy as np
    from scipy import sparse

    regular = name.split()[0] in ("cholmod", "pardiso", "amgcl") and (folder / "regular_data.npy").exists()
    kind = "regular" if regular else "matrix"
    data, indices, indptr = (np.load(folder / f"{kind}_{part}.npy") for part in ("data", "indices", "indptr"))
    b = np.load(folder / "b.npy")
    return sparse.csr_array((data, indices, indptr), shape=(len(b), len(b))), b


def measured(name: str, job: dict[str, Any], clock: Callable[[], float], loaded: Callable[[], None]) -> dict[str, Any]:
    """One run: seconds, what was said, and, if asked for, bytes beside the matrix, at most and with the set-up kept."""
    import numpy as np

    folder = Path(job["system"])
    a, b = load(folder, name)
    loaded()
    before = settle() if job["bytes"] else 0
    start = clock()
    try:
        x, found, kept = contestant(name)(name, a, b, job["rtol"], job["dimension"])
    except Exception as error:  # a peer may raise anything; it is shown
        return {"failed": f"{type(error).__name__}: {error}"[:160]}
    seconds = clock() - start
    if job["bytes"]:
        peak = status("VmHWM") - before
        found |= {"peak_bytes": max(peak, 0), "kept_bytes": max(settle() - before - x.nbytes, 0)}
    del kept
    np.save(folder / "x.npy", np.asarray(x, np.float64))
    return {"seconds": seconds, **found}


def warm_up(name: str) -> None:
    """Compile and load all that a run needs."""
    import numpy as np

    from relaxon.core.extras import find_missing
    from relaxon.solvers import gallery
    from relaxon.solvers.sparse import MATRIX_SOLVERS

    large = name in ("auto", "amg")
    others = [other for other in MATRIX_SOLVERS if not (other.startswith("pyamg") and find_missing(["pyamg"]))]
    for one, n in ((name, WARM_UP if large else FEW), *((other, FEW) for other in others if name == "auto")):
        a = gallery.matrix("lognormal-3d", n)
        contestant(one)(one, a, np.ones(a.shape[0]), 1e-6, 1)
    if name == "auto":  # finds nodes in the pattern, and then runs other kernels
        a = gallery.matrix("elasticity-2d", WARM_UP)
        own(name, a, np.ones(a.shape[0]), 1e-6, 1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    os.environ |= dict.fromkeys(THREADS, str(args.threads))  # before anything is loaded that reads them
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    warnings.simplefilter("ignore")
    # Libraries write to the standard output: it is kept for answers alone.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    try:
        warm_up(args.name)
    except Exception as error:
        say({"failed": f"{type(error).__name__}: {error}"[:160]})
        return 1
    say({"ready": True})
    for line in sys.stdin:
        clock = time.process_time if args.cpu else time.perf_counter
        say(measured(args.name, json.loads(line), clock, lambda: say({"loaded": True})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
