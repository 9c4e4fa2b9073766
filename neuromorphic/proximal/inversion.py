"""Inversion of a learned proximal operator: `a y + c f(y) = v` by Newton's method with conjugate gradients.

The equation is the stationarity condition of the strongly convex `½ a‖y‖² + c ψ(y) − ⟨v, y⟩`. So the solution is
unique, and Newton's method with a line search finds it from any start (Nocedal, Wright 2006, algorithm 7.1). With a = 0
and c = 1 it inverts f (Fang, Buchanan, Sulam 2024); with a = τ and c = 1 − τ, f(y) is the proximal operator of τR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relaxon.neuromorphic.proximal.potentials import Potential

Array = NDArray[np.float64]
ARMIJO = 1e-4
"""Fraction of the predicted decrease that a step must achieve."""
HALVINGS = 40
FORCING = 0.1
"""Largest relative residual of Newton's linear systems; it decreases with the gradient."""
CG_STEPS = 200
ROUNDING = 1e-13
"""Relative rounding error of the function in the line search."""


InversionCallback = Callable[[int, float], object]
"""A function called after each Newton step with its number and the largest residual; returning True ends the run."""


@dataclass(frozen=True, slots=True)
class Preimage:
    """Solutions y of `f(y) = x`, one in each row, and their accuracy."""

    y: Array
    """`(n, *shape)`."""
    residuals: Array
    """`‖f(y) − x‖₂ / ‖x‖₂` (‖f(y)‖ where x is 0), `(n,)`."""
    converged: NDArray[np.bool_]
    """Whether the residual met the tolerance, `(n,)`."""
    iterations: int
    """Largest number of Newton steps of a row."""


@dataclass(frozen=True, slots=True)
class Inverse:
    """The result of `solve_shifted` as tensors: `y`, `f(y)`, ψ(y), relative residuals, and convergence of the rows."""

    y: Tensor
    proximal: Tensor
    value: Tensor
    residuals: Tensor
    converged: Tensor
    iterations: int


def solve_shifted(
    potential: Potential,
    v: Tensor,
    a: float,
    c: float,
    *,
    start: Tensor,
    rtol: float,
    max_iterations: int,
    callback: InversionCallback | None = None,
) -> Inverse:
    """Return y with `a y + c f(y) = v` for each row of `v (n, *shape)` float64, from `start`; a ≥ 0, c > 0.

    A row has converged where `‖a y + c f(y) − v‖₂ ≤ rtol ‖v‖₂` (or `rtol` where v is 0). `callback` ends the solution
    of all rows by returning True.
    """
    y = start.detach().clone()
    sizes = _measure_norms(v)
    sizes = torch.where(sizes > 0, sizes, torch.ones_like(sizes))
    value, proximal = potential.value_and_proximal(y)
    residuals = _measure_norms(a * y + c * proximal - v) / sizes
    iterations = 0
    stuck = torch.zeros(len(y), dtype=torch.bool)
    for _ in range(max_iterations):
        rows = ((residuals > rtol) & ~stuck & torch.isfinite(residuals)).nonzero().squeeze(1)
        if not len(rows):
            break
        iterations += 1
        step = _find_newton_step(potential, y[rows], v[rows], a, c)
        moved, found_value, found, accepted = _search(potential, y[rows], v[rows], a, c, step, value[rows])
        y[rows], value[rows], proximal[rows] = moved, found_value, found
        residuals[rows] = _measure_norms(a * moved + c * found - v[rows]) / sizes[rows]
        stuck[rows] = ~accepted
        if callback is not None and callback(iterations, float(residuals.max())) is True:
            break
    return Inverse(y, proximal, value, residuals, residuals <= rtol, iterations)


def _find_newton_step(potential: Potential, y: Tensor, v: Tensor, a: float, c: float) -> Tensor:
    """Return d with `(a I + c ∇²ψ(y)) d ≈ −(a y + c f(y) − v)`, with separate conjugate gradients for each row."""
    with torch.enable_grad():
        point = y.detach().requires_grad_()
        proximal = potential.proximal(point, differentiable=True)
        residual = (v - a * point - c * proximal).detach()
        axes = (slice(None),) + (None,) * (y.ndim - 1)
        size = _measure_norms(residual)
        limit = size * torch.minimum(size / size.max().clamp(min=1e-300), torch.tensor(1.0)).sqrt() * FORCING
        limit = torch.minimum(limit, size * size.sqrt())
        d, r = torch.zeros_like(y), residual.clone()
        p, rho = r.clone(), size**2
        for _ in range(min(CG_STEPS, 2 * y[0].numel() + 1)):
            open_rows = rho.sqrt() > limit
            if not bool(open_rows.any()):
                break
            (product,) = torch.autograd.grad(proximal, point, p, retain_graph=True)
            product = a * p + c * product
            curvature = _multiply_rows(p, product)
            rate = torch.where(open_rows & (curvature > 0), rho / curvature.clamp(min=1e-300), torch.zeros_like(rho))
            d = d + rate[axes] * p
            r = r - rate[axes] * product
            before, rho = rho, torch.where(open_rows, _multiply_rows(r, r), rho)
            turn = torch.where(open_rows, rho / before.clamp(min=1e-300), torch.zeros_like(rho))
            p = torch.where(open_rows[axes], r + turn[axes] * p, p)
    return d


def _search(
    potential: Potential, y: Tensor, v: Tensor, a: float, c: float, step: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve each row's step until the function, or its gradient where rounding dominates, has decreased enough."""
    axes = (slice(None),) + (None,) * (y.ndim - 1)
    _, proximal = potential.value_and_proximal(y)
    gradient = a * y + c * proximal - v
    start = 0.5 * a * _multiply_rows(y, y) + c * value - _multiply_rows(v, y)
    slope, size = _multiply_rows(gradient, step), _measure_norms(gradient)
    length = torch.ones(len(y), dtype=y.dtype)
    best, best_value, best_proximal = y.clone(), value.clone(), proximal.clone()
    accepted = torch.zeros(len(y), dtype=torch.bool)
    for _ in range(HALVINGS):
        tried = y + length[axes] * step
        tried_value, tried_proximal = potential.value_and_proximal(tried)
        end = 0.5 * a * _multiply_rows(tried, tried) + c * tried_value - _multiply_rows(v, tried)
        smaller = _measure_norms(a * tried + c * tried_proximal - v) <= (1 - ARMIJO * length) * size
        fallen = end <= start + ARMIJO * length * slope
        level = (end - start).abs() <= ROUNDING * start.abs().clamp(min=1.0)
        good = ~accepted & torch.where(level, smaller, fallen)
        best[good], best_value[good], best_proximal[good] = tried[good], tried_value[good], tried_proximal[good]
        accepted |= good
        if bool(accepted.all()):
            break
        length = torch.where(accepted, length, length / 2)
    return best, best_value, best_proximal, accepted


def _multiply_rows(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).flatten(1).sum(1)


def _measure_norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return norms
