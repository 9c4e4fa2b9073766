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

from relaxon.solvers.multigrid.constants import FEATURES, LearnedConstants, LevelConstants, features
from relaxon.solvers.multigrid.hierarchy import AxisTransfer, Level, coarsest_inverse

HIDDEN = 8


@dataclass(slots=True)
class TorchLevel:
    """One level of a batch of geometries: `(batch, n0, n1, n2)` tensors, and matrices of the transfers by axis."""

    diagonal: Tensor
    couplings: tuple[Tensor, Tensor, Tensor]
    unknown: Tensor
    features: Tensor
    wrap: tuple[bool, bool, bool]
    share: Tensor | None = None
    transfers: tuple[Tensor, ...] = ()
    inverse: Tensor | None = None
    """On the coarsest level the pseudo-inverse over all its cells, `(batch, cells, cells)`."""

    def apply(self, x: Tensor) -> Tensor:
        """`A x`."""
        y = self.diagonal * x
        for axis, lower in enumerate(self.couplings):
            # `lower` is zero across a side that is not periodic, so that rolling is right for both.
            y = y - lower * torch.roll(x, 1, axis + 1) - torch.roll(lower * x, -1, axis + 1)
        return y


def stack(hierarchies: Sequence[Sequence[Level]], device: Any = "cpu", dtype: Any = torch.float32) -> list[TorchLevel]:
    """The levels of several geometries of one shape, of the same depth, as batches."""

    def tensor(arrays: Sequence[Any]) -> Tensor:
        return torch.as_tensor(np.stack(arrays), dtype=dtype, device=device)

    found = []
    for depth, of_one in enumerate(zip(*hierarchies, strict=True)):
        first = of_one[0]
        seen = [features(v.diagonal, v.couplings, v.states == 1, v.nominal, v.wrap) for v in of_one]
        level = TorchLevel(
            tensor([v.diagonal * (v.states == 1) for v in of_one]),
            tuple(tensor([v.couplings[a] for v in of_one]) for a in range(3)),  # type: ignore[arg-type]
            tensor([v.states == 1 for v in of_one]),
            tensor(seen),
            (bool(first.wrap[0]), bool(first.wrap[1]), bool(first.wrap[2])),
        )
        if first.transfers is None:
            level.inverse = tensor([_whole_inverse(v) for v in of_one])
        else:
            level.share = tensor([v.share for v in of_one])
            coarse = hierarchies[0][depth + 1].boundary.shape
            level.transfers = tuple(
                torch.as_tensor(_matrix(t, m), dtype=dtype, device=device)
                for t, m in zip(first.transfers, coarse, strict=True)
            )
        found.append(level)
    return found


def _whole_inverse(level: Level) -> Any:
    index, inverse = coarsest_inverse(level)
    whole = np.zeros((level.states.size, level.states.size), np.float32)
    whole[np.ix_(index, index)] = inverse
    return whole


def _matrix(transfer: AxisTransfer, coarse: int) -> Any:
    n = len(transfer.own)
    matrix = np.zeros((n, coarse), np.float32)
    np.add.at(matrix, (np.arange(n), transfer.own), transfer.near)
    np.add.at(matrix, (np.arange(n), transfer.other), transfer.far)
    return matrix


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

    The constants of `len(stencils)` levels; deeper ones use the last.
    """

    def __init__(self, ndim: int, levels: int = 3, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.ndim = ndim
        start = [0.75, 0.10, 0.02, 0.0] if ndim == 3 else [0.75, 0.12, 0.02, 0.0]
        self.stencils = nn.Parameter(torch.tensor([start] * levels))
        self.over = nn.Parameter(torch.ones(levels))
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, 2)) for _ in range(levels)
        )
        for network in self.networks:
            nn.init.zeros_(network[2].weight)
            nn.init.zeros_(network[2].bias)

    def prepare(self, levels: Sequence[TorchLevel]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each level but the last: the multiplier, the stencil `(3, 3, 3)` and the over-correction."""
        return [self._of(level, min(depth, len(self.networks) - 1)) for depth, level in enumerate(levels)]

    def _of(self, level: TorchLevel, which: int) -> tuple[Tensor, Tensor, Tensor]:
        inverse = torch.where(level.diagonal > 0, 1 / level.diagonal.clamp(min=1e-20), 0.0) * level.unknown
        learned = torch.exp(self.networks[which](level.features))
        multiplier = learned[..., 0] * inverse
        gain = self.over[which] * learned[..., 1] * level.unknown
        distance = torch.tensor([[[abs(i) + abs(j) + abs(k) for k in O] for j in O] for i in O])
        stencil = self.stencils[which][distance.to(self.stencils.device)]
        if self.ndim == 2:
            stencil = stencil * torch.tensor([0.0, 1.0, 0.0], device=stencil.device)[:, None, None]
        return multiplier, stencil, gain

    def forward(
        self, levels: Sequence[TorchLevel], prepared: Sequence[tuple[Tensor, Tensor, Tensor]], r: Tensor, depth: int = 0
    ) -> Tensor:
        """`M r` on `(batch, n0, n1, n2)`."""
        level = levels[depth]
        if level.inverse is not None:
            return (level.inverse @ r.flatten(1)[..., None])[..., 0].view(r.shape)
        multiplier, stencil, _ = prepared[depth]
        x = multiplier * convolved(r, stencil, level.wrap)
        below = levels[depth + 1]
        gain = prepared[depth + 1][2]
        coarse = gain * restrict(level, below, r - level.apply(x))
        x = x + prolong(level, gain * self(levels, prepared, coarse, depth + 1))
        return x + level.unknown * convolved(multiplier * (r - level.apply(x)), stencil, level.wrap)

    def constants(self) -> LearnedConstants:
        """The parameters as plain numbers."""
        found = []
        for stencil, over, network in zip(self.stencils, self.over, self.networks, strict=True):
            first, second = network[0], network[2]  # type: ignore[index]
            found.append(
                LevelConstants(
                    tuple(stencil.tolist()),  # type: ignore[arg-type]
                    first.weight.detach().cpu().numpy().astype(np.float32),
                    first.bias.detach().cpu().numpy().astype(np.float32),
                    second.weight.detach().cpu().numpy().astype(np.float32),
                    second.bias.detach().cpu().numpy().astype(np.float32),
                    float(over.detach()),
                )
            )
        return LearnedConstants(self.ndim, tuple(found))

    @classmethod
    def of(cls, constants: LearnedConstants) -> LearnedCycle:
        """The module with these constants."""
        module = cls(constants.ndim, len(constants.levels), len(constants.levels[0].hidden_bias))
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
    r, past = b, []
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
