"""The interface of sparse direct methods: an analysis of the pattern, which predicts the size, and a factorisation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.direct.symbolic import FactorSize

DEFINITE = "spd"
SYMMETRIC = ("spd", "symmetric-indefinite")
"""Kinds of real matrices that one triangle determines."""


class Factoriser(ABC):
    """The analysis of a matrix's pattern by one library; `size` is that of the factors.

    `kind` is "spd", "symmetric-indefinite", "nonsymmetric", "hermitian" or "complex-symmetric".
    """

    library: ClassVar[str]
    kind: str
    size: FactorSize | None
    """None where it is unknown before the factorisation."""

    @abstractmethod
    def factor(self, matrix: Any) -> NumericFactor:
        """Factor a matrix in CSR form with the analysed pattern, which is not modified.

        `FactorError` where it is singular to rounding, or not positive definite though its kind is "spd".
        """


class NumericFactor(ABC):
    """A factor of one matrix, which can be used in any thread."""

    entries: float
    """Entries that the library stores."""

    @abstractmethod
    def solve(self, b: NDArray[Any]) -> NDArray[Any]:
        """Return `x` with `A x = b` up to rounding, for `b` `(n,)` or `(n, k)`, as a new array of its shape."""


class FactorError(ArithmeticError):
    """A matrix without a factor of the requested kind; the message gives the reason."""


def indefinite_error(wrong: int, unknowns: int) -> FactorError:
    """Return the error for a factor with `wrong` pivots that are not positive."""
    return FactorError(f"its factor has {wrong} pivots that are not positive of {unknowns}")


def count_not_positive(pivots: NDArray[np.float64]) -> int:
    """Return the number of pivots that are not positive, NaN included."""
    return int(np.count_nonzero(~(pivots > 0)))
