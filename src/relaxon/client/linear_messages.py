"""Sparse matrices as they travel, and what a client knows of one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relaxon.client import errors
from relaxon.client.system import SystemHandle
from relaxon.client.wire import Wire
from relaxon.proto import chunks, tensor_pb2, tensors
from relaxon.proto import linear_pb2 as pb
from relaxon.solvers import validation
from relaxon.solvers.html import table
from relaxon.solvers.masked import refuse_masks

ARGUMENTS = {"operator": "matrix", "cells": "matrix"}
"""What the messages' fields are called here."""


class SparseMatrix(Protocol):
    """What SciPy's sparse matrices and arrays have in common."""

    shape: Any

    def tocsr(self) -> Any: ...


def csr_arrays(matrix: SparseMatrix) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """`indptr`, `indices` and `data` of a sparse matrix; InvalidArgument for what cannot be sent."""
    with errors.refusals():
        return _csr_arrays(matrix)


def _csr_arrays(matrix: SparseMatrix) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    if not hasattr(matrix, "tocsr"):
        raise TypeError(f"matrix must be a SciPy sparse matrix, got {type(matrix).__name__}")
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"matrix must be square and not empty, got shape {shape}")
    refuse_masks(matrix=getattr(matrix, "data", None))
    rows = matrix.tocsr()
    data = validation.real_array("matrix", rows.data)
    if data.size == 0:
        raise ValueError("matrix must have at least one entry, got none")
    return np.asarray(rows.indptr), np.asarray(rows.indices), data


def matrix_requests(
    arrays: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    wire: Wire,
    shared: tensor_pb2.SharedFile | None,
    attendance: str,
) -> Iterator[pb.CreateMatrixRequest]:
    """All that is sent to have a matrix kept."""
    indptr, indices, data = arrays
    yield pb.CreateMatrixRequest(
        header=pb.MatrixHeader(
            indptr=tensors.header_of(indptr),
            indices=tensors.header_of(indices),
            data=tensors.header_of(data),
            shared=shared,
            attendance=attendance,
        )
    )
    for field, array in (("indptr", indptr), ("indices", indices), ("data", data)):
        yield from chunks.messages_of(pb.CreateMatrixRequest, field, array, checksum=wire.checksums)


class MatrixHandle(SystemHandle):
    """What a client knows of a matrix that a server keeps."""

    _default_solver = "auto"

    def _told(self, kept: pb.Matrix) -> None:
        """Note what the server said of it."""
        self.id: str = kept.id
        self.unknowns: int = kept.unknowns
        self.entries: int = kept.entries
        """That are not zero."""
        self.singular_components: int = kept.singular_components
        """Components whose rows sum to zero; `b` must sum to zero over each."""
        self.setup_seconds: float = kept.setup_seconds
        """What the server spent on checking the matrix."""
        self.expires: datetime = kept.expire_time.ToDatetime(UTC)
        """When the server would have forgotten the matrix had it not been used since it was made."""

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.unknowns,),)

    def __repr__(self) -> str:
        return f"RemoteMatrix({self.unknowns} unknowns, {self.entries} entries)"

    def _repr_html_(self) -> str:
        rows = {"unknowns": f"{self.unknowns:,}", "entries": f"{self.entries:,}", "server": self._target, "id": self.id}
        return table("matrix on a server", rows)
