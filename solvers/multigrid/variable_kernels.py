"""Compiled passes of the V-cycle for coefficients that jump: transfers whose weights follow the couplings.

Along an axis that is coarsened, fine cells `2I` and `2I + 1` form coarse cell `I`, whose centre is the face between
them. A fine cell lies between that centre and the one beyond its outward face, and takes from either what a flux
through the resistances between them would give it. Let `R` be the resistance of half the pair's inner face, `1/c` that
of the outward face and `R'` that of half the other pair's inner face. Then the far weight is `R / (R + 1/c + R')`: a
quarter where κ is constant, 0 through a wall, 1 where the pair is separated. The coarse coupling is
`Σ 1 / (R + 1/c + R')` over the fine faces between two coarse cells.

Source: after R. Kettler, "Analysis and comparison of relaxation schemes in robust multigrid" (1982) and P. Wesseling,
"An Introduction to Multigrid Methods" (1992), chapter 5, for cell centres.

Arrays are float32 with three axes, rows shared among threads; `lower_a` is the coupling to the cell below.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.lean import inlined, lean, lean_shared
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.plane_passes import F0

UNCUT = np.float32(1e30)
"""A resistance beyond this is that of a wall."""
Index = NDArray[np.int32]


class CouplingTransfer(NamedTuple):
    """The interpolation `P` from a coarse level, without the share, and its transpose.

    Along axis `a` a fine cell takes `1 − far_a` of the value of the coarse cell `own_a` and `far_a` of `other_a`.
    """

    own0: Index
    """The coarse index of each fine one, `(n0,)`."""
    other0: Index
    """That of the other coarse cell; −1 for what lies beyond a side."""
    far0: Single
    """As from `far_weights`, `(n0, n1, n2)`."""
    own1: Index
    other1: Index
    far1: Single
    own2: Index
    other2: Index
    far2: Single
    steps: NDArray[np.int64]
    """How many cells a coarse one takes of each axis, `(3,)`."""
    wrap: NDArray[np.bool_]
    """Which axes are periodic, `(3,)`."""


@inlined
def _at(array, axis, index, i, j, k):  # type: ignore[no-untyped-def]
    if axis == 0:
        return array[index, j, k]
    return array[i, index, k] if axis == 1 else array[i, j, index]


@inlined
def _half_inner(faces, axis, index, n, outward, i, j, k):  # type: ignore[no-untyped-def]
    """Return the resistance of half the inner face of the pair of fine `index`; of half `outward` if it is alone."""
    odd = index | 1
    inner = _at(faces, axis, odd, i, j, k) if odd < n else outward
    return np.float32(0.5) / inner if inner > 0 else UNCUT


@lean_shared("rows", of="cells")
def far_weights(start, stop, faces, cells, known, every, axis, wrap, low_side, high_side, far):  # type: ignore[no-untyped-def]
    """`far` ← what each fluid cell takes from the coarse cell beyond its outward face along `axis`.

    `faces` are the open faces below the cells, `known` (3, …) the couplings to what sides hold: where there is one, or
    all over a side with `every`, `low_side` or `high_side` is taken from the value 0 there.
    """
    _, n1, n2 = cells.shape
    n = cells.shape[axis]
    for row in range(start, stop):
        i, j = row // n1, row % n1
        for k in range(n2):
            if cells[i, j, k] != 0:
                far[i, j, k] = F0
                continue
            index = i if axis == 0 else (j if axis == 1 else k)
            low = index % 2 == 0
            beyond = index - 1 if low else index + 1
            if not (0 <= beyond < n or wrap):
                held = every or known[axis, i, j, k] > 0
                far[i, j, k] = (low_side if low else high_side) if held else F0
                continue
            outward = _at(faces, axis, index if low else beyond % n, i, j, k)
            if not outward > 0:
                far[i, j, k] = F0
                continue
            own = _half_inner(faces, axis, index, n, outward, i, j, k)
            other = _half_inner(faces, axis, beyond % n, n, outward, i, j, k)
            if own >= UNCUT:
                far[i, j, k] = np.float32(1) if other < UNCUT else np.float32(0.5)
            else:
                far[i, j, k] = own / (own + np.float32(1) / outward + min(other, UNCUT))


@lean_shared("rows", of="coarse")
def coarsen_axis_faces(start, stop, faces, axis, halved, steps, wrap, coarse):  # type: ignore[no-untyped-def]
    """Fill in the coarse open faces along `axis`: sums over the fine faces between coarse cells, in series."""
    n0, n1, n2 = faces.shape
    _, m1, m2 = coarse.shape
    n, m = faces.shape[axis], coarse.shape[axis]
    for row in range(start, stop):
        i, j = row // m1, row % m1
        for k in range(m2):
            place = i if axis == 0 else (j if axis == 1 else k)
            total = 0.0
            # A coarse cell that is its own neighbour around a periodic axis has no coupling along it.
            if place > 0 or (wrap and m > 1):
                index = place * (2 if halved else 1)
                beyond = (index - 1) % n
                a1 = i * steps[0] + 1 if axis == 0 else min((i + 1) * steps[0], n0)
                b1 = j * steps[1] + 1 if axis == 1 else min((j + 1) * steps[1], n1)
                c1 = k * steps[2] + 1 if axis == 2 else min((k + 1) * steps[2], n2)
                for a in range(i * steps[0], a1):
                    for b in range(j * steps[1], b1):
                        for c in range(k * steps[2], c1):
                            face = faces[a, b, c]
                            if not face > 0:
                                continue
                            if not halved:
                                total += face
                                continue
                            own = _half_inner(faces, axis, index, n, face, a, b, c)
                            other = _half_inner(faces, axis, beyond, n, face, a, b, c)
                            if own < UNCUT and other < UNCUT:
                                total += 1.0 / (own + 1.0 / face + other)
            coarse[i, j, k] = total


@inlined
def _prolong_row(i, j, coarse, transfer, share, add, x, line, near, away, total):  # type: ignore[no-untyped-def]
    """`prolong` for the row `(i, j)`; `line` holds what lies beyond a side."""
    one, beyond, n2 = np.float32(1), line[0], len(total)
    own0, other0, own1, other1 = transfer.own0, transfer.other0, transfer.own1, transfer.other1
    own2, other2 = transfer.own2, transfer.other2
    f0, f1, f2 = transfer.far0[i, j], transfer.far1[i, j], transfer.far2[i, j]
    total[:] = F0
    for a in range(2):
        if a == 1 and other0[i] == own0[i]:
            continue
        m = own0[i] if a == 0 else other0[i]
        for b in range(2):
            if b == 1 and other1[j] == own1[j]:
                continue
            n = own1[j] if b == 0 else other1[j]
            row = line if m < 0 or n < 0 else coarse[m, n]
            for k in range(n2):
                near[k] = row[own2[k]]
                away[k] = row[other2[k]] if other2[k] >= 0 else beyond
            for cell in range(n2):
                k = np.uint64(cell)
                w0 = f0[k] if a == 1 else one - f0[k]
                w1 = f1[k] if b == 1 else one - f1[k]
                total[k] += w0 * w1 * (near[k] + f2[k] * (away[k] - near[k]))
    x_row, s_row = x[i, j], share[i, j]
    for cell in range(len(total)):
        k = np.uint64(cell)
        x_row[k] = (x_row[k] if add else F0) + s_row[k] * total[k]


@lean
def _prolong(start, stop, coarse, beyond, transfer, share, add, x, work):  # type: ignore[no-untyped-def]
    """Do rows `start … stop − 1` of `prolong`; `work` (4, n) is as long as the longer of a fine and a coarse row."""
    transfer = CouplingTransfer(*transfer)
    _, n1, n2 = x.shape
    m2 = coarse.shape[2]
    line, near, away, total = work[0, :m2], work[1, :n2], work[2, :n2], work[3, :n2]
    for k in range(m2):
        line[k] = beyond
    for row in range(start, stop):
        _prolong_row(row // n1, row % n1, coarse, transfer, share, add, x, line, near, away, total)


def prolong(
    coarse: Single, beyond: np.float32, transfer: CouplingTransfer, share: Single | None, add: bool, x: Single
) -> None:
    """`x ← share · P coarse`, added to `x` with `add`; the coarse value beyond a side is `beyond`."""
    args = (coarse, beyond, tuple(transfer), share, add, x)
    work = partial(_lines, 4, max(coarse.shape[2], x.shape[2]))
    divide(_prolong, x[..., 0].size, *args, chunks=threads_for(x.size), work=work)


@inlined
def _add_gathered(t, f0, f1, f2, a0, a1, b0, b1, weight, near, away):  # type: ignore[no-untyped-def]
    """Add a fine row's part to the sums over its cells for their own and the other coarse cells of the last axis.

    A row's weight is `(a₀ + a₁ f₀)(b₀ + b₁ f₁)`: of `1 − f` in an axis's own coarse cell and `f` in the other one.
    """
    for cell in range(len(t)):
        k = np.uint64(cell)
        weight[k] = (a0 + a1 * f0[k]) * (b0 + b1 * f1[k]) * t[k]
    for cell in range(len(t)):
        k = np.uint64(cell)
        away[k] += weight[k] * f2[k]
        near[k] += weight[k] - weight[k] * f2[k]


@inlined
def _takes(own, other, fine, place, first):  # type: ignore[no-untyped-def]
    """Return whether coarse cell `place` takes from cell `fine` as its own (`first`) or as the other, each once."""
    return own[fine] == place if first else other[fine] == place and own[fine] != place


@inlined
def _restrict_row(i, j, t, transfer, diagonal, coarse, near, away, weight):  # type: ignore[no-untyped-def]
    """`restrict` for the coarse row `(i, j)`."""
    own0, other0, own1, other1 = transfer.own0, transfer.other0, transfer.own1, transfer.other1
    own2, other2, steps, wrap = transfer.own2, transfer.other2, transfer.steps, transfer.wrap
    n0, n1, n2 = t.shape
    one = np.float32(1)
    near[:] = F0
    away[:] = F0
    p0, p1 = (2 * i - 1, 2 * i + 3) if steps[0] == 2 else (i, i + 1)
    q0, q1 = (2 * j - 1, 2 * j + 3) if steps[1] == 2 else (j, j + 1)
    for p in range(p0, p1):
        if not (0 <= p < n0 or (wrap[0] and p - p0 < n0)):
            continue
        a = p % n0
        for q in range(q0, q1):
            if not (0 <= q < n1 or (wrap[1] and q - q0 < n1)):
                continue
            b = q % n1
            for corner in range(4):
                own_a, own_b = corner < 2, corner % 2 == 0
                if _takes(own0, other0, a, i, own_a) and _takes(own1, other1, b, j, own_b):
                    a0, a1 = (one, -one) if own_a else (F0, one)
                    b0, b1 = (one, -one) if own_b else (F0, one)
                    f0, f1, f2 = transfer.far0[a, b], transfer.far1[a, b], transfer.far2[a, b]
                    _add_gathered(t[a, b], f0, f1, f2, a0, a1, b0, b1, weight, near, away)
    out, d_row = coarse[i, j], diagonal[i, j]
    out[:] = F0
    for k in range(n2):
        out[own2[k]] += near[k]
        if other2[k] >= 0:
            out[other2[k]] += away[k]
    for cell in range(len(out)):
        k = np.uint64(cell)
        out[k] = out[k] if d_row[k] != 0 else F0


@lean
def _restrict(start, stop, t, transfer, diagonal, coarse, work):  # type: ignore[no-untyped-def]
    """Do rows `start … stop − 1` of `restrict`; `work` (3, n) has the length of a fine row."""
    transfer = CouplingTransfer(*transfer)
    m1 = coarse.shape[1]
    near, away, weight = work[0], work[1], work[2]
    for row in range(start, stop):
        _restrict_row(row // m1, row % m1, t, transfer, diagonal, coarse, near, away, weight)


def restrict(t: Single, transfer: CouplingTransfer, diagonal: Single, coarse: Single) -> None:
    """`coarse ← Pᵀ t` where the coarse level has unknowns (`diagonal ≠ 0`); the share is in `t` already."""
    args = (t, tuple(transfer), diagonal, coarse)
    work = partial(_lines, 3, t.shape[2])
    divide(_restrict, coarse[..., 0].size, *args, chunks=threads_for(coarse.size), work=work)


def _lines(count: int, length: int) -> tuple[Single]:
    """Return work space of a kernel that fills it itself."""
    return (np.empty((count, length), np.float32),)
