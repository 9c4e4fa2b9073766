"""CG, GMRES and BiCGStab for a batch of linear systems; every sample stops by itself.

Systems are maps of `(samples, n)` real numbers that do not mix samples. A sample that is done is not changed any more,
whatever the others do. Sources: Hestenes and Stiefel 1952; Saad and Schultz 1986; van der Vorst 1992; right
preconditioning throughout but for CG, so that the residual that a stopping rule sees is the true one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class KrylovSolution:
    """The result of a solve: `x`, recomputed `‖b − Ax‖/‖b‖` of each sample, products, and whether A is indefinite."""

    x: Tensor
    relative_residuals: Tensor
    products: int
    indefinite: bool = False


def norms(v: Tensor) -> Tensor:
    """Return the norms of the samples, `(samples, 1)`."""
    length: Tensor = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return length


def _over(a: Tensor, b: Tensor) -> Tensor:
    """Return `a / b`, and 0 where b is 0."""
    return torch.where(b == 0, torch.zeros_like(a), a / torch.where(b == 0, torch.ones_like(b), b))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def relative(residual: Tensor, size: Tensor) -> Tensor:
    """Return `‖residual‖ / size` for each sample, `(samples, 1)`: 0 where both are 0, infinite where only size is 0."""
    length = norms(residual)
    return torch.where(size > 0, length / torch.where(size > 0, size, 1), torch.where(length > 0, torch.inf, length))


def _begin(check: Map, b: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor, int]:
    """Return the initial guess (zeros where None), its residual, and the number of products used."""
    r, spent = (b, 0) if x is None or not x.any() else (b - check(x), 1)
    return torch.zeros_like(b) if x is None else x, r, spent


def cg(
    apply: Map,
    b: Tensor,
    x: Tensor | None,
    precondition: Map | None,
    rtol: float,
    steps: int,
    check: Map | None = None,
) -> KrylovSolution:
    """Solve `A x = b` for symmetric definite A (positive or negative) by conjugate gradients.

    Ends as `indefinite` where directions of both signs of curvature were met, or of none; x is what there was before.
    `check` is A too, and takes the products with x that true residuals need: the last one's result belongs to the x
    that is returned. No tensor that was handed to a map is changed afterwards.
    """
    check, size = check or apply, norms(b)
    x, r, spent = _begin(check, b, x)
    signs, run = torch.zeros_like(size), _cg_run_alone if len(b) == 1 else _cg_run
    left = relative(r, size)
    for _ in range(MAX_RESTARTS):
        if spent >= steps or not bool((left > rtol).any()):
            break
        x, signs, used, indefinite = run(apply, x, r, signs, size, precondition, rtol, steps - spent)
        r = b - check(x)
        spent += used + 1
        before, left = left, relative(r, size)
        if indefinite or not bool((left < 0.5 * before).any()):
            return KrylovSolution(x, left[:, 0], spent, indefinite)
    return KrylovSolution(x, left[:, 0], spent)


def _cg_run(
    apply: Map, x: Tensor, r: Tensor, signs: Tensor, size: Tensor, precondition: Map | None, rtol: float, steps: int
) -> tuple[Tensor, Tensor, int, bool]:
    """Return x, the signs of the curvatures, the number of products, and whether A is indefinite."""
    active = relative(r, size) > rtol
    p = r if precondition is None else precondition(r)
    rho = _dot(r, p)
    for used in range(1, steps + 1):
        image = apply(p)
        curvature = _dot(p, image)
        sign = torch.where(active, torch.sign(curvature), torch.zeros_like(curvature))
        if bool(((signs * sign) < 0).any()) or bool((active & (curvature == 0) & (norms(p) > 0)).any()):
            return x, signs, used, True
        signs = torch.where(sign != 0, sign, signs)
        step = torch.where(active, _over(rho, curvature), torch.zeros_like(rho))
        x = x + step * p
        r = r - step * image
        active = active & (relative(r, size) > rtol)
        if not active.any():
            return x, signs, used, False
        z = r if precondition is None else precondition(r)
        rho, last = _dot(r, z), rho
        p = torch.where(active, z + _over(rho, last) * p, torch.zeros_like(p))
    return x, signs, steps, False


def _cg_run_alone(
    apply: Map, x: Tensor, r: Tensor, signs: Tensor, size: Tensor, precondition: Map | None, rtol: float, steps: int
) -> tuple[Tensor, Tensor, int, bool]:
    """Do the same for one sample with Python numbers as scalars, which dominate the time for small systems."""
    target, sign = rtol * float(size), float(signs)
    p = r if precondition is None else precondition(r)
    rho, used, indefinite = _number(r, p), 0, False
    while used < steps:
        image = apply(p)
        used += 1
        curvature = _number(p, image)
        if curvature * sign < 0 or (curvature == 0 and bool(p.any())):
            indefinite = True
            break
        sign = math.copysign(1.0, curvature) if curvature else sign
        step = rho / curvature if curvature else 0.0
        x = x.add(p, alpha=step)
        r = r.sub(image, alpha=step)
        squared = _number(r, r)
        if not math.sqrt(squared) > target:
            break
        z = r if precondition is None else precondition(r)
        rho, last = squared if precondition is None else _number(r, z), rho
        p = z.add(p, alpha=rho / last if last else 0.0)
    return x, torch.full_like(signs, sign), used, indefinite


def _number(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a[0], b[0]))


MAX_RESTARTS = 4
"""Of CG from the true residual, where the recurrence's has drifted from it."""


def gmres(
    apply: Map, b: Tensor, x: Tensor | None, precondition: Map | None, rtol: float, steps: int, restart: int
) -> KrylovSolution:
    """Solve `A x = b` by flexible GMRES, restarted from the true residual after `restart` vectors."""
    size = norms(b)
    x = torch.zeros_like(b) if x is None else x.clone()
    r, spent = (b - apply(x), 1) if x.any() else (b.clone(), 0)
    left = relative(r, size)
    while spent < steps and bool((left > rtol).any()):
        active = left > rtol
        change, used = _gmres_cycle(apply, r, active, size, precondition, rtol, min(restart, steps - spent))
        x = x + change
        r = b - apply(x)
        spent += used + 1
        last, left = left, relative(r, size)
        if not bool(torch.isfinite(left).all()) or not bool((active & (left < STAGNATION * last)).any()):
            break
    return KrylovSolution(x, left[:, 0], spent)


STAGNATION = 0.999
"""Reduction of every residual in a GMRES cycle above which further cycles are not expected to help."""


def _gmres_cycle(
    apply: Map, r: Tensor, active: Tensor, size: Tensor, precondition: Map | None, rtol: float, steps: int
) -> tuple[Tensor, int]:
    """Return the change of x after at most `steps` products, and their number."""
    samples, eps = len(r), torch.finfo(r.dtype).eps
    beta = torch.where(active, norms(r), torch.zeros_like(size))
    basis = torch.zeros(steps + 1, *r.shape, dtype=r.dtype, device=r.device)
    basis[0] = torch.where(active, _over(r, norms(r)), torch.zeros_like(r))
    images = basis if precondition is None else torch.zeros_like(basis)
    triangle = torch.zeros(samples, steps, steps, dtype=r.dtype, device=r.device)
    side = torch.zeros(samples, steps + 1, dtype=r.dtype, device=r.device)
    side[:, 0] = beta[:, 0]
    turns: list[tuple[Tensor, Tensor]] = []
    used = 0
    for k in range(steps):
        v = basis[k]
        if precondition is not None:
            images[k] = v = precondition(v)
        w = apply(v)
        length = norms(w)
        column = torch.zeros(samples, k + 2, dtype=r.dtype, device=r.device)
        for _ in range(2):  # twice is enough (Kahan): the second pass removes what rounding left of the first
            h = torch.einsum("kbn,bn->bk", basis[: k + 1], w)
            w = w - torch.einsum("bk,kbn->bn", h, basis[: k + 1])
            column[:, : k + 1] += h
        after = norms(w)
        alive = active & (after > 10 * eps * length)
        column[:, k + 1] = torch.where(alive, after, torch.zeros_like(after))[:, 0]
        for i, (c, s) in enumerate(turns):
            column[:, i], column[:, i + 1] = (
                c * column[:, i] + s * column[:, i + 1],
                c * column[:, i + 1] - s * column[:, i],
            )
        radius = torch.hypot(column[:, k], column[:, k + 1])
        c = torch.where(radius > 0, column[:, k] / torch.where(radius > 0, radius, 1), 1)
        s = torch.where(radius > 0, column[:, k + 1] / torch.where(radius > 0, radius, 1), 0)
        turns.append((c, s))
        side[:, k + 1] = -s * side[:, k]
        side[:, k] = c * side[:, k]
        triangle[:, :k, k], triangle[:, k, k] = column[:, :k], radius
        used = k + 1
        active = alive & (side[:, k + 1].abs()[:, None] > 0.5 * rtol * size)
        if not active.any():
            break
        basis[k + 1] = torch.where(active, _over(w, after), torch.zeros_like(w))
    y = _back_substitute(triangle[:, :used, :used], side[:, :used, None])
    return torch.einsum("bk,kbn->bn", y[..., 0], images[:used]), used


def _back_substitute(triangle: Tensor, b: Tensor) -> Tensor:
    """Solve `R y = b`; a zero on the diagonal (a sample that was done, or a singular system) gives a zero there."""
    diagonal = torch.diagonal(triangle, dim1=-2, dim2=-1)
    eps = torch.finfo(triangle.dtype).eps
    dead = diagonal.abs() <= eps * diagonal.abs().amax(-1, keepdim=True)
    one, zero = torch.ones_like(diagonal), torch.zeros_like(diagonal)
    whole = triangle + torch.diag_embed(torch.where(dead, one - diagonal, zero))
    y: Tensor = torch.linalg.solve_triangular(whole, torch.where(dead[..., None], torch.zeros_like(b), b), upper=True)
    return y


def bicgstab(
    apply: Map,
    b: Tensor,
    x: Tensor | None,
    precondition: Map | None,
    rtol: float,
    steps: int,
    check: Map | None = None,
) -> KrylovSolution:
    """Solve `A x = b` by BiCGStab, restarted from the true residual after a breakdown; `check` as for `cg`."""
    check, size = check or apply, norms(b)
    x, r, spent = _begin(check, b, x)
    left = relative(r, size)
    while spent < steps:
        active = left > rtol
        if not active.any() or not bool(torch.isfinite(left).all()):
            break
        x, used = _bicgstab_run(apply, x, r, active, size, precondition, rtol, steps - spent)
        if used == 0:
            break
        r = b - check(x)
        spent += used + 1
        before, left = left, relative(r, size)
        if not bool((active & (left < STAGNATION * before)).any()):
            break
    return KrylovSolution(x, left[:, 0], spent)


def _bicgstab_run(
    apply: Map, x: Tensor, r: Tensor, active: Tensor, size: Tensor, precondition: Map | None, rtol: float, steps: int
) -> tuple[Tensor, int]:
    shadow, p, used = r, torch.zeros_like(r), 0
    v = torch.zeros_like(r)
    rho = alpha = omega = torch.ones_like(size)
    while used + 2 <= steps and bool(active.any()):
        rho, last = _dot(shadow, r), rho
        broken = rho.abs() <= torch.finfo(r.dtype).eps * norms(shadow) * norms(r)
        active = active & ~broken
        if not active.any():
            break
        p = torch.where(active, r + _over(rho, last) * _over(alpha, omega) * (p - omega * v), torch.zeros_like(p))
        q = p if precondition is None else precondition(p)
        v = apply(q)
        alpha = _over(rho, _dot(shadow, v))
        s = r - alpha * v
        z = s if precondition is None else precondition(s)
        t = apply(z)
        used += 2
        omega = _over(_dot(t, s), _dot(t, t))
        x = torch.where(active, x + alpha * q + omega * z, x)
        r = torch.where(active, s - omega * t, r)
        active = active & (relative(r, size) > rtol) & (omega != 0)
    return x, used
