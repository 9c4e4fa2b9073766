"""Weights to start training the published network from: those with which it is a linear two-grid cycle.

The architecture can carry out a two-grid cycle for the 7-point Laplacian exactly, as long as signs survive its
rectifiers. So channels come in pairs, `u⁺ = max(u, 0)` and `u⁻ = max(−u, 0)`, and carry eight *fields* `u = u⁺ − u⁻`; a
linear map of fields is antisymmetric in the pairs. A residual pair of convolutions then adds to the iterate `x` a
quadratic polynomial of `A` applied to its residual, and chains of them are Chebyshev smoothing: before pooling, on the
pooled residual, and after upsampling. From torch's random weights thousands of steps go into finding that a direction
has to resemble the residual at all; from here training begins with a useful preconditioner and improves on it.

Source: for the polynomials, M. Adams, M. Brezina, J. Hu, R. Tuminaro, "Parallel multigrid smoothers", J. Comput. Phys.
188 (2003).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from relaxon.solvers.dcdm.network import DirectionNetwork

LARGEST = 12.0
"""The 7-point Laplacian's eigenvalues, spacing 1, lie between 0 and this."""
FINE_INTERVAL = (1.5, LARGEST)
COARSE_INTERVAL = (0.2, LARGEST)
"""Eigenvalues that smoothing damps; the coarse level's are those of its own lattice."""
COARSE_SPACING_SQUARED = 4.0
NOISE = 0.01
"""Standard deviation of what is added to every weight, relative to torch's own start, so that no two channels train
alike."""
RHS, ITERATE, RESIDUAL, CORRECTION, FIRST, SECOND = range(6)
"""The fields in use: `b`, `x`, `b − Ax`, the coarse level's `x`, and two for use between the convolutions of a pair."""
Entry = tuple[int, int, Tensor]
"""A map from one field (the first) to another by a 3³ kernel."""


@torch.no_grad()
def start_as_two_grid_cycle(network: DirectionNetwork, generator: torch.Generator) -> None:
    """Set every weight of `network` as this module's docstring says; biases to zero."""
    one, a = _identity(), _laplacian()
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            fan_in = layer.weight[0].numel()
            noise = torch.randn(layer.weight.shape, generator=generator) * (NOISE / fan_in**0.5)
            layer.weight.copy_(noise)
            cast(Tensor, layer.bias).zero_()
    # The opening is not rectified: both channels of a pair hold the residual, one negated, and count twice later on.
    opening = network.opening.weight
    opening[2 * RHS, 0] += one
    opening[2 * RHS + 1, 0] -= one
    _add(network.fine[0], [(RHS, RHS, 0.5 * one)])
    before = _chebyshev_gains(FINE_INTERVAL, 1 + 2 * (len(network.fine) // 2 - 1))
    _smooth(network.fine[1:-1], before, RHS, [], ITERATE, a)
    _add(network.fine[-1], [(RHS, RHS, one), (ITERATE, ITERATE, one), (RHS, RESIDUAL, one), (ITERATE, RESIDUAL, -a)])
    gains = _chebyshev_gains(COARSE_INTERVAL, 1 + len(network.coarse))
    _smooth(network.coarse, gains, RESIDUAL, [], CORRECTION, a, COARSE_SPACING_SQUARED)
    # What was pooled of the other fields must not come back with the correction.
    for field, scratch in ((RHS, SECOND + 1), (ITERATE, SECOND + 2)):
        _add(network.coarse[0], [(field, scratch, one)])
        _add(network.coarse[1], [(scratch, field, -one)])
    after = _chebyshev_gains(FINE_INTERVAL, len(network.closing))
    _smooth(network.closing, after, RHS, [ITERATE, CORRECTION], ITERATE, a)
    for field in (ITERATE, CORRECTION):
        network.dense.weight[0, 2 * field] += 1.0
        network.dense.weight[0, 2 * field + 1] -= 1.0


def _smooth(
    layers: Iterable[nn.Module],
    gains: Sequence[tuple[float, ...]],
    rhs: int,
    parts: list[int],
    into: int,
    a: Tensor,
    scale: float = 1.0,
) -> None:
    """Give pairs of convolutions the step `into ← into + scale (g₀ + g₁A + g₂A²)(rhs − A Σ parts/scale)`.

    Where `parts` is empty the iterate is still zero, so that the second field can hold `A rhs` and a cubic fits.
    """
    one, convolutions = _identity(), list(layers)
    for index, gain in enumerate(gains):
        first, second = convolutions[2 * index : 2 * index + 2]
        terms: list[Entry] = [(rhs, FIRST, one)] + [(part, FIRST, -a / scale) for part in parts]
        if len(gain) == 3:
            _add(first, [*terms, (rhs, SECOND, a)])
            _add(second, [(FIRST, into, scale * gain[0] * one), (SECOND, into, scale * (gain[1] * one + gain[2] * a))])
        else:
            _add(first, terms)
            _add(second, [(FIRST, into, scale * (gain[0] * one + gain[1] * a))])
        parts = parts or [into]


def _chebyshev_gains(interval: tuple[float, float], degree: int) -> list[tuple[float, ...]]:
    """Steps that multiply the error by the Chebyshev polynomial of that degree, least on the interval and 1 at 0.

    An odd degree takes its first step with a cubic, the others take quadratics: an error factor `1 − λ(g₀ + g₁λ)` has
    the two roots it is given. Roots from both ends are paired, so that no step amplifies much.
    """
    low, high = interval
    roots = (high + low) / 2 + (high - low) / 2 * np.cos(np.pi * (2 * np.arange(degree) + 1) / (2 * degree))
    roots = np.sort(roots)
    groups = [list(pair) for pair in zip(roots[: degree // 2], roots[::-1][: degree // 2], strict=True)]
    if degree % 2:
        groups[0].append(roots[degree // 2])
    gains = []
    for group in groups:
        factor = np.poly1d([1.0])
        for root in group:
            factor *= np.poly1d([-1.0 / root, 1.0])
        # 1 − λ g(λ) = factor(λ)
        gains.append(tuple(float(-c) for c in factor.coeffs[::-1][1:]))
    return gains


def _add(layer: nn.Module, entries: list[Entry]) -> None:
    """Add maps of fields to a convolution's weights, antisymmetric in the pairs of channels."""
    weight = cast(nn.Conv3d, layer).weight
    for source, target, kernel in entries:
        for i, j, sign in ((0, 0, 1.0), (0, 1, -1.0), (1, 0, -1.0), (1, 1, 1.0)):
            weight[2 * target + j, 2 * source + i] += sign * kernel


def _identity() -> Tensor:
    kernel = torch.zeros(3, 3, 3)
    kernel[1, 1, 1] = 1.0
    return kernel


def _laplacian() -> Tensor:
    """Return the 7-point stencil of `A` inside the fluid, spacing 1."""
    kernel = torch.zeros(3, 3, 3)
    kernel[1, 1, 1] = 6.0
    for neighbour in ((0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)):
        kernel[neighbour] = -1.0
    return kernel
