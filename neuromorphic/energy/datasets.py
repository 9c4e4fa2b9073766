"""Two-dimensional data sets with a known density: samples, log-density and a bounding box."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation

Array = NDArray[np.float64]
NODES = 1000
"""Number of nodes along each axis of the quadrature for the entropy."""


class PlanarDensity(ABC):
    """A density on the plane with samples, log-density, and a box outside of which it is negligible."""

    __slots__ = ()
    name: ClassVar[str]
    half_width: ClassVar[float]
    """Half the side of the box, a square centred at 0."""

    @abstractmethod
    def sample(self, count: int, seed: int = 0) -> Array:
        """Draw independent points, `(count, 2)`."""

    @abstractmethod
    def log_density(self, x: Array) -> Array:
        """Return the normalised `log p(x)` of points `(n, 2)`; −∞ where the density is 0."""

    def nodes(self, count: int = NODES) -> tuple[Array, float]:
        """Return the midpoints `(count², 2)` of a grid on the box, and the area of a cell."""
        step = 2 * self.half_width / count
        axis = -self.half_width + step * (np.arange(count) + 0.5)
        grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
        return grid.reshape(-1, 2), step * step

    def cross_entropy(self, log_model: Array, count: int = NODES) -> float:
        """Return `−∫ p log m` from the model's log-density at `nodes(count)`: its NLL on unlimited data."""
        nodes, cell = self.nodes(count)
        return _integrate_cross_entropy(self.log_density(nodes), log_model, cell)

    def entropy(self) -> float:
        """Return `−∫ p log p` by quadrature, the lower bound of the NLL of any model."""
        nodes, cell = self.nodes()
        log_p = self.log_density(nodes)
        return _integrate_cross_entropy(log_p, log_p, cell)


def _integrate_cross_entropy(log_p: Array, log_model: Array, cell: float) -> float:
    p = np.exp(log_p)
    return -float(np.sum(p[p > 0] * log_model[p > 0]) * cell)


@dataclass(frozen=True, slots=True)
class EightGaussians(PlanarDensity):
    """Eight Gaussians of standard deviation `spread` on a circle of radius `radius`."""

    radius: float = 4 / math.sqrt(2)
    spread: float = 0.5 / math.sqrt(2)
    name: ClassVar[str] = "eight-gaussians"
    half_width: ClassVar[float] = 6.0

    def _centres(self) -> Array:
        angle = 2 * np.pi * np.arange(8) / 8
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], 1)

    def sample(self, count: int, seed: int = 0) -> Array:
        rng = _make_generator(count, seed)
        chosen = self._centres()[rng.integers(8, size=count)]
        return chosen + self.spread * rng.standard_normal((count, 2))

    def log_density(self, x: Array) -> Array:
        squared = ((x[:, None] - self._centres()) ** 2).sum(2) / self.spread**2
        return _sum_logs(-0.5 * squared) - math.log(8) - math.log(2 * np.pi * self.spread**2)


@dataclass(frozen=True, slots=True)
class Rings(PlanarDensity):
    """Equally likely concentric rings: the radius is normal around each of `radii`, and the angle is uniform."""

    radii: tuple[float, ...] = (1.0, 2.0, 3.0)
    spread: float = 0.15
    name: ClassVar[str] = "rings"
    half_width: ClassVar[float] = 5.0

    def sample(self, count: int, seed: int = 0) -> Array:
        rng = _make_generator(count, seed)
        chosen = np.array(self.radii)[rng.integers(len(self.radii), size=count)]
        r = chosen + self.spread * rng.standard_normal(count)
        angle = rng.uniform(0, 2 * np.pi, count)
        return np.stack([r * np.cos(angle), r * np.sin(angle)], 1)

    def log_density(self, x: Array) -> Array:
        r = np.hypot(x[:, 0], x[:, 1]).clip(np.finfo(float).tiny)
        # A negative radius denotes a point in the opposite direction; both are counted.
        both = np.stack([r, -r], 1)[:, :, None]
        squared = (((both - np.array(self.radii)) / self.spread) ** 2).reshape(len(x), -1)
        normal = math.log(len(self.radii) * self.spread * math.sqrt(2 * np.pi))
        return _sum_logs(-0.5 * squared) - normal - np.log(2 * np.pi * r)


@dataclass(frozen=True, slots=True)
class TwoMoons(PlanarDensity):
    """Two interleaved half circles of radius `scale`, blurred by a Gaussian of standard deviation `spread`."""

    scale: float = 2.0
    spread: float = 0.2
    name: ClassVar[str] = "two-moons"
    half_width: ClassVar[float] = 6.0

    def _moons(self, t: Array) -> Array:
        """Return both arcs at angles t, `(2, len(t), 2)`, centred at 0."""
        upper = np.stack([np.cos(t) - 0.5, np.sin(t) - 0.25], -1)
        return self.scale * np.stack([upper, -upper])

    def sample(self, count: int, seed: int = 0) -> Array:
        rng = _make_generator(count, seed)
        t, moon = rng.uniform(0, np.pi, count), rng.integers(2, size=count)
        return self._moons(t)[moon, np.arange(count)] + self.spread * rng.standard_normal((count, 2))

    def log_density(self, x: Array) -> Array:
        # Gauss-Legendre along the arc: nodes a third of the spread apart integrate the Gaussian to rounding accuracy.
        count = int(np.ceil(3 * np.pi * self.scale / self.spread))
        place, weight = np.polynomial.legendre.leggauss(count)
        points = self._moons((place + 1) * np.pi / 2).reshape(-1, 2)
        logs = np.log(np.tile(weight / 4, 2))
        out = np.empty(len(x))
        for first in range(0, len(x), 20_000):
            part = slice(first, first + 20_000)
            squared = (x[part, 0, None] - points[:, 0]) ** 2 + (x[part, 1, None] - points[:, 1]) ** 2
            out[part] = _sum_logs(logs - 0.5 * squared / self.spread**2)
        return out - math.log(2 * np.pi * self.spread**2)


@dataclass(frozen=True, slots=True)
class Checkerboard(PlanarDensity):
    """The uniform distribution on every other square, of side 2, of a 4 × 4 board."""

    name: ClassVar[str] = "checkerboard"
    half_width: ClassVar[float] = 6.25  # so that the edges lie between the nodes of a quadrature

    def sample(self, count: int, seed: int = 0) -> Array:
        rng = _make_generator(count, seed)
        column, pair = rng.integers(4, size=count), rng.integers(2, size=count)
        corner = np.stack([column, 2 * pair + column % 2], 1)
        return 2.0 * (corner + rng.random((count, 2))) - 4

    def log_density(self, x: Array) -> Array:
        square = np.floor((x + 4) / 2)
        inside = ((square >= 0) & (square < 4)).all(1)
        dark = (square[:, 0] + square[:, 1]) % 2 == 0
        return np.where(inside & dark, -math.log(32), -np.inf)


PLANAR: dict[str, PlanarDensity] = {one.name: one for one in (EightGaussians(), Rings(), TwoMoons(), Checkerboard())}
"""The data sets by name."""


def planar(name: str) -> PlanarDensity:
    """Return the data set of the given name; raise `ValueError` for an unknown one."""
    if name not in PLANAR:
        raise ValueError(f"name must be one of {', '.join(map(repr, PLANAR))}, got {name!r}")
    return PLANAR[name]


def _make_generator(count: int, seed: int) -> np.random.Generator:
    validation.positive_int("count", count)
    return np.random.default_rng(seed)


def _sum_logs(values: Array) -> Array:
    """Return `log Σ exp` over the last axis."""
    largest = values.max(-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - largest).sum(-1)) + largest[..., 0])
