"""A sparse matrix that the server keeps, with the solvers set up for it.

Imported on first use, for their weight: SciPy, and `relaxon.solvers.sparse`, which compiles with Numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import linear_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.solving import footprint
from relaxon.server.solving.session import Session
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.wire.conversions.matrix import (
    RIGID_MOTIONS,
    MatrixArrays,
    SentMatrix,
    ValuesChange,
    read_matrix_header,
    read_values,
)
from relaxon.wire.shared_memory import SharedFile
from relaxon.wire.tensors import AnnouncedArray

if TYPE_CHECKING:
    from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
    from relaxon.solvers.sparse.system.new_values import StoredPattern


@dataclass(frozen=True, slots=True)
class CheckedMatrix:
    """A matrix as it was sent, checked."""

    system: MatrixSystem
    stored: StoredPattern | None
    """The pattern with the zeros that the matrix came with, if there were some."""
    sent: tuple[NDArray[Any], NDArray[Any]] | None
    """`indptr` and `indices` as they were sent; None if these are the system's."""


class KeptMatrix(Session):
    """A checked matrix under an id."""

    argument = "matrix"
    message = pb.Matrix
    read_header = staticmethod(read_matrix_header)

    def __init__(
        self, checked: CheckedMatrix, owner: str = "", shared: SharedFile | None = None, attendance: str = ""
    ) -> None:
        self.stored = checked.stored
        self._sent = checked.sent
        self.entries = int(checked.system.matrix.nnz)
        super().__init__(checked.system, owner, shared, attendance)

    @classmethod
    def measure(cls, plan: MatrixArrays[AnnouncedArray]) -> tuple[int, int]:
        n = plan.unknowns
        return n, footprint.matrix_bytes(n, plan.entries) + 8 * n * count_vectors(plan)

    @classmethod
    def build(cls, plan: MatrixArrays[AnnouncedArray], arrays: list[NDArray[Any]]) -> CheckedMatrix:
        return check_matrix(plan.fill(arrays))

    @staticmethod
    def find_solver(name: str) -> Any:
        from relaxon.solvers.sparse.choice.automatic import find_solver

        with errors.refusing():
            return find_solver(name)

    @property
    def system(self) -> MatrixSystem:
        """The matrix itself."""
        system: MatrixSystem = self.content
        return system

    def count_bytes(self) -> int:
        vectors = 0 if self.system.near_null is None else int(self.system.near_null.vectors.nbytes)
        return footprint.matrix_bytes(self.unknowns, self.sent_entries) + vectors

    def describe_content(self) -> dict[str, Any]:
        return {"entries": self.entries, "singular_components": self.system.null.dimension}

    @property
    def complex_valued(self) -> bool:
        return self.system.is_complex

    @property
    def sent_pattern(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """`indptr` and `indices` in the order in which the values were first sent."""
        if self._sent is not None:
            return self._sent
        return self.system.matrix.indptr, self.system.matrix.indices

    @property
    def sent_entries(self) -> int:
        """The number of values that were sent."""
        return len(self.sent_pattern[1])

    @property
    def cells(self) -> int:
        return self.system.unknowns

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.system.unknowns,)

    def array_bytes(self) -> int:
        """Return the bytes of the matrix itself."""
        matrix = self.system.matrix
        sent = 0 if self._sent is None else sum(int(array.nbytes) for array in self._sent)
        return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes) + sent

    def read_change(self, change: pb.MatrixChange) -> ValuesChange[AnnouncedArray]:
        return read_values(change, self.unknowns, self.sent_entries)

    def measure_change(self, change: ValuesChange[AnnouncedArray]) -> int:
        rows = 0 if change.indptr is None else change.indptr.size
        return sum(array.nbytes for _, array in change.parts) + footprint.matrix_bytes(rows, change.data.size)

    def apply(self, change: ValuesChange[NDArray[Any]]) -> None:
        from relaxon.solvers.sparse.system.new_values import update_system

        indptr, indices = self.sent_pattern
        if change.indptr is not None and change.indices is not None:
            indptr, indices = change.indptr, change.indices
        with errors.refusing():
            self.content, self.stored = update_system(self.system, build_csr(indptr, indices, change.data), self.stored)
        self.entries = int(self.system.matrix.nnz)
        self.mark_stale()

    def footprint(self, solver: str) -> tuple[int, int]:
        return footprint.matrix_setup(solver, self.system.unknowns, self.entries)

    def _set_up(self, solver: Any, before: PreparedSystem | None) -> PreparedSystem:
        from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix, prepare_system

        if isinstance(before, PreparedMatrix):
            return before.follow(self.system, stored=self.stored)
        return prepare_system(self.system, solver, stored=self.stored)


def count_vectors(plan: MatrixArrays[AnnouncedArray]) -> int:
    """Return the number of near-null vectors that will be kept, in float64, for an announced matrix."""
    if plan.near_null is not None:
        return plan.near_null.shape[1]
    if plan.coordinates is not None:
        return RIGID_MOTIONS[plan.coordinates.shape[1]]
    return plan.block_size or 0


def check_matrix(sent: SentMatrix) -> CheckedMatrix:
    """Check a matrix that has arrived; INVALID_ARGUMENT if its arrays are no matrix, or none to solve with."""
    from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
    from relaxon.solvers.sparse.system.new_values import StoredPattern, same_pattern
    from relaxon.solvers.sparse.system.properties import MatrixProperties

    with errors.refusing():
        matrix = build_csr(sent.indptr, sent.indices, sent.data)
        properties = MatrixProperties(sent.near_null, sent.coordinates, sent.block_size, sent.symmetric)
        system = MatrixSystem.of(matrix, properties)
    pattern = None if same_pattern(matrix, system.matrix) else (matrix.indptr, matrix.indices)
    return CheckedMatrix(system, StoredPattern.of(matrix, system), pattern)


def build_csr(indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any]) -> Any:
    """Return the square matrix of three arrays; ValueError naming the array if they are no CSR matrix."""
    from scipy.sparse import csr_array

    n = len(indptr) - 1
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise ValueError(f"indptr must start with 0, never fall, and end with the {len(indices)} entries")
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= n:
        raise ValueError(f"indices must be from 0 to {n - 1}, got {low if low < 0 else high}")
    return csr_array((data, indices, indptr), shape=(n, n))
