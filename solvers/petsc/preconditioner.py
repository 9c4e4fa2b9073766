"""PETSc's preconditioner of type python: one V-cycle of the learned multigrid on a DMDA."""

# Imported on first use, for its weight: petsc4py.

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.grid import DistributedPoissonGrid
from relaxon.solvers.distributed.preconditioner import DistributedPreconditioner
from relaxon.solvers.grid.poisson_grid import CellType
from relaxon.solvers.petsc.layout import Layout, end_before_python
from relaxon.solvers.petsc.recognition import AnyGrid, OtherKindError, Recognised, read_any_grid, recognise


class LearnedCycle:
    """`-pc_type python -pc_python_type relaxon.solvers.petsc.LearnedCycle`.

    For `σ − ∇·κ∇` or its negative on a DMDA in two or three dimensions, with walls, free surfaces and sides of any
    kind, which are read off the matrix's rows: nothing is to be told beside the option. Where κ is 1 on equal cells
    (`recognition.recognise`) the cycle is the learned one; any other symmetric matrix of five or seven points whose
    couplings have one sign, and whose rows do not sum to less than 0 (`any_grid.read_any_grid`), has the cycle for any
    coefficients. The DMDA is that of `KSPSetDM`, else the one the matrix was made from. Rows without couplings are
    divided by their diagonal.
    Symmetric and positive definite to float32 rounding (negative, for a negative operator), so that CG may stand
    outside.

    Options, with the preconditioner's prefix: `-pc_relaxon_learned <bool>` (true): false takes Chebyshev's constants.
    """

    def __init__(self) -> None:
        self.grid: DistributedPoissonGrid | None = None
        """The one recognised; None before set-up."""
        self.recognised: Recognised | AnyGrid | None = None
        self._layout: Layout | None = None
        self._cycle: DistributedPreconditioner | None = None
        self._learned = True
        self._inverse: NDArray[np.float64] | None = None
        self._out: NDArray[np.float64] | None = None
        self._comm: Any = None
        end_before_python()

    def setFromOptions(self, pc: Any) -> None:
        """Read `-pc_relaxon_learned`."""
        from petsc4py import PETSc

        self._learned = PETSc.Options(pc.getOptionsPrefix() or "").getBool("pc_relaxon_learned", True)

    def setUp(self, pc: Any) -> None:
        """Recognise the grid and set the cycle up; PETSc calls it again when the matrix has changed."""
        _, matrix = pc.getOperators()
        layout = Layout(_dmda_of(pc, matrix))
        if self._comm is None:
            self._comm = pc.getComm().tompi4py()
        found = grid_of(matrix, layout, self._comm)
        own = self._move(layout, found.cells).astype(np.uint8)
        more = self._take_terms(layout, found) if isinstance(found, AnyGrid) else {}
        self.grid = DistributedPoissonGrid(
            own, layout.decomposition, self._comm, spacing=found.spacing, boundary=found.boundary, **more
        )
        self._cycle = self.grid.preconditioner(learned=self._learned)
        self._out = np.empty(layout.part)
        fluid = self.grid.cells == CellType.FLUID
        self._inverse = None
        if self.grid.unknowns < math.prod(self.grid.shape):
            # Rows of zeros are left as they are.
            lone = self._move(layout, found.diagonal)
            self._inverse = np.where(fluid, 0.0, 1.0 / np.where(lone == 0, 1.0, lone))
        self.recognised, self._layout = found, layout

    def apply(self, pc: Any, x: Any, y: Any) -> None:
        """`y ← M x`."""
        layout, cycle, out, found = self._layout, self._cycle, self._out, self.recognised
        assert layout is not None
        assert cycle is not None
        assert out is not None
        assert found is not None
        r = layout.values(x)
        cycle(r, out)
        if found.scale < 0:
            np.negative(out, out)
        if self._inverse is not None:
            out += self._inverse * r
        layout.store(out, y)

    def applyTranspose(self, pc: Any, x: Any, y: Any) -> None:
        """Apply the cycle, which is symmetric."""
        self.apply(pc, x, y)

    def view(self, pc: Any, viewer: Any) -> None:
        """Print what was recognised, for `-ksp_view`."""
        learned = self.grid is None or self.grid.constant
        kind = "learned cycle of the deep conjugate direction method" if learned else "cycle for any coefficients"
        viewer.printfASCII(f"  relaxon: the {kind}\n")
        if self.grid is not None and self._cycle is not None and self.recognised is not None:
            levels, shared = (int(self._cycle.info[name]) for name in ("levels", "shared_levels"))
            viewer.printfASCII(f"  {self.grid!r}, {levels} levels, {shared} of them shared among processes\n")

    def _take_terms(self, layout: Layout, found: AnyGrid) -> dict[str, Any]:
        """Return κ on faces and σ, of this process's part of the decomposition."""
        faces = []
        for axis, (below, above) in enumerate(found.faces):
            low, high = self._move(layout, below), self._move(layout, above)
            faces.append(np.concatenate([low, high.take([-1], axis)], axis))
        return {"coefficient": faces, "reaction": self._move(layout, found.reaction)}

    @staticmethod
    def _move(layout: Layout, owned: NDArray[Any]) -> NDArray[np.float64]:
        """Return an array of the DMDA's own cells, as this process's part of the decomposition; a copy."""
        vector = layout.da.getGlobalVec()
        vector.getArray()[...] = owned.reshape(-1)
        part = np.array(layout.values(vector))
        layout.da.restoreGlobalVec(vector)
        return part


def grid_of(matrix: Any, layout: Layout, comm: Any) -> Recognised | AnyGrid:
    """Return the grid with κ = 1 that a matrix is the operator of, else that with coefficients and a reaction."""
    try:
        found = recognise(matrix, layout, comm)
    except OtherKindError:
        return read_any_grid(matrix, layout, comm)
    return found if found.exact else read_any_grid(matrix, layout, comm)


def _dmda_of(pc: Any, matrix: Any) -> Any:
    """Return the DMDA that a preconditioner's matrix lives on."""
    for owner in (pc, matrix):
        found = owner.getDM() if hasattr(owner, "getDM") else None
        if found is not None and found.handle and found.getType() == "da":
            return found
    raise ValueError(
        "the matrix must live on a DMDA: make it by DMCreateMatrix, or tell the solver by KSPSetDM and "
        "KSPSetDMActive(ksp, PETSC_FALSE)"
    )
