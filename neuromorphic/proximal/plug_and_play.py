"""Plug-and-play iterations: inverse problems with a learned proximal operator, with convergence to critical points.

All methods minimise `F(x) = w ½‖A x − b‖² + R(x)`, where `f = ∇ψ = prox_R`. For `x = f(y)`, the first-order condition
of the proximal operator gives `∇R(x) = y − x`. So the stationarity residual `g = w Aᵀ(A x − b) + y − x` and `R(x) = ⟨y,
x⟩ − ½‖x‖² − ψ(y)` are known exactly at each iterate.

- "pgd": `y ← x − w Aᵀ(A x − b)`, `x ← f(y)`, proximal gradient descent (Fang, Buchanan, Sulam 2024, Theorem 4.1).
  F decreases at each step where `w‖A‖² < 1`; larger weights are rejected.
- "admm": `x ← argmin w ½‖A x − b‖² + ρ/2 ‖x − z + u‖²`, `z ← prox_{R/ρ}(x + u)`, `u ← u + x − z` (in the paper, ρ = 1).
  With `τ = 1/ρ ≤ 1`, `prox_{τR}(v) = f(y)` for the unique y with `τ y + (1 − τ) f(y) = v`, since R + ½‖·‖² is convex.
- "mirror": `y ← y − t g`, `x ← f(y)`, mirror descent on F with the mirror map ψ* = R + ½‖·‖² (t = 1 is "pgd"). It uses
  Barzilai and Borwein's step (1988) with a non-monotone line search on F, and accepts any weight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.neuromorphic.proximal.forward.normal_equations import NormalEquations
from relaxon.neuromorphic.proximal.forward.operators import ForwardOperator, check_signal
from relaxon.neuromorphic.proximal.inversion import solve_shifted
from relaxon.neuromorphic.proximal.potentials import Potential

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.model import ProximalModel

Array = NDArray[np.float64]
Method = Literal["pgd", "admm", "mirror"]
PATIENCE = 1000
PROGRESS = 0.999
"""`PATIENCE` iterations without a residual below this fraction of the smallest one count as stagnation."""
DIVERGENCE = 1e8
INNER_RTOL = 1e-3
"""Tolerance of ADMM's inner proximal problem, as a fraction of the last residual."""
LEAST_INNER_RTOL = 1e-13
INNER_STEPS = 100
MEMORY = 10
"""Number of values of F in the line search, over which F need not decrease."""
SUFFICIENT = 1e-4
SHORTEST = 1e-12
"""Mirror descent ends at a step shorter than this."""
LONGEST = 1e4
ROUNDING = 1e-13


@dataclass(frozen=True, slots=True)
class PlugAndPlayProgress:
    """The argument of a callback after each iteration."""

    iteration: int
    residual: float
    objective: float
    tolerance: float


PlugAndPlayCallback = Callable[[PlugAndPlayProgress], object]
"""A function called after each iteration; returning True ends the run as `Result.CANCELLED`."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The outcome of a plug-and-play run."""

    x: Array
    """The reconstruction, of the operator's `input_shape`."""
    result: Result
    """`CONVERGED` where the last residual met the tolerance."""
    residuals: Array
    """`‖w Aᵀ(A x − b) + ∇R(x)‖₂ / ‖w Aᵀ b‖₂` at the start and after each iteration, `(iterations + 1,)`."""
    objectives: Array
    """`w ½‖A x − b‖² + R(x)` at the same iterates, up to a constant."""
    iterations: int
    seconds: float
    tolerance: float
    method: str
    data_weight: float
    operator_norm: float
    penalty: float
    """ρ of "admm"; NaN for other methods."""
    guaranteed: bool
    """Whether convergence to a critical point is proven: always for "pgd" and "mirror", for "admm" where `ρ > w‖A‖²`
    (Themelis, Patrinos 2020)."""
    message: str = ""

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED

    @property
    def residual(self) -> float:
        """The last of `residuals`."""
        return float(self.residuals[-1])


@dataclass(slots=True)
class _Iterate:
    """`x = f(y)`, the gradient g of F at x, and F(x)."""

    y: Tensor
    x: Tensor
    gradient: Tensor
    objective: float


class _Problem:
    """The objective F and its gradient; `x` and `y` are tensors with a first axis of length 1."""

    def __init__(self, potential: Potential, operator: ForwardOperator, observation: Array, weight: float) -> None:
        self.potential, self.operator, self.observation, self.weight = potential, operator, observation, weight
        self.right = weight * operator.adjoint(observation)
        self.size = float(np.linalg.norm(self.right)) or 1.0

    def at(self, y: Tensor) -> _Iterate:
        value, x = self.potential.value_and_proximal(y)
        return self.complete(y, x, value)

    def complete(self, y: Tensor, x: Tensor, value: Tensor) -> _Iterate:
        misfit = self.operator._apply(x[0].numpy()) - self.observation
        gradient = torch.from_numpy(self.weight * self.operator._adjoint(misfit))[None] + y - x
        prior = float((y * x).sum() - 0.5 * x.square().sum() - value[0])
        return _Iterate(y, x, gradient, 0.5 * self.weight * float((misfit**2).sum()) + prior)

    def residual(self, iterate: _Iterate) -> float:
        return float(torch.linalg.vector_norm(iterate.gradient)) / self.size


def reconstruct(
    model: ProximalModel,
    observation: ArrayLike,
    operator: ForwardOperator,
    *,
    data_weight: float | None = None,
    observation_noise: float | None = None,
    method: Method = "pgd",
    penalty: float | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 5000,
    x0: ArrayLike | None = None,
    callback: PlugAndPlayCallback | None = None,
) -> Reconstruction:
    """Find a stationary point of `data_weight ½‖A x − b‖² + R(x)` by plug-and-play iterations.

    Parameters
    ----------
    model : the learned proximal operator of R.
    observation : b, of `operator.output_shape`.
    operator : A; the model must accept its `input_shape`.
    data_weight : w > 0; give either this or `observation_noise`.
    observation_noise : standard deviation s of the noise of b; then w is `model.noise²/s²`, as for the posterior's
        mode.
    method : "pgd", "admm" or "mirror"; see this module.
    penalty : ρ ≥ 1 of "admm"; None for slightly more than `max(1, w‖A‖²)`, above which convergence is proven.
    tolerance : bound on the relative stationarity residual, `‖w Aᵀ(A x − b) + ∇R(x)‖ ≤ tolerance ‖w Aᵀ b‖`.
    max_iterations : maximum number of iterations.
    x0 : initial y; None for `Aᵀb/‖A‖²`. In general R is not convex, so the result depends on it.
    callback : called with a `PlugAndPlayProgress` after each iteration.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any iteration; "pgd" rejects `w‖A‖² ≥ 1`.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.proximal import IdentityOperator, NetworkSettings, ProximalModel
    >>> from relaxon.neuromorphic.proximal.potentials import build_potential
    >>> model = ProximalModel(build_potential(NetworkSettings((2,), hidden=(8,))), noise=0.1)
    >>> found = model.solve(np.array([0.3, -0.2]), IdentityOperator((2,)), data_weight=0.5)
    >>> found.converged, found.residual <= 1e-6
    (True, True)
    """
    if not isinstance(operator, ForwardOperator):
        raise TypeError(f"operator must be a ForwardOperator, got {type(operator).__name__}")
    if not model.accepts(operator.input_shape):
        raise ValueError(f"operator must accept signals of the model's shape {model.shape}, got {operator.input_shape}")
    observed = check_signal("observation", observation, operator.output_shape)
    weight = _choose_weight(model, data_weight, observation_noise)
    if method not in get_args(Method):
        raise ValueError(f"method must be 'pgd', 'admm' or 'mirror', got {method!r}")
    if penalty is not None and method != "admm":
        raise ValueError(f"penalty must be None where method is {method!r}, got {penalty!r}")
    if penalty is not None and validation.positive_float("penalty", penalty) < 1.0:
        raise ValueError(
            f"penalty must be at least 1, below which the proximal operator of R/penalty may not be unique, "
            f"got {penalty!r}"
        )
    tolerance = validation.positive_float("tolerance", tolerance)
    max_iterations = validation.positive_int("max_iterations", max_iterations)
    start = None if x0 is None else check_signal("x0", x0, operator.input_shape)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {type(callback).__name__}")
    curvature = weight * operator.norm**2
    if method == "pgd" and curvature >= 1.0:
        raise ValueError(
            f"data_weight must be below 1/‖A‖² = {1 / operator.norm**2:.6g} for 'pgd', which may not converge "
            f"otherwise, got {weight!r}; methods 'mirror' and 'admm' take larger weights"
        )
    if start is None:
        start = operator.adjoint(observed) / max(operator.norm, np.finfo(float).tiny) ** 2
    problem = _Problem(model.potential, operator, observed, weight)
    y = torch.from_numpy(np.array(start))[None]
    rho = math.nan
    if method == "admm":
        rho = max(1.0, curvature) if penalty is None else float(penalty)
        iterates = _iterate_admm(problem, y, rho)
    else:
        iterates = _iterate_pgd(problem, y) if method == "pgd" else _iterate_mirror(problem, y)
    loop = _Loop(problem, tolerance, max_iterations, callback)
    began = time.perf_counter()
    result, message = loop.go(iterates)
    return Reconstruction(
        x=loop.last.x[0].numpy().copy(),
        result=result,
        residuals=np.array(loop.residuals),
        objectives=np.array(loop.objectives),
        iterations=len(loop.residuals) - 1,
        seconds=time.perf_counter() - began,
        tolerance=tolerance,
        method=method,
        data_weight=weight,
        operator_norm=operator.norm,
        penalty=rho,
        guaranteed=method != "admm" or rho >= curvature,
        message=message,
    )


class _Loop:
    """The loop over iterates until a stopping criterion holds."""

    def __init__(
        self, problem: _Problem, tolerance: float, max_iterations: int, callback: PlugAndPlayCallback | None
    ) -> None:
        self.problem, self.tolerance, self.max_iterations = problem, tolerance, max_iterations
        self.callback = callback
        self.residuals = list[float]()
        self.objectives = list[float]()
        self.last: _Iterate

    def go(self, iterates: Iterator[_Iterate]) -> tuple[Result, str]:
        least, since = math.inf, 0
        for iteration, iterate in enumerate(iterates):
            residual = self.problem.residual(iterate)
            if not math.isfinite(residual):
                if not iteration:
                    self._keep(iterate, residual)
                return Result.NON_FINITE, f"iteration {iteration} gave NaN or infinity; x is the one before"
            self._keep(iterate, residual)
            if residual <= self.tolerance:
                return Result.CONVERGED, ""
            progress = PlugAndPlayProgress(iteration, residual, iterate.objective, self.tolerance)
            if iteration and self.callback is not None and self.callback(progress) is True:
                return Result.CANCELLED, "the callback stopped the run"
            if iteration >= self.max_iterations:
                return Result.MAX_ITERATIONS, f"the residual was {residual:.2e} after {iteration} iterations"
            if residual > DIVERGENCE * max(1.0, self.residuals[0]):
                return Result.DIVERGED, f"the residual rose to {residual:.2e}"
            least, since = (residual, 0) if residual < PROGRESS * least else (least, since + 1)
            if since >= PATIENCE:
                return Result.STAGNATED, f"the residual has not fallen below {least:.2e} for {since} iterations"
        return Result.STAGNATED, f"no step reduces the objective, at a residual of {self.residuals[-1]:.2e}"

    def _keep(self, iterate: _Iterate, residual: float) -> None:
        self.last = iterate
        self.residuals.append(residual)
        self.objectives.append(iterate.objective)


def _iterate_pgd(problem: _Problem, y: Tensor) -> Iterator[_Iterate]:
    iterate = problem.at(y)
    while True:
        yield iterate
        iterate = problem.at(iterate.y - iterate.gradient)


def _iterate_mirror(problem: _Problem, y: Tensor) -> Iterator[_Iterate]:
    iterate = problem.at(y)
    curvature = problem.weight * problem.operator.norm**2
    length = 1.0 / (1.0 + curvature)
    recent = [iterate.objective]
    yield iterate
    while True:
        found = _descend(problem, iterate, length, max(recent))
        if found is None:
            return
        dx, dy, dg = found.x - iterate.x, found.y - iterate.y, found.gradient - iterate.gradient
        bend = float((dx * dg).sum())
        length = float((dx * dy).sum()) / bend if bend > 0 else LONGEST
        length = min(max(length, SHORTEST), LONGEST) if math.isfinite(length) else 1.0
        iterate = found
        recent = [*recent[1 - MEMORY :], iterate.objective]
        yield iterate


def _descend(problem: _Problem, iterate: _Iterate, length: float, ceiling: float) -> _Iterate | None:
    """Return the next iterate, halving the step until F is small enough; None where there is no such step."""
    while length >= SHORTEST:
        found = problem.at(iterate.y - length * iterate.gradient)
        fall = float((iterate.gradient * (iterate.x - found.x)).sum())
        if found.objective <= ceiling - SUFFICIENT * fall + ROUNDING * abs(ceiling):
            return found
        length /= 2
    return None


def _iterate_admm(problem: _Problem, y: Tensor, rho: float) -> Iterator[_Iterate]:
    """Yield the iterates of ADMM; since `y = z + ρ u` throughout, u is not stored."""
    equations = NormalEquations(problem.operator, problem.weight, rho)
    iterate = problem.at(y)
    yield iterate
    residual = problem.residual(iterate)
    x = iterate.x[0].numpy()
    while True:
        z = iterate.x
        u = (iterate.y - z) / rho
        x = equations.solve(problem.right + rho * (z - u)[0].numpy(), x)
        v = torch.from_numpy(x)[None] + u
        if rho == 1.0:
            iterate = problem.at(v)
        else:
            rtol = max(LEAST_INNER_RTOL, INNER_RTOL * min(1.0, residual))
            inner = solve_shifted(
                problem.potential, v, 1 / rho, 1 - 1 / rho, start=iterate.y, rtol=rtol, max_iterations=INNER_STEPS
            )
            iterate = problem.complete(inner.y, inner.proximal, inner.value)
        residual = problem.residual(iterate)
        yield iterate


def _choose_weight(model: ProximalModel, data_weight: float | None, observation_noise: float | None) -> float:
    if (data_weight is None) == (observation_noise is None):
        raise ValueError(
            f"data_weight must be given if and only if observation_noise is not, got {data_weight!r} and "
            f"observation_noise {observation_noise!r}"
        )
    if data_weight is not None:
        return validation.positive_float("data_weight", data_weight)
    return (model.noise / validation.positive_float("observation_noise", observation_noise)) ** 2
