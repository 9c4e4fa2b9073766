"""A sparse matrix that the server keeps, with the solvers set up for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import linear_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.gate.uploads import Upload
from relaxon.server.solving import footprint
from relaxon.server.solving.sessions import Session
from relaxon.solvers.interface.front import Front
from relaxon.wire.shared_memory import SharedFile

if TYPE_CHECKING:
    from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
    from relaxon.solvers.sparse.system.new_values import StoredPattern

INDICES = ("int32", "int64")
VALUES = ("float32", "float64", "complex64", "complex128")
RIGID_MOTIONS = {2: 3, 3: 6}
"""Of an elastic body, by the number of its dimensions."""
MAX_VECTORS = 16
"""Near-null vectors at most, as `MatrixProperties` takes them: looked at before memory is taken."""


class KeptMatrix(Session):
    """A checked matrix under an id."""

    kind = "relaxon.v1.Matrix"
    argument = "matrix"

    def __init__(
        self, checked: CheckedMatrix, owner: str = "", shared: SharedFile | None = None, attendance: str = ""
    ) -> None:
        self.system = checked.system
        self.stored = checked.stored
        """The pattern with the zeros that the matrix came with, where there were some."""
        self._sent = checked.sent
        self.entries = int(self.system.matrix.nnz)
        vectors = 0 if self.system.near_null is None else int(self.system.near_null.vectors.nbytes)
        own_bytes = footprint.matrix_bytes(self.unknowns, self.sent_entries) + vectors
        super().__init__(owner, own_bytes, shared, attendance)

    @property
    def content(self) -> MatrixSystem:
        return self.system

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
        """How many values were sent."""
        return len(self.sent_pattern[1])

    def change(self, system: MatrixSystem, stored: StoredPattern | None) -> None:
        """Put another system of the same pattern in the place of this one. In a worker thread, with `running` held."""
        self.system, self.stored = system, stored
        self.entries = int(system.matrix.nnz)
        for place in list(self.set_ups.values()):
            place.stale = True

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
        sent = 0 if self._sent is None else sum(int(array.nbytes) for array in self._sent)
        return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes) + sent

    def footprint(self, solver: str) -> tuple[int, int]:
        return footprint.matrix_setup(solver, self.system.unknowns, self.entries)

    def _set_up(self, solver: Any, before: Front | None) -> Front:
        from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix, prepare_system

        if isinstance(before, PreparedMatrix):
            return before.follow(self.system, stored=self.stored)
        return prepare_system(self.system, solver, stored=self.stored)


@dataclass(frozen=True, slots=True)
class CheckedMatrix:
    """A matrix as it was sent and checked."""

    system: MatrixSystem
    stored: StoredPattern | None
    sent: tuple[NDArray[Any], NDArray[Any]] | None
    """`indptr` and `indices` as they were sent; None where these are the system's."""


@dataclass(frozen=True, slots=True)
class EntriesPlan:
    """A matrix's entries as a header describes them."""

    indptr: AnnouncedArray
    indices: AnnouncedArray
    data: AnnouncedArray

    @property
    def unknowns(self) -> int:
        return int(self.indptr.shape[0]) - 1

    @property
    def entries(self) -> int:
        return int(self.indices.shape[0])


@dataclass(frozen=True, slots=True)
class MatrixPlan:
    """A matrix as its header describes it."""

    matrix: EntriesPlan
    near_null: AnnouncedArray | None
    coordinates: AnnouncedArray | None
    block_size: int | None
    symmetric: bool | None

    @property
    def vectors(self) -> int:
        """Near-null vectors, which are kept in float64."""
        if self.near_null is not None:
            return self.near_null.shape[1]
        if self.coordinates is not None:
            return RIGID_MOTIONS[self.coordinates.shape[1]]
        return self.block_size or 0

    @property
    def kept_bytes(self) -> int:
        """What the matrix takes while it is kept and what checking it takes."""
        n = self.matrix.unknowns
        return footprint.matrix_bytes(n, self.matrix.entries) + 8 * n * self.vectors

    @property
    def passing_bytes(self) -> int:
        """What the arrays take while they are checked."""
        arrays = (self.matrix.indptr, self.matrix.indices, self.matrix.data, self.near_null, self.coordinates)
        return sum(math.prod(one.shape) * one.dtype.itemsize for one in arrays if one is not None)

    async def read(self, upload: Upload) -> MatrixArrays:
        """The arrays, from the messages that follow."""
        parts = self.matrix
        entries = [await upload.array(one.name, one) for one in (parts.indptr, parts.indices, parts.data)]
        said = [
            None if one is None else await upload.array(one.name, one) for one in (self.near_null, self.coordinates)
        ]
        return MatrixArrays(*entries, *said)

    def build(self, arrays: MatrixArrays) -> CheckedMatrix:
        """The checked matrix; INVALID_ARGUMENT for arrays that are no matrix, or none to solve with."""
        from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
        from relaxon.solvers.sparse.system.new_values import StoredPattern, same_pattern
        from relaxon.solvers.sparse.system.properties import MatrixProperties

        matrix = checked_csr(arrays.indptr, arrays.indices, arrays.data)
        said = MatrixProperties(arrays.near_null, arrays.coordinates, self.block_size, self.symmetric)
        try:
            system = MatrixSystem.of(matrix, said)
        except (ValueError, TypeError) as error:
            raise errors.refused(error) from error
        sent = None if same_pattern(matrix, system.matrix) else (matrix.indptr, matrix.indices)
        return CheckedMatrix(system, StoredPattern.of(matrix, system), sent)


@dataclass(frozen=True, slots=True)
class MatrixArrays:
    """A matrix's arrays as they came."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    data: NDArray[Any]
    near_null: NDArray[Any] | None
    coordinates: NDArray[Any] | None


def checked_csr(indptr: NDArray[Any], indices: NDArray[Any], data: NDArray[Any]) -> Any:
    """A square matrix of arrays that came; INVALID_ARGUMENT for arrays that are no matrix."""
    from scipy.sparse import csr_array

    n = len(indptr) - 1
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise errors.invalid("indptr", f"indptr must start with 0, never fall, and end with the {len(indices)} entries")
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= n:
        raise errors.invalid("indices", f"indices must be from 0 to {n - 1}, got {low if low < 0 else high}")
    return csr_array((data, indices, indptr), shape=(n, n))


def plan(header: pb.MatrixHeader) -> MatrixPlan:
    """What a header announces; INVALID_ARGUMENT naming the array where no matrix can be made of it."""
    matrix = plan_entries(header)
    near_null = coordinates = None
    if header.HasField("near_null"):
        near_null = AnnouncedArray.of("near_null", header.near_null)
        shape = near_null.shape
        if len(shape) != 2 or shape[0] != matrix.unknowns or shape[1] > MAX_VECTORS:
            raise errors.invalid(
                "near_null", f"near_null must have shape ({matrix.unknowns}, k), k at most {MAX_VECTORS}, got {shape}"
            )
    if header.HasField("coordinates"):
        coordinates = AnnouncedArray.of("coordinates", header.coordinates)
        shape = coordinates.shape
        if len(shape) != 2 or shape[1] not in RIGID_MOTIONS or shape[0] * shape[1] != matrix.unknowns:
            raise errors.invalid(
                "coordinates",
                f"coordinates must have shape (n/d, d), d 2 or 3, for n = {matrix.unknowns} unknowns, got {shape}",
            )
    block_size = header.block_size if header.HasField("block_size") else None
    if block_size is not None and not 1 <= block_size <= MAX_VECTORS:
        raise errors.invalid("block_size", f"block_size must be from 1 to {MAX_VECTORS}, got {block_size}")
    symmetric = header.symmetric if header.HasField("symmetric") else None
    return MatrixPlan(matrix, near_null, coordinates, block_size, symmetric)


def plan_entries(header: pb.MatrixHeader | pb.MatrixChange) -> EntriesPlan:
    """What a header announces of a matrix's entries; INVALID_ARGUMENT naming the array that cannot be one's."""
    indptr = AnnouncedArray.of("indptr", header.indptr, INDICES)
    indices = AnnouncedArray.of("indices", header.indices, INDICES)
    data = AnnouncedArray.of("data", header.data, VALUES)
    for one in (indptr, indices, data):
        if len(one.shape) != 1:
            raise errors.invalid(one.name, f"{one.name} must have one axis, got shape {one.shape}")
    if indptr.shape[0] < 2:
        raise errors.invalid("indptr", f"indptr must have at least 2 entries, got {indptr.shape[0]}")
    if data.shape != indices.shape:
        raise errors.invalid(
            "data", f"data must be as long as indices, got {data.shape[0]} and {indices.shape[0]} entries"
        )
    return EntriesPlan(indptr, indices, data)
