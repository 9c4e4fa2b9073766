"""The points of a contour of nudges: which are relaxed, where each starts, and how its state is evaluated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NEAREST = 2
"""Points above the real axis from which the next one is extrapolated, besides the real ones."""


def add_point(slope: Tensor, mean: Tensor, beta: complex, there: Tensor, rest: Tensor, n: int) -> None:
    """Add a point's share of `⟨(r(β) − r₀)/β⟩` and `⟨r(β) − r₀⟩`; a complex point also counts for its conjugate."""
    if not there.is_complex():
        moved = there - rest
        slope.add_(moved, alpha=1 / (n * beta.real))
        mean.add_(moved, alpha=1 / n)
        return
    # Points below the real axis are conjugates of those above: twice the real part accounts for both.
    weight = 2 / (n * beta)
    moved = there.real - rest
    slope.add_(moved, alpha=weight.real).add_(there.imag, alpha=-weight.imag)
    mean.add_(moved, alpha=2 / n)


def on_polynomial(beta: complex, nodes: list[complex], states: list[Tensor]) -> Tensor:
    """Return the value at `beta` of the polynomial through the states at the nodes and their conjugates."""
    whole = [*nodes, *(node.conjugate() for node in nodes if node.imag)]
    shares = [math.prod((beta - b) / (a - b) for b in whole if b != a) for a in whole]
    real = torch.zeros_like(states[0])
    imaginary = torch.zeros_like(real) if beta.imag else real
    conjugates = iter(shares[len(nodes) :])
    for share, state in zip(shares, states, strict=False):
        if not state.is_complex():
            real.add_(state, alpha=share.real)
            if beta.imag:
                imaginary.add_(state, alpha=share.imag)
            continue
        other = next(conjugates)
        # share · (a + ib) + other · (a − ib)
        both, apart = share + other, share - other
        real.add_(state.real, alpha=both.real).add_(state.imag, alpha=-apart.imag)
        if beta.imag:
            imaginary.add_(state.real, alpha=both.imag).add_(state.imag, alpha=apart.real)
    return torch.complex(real, imaginary) if beta.imag else real


def half_contour(n: int, radius: float, like: Tensor) -> list[Sequence[complex]]:
    """Return the points `radius·e^{2πit/n}` in batches: those on the real axis, then those above it.

    Where one batch of several points would be no faster than single points, each is a batch of its own: it then starts
    on the polynomial through those before it.
    """
    real = [radius, -radius][: 2 - n % 2]
    turns = [2 * math.pi * t / n for t in range(1, (n + 1) // 2)]
    above = [radius * complex(math.cos(turn), math.sin(turn)) for turn in turns]
    if like.device.type == "cpu" and like.numel() >= WORTH_APART:
        return [[point] for point in (*real, *above)]
    return [real, above] if above else [real]


WORTH_APART = 2**14
"""Number of rates in a batch above which matrix products, not calls, determine the time on a CPU."""


def to_complex(dtype: torch.dtype) -> torch.dtype:
    """Return the complex dtype with the precision of a real one."""
    return torch.complex64 if dtype == torch.float32 else torch.complex128
