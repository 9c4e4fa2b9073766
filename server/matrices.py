"""A sparse matrix that the server keeps, with the solvers set up for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import linear_pb2 as pb
from relaxon.proto.shared import SharedFile
from relaxon.server import errors, footprint
from relaxon.server.announced import AnnouncedArray
from relaxon.server.sessions import Session
from relaxon.solvers.front import Front

if TYPE_CHECKING:
    from relaxon.solvers.sparse.system import MatrixSystem

INDICES = ("int32", "int64")


class KeptMatrix(Session):
    """A checked matrix under an id."""

    kind = "relaxon.v1.Matrix"
    argument = "matrix"

    def __init__(
        self, system: MatrixSystem, owner: str = "", shared: SharedFile | None = None, attendance: str = ""
    ) -> None:
        self.system = system
        self.entries = int(system.matrix.nnz)
        super().__init__(owner, footprint.matrix_bytes(system.unknowns, self.entries), shared, attendance)

    @property
    def cells(self) -> int:
        return self.system.unknowns

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.system.unknowns,)

    @property
    def unknowns(self) -> int:
        return self.system.unknowns

    def array_bytes(self) -> int:
        """Bytes of the matrix itself."""
        matrix = self.system.matrix
        return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)

    def footprint(self, solver: str) -> tuple[int, int]:
        return footprint.matrix_setup(solver, self.system.unknowns, self.entries)

    def _set_up(self, solver: Any, before: Front | None) -> Front:
        from relaxon.solvers.sparse.driver import prepare_system

        return prepare_system(self.system, solver)


@dataclass(frozen=True, slots=True)
class MatrixPlan:
    """A matrix as its header describes it."""

    indptr: AnnouncedArray
    indices: AnnouncedArray
    data: AnnouncedArray

    @property
    def unknowns(self) -> int:
        return int(self.indptr.shape[0]) - 1

    @property
    def entries(self) -> int:
        return int(self.indices.shape[0])

    @property
    def passing_bytes(self) -> int:
        """What the arrays take while they are checked."""
        return sum(math.prod(one.shape) * one.dtype.itemsize for one in (self.indptr, self.indices, self.data))

    def build(self, indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any]) -> MatrixSystem:
        """The checked matrix; INVALID_ARGUMENT for arrays that are no matrix, or none to solve with."""
        from scipy.sparse import csr_array

        from relaxon.solvers.sparse.system import MatrixSystem

        n = self.unknowns
        if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
            raise errors.invalid(
                "indptr", f"indptr must start with 0, never fall, and end with the {len(indices)} entries"
            )
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= n:
            raise errors.invalid("indices", f"indices must be from 0 to {n - 1}, got {low if low < 0 else high}")
        try:
            return MatrixSystem.of(csr_array((data, indices, indptr), shape=(n, n)))
        except (ValueError, TypeError) as error:
            raise errors.invalid("operator", str(error)) from error


def plan(header: pb.MatrixHeader) -> MatrixPlan:
    """What a header announces; INVALID_ARGUMENT naming the array where no matrix can be made of it."""
    indptr = AnnouncedArray.of("indptr", header.indptr, INDICES)
    indices = AnnouncedArray.of("indices", header.indices, INDICES)
    data = AnnouncedArray.of("data", header.data)
    for one in (indptr, indices, data):
        if len(one.shape) != 1:
            raise errors.invalid(one.name, f"{one.name} must have one axis, got shape {one.shape}")
    if indptr.shape[0] < 2:
        raise errors.invalid("indptr", f"indptr must have at least 2 entries, got {indptr.shape[0]}")
    if data.shape != indices.shape:
        raise errors.invalid(
            "data", f"data must be as long as indices, got {data.shape[0]} and {indices.shape[0]} entries"
        )
    return MatrixPlan(indptr, indices, data)
