"""Compiled set-up of the fused V-cycle: from cell types to the arrays of each level.

Cell types: 0 FLUID, 1 SOLID, 2 AIR. `faces` `(3, n0, n1, n2)` float32 holds for each axis the couplings through the
faces below the cells, 0 where either side is SOLID; `known`, of the same shape, the couplings of the cells to the
Dirichlet sides of each axis. A coarse cell is AIR where a child is, else FLUID where a child is. Rows are shared among
threads. `wrap` (3,) bool: which axes are periodic; `sides` (3, 2) bool: which sides are Dirichlet.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.plane_kernels import planes_of
from relaxon.solvers.kernels.compiled import ONE, part, plain, shared, threads_for
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.constants import BEYOND_TRAINING, MOST_GAIN, MOST_SMOOTHING, LevelConstants
from relaxon.solvers.multigrid.passes import LevelOperator, Transfer
from relaxon.solvers.multigrid.plane_passes import F0, mix_coarse_planes, spread_row

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.transfers import TransferTables

Single = NDArray[np.float32]
FLUID, SOLID = 0, 1
F1, HALF, LEAST_OPEN, TINY = np.float32(1.0), np.float32(0.5), np.float32(0.01), np.float32(1e-30)


@shared("rows", of="cells")
def open_faces(start, stop, cells, w, sides, wrap, faces, known):  # type: ignore[no-untyped-def]
    """Fill in the open faces and Dirichlet sides of the finest level for κ = 1."""
    n0, n1, n2 = cells.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        for k in range(n2):
            here = cells[i, j, k] != SOLID
            faces[0, i, j, k] = w[0] if here and (i > 0 or wrap[0]) and cells[i - 1, j, k] != SOLID else F0
            faces[1, i, j, k] = w[1] if here and (j > 0 or wrap[1]) and cells[i, j - 1, k] != SOLID else F0
            faces[2, i, j, k] = w[2] if here and (k > 0 or wrap[2]) and cells[i, j, k - 1] != SOLID else F0
            twice = np.float32(2) if here else F0
            known[0, i, j, k] = twice * w[0] * (sides[0, 0] * (i == 0) + sides[0, 1] * (i == n0 - 1))
            known[1, i, j, k] = twice * w[1] * (sides[1, 0] * (j == 0) + sides[1, 1] * (j == n1 - 1))
            known[2, i, j, k] = twice * w[2] * (sides[2, 0] * (k == 0) + sides[2, 1] * (k == n2 - 1))


@plain
def _coarsen_cells(start, stop, cells, w, sides, wrap, steps, half, faces, known, counts):  # type: ignore[no-untyped-def]
    n0, n1, n2 = cells.shape
    m1, m2 = faces.shape[2], faces.shape[3]
    # `counts` (6, n2): open faces passed along each axis; cells passed on a Dirichlet side, those on both sides of an
    # axis twice.
    none, one = np.uint8(0), np.uint8(1)
    for row in range(start, stop):
        i, j = row // m1, row % m1
        counts[:] = none
        a0, b0 = i * steps[0], j * steps[1]
        for a in range(a0, a0 + steps[0] if a0 + steps[0] < n0 else n0):
            for b in range(b0, b0 + steps[1] if b0 + steps[1] < n1 else n1):
                here = cells[a, b]
                for axis in range(2):
                    index, n, low = (a, n0, a0) if axis == 0 else (b, n1, b0)
                    around = wrap[axis] and faces.shape[1 + axis] > 1
                    if index == low and (index > 0 or around):
                        out = counts[axis]
                        other = cells[a - 1, b] if axis == 0 else cells[a, b - 1]
                        for cell in range(n2):
                            k = np.uint64(cell)
                            out[k] += one if here[k] != SOLID and other[k] != SOLID else none
                    on = np.uint8((sides[axis, 0] and index == 0) + (sides[axis, 1] and index == n - 1))
                    if on > 0:
                        out = counts[3 + axis]
                        for cell in range(n2):
                            k = np.uint64(cell)
                            out[k] += on if here[k] != SOLID else none
                out = counts[2]
                for cell in range(n2 - 1):
                    k = np.uint64(cell)
                    out[k + ONE] += one if here[k + ONE] != SOLID and here[k] != SOLID else none
                first, last = here[0] != SOLID, here[n2 - 1] != SOLID
                out[0] += one if wrap[2] and m2 > 1 and first and last else none
                counts[5, 0] += one if sides[2, 0] and first else none
                counts[5, n2 - 1] += one if sides[2, 1] and last else none
        for face in range(6):
            out, count = faces[face, i, j] if face < 3 else known[face - 3, i, j], counts[face]
            factor = half[face % 3] * w[face % 3] * (F1 if face < 3 else np.float32(2))
            for k in range(m2):
                cell = k * steps[2]
                passed = np.int64(count[cell])
                if face != 2 and steps[2] == 2 and cell + 1 < n2:
                    passed += np.int64(count[cell + 1])
                out[k] = factor * np.float32(passed)


def coarsen_cells(cells: Any, w: Any, sides: Any, wrap: Any, steps: Any, half: Any, faces: Any, known: Any) -> None:
    """`open_faces` and `coarsen_faces` in one, without the finest level's arrays."""
    args = (read_only(cells), w, sides, wrap, steps, half, faces, known)
    _, m0, m1, _ = faces.shape
    work = partial(_bytes, 6, cells.shape[2])
    divide(_coarsen_cells, m0 * m1, *args, chunks=threads_for(faces[0].size), work=work)


@plain
def _coarsen_faces(start, stop, fine, fine_known, steps, wrap, half, faces, known):  # type: ignore[no-untyped-def]
    n0, n1, n2 = fine.shape[1], fine.shape[2], fine.shape[3]
    m0, m1, m2 = faces.shape[1], faces.shape[2], faces.shape[3]
    for row in range(start, stop):
        i, j = row // m1, row % m1
        a0, b0 = i * steps[0], j * steps[1]
        for face in range(6):
            out = faces[face, i, j] if face < 3 else known[face - 3, i, j]
            out[:] = F0
            # Of the cells in a coarse one, the first layer along the face's axis has the faces below it.
            a1 = a0 + (1 if face == 0 else steps[0])
            b1 = b0 + (1 if face == 1 else steps[1])
            for a in range(a0, a1 if a1 < n0 else n0):
                for b in range(b0, b1 if b1 < n1 else n1):
                    source = fine[face, a, b] if face < 3 else fine_known[face - 3, a, b]
                    if steps[2] == 1:
                        for cell in range(n2):
                            k = np.uint64(cell)
                            out[k] += source[k]
                    elif face == 2:
                        for cell in range(m2):
                            k = np.uint64(cell)
                            out[k] += source[k + k]
                    else:
                        for cell in range(n2 // 2):
                            k = np.uint64(cell)
                            out[k] = out[k] + source[k + k] + source[k + k + ONE]
                        if n2 % 2 == 1:
                            out[m2 - 1] += source[n2 - 1]
            # A coarse cell that is its own neighbour around a periodic axis has no coupling along it.
            factor = half[face % 3]
            if (face == 0 and i == 0 and not (wrap[0] and m0 > 1)) or (
                face == 1 and j == 0 and not (wrap[1] and m1 > 1)
            ):
                factor = F0
            for cell in range(m2):
                k = np.uint64(cell)
                out[k] *= factor
            if face == 2 and not (wrap[2] and m2 > 1):
                out[0] = F0


def coarsen_faces(fine: Any, fine_known: Any, steps: Any, wrap: Any, half: Any, faces: Any, known: Any) -> None:
    """`faces` and `known` of the coarse level: sums over the fine faces between coarse cells of `steps` cells.

    The sum over a face of a coarsened axis is halved (`half_a` = ½), which makes the coarse operator the discretisation
    with the doubled width, times the number of cells in a coarse one.
    """
    args = (fine, fine_known, steps, wrap, half, faces, known)
    _, m0, m1, _ = faces.shape
    divide(_coarsen_faces, m0 * m1, *args, chunks=threads_for(faces[0].size))


def read_only(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a read-only view, as a grid's own cells are read-only: kernels tell the two types apart."""
    view = cells.view()
    view.flags.writeable = False
    return view


@shared("rows", of="diagonal")
def _finish(start, stop, cells, open0, open1, open2, known, wrap, diagonal):  # type: ignore[no-untyped-def]
    n0, n1, n2 = diagonal.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        d, c = diagonal[i, j], cells[i, j]
        b0, b1, b2 = open0[i, j], open1[i, j], open2[i, j]
        s0, s1, s2 = known[0, i, j], known[1, i, j], known[2, i, j]
        for cell in range(n2):
            k = np.uint64(cell)
            d[k] = s0[k] + s1[k] + s2[k]
        for cell in range(n2):
            k = np.uint64(cell)
            d[k] += b0[k] + b1[k] + b2[k]
        for axis in range(2):
            index, n = (i, n0) if axis == 0 else (j, n1)
            if index < n - 1 or wrap[axis]:
                up = open0[(i + 1) % n0, j] if axis == 0 else open1[i, (j + 1) % n1]
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


def finish(cells: Any, open0: Any, open1: Any, open2: Any, known: Any, wrap: Any, diagonal: Any) -> None:
    """`diagonal` ← the diagonal of the FLUID cells, 0 elsewhere; `open_a` are `faces[a]`."""
    _finish(read_only(cells), open0, open1, open2, known, wrap, diagonal)


@shared("rows", of="diagonal")
def keep_unknowns(start, stop, diagonal, lower0, lower1, lower2):  # type: ignore[no-untyped-def]
    """Turn open faces into couplings: 0 unless there is an unknown (`diagonal ≠ 0`) on either side."""
    n0, n1, n2 = diagonal.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        d = diagonal[i, j]
        for axis in range(2):
            other = diagonal[i - 1 if i > 0 else n0 - 1, j] if axis == 0 else diagonal[i, j - 1 if j > 0 else n1 - 1]
            lower = lower0[i, j] if axis == 0 else lower1[i, j]
            for cell in range(n2):
                k = np.uint64(cell)
                lower[k] = lower[k] if d[k] != 0 and other[k] != 0 else F0
        lower = lower2[i, j]
        lower[0] = lower[0] if d[0] != 0 and d[n2 - 1] != 0 else F0
        for cell in range(n2 - 1):
            k = np.uint64(cell)
            lower[k + ONE] = lower[k + ONE] if d[k + ONE] != 0 and d[k] != 0 else F0


@part
def _count_neighbours(i, j, mask, wrap, around):  # type: ignore[no-untyped-def]
    """Along row `(i, j)`, of the three rows by three around it: `around` (3, n2 + 2) uint8, the row itself, how many of
    the four rows beside it, and of the four diagonal ones, hold an unknown at `k`. Each is padded by one cell at either
    end.
    """
    n0, n1, n2 = mask.shape
    none, one = np.uint8(0), np.uint8(1)
    around[:] = none
    for a in range(-1, 2):
        for b in range(-1, 2):
            p, q = i + a, j + b
            if not (0 <= p < n0 or wrap[0]) or not (0 <= q < n1 or wrap[1]):
                continue
            row, out = mask[p % n0, q % n1], around[abs(a) + abs(b)]
            for cell in range(n2):
                k = np.uint64(cell)
                out[k + ONE] += one if row[k] != 0 else none
    if wrap[2]:
        for which in range(3):
            around[which, 0], around[which, n2 + 1] = around[which, n2], around[which, 1]


@plain
def _multiplier_codes(start, stop, code, wrap, table, out, around):  # type: ignore[no-untyped-def]
    n1, n2 = code.shape[1], code.shape[2]
    centre, faces, edges = around[0], around[1], around[2]
    for row in range(start, stop):
        i, j = row // n1, row % n1
        _count_neighbours(i, j, code, wrap, around)
        c_row, o_row = code[i, j], out[i, j]
        for k in range(n2):
            if c_row[k] == 0:
                o_row[k] = 0
                continue
            beside = faces[k + 1] + centre[k] + centre[k + 2]
            edge = edges[k + 1] + faces[k] + faces[k + 2]
            corner = edges[k] + edges[k + 2]
            o_row[k] = table[c_row[k], beside, edge, corner]


def multiplier_codes(code: Any, wrap: Any, table: Any, out: Any) -> None:
    """`out` ← one byte a cell from `table[half faces, unknowns beside, on edges, on corners]`; 0 where `code` is 0."""
    n0, n1, n2 = code.shape
    work = partial(_bytes, 3, n2 + 2)
    divide(_multiplier_codes, n0 * n1, code, wrap, table, out, chunks=threads_for(code.size), work=work)


def _bytes(*shape: int) -> tuple[NDArray[np.uint8]]:
    """Return work space of a kernel that fills it itself."""
    return (np.empty(shape, np.uint8),)


@plain
def _learned_arrays(  # type: ignore[no-untyped-def]
    start, stop, unknown, diagonal, lower0, lower1, lower2, wrap, full, counts, w1, b1, w2, b2, over, reach, multiplier,
    gain, around, work,
):  # fmt: skip
    n0, n1, n2 = diagonal.shape
    faces, edges = around[1], around[2]
    sums, squares, part_, edge, corner = work[0], work[1], work[2], work[3], work[4]
    even, one, two, nothing = work[5], work[6], work[7], work[8]
    for row in range(start, stop):
        i, j = row // n1, row % n1
        _count_neighbours(i, j, unknown, wrap, around)
        above0 = lower0[(i + 1) % n0, j] if i < n0 - 1 or wrap[0] else nothing
        above1 = lower1[i, (j + 1) % n1] if j < n1 - 1 or wrap[1] else nothing
        d, l0, l1, l2 = diagonal[i, j], lower0[i, j], lower1[i, j], lower2[i, j]
        m, g = multiplier[i, j], gain[i, j]
        for k in range(n2):
            up2 = l2[k + 1] if k < n2 - 1 else (l2[0] if wrap[2] else F0)
            sums[k] = l0[k] + l1[k] + l2[k] + above0[k] + above1[k] + up2
            squares[k] = (
                l0[k] * l0[k] + l1[k] * l1[k] + l2[k] * l2[k] + above0[k] * above0[k] + above1[k] * above1[k]
                + up2 * up2
            )  # fmt: skip
        for k in range(n2):
            safe = d[k] if d[k] > F0 else F1
            part_[k] = sums[k] / safe
            edge[k] = (edges[k + 1] + faces[k] + faces[k + 2]) / counts[1]
            corner[k] = (edges[k] + edges[k + 2]) / counts[2] if counts[2] > F0 else F1
            spread = counts[0] * squares[k]
            even[k] = sums[k] * sums[k] / (spread if spread > TINY else TINY)
        one[:] = b2[0]
        two[:] = b2[1]
        for h in range(b1.size):
            v0, v1, v2, v3, v4, bias = w1[h, 0] / full, w1[h, 1], w1[h, 2], w1[h, 3], w1[h, 4], b1[h]
            o1, o2 = w2[0, h], w2[1, h]
            for cell in range(n2):
                k = np.uint64(cell)
                value = v0 * d[k] + v1 * part_[k] + v2 * edge[k] + v3 * corner[k] + v4 * even[k] + bias
                squares[k] = value if value > F0 else F0
            for cell in range(n2):
                k = np.uint64(cell)
                one[k] += o1 * squares[k]
                two[k] += o2 * squares[k]
        for k in range(n2):
            if d[k] > F0:
                m[k] = np.float32(math.exp(one[k])) / d[k]
                if d[k] > BEYOND_TRAINING * full:
                    most = MOST_SMOOTHING / (reach * (d[k] - sums[k]))
                    m[k] = m[k] if m[k] < most else most
                value = over * np.float32(math.exp(two[k]))
                g[k] = value if value < MOST_GAIN else MOST_GAIN
            else:
                m[k], g[k] = F0, F0


def learned_arrays(
    diagonal: Single,
    lower: tuple[Single, Single, Single],
    wrap: NDArray[np.bool_],
    nominal: list[float],
    values: LevelConstants,
    reach: float,
    multiplier: Single,
    gain: Single,
) -> None:
    """Evaluate the network at each cell: `multiplier ← exp(…)/D`, `gain ← min(over · exp(…), 1)`; 0 at no unknown.

    `nominal` (3,) is the coupling of an open face an axis, 0 along axes of one cell; `reach` is the sum of the stencil.
    """
    n = sum(w > 0 for w in nominal)
    # How many faces, edges and corners a cell has.
    counts = np.array([max(2 * n, 1), max(2 * n * (n - 1), 1), 8 if n == 3 else 0], np.float32)
    n2 = diagonal.shape[2]
    divide(
        _learned_arrays,
        diagonal.shape[0] * diagonal.shape[1],
        (diagonal != 0).view(np.uint8),
        diagonal,
        *lower,
        wrap,
        np.float32(2 * sum(nominal)),
        counts,
        values.hidden_weight,
        values.hidden_bias,
        values.output_weight,
        values.output_bias,
        np.float32(values.over),
        np.float32(reach),
        multiplier,
        gain,
        chunks=threads_for(diagonal.size),
        work=lambda: (np.empty((3, n2 + 2), np.uint8), np.zeros((9, n2), np.float32)),
    )


@plain
def _shares(start, stop, operator, transfer, opened, beyond0, beyond1, beyond2, most, work):  # type: ignore[no-untyped-def]
    operator, transfer = LevelOperator(*operator), Transfer(*transfer)
    n2, codes, values, unit = operator.row, transfer.codes, transfer.values, transfer.unit
    m2 = (n2 + 1) // 2 if transfer.halved2 else n2
    line, row = work[: m2 + 2], work[m2 + 2 : m2 + 2 + n2]
    mixed = work[m2 + 2 + n2 : m2 + 2 + n2 + opened.shape[1]]
    for i in range(start, stop):
        mix_coarse_planes(i, opened, opened, transfer.sources0, transfer.spread0, mixed)
        for j in range(beyond1.size):
            spread_row(
                j, mixed, transfer.sources1, transfer.spread1, transfer.halved2, operator.wrap[2], m2, line, row
            )  # fmt: skip
            kept = (F1 - beyond0[i]) * (F1 - beyond1[j])
            for cell in range(n2):
                k = np.uint64(cell)
                inside = row[k] if row[k] > LEAST_OPEN else LEAST_OPEN
                row[k] = kept * (F1 - beyond2[k]) / inside / unit
            first = np.uint64(j * n2)
            if operator.coded:
                for cell in range(n2):
                    k = np.uint64(cell)
                    value = row[k] + HALF if row[k] + HALF < most else most
                    codes[i, first + k] = np.uint8(value) if operator.codes[i, first + k] != 0 else np.uint8(0)
            else:
                for cell in range(n2):
                    k = np.uint64(cell)
                    values[i, first + k] = row[k] if operator.diagonal[i, first + k] != 0 else F0


def shares(
    operator: LevelOperator,
    transfer: Transfer,
    opened: Single,
    tables: tuple[TransferTables, TransferTables, TransferTables],
    most: np.float32,
) -> None:
    """Fill in the shares of a transfer: 1 over the weights that a fine unknown's interpolation finds open, else 0.

    On a coded level they are rounded to whole units, `most` at most. `opened` is a float32 mask of the coarse cells
    that are not SOLID. SOLID ones are left out and the rest makes up for them; known values and Dirichlet sides
    (`beyond`: the weight that falls beyond one) count as the zeros they are.
    """
    count, size = (operator.codes if operator.coded else operator.diagonal).shape
    beyond = (axis.beyond for axis in tables)
    divide(
        *(_shares, count, tuple(operator), tuple(transfer), planes_of(opened), *beyond, most),
        chunks=threads_for(count * size),
        work=lambda: (np.zeros(opened[0].size + 2 * operator.row + 4, np.float32),),
    )
