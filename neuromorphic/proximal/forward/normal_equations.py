"""Solves with `w AᵀA + ρ I` of a forward operator, by a dense factor where one side is small, otherwise iteratively."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from relaxon.neuromorphic.proximal.forward.operators import Array, ForwardOperator

DENSE_SIDE = 2048
"""Largest side of a dense factor."""
DENSE_ENTRIES = 1 << 24
"""Largest number of entries of the operator as a dense matrix."""
CG_RTOL = 1e-13


class NormalEquations:
    """The equations `(w AᵀA + ρ I) x = r`; for few observations, x is `(r − w Aᵀ(ρ I + w AAᵀ)⁻¹ A r)/ρ`."""

    def __init__(self, operator: ForwardOperator, weight: float, penalty: float) -> None:
        self.operator, self.weight, self.penalty = operator, weight, penalty
        n, m = math.prod(operator.input_shape), math.prod(operator.output_shape)
        self.small = min(n, m) <= DENSE_SIDE and n * m <= DENSE_ENTRIES
        if self.small:
            from scipy.linalg import cho_factor

            self.matrix = build_dense_matrix(operator)
            self.wide = m < n
            gram = self.matrix @ self.matrix.T if self.wide else self.matrix.T @ self.matrix
            gram *= weight
            gram[np.diag_indices_from(gram)] += penalty
            self.factor: Any = cho_factor(gram, lower=True, overwrite_a=True)

    def solve(self, right: Array, start: Array) -> Array:
        """Return x for `right` of the operator's `input_shape`; `start` is the initial guess of conjugate gradients."""
        if not self.small:
            return self._iterate(right, start)
        from scipy.linalg import cho_solve

        r = right.ravel()
        if self.wide:
            r = (r - self.weight * (self.matrix.T @ cho_solve(self.factor, self.matrix @ r))) / self.penalty
        else:
            r = cho_solve(self.factor, r)
        return np.asarray(r.reshape(right.shape))

    def _iterate(self, right: Array, start: Array) -> Array:
        from scipy.sparse.linalg import LinearOperator, cg

        shape = right.shape

        def product(x: Array) -> Array:
            x = x.reshape(shape)
            found: Array = self.weight * self.operator._adjoint(self.operator._apply(x)) + self.penalty * x
            return found.ravel()

        linear = LinearOperator((right.size, right.size), matvec=product, dtype=np.float64)
        x, _ = cg(linear, right.ravel(), start.ravel(), rtol=CG_RTOL)
        return np.asarray(x.reshape(shape))


def build_dense_matrix(operator: ForwardOperator) -> Array:
    """Return the operator between flat vectors as a dense matrix, `(observations, entries)`."""
    n, m = math.prod(operator.input_shape), math.prod(operator.output_shape)
    matrix = np.empty((m, n))
    if m < n:
        for place in range(m):
            unit = np.zeros(m)
            unit[place] = 1.0
            matrix[place] = operator.adjoint(unit.reshape(operator.output_shape)).ravel()
    else:
        for place in range(n):
            unit = np.zeros(n)
            unit[place] = 1.0
            matrix[:, place] = operator.apply(unit.reshape(operator.input_shape)).ravel()
    return matrix
