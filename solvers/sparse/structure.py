"""The structure of a sparse matrix: symmetry, signs, diagonal dominance, connected parts, and its likely kind."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SYMMETRIC_TO = 1e-10
"""The largest difference of `a_ij` and `a_ji` in a symmetric matrix, relative to the largest entries of their rows."""
DOMINANCE_ROUNDING = 1e-12
"""Fraction of a row's sum by which the diagonal may fall short of it and still count as equal."""
SUM_ROUNDINGS = 16.0
"""A row sums to zero where its sum is below this many roundings of its largest entry, for each of its entries."""


@dataclass(frozen=True, slots=True)
class MatrixStructure:
    """The findings of `examine_structure` on a square matrix of `unknowns` rows with `entries` nonzeros."""

    unknowns: int
    entries: int
    complex_values: bool
    asymmetry: float
    """The largest `|a_ij − a_ji|`, relative to the square root of the largest entries of rows i and j."""
    hermitian_asymmetry: float
    """The same for `|a_ij − conj(a_ji)|`."""
    pattern_symmetric: bool
    empty_rows: int
    positive_diagonal: int
    """Rows whose diagonal entry is greater than 0, or has a positive real part."""
    negative_diagonal: int
    smallest_diagonal: float
    """The smallest magnitude among nonzero diagonal entries; NaN where there are none. `largest_diagonal` likewise."""
    largest_diagonal: float
    negative_off: int
    """Off-diagonal entries below 0; `positive_off` counts those above."""
    positive_off: int
    dominant_rows: int
    """Nonempty rows with `|a_ii| ≥ Σ_{j≠i} |a_ij|`."""
    least_dominance: float
    """The least `|a_ii| / Σ_{j≠i} |a_ij|`; infinite for a diagonal matrix."""
    parts: int
    """Connected components of the graph, empty rows included."""
    constant_null_vectors: int
    """Parts whose rows all sum to zero, to rounding: constants on them are in the null space."""
    bandwidth: int

    @property
    def symmetric(self) -> bool:
        """Whether `A` is its transpose, to rounding."""
        return self.asymmetry <= SYMMETRIC_TO

    @property
    def hermitian(self) -> bool:
        """Whether `A` is its conjugate transpose, to rounding."""
        return self.hermitian_asymmetry <= SYMMETRIC_TO

    @property
    def kind(self) -> str:
        """The likely kind: "spd", "negative-definite", "symmetric-indefinite", "hermitian", "complex-symmetric" or
        "nonsymmetric".

        "spd" means that nothing was found against positive definiteness, or against semidefiniteness with the null
        vectors counted.
        """
        if self.complex_values:
            return "hermitian" if self.hermitian else "complex-symmetric" if self.symmetric else "nonsymmetric"
        if not self.symmetric:
            return "nonsymmetric"
        filled = self.unknowns - self.empty_rows
        if self.positive_diagonal == filled:
            return "spd"
        return "negative-definite" if self.negative_diagonal == filled else "symmetric-indefinite"


def examine_structure(matrix: Any) -> MatrixStructure:
    """Return the structure of a square SciPy sparse matrix, which is not modified.

    Examples
    --------
    >>> from relaxon.solvers import gallery
    >>> from relaxon.solvers.sparse.structure import examine_structure
    >>> found = examine_structure(gallery.matrix("neumann-2d", 400))
    >>> found.kind, found.parts, found.constant_null_vectors, found.positive_off
    ('spd', 1, 1, 0)
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    own = csr_array(matrix, copy=True)
    if own.shape[0] != own.shape[1]:
        raise ValueError(f"matrix must be square, got shape {own.shape}")
    own.sum_duplicates()
    own.eliminate_zeros()
    n = own.shape[0]
    counts = np.diff(own.indptr)
    rows = np.repeat(np.arange(n), counts)
    sizes, off = np.abs(own.data), rows != own.indices
    diagonal = own.diagonal()
    around = np.bincount(rows, sizes * off, n)
    real = np.real(own.data)
    scale = np.zeros(n)
    np.maximum.at(scale, rows, sizes)
    count, component = connected_components(abs(own), directed=False)
    smallest, largest = _range(np.abs(diagonal))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(around > 0, np.abs(diagonal) / around, np.inf)
    dominant = (np.abs(diagonal) >= around * (1.0 - DOMINANCE_ROUNDING)) & (counts > 0)
    return MatrixStructure(
        unknowns=n,
        entries=int(own.nnz),
        complex_values=own.dtype.kind == "c",
        asymmetry=_asymmetry(own, own.T, scale),
        hermitian_asymmetry=_asymmetry(own, own.T.conj(), scale),
        pattern_symmetric=_has_symmetric_pattern(own),
        empty_rows=int(np.count_nonzero(counts == 0)),
        positive_diagonal=int(np.count_nonzero(np.real(diagonal) > 0)),
        negative_diagonal=int(np.count_nonzero(np.real(diagonal) < 0)),
        smallest_diagonal=smallest,
        largest_diagonal=largest,
        negative_off=int(np.count_nonzero(real[off] < 0)),
        positive_off=int(np.count_nonzero(real[off] > 0)),
        dominant_rows=int(np.count_nonzero(dominant)),
        least_dominance=float(ratios.min()) if n else np.inf,
        parts=int(count),
        constant_null_vectors=_constant_null_vectors(own, rows, scale * counts, component, count),
        bandwidth=int(np.abs(rows - own.indices).max()) if own.nnz else 0,
    )


def _range(sizes: NDArray[np.float64]) -> tuple[float, float]:
    filled = sizes[sizes > 0]
    return (float(filled.min()), float(filled.max())) if len(filled) else (np.nan, np.nan)


def _asymmetry(own: Any, other: Any, scale: NDArray[np.float64]) -> float:
    difference = (own - other).tocoo()
    if not difference.nnz:
        return 0.0
    root = np.sqrt(np.where(scale > 0, scale, np.inf))
    return float((np.abs(difference.data) / root[difference.row] / root[difference.col]).max())


def _has_symmetric_pattern(own: Any) -> bool:
    pattern = own.copy()
    pattern.data = np.ones(len(own.data), np.int8)
    other = pattern.T.tocsr()
    other.sort_indices()
    return bool(np.array_equal(pattern.indptr, other.indptr) and np.array_equal(pattern.indices, other.indices))


def _constant_null_vectors(
    own: Any, rows: NDArray[Any], size: NDArray[np.float64], component: NDArray[Any], count: int
) -> int:
    sums = np.abs(np.asarray(own.sum(axis=1)).ravel())
    open_row = sums > SUM_ROUNDINGS * np.finfo(np.float64).eps * size
    held = np.zeros(count, bool)
    held[component[open_row]] = True
    return int(np.count_nonzero(~held))
