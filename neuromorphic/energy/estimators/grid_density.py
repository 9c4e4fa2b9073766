"""Densities of one number, their logarithm linear between the nodes of a grid and beyond it: closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TAIL_RATE = 4.0
"""At which the log-density falls beyond the grid, per unit (the targets' deviation)."""
FLAT = 1e-4
"""Below this slope across a cell, the series of the closed forms is exact to more digits than they are."""


@dataclass(frozen=True)
class GridDensity:
    """`log p` up to a constant at the nodes: `grid (g,)` increasing and even, `log_values (n, g)`."""

    grid: Tensor
    log_values: Tensor

    @property
    def width(self) -> Tensor:
        return self.grid[1] - self.grid[0]

    @property
    def slope(self) -> Tensor:
        """Change of log p across each cell, `(n, g − 1)`."""
        return self.log_values[:, 1:] - self.log_values[:, :-1]

    def log_masses(self) -> Tensor:
        """Of the left tail, the cells and the right tail: `(n, g + 1)`, unnormalised.

        A cell with values a and b has `h (e^b − e^a)/(b − a)`.
        """
        size = self.slope.abs()
        safe = size.clamp(min=FLAT)
        larger = torch.maximum(self.log_values[:, 1:], self.log_values[:, :-1])
        curve = torch.where(size > FLAT, (-torch.expm1(-safe)).log() - safe.log(), -0.5 * size)
        cells = larger + curve + self.width.log()
        tails = self.log_values[:, [0, -1]] - math.log(TAIL_RATE)
        return torch.cat([tails[:, :1], cells, tails[:, 1:]], 1)

    def log_normaliser(self) -> Tensor:
        return torch.logsumexp(self.log_masses(), 1)

    def log_density(self, y: Tensor) -> Tensor:
        """Normalised, of one y for each row: `(n,)`."""
        place = (y - self.grid[0]) / self.width
        cell = place.detach().floor().clamp(0, len(self.grid) - 2).long()
        share = (place - cell).clamp(0, 1)
        left = self.log_values.gather(1, cell[:, None])[:, 0]
        right = self.log_values.gather(1, cell[:, None] + 1)[:, 0]
        beyond = (self.grid[0] - y).clamp(min=0) + (y - self.grid[-1]).clamp(min=0)
        return left + share * (right - left) - TAIL_RATE * beyond - self.log_normaliser()

    def _pieces(self) -> tuple[Tensor, Tensor, Tensor]:
        """Share, mean and variance of each piece: tails and cells."""
        share = torch.softmax(self.log_masses(), 1)
        d = self.slope
        flat = d.abs() <= FLAT
        safe = torch.where(flat, torch.ones_like(d), d)
        # Of u in (0, 1) with density ∝ e^{du}.
        centre = torch.where(flat, 0.5 + d / 12, 1 / -torch.expm1(-safe) - 1 / safe)
        spread = torch.where(flat, torch.full_like(d, 1 / 12), 1 / safe**2 - 1 / (2 * torch.sinh(safe / 2)) ** 2)
        mean = self.grid[:-1] + self.width * centre
        ends = self.grid[[0, -1]] + torch.tensor([-1, 1]).to(self.grid) / TAIL_RATE
        tails = ends.expand(len(d), 2)
        tail_spread = torch.full_like(tails, 1 / TAIL_RATE**2)
        means = torch.cat([tails[:, :1], mean, tails[:, 1:]], 1)
        variances = torch.cat([tail_spread[:, :1], self.width**2 * spread, tail_spread[:, 1:]], 1)
        return share, means, variances

    def mean(self) -> Tensor:
        share, means, _ = self._pieces()
        return (share * means).sum(1)

    def variance(self) -> Tensor:
        share, means, variances = self._pieces()
        centre = (share * means).sum(1, keepdim=True)
        return (share * (variances + (means - centre) ** 2)).sum(1)

    def quantile(self, levels: Tensor) -> Tensor:
        """Of levels `(n, k)` in (0, 1]: `(n, k)`, by inversion."""
        share = torch.softmax(self.log_masses(), 1)
        edges = share.cumsum(1)
        edges = edges / edges[:, -1:]
        piece = torch.searchsorted(edges, levels.contiguous()).clamp(max=share.shape[1] - 1)
        before = torch.where(piece > 0, edges.gather(1, (piece - 1).clamp(min=0)), torch.zeros_like(levels))
        tiny = torch.finfo(levels.dtype).tiny
        within = ((levels - before) / share.gather(1, piece).clamp(min=tiny)).clamp(tiny, 1)
        cell = (piece - 1).clamp(0, len(self.grid) - 2)
        d = self.slope.gather(1, cell)
        flat = d.abs() <= FLAT
        safe = torch.where(flat, torch.ones_like(d), d)
        # u = log(1 + p (e^d − 1))/d, from the side where nothing overflows.
        up = torch.log1p(within * torch.expm1(-safe.abs())) / -safe.abs()
        down = 1 - torch.log1p((1 - within) * torch.expm1(-safe.abs())) / -safe.abs()
        u = torch.where(flat, within, torch.where(safe < 0, up, down))
        inside = self.grid[cell] + self.width * u
        left = self.grid[0] + within.log() / TAIL_RATE
        right = self.grid[-1] - (1 - within).clamp(min=tiny).log() / TAIL_RATE
        last = share.shape[1] - 1
        return torch.where(piece == 0, left, torch.where(piece == last, right, inside))
