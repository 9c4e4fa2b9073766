"""The outer iteration around a cycle: any number of its steps in one kernel that several threads enter together."""

from __future__ import annotations

import math

import numpy as np

from relaxon.solvers.kernels.address_kernels import floats
from relaxon.solvers.kernels.compiled import kernel, plain
from relaxon.solvers.kernels.team_kernels import meet, share
from relaxon.solvers.sparse.amg.cycle_kernels import RIGHT, X, apply_cycle, part, rows_part, sum_columns
from relaxon.solvers.sparse.amg.levels_kernels import IN_ORDER

ONE = np.uint32(1)
CYCLE, GIVEN, STEP = range(3)
"""What a call does: a cycle alone, a step with a direction that is given, or steps with cycles."""
LAST, OLDER, TURN, NORM, TOLERANCE, CEILING, LIMIT, DONE, STOP = range(9)
"""Entries of the state: curvatures of the last two directions, the place of the last one, the residual norm, the norms
between which steps go on, the ratio of the residual's squared sum to its squared norm beyond which they do not, how
many were done, and why no more were."""
IMPROPER, UNBALANCED = 1, 2
"""Reasons to stop: a direction without positive curvature, a sum beyond the limit."""


@plain
def gather(start, stop, source, order, target):  # type: ignore[no-untyped-def]
    """Write `target[i] ← source[order[i]]`."""
    for i in range(start, stop):
        target[i] = source[order[i]]


@plain
def scatter(start, stop, source, order, target):  # type: ignore[no-untyped-def]
    """Write `target[order[i]] ← source[i]`; `order` is a permutation."""
    for i in range(start, stop):
        target[order[i]] = source[i]


@part
def sum_conjugations(start, stop, bounds, z, one, two, parts):  # type: ignore[no-untyped-def]
    """Write `⟨z, one⟩` and `⟨z, two⟩` to `parts[block]`, with the images of the last two directions."""
    for block in range(start, stop):
        a, b = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            a += z[i] * one[i]
            b += z[i] * two[i]
        parts[block, 0], parts[block, 1] = a, b


@part
def make_conjugate(start, stop, z, one, p, two, d):  # type: ignore[no-untyped-def]
    """Write `d ← z − one·p − two·d`."""
    for i in range(start, stop):
        d[i] = z[i] - one * p[i] - two * d[i]


@rows_part
def apply_direction(start, stop, bounds, indptr, indices, data, d, image, r, parts):  # type: ignore[no-untyped-def]
    """Write `image ← A d` in float64; `parts[block]` gets `⟨d, image⟩` and `⟨d, r⟩`."""
    for block in range(start, stop):
        curvature, projection = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            total = 0.0
            for k in range(indptr[i], indptr[i + ONE]):
                total += data[k] * d[indices[k]]
            image[i] = total
            curvature += total * d[i]
            projection += d[i] * r[i]
        parts[block, 2], parts[block, 3] = curvature, projection


@part
def take_step(start, stop, bounds, alpha, d, image, x, r, scale, short, parts):  # type: ignore[no-untyped-def]
    """Write `x ← x + alpha·d`, `r ← r − alpha·image`, `short ← scale·r`; `parts[block]` gets `⟨r, r⟩` and `Σ r`."""
    for block in range(start, stop):
        square, total = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            x[i] += alpha * d[i]
            value = r[i] - alpha * image[i]
            r[i] = value
            short[i] = scale * value
            square += value * value
            total += value
        parts[block, 4], parts[block, 5] = square, total


@kernel(fastmath=IN_ORDER, counted=False)
def take_steps(  # type: ignore[no-untyped-def]
    first, last, team, task, steps, table, factors, solution, visits, notes, level_parts, indptr, indices, data, bounds,
    order, short, z, d, images, x, r, parts, state, history,
):  # fmt: skip
    """Do the `task`; with `STEP` up to `steps` steps, until `state` says stop.

    `short` is the residual divided by its norm, in float32; `z` is the cycle's result for it. Both are vectors of the
    cycle itself if `order` is empty: else `order[i]` is the row of `A` that is row `i` of the first level. `d (2, n)`
    and `images (2, n)` hold the last two directions. `history[step]` gets the residual norm and `αdᵀr`. Arguments from
    `table` to `level_parts` are those of `apply_cycle`, and `parts (runs, 6)` is scratch memory.
    """
    runs = len(bounds) - 1
    low, high = share(first, last, team, runs)
    start, stop = bounds[np.uint32(low)], bounds[np.uint32(high)]
    sums = notes[first, len(table)]
    place, norm, done, why = int(state[TURN]), state[NORM], 0, 0
    one_curvature, two_curvature = state[LAST], state[OLDER]
    while done < steps:
        if task != GIVEN:
            if len(order):
                for i in range(start, stop):
                    floats(table[0], RIGHT)[i] = short[order[i]]
                meet(first, last, team)
            apply_cycle(first, last, team, table, factors, solution, visits, notes, level_parts)
            if task == CYCLE:
                return
            if len(order):
                for i in range(start, stop):
                    z[order[i]] = floats(table[0], X)[i]
                meet(first, last, team)
        p, own = d[place], d[1 - place]
        image = images[1 - place]
        sum_conjugations(low, high, bounds, z, images[place], image, parts)
        meet(first, last, team)
        sum_columns(parts, runs, sums)
        one = sums[0] / one_curvature if one_curvature > 0.0 else 0.0
        two = sums[1] / two_curvature if two_curvature > 0.0 else 0.0
        make_conjugate(start, stop, z, one, p, two, own)
        meet(first, last, team)
        apply_direction(low, high, bounds, indptr, indices, data, own, image, r, parts)
        meet(first, last, team)
        sum_columns(parts, runs, sums)
        curvature, projection = sums[2], sums[3]
        place = 1 - place
        one_curvature, two_curvature = curvature, one_curvature
        if not (curvature > 0.0 and math.isfinite(projection)):
            why = IMPROPER
            break
        alpha = projection / curvature
        take_step(low, high, bounds, alpha, own, image, x, r, 1.0 / norm, short, parts)
        meet(first, last, team)
        sum_columns(parts, runs, sums)
        square, total = sums[4], sums[5]
        norm = math.sqrt(square)
        if first == 0:
            history[done, 0], history[done, 1] = norm, projection * alpha
        done += 1
        if total * total > state[LIMIT] * square:
            why = UNBALANCED
        if why == UNBALANCED or not (norm > state[TOLERANCE] and norm <= state[CEILING]):
            break
    meet(first, last, team)
    if first == 0:
        state[LAST], state[OLDER], state[TURN], state[NORM] = one_curvature, two_curvature, place, norm
        state[DONE], state[STOP] = done, why
