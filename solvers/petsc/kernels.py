"""Passes over a DMDA's own cells that read a grid off its matrix; compiled, one thread.

Cells are numbered in C order of `(z, y, x)`, with one plane where there are two dimensions. Faces have bits: `2 axis`
below a cell and `2 axis + 1` above it. Arrays called `wide` have one cell more on each side.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import plain
from relaxon.solvers.kernels.lean import lean

FLUID, SOLID, AIR, UNKNOWN = 0, 1, 2, 3
NOTHING, ALL_AIR, ALL_SOLID, ONE = 0, 1, 2, 3
"""What a fluid cell says of those of its neighbours that are not known; `ONE + face`: that this one is AIR."""


@plain
def entries(  # type: ignore[no-untyped-def]
    starts, columns, data, first, own, bounds, counts, offsets, shape, periodic, diagonal, faces, least, most, couplings
):  # fmt: skip
    """Sort a process's rows into diagonal and couplings.

    `first` is its first row, `own (3, 2)` where its cells begin and end, `bounds (3, k)` where each axis's parts begin,
    of which there are `counts`, and `offsets` the first row of each part, in C order. Fills `diagonal` and `faces`, the
    couplings' bits, each axis's `least` and `most` coupling, and where it has rows, the `couplings (6, rows)` through
    each face, which begin as 0. Returns the number of entries that couple no
    neighbours and of those that are not finite.
    """
    nz, ny, nx = own[0, 1] - own[0, 0], own[1, 1] - own[1, 0], own[2, 1] - own[2, 0]
    rows = nz * ny * nx
    far, broken = 0, 0
    here, step = np.empty(3, np.int64), np.empty(3, np.int64)
    for row in range(rows):
        here[2] = own[2, 0] + row % nx
        here[1] = own[1, 0] + row // nx % ny
        here[0] = own[0, 0] + row // (nx * ny)
        total, bits = 0.0, 0
        for entry in range(starts[row], starts[row + 1]):
            value, column = data[entry], columns[entry]
            if not np.isfinite(value):
                broken += 1
                continue
            inside = column - first
            if inside == row:
                total += value
                continue
            if value == 0.0:
                continue
            if 0 <= inside < rows:
                step[2] = own[2, 0] + inside % nx - here[2]
                step[1] = own[1, 0] + inside // nx % ny - here[1]
                step[0] = own[0, 0] + inside // (nx * ny) - here[0]
            else:
                part = np.searchsorted(offsets, column, side="right") - 1
                inside = column - offsets[part]
                c = part % counts[2]
                b = part // counts[2] % counts[1]
                a = part // (counts[2] * counts[1])
                mx, my = bounds[2, c + 1] - bounds[2, c], bounds[1, b + 1] - bounds[1, b]
                step[2] = bounds[2, c] + inside % mx - here[2]
                step[1] = bounds[1, b] + inside // mx % my - here[1]
                step[0] = bounds[0, a] + inside // (mx * my) - here[0]
            face = -1
            for axis in range(3):
                way = step[axis]
                if periodic[axis]:
                    n = shape[axis]
                    way = (way + n // 2) % n - n // 2
                if way == 0:
                    continue
                if face >= 0 or way > 1 or way < -1:
                    face = -2
                    break
                face = 2 * axis + (way > 0)
            if face < 0:
                far += 1
                continue
            bits |= 1 << face
            if len(couplings):
                couplings[face, row] += value
            axis = face // 2
            least[axis] = min(least[axis], value)
            most[axis] = max(most[axis], value)
        diagonal[row] = total
        faces[row] = bits
    return far, broken


@lean
def excesses(diagonal, scale, faces, near, own, shape, periodic, weights, excess, closed, beyond, sums, tolerance):  # type: ignore[no-untyped-def]
    """Find what the diagonal holds beyond the couplings to fluid cells.

    `near` is wide and uint8: 1 in the fluid. Fills `excess`, and the bits of the faces that are `closed` towards cells
    of the grid or `beyond` its sides. `sums (6, 4)`, by side: the excess of cells that miss this face alone, how many
    they are, how many miss it at all, and the least excess of these. Returns the largest excess away from sides and
    walls, and the least anywhere.
    """
    nz, ny, nx = near.shape[0] - 2, near.shape[1] - 2, near.shape[2] - 2
    alone, least = 0.0, 0.0
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                cell = (k * ny + j) * nx + i
                shut, outside, missing, value = 0, 0, 0, 0.0
                if faces[cell]:
                    value = scale * diagonal[cell]
                    slack = tolerance * abs(value)
                    for face in range(6):
                        axis, side = face // 2, face % 2
                        if shape[axis] == 0:
                            continue
                        way = 2 * side - 1
                        other = near[k + 1 + way * (axis == 0), j + 1 + way * (axis == 1), i + 1 + way * (axis == 2)]
                        if other and faces[cell] >> face & 1:
                            value -= weights[axis]
                            continue
                        missing += 1
                        place = own[axis, 0] + (k if axis == 0 else j if axis == 1 else i) + way
                        if periodic[axis] or 0 <= place < shape[axis]:
                            shut |= 1 << face
                        else:
                            outside |= 1 << face
                    if abs(value) <= slack:
                        value = 0.0
                    if missing == 0:
                        alone = max(alone, abs(value))
                    least = min(least, value)
                    for face in range(6):
                        if outside >> face & 1:
                            if missing == 1:
                                sums[face, 0] += value
                                sums[face, 1] += 1
                            sums[face, 2] += 1
                            sums[face, 3] = min(sums[face, 3], value)
                excess[cell], closed[cell], beyond[cell] = value, shut, outside
    return alone, least


@lean
def verdicts(kinds, scores, excess, closed, weights, slack, guess, says):  # type: ignore[no-untyped-def]
    """Collect what each fluid cell says of its neighbours that are UNKNOWN; `kinds` and `scores` are wide.

    With `guess`, cells that can settle nothing name one neighbour as AIR, the one with the highest score.
    """
    nz, ny, nx = kinds.shape[0] - 2, kinds.shape[1] - 2, kinds.shape[2] - 2
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                cell = (k * ny + j) * nx + i
                says[cell] = NOTHING
                if not closed[cell]:
                    continue
                left, unsure, best, best_face = excess[cell], 0.0, -1e30, -1
                for face in range(6):
                    if not closed[cell] >> face & 1:
                        continue
                    axis, way = face // 2, 2 * (face % 2) - 1
                    a, b, c = k + 1 + way * (axis == 0), j + 1 + way * (axis == 1), i + 1 + way * (axis == 2)
                    if kinds[a, b, c] == AIR:
                        left -= weights[axis]
                    elif kinds[a, b, c] == UNKNOWN:
                        unsure += weights[axis]
                        if scores[a, b, c] > best:
                            best, best_face = scores[a, b, c], face
                if unsure == 0:
                    continue
                if left >= unsure - slack:
                    says[cell] = ALL_AIR
                elif left <= slack:
                    says[cell] = ALL_SOLID
                elif guess and left >= 0.75 * weights[best_face // 2]:
                    says[cell] = ONE + best_face


@lean
def apply_verdicts(says, kinds):  # type: ignore[no-untyped-def]
    """Make AIR or SOLID of UNKNOWN cells by what fluid cells beside them say; both wide. Returns how many."""
    nz, ny, nx = kinds.shape[0] - 2, kinds.shape[1] - 2, kinds.shape[2] - 2
    count = 0
    for k in range(1, nz + 1):
        for j in range(1, ny + 1):
            for i in range(1, nx + 1):
                if kinds[k, j, i] != UNKNOWN:
                    continue
                air, solid = False, False
                for face in range(6):
                    axis, way = face // 2, 2 * (face % 2) - 1
                    word = says[k + way * (axis == 0), j + way * (axis == 1), i + way * (axis == 2)]
                    # The neighbour above a cell speaks of it across that neighbour's lower face.
                    air |= word == ALL_AIR or word == ONE + (face ^ 1)
                    solid |= word == ALL_SOLID
                if air:
                    kinds[k, j, i] = AIR
                    count += 1
                elif solid:
                    kinds[k, j, i] = SOLID
                    count += 1
    return count


@lean
def likeness(kinds, scores):  # type: ignore[no-untyped-def]
    """Count each cell's neighbours that are AIR, less those that are SOLID; `kinds` is wide."""
    nz, ny, nx = kinds.shape[0] - 2, kinds.shape[1] - 2, kinds.shape[2] - 2
    for k in range(1, nz + 1):
        for j in range(1, ny + 1):
            for i in range(1, nx + 1):
                total = 0
                for face in range(6):
                    axis, way = face // 2, 2 * (face % 2) - 1
                    kind = kinds[k + way * (axis == 0), j + way * (axis == 1), i + way * (axis == 2)]
                    total += (kind == AIR) - (kind == SOLID)
                scores[k - 1, j - 1, i - 1] = total


@lean
def count_remaining(kinds, excess, closed, weights, slack):  # type: ignore[no-untyped-def]
    """Count the cells whose excess is not that of the AIR beside them; `kinds` is wide."""
    nz, ny, nx = kinds.shape[0] - 2, kinds.shape[1] - 2, kinds.shape[2] - 2
    count = 0
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                cell = (k * ny + j) * nx + i
                left = excess[cell]
                for face in range(6):
                    if closed[cell] >> face & 1:
                        axis, way = face // 2, 2 * (face % 2) - 1
                        kind = kinds[k + 1 + way * (axis == 0), j + 1 + way * (axis == 1), i + 1 + way * (axis == 2)]
                        if kind == AIR:
                            left -= weights[axis]
                count += abs(left) > slack
    return count
