"""What a sparse direct method has to offer: an analysis of the pattern that foretells a size, and factors of values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.direct.symbolic import FactorSize

DEFINITE = "spd"
SYMMETRIC = ("spd", "symmetric-indefinite")
"""Kinds of real matrices of which one triangle says all."""


class Factoriser(ABC):
    """The analysis of one pattern by one library, made from a matrix; `size` is that of the factors.

    `kind` is "spd", "symmetric-indefinite", "nonsymmetric", "hermitian" or "complex-symmetric".
    """

    library: ClassVar[str]
    kind: str
    size: FactorSize | None
    """None where it is not known before the factor is there."""

    @abstractmethod
    def factor(self, matrix: Any) -> NumericFactor:
        """Factor a matrix in CSR form with the pattern that was analysed; it is not modified.

        `FactorError` where it is singular to rounding, or not positive definite though its kind says so.
        """


class NumericFactor(ABC):
    """A factor of one matrix; may be solved with in any thread."""

    entries: float
    """That the library holds for it."""

    @abstractmethod
    def solve(self, b: NDArray[Any]) -> NDArray[Any]:
        """Return `x` with `A x = b`, `b` `(n,)` or `(n, k)`, up to rounding; a new array of its shape."""


class FactorError(ArithmeticError):
    """A matrix has no factor of the kind that was asked for; the message says why."""


def indefinite_error(wrong: int, unknowns: int) -> FactorError:
    """Return the error for a factor with so many pivots that are not positive."""
    return FactorError(f"its factor has {wrong} pivots that are not positive of {unknowns}")


def count_not_positive(pivots: NDArray[np.float64]) -> int:
    """Return how many are not positive, NaN among them."""
    return int(np.count_nonzero(~(pivots > 0)))
