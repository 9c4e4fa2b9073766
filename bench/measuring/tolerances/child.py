"""Run by bench/tolerances.py with Debian's own Python: PETSc's CG, stopped by each of its norms.

It must not import anything of the project: its NumPy is another. The argument is the folder with each system's CSR
arrays and `<system>_b.npy`; `rows.json` and `x_<k>.npy` are written there.
"""

import json
import sys
from pathlib import Path

import petsc4py

petsc4py.init(["petsc", "-options_left", "no"])
import numpy as np  # noqa: E402
from petsc4py import PETSc  # noqa: E402

TOLERANCE = 1e-6
DEFAULT, WIDE = PETSc.DEFAULT, 1e10
NORMS = {
    "default": (None, "‖Mr‖/‖Mb‖"),
    "unpreconditioned": (PETSc.KSP.NormType.UNPRECONDITIONED, "‖r‖/‖b‖"),
    "natural": (PETSc.KSP.NormType.NATURAL, "√rᵀMr/√bᵀMb"),
}
SIDE = 40


def main(folder: Path) -> None:
    rows, solutions = [], []
    for system in ("laplacian", "mixed"):
        parts = [np.load(folder / f"{system}_{part}.npy") for part in ("indptr", "indices", "data")]
        b = np.load(folder / f"{system}_b.npy")
        indptr, indices = (part.astype(PETSc.IntType) for part in parts[:2])
        matrix = PETSc.Mat().createAIJ((len(b), len(b)), csr=(indptr, indices, parts[2]))
        for name, (norm, measure) in NORMS.items():
            for divtol in (DEFAULT, WIDE) if name == "unpreconditioned" and system == "mixed" else (WIDE,):
                x, reason, _ = solved(matrix, b, "jacobi", norm, divtol)
                shown = "default" if divtol == DEFAULT else f"{divtol:g}"
                rows.append({"solver": f"cg, jacobi, {name} norm, divtol {shown}", "system": system})
                rows[-1] |= {"measure": measure, "reason": reason}
                solutions.append(x)
    matrix, b = closed_box()
    kinds = ["gamg"] + (["hypre"] if has_hypre() else [])
    for kind in kinds:
        x, reason, own = solved(matrix, b, kind, None, DEFAULT)
        residual = matrix.createVecRight()
        matrix.mult(PETSc.Vec().createWithArray(x), residual)
        true = float(np.linalg.norm(b - residual.getArray()) / np.linalg.norm(b))
        rows.append({"solver": f"cg, {kind}, default norm", "system": "closed", "measure": "‖Mr‖/‖Mb‖"})
        rows[-1] |= {"reason": reason, "own": own, "true": true}
        solutions.append(x)
    for number, x in enumerate(solutions):
        np.save(folder / f"x_{number}.npy", x)
    version = ".".join(map(str, PETSc.Sys.getVersion()))
    (folder / "rows.json").write_text(json.dumps({"version": version, "rows": rows}))


def solved(matrix, right, kind, norm, divtol):  # type: ignore[no-untyped-def]
    """CG from zero: the solution, PETSc's reason, and its own residual over that of the start."""
    ksp = PETSc.KSP().create()
    ksp.setOperators(matrix)
    ksp.setType("cg")
    ksp.getPC().setType(kind)
    if norm is not None:
        ksp.setNormType(norm)
    ksp.setTolerances(rtol=TOLERANCE, atol=0.0, divtol=divtol, max_it=20_000)
    ksp.setConvergenceHistory()
    b, x = matrix.createVecs()
    b.setArray(right)
    ksp.solve(b, x)
    history = ksp.getConvergenceHistory()
    own = float(history[-1] / history[0]) if len(history) else float("nan")
    return np.array(x.getArray()), int(ksp.getConvergedReason()), own


def closed_box():  # type: ignore[no-untyped-def]
    """The five-point Laplacian with walls on all sides, and a source in one cell: there is no solution."""
    n = SIDE * SIDE
    matrix = PETSc.Mat().createAIJ((n, n), nnz=5)
    for i in range(SIDE):
        for j in range(SIDE):
            near = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
            near = [p * SIDE + q for p, q in near if 0 <= p < SIDE and 0 <= q < SIDE]
            matrix.setValues([i * SIDE + j], [i * SIDE + j, *near], [float(len(near))] + [-1.0] * len(near))
    matrix.assemble()
    b = np.zeros(n)
    b[n // 3] = 1.0
    return matrix, b


def has_hypre() -> bool:
    try:
        PETSc.PC().create().setType("hypre")
    except PETSc.Error:
        return False
    return True


main(Path(sys.argv[1]))
