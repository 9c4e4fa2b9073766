"""Log partition functions by quadrature on a box, as a reference in one and two dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.core import validation

CHUNK = 2**16
"""Number of nodes whose energies are computed at once."""
MOST_AXES = 2
"""Maximum number of dimensions."""


@dataclass(frozen=True, slots=True)
class Quadrature:
    """The midpoint rule with `nodes` nodes along each axis of the box `low ≤ x ≤ high`.

    It converges faster than any power of the step for smooth densities that vanish at the faces of the box, and it is
    exact at density edges that lie on multiples of the step.

    >>> from relaxon.neuromorphic.energy import QuadraticEnergy
    >>> round(Quadrature((-9.0,), (9.0,)).log_partition(QuadraticEnergy(1, dtype=torch.float64)), 6)
    0.918939
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    nodes: int = 400

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not 1 <= len(self.low) <= MOST_AXES:
            got = f"{len(self.low)} and {len(self.high)}"
            raise ValueError(f"low and high must have 1 or {MOST_AXES} numbers, as many as each other, got {got}")
        for low, high in zip(self.low, self.high, strict=True):
            if validation.finite_float("low", low) >= validation.finite_float("high", high):
                raise ValueError(f"low must be below high, got {low} and {high}")
        validation.positive_int("nodes", self.nodes)

    @property
    def log_cell(self) -> float:
        """Logarithm of a cell's volume."""
        return sum(math.log((high - low) / self.nodes) for low, high in zip(self.low, self.high, strict=True))

    def points(self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Return the nodes, `(nodes^d, d)`."""
        axes = [
            low + (high - low) * (torch.arange(self.nodes, dtype=torch.float64) + 0.5) / self.nodes
            for low, high in zip(self.low, self.high, strict=True)
        ]
        return torch.cartesian_prod(*axes).reshape(-1, len(axes)).to(device=device, dtype=dtype)

    def log_partition(self, energy: torch.nn.Module) -> float:
        """Return `log Z` of the energy restricted to the box."""
        return float(torch.logsumexp(-self.energies(energy), 0)) + self.log_cell

    @torch.no_grad()
    def energies(self, energy: torch.nn.Module) -> Tensor:
        """Return the energies at the nodes in double precision, on the CPU."""
        like = next(energy.parameters(), torch.zeros(()))
        parts = self.points(like.dtype, like.device).split(CHUNK)  # type: ignore[no-untyped-call]
        return torch.cat([energy(part).double().cpu() for part in parts])
