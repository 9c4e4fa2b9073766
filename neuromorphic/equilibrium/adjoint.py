"""The adjoint equation `Jᵀδ = −g` at a free equilibrium, solved to rounding: what the exact gradient is made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gmres(apply: Callable[[Tensor], Tensor], b: Tensor, tolerance: float, steps: int) -> tuple[Tensor, float, int]:
    """Solve `K δ = b` for each sample of `(batch, units)` by GMRES; returns δ, the largest `‖b − Kδ‖/‖b‖`, products.

    The Krylov spaces of the samples are apart; the loop is shared and ends with the slowest. Restarts from the true
    residual until `steps` products are spent.
    """
    norms = b.norm(dim=-1, keepdim=True)
    safe = norms.clamp(min=torch.finfo(b.dtype).tiny)
    x, spent, relative = torch.zeros_like(b), 0, 1.0
    if not float(norms.max()) > 0:
        return x, 0.0, 0
    while spent < steps:
        residual = b if spent == 0 else b - apply(x)
        relative = float((residual.norm(dim=-1, keepdim=True) / safe).max())
        if relative <= tolerance or relative != relative:
            break
        x, used = _cycle(apply, x, residual, safe, tolerance, min(RESTART, steps - spent))
        spent += used
    else:
        relative = float(((b - apply(x)).norm(dim=-1, keepdim=True) / safe).max())
    return x, relative, spent


RESTART = 50


def _cycle(
    apply: Callable[[Tensor], Tensor], x: Tensor, residual: Tensor, scale: Tensor, tolerance: float, steps: int
) -> tuple[Tensor, int]:
    tiny = torch.finfo(x.dtype).tiny
    beta = residual.norm(dim=-1, keepdim=True)
    basis = [residual / beta.clamp(min=tiny)]
    batch = len(x)
    hessenberg = torch.zeros(batch, steps + 1, steps, dtype=x.dtype, device=x.device)
    side = torch.zeros(batch, steps + 1, 1, dtype=x.dtype, device=x.device)
    side[:, 0] = beta
    y = torch.zeros(batch, 0, 1, dtype=x.dtype, device=x.device)
    used = 0
    for k in range(steps):
        w = apply(basis[k])
        image = w.norm(dim=-1)
        v = torch.stack(basis)
        # Twice is enough (Kahan): the second pass removes what rounding left of the first.
        for _ in range(2):
            h = torch.einsum("kbn,bn->bk", v, w)
            w = w - torch.einsum("bk,kbn->bn", h, v)
            hessenberg[:, : k + 1, k] += h
        length = w.norm(dim=-1)
        hessenberg[:, k + 1, k] = length
        used = k + 1
        small, right = hessenberg[:, : used + 1, :used], side[:, : used + 1]
        q, r = torch.linalg.qr(small)
        y = _triangular(r, q.mT @ right)
        left = (right - small @ y).norm(dim=1)
        if float((left / scale).max()) <= 0.5 * tolerance or not bool(torch.isfinite(y).all()):
            break
        # A sample that is done has no next direction; zeros keep it out of the rest.
        alive = length > 10 * torch.finfo(x.dtype).eps * image
        basis.append(torch.where(alive[:, None], w / length.clamp(min=tiny)[:, None], torch.zeros_like(w)))
    return x + torch.einsum("bk,kbn->bn", y[..., 0], torch.stack(basis[:used])), used


def _triangular(r: Tensor, b: Tensor) -> Tensor:
    """Solve `R y = b`; a zero on the diagonal (a sample solved early) gives a zero there."""
    diagonal = torch.diagonal(r, dim1=-2, dim2=-1)
    eps = torch.finfo(r.dtype).eps
    dead = diagonal.abs() <= eps * diagonal.abs().amax(-1, keepdim=True)
    r = r + torch.diag_embed(torch.where(dead, torch.ones_like(diagonal), torch.zeros_like(diagonal)))
    b = torch.where(dead[..., None], torch.zeros_like(b), b)
    y: Tensor = torch.linalg.solve_triangular(r, b, upper=True)
    return y
