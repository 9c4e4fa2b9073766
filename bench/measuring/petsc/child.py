"""Run by bench/petsc.py with Debian's own Python: PETSc's preconditioners on a CSR matrix from files, timed here.

It must not import anything of the project: its NumPy is another. Arguments: the folder with `indptr.npy`,
`indices.npy`, `data.npy`, `b.npy` and `job.json`, and the same system as a stencil on the whole box (`diagonal.npy`,
`couplings.npy`, `box_b.npy`), for hypre's geometric multigrids. Rank 0 writes `rows.json`, and `x_<k>.npy` for each
variant.
"""

import json
import sys
import time
from pathlib import Path

import petsc4py

petsc4py.init(["petsc", "-options_left", "no"])
import numpy as np  # noqa: E402
from petsc4py import PETSc  # noqa: E402

MAX_ITERATIONS = 10_000
DIVERGED = 1e10
"""Times the right-hand side's norm; PETSc's own 1e4 stops CG early where its residual rises before it falls."""
STRUCTURED = ("pfmg", "smg")
"""Preconditioners that work on a stencil."""


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    systems = {False: loaded(folder)}
    rows = []
    for number, variant in enumerate(job["variants"]):
        row = {"name": variant["name"], "options": variant["options"], "setup": [], "solve": [], "failed": ""}
        structured = variant["options"]["pc_type"] in STRUCTURED
        try:
            if structured not in systems:
                systems[structured] = loaded_stencil(folder)
            matrix, b, x = systems[structured]
            for _ in range(job["repeats"]):
                setup, solve, iterations, reason = once(matrix, b, x, variant["options"], job["rtol"])
                row["setup"].append(setup)
                row["solve"].append(solve)
                row["iterations"], row["reason"] = iterations, reason
                if largest(sum(row["setup"]) + sum(row["solve"])) > job["seconds"]:
                    break
            everything = gathered(x)
            if everything is not None:
                np.save(folder / f"x_{number}.npy", everything)
        except PETSc.Error as error:
            row["failed"] = f"PETSc error {error.ierr}"
        rows.append(row)
        if PETSc.COMM_WORLD.rank == 0:
            # After each variant, so that one that takes too long loses none before it.
            about = {"petsc": ".".join(map(str, PETSc.Sys.getVersion())), "ranks": PETSc.COMM_WORLD.size, "rows": rows}
            (folder / "rows.part").write_text(json.dumps(about))
            (folder / "rows.part").replace(folder / "rows.json")


def loaded(folder: Path):  # type: ignore[no-untyped-def]
    """This rank's rows of the matrix and of the right-hand side, and a vector for the solution."""
    indptr, indices, data, right = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("indptr", "indices", "data", "b")
    )
    n = len(right)
    comm = PETSc.COMM_WORLD
    low, high = n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size
    first, last = int(indptr[low]), int(indptr[high])
    csr = (
        np.asarray(indptr[low : high + 1] - first, PETSc.IntType),
        np.asarray(indices[first:last], PETSc.IntType),
        np.asarray(data[first:last]),
    )
    matrix = PETSc.Mat().createAIJ(((high - low, n), (high - low, n)), csr=csr, comm=comm)
    matrix.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    matrix.setOption(PETSc.Mat.Option.SPD, True)
    matrix.assemble()
    b, x = matrix.createVecs()
    b.setArray(np.array(right[low:high]))
    return matrix, b, x


def loaded_stencil(folder: Path):  # type: ignore[no-untyped-def]
    """The system on the whole box in hypre's form, split along the first axis so that vectors keep their order."""
    diagonal, couplings, right = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("diagonal", "couplings", "box_b")
    )
    comm, (n0, n1, n2) = PETSc.COMM_WORLD, diagonal.shape
    da = PETSc.DMDA().create(
        dim=3,
        sizes=(n2, n1, n0),  # PETSc's first axis is the fastest
        proc_sizes=(1, 1, comm.size),
        stencil_type=PETSc.DMDA.StencilType.STAR,
        stencil_width=1,
        comm=comm,
    )
    da.setMatType("hyprestruct")
    matrix = da.createMat()
    (_, _), (_, _), (low, high) = da.getRanges()
    ghosts = da.getGhostRanges()
    (g2, g1, g0), (e2, e1, _) = zip(*ghosts, strict=True)
    strides = ((e1 - g1) * (e2 - g2), e2 - g2, 1)
    for i in range(low, high):
        for j in range(n1):
            centre = (i - g0) * strides[0] + (j - g1) * strides[1] - g2
            below = [couplings[axis, i, j] for axis in range(3)]
            above = [
                couplings[0, i + 1, j] if i + 1 < n0 else None,
                couplings[1, i, j + 1] if j + 1 < n1 else None,
            ]
            row = diagonal[i, j]
            for k in range(n2):
                columns, values = [centre + k], [row[k]]
                for axis, at in enumerate((i, j, k)):
                    if at > 0:
                        columns.append(centre + k - strides[axis])
                        values.append(-below[axis][k])
                    if at + 1 < (n0, n1, n2)[axis]:
                        columns.append(centre + k + strides[axis])
                        values.append(-(above[axis][k] if axis < 2 else below[2][k + 1]))
                matrix.setValuesLocal(columns[:1], columns, values)
    matrix.assemble()
    b, x = da.createGlobalVec(), da.createGlobalVec()
    b.setArray(np.array(right[low:high]).reshape(-1))
    return matrix, b, x


def once(matrix, b, x, options, rtol):  # type: ignore[no-untyped-def]
    """A set-up and a solve from nothing: seconds of both, iterations, PETSc's reason."""
    known = PETSc.Options()
    for name, value in options.items():
        known[name] = value
    # A copy, so that nothing that an earlier variant has attached to the matrix is found ready. (hypre's stencils
    # cannot be copied; nothing is attached to them.)
    own = matrix if "struct" in matrix.getType() else matrix.copy()
    ksp = PETSc.KSP().create(PETSc.COMM_WORLD)
    ksp.setOperators(own)
    ksp.setType("cg")
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.setTolerances(rtol=rtol, atol=0.0, divtol=DIVERGED, max_it=MAX_ITERATIONS)
    ksp.setFromOptions()
    x.set(0.0)
    PETSc.COMM_WORLD.barrier()
    start = time.perf_counter()
    ksp.setUp()
    ksp.getPC().setUp()
    PETSc.COMM_WORLD.barrier()
    ready = time.perf_counter()
    ksp.solve(b, x)
    PETSc.COMM_WORLD.barrier()
    done = time.perf_counter()
    iterations, reason = ksp.getIterationNumber(), ksp.getConvergedReason()
    ksp.destroy()
    if own is not matrix:
        own.destroy()
    for name in options:
        known.delValue(name)
    return ready - start, done - ready, iterations, int(reason)


def largest(value):  # type: ignore[no-untyped-def]
    """The largest of the ranks' values: they must all stop at the same repeat, or one waits for ever."""
    values = PETSc.Vec().createMPI((1, None), comm=PETSc.COMM_WORLD)
    values.setArray(np.array([value]))
    return values.max()[1]


def gathered(x):  # type: ignore[no-untyped-def]
    """The whole vector on rank 0, None elsewhere."""
    scatter, everything = PETSc.Scatter.toZero(x)
    scatter.scatter(x, everything)
    return everything.getArray().copy() if PETSc.COMM_WORLD.rank == 0 else None


main(Path(sys.argv[1]))
