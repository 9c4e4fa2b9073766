"""The field of a chain of layers, in which a layer is coupled only to its neighbours, as a whole or in two halves.

Given every second layer, the others reach rest in a single step. States are stored layer by layer as arguments of the
activation's inner function, `z = slope·u + offset`, in buffers that each step overwrites. A complex state is stored as
two real planes, one after the other, because real weights act on each of them separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium.networks.activations import Activation
from relaxon.neuromorphic.equilibrium.networks.chain_kernels import MAGNITUDE, measure_moves
from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.threads import divide

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
        start = start.detach()
        real, imaginary = (start.real, start.imag) if self.complex else (start, None)
        self.slope, self.offset = field.activation.slope, real.new_tensor(field.activation.offset)
        self.batch, last = len(start), len(field.layers) - 1
        self.leading = range(last % 2, last + 1, 2)
        self.following = range(1 - last % 2, last + 1, 2)
        rows = self.batch * (2 if self.complex else 1)
        # Of each layer the state and the rates; of leading ones also the proposals and the moves, before and now.
        made = [real.new_empty(6 if n in self.leading else 2, rows, units) for n, units in enumerate(field.layers)]
        self.states, self.rates = ([block[place] for block in made] for place in (0, 1))
        self.proposed, self.proposed_before, self.moves, self.moves_before = (
            [made[n][place] for n in self.leading] for place in (2, 3, 4, 5)
        )
        planes = [torch.split(plane, list(field.layers), -1) for plane in (real, imaginary) if plane is not None]
        for n in self.leading:
            self._write(self.states[n], *(parts[n] for parts in planes))
            self._activate(self.states[n], self.rates[n])
        # Buffers are written in place, which automatic differentiation could not follow.
        self.up, self.down = ([weight.detach() for weight in part] for part in (field.up, field.down))
        self.drives = [self._inner_drive(drive.detach()) for drive in field.drives]
        self.moved, self.measure = False, _Measure(real, rows, self.batch)

    def follow(self) -> None:
        """Bring the following layers to rest."""
        for n in self.following:
            self._pull(n, self.states[n])
            self._activate(self.states[n], self.rates[n])

    def propose(self) -> float:
        """Compute where the leading layers would be at rest; return the residual `max |G|` of the current state."""
        self.measure.clear()
        for place, n in enumerate(self.leading):
            self._pull(n, self.proposed[place])
            self.measure.add(self.proposed[place], self.states[n], self.moves[place], self.moves_before[place])
        return self.measure.largest / self.slope

    def accept(self, mixed: bool) -> None:
        """Move to the proposed state; where `mixed`, extrapolate along the last change by Anderson's mixing."""
        share = self.measure.share() if mixed and self.moved else None
        for place, n in enumerate(self.leading):
            if share is None:
                self.states[n].copy_(self.proposed[place])
            else:
                torch.lerp(self.proposed[place], self.proposed_before[place], share, out=self.states[n])
            self._activate(self.states[n], self.rates[n])
        self.proposed, self.proposed_before = self.proposed_before, self.proposed
        self.moves, self.moves_before = self.moves_before, self.moves
        self.moved = True

    def state(self) -> Tensor:
        """Return the current state, `(batch, units)`."""
        planes = torch.cat(self.states, -1)
        planes[: self.batch] -= self.offset
        return self._whole(planes.div_(self.slope))

    def whole_rates(self) -> Tensor:
        """Return the rates of the current state, `(batch, units)`."""
        return self._whole(torch.cat(self.rates, -1))

    def _whole(self, planes: Tensor) -> Tensor:
        return torch.complex(*planes.chunk(2)) if self.complex else planes

    def _write(self, out: Tensor, real: Tensor, imaginary: Tensor | None = None) -> Tensor:
        """Write `slope·u + offset` in planes."""
        torch.add(self.offset, real, alpha=self.slope, out=out[: self.batch])
        if imaginary is not None:
            torch.mul(imaginary, self.slope, out=out[self.batch :])
        return out

    def _inner_drive(self, drive: Tensor) -> Tensor:
        """Return what a drive contributes to inner states: a row for all samples where that suffices."""
        if not self.complex:
            return torch.add(self.offset, drive, alpha=self.slope)
        drive = drive.expand(self.batch, -1)
        return self._write(drive.new_zeros(2 * self.batch, drive.shape[1]), drive)

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


class _Measure:
    """What the moves of all leading layers say: the largest of them, and each sample's `γ` of Anderson's mixing."""

    def __init__(self, like: Tensor, rows: int, batch: int) -> None:
        kind = np.dtype(np.float32 if like.dtype == torch.float32 else np.float64)
        self.sums, self.bits = np.zeros((rows, 2), kind), np.zeros(rows, f"i{kind.itemsize}")
        self.batch, self.magnitude, self.device = batch, MAGNITUDE[kind.itemsize], like.device

    @property
    def largest(self) -> float:
        return float(self.bits.max(keepdims=True).view(self.sums.dtype)[0])

    def clear(self) -> None:
        self.sums.fill(0)
        self.bits.fill(0)

    def add(self, proposed: Tensor, state: Tensor, move: Tensor, before: Tensor) -> None:
        """Write a layer's move, and account for it."""
        if self.device.type == "cpu":
            arrays = [each.numpy() for each in (proposed, state, move, before)]
            args = (*arrays, arrays[2].view(self.bits.dtype), self.magnitude, self.sums, self.bits)
            divide(measure_moves, len(move), *args, chunks=threads_for(move.numel()))
            return
        turn = torch.sub(proposed, state, out=move) - before
        self.sums += torch.stack([(turn * move).sum(-1), turn.square().sum(-1)], -1).cpu().numpy()
        np.maximum(self.bits, move.abs().amax(-1).cpu().numpy().view(self.bits.dtype), out=self.bits)

    def share(self) -> Tensor:
        """Return each row's least-squares `γ` of `move ≈ γ · turn`, `(rows, 1)`: Anderson's mixing of depth one."""
        sums = self.sums.reshape(-1, self.batch, 2).sum(0)
        share = sums[:, :1] / np.maximum(sums[:, 1:], np.finfo(sums.dtype).tiny)
        return torch.from_numpy(np.tile(share, (len(self.sums) // self.batch, 1))).to(self.device)
