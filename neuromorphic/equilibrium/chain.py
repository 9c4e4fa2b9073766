"""The field of a chain of layers, whole or in two halves: a layer is coupled with its neighbours only.

With every second layer given, the others are at rest in one go. States are kept layer by layer; a complex state as two
real planes behind one another, as real weights act on each alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium.activations import Activation

Push = Callable[[Tensor], Tensor]
"""`β ∂L/∂r` of the last layer from its rates, real or complex."""


@dataclass(frozen=True, slots=True)
class ChainField:
    """`G_n = up_n r_{n−1} + down_{n+1}ᵀ r_{n+1} + drive_n − u_n − push`, the push in the last layer only.

    `whole` is the same field as one function. `drives` are `(batch, units)` or `(units,)` and real.
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
        """The state to be relaxed half by half."""
        return ChainHalves(self, start)


class ChainHalves:
    """A state of which the last layer and every second one before it are proposed anew, and the others follow.

    The push acts on the last layer alone, so that the layers that follow are exactly at rest whenever they have
    followed: the whole residual is in what is proposed.
    """

    def __init__(self, field: ChainField, start: Tensor) -> None:
        self.field, self.complex = field, start.is_complex()
        batch, last = len(start), len(field.layers) - 1
        planes = torch.cat([start.real, start.imag]) if self.complex else start
        self.states = list(torch.split(planes, list(field.layers), -1))
        self.rates = [self._rates(state) for state in self.states]
        self.leading = range(last % 2, last + 1, 2)
        self.following = range(1 - last % 2, last + 1, 2)
        self.drives = [_on_planes(drive, batch) if self.complex else drive for drive in field.drives]
        self.proposed: list[Tensor] = []
        self.moves: list[Tensor] = []
        self.before: tuple[list[Tensor], list[Tensor]] | None = None

    def follow(self) -> None:
        """Bring the layers between the leading ones to rest."""
        for n in self.following:
            self.states[n] = self._pulled(n)
            self.rates[n] = self._rates(self.states[n])

    def propose(self) -> float:
        """Where the leading layers would be at rest; returns the residual `max |G|` of the state as it is."""
        self.proposed = [self._pulled(n) for n in self.leading]
        self.moves = [new - self.states[n] for n, new in zip(self.leading, self.proposed, strict=True)]
        sizes = [move.abs().amax() for move in self.moves]
        return float(sizes[0] if len(sizes) == 1 else torch.stack(sizes).amax())

    def accept(self, mixed: bool) -> None:
        """Go where `propose` has found; `mixed` goes on along the last change as far as the moves' own change tells."""
        target = self.proposed
        if mixed and self.before is not None:
            proposed, moves = self.before
            turns = [now - then for now, then in zip(self.moves, moves, strict=True)]
            share = self._share(turns).neg_()
            target = [torch.addcmul(now, share, now - then) for now, then in zip(self.proposed, proposed, strict=True)]
        self.before = (self.proposed, self.moves)
        for n, state in zip(self.leading, target, strict=True):
            self.states[n], self.rates[n] = state, self._rates(state)

    def _share(self, turns: list[Tensor]) -> Tensor:
        """For each sample the least-squares `γ` of `move ≈ γ · turn`, `(batch, 1)`: Anderson's mixing of depth one."""
        along = sum((turn * move).sum(-1) for turn, move in zip(turns, self.moves, strict=True))
        square = sum(turn.square().sum(-1) for turn in turns)
        assert isinstance(along, Tensor)
        assert isinstance(square, Tensor)
        if self.complex:
            along, square = along.view(2, -1).sum(0).repeat(2), square.view(2, -1).sum(0).repeat(2)
        return (along / square.clamp(min=torch.finfo(square.dtype).tiny))[:, None]

    def state(self) -> Tensor:
        """The state `(batch, units)` as it is."""
        planes = torch.cat(self.states, -1)
        return torch.complex(*planes.chunk(2)) if self.complex else planes

    def _rates(self, state: Tensor) -> Tensor:
        return self.field.activation.on_planes(state) if self.complex else self.field.activation(state)

    def _pulled(self, n: int) -> Tensor:
        field, total = self.field, self.drives[n]
        if n > 0:
            total = torch.addmm(total, self.rates[n - 1], field.up[n - 1].T)
        if n + 1 < len(self.states):
            total = torch.addmm(total, self.rates[n + 1], field.down[n])
        elif field.push is not None:
            rates = torch.complex(*self.rates[n].chunk(2)) if self.complex else self.rates[n]
            push = field.push(rates)
            total = total - (torch.cat([push.real, push.imag]) if self.complex else push)
        return total.expand_as(self.states[n])


def _on_planes(drive: Tensor, batch: int) -> Tensor:
    """A real drive has no imaginary part."""
    drive = drive.expand(batch, -1)
    return torch.cat([drive, torch.zeros_like(drive)])
