"""The learned V-cycle in torch: for training, for GPUs, and as the plain statement of what the kernels compute.

Tensors have a leading axis of geometries or right-hand sides; all geometries of a batch have one shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from relaxon.solvers.multigrid.constants import (
    BEYOND_TRAINING,
    FEATURES,
    MOST_GAIN,
    MOST_SMOOTHING,
    LearnedConstants,
    LevelConstants,
    chebyshev,
    features,
)
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.levels import FusedLevel

HIDDEN = 8


@dataclass(slots=True)
class TorchLevel:
    """One level of a batch of geometries: `(batch, n0, n1, n2)` tensors, and matrices of the transfers by axis."""

    diagonal: Tensor
    couplings: tuple[Tensor, Tensor, Tensor]
    unknown: Tensor
    features: Tensor
    wrap: tuple[bool, bool, bool]
    active: tuple[bool, bool, bool]
    """The axes that the stencil smooths along."""
    share: Tensor | None = None
    transfers: tuple[Tensor, ...] = ()
    inverse: Tensor | None = None
    """On the coarsest level the pseudo-inverse over all its cells, `(batch, cells, cells)`."""

    def apply(self, x: Tensor) -> Tensor:
        """`A x`."""
        return coupled(self.diagonal, self.couplings, x)


def coupled(diagonal: Tensor, couplings: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    """`A x` from the diagonal and the couplings to the cell below, along the last three axes."""
    y = diagonal * x
    for axis, lower in enumerate(couplings, -3):
        if x.shape[axis] > 1:
            # `lower` is zero across a side that is not periodic, so that rolling is right for both.
            y = y - lower * torch.roll(x, 1, axis) - torch.roll(lower * x, -1, axis)
    return y


def stack(cycles: Sequence[FusedCycle], device: Any = "cpu", dtype: Any = torch.float32) -> list[TorchLevel]:
    """Return the levels of several geometries of one shape, as batches, from the set-up that the compiled cycle uses.

    Of that set-up the operators, transfers and shares are taken; multipliers and gains come from `LearnedCycle`.
    """

    def tensor(arrays: Sequence[Any]) -> Tensor:
        return torch.as_tensor(np.stack(arrays), dtype=dtype, device=device)

    wrap = cycles[0].wrap
    found = []
    for of_one in zip(*(cycle.levels for cycle in cycles), strict=True):
        first = of_one[0]
        couplings = [v.couplings for v in of_one]
        diagonals = [v.diagonal for v in of_one]
        seen = [
            features(d, c, v.unknown, v.nominal, wrap) for v, d, c in zip(of_one, diagonals, couplings, strict=True)
        ]
        level = TorchLevel(
            tensor(diagonals),
            (tensor([c[0] for c in couplings]), tensor([c[1] for c in couplings]), tensor([c[2] for c in couplings])),
            tensor([v.unknown for v in of_one]),
            tensor(seen),
            wrap,
            first.active,
        )
        if first.inverse is not None:
            level.inverse = tensor([_whole_inverse(v) for v in of_one])
        else:
            assert first.tables is not None
            level.share = tensor([v.share for v in of_one])
            level.transfers = tuple(
                torch.as_tensor(table.matrix(), dtype=dtype, device=device) for table in first.tables
            )
        found.append(level)
    return found


def _whole_inverse(level: FusedLevel) -> Any:
    size = level.unknown.size
    whole = np.zeros((size, size), np.float32)
    whole[np.ix_(level.index, level.index)] = level.inverse  # type: ignore[arg-type]
    return whole


def prolong(level: TorchLevel, coarse: Tensor) -> Tensor:
    """`share · P e`."""
    e = coarse
    for axis, matrix in enumerate(level.transfers):
        e = torch.movedim(torch.movedim(e, axis + 1, -1) @ matrix.T, -1, axis + 1)
    return e if level.share is None else level.share * e


def restrict(level: TorchLevel, below: TorchLevel, fine: Tensor) -> Tensor:
    """`Pᵀ share · t` where the coarse level has unknowns."""
    e = fine if level.share is None else level.share * fine
    for axis, matrix in enumerate(level.transfers):
        e = torch.movedim(torch.movedim(e, axis + 1, -1) @ matrix, -1, axis + 1)
    return e * below.unknown


class LearnedCycle(nn.Module):
    """The V-cycle with its constants as parameters; `prepare` gives the multipliers of a batch, `forward` a cycle.

    The constants of `levels` levels; deeper ones use the last. `visits`: how often the second level is gone through.
    """

    def __init__(self, ndim: int, levels: int = 2, hidden: int = HIDDEN, visits: int = 1) -> None:
        super().__init__()
        self.ndim = ndim
        self.visits = visits
        self.trained_levels = LearnedConstants(ndim, ()).trained_levels
        start = [0.93, 0.22, 0.08, 0.03] if ndim == 3 else [0.85, 0.20, 0.06, 0.0]
        self.stencils = nn.Parameter(torch.tensor([start] * levels))
        self.over = nn.Parameter(torch.ones(levels))
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, 2)) for _ in range(levels)
        )
        for network in self.networks:
            nn.init.zeros_(network[2].weight)  # type: ignore[index]
            nn.init.zeros_(network[2].bias)  # type: ignore[index]

    def prepare(self, levels: Sequence[TorchLevel]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return for each level the multiplier, the stencil `(3, 3, 3)` and the gain of corrections to it."""
        found = [
            self._of(v, min(depth, len(self.networks) - 1)) for depth, v in enumerate(levels[: self.trained_levels])
        ]
        if len(levels) > self.trained_levels:
            plain = LearnedCycle.of(chebyshev(self.ndim)).to(self.over)
            found += [plain._of(level, 0) for level in levels[self.trained_levels :]]
        return found

    def _of(self, level: TorchLevel, which: int) -> tuple[Tensor, Tensor, Tensor]:
        inverse = torch.where(level.diagonal > 0, 1 / level.diagonal.clamp(min=1e-20), 0.0) * level.unknown
        learned = torch.exp(self.networks[which](level.features))
        multiplier = learned[..., 0] * inverse
        gain = (self.over[which] * learned[..., 1]).clamp(max=float(MOST_GAIN)) * level.unknown
        distance = torch.tensor([[[abs(i) + abs(j) + abs(k) for k in O] for j in O] for i in O])
        stencil = self.stencils[which][distance.to(self.stencils.device)]
        for axis, active in enumerate(level.active):
            if not active:
                middle = torch.tensor([0.0, 1.0, 0.0], device=stencil.device, dtype=stencil.dtype)
                stencil = stencil * middle.view([3 if a == axis else 1 for a in range(3)])
        # As in `setup_kernels`; `features` hold the diagonal over that of an open cell, and the part beside unknowns.
        held = level.diagonal * (1 - level.features[..., 1]) * stencil.sum()
        bound = torch.where(held > 0, float(MOST_SMOOTHING) / held.clamp(min=1e-20), torch.inf)
        beyond = level.features[..., 0] > float(BEYOND_TRAINING)
        return torch.where(beyond, torch.minimum(multiplier, bound), multiplier), stencil, gain

    def forward(
        self, levels: Sequence[TorchLevel], prepared: Sequence[tuple[Tensor, Tensor, Tensor]], r: Tensor, depth: int = 0
    ) -> Tensor:
        """`M r` on `(batch, n0, n1, n2)`."""
        level = levels[depth]
        if level.inverse is not None:
            return (level.inverse @ r.flatten(1)[..., None])[..., 0].view(r.shape)
        multiplier, stencil, _ = prepared[depth]
        below, gain = levels[depth + 1], prepared[depth + 1][2]
        x = multiplier * convolved(r, stencil, level.wrap)
        coarse = gain * restrict(level, below, r - level.apply(x))
        e = self(levels, prepared, coarse, depth + 1)
        if depth == 0 and below.inverse is None:
            for _ in range(self.visits - 1):
                e = e + self(levels, prepared, coarse - below.apply(e), 1)
        x = x + prolong(level, gain * e)
        return x + level.unknown * convolved(multiplier * (r - level.apply(x)), stencil, level.wrap)

    def constants(self) -> LearnedConstants:
        """Return the parameters as plain numbers."""
        found = []
        for stencil, over, network in zip(self.stencils, self.over, self.networks, strict=True):
            first, second = network[0], network[2]  # type: ignore[index]
            found.append(
                LevelConstants(
                    tuple(stencil.tolist()),
                    first.weight.detach().cpu().numpy().astype(np.float32),
                    first.bias.detach().cpu().numpy().astype(np.float32),
                    second.weight.detach().cpu().numpy().astype(np.float32),
                    second.bias.detach().cpu().numpy().astype(np.float32),
                    float(over.detach()),
                )
            )
        return LearnedConstants(self.ndim, tuple(found), self.visits, self.trained_levels)

    @classmethod
    def of(cls, constants: LearnedConstants) -> LearnedCycle:
        """Return the module with these constants."""
        module = cls(constants.ndim, len(constants.levels), len(constants.levels[0].hidden_bias), constants.visits)
        module.trained_levels = constants.trained_levels
        with torch.no_grad():
            for depth, values in enumerate(constants.levels):
                module.stencils[depth] = torch.tensor(values.stencil)
                module.over[depth] = values.over
                network = module.networks[depth]
                network[0].weight.copy_(torch.from_numpy(values.hidden_weight))  # type: ignore[index]
                network[0].bias.copy_(torch.from_numpy(values.hidden_bias))  # type: ignore[index]
                network[2].weight.copy_(torch.from_numpy(values.output_weight))  # type: ignore[index]
                network[2].bias.copy_(torch.from_numpy(values.output_bias))  # type: ignore[index]
        return module


O = (-1, 0, 1)  # noqa: E741  offsets of a stencil


def convolved(x: Tensor, stencil: Tensor, wrap: tuple[bool, bool, bool]) -> Tensor:
    """`K x`, zero beyond a side that is not periodic."""
    padded = x[:, None]
    for axis in range(3):
        pads = [0, 0, 0, 0, 0, 0]
        pads[2 * (2 - axis)] = pads[2 * (2 - axis) + 1] = 1
        padded = nn.functional.pad(padded, pads, "circular" if wrap[axis] else "constant")
    return nn.functional.conv3d(padded, stencil[None, None])[:, 0]


def dot(x: Tensor, y: Tensor) -> Tensor:
    """`⟨x, y⟩` of each of the batch, shaped to multiply with."""
    return (x * y).sum((1, 2, 3), keepdim=True)


def residual_norms(
    cycle: LearnedCycle, levels: Sequence[TorchLevel], b: Tensor, iterations: int, window: int = 2
) -> Tensor:
    """`‖r‖` after each step of the method from `x = 0`: `(iterations + 1, batch)`; differentiable."""
    prepared = cycle.prepare(levels)
    r = b
    past: list[tuple[Tensor, Tensor, Tensor]] = []
    norms = [dot(r, r).sqrt()]
    for _ in range(iterations):
        d = cycle(levels, prepared, r / norms[-1].detach().clamp(min=1e-30))
        for p, q, curvature in past:
            d = d - dot(d, q) / curvature * p
        q = levels[0].apply(d)
        curvature = dot(d, q).clamp(min=1e-30)
        r = r - dot(d, r) / curvature * q
        past = [*past, (d, q, curvature)][-window:] if window else []
        norms.append(dot(r, r).clamp(min=1e-30).sqrt())
    return torch.stack(norms)[:, :, 0, 0, 0]
