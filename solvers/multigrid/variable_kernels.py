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
ONE, TWO = np.uint64(1), np.uint64(2)
HELD = 3
"""Coarse planes that the prolongation keeps, laid out along the fine cells of the last axis."""
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


@inlined
def _far_weight(inner, outward, outer):  # type: ignore[no-untyped-def]
    """Return the far weight of a cell between the inner faces of its own and of the other pair."""
    half = np.float32(0.5)
    own, other = half / inner if inner > 0 else UNCUT, half / outer if outer > 0 else UNCUT
    weight = own / (own + np.float32(1) / outward + other)
    if own >= UNCUT:
        weight = np.float32(1) if other < UNCUT else half
    return weight if outward > 0 else F0


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
        out, kind = far[i, j], cells[i, j]
        # Along the last axis all but the ends of a row are as its cells say, else all or none of them.
        index = i if axis == 0 else (j if axis == 1 else 0)
        low = index % 2 == 0
        beyond = index - 1 if low else index + 1
        at_side = axis != 2 and not (0 <= beyond < n or wrap)
        if axis != 2 and not at_side:
            place, odd, other = (index if low else beyond % n), index | 1, (beyond % n) | 1
            outward = faces[place, j] if axis == 0 else faces[i, place]
            inner = outward if odd >= n else (faces[odd, j] if axis == 0 else faces[i, odd])
            outer = outward if other >= n else (faces[other, j] if axis == 0 else faces[i, other])
            for cell in range(n2):
                k = np.uint64(cell)
                out[k] = _far_weight(inner[k], outward[k], outer[k])
        line = faces[i, j]
        for k in range(n2):
            if axis == 2:
                low = k % 2 == 0
                beyond = k - 1 if low else k + 1
                at_side = not (0 <= beyond < n or wrap)
            if at_side:
                held = every or known[axis, i, j, k] > 0
                out[k] = (low_side if low else high_side) if held else F0
            elif axis == 2:
                place, odd, other = (k if low else beyond % n), k | 1, (beyond % n) | 1
                outside = line[place]
                out[k] = _far_weight(line[odd] if odd < n else outside, outside, line[other] if other < n else outside)
        for cell in range(n2):
            k = np.uint64(cell)
            out[k] = out[k] if kind[k] == 0 else F0


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
def _find_plane(m, needed, coarse, transfer, beyond, tags, wide):  # type: ignore[no-untyped-def]
    """Return where the rows of coarse plane `m` are in `wide`, laid out along the fine cells of the last axis.

    Each row is two: the values of the cells' own coarse cells, and what those of the other ones differ from them.
    `tags` are the planes that `wide` holds, of which `needed` is kept.
    """
    own2, other2 = transfer.own2, transfer.other2
    m1, n2, spot = coarse.shape[1], len(own2), 0
    for slot in range(HELD):
        if tags[slot] == m:
            return slot * m1 * 2 * n2
        spot = slot if tags[slot] != needed else spot
    tags[spot] = m
    base = spot * m1 * 2 * n2
    for n in range(m1):
        row, near, apart = coarse[m, n], wide[base : base + n2], wide[base + n2 : base + 2 * n2]
        for k in range(n2):
            value = row[own2[k]]
            near[k] = value
            apart[k] = (row[other2[k]] if other2[k] >= 0 else beyond) - value
        base += 2 * n2
    return spot * m1 * 2 * n2


@lean
def _prolong(start, stop, coarse, beyond, transfer, share, add, x, wide, tags):  # type: ignore[no-untyped-def]
    """Do rows `start … stop − 1` of `prolong`; `wide` holds `HELD` planes, a row of `beyond` and one of zeros, each as
    `_find_plane` lays it out; `tags` are as there."""
    transfer = CouplingTransfer(*transfer)
    own0, other0, own1, other1 = transfer.own0, transfer.other0, transfer.own1, transfer.other1
    _, n1, n2 = x.shape
    outside = HELD * coarse.shape[1] * 2 * n2
    nothing = outside + 2 * n2
    for k in range(4 * n2):
        wide[outside + k] = beyond if k < n2 else F0
    for slot in range(HELD):
        tags[slot] = -1
    for row in range(start, stop):
        i, j = row // n1, row % n1
        m, n = own0[i], own1[j]
        away, aside = other0[i], other1[j]
        here = _find_plane(m, away, coarse, transfer, beyond, tags, wide)
        there = here if away < 0 or away == m else _find_plane(away, m, coarse, transfer, beyond, tags, wide)
        p00 = here + n * 2 * n2
        p01 = nothing if aside == n else (outside if aside < 0 else here + aside * 2 * n2)
        p10 = nothing if away == m else (outside if away < 0 else there + n * 2 * n2)
        p11 = nothing if away == m or aside == n else (outside if away < 0 or aside < 0 else there + aside * 2 * n2)
        v00, v01, v10, v11 = wide[p00 : p00 + n2], wide[p01 : p01 + n2], wide[p10 : p10 + n2], wide[p11 : p11 + n2]
        p00, p01, p10, p11 = p00 + n2, p01 + n2, p10 + n2, p11 + n2
        d00, d01, d10, d11 = wide[p00 : p00 + n2], wide[p01 : p01 + n2], wide[p10 : p10 + n2], wide[p11 : p11 + n2]
        f0, f1, f2 = transfer.far0[i, j], transfer.far1[i, j], transfer.far2[i, j]
        x_row, s_row = x[i, j], share[i, j]
        for cell in range(n2):
            k = np.uint64(cell)
            near = v00[k] + f2[k] * d00[k]
            near += f1[k] * (v01[k] + f2[k] * d01[k] - near)
            far = v10[k] + f2[k] * d10[k]
            far += f1[k] * (v11[k] + f2[k] * d11[k] - far)
            x_row[k] = (x_row[k] if add else F0) + s_row[k] * (near + f0[k] * (far - near))


def prolong(
    coarse: Single, beyond: np.float32, transfer: CouplingTransfer, share: Single | None, add: bool, x: Single
) -> None:
    """`x ← share · P coarse`, added to `x` with `add`; the coarse value beyond a side is `beyond`."""
    args = (coarse, beyond, tuple(transfer), share, add, x)
    work = partial(_make_planes, (HELD * coarse.shape[1] + 2) * 2 * x.shape[2])
    divide(_prolong, x[..., 0].size, *args, chunks=threads_for(x.size), work=work)


def _make_planes(size: int) -> tuple[Single, NDArray[np.int64]]:
    return np.empty(size, np.float32), np.empty(HELD, np.int64)


@inlined
def _part_of(own, other, fine, place):  # type: ignore[no-untyped-def]
    """Return `a₀` and `a₁` of the part `a₀ + a₁ far` that coarse cell `place` has in fine cell `fine` along an axis."""
    if own[fine] == place:
        return np.float32(1), np.float32(-1)
    return F0, np.float32(1) if other[fine] == place else F0


@inlined
def collect(near, away, transfer, out):  # type: ignore[no-untyped-def]
    """Sum along a fine row what its cells give to their own (`near`) and to the other coarse cells (`away`)."""
    own2, other2, m2, n2 = transfer.own2, transfer.other2, len(out), len(near)
    if transfer.steps[2] == 2 and not transfer.wrap[2] and m2 > 2:
        out[0] = near[0] + near[1] + away[2]
        for cell in range(m2 - 2):
            k, fine = np.uint64(cell + 1), np.uint64(2 * cell + 1)
            out[k] = near[fine + ONE] + near[fine + TWO] + away[fine] + away[fine + TWO + ONE]
        last = 2 * m2 - 2
        out[m2 - 1] = near[last] + away[last - 1] + (near[last + 1] if last + 1 < n2 else F0)
        return
    out[:] = F0
    for k in range(n2):
        out[own2[k]] += near[k]
        if other2[k] >= 0:
            out[other2[k]] += away[k]


@inlined
def _restrict_row(i, j, t, transfer, diagonal, coarse, near, away):  # type: ignore[no-untyped-def]
    """`restrict` for the coarse row `(i, j)`: sums over its fine rows, two at a time, for the own and the other coarse
    cells of the last axis."""
    steps, wrap = transfer.steps, transfer.wrap
    n0, n1, n2 = t.shape
    near[:] = F0
    away[:] = F0
    p0, p1 = (2 * i - 1, 2 * i + 3) if steps[0] == 2 else (i, i + 1)
    q0, q1 = (2 * j - 1, 2 * j + 3) if steps[1] == 2 else (j, j + 1)
    for p in range(p0, p1):
        if not (0 <= p < n0 or (wrap[0] and p - p0 < n0)):
            continue
        a = p % n0
        a0, a1 = _part_of(transfer.own0, transfer.other0, a, i)
        if a0 == 0 and a1 == 0:
            continue
        for q in range(q0, q1, 2):
            b, c = q % n1, (q + 1) % n1
            b0, b1 = _part_of(transfer.own1, transfer.other1, b, j)
            c0, c1 = _part_of(transfer.own1, transfer.other1, c, j)
            if not (0 <= q < n1 or (wrap[1] and q - q0 < n1)):
                b0, b1 = F0, F0
            if q + 1 >= q1 or not (0 <= q + 1 < n1 or (wrap[1] and q + 1 - q0 < n1)):
                c0, c1 = F0, F0
            t0, f0, f1, f2 = t[a, b], transfer.far0[a, b], transfer.far1[a, b], transfer.far2[a, b]
            s0, g0, g1, g2 = t[a, c], transfer.far0[a, c], transfer.far1[a, c], transfer.far2[a, c]
            for cell in range(n2):
                k = np.uint64(cell)
                one = (a0 + a1 * f0[k]) * (b0 + b1 * f1[k]) * t0[k]
                two = (a0 + a1 * g0[k]) * (c0 + c1 * g1[k]) * s0[k]
                far = one * f2[k] + two * g2[k]
                away[k] += far
                near[k] += one + two - far
    out, d_row = coarse[i, j], diagonal[i, j]
    collect(near, away, transfer, out)
    for cell in range(len(out)):
        k = np.uint64(cell)
        out[k] = out[k] if d_row[k] != 0 else F0


@lean
def _restrict(start, stop, t, transfer, diagonal, coarse, work):  # type: ignore[no-untyped-def]
    """Do rows `start … stop − 1` of `restrict`; `work` (2, n) has the length of a fine row."""
    transfer = CouplingTransfer(*transfer)
    m1 = coarse.shape[1]
    near, away = work[0], work[1]
    for row in range(start, stop):
        _restrict_row(row // m1, row % m1, t, transfer, diagonal, coarse, near, away)


def restrict(t: Single, transfer: CouplingTransfer, diagonal: Single, coarse: Single) -> None:
    """`coarse ← Pᵀ t` where the coarse level has unknowns (`diagonal ≠ 0`); the share is in `t` already."""
    args = (t, tuple(transfer), diagonal, coarse)
    work = partial(make_lines, t.shape[2])
    divide(_restrict, coarse[..., 0].size, *args, chunks=threads_for(coarse.size), work=work)


def make_lines(length: int) -> tuple[Single]:
    """Return two lines of work space."""
    return (np.empty((2, length), np.float32),)
