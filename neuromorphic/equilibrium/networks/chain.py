"""The field of a chain of layers, in which a layer is coupled only to its neighbours, as a whole or in two halves.

Given every second layer, the others reach rest in a single step. States are stored layer by layer as arguments of the
activation's inner function, `z = slope·u + offset`, in buffers that each step overwrites. A complex state is stored as
two real planes, one after the other, because real weights act on each of them separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium.networks.activations import Activation

Push = Callable[[Tensor, bool, float, Tensor], None]
"""`(rates, complex, factor, total)`: adds `factor · β ∂L/∂r` of the last layer to `total` in place. Where complex,
rates and total are two planes, one after the other."""


@dataclass(frozen=True, slots=True)
class ChainField:
    """The field `G_n = up_n r_{n−1} + down_{n+1}ᵀ r_{n+1} + drive_n − u_n − push`, the push in the last layer only.

    `whole` is the same field as a single function. `drives` are `(batch, units)` or `(units,)` and real.
    """

    whole: Callable[[Tensor], Tensor]
    activation: Activation
    layers: Sequence[int]
    up: Sequence[Tensor]
    down: Sequence[Tensor]
    drives: Sequence[Tensor]
    push: Push | None

    def __call__(self, u: Tensor) -> Tensor:
        return self.whole(u)

    def halves(self, start: Tensor) -> ChainHalves:
        """Return the state `start`, ready to be relaxed half by half."""
        return ChainHalves(self, start)


class ChainHalves:
    """A state whose last layer and every second one before it lead, and whose other layers follow.

    The push acts on the last layer only. So the following layers are exactly at rest after `follow`, and the entire
    residual is in the leading layers.
    """

    def __init__(self, field: ChainField, start: Tensor) -> None:
        self.field, self.complex = field, start.is_complex()
        self.slope, offset = field.activation.slope, field.activation.offset
        batch, last = len(start), len(field.layers) - 1
        start = start.detach()
        planes = torch.cat([start.real, start.imag]) if self.complex else start
        self.states = [self._inner(part, offset, batch) for part in torch.split(planes, list(field.layers), -1)]
        self.rates = [torch.empty_like(state) for state in self.states]
        for state, rates in zip(self.states, self.rates, strict=True):
            self._activate(state, rates)
        self.leading = range(last % 2, last + 1, 2)
        self.following = range(1 - last % 2, last + 1, 2)
        # Buffers are written in place, which automatic differentiation could not follow.
        self.up, self.down = ([weight.detach() for weight in part] for part in (field.up, field.down))
        self.drives = [
            self._inner((_on_planes(drive, batch) if self.complex else drive).detach(), offset, batch).expand_as(state)
            for drive, state in zip(field.drives, self.states, strict=True)
        ]
        self.proposed, self.moves, self.proposed_before, self.moves_before = (
            [torch.empty_like(self.states[n]) for n in self.leading] for _ in range(4)
        )
        self.moved = False

    def follow(self) -> None:
        """Bring the following layers to rest."""
        for n in self.following:
            self._pull(n, self.states[n])
            self._activate(self.states[n], self.rates[n])

    def propose(self) -> float:
        """Compute where the leading layers would be at rest; return the residual `max |G|` of the current state."""
        for place, n in enumerate(self.leading):
            self._pull(n, self.proposed[place])
            torch.sub(self.proposed[place], self.states[n], out=self.moves[place])
        # Minimum and maximum in one pass are several times as fast as torch's maximum norm.
        ends = [float(end) for move in self.moves for end in move.aminmax()]
        return math.nan if any(map(math.isnan, ends)) else max(map(abs, ends)) / self.slope

    def accept(self, mixed: bool) -> None:
        """Move to the proposed state; where `mixed`, extrapolate along the last change by Anderson's mixing."""
        if mixed and self.moved:
            share = self._share()
            for place, n in enumerate(self.leading):
                now, before = self.proposed[place], self.proposed_before[place]
                torch.addcmul(now, share, before.sub_(now), out=self.states[n])
                self._activate(self.states[n], self.rates[n])
        else:
            for place, n in enumerate(self.leading):
                self.states[n].copy_(self.proposed[place])
                self._activate(self.states[n], self.rates[n])
        self.proposed, self.proposed_before = self.proposed_before, self.proposed
        self.moves, self.moves_before = self.moves_before, self.moves
        self.moved = True

    def _share(self) -> Tensor:
        """Return each sample's least-squares `γ` of `move ≈ γ · turn`, `(batch, 1)`: Anderson's mixing of depth one."""
        along: Tensor | float = 0.0
        square: Tensor | float = 0.0
        for move, before in zip(self.moves, self.moves_before, strict=True):
            turn = torch.sub(move, before, out=before)
            along = along + torch.linalg.vecdot(turn, move)
            square = square + torch.linalg.vecdot(turn, turn)
        assert isinstance(along, Tensor)
        assert isinstance(square, Tensor)
        if self.complex:
            along, square = along.view(2, -1).sum(0).repeat(2), square.view(2, -1).sum(0).repeat(2)
        return along.div_(square.clamp_(min=torch.finfo(square.dtype).tiny))[:, None]

    def state(self) -> Tensor:
        """Return the current state, `(batch, units)`."""
        planes = torch.cat(self.states, -1)
        if self.field.activation.offset:
            planes[: len(planes) // 2 if self.complex else len(planes)] -= self.field.activation.offset
        if self.slope != 1.0:
            planes /= self.slope
        return torch.complex(*planes.chunk(2)) if self.complex else planes

    def _inner(self, planes: Tensor, offset: float, batch: int) -> Tensor:
        """Return a copy of `slope·u + offset`, with the offset in the real plane only."""
        found = (planes * self.slope).contiguous()
        if offset:
            real = found[:batch] if self.complex else found
            real += offset
        return found

    def _activate(self, state: Tensor, rates: Tensor) -> None:
        """Write the rates that belong to an inner state."""
        activation = self.field.activation
        if self.complex:
            activation.inner_planes(state, rates)
        elif activation.inner_into is not None:
            activation.inner_into(state, out=rates)
        else:
            rates.copy_(activation.function(state))

    def _pull(self, n: int, total: Tensor) -> None:
        """Write the inner state at which a layer would be at rest, given its neighbours."""
        left, drive = n > 0, self.drives[n]
        if left:
            torch.addmm(drive, self.rates[n - 1], self.up[n - 1].T, alpha=self.slope, out=total)
        if n + 1 < len(self.states):
            if left:
                total.addmm_(self.rates[n + 1], self.down[n], alpha=self.slope)
            else:
                torch.addmm(drive, self.rates[n + 1], self.down[n], alpha=self.slope, out=total)
        elif not left:
            total.copy_(drive)
        if n + 1 == len(self.states) and self.field.push is not None:
            self.field.push(self.rates[n], self.complex, -self.slope, total)


def _on_planes(drive: Tensor, batch: int) -> Tensor:
    """Return a real drive as two planes, the imaginary one of which is zero."""
    drive = drive.expand(batch, -1)
    return torch.cat([drive, torch.zeros_like(drive)])
