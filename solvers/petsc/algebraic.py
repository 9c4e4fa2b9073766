"""PETSc's preconditioner of type python for any matrix: the compiled algebraic multigrid, in one process or several."""

# Imported on first use, for their weight: petsc4py, SciPy, `solvers.driver.solve`.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import any_failure, as_communicator
from relaxon.solvers.petsc.layout import end_before_python
from relaxon.solvers.petsc.levels import GATHERED, DistributedAggregationCycle

PLAIN = ("seqaij", "mpiaij")
SYMMETRIC = 1e-8
"""Difference of `uᵀAv` and `vᵀAu`, relative to `‖u‖‖Av‖`, up to which a matrix is symmetric."""


class AlgebraicCycle:
    """`-pc_type python -pc_python_type relaxon.solvers.petsc.AlgebraicCycle`.

    For a matrix in AIJ format (BAIJ and SBAIJ are converted), real, symmetric, positive or negative definite, or
    singular by constants: tell PETSc of these by `MatSetNullSpace`. A linear cycle, symmetric and definite (to float32
    rounding), so that CG may stand outside.

    In one process it is `prepare(A, solver="amg").aspreconditioner()`, and the block size and the near-null space of
    the matrix are passed on. Coordinates (`PCSetCoordinates`) do not reach a preconditioner of type python: make a
    near-null space of them by `MatNullSpaceCreateRigidBody`. In several processes each aggregates its own rows, and
    the first level of at most `-pc_relaxon_gathered` rows is gathered in all; near-null vectors are not used there.

    Options, with the preconditioner's prefix: `-pc_relaxon_gathered <10000>`: rows, at least 1.
    """

    def __init__(self) -> None:
        self.gathered = GATHERED
        self.scale = 1.0
        """−1 for a negative definite matrix."""
        self._alone: Any = None
        self._cycle: DistributedAggregationCycle | None = None
        self._copies: list[Any] = []
        self._comm: Any = None
        self._said = ""
        end_before_python()

    def setFromOptions(self, pc: Any) -> None:
        """Read `-pc_relaxon_gathered`."""
        from petsc4py import PETSc

        gathered = PETSc.Options(pc.getOptionsPrefix() or "").getInt("pc_relaxon_gathered", GATHERED)
        if gathered < 1:
            raise ValueError(f"pc_relaxon_gathered must be at least 1, got {gathered}")
        self.gathered = gathered

    def setUp(self, pc: Any) -> None:
        """Set the levels up; PETSc calls it again when the matrix has changed.

        Raises
        ------
        ValueError, in every process : where the matrix is complex, not symmetric, or of both signs.
        """
        self.destroy(pc)
        _, matrix = pc.getOperators()
        if self._comm is None:
            self._comm = pc.getComm().tompi4py()
        communicator = as_communicator(self._comm)
        properties = _properties(matrix)
        if matrix.getType() not in PLAIN:
            matrix = matrix.convert("aij", out=type(matrix)())
            self._copies.append(matrix)
        diagonal = matrix.getDiagonal()
        everyone = [int(part) for part in communicator.totals(_signs(diagonal.getArray(readonly=True)))]
        diagonal.destroy()
        problem = None
        if everyone[2]:
            problem = ValueError("the matrix must be real and its diagonal finite, got other entries")
        elif everyone[0] and everyone[1]:
            problem = ValueError(
                f"the matrix must be definite, got {everyone[0]} positive and {everyone[1]} negative diagonal entries"
            )
        any_failure(communicator, problem)
        self.scale = -1.0 if everyone[1] else 1.0
        if self.scale < 0:
            matrix = matrix.copy()
            matrix.scale(-1.0)
            self._copies.append(matrix)
        if matrix.getComm().getSize() == 1:
            self._alone = _alone(matrix, properties)
            self._said = f"one process, {len(properties)} properties of the matrix" if properties else "one process"
            return
        any_failure(communicator, _asymmetry(matrix))
        self._cycle = DistributedAggregationCycle(matrix, communicator, self.gathered)
        rows = [level.matrix.getSize()[0] for level in self._cycle.levels]
        self._said = f"levels of {rows} rows divided, one of {self._cycle.shared.shape[0]} in every process"

    def apply(self, pc: Any, x: Any, y: Any) -> None:
        """`y ← M x`."""
        if self._cycle is None:
            y.getArray()[...] = self._alone.matvec(x.getArray(readonly=True))
        else:
            self._cycle.apply(x, y)
        if self.scale < 0:
            y.scale(-1.0)

    def applyTranspose(self, pc: Any, x: Any, y: Any) -> None:
        """Apply the cycle, which is symmetric."""
        self.apply(pc, x, y)

    def view(self, pc: Any, viewer: Any) -> None:
        """Print what was set up, for `-ksp_view`."""
        viewer.printfASCII(f"  relaxon: algebraic multigrid, {self._said}\n")

    def destroy(self, pc: Any) -> None:
        """Give PETSc's objects back."""
        if self._cycle is not None:
            self._cycle.destroy()
        for matrix in self._copies:
            matrix.destroy()
        self._cycle, self._alone, self._copies = None, None, []


def _signs(diagonal: NDArray[Any]) -> NDArray[np.float64]:
    """Return how many entries are positive, negative, and neither real nor finite."""
    real = np.isfinite(diagonal) & (np.imag(diagonal) == 0)
    values = np.real(np.where(real, diagonal, 0))
    return np.array([np.count_nonzero(values > 0), np.count_nonzero(values < 0), np.count_nonzero(~real)], np.float64)


def _alone(matrix: Any, properties: dict[str, Any]) -> Any:
    """Return the compiled hierarchy of a matrix in one process, as a linear operator."""
    from scipy.sparse import csr_array

    from relaxon.solvers.driver.solve import prepare

    starts, columns, values = matrix.getValuesCSR()
    whole = csr_array((np.array(values), np.array(columns), np.array(starts)), shape=matrix.getSize())
    return prepare(whole, solver="amg", **properties).aspreconditioner()


def _properties(matrix: Any) -> dict[str, Any]:
    """Return what PETSc was told of the matrix, as arguments of `prepare`."""
    found: dict[str, Any] = {}
    if (size := matrix.getBlockSize()) > 1:
        found["block_size"] = int(size)
    near = matrix.getNearNullSpace()
    if near.handle and (vectors := near.getVecs()):
        columns = [vector.getArray(readonly=True).copy() for vector in vectors]
        if near.hasConstant():
            columns.insert(0, np.ones(len(columns[0])))
        found["near_null"] = np.column_stack(columns)
    return found


def _asymmetry(matrix: Any) -> ValueError | None:
    """Compare `uᵀAv` and `vᵀAu` for two random vectors; every process calls it."""
    u, v, image = matrix.createVecRight(), matrix.createVecRight(), matrix.createVecRight()
    low, _ = u.getOwnershipRange()
    generator = np.random.default_rng(low)
    for vector in (u, v):
        vector.getArray()[...] = generator.standard_normal(vector.getLocalSize())
    matrix.mult(v, image)
    one, size = image.dot(u), image.norm() * u.norm()
    matrix.mult(u, image)
    other = image.dot(v)
    for vector in (u, v, image):
        vector.destroy()
    if not abs(one - other) <= SYMMETRIC * size:
        return ValueError(
            f"the matrix must be symmetric, got uᵀAv = {one:.9g} and vᵀAu = {other:.9g} for two random vectors"
        )
    return None
