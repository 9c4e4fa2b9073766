"""Which grid a matrix of a DMDA is the operator of: cell types, spacing and sides, read off its entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator, any_failure, as_communicator
from relaxon.solvers.grid import CellType, Sides, checked_boundary
from relaxon.solvers.petsc.layout import AXES, Layout

TOLERANCE = 1e-6
"""Relative to the diagonal: entries that differ by no more are alike."""
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Recognised:
    """A Poisson grid of which a matrix is `scale` times the operator; arrays are of the DMDA's own cells.

    Where the diagonal holds Dirichlet values at another distance than this library's grids have them (the value 0 a
    whole cell beyond a side, say), the grid is the nearest there is: near enough for a preconditioner, and `exact` is
    False.
    """

    cells: NDArray[np.uint8]
    spacing: tuple[float, ...]
    """By C order: z, y, x."""
    boundary: Sides
    scale: float
    """1 or −1: a negative operator is a grid's with its sign turned."""
    diagonal: NDArray[np.float64]
    """Of the matrix."""
    exact: bool


def recognise(matrix: Any, layout: Layout, comm: Any) -> Recognised:
    """The grid of a matrix of `−∇²` or `∇²` on a DMDA, by seven or five points; every process calls it.

    Rows without couplings are cells outside the fluid, as PETSc's `zeroRows` and an identity for boundary nodes leave
    them.

    Raises
    ------
    ValueError
        where an entry couples cells that are no neighbours, couplings differ along one axis (κ that varies), or the
        diagonal is not the sum of its couplings away from sides.
    """
    communicator = as_communicator(comm)
    problem, parts = None, None
    try:
        parts = _entries(matrix, layout)
    except ValueError as error:
        problem = error
    any_failure(communicator, problem)
    assert parts is not None
    diagonal, couplings = parts
    scale = 1.0 if communicator.totals(np.array([diagonal.sum()]))[0] >= 0 else -1.0
    diagonal_here, couplings = scale * diagonal, [-scale * c for c in couplings]
    weights = _weights(couplings, communicator)
    fluid = np.any([c != 0 for c in couplings], axis=0)
    near = layout.around(fluid.astype(np.float64), 0.0) > HALF
    inside = layout.around(np.ones(layout.sizes), 0.0) > HALF
    ndim = len(layout.shape)
    excess = diagonal_here.copy()
    closed, beyond, coupled = [], [], []
    for axis in range(ndim):
        for side in (0, 1):
            open_face = fluid & _beside(near, axis, side)
            coupled.append(couplings[2 * axis + side][open_face])
            excess -= weights[axis] * open_face
            there = _beside(inside, axis, side)
            closed.append(fluid & ~open_face & there)
            beyond.append(fluid & ~there)
    excess[~fluid] = 0
    slack = TOLERANCE * np.abs(diagonal_here)
    problem = None
    for number, values in enumerate(coupled):
        if values.size and np.abs(values - weights[number // 2]).max() > TOLERANCE * weights[number // 2]:
            problem = ValueError(
                f"couplings must be the same everywhere along {AXES[-ndim:][number // 2]} (κ = 1), got "
                f"{values.min():.6g} to {values.max():.6g}"
            )
    alone = fluid & ~np.any(closed + beyond, axis=0) & (np.abs(excess) > slack)
    if problem is None and alone.any():
        worst = float(np.abs(excess[alone]).max())
        problem = ValueError(
            f"the diagonal must be the sum of its couplings away from sides and walls, got a difference of {worst:.6g} "
            "(a term without derivatives?)"
        )
    if problem is None and (excess < -slack).any():
        problem = ValueError(f"the diagonal must be no less than its couplings' sum, got {excess.min():.6g} more")
    any_failure(communicator, problem)
    sides, values = _sides(excess, closed, beyond, weights, communicator)
    for number, face in enumerate(beyond):
        excess -= values[number] * face
    cells = np.where(fluid, CellType.FLUID, CellType.SOLID).astype(np.uint8)
    _find_air(cells, excess, closed, weights, layout, communicator)
    boundary = []
    for axis in range(ndim):
        if layout.periodic[axis]:
            boundary.append("periodic")
        else:
            boundary.append(("dirichlet" if sides[2 * axis] else "neumann", "dirichlet" if sides[2 * axis + 1] else "neumann"))  # noqa: E501
    air = layout.around((cells == CellType.AIR).astype(np.float64), 0.0) > HALF
    for axis in range(ndim):
        for side in (0, 1):
            excess -= weights[axis] * (closed[2 * axis + side] & _beside(air, axis, side))
    same = all(
        not sides[n] or abs(values[n] - 2 * weights[n // 2]) <= TOLERANCE * weights[n // 2] for n in range(2 * ndim)
    )
    same = same and not bool((np.abs(excess) > slack).any())
    exact = communicator.totals(np.array([float(not same)]))[0] == 0
    spacing = tuple(float(w**-0.5) for w in weights)
    return Recognised(cells, spacing, checked_boundary(boundary, ndim), scale, diagonal, bool(exact))


def _beside(wide: NDArray[Any], axis: int, side: int) -> NDArray[Any]:
    """The neighbours' values along an axis, from an array that is wider by one on each side."""
    place = [slice(1, -1)] * wide.ndim
    place[axis] = slice(0, -2) if side == 0 else slice(2, None)
    return wide[tuple(place)]


def _entries(matrix: Any, layout: Layout) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """The diagonal and, an axis and side, the couplings, in the shape of the DMDA's own cells."""
    starts, columns, data = matrix.getValuesCSR()
    count = int(np.prod(layout.sizes))
    if len(starts) - 1 != count:
        raise ValueError(f"the matrix must have a row for each of the DMDA's {count} nodes here, got {len(starts) - 1}")
    data = np.asarray(data)
    if data.dtype.kind == "c":
        if np.abs(data.imag).max(initial=0) > 0:
            raise ValueError("the matrix must be real, got complex entries")
        data = data.real
    if not np.isfinite(data).all():
        raise ValueError("the matrix must be finite, got NaN or Inf among its entries")
    rows = np.repeat(np.arange(count), np.diff(starts))
    near = np.asarray(layout.da.getLGMap().applyInverse(columns), np.int64)
    if len(near) != len(columns) or (near < 0).any():
        raise ValueError("the matrix must couple neighbours only, got an entry beyond the DMDA's stencil")
    here = np.unravel_index(rows, layout.sizes)
    there = np.unravel_index(near, layout.ghost_sizes)
    steps = []
    for axis, n in enumerate(layout.shape):
        step = there[axis] + layout.ghost_starts[axis] - here[axis] - layout.starts[axis]
        if layout.periodic[axis]:
            if n < 3:
                raise ValueError(f"a periodic axis must have at least 3 nodes, got {n} along {AXES[-len(layout.shape):][axis]}")  # noqa: E501
            step = (step + n // 2) % n - n // 2
        steps.append(step)
    length = np.sum(np.abs(steps), axis=0)
    if (data[length > 1] != 0).any():
        raise ValueError(
            f"the matrix must couple each node with its {2 * len(steps)} neighbours only, got an entry farther away"
        )
    diagonal = np.bincount(rows[length == 0], data[length == 0], count).reshape(layout.sizes)
    couplings = []
    for step in steps:
        for way in (-1, 1):
            these = (length == 1) & (step == way)
            couplings.append(np.bincount(rows[these], data[these], count).reshape(layout.sizes))
    return diagonal, couplings


def _weights(couplings: list[NDArray[np.float64]], communicator: Communicator) -> list[float]:
    """The coupling along each axis; along an axis of one node, that of the others."""
    most = np.array([max(float(c.max(initial=0)) for c in couplings[2 * a : 2 * a + 2]) for a in range(len(couplings) // 2)])  # noqa: E501
    everyone = np.stack([np.asarray(part) for part in communicator.gathered(most)])
    weights = everyone.max(axis=0)
    if not (weights > 0).any():
        raise ValueError("the matrix must couple some neighbours with the sign opposite to the diagonal's, got none")
    weights[weights <= 0] = weights.max()
    return [float(w) for w in weights]


def _sides(
    excess: NDArray[np.float64],
    closed: list[NDArray[np.bool_]],
    beyond: list[NDArray[np.bool_]],
    weights: list[float],
    communicator: Communicator,
) -> tuple[list[bool], list[float]]:
    """Which sides of the domain hold a value, and what they add to the diagonal there."""
    missing = np.sum(closed + beyond, axis=0)
    found = []
    for number, face in enumerate(beyond):
        single = face & (missing == 1)
        least = excess[face].min(initial=np.inf) if face.any() else np.inf
        found.append([float(excess[single].sum()), float(single.sum()), float(np.count_nonzero(face)), least])
        assert weights[number // 2] > 0
    everyone = np.stack([np.asarray(part).reshape(-1, 4) for part in communicator.gathered(np.array(found))])
    sums, least = everyone[..., :3].sum(axis=0), everyone[..., 3].min(axis=0)
    sides, values = [], []
    for number in range(len(beyond)):
        weight = weights[number // 2]
        total, singles, cells = sums[number]
        value = total / singles if singles else (min(least[number], 2 * weight) if cells else 0.0)
        dirichlet = value > HALF * weight
        sides.append(bool(dirichlet))
        values.append(float(value) if dirichlet else 0.0)
    return sides, values


def _find_air(
    cells: NDArray[np.uint8],
    excess: NDArray[np.float64],
    closed: list[NDArray[np.bool_]],
    weights: list[float],
    layout: Layout,
    communicator: Communicator,
) -> None:
    """Tell AIR from SOLID outside the fluid: a cell's excess is the number of its faces that see AIR, weighted.

    A cell all or none of whose closed faces count settles its neighbours; what these leave settles others. Where
    nothing more is settled so, a cell takes for AIR the neighbour that has most AIR and least SOLID beside it, as air
    and walls come in pieces; any choice with the right sums gives the same diagonal.
    """
    air, solid = np.zeros(cells.shape, bool), np.zeros(cells.shape, bool)
    outside, slack = cells != CellType.FLUID, min(weights) / 4
    while True:
        near_air = layout.around(air.astype(np.float64), 0.0) > HALF
        near_solid = layout.around(solid.astype(np.float64), 0.0) > HALF
        left, open_weight, unsure = excess.copy(), np.zeros(cells.shape), []
        for number, face in enumerate(closed):
            axis, side = divmod(number, 2)
            held = face & _beside(near_air, axis, side)
            left -= weights[axis] * held
            unsure.append(face & ~held & ~_beside(near_solid, axis, side))
            open_weight += weights[axis] * unsure[-1]
        asked = open_weight > 0
        before = np.count_nonzero(air | solid)
        air |= _told(unsure, asked & (left >= open_weight - slack), layout) & outside & ~solid
        solid |= _told(unsure, asked & (left <= slack), layout) & outside & ~air
        if not _anywhere(np.count_nonzero(air | solid) > before, communicator):
            mixed = asked & (left > slack) & (left < open_weight - slack)
            air |= _told(_likeliest(unsure, mixed, left, air, solid, weights, layout), mixed, layout) & outside & ~solid
            if not _anywhere(np.count_nonzero(air | solid) > before, communicator):
                break
    cells[air] = CellType.AIR


def _anywhere(here: bool, communicator: Communicator) -> bool:
    return bool(communicator.totals(np.array([float(here)]))[0])


def _likeliest(
    unsure: list[NDArray[np.bool_]],
    mixed: NDArray[np.bool_],
    left: NDArray[np.float64],
    air: NDArray[np.bool_],
    solid: NDArray[np.bool_],
    weights: list[float],
    layout: Layout,
) -> list[NDArray[np.bool_]]:
    """Of each mixed cell's faces that may see AIR, the one whose neighbour is likeliest to be it."""
    known = layout.around(air.astype(np.float64) - solid, 0.0)
    score = np.zeros(air.shape)
    for axis in range(air.ndim):
        for side in (0, 1):
            score += _beside(known, axis, side)
    near = layout.around(score, 0.0)
    fits = [face & mixed & (left >= weights[n // 2] * (1 - HALF / 2)) for n, face in enumerate(unsure)]
    scores = np.stack([np.where(f, _beside(near, *divmod(n, 2)), -np.inf) for n, f in enumerate(fits)])
    best = scores.argmax(axis=0)
    return [f & (best == n) for n, f in enumerate(fits)]


def _told(faces: list[NDArray[np.bool_]], who: NDArray[np.bool_], layout: Layout) -> NDArray[np.bool_]:
    """Cells that some neighbour among `who` says something of, across one of its `faces`."""
    told = np.zeros(who.shape, bool)
    for number, face in enumerate(faces):
        axis, side = divmod(number, 2)
        says = layout.around((face & who).astype(np.float64), 0.0) > HALF
        # What a cell says of its lower neighbour is read from that neighbour's upper side.
        told |= _beside(says, axis, 1 - side)
    return told
