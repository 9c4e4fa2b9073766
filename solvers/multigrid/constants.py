"""The constants of a fused V-cycle, learned or not: a stencil, an over-correction and a small network for each level.

Smoothing before the coarse correction is `x = m ⊙ (K r)`: `K` is a symmetric stencil of 27 points (9 in two dimensions)
with a constant each for the centre, the faces, the edges and the corners, and `m` a multiplier of each cell. Smoothing
after it is the adjoint, `x ← x + K (m ⊙ (b − A x))`, so that the cycle is linear and symmetric. The correction from
a coarse level is multiplied by a `gain` of each coarse cell, on the way down and on the way up. Multiplier and gain
come at set-up from a network of one hidden layer, which sees what surrounds the cell. Deeper levels share the last
entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
BEYOND_TRAINING = np.float32(1.6)
"""No cell of the training has a diagonal of more than 1½ times that of an open cell."""
MOST_SMOOTHING = np.float32(1.8)
"""Where couplings to Dirichlet faces outweigh all others, the smoothing of a constant is kept below 2, past which it
is not a contraction."""
MOST_GAIN = np.float32(1.0)
"""A gain above 1 would be multiplied up from level to level, until the cycle of a large grid is not definite."""
TAPER = 1.0
"""Of 0, 1, 1.5, 2 and 2.6 the one with the fewest iterations over the gallery's cases at 32³ and 72³."""
FEATURES = 5
"""What the multiplier's network sees of a cell, each about 1 inside the fluid: see `features`."""


@dataclass(frozen=True, slots=True, eq=False)
class LevelConstants:
    """The constants of one level; equal only to itself, as arrays do not compare.

    `stencil` (4,): centre, face, edge, corner (in two dimensions the corner is not used), in units of `1/D`.
    With `v = w₂ relu(W₁ φ + b₁) + b₂`, the multiplier is `exp(v₀) / D` and the gain `over · exp(v₁)`, at most 1.
    `hidden_weight` (H, 5), `hidden_bias` (H,), `output_weight` (2, H), `output_bias` (2,).
    """

    stencil: tuple[float, float, float, float]
    hidden_weight: Single
    hidden_bias: Single
    output_weight: Single
    output_bias: Single
    over: float

    def network(self, features: Single) -> Single:
        """`exp(v)`: `(…, 5) → (…, 2)` float32; the multiplier without its `1/D`, the gain without `over`."""
        hidden = np.maximum(features @ self.hidden_weight.T + self.hidden_bias, 0)
        value: Single = np.exp(hidden @ self.output_weight.T + self.output_bias).astype(np.float32)
        return value

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, from which `from_dict` restores the constants bit for bit."""
        return {
            "stencil": list(self.stencil),
            "hidden_weight": self.hidden_weight.tolist(),
            "hidden_bias": self.hidden_bias.tolist(),
            "output_weight": self.output_weight.tolist(),
            "output_bias": self.output_bias.tolist(),
            "over": self.over,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LevelConstants:
        """Return the constants that `as_dict` gave; ValueError where shapes do not fit."""
        stencil = tuple(float(v) for v in values["stencil"])
        weight = np.asarray(values["hidden_weight"], np.float32)
        bias, output = (np.asarray(values[name], np.float32) for name in ("hidden_bias", "output_weight"))
        if len(stencil) != 4 or weight.shape != (len(bias), FEATURES) or output.shape != (2, len(bias)):
            raise ValueError(
                f"constants must hold 4 stencil values and a network of {FEATURES} inputs, got {len(stencil)} values, "
                f"weights {weight.shape}, biases {bias.shape}, outputs {output.shape}"
            )
        return cls(
            (stencil[0], stencil[1], stencil[2], stencil[3]),
            weight,
            bias,
            output,
            np.asarray(values["output_bias"], np.float32),
            float(values["over"]),
        )


@dataclass(frozen=True, slots=True)
class LearnedConstants:
    """The constants of all levels, from the finest on; those below the last entry use it."""

    ndim: int
    levels: tuple[LevelConstants, ...]
    visits: int = 1
    """How often a cycle goes through the second level: twice costs a fifth more and makes up for its inexactness."""
    trained_levels: int = 10**6
    """Levels below so many use Chebyshev's constants: no training had them, and what was learned on fewer levels can
    add up over more until the cycle is not definite."""

    def level(self, depth: int) -> LevelConstants:
        if depth >= self.trained_levels:
            return chebyshev(self.ndim).levels[0]
        return self.levels[min(depth, len(self.levels) - 1)]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, which `from_record` takes."""
        return {
            "ndim": self.ndim,
            "visits": self.visits,
            "trained_levels": self.trained_levels,
            "levels": [level.as_dict() for level in self.levels],
        }

    @property
    def count(self) -> int:
        """How many numbers were learned."""
        return sum(4 + c.hidden_weight.size + c.hidden_bias.size + c.output_weight.size + 3 for c in self.levels)


def features(
    diagonal: Single, couplings: tuple[Single, Single, Single], unknown: NDArray[np.bool_], nominal: Any, wrap: Any
) -> Single:
    """Return what the network sees of each cell of a level: `shape → (*shape, 5)` float32, 0 where there is no unknown.

    In order: the diagonal over that of a cell with six open faces, `2 Σ nominal_a`; the couplings to unknowns over
    the diagonal; the parts of the edge and of the corner neighbours that are unknowns; and how unevenly the couplings
    are spread, `(Σ c)² / (n Σ c²)` over the faces that the dimension has. `nominal` (3,) is the coupling of an open
    face an axis.
    """
    faces = []
    for axis, lower in enumerate(couplings):
        faces += [lower, _shift(lower, axis, -1, bool(wrap[axis]))]
    total = sum(faces[1:], start=faces[0].copy())
    square = sum((f * f for f in faces[1:]), start=faces[0] ** 2)
    axes = [axis for axis in range(3) if nominal[axis] > 0]
    one = unknown.astype(np.float32)
    along = [_shift(one, a, -1, bool(wrap[a])) + _shift(one, a, 1, bool(wrap[a])) for a in range(3)]

    def both(array: Single, axis: int) -> Single:
        back, forth = (_shift(array, axis, by, bool(wrap[axis])) for by in (-1, 1))
        return np.asarray(back + forth, np.float32)

    pairs = [(a, b) for a in axes for b in axes if a < b]
    edge = sum((both(along[a], b) for a, b in pairs), start=np.zeros_like(one)) / max(4 * len(pairs), 1)
    corner = both(both(along[0], 1), 2) / 8 if len(axes) == 3 else one
    safe = np.where(diagonal > 0, diagonal, 1)
    even = total * total / np.maximum(2 * len(axes) * square, np.float32(1e-30))
    full = np.float32(2 * sum(nominal))
    stacked = np.stack([diagonal / full, total / safe, edge, corner, even], -1)
    stacked[~unknown] = 0
    return stacked.astype(np.float32)


def _shift(array: Single, axis: int, by: int, periodic: bool) -> Single:
    """`out[i] = array[i − by]` along an axis; zero from beyond a side that is not periodic."""
    moved = np.roll(array, by, axis)
    if not periodic:
        edge = [slice(None)] * 3
        edge[axis] = slice(0, 1) if by > 0 else slice(-1, None)
        moved[tuple(edge)] = 0
    return moved


def from_record(values: dict[str, Any]) -> LearnedConstants:
    """Return the constants from one dimension's entry of a record."""
    levels = tuple(LevelConstants.from_dict(v) for v in values["levels"])
    return LearnedConstants(int(values["ndim"]), levels, int(values["visits"]), int(values["trained_levels"]))


@lru_cache(maxsize=3)
def chebyshev(ndim: int) -> LearnedConstants:
    """Return constants without learning: the first-degree polynomial in `A` that damps the high frequencies best.

    With `y` an eigenvalue of `D⁻¹A`, `1 − y (p − q y)` is the Chebyshev polynomial of second degree that is least on
    the frequencies a coarse level cannot hold, `y` from `1/ndim` to 2; `K = p − q A/D`, `D` that of an open cell.
    The multiplier is `exp(−TAPER (1 − D/D_open)) / D`: with `1/D` alone the cycle is not definite among many walls.
    """
    low, high = 1.0 / ndim, 2.0
    centre, half = (high + low) / 2, (high - low) / 2
    at_zero = 2 * (centre / half) ** 2 - 1
    q = 2 / half**2 / at_zero
    p = 4 * centre / half**2 / at_zero
    face = q / (2 * ndim)
    weight = np.zeros((1, FEATURES), np.float32)
    weight[0, 0] = -1.0
    level = LevelConstants(
        (p - q, face, 0.0, 0.0),
        weight,
        np.ones(1, np.float32),
        np.array([[-TAPER], [0.0]], np.float32),
        np.zeros(2, np.float32),
        1.0,
    )
    return LearnedConstants(ndim, (level,))
