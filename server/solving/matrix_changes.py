"""`MatrixChange` as the arrays that it announces, and the system that they make of a kept matrix; steps on matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from relaxon.proto import linear_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.gate.uploads import Upload
from relaxon.server.solving import matrices
from relaxon.server.solving.footprint import matrix_bytes
from relaxon.server.solving.matrices import KeptMatrix
from relaxon.server.solving.solve_messages import Shapes
from relaxon.server.solving.steps import Stepping

if TYPE_CHECKING:
    from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
    from relaxon.solvers.sparse.system.new_values import StoredPattern


@dataclass(frozen=True, slots=True)
class MatrixChangePlan:
    """A change as it is announced; `indptr` and `indices` are None where the values come in the kept order."""

    indptr: AnnouncedArray | None
    indices: AnnouncedArray | None
    data: AnnouncedArray

    @classmethod
    def of(cls, change: pb.MatrixChange, kept: KeptMatrix) -> MatrixChangePlan:
        """From its message; INVALID_ARGUMENT naming the array that cannot be one of `kept`'s."""
        if change.HasField("indptr") != change.HasField("indices"):
            missing = "indices" if change.HasField("indptr") else "indptr"
            raise errors.invalid(missing, f"{missing} must come with the other of indptr and indices, got one of them")
        if change.HasField("indptr"):
            planned = matrices.plan_entries(change)
            if planned.unknowns != kept.unknowns:
                raise errors.invalid(
                    "indptr",
                    f"indptr must have the kept matrix's {kept.unknowns + 1} entries, got {planned.unknowns + 1}",
                )
            return cls(planned.indptr, planned.indices, planned.data)
        data = AnnouncedArray.of("data", change.data, matrices.VALUES)
        if data.shape != (kept.sent_entries,):
            raise errors.invalid(
                "data", f"data must have shape {(kept.sent_entries,)}, as the kept matrix's had, got {data.shape}"
            )
        return cls(None, None, data)

    @property
    def bytes(self) -> int:
        """What it takes while it is uploaded and checked."""
        arrays = [one for one in (self.indptr, self.indices, self.data) if one is not None]
        uploaded = sum(math.prod(one.shape) * one.dtype.itemsize for one in arrays)
        rows = 0 if self.indptr is None else self.indptr.shape[0]
        return uploaded + matrix_bytes(rows, self.data.shape[0])

    async def read(self, upload: Upload) -> NewValues:
        """The arrays, from the messages that follow."""
        pattern = None
        if self.indptr is not None and self.indices is not None:
            pattern = await upload.array("indptr", self.indptr), await upload.array("indices", self.indices)
        return NewValues(pattern, await upload.array("data", self.data))


@dataclass(frozen=True, slots=True)
class NewValues:
    """A change with its arrays."""

    pattern: tuple[NDArray[Any], NDArray[Any]] | None
    """`indptr` and `indices`; None for those that the matrix was sent with."""
    data: NDArray[Any]

    def made(self, kept: KeptMatrix) -> tuple[MatrixSystem, StoredPattern | None]:
        """The checked system and its pattern with zeros; INVALID_ARGUMENT for what is refused."""
        from relaxon.solvers.sparse.system.new_values import update_system

        indptr, indices = kept.sent_pattern if self.pattern is None else self.pattern
        matrix = matrices.checked_csr(indptr, indices, self.data)
        try:
            return update_system(kept.system, matrix, kept.stored)
        except (ValueError, TypeError) as error:
            raise errors.refused(error) from error


class MatrixStepping(Stepping):
    """Steps with a kept matrix."""

    session = KeptMatrix

    def shapes(self, kept: KeptMatrix) -> Shapes:
        return ((kept.unknowns,),)

    def plan(self, change: pb.MatrixChange, kept: KeptMatrix) -> MatrixChangePlan:
        return MatrixChangePlan.of(change, kept)

    def apply(self, change: NewValues, kept: KeptMatrix) -> None:
        kept.change(*change.made(kept))
