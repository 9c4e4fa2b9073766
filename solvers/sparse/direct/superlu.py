"""SuperLU through SciPy: an elimination order first, the fill that it causes, then the factor in that order."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.external.factors import Factor
from relaxon.solvers.sparse.direct.factoriser import (
    DEFINITE,
    FactorError,
    Factoriser,
    NumericFactor,
    count_not_positive,
    indefinite_error,
)
from relaxon.solvers.sparse.direct.symbolic import FactorSize, column_counts, count_operations, symmetric_pattern

ENTRY_BYTES, PIVOTING_BYTES, OWN_BYTES = 24.0, 48.0, 120.0
"""Peak bytes for an entry of the Cholesky factor's pattern, for one where rows are exchanged for pivots, and for an
entry of the matrix: SuperLU's L and U with their indices and the room in which they grow (`bench/direct.py`)."""
DEFINITE_OPTIONS: dict[str, Any] = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
TRIVIAL_FILL = {"drop_tol": 1.0, "fill_factor": 1.0}
"""Options of an incomplete factor with almost no entries, computed for the sake of its order."""


class SuperLUFactoriser(Factoriser):
    """SuperLU in a known order: minimum degree on `A + Aᵀ` without pivoting for positive definite matrices, else COLAMD
    with partial pivoting, where the predicted size may be exceeded."""

    library: ClassVar[str] = "SuperLU"

    def __init__(self, matrix: Any, kind: str = DEFINITE, order: NDArray[np.int64] | None = None) -> None:
        """Analyse a matrix's pattern; `order` is an elimination order that is known already."""
        self.kind, definite = kind, kind == DEFINITE
        self._options = DEFINITE_OPTIONS if definite else {}
        if order is None:
            order = fill_reducing_order(matrix, "MMD_AT_PLUS_A" if definite else "COLAMD")
        self.order = order
        counts = column_counts(matrix if definite else symmetric_pattern(matrix), self.order)
        entries, complex_ = float(counts.sum()), np.iscomplexobj(matrix.data)
        held = (ENTRY_BYTES if definite else PIVOTING_BYTES) * entries + OWN_BYTES * matrix.nnz
        operations = count_operations(counts) * (1.0 if definite else 2.0)
        self.size = FactorSize(entries, operations, held * (1.5 if complex_ else 1.0))

    def factor(self, matrix: Any) -> NumericFactor:
        columns = matrix[:, self.order]
        ordered = (columns[self.order] if self.kind == DEFINITE else columns).tocsc()
        made = _factor(ordered, self.kind, permc_spec="NATURAL", **self._options)
        return SuperLUFactor(made, self.order, both=self.kind == DEFINITE)


class SciPyFactoriser(Factoriser):
    """SuperLU for positive definite matrices, order and factor at once, so that no size is known before."""

    library: ClassVar[str] = "SuperLU"

    def __init__(self) -> None:
        self.kind, self.size = DEFINITE, None
        self._ordered: SuperLUFactoriser | None = None

    def factor(self, matrix: Any) -> NumericFactor:
        """Factor a matrix as `Factoriser.factor` does; the first matrix determines the order of all later ones."""
        if self._ordered is not None:
            return self._ordered.factor(matrix)
        made = _factor(matrix.tocsc(), DEFINITE, permc_spec="MMD_AT_PLUS_A", **DEFINITE_OPTIONS)
        self._ordered = SuperLUFactoriser(matrix, DEFINITE, _order_of(made))
        return SuperLUFactor(made)


def _factor(matrix: Any, kind: str, **options: Any) -> Factor:
    try:
        made = Factor(matrix, **options)
    except RuntimeError as error:
        raise FactorError(f"its factor fails: {error}") from error
    if kind == DEFINITE:
        # Without pivoting the signs of U's diagonal are those of the eigenvalues (Sylvester's law of inertia).
        wrong = count_not_positive(made.superlu.U.diagonal())
        if wrong:
            raise indefinite_error(wrong, matrix.shape[0])
    return made


class SuperLUFactor(NumericFactor):
    """The factor of a matrix whose columns, and rows where `both`, were permuted by an order, None for none."""

    def __init__(self, made: Factor, order: NDArray[np.int64] | None = None, both: bool = True) -> None:
        self._made, self._order, self._both = made, order, both
        self.entries = float(made.superlu.nnz)

    def solve(self, b: NDArray[Any]) -> NDArray[Any]:
        if self._order is None:
            return self._made.solve(b)
        found = np.empty_like(b)
        found[self._order] = self._made.solve(b[self._order] if self._both else b)
        return found


def fill_reducing_order(matrix: Any, spec: str) -> NDArray[np.int64]:
    """Return SuperLU's elimination order of a pattern, `(n,)`, by the name of a method ("COLAMD", …).

    SciPy returns it only with a factor. An incomplete factor that drops all it can, of a diagonally dominant matrix
    with the same pattern, takes a tenth of the time or less.
    """
    from scipy.sparse import csc_array, eye_array

    n = matrix.shape[0]
    pattern = csc_array(matrix, copy=False)
    pattern = csc_array((np.full(pattern.nnz, -1.0), pattern.indices, pattern.indptr), shape=(n, n))
    dominated = pattern + (n + 1.0) * eye_array(n, format="csc")
    options = {"SymmetricMode": True} if spec == "MMD_AT_PLUS_A" else None
    made = Factor(dominated, incomplete=True, permc_spec=spec, diag_pivot_thresh=0.0, options=options, **TRIVIAL_FILL)
    return _order_of(made)


def _order_of(made: Factor) -> NDArray[np.int64]:
    order: NDArray[np.int64] = np.argsort(made.superlu.perm_c).astype(np.int64)
    return order
