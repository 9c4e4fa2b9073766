"""Classical regularisers for comparison with learned priors: Tikhonov and total variation, solved to convergence."""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.neuromorphic.proximal.forward.normal_equations import DENSE_ENTRIES, DENSE_SIDE, build_dense_matrix
from relaxon.neuromorphic.proximal.forward.operators import Array, ForwardOperator

RELAXATION = 1.8
"""Over-relaxation of ADMM (Boyd et al. 2011, section 3.4.3)."""
FIRST_PENALTY = 10.0
BALANCE = 3.0
"""Ratio of the two residuals at which the penalty changes, by the square root of this ratio."""
BALANCE_EVERY = 20
BALANCE_UNTIL = 600
"""Iteration after which the penalty is constant, so that ADMM's convergence is guaranteed."""
FLOOR = 1e-3
TINY = 1e-300
JITTER = 1e-14
"""Multiple of the mean diagonal added to a system, which is singular if neither A nor ∇ determines a constant."""


@dataclass(frozen=True, slots=True)
class ClassicalReconstruction:
    """The result of a classical method, for one observation or for several at once."""

    x: Array
    """`(*input_shape)`, or `(k, *input_shape)` for k observations."""
    result: Result
    iterations: int
    residual: float
    """Larger of ADMM's two relative residuals; for Tikhonov, the relative residual of its normal equations."""
    seconds: float

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED


class ClassicalMethods:
    """Tikhonov and total-variation reconstructions with one operator, whose dense matrix is computed once.

    Observations have the shape `operator.output_shape`, or `(k, *operator.output_shape)` for k that are solved
    together.

    Parameters
    ----------
    operator : A, for signals with one or two axes and at most 2048 entries, so that its dense matrix is small.

    Raises `TypeError` or `ValueError` naming the argument.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.proximal import IdentityOperator
    >>> classical = ClassicalMethods(IdentityOperator((4,)))
    >>> classical.solve_total_variation([0.0, 0.1, 1.0, 1.1], data_weight=10.0).x.round(3).tolist()
    [0.1, 0.1, 1.0, 1.0]
    """

    def __init__(self, operator: ForwardOperator) -> None:
        if not isinstance(operator, ForwardOperator):
            raise TypeError(f"operator must be a ForwardOperator, got {type(operator).__name__}")
        n, m = math.prod(operator.input_shape), math.prod(operator.output_shape)
        if len(operator.input_shape) > 2 or n > DENSE_SIDE or n * m > DENSE_ENTRIES:
            raise ValueError(
                f"operator must take signals of at most 2 axes and {DENSE_SIDE} entries, got {operator.input_shape}"
            )
        self.operator = operator
        self.matrix = build_dense_matrix(operator)
        self.gram = self.matrix.T @ self.matrix
        self.differences = build_differences(operator.input_shape)
        self.laplacian: Array = (self.differences.T @ self.differences).toarray()

    def solve_tikhonov(self, observation: ArrayLike, data_weight: float, order: int = 0) -> ClassicalReconstruction:
        """Return the minimiser of `data_weight ½‖A x − b‖² + ½‖x‖²`, with ½‖∇x‖² where `order` is 1."""
        from scipy.linalg import cho_factor, cho_solve

        began = time.perf_counter()
        b, shape = self._columns(observation)
        weight = validation.positive_float("data_weight", data_weight)
        if order not in (0, 1):
            raise ValueError(f"order must be 0 or 1, got {order!r}")
        system = weight * self.gram + (self.laplacian if order else np.eye(len(self.gram)))
        system[np.diag_indices_from(system)] += JITTER * float(np.trace(system)) / len(system)
        right = weight * (self.matrix.T @ b)
        x = cho_solve(cho_factor(system), right)
        residual = float(np.linalg.norm(system @ x - right)) / (float(np.linalg.norm(right)) or 1.0)
        found: Array = x.T.reshape(shape)
        return ClassicalReconstruction(found, Result.CONVERGED, 1, residual, time.perf_counter() - began)

    def solve_total_variation(
        self,
        observation: ArrayLike,
        data_weight: float,
        *,
        lower: float | None = None,
        tolerance: float = 1e-6,
        max_iterations: int = 20_000,
    ) -> ClassicalReconstruction:
        """Return the minimiser of `data_weight ½‖A x − b‖² + Σ_i ‖(∇x)_i‖₂`, subject to `x ≥ lower` where given.

        This is isotropic total variation with forward differences, 0 across the border (Rudin, Osher, Fatemi 1992), by
        ADMM with over-relaxation and balanced residuals (Boyd et al. 2011, section 3.4). It stops where primal and dual
        residual, relative to the sizes of their terms, are at most `tolerance`.
        """
        began = time.perf_counter()
        b, shape = self._columns(observation)
        weight = validation.positive_float("data_weight", data_weight)
        bound = -math.inf if lower is None else validation.finite_float("lower", lower)
        tolerance = validation.positive_float("tolerance", tolerance)
        max_iterations = validation.positive_int("max_iterations", max_iterations)
        run = _TotalVariation(self, b, weight, bound)
        for iteration in range(1, max_iterations + 1):
            primal, dual = run.step()
            if max(primal, dual) <= tolerance:
                break
            if iteration % BALANCE_EVERY == 0 and iteration <= BALANCE_UNTIL:
                run.balance(primal, dual)
        residual = max(primal, dual)
        result = Result.CONVERGED if residual <= tolerance else Result.MAX_ITERATIONS
        found: Array = run.solution().T.reshape(shape)
        return ClassicalReconstruction(found, result, iteration, residual, time.perf_counter() - began)

    def _columns(self, observation: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """Return the observations as columns, and the shape of the result."""
        array = validation.real_array("observation", observation)
        expected = self.operator.output_shape
        single = array.shape == expected
        if not single and (array.shape[1:] != expected or not len(array)):
            whole = ", ".join(map(str, expected))
            raise ValueError(f"observation must have shape ({whole}) or (k, {whole}), got {array.shape}")
        columns = array.astype(np.float64).reshape(-1, math.prod(expected)).T
        leading = () if single else (len(array),)
        return columns, leading + self.operator.input_shape


class _TotalVariation:
    """ADMM on `z = K x` with K the differences and, where there is a bound, the identity below them."""

    def __init__(self, classical: ClassicalMethods, b: Array, weight: float, bound: float) -> None:
        from scipy.sparse import identity, vstack

        n, count = len(classical.gram), b.shape[1]
        self.bound, self.bounded = bound, math.isfinite(bound)
        self.edges = classical.differences.shape[0]
        self.axes = self.edges // n
        self.K: Any = vstack([classical.differences, identity(n)]).tocsr() if self.bounded else classical.differences
        self.KT = self.K.T.tocsr()
        self.KTK = classical.laplacian + (np.eye(n) if self.bounded else 0.0)
        self.data, self.right = weight * classical.gram, weight * (classical.matrix.T @ b)
        self.x, self.z = np.zeros((n, count)), np.zeros((self.K.shape[0], count))
        self.u = np.zeros_like(self.z)
        self.set_penalty(FIRST_PENALTY)
        # Lower bounds on the sizes to which residuals are compared: the solution may be 0.
        self.least = FLOOR * _measure_norms(self.K @ (self.inverse @ self.right))
        self.least_dual = FLOOR * _measure_norms(self.right)

    def set_penalty(self, penalty: float) -> None:
        system = self.data + penalty * self.KTK
        system[np.diag_indices_from(system)] += JITTER * float(np.trace(system)) / len(system)
        # Thousands of products with the inverse are cheaper than as many pairs of triangular solves.
        self.penalty, self.inverse = penalty, np.linalg.inv(system)

    def balance(self, primal: float, dual: float) -> None:
        """Change the penalty and the scaled duals where one residual is much larger than the other."""
        if max(primal, dual) < BALANCE * min(primal, dual):
            return
        factor = math.sqrt(BALANCE) if primal > dual else 1 / math.sqrt(BALANCE)
        self.u /= factor
        self.set_penalty(self.penalty * factor)

    def step(self) -> tuple[float, float]:
        self.x = self.inverse @ (self.right + self.penalty * (self.KT @ (self.z - self.u)))
        product = self.K @ self.x
        relaxed = RELAXATION * product + (1 - RELAXATION) * self.z
        before, self.z = self.z, self._shrink(relaxed + self.u)
        self.u = self.u + relaxed - self.z
        size = np.maximum(np.maximum(_measure_norms(product), _measure_norms(self.z)), self.least)
        dual_size = np.maximum(self.penalty * _measure_norms(self.KT @ self.u), self.least_dual)
        primal = float((_measure_norms(product - self.z) / np.maximum(size, TINY)).max())
        change = self.penalty * _measure_norms(self.KT @ (self.z - before))
        return primal, float((change / np.maximum(dual_size, TINY)).max())

    def _shrink(self, v: Array) -> Array:
        z = v.copy()
        gradient = v[: self.edges].reshape(self.axes, -1, v.shape[1])
        lengths = np.sqrt((gradient**2).sum(0))
        kept = gradient * np.maximum(1 - 1 / (self.penalty * np.maximum(lengths, TINY)), 0.0)
        z[: self.edges] = kept.reshape(self.edges, -1)
        if self.bounded:
            z[self.edges :] = np.maximum(v[self.edges :], self.bound)
        return z

    def solution(self) -> Array:
        return np.asarray(np.maximum(self.x, self.bound) if self.bounded else self.x)


def soft_threshold(y: Array, width: float) -> Array:
    """Return `sign(y) max(|y| − width, 0)`, the proximal operator of `width |x|`."""
    return np.asarray(np.sign(y) * np.maximum(np.abs(y) - width, 0.0))


def build_differences(shape: tuple[int, ...]) -> Any:
    """Return forward differences along each axis, 0 at its end, as a CSR matrix `(axes · n, n)`."""
    from scipy.sparse import diags, identity, kron, vstack

    lines = []
    for side in shape:
        ends = np.append(-np.ones(side - 1), 0.0)
        lines.append(diags([ends, np.ones(side - 1)], [0, 1]))
    if len(shape) == 1:
        return lines[0].tocsr()
    height, width = shape
    return vstack([kron(lines[0], identity(width)), kron(identity(height), lines[1])]).tocsr()


def _measure_norms(columns: Array) -> Array:
    return np.asarray(np.linalg.norm(columns, axis=0))
