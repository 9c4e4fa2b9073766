"""Small problems with a root, and how their derivatives are known otherwise."""

from __future__ import annotations

import torch
from torch import Tensor


def cubic(x: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """`A x + x³/10 − b`: one root where A has a positive symmetric part."""
    return (A @ x.unsqueeze(-1)).squeeze(-1) + 0.1 * x**3 - b


def newton(init: Tensor | None, A: Tensor, b: Tensor, steps: int = 14) -> Tensor:
    """Newton's method for `cubic`, in operations that torch differentiates right in all modes.

    By the inverse: `torch.linalg.solve` has wrong nested forward derivatives in torch 2.13.
    """
    x = torch.zeros_like(b) if init is None else init
    for _ in range(steps):
        J = A + torch.diag_embed(0.3 * x**2)
        x = x - (torch.linalg.inv(J) @ cubic(x, A, b).unsqueeze(-1)).squeeze(-1)
    return x


def unrolled(A: Tensor, b: Tensor) -> Tensor:
    """The root with all steps recorded: the reference."""
    return newton(None, A, b)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def well_posed(n: int = 4, batch: tuple[int, ...] = (), seed: int = 0) -> tuple[Tensor, Tensor]:
    """A and b of a `cubic` with one root."""
    eye = torch.eye(n, dtype=torch.float64)
    return drawn(*batch, n, n, seed=seed) / 2 + 3 * eye, drawn(*batch, n, seed=seed + 1)
