"""Compiled set-up of the fused V-cycle: from cell types to the arrays of each level.

Cell types: 0 FLUID, 1 SOLID, 2 AIR. `open_a` is the coupling through the face below a cell along axis `a` where
neither side is SOLID; `side` the coupling of a cell to the Dirichlet sides of the domain. A coarse cell is AIR where a
child is, else FLUID where a child is. All float32 arrays have three axes; rows are shared among threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from relaxon.solvers.multigrid.passes import F0, plain, spread_plane
from relaxon.solvers.stencil_kernels import ONE, compiled

FLUID, SOLID, AIR = 0, 1, 2


@compiled()
def open_faces(cells, w, sides, wrap, open0, open1, open2, side):  # type: ignore[no-untyped-def]
    """Open faces and Dirichlet sides of the finest level for κ = 1; `sides` (3, 2) bool says which are Dirichlet."""
    n0, n1, n2 = cells.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        for k in range(n2):
            here = cells[i, j, k] != SOLID
            open0[i, j, k] = w[0] if here and (i > 0 or wrap[0]) and cells[i - 1, j, k] != SOLID else F0
            open1[i, j, k] = w[1] if here and (j > 0 or wrap[1]) and cells[i, j - 1, k] != SOLID else F0
            open2[i, j, k] = w[2] if here and (k > 0 or wrap[2]) and cells[i, j, k - 1] != SOLID else F0
            total = (w[0] * (sides[0, 0] * (i == 0) + sides[0, 1] * (i == n0 - 1))) + (
                w[1] * (sides[1, 0] * (j == 0) + sides[1, 1] * (j == n1 - 1))
            )
            total += w[2] * (sides[2, 0] * (k == 0) + sides[2, 1] * (k == n2 - 1))
            side[i, j, k] = 2 * total if here else F0


@compiled()
def coarsen_cells(cells, w, sides, wrap, steps, half, open0, open1, open2, side):  # type: ignore[no-untyped-def]
    """`open_faces` and `coarsen_faces` in one, without the finest level's arrays."""
    n0, n1, n2 = cells.shape
    m0, m1, m2 = side.shape
    softer = min(half[0], min(half[1], half[2]))
    ring0, ring1, ring2 = wrap[0] and m0 > 1, wrap[1] and m1 > 1, wrap[2] and m2 > 1
    for row in prange(m0 * m1):
        i, j = row // m1, row % m1
        a0, a1, a2 = np.zeros(n2, np.uint8), np.zeros(n2, np.uint8), np.zeros(n2, np.uint8)
        edge = np.zeros(n2, np.float32)
        for a in range(i * steps[0], min((i + 1) * steps[0], n0)):
            for b in range(j * steps[1], min((j + 1) * steps[1], n1)):
                here = cells[a, b]
                if a == i * steps[0] and (i > 0 or ring0):
                    other = cells[a - 1, b]
                    for cell in range(n2):
                        k = np.uint64(cell)
                        a0[k] += np.uint8((here[k] != SOLID) & (other[k] != SOLID))
                if b == j * steps[1] and (j > 0 or ring1):
                    other = cells[a, b - 1]
                    for cell in range(n2):
                        k = np.uint64(cell)
                        a1[k] += np.uint8((here[k] != SOLID) & (other[k] != SOLID))
                for cell in range(n2 - 1):
                    k = np.uint64(cell)
                    a2[k + ONE] += np.uint8((here[k + ONE] != SOLID) & (here[k] != SOLID))
                if ring2:
                    a2[0] += np.uint8((here[0] != SOLID) & (here[n2 - 1] != SOLID))
                beside = w[0] * (sides[0, 0] * (a == 0) + sides[0, 1] * (a == n0 - 1))
                beside += w[1] * (sides[1, 0] * (b == 0) + sides[1, 1] * (b == n1 - 1))
                if beside != 0:
                    for k in range(n2):
                        edge[k] += 2 * beside if here[k] != SOLID else F0
                edge[0] += 2 * w[2] * sides[2, 0] if here[0] != SOLID else F0
                edge[n2 - 1] += 2 * w[2] * sides[2, 1] if here[n2 - 1] != SOLID else F0
        x0, x1, x2, xs = half[0] * w[0], half[1] * w[1], half[2] * w[2], softer
        o0, o1, o2, os = open0[i, j], open1[i, j], open2[i, j], side[i, j]
        if steps[2] == 1:
            for k in range(m2):
                o0[k], o1[k], o2[k], os[k] = x0 * a0[k], x1 * a1[k], x2 * a2[k], xs * edge[k]
        else:
            for k in range(m2):
                more = 2 * k + 1 < n2
                o0[k] = x0 * (a0[2 * k] + (a0[2 * k + 1] if more else 0))
                o1[k] = x1 * (a1[2 * k] + (a1[2 * k + 1] if more else 0))
                o2[k] = x2 * a2[2 * k]
                os[k] = xs * (edge[2 * k] + (edge[2 * k + 1] if more else F0))


@compiled()
def coarsen_types(cells, steps, coarse):  # type: ignore[no-untyped-def]
    """AIR if any child is, else FLUID if any child is, else SOLID."""
    n0, n1, n2 = cells.shape
    m0, m1, m2 = coarse.shape
    for row in prange(m0 * m1):
        i, j = row // m1, row % m1
        air, fluid = np.zeros(n2 + 1, np.uint8), np.zeros(n2 + 1, np.uint8)
        for a in range(i * steps[0], min((i + 1) * steps[0], n0)):
            for b in range(j * steps[1], min((j + 1) * steps[1], n1)):
                here = cells[a, b]
                for cell in range(n2):
                    k = np.uint64(cell)
                    air[k] |= np.uint8(here[k] == AIR)
                    fluid[k] |= np.uint8(here[k] == FLUID)
        out = coarse[i, j]
        for k in range(m2):
            first = k * steps[2]
            other = min(first + steps[2] - 1, n2 - 1)
            out[k] = AIR if air[first] | air[other] else (FLUID if fluid[first] | fluid[other] else SOLID)


@compiled()
def finish(cells, open0, open1, open2, side, wrap, diagonal):  # type: ignore[no-untyped-def]
    """`diagonal` ← the diagonal of the FLUID cells, 0 elsewhere."""
    n0, n1, n2 = cells.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        d, c = diagonal[i, j], cells[i, j]
        b0, b1, b2, s = open0[i, j], open1[i, j], open2[i, j], side[i, j]
        for cell in range(n2):
            k = np.uint64(cell)
            d[k] = s[k] + b0[k] + b1[k] + b2[k]
        if i < n0 - 1 or wrap[0]:
            up = open0[(i + 1) % n0, j]
            for cell in range(n2):
                k = np.uint64(cell)
                d[k] += up[k]
        if j < n1 - 1 or wrap[1]:
            up = open1[i, (j + 1) % n1]
            for cell in range(n2):
                k = np.uint64(cell)
                d[k] += up[k]
        for cell in range(n2 - 1):
            k = np.uint64(cell)
            d[k] += b2[k + ONE]
        if wrap[2]:
            d[n2 - 1] += b2[0]
        for cell in range(n2):
            k = np.uint64(cell)
            d[k] = d[k] if c[k] == FLUID else F0


@compiled()
def keep_unknowns(diagonal, lower0, lower1, lower2):  # type: ignore[no-untyped-def]
    """Open faces become couplings: 0 unless there is an unknown (`diagonal ≠ 0`) on either side."""
    n0, n1, n2 = diagonal.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        d, e, f = diagonal[i, j], diagonal[i - 1 if i > 0 else n0 - 1, j], diagonal[i, j - 1 if j > 0 else n1 - 1]
        l0, l1, l2 = lower0[i, j], lower1[i, j], lower2[i, j]
        for cell in range(n2):
            k = np.uint64(cell)
            l0[k] = l0[k] if d[k] != 0 and e[k] != 0 else F0
        for cell in range(n2):
            k = np.uint64(cell)
            l1[k] = l1[k] if d[k] != 0 and f[k] != 0 else F0
        l2[0] = l2[0] if d[0] != 0 and d[n2 - 1] != 0 else F0
        for cell in range(n2 - 1):
            k = np.uint64(cell)
            l2[k + ONE] = l2[k + ONE] if d[k + ONE] != 0 and d[k] != 0 else F0


@plain
def _neighbours(i, j, mask, wrap, zero, centre, faces, edges):  # type: ignore[no-untyped-def]
    """Along row `(i, j)`, of the three rows by three around it: the row itself, and how many of the four rows beside it
    and of the four diagonal ones hold an unknown at `k`. Each is padded by one cell at either end.
    """
    n0, n1, n2 = mask.shape
    centre[:] = 0
    faces[:] = 0
    edges[:] = 0
    for a in range(-1, 2):
        for b in range(-1, 2):
            p, q = i + a, j + b
            if not (0 <= p < n0 or wrap[0]) or not (0 <= q < n1 or wrap[1]):
                continue
            row = mask[p % n0, q % n1]
            out = (centre if a == 0 and b == 0 else (faces if a == 0 or b == 0 else edges))[1 : n2 + 1]
            for cell in range(n2):
                k = np.uint64(cell)
                out[k] += np.uint8(row[k] != 0)
    if wrap[2]:
        for array in (centre, faces, edges):
            array[0], array[n2 + 1] = array[n2], array[1]


@compiled()
def multiplier_codes(code, wrap, table, out):  # type: ignore[no-untyped-def]
    """`out` ← one byte a cell from `table[half faces, unknowns beside, on edges, on corners]`; 0 where `code` is 0."""
    n0, n1, n2 = code.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        centre, faces, edges = np.empty(n2 + 2, np.uint8), np.empty(n2 + 2, np.uint8), np.empty(n2 + 2, np.uint8)
        _neighbours(i, j, code, wrap, centre, centre, faces, edges)
        c_row, o_row = code[i, j], out[i, j]
        for k in range(n2):
            if c_row[k] == 0:
                o_row[k] = 0
                continue
            beside = faces[k + 1] + centre[k] + centre[k + 2]
            edge = edges[k + 1] + faces[k] + faces[k + 2]
            corner = edges[k] + edges[k + 2]
            o_row[k] = table[c_row[k], beside, edge, corner]


@compiled()
def learned_arrays(  # type: ignore[no-untyped-def]
    diagonal, lower0, lower1, lower2, wrap, full, counts, w1, b1, w2, b2, over, multiplier, gain
):
    """The network of each cell: `multiplier ← exp(…)/D`, `gain ← over · exp(…)`; 0 where there is no unknown.

    `full` is the diagonal of a cell with all faces open; `counts` (3,) how many faces, edges and corners a cell has.
    `w1` (H, 5), `b1` (H,), `w2` (2, H), `b2` (2,).
    """
    n0, n1, n2 = diagonal.shape
    hidden = b1.size
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        centre, faces, edges = np.empty(n2 + 2, np.uint8), np.empty(n2 + 2, np.uint8), np.empty(n2 + 2, np.uint8)
        _neighbours(i, j, diagonal, wrap, centre, centre, faces, edges)
        total, square = np.zeros(n2, np.float32), np.zeros(n2, np.float32)
        above0 = lower0[(i + 1) % n0, j] if i < n0 - 1 or wrap[0] else total
        above1 = lower1[i, (j + 1) % n1] if j < n1 - 1 or wrap[1] else square
        d, l0, l1, l2 = diagonal[i, j], lower0[i, j], lower1[i, j], lower2[i, j]
        m, g = multiplier[i, j], gain[i, j]
        first, second = np.empty(n2, np.float32), np.empty(n2, np.float32)
        part, edge, corner, even = first, second, np.empty(n2, np.float32), np.empty(n2, np.float32)
        sums, squares = np.empty(n2, np.float32), np.empty(n2, np.float32)
        for k in range(n2):
            up2 = l2[k + 1] if k < n2 - 1 else (l2[0] if wrap[2] else F0)
            sums[k] = l0[k] + l1[k] + l2[k] + above0[k] + above1[k] + up2
            squares[k] = l0[k] ** 2 + l1[k] ** 2 + l2[k] ** 2 + above0[k] ** 2 + above1[k] ** 2 + up2**2
        for k in range(n2):
            safe = d[k] if d[k] > 0 else np.float32(1)
            part[k] = sums[k] / safe
            edge[k] = (edges[k + 1] + faces[k] + faces[k + 2]) / counts[1]
            corner[k] = (edges[k] + edges[k + 2]) / counts[2]
            even[k] = sums[k] * sums[k] / max(counts[0] * squares[k], np.float32(1e-30))
        one, two = np.empty(n2, np.float32), np.empty(n2, np.float32)
        one[:] = b2[0]
        two[:] = b2[1]
        for h in range(hidden):
            v0, v1, v2, v3, v4, bias = w1[h, 0] / full, w1[h, 1], w1[h, 2], w1[h, 3], w1[h, 4], b1[h]
            o1, o2 = w2[0, h], w2[1, h]
            for cell in range(n2):
                k = np.uint64(cell)
                value = v0 * d[k] + v1 * part[k] + v2 * edge[k] + v3 * corner[k] + v4 * even[k] + bias
                squares[k] = max(value, F0)
            for cell in range(n2):
                k = np.uint64(cell)
                one[k] += o1 * squares[k]
                two[k] += o2 * squares[k]
        for k in range(n2):
            if d[k] > 0:
                m[k] = np.float32(math.exp(one[k])) / d[k]
                g[k] = over * np.float32(math.exp(two[k]))
            else:
                m[k], g[k] = F0, F0


@compiled()
def shares(diagonal, opened, axis0, axis1, halved2, wrap2, beyond0, beyond1, beyond2, unit, most, out):  # type: ignore[no-untyped-def]
    """`out` ← 1 over the weights that a fine unknown's interpolation finds open, in units of `unit`; 0 elsewhere.

    `opened` is a float32 mask of the coarse cells that are not SOLID. SOLID ones are left out and the rest makes up for
    them; known values and Dirichlet sides (`beyond_a`: the weight that falls beyond one) count as the zeros they are.
    """
    n0, n1, n2 = diagonal.shape
    m1, m2 = opened.shape[1], opened.shape[2]
    for i in prange(n0):
        mixed, line, row = np.empty((m1, m2), np.float32), np.empty(m2 + 2, np.float32), np.empty(n2, np.float32)
        inside, ones = np.empty((n1, n2), np.float32), np.ones((n1, n2), np.float32)
        nothing = np.zeros((n1, n2), np.float32)
        spread_plane(
            i, opened, opened, axis0, axis1, halved2, wrap2, mixed, line, row, ones, np.float32(1), nothing, inside
        )
        for j in range(n1):
            kept = (np.float32(1) - beyond0[i]) * (np.float32(1) - beyond1[j])
            o_row, d_row, i_row = out[i, j], diagonal[i, j], inside[j]
            for cell in range(n2):
                k = np.uint64(cell)
                value = kept * (np.float32(1) - beyond2[k]) / max(i_row[k], np.float32(0.01)) / unit
                row[k] = min(value + np.float32(0.5) if unit != 1 else value, most) if d_row[k] != 0 else F0
            for k in range(n2):
                o_row[k] = row[k]
