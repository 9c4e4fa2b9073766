"""The protocol of sparse matrices, by which one is named without importing SciPy."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class SparseMatrix(Protocol):
    """What SciPy's sparse matrices and sparse arrays have in common."""

    shape: Any

    def tocsr(self) -> Any: ...
