"""Signs as bits: matrices of −1 and 1 packed into 64-bit words, and levels as bit planes.

A bit is 1 for the sign 1. For a row of signs `s` and bits `b ∈ {0, 1}`, `Σ s_j b_j = pop(s) − pop(s ⊕ b)`, with padding
bits of 0 in both. For levels `q = Σ_p 2^p b_p` the sums of the planes are added with their weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.cached import cached_property

Words = NDArray[np.uint64]
WORD = 64


@dataclass(frozen=True)
class SignMatrix:
    """A matrix of −1 and 1, `(rows, columns)`, stored as `packed (rows, ⌈columns/8⌉) uint8`, lowest bit first."""

    packed: NDArray[np.uint8]
    columns: int

    def __post_init__(self) -> None:
        if self.packed.dtype != np.uint8 or self.packed.ndim != 2 or self.packed.shape[1] != -(-self.columns // 8):
            raise ValueError(
                f"packed must be uint8 (rows, {-(-self.columns // 8)}), got {self.packed.dtype} {self.packed.shape}"
            )
        rest = self.columns % 8
        if rest and (self.packed[:, -1] >> rest).any():
            raise ValueError(f"packed must have zeros behind its {self.columns} columns")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.packed), self.columns

    @property
    def nbytes(self) -> int:
        """Size of the bits in bytes."""
        return int(self.packed.nbytes)

    def unpack(self) -> NDArray[np.int8]:
        """Return the signs as int8, `(rows, columns)`."""
        bits = np.unpackbits(self.packed, axis=1, count=self.columns, bitorder="little").astype(np.int8)
        return np.asarray(2 * bits - 1, np.int8)

    @cached_property
    def words(self) -> Words:
        """Words of all rows, `(⌈columns/64⌉, rows)`, in the order in which the kernels read them."""
        wide = np.zeros((len(self.packed), 8 * -(-self.columns // WORD)), np.uint8)
        wide[:, : self.packed.shape[1]] = self.packed
        return np.ascontiguousarray(wide.view("<u8").astype(np.uint64).T)

    @cached_property
    def ones(self) -> NDArray[np.int64]:
        """Number of ones of each row, `(rows,)`."""
        return np.asarray(np.unpackbits(self.packed, axis=1).sum(axis=1, dtype=np.int64))

    def transposed(self) -> SignMatrix:
        """Return the transposed matrix, packed along the other axis."""
        return pack_signs(self.unpack().T)


def pack_signs(matrix: NDArray[Any]) -> SignMatrix:
    """Pack the signs of a matrix, 1 where an entry is at least 0; raise `ValueError` unless it has two axes.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.binary import pack_signs
    >>> packed = pack_signs(np.array([[0.5, -0.5, 2.0]]))
    >>> packed.nbytes, packed.unpack().tolist()
    (1, [[1, -1, 1]])
    """
    if np.ndim(matrix) != 2 or 0 in np.shape(matrix):
        raise ValueError(f"matrix must have two axes and an entry, got shape {np.shape(matrix)}")
    if np.isnan(matrix).any():
        raise ValueError("matrix must not hold NaN: it has no sign")
    return SignMatrix(np.packbits(matrix >= 0, axis=1, bitorder="little"), matrix.shape[1])
