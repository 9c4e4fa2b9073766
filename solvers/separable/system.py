"""Fast diagonalisation: `A x = b` on a box by transforms along two axes and tridiagonal systems along the third.

In the vectors of two axes, `A` decomposes into a system `K + (λ + μ) M` along the third for each pair of their values.
There is no iteration, and no array beside the one in which the system is solved.

Source: R. E. Lynch, J. R. Rice, D. H. Thomas, "Direct solution of partial difference equations by tensor product
methods", Numer. Math. 6 (1964); B. L. Buzbee, G. H. Golub, C. W. Nielson, "On direct methods for solving Poisson's
equations", SIAM J. Numer. Anal. 7 (1970).
"""

# Imported on first use, for their weight: `solvers.kernels.compiled`, `kernels`.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.separable.axes import Axis
from relaxon.solvers.separable.transforms import Transform, transform_nanoseconds, transform_of

Array = NDArray[np.float64]
Change = Callable[[Array, int], Array]
BLOCK_CELLS = 1 << 17
"""Cells of the planes that are transformed together: a megabyte, about a core's second-level cache. Blocks do not
depend on the number of threads, so neither do the bits of the result."""
BLOCK_COLUMNS = 128
PASSES = 20.0
"""Nanoseconds per cell without the transforms: checks, the systems along the first axis, the residual twice."""
LONGER = 2.0
"""No transform is made along an axis that is so many times as long as the first; else along the first."""


class SeparableSystem:
    """`A = K₀⊗M₁⊗M₂ + M₀⊗K₁⊗M₂ + M₀⊗M₁⊗K₂`, set up to be solved with.

    Parameters
    ----------
    axes : the operators of the three axes.
    singular : whether the constant is a null vector; right-hand sides are then orthogonal to it, and of a solution any
        multiple of it may be a part.
    """

    def __init__(self, axes: Sequence[Axis], singular: bool = False) -> None:
        self._order = _order(axes)
        swept, *others = (axes[place] for place in self._order)
        self._transforms = [transform_of(axis) if axis.size > 1 else None for axis in others]
        self._along = transform_of(swept) if swept.cyclic else None
        one, two = (_values(axis, made) for axis, made in zip(others, self._transforms, strict=True))
        self._shifts = (one[:, None] + two).ravel()
        scale = math.prod(_scale(axis, made) for axis, made in zip(others, self._transforms, strict=True))
        self._swept = Axis(scale * swept.diagonal, scale * swept.coupling, scale * swept.weight)
        self._scale = scale * (1.0 if self._along is None else self._along.scale)
        strength = scale * sum(float((axis.diagonal / axis.weight).max()) for axis in axes)
        self._pin = (strength or 1.0) if singular else 0.0
        self._singular = singular
        self.products = sum(type(made).__name__ == "Product" for made in (*self._transforms, self._along))
        """Along how many axes there are products with a matrix, not fast transforms."""

    def solve(self, b: Array, out: Array) -> None:
        """`out ← A⁻¹ b`, both `shape3` and C-contiguous; they may be the same."""
        from relaxon.solvers.kernels.compiled import threads_for

        target = out.transpose(self._order)
        source = target if b is out else b.transpose(self._order)
        work = target if target.flags.c_contiguous else np.empty(target.shape)
        n0, n1, n2 = work.shape
        rows = max(1, BLOCK_CELLS // (n1 * n2))
        blocks, chunks = -(-n0 // rows), threads_for(work.size)
        there, back = ([made and change(made) for made in self._transforms] for change in (_FORWARD, _BACK))
        divide(_change, blocks, rows, source, work, there, chunks=chunks)
        flat = work.reshape(n0, n1 * n2)
        columns = -(-flat.shape[1] // BLOCK_COLUMNS)
        divide(self._columns, columns, flat, chunks=chunks, work=lambda: (np.empty((n0, BLOCK_COLUMNS)),))
        divide(_change, blocks, rows, work, target, back, chunks=chunks)

    def _columns(self, start: int, stop: int, x: Array, pivots: Array) -> None:
        """Solve the systems along the first axis, in place, for blocks of columns."""
        from relaxon.solvers.separable import kernels

        axis = self._swept
        for block in range(start, stop):
            first, last = block * BLOCK_COLUMNS, min((block + 1) * BLOCK_COLUMNS, x.shape[1])
            if self._along is None:
                kernels.sweep(
                    x, first, last, axis.diagonal, axis.coupling, axis.weight, self._shifts, self._pin, pivots
                )
            else:
                self._divide(x[:, first:last], first, self._along)

    def _divide(self, x: Array, first: int, along: Transform) -> None:
        """Solve as `_columns` does, by a transform along the first axis as well, where all three are periodic."""
        changed = along.forward(x[:, None].copy(), 0)
        values = along.values[:, None, None] + self._shifts[first : first + x.shape[1]]
        if self._singular and first == 0:
            values[0, 0, 0] = math.inf
        values *= self._scale
        changed /= values
        x[...] = along.back(changed, 0)[:, 0]


_FORWARD, _BACK = attrgetter("forward"), attrgetter("back")


def estimate_nanoseconds(axes: Sequence[Axis]) -> float:
    """Return about how long a set-up and a solve take a cell, in one thread."""
    cells = math.prod(axis.size for axis in axes)
    swept, *others = (axes[place] for place in _order(axes))
    changed = [axis for axis in (swept if swept.cyclic else None, *others) if axis is not None and axis.size > 1]
    return PASSES + sum(transform_nanoseconds(axis, cells) for axis in changed)


def _order(axes: Sequence[Axis]) -> tuple[int, int, int]:
    """Return the axis along which systems are tridiagonal (the first unless periodic or short), then the others."""
    plain = [place for place, axis in enumerate(axes) if not axis.cyclic and axis.size > 1]
    plain = plain or [place for place, axis in enumerate(axes) if not axis.cyclic] or [0]
    longest = max(plain, key=lambda place: axes[place].size)
    swept = plain[0] if axes[longest].size < LONGER * axes[plain[0]].size else longest
    one, two = (place for place in range(3) if place != swept)
    return swept, one, two


def _values(axis: Axis, made: Transform | None) -> Array:
    return axis.diagonal / axis.weight if made is None else made.values


def _scale(axis: Axis, made: Transform | None) -> float:
    return float(axis.weight[0]) if made is None else made.scale


def _change(start: int, stop: int, rows: int, source: Array, target: Array, changes: Sequence[Change | None]) -> None:
    """Transform blocks of planes along their two axes; `source` and `target` may be the same."""
    for block in range(start, stop):
        planes = slice(block * rows, (block + 1) * rows)
        x = target[planes]
        if source is not target:
            np.copyto(x, source[planes])
        for axis, change in zip((2, 1), reversed(changes), strict=True):
            if change is not None:
                changed = change(x, axis)
                if changed is not x:
                    np.copyto(x, changed)
