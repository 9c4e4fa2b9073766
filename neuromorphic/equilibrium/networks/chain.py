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
from relaxon.neuromorphic.equilibrium.networks.chain_kernels import MAGNITUDE, measure_moves, mix_moves
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
        # Of each layer the state and the rates; of leading ones also two proposals and two moves, as `_Moves` has them.
        made = [real.new_empty(6 if n in self.leading else 2, rows, units) for n, units in enumerate(field.layers)]
        self.states, self.rates = ([block[place] for block in made] for place in (0, 1))
        self.moves = _Moves([made[n] for n in self.leading], self.batch)
        planes = [torch.split(plane, list(field.layers), -1) for plane in (real, imaginary) if plane is not None]
        for n in self.leading:
            self._write(self.states[n], *(parts[n] for parts in planes))
            self._activate(n)
        # Buffers are written in place, which automatic differentiation could not follow.
        self.up, self.down = [weight.detach().T for weight in field.up], [weight.detach() for weight in field.down]
        self.drives = [self._inner_drive(drive.detach()) for drive in field.drives]

    def follow(self) -> None:
        """Bring the following layers to rest."""
        for n in self.following:
            self._pull(n, self.states[n])
            self._activate(n)

    def propose(self) -> float:
        """Compute where the leading layers would be at rest; return the residual `max |G|` of the current state."""
        for place, n in enumerate(self.leading):
            self._pull(n, self.moves.proposals(place))
        return self.moves.measure() / self.slope

    def accept(self, mixed: bool) -> None:
        """Move to the proposed state; where `mixed`, extrapolate along the last change by Anderson's mixing."""
        self.moves.take(mixed)
        for n in self.leading:
            self._activate(n)

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

    def _activate(self, n: int) -> None:
        """Write the rates that belong to a layer's inner state."""
        activation, state, rates = self.field.activation, self.states[n], self.rates[n]
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
            torch.addmm(drive, self.rates[n - 1], self.up[n - 1], alpha=self.slope, out=total)
        if n + 1 < len(self.states):
            if left:
                total.addmm_(self.rates[n + 1], self.down[n], alpha=self.slope)
            else:
                torch.addmm(drive, self.rates[n + 1], self.down[n], alpha=self.slope, out=total)
        elif not left:
            total.copy_(drive)
        if n + 1 == len(self.states) and self.field.push is not None:
            self.field.push(self.rates[n], self.complex, -self.slope, total)


class _Moves:
    """The proposals and moves of the leading layers, now and before, and Anderson's mixing of depth one.

    Each of `blocks` `(6, rows, units)` holds a layer's state and rates, two proposals and two moves; `turn` says which
    of them are those of now.
    """

    def __init__(self, blocks: Sequence[Tensor], batch: int) -> None:
        self.blocks, self.batch, self.turn, self.known = blocks, batch, 0, False
        rows, kind = blocks[0].shape[1], np.dtype(np.float32 if blocks[0].dtype == torch.float32 else np.float64)
        self.sums, self.bits = np.empty((rows, 2), kind), np.empty(rows, f"i{kind.itemsize}")
        self.magnitude = MAGNITUDE[kind.itemsize]
        self.arrays = [block.numpy() for block in blocks] if blocks[0].device.type == "cpu" else []
        self.words = [array.view(self.bits.dtype) for array in self.arrays]

    def proposals(self, place: int) -> Tensor:
        """Return the buffer of the present proposal of a leading layer."""
        return self.blocks[place][2 + self.turn]

    def measure(self) -> float:
        """Write the moves that the proposals ask for; return the largest."""
        if not self.arrays:
            return self._measure_plainly()
        sums, bits = self.sums, self.bits
        for place, (array, words) in enumerate(zip(self.arrays, self.words, strict=True)):
            args = (array, words, self.turn, self.magnitude, place == 0, sums, bits)
            divide(measure_moves, len(bits), *args, chunks=threads_for(array[0].size))
        return float(bits.max(keepdims=True).view(sums.dtype)[0])

    def take(self, mixed: bool) -> None:
        """Write the proposed states; where `mixed`, each sample's share γ of the last ones is mixed in.

        γ is the least-squares solution of `move ≈ γ · turn`, the turn being the change of the move.
        """
        mixed = mixed and self.known
        for array in self.arrays:
            args = (array, self.turn, self.batch, mixed, self.sums)
            divide(mix_moves, self.batch, *args, chunks=threads_for(array[0].size))
        if not self.arrays:
            self._take_plainly(mixed)
        self.turn, self.known = 1 - self.turn, True

    def _measure_plainly(self) -> float:
        """Do as `measure` does, on any device."""
        turn, found = self.turn, []
        self.sums[:] = 0
        for block in self.blocks:
            move = torch.sub(block[2 + turn], block[0], out=block[4 + turn])
            change = move - block[5 - turn]
            self.sums += torch.stack([(change * move).sum(-1), change.square().sum(-1)], -1).cpu().numpy()
            found.append(move.abs().amax())
        return float(torch.stack(found).amax())

    def _take_plainly(self, mixed: bool) -> None:
        sums = self.sums.reshape(-1, self.batch, 2).sum(0)
        share = sums[:, :1] / np.maximum(sums[:, 1:], np.finfo(sums.dtype).tiny) * mixed
        for block in self.blocks:
            rows = torch.from_numpy(np.tile(share, (len(self.sums) // self.batch, 1))).to(block[0].device)
            now, before = block[2 + self.turn], block[3 - self.turn]
            torch.lerp(now, before if mixed else now, rows, out=block[0])
