"""The levels of the fused V-cycle: one whose coefficients are coded bytes, and those with arrays of couplings."""

# Imported on first use, for their weight: the compiled kernels (numba).
from __future__ import annotations

import math
from abc import abstractmethod
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.memory import allocate_zeros
from relaxon.solvers.multigrid.cycle import CycleLevel, Single
from relaxon.solvers.multigrid.transfers import TransferTables

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.passes import LevelOperator, Smoother, Transfer

Shape = tuple[int, int, int]


@dataclass(slots=True)
class FusedLevel(CycleLevel):
    """One level of the fused V-cycle: a `CodedLevel` or a `FaceLevel`.

    The last level has `inverse` and `index` in place of the transfer.
    """

    shape: Shape
    operator: LevelOperator
    smoother: Smoother
    nominal: tuple[float, float, float]
    """The coupling of an open face along each axis."""
    active: tuple[bool, bool, bool]
    """The axes along which the stencil smooths."""
    gain: Single | None = None
    """What a correction to this level's cells is multiplied by, as planes; None on the finest level."""
    transfer: Transfer | None = None
    """The transfer to the level below."""
    tables: tuple[TransferTables, TransferTables, TransferTables] | None = None
    """The transfer along each axis."""
    chunks: int = 0
    """The number of runs of planes into which the level is divided among threads."""
    visits: int = 1
    """How often one cycle visits the level."""
    index: NDArray[np.int64] | None = None
    """The flat indices of the last level's unknowns, `(m,)`."""
    inverse: Single | None = None
    """The pseudo-inverse of the last level's matrix, `(m, m)`."""
    r: Any = None
    """The level's right-hand side, as planes `(n0, n1 · n2)`."""
    x: Any = None
    """What the first smoothing gives, as planes."""
    z: Any = None
    """The level's correction, as planes."""
    again: tuple[Single, Single] | None = None
    """Work space of a second visit."""

    table: Any = field(default=None, init=False, repr=False)
    """What `passes` takes of this level alone, made on first use."""

    def __post_init__(self) -> None:
        from relaxon.solvers.kernels.compiled import threads_for

        self.chunks = min(threads_for(math.prod(self.shape)), self.shape[0])

    @property
    @abstractmethod
    def diagonal(self) -> Single:
        """The operator's diagonal, 0 where there is no unknown, of `shape`."""

    @property
    @abstractmethod
    def couplings(self) -> tuple[Single, Single, Single]:
        """The couplings to the cell below along each axis, 0 unless both are unknowns, each of `shape`."""

    @property
    @abstractmethod
    def multiplier(self) -> Single:
        """The smoother's multiplier of each cell, of `shape`."""

    @property
    @abstractmethod
    def share(self) -> Single:
        """The share of each cell in the interpolation, of `shape`."""

    @property
    @abstractmethod
    def unknown(self) -> NDArray[np.bool_]:
        """Which cells are unknowns, of `shape`."""

    def twin(self) -> Self:
        """Return the same level with work space of its own."""
        twin = copy(self)
        twin.r, twin.x, twin.z = (
            None if array is None else allocate_zeros(array.shape, array.dtype) for array in (self.r, self.x, self.z)
        )
        twin.again = twin.table = None
        return twin

    # --- the steps of the cycle ---------------------------------------------------------------------------------------

    def solve(self) -> None:
        """`z ← A⁺ r`, on the last level."""
        assert self.inverse is not None
        self.z[...] = 0
        self.z.reshape(-1)[self.index] = self.inverse @ self.r.reshape(-1)[self.index]

    def smooth_residual_restrict(self, below: FusedLevel) -> None:
        """`x ← m ⊙ (K r)`, and the residual's restriction into `below.r`."""
        from relaxon.solvers.multigrid import passes

        passes.smooth_residual_restrict(self, below.gain, below.r)

    def prolong_correct_smooth(self, below: FusedLevel) -> None:
        """`y ← x` plus the interpolation of `below.z`, then `z ← y + K (m ⊙ (r − A y))`."""
        from relaxon.solvers.multigrid import passes

        passes.prolong_correct_smooth(self, below.gain, below.z)

    def begin_visit(self) -> None:
        """Begin another visit: set `r` and `z` aside, and let `r ← r − A z`."""
        shape = self.r.shape
        r, z = self.again or (allocate_zeros(shape, np.float32), allocate_zeros(shape, np.float32))
        self.again = (self.r, self.z)
        self._take_residual(r)
        self.r, self.z = r, z

    def end_visit(self) -> None:
        """End another visit: add to `z` what was set aside, and have the former `r` again."""
        assert self.again is not None
        r, z = self.again
        self.z += z
        self.r, self.again = r, (self.r, z)

    def _take_residual(self, out: Single) -> None:
        from relaxon.solvers.multigrid import passes

        passes.take_residual(self, out)


class CodedLevel(FusedLevel):
    """The finest level where κ = 1: a byte a cell each for diagonal, multiplier and share, one coupling an axis."""

    @property
    def diagonal(self) -> Single:
        return self.operator.codes.reshape(self.shape).astype(np.float32)

    @property
    def couplings(self) -> tuple[Single, Single, Single]:
        unknown, found = self.unknown, []
        for axis in range(3):
            both = (unknown & np.roll(unknown, 1, axis)) * self.operator.weights[axis]
            if not self.operator.wrap[axis]:
                both[tuple(slice(0, 1) if a == axis else slice(None) for a in range(3))] = 0
            found.append(both.astype(np.float32))
        return (found[0], found[1], found[2])

    @property
    def multiplier(self) -> Single:
        return self.smoother.codes.reshape(self.shape) * self.smoother.unit

    @property
    def share(self) -> Single:
        assert self.transfer is not None
        return self.transfer.codes.reshape(self.shape) * self.transfer.unit

    @property
    def unknown(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.operator.codes.reshape(self.shape) != 0
        return found


class FaceLevel(FusedLevel):
    """A level with float32 arrays of its diagonal, couplings, multiplier and share."""

    @property
    def diagonal(self) -> Single:
        return self.operator.diagonal.reshape(self.shape)

    @property
    def couplings(self) -> tuple[Single, Single, Single]:
        first, second, third = self.operator.lower0, self.operator.lower1, self.operator.lower2
        return first.reshape(self.shape), second.reshape(self.shape), third.reshape(self.shape)

    @property
    def multiplier(self) -> Single:
        return self.smoother.values.reshape(self.shape)

    @property
    def share(self) -> Single:
        assert self.transfer is not None
        return self.transfer.values.reshape(self.shape)

    @property
    def unknown(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.diagonal != 0
        return found
