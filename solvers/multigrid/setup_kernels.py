"""Compiled set-up of the fused V-cycle: from cell types to the arrays of each level.

Cell types: 0 FLUID, 1 SOLID, 2 AIR. `open_a` is the coupling through the face below a cell along axis `a` where
neither side is SOLID; `side` `(3, …)` the coupling of a cell to the Dirichlet sides of each axis. A coarse cell is AIR
where a child is, else FLUID where a child is. All float32 arrays have three axes; rows are shared among threads.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import math

import numpy as np
from numba import prange

from relaxon.solvers.multigrid.constants import BEYOND_TRAINING, MOST_GAIN, MOST_SMOOTHING
from relaxon.solvers.multigrid.plane_passes import F0, spread_plane
from relaxon.solvers.stencil_kernels import ONE, compiled, plain

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
            twice = np.float32(2) if here else F0
            side[0, i, j, k] = twice * w[0] * (sides[0, 0] * (i == 0) + sides[0, 1] * (i == n0 - 1))
            side[1, i, j, k] = twice * w[1] * (sides[1, 0] * (j == 0) + sides[1, 1] * (j == n1 - 1))
            side[2, i, j, k] = twice * w[2] * (sides[2, 0] * (k == 0) + sides[2, 1] * (k == n2 - 1))


@compiled()
def coarsen_cells(cells, w, sides, wrap, steps, half, open0, open1, open2, side):  # type: ignore[no-untyped-def]
    """`open_faces` and `coarsen_faces` in one, without the finest level's arrays."""
    n0, n1, n2 = cells.shape
    m0, m1, m2 = open0.shape
    ring0, ring1, ring2 = wrap[0] and m0 > 1, wrap[1] and m1 > 1, wrap[2] and m2 > 1
    for row in prange(m0 * m1):
        i, j = row // m1, row % m1
        a0, a1, a2 = np.zeros(n2, np.uint8), np.zeros(n2, np.uint8), np.zeros(n2, np.uint8)
        # Sides passed: each cell on a Dirichlet side counts one, on both sides of an axis two.
        b0, b1, b2 = np.zeros(n2, np.uint8), np.zeros(n2, np.uint8), np.zeros(n2, np.uint8)
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
                on0 = np.uint8(sides[0, 0] * (a == 0) + sides[0, 1] * (a == n0 - 1))
                on1 = np.uint8(sides[1, 0] * (b == 0) + sides[1, 1] * (b == n1 - 1))
                if on0 + on1 > 0:
                    for k in range(n2):
                        b0[k] += on0 if here[k] != SOLID else 0
                        b1[k] += on1 if here[k] != SOLID else 0
                b2[0] += np.uint8(sides[2, 0] and here[0] != SOLID)
                b2[n2 - 1] += np.uint8(sides[2, 1] and here[n2 - 1] != SOLID)
        x0, x1, x2 = half[0] * w[0], half[1] * w[1], half[2] * w[2]
        two = np.float32(2)
        for k in range(m2):
            first = k * steps[2]
            more = 1 if steps[2] == 2 and first + 1 < n2 else 0
            other = first + more
            open0[i, j, k] = x0 * (a0[first] + more * a0[other])
            open1[i, j, k] = x1 * (a1[first] + more * a1[other])
            open2[i, j, k] = x2 * a2[first]
            side[0, i, j, k] = two * x0 * (b0[first] + more * b0[other])
            side[1, i, j, k] = two * x1 * (b1[first] + more * b1[other])
            side[2, i, j, k] = two * x2 * (b2[first] + more * b2[other])


@compiled()
def coarsen_faces(fine0, fine1, fine2, fine_side, steps, wrap, half, open0, open1, open2, side):  # type: ignore[no-untyped-def]
    """Open faces and sides of the coarse level: sums over the fine faces between coarse cells of `steps` cells.

    The sum over a face of a coarsened axis is halved (`half_a` = ½), which makes the coarse operator the discretisation
    with the doubled width, times the number of cells in a coarse one.
    """
    n0, n1, n2 = fine0.shape
    m0, m1, m2 = open0.shape
    for row in prange(m0 * m1):
        i, j = row // m1, row % m1
        for k in range(m2):
            s0, s1, s2, b0, b1, b2 = F0, F0, F0, F0, F0, F0
            for a in range(i * steps[0], min((i + 1) * steps[0], n0)):
                for b in range(j * steps[1], min((j + 1) * steps[1], n1)):
                    for c in range(k * steps[2], min((k + 1) * steps[2], n2)):
                        b0 += fine_side[0, a, b, c]
                        b1 += fine_side[1, a, b, c]
                        b2 += fine_side[2, a, b, c]
                        if a == i * steps[0]:
                            s0 += fine0[a, b, c]
                        if b == j * steps[1]:
                            s1 += fine1[a, b, c]
                        if c == k * steps[2]:
                            s2 += fine2[a, b, c]
            # A coarse cell that is its own neighbour around a periodic axis has no coupling along it.
            open0[i, j, k] = half[0] * s0 if i > 0 or (wrap[0] and m0 > 1) else F0
            open1[i, j, k] = half[1] * s1 if j > 0 or (wrap[1] and m1 > 1) else F0
            open2[i, j, k] = half[2] * s2 if k > 0 or (wrap[2] and m2 > 1) else F0
            side[0, i, j, k], side[1, i, j, k], side[2, i, j, k] = half[0] * b0, half[1] * b1, half[2] * b2


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
        b0, b1, b2 = open0[i, j], open1[i, j], open2[i, j]
        s0, s1, s2 = side[0, i, j], side[1, i, j], side[2, i, j]
        for cell in range(n2):
            k = np.uint64(cell)
            d[k] = s0[k] + s1[k] + s2[k]
        for cell in range(n2):
            k = np.uint64(cell)
            d[k] += b0[k] + b1[k] + b2[k]
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
    diagonal, lower0, lower1, lower2, wrap, full, counts, w1, b1, w2, b2, over, reach, multiplier, gain
):
    """The network of each cell: `multiplier ← exp(…)/D`, `gain ← min(over · exp(…), 1)`; 0 where there is no unknown.

    `full` is the diagonal of a cell with all faces open; `counts` (3,) how many faces, edges and corners a cell has.
    `w1` (H, 5), `b1` (H,), `w2` (2, H), `b2` (2,); `reach` is the sum of the stencil.
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
            corner[k] = (edges[k] + edges[k + 2]) / counts[2] if counts[2] > 0 else np.float32(1)
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
                if d[k] > BEYOND_TRAINING * full:
                    m[k] = min(m[k], MOST_SMOOTHING / (reach * (d[k] - sums[k])))
                g[k] = min(over * np.float32(math.exp(two[k])), MOST_GAIN)
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


@plain
def pseudo_inverse(matrix, boundary):  # type: ignore[no-untyped-def]
    """The pseudo-inverse of a graph Laplacian plus a diagonal `boundary` ≥ 0: `(n, n)` float64.

    `matrix` holds the Laplacian. A connected part without boundary is singular; its constant vector is shifted by a
    rank-one term before the inversion by Cholesky's method and taken out again after it.
    """
    n = boundary.size
    part = np.full(n, -1)
    stack = np.empty(n, np.int64)
    full = matrix.copy()
    count = 0
    for seed in range(n):
        full[seed, seed] += boundary[seed]
        if part[seed] >= 0:
            continue
        part[seed] = count
        stack[0] = seed
        depth = 1
        while depth > 0:
            depth -= 1
            node = stack[depth]
            for other in range(n):
                if matrix[node, other] != 0 and part[other] < 0:
                    part[other] = count
                    stack[depth] = other
                    depth += 1
        count += 1
    size, held, strength = np.zeros(count), np.zeros(count), np.zeros(count)
    for node in range(n):
        size[part[node]] += 1
        held[part[node]] += boundary[node]
        strength[part[node]] = max(strength[part[node]], full[node, node])
    for a in range(n):
        for b in range(n):
            if part[a] == part[b] and held[part[a]] == 0:
                full[a, b] += max(strength[part[a]], 1.0) / size[part[a]]
    for k in range(n):
        for a in range(k):
            full[k, k] -= full[k, a] ** 2
        full[k, k] = math.sqrt(full[k, k])
        for i in range(k + 1, n):
            for a in range(k):
                full[i, k] -= full[i, a] * full[k, a]
            full[i, k] /= full[k, k]
    inverse = np.zeros((n, n))
    for column in range(n):
        v = inverse[column]  # symmetric: a column stands in a row
        v[column] = 1.0
        for i in range(column, n):
            for a in range(column, i):
                v[i] -= full[i, a] * v[a]
            v[i] /= full[i, i]
        for i in range(n - 1, -1, -1):
            for a in range(i + 1, n):
                v[i] -= full[a, i] * v[a]
            v[i] /= full[i, i]
    for a in range(n):
        for b in range(n):
            if part[a] == part[b] and held[part[a]] == 0:
                inverse[a, b] -= 1.0 / (max(strength[part[a]], 1.0) * size[part[a]])
    return inverse
