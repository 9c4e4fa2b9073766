"""Which grid a matrix of a DMDA is the operator of: cell types, spacing and sides, read off its entries.

Any symmetric matrix of five or seven points whose couplings have one sign, and whose rows do not sum to less than 0, is
that of a grid with a coefficient on each face and a reaction. What the rows beside a side hold beyond their couplings
counts as a Dirichlet side where it is as large as a coupling, as the multigrid then knows where the value is.
"""

# Imported on first use, for its weight: `kernels`.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator, any_failure, as_communicator
from relaxon.solvers.grid.poisson_grid import CellType, Sides, validate_boundary
from relaxon.solvers.petsc.layout import AXES, Layout

TOLERANCE = 1e-6
"""Relative: entries that differ by no more are alike."""
HALF = 0.5


class OtherKindError(ValueError):
    """The matrix may be that of a grid, but not of one with κ = 1 on equal cells."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """A Poisson grid of which a matrix is `scale` times the operator; arrays are of the DMDA's own cells, `[z, y, x]`.

    Where the diagonal holds Dirichlet values at another distance than this library's grids have them (the value 0 a
    whole cell beyond a side, say), the grid is the nearest there is: near enough for a preconditioner, and `exact` is
    False.
    """

    cells: NDArray[np.uint8]
    spacing: tuple[float, ...]
    boundary: Sides
    scale: float
    """1 or −1: a negative operator is a grid's with its sign turned."""
    diagonal: NDArray[np.float64]
    """Of the matrix."""
    exact: bool


def recognise(matrix: Any, layout: Layout, comm: Any) -> Recognised:
    """Return the grid of a matrix of `−∇²` or `∇²` on a DMDA, by seven or five points; every process calls it.

    Rows without couplings are cells outside the fluid, as PETSc's `zeroRows` and an identity for boundary nodes leave
    them.

    Raises
    ------
    ValueError
        where an entry couples cells that are no neighbours, couplings differ along one axis (κ that varies), or the
        diagonal is not the sum of its couplings away from sides and walls.
    """
    communicator = as_communicator(comm)
    ndim = len(layout.shape)
    names = AXES[-ndim:]
    rows, problem = None, None
    try:
        rows = read_rows(matrix, layout)
    except ValueError as error:
        problem = error
    any_failure(communicator, problem)
    assert rows is not None
    scale, weights = _weights(rows, names, communicator)
    return _recognise(rows, scale, weights, layout, communicator)


@dataclass(frozen=True, slots=True)
class MatrixRows:
    """A process's rows: the diagonal, the bits of the couplings, each axis's smallest and largest, and where they are
    wanted, the couplings through each face, `(6, count)`."""

    diagonal: NDArray[np.float64]
    faces: NDArray[np.uint8]
    least: NDArray[np.float64]
    most: NDArray[np.float64]
    couplings: NDArray[np.float64]


def read_rows(matrix: Any, layout: Layout, couplings: bool = False) -> MatrixRows:
    """Read a process's rows; ValueError where they are not those of neighbours on a DMDA."""
    from relaxon.solvers.petsc import kernels

    ndim = len(layout.shape)
    for axis, n in enumerate(layout.shape):
        if layout.periodic[axis] and n < 3:
            raise ValueError(f"a periodic axis must have at least 3 nodes, got {n} along {AXES[-ndim:][axis]}")
    starts, columns, data = matrix.getValuesCSR()
    count = int(np.prod(layout.sizes))
    if len(starts) - 1 != count:
        raise ValueError(f"the matrix must have a row for each of the DMDA's {count} nodes here, got {len(starts) - 1}")
    data = np.asarray(data)
    if data.dtype.kind == "c":
        if np.abs(data.imag).max(initial=0) > 0:
            raise ValueError("the matrix must be real, got complex entries")
        data = np.ascontiguousarray(data.real)
    found = MatrixRows(
        np.empty(count), np.empty(count, np.uint8), np.full(3, np.inf), np.full(3, -np.inf),
        np.zeros((6 if couplings else 0, count)),
    )  # fmt: skip
    far, broken = kernels.entries(
        starts, columns, data, matrix.getOwnershipRange()[0], layout.own3, *layout.blocks, layout.shape3,
        layout.periodic3, found.diagonal, found.faces, found.least, found.most, found.couplings,
    )  # fmt: skip
    if broken:
        raise ValueError(f"the matrix must be finite, got {broken} entries that are not")
    if far:
        raise ValueError(
            f"the matrix must couple each node with its {2 * ndim} neighbours only, got {far} entries farther away"
        )
    return found


def _weights(rows: MatrixRows, names: str, communicator: Communicator) -> tuple[float, NDArray[np.float64]]:
    """Return the operator's sign, and the coupling along each axis; along an axis of one node, that of the others."""
    mine = np.concatenate([rows.least, rows.most, [rows.diagonal.sum()]])
    everyone = np.stack([np.asarray(part) for part in communicator.gathered(mine)])
    least, most = everyone[:, :3].min(axis=0), everyone[:, 3:6].max(axis=0)
    scale = 1.0 if everyone[:, 6].sum() >= 0 else -1.0
    coupled = np.isfinite(least)
    weights = np.where(coupled, -scale * np.where(coupled, least, 0), 0)
    if not coupled.any() or (weights[coupled] <= 0).any():
        raise ValueError("the matrix must couple neighbours with the sign opposite to its diagonal's, and some of them")
    for axis in np.flatnonzero(coupled):
        if most[axis] - least[axis] > TOLERANCE * weights[axis]:
            low, high = sorted((abs(least[axis]), abs(most[axis])))
            raise OtherKindError(
                f"couplings must be the same everywhere along {names[int(axis) - 3]} (κ = 1), "
                f"got {low:.6g} to {high:.6g}"
            )
    weights[~coupled] = weights.max()
    return scale, weights


def _recognise(
    rows: MatrixRows, scale: float, weights: NDArray[np.float64], layout: Layout, communicator: Communicator
) -> Recognised:
    from relaxon.solvers.petsc import kernels

    ndim, count = len(layout.shape), len(rows.diagonal)
    fluid = rows.faces != 0
    whole = bool(fluid.all())
    sizes = layout.sizes3
    excess, closed, beyond = np.empty(count), np.empty(count, np.uint8), np.empty(count, np.uint8)
    sums = np.zeros((6, 4))
    sums[:, 3] = np.inf
    near = layout.around(fluid.astype(np.uint8), 0)
    alone, least = kernels.excesses(
        rows.diagonal, scale, rows.faces, near, layout.own3, layout.shape3, layout.periodic3, weights,
        excess, closed, beyond, sums, TOLERANCE,
    )  # fmt: skip
    everyone = np.stack([np.asarray(p) for p in communicator.gathered(np.array([alone, least, float(not whole)]))])
    if everyone[:, 0].max() > 0:
        raise OtherKindError(
            "the diagonal must be the sum of its couplings away from sides and walls, got a difference of "
            f"{everyone[:, 0].max():.6g} (a term without derivatives?)"
        )
    if everyone[:, 1].min() < 0:
        raise OtherKindError(
            f"the diagonal must be no less than its couplings' sum, got {-everyone[:, 1].min():.6g} less"
        )
    values = _sides(sums, weights, communicator)
    for number, value in enumerate(values):
        if value:
            excess[(beyond >> number & 1).astype(bool)] -= value
    slack = TOLERANCE * float(weights.sum())
    cells = np.where(fluid, CellType.FLUID, CellType.SOLID).astype(np.uint8)
    left = float(np.count_nonzero(np.abs(excess) > slack))
    if communicator.totals(np.array([left]))[0] > 0 and everyone[:, 2].any():
        kinds = _with_air(fluid, excess, closed, weights, layout, communicator)
        left = float(kernels.count_remaining(kinds, excess, closed, weights, slack))
        cells[(kinds[1:-1, 1:-1, 1:-1] == kernels.AIR).reshape(-1)] = CellType.AIR
    same = all(not v or abs(v - 2 * weights[n // 2]) <= TOLERANCE * weights[n // 2] for n, v in enumerate(values))
    exact = communicator.totals(np.array([left]))[0] == 0 and same
    sides = [
        "periodic" if around else tuple("dirichlet" if values[2 * axis + side] else "neumann" for side in (0, 1))
        for axis, around in enumerate(layout.periodic3)
    ]
    return Recognised(
        cells.reshape(sizes[-ndim:]),
        tuple(float(w**-0.5) for w in weights[-ndim:]),
        validate_boundary(sides[-ndim:], ndim),
        scale,
        rows.diagonal.reshape(sizes[-ndim:]),
        bool(exact),
    )


def _sides(sums: NDArray[np.float64], weights: NDArray[np.float64], communicator: Communicator) -> list[float]:
    """Return what each side of the domain adds to the diagonal; 0 where it holds no value."""
    everyone = np.stack([np.asarray(part).reshape(6, 4) for part in communicator.gathered(sums)])
    together, least = everyone[..., :3].sum(axis=0), everyone[..., 3].min(axis=0)
    values = []
    for number, (total, singles, cells) in enumerate(together):
        weight = float(weights[number // 2])
        value = total / singles if singles else (min(float(least[number]), 2 * weight) if cells else 0.0)
        values.append(float(value) if value > HALF * weight else 0.0)
    return values


def _with_air(
    fluid: NDArray[np.bool_],
    excess: NDArray[np.float64],
    closed: NDArray[np.uint8],
    weights: NDArray[np.float64],
    layout: Layout,
    communicator: Communicator,
) -> NDArray[np.uint8]:
    """Tell AIR from SOLID outside the fluid: a cell's excess is the number of its faces that see AIR, weighted. Wide.

    A cell all or none of whose closed faces count settles its neighbours; what these leave settles others. Where
    nothing more is settled so, a cell takes for AIR the neighbour that has most AIR and least SOLID beside it, as air
    and walls come in pieces; any choice with the right sums gives the same diagonal.
    """
    from relaxon.solvers.petsc import kernels

    own = np.where(fluid, kernels.FLUID, kernels.UNKNOWN).astype(np.uint8)
    says = np.empty(len(own), np.uint8)
    slack = float(weights.min()) / 4
    kinds = layout.around(own, kernels.SOLID)
    scores = np.zeros(kinds.shape, np.int8)
    guess = False
    while True:
        kernels.verdicts(kinds, scores, excess, closed, weights, slack, guess, says)
        found = kernels.apply_verdicts(layout.around(says, kernels.NOTHING), kinds)
        found = communicator.totals(np.array([float(found)]))[0]
        if not found and guess:
            return kinds
        guess = not found
        own = np.ascontiguousarray(kinds[1:-1, 1:-1, 1:-1]).reshape(-1)
        kinds = layout.around(own, kernels.SOLID)
        if guess:
            near = np.empty(layout.sizes3, np.int8)
            kernels.likeness(kinds, near)
            scores = layout.around(near.reshape(-1), -np.int8(6))


Array = NDArray[np.float64]
ROUNDING = 1e-12
"""A row sum below this part of the diagonal entry counts as 0."""
SYMMETRIC = 1e-8
"""The two entries of a coupling may differ by this part, and a row sum may be below 0 by this part of its diagonal."""
SIDE = 0.5
"""A side is a Dirichlet side where its cells hold at least this part of their inward couplings beyond them."""


@dataclass(frozen=True, slots=True)
class AnyGrid:
    """A grid of spacing 1 of which a matrix is `scale` times the operator; arrays are of the DMDA's own cells."""

    cells: NDArray[np.uint8]
    faces: tuple[tuple[Array, Array], ...]
    """For each axis the coefficient on the faces below and above the cells."""
    reaction: Array
    boundary: Sides
    scale: float
    diagonal: Array
    """Of the matrix."""
    exact: bool = True

    @property
    def spacing(self) -> tuple[float, ...]:
        return (1.0,) * self.cells.ndim


def read_any_grid(matrix: Any, layout: Layout, comm: Any) -> AnyGrid:
    """Read the grid off a matrix whose entries are finite and couple neighbours alone; every process calls it.

    Raises
    ------
    ValueError, in every process : where couplings have the diagonal's sign or are not those of the neighbour's row,
        or a row sums to less than 0.
    """
    communicator = as_communicator(comm)
    rows = read_rows(matrix, layout, couplings=True)
    low, diagonal = rows.couplings, rows.diagonal
    scale = 1.0 if communicator.totals(np.array([diagonal.sum()]))[0] >= 0 else -1.0
    values, held = -scale * low, scale * diagonal
    problem: ValueError | None = None
    if values.min(initial=0.0) < 0:
        wrong = -scale * values.min()
        problem = ValueError(
            f"the matrix must couple neighbours with the sign opposite to its diagonal's, got {wrong:.6g}"
        )
    any_failure(communicator, problem)
    fluid: NDArray[np.bool_] = np.asarray((values > 0).any(axis=0))
    near = layout.around(np.asarray(fluid, np.uint8), 0)
    for face in range(6):
        values[face] *= _beside(near, face).reshape(-1)  # what a cell outside the fluid holds is known
    any_failure(communicator, _asymmetry(values, layout))
    excess = np.where(fluid, held - values.sum(axis=0), 0.0)
    least = float((excess + SYMMETRIC * np.abs(held)).min(initial=0.0))
    if least < 0:
        problem = ValueError(f"the diagonal must be no less than its couplings' sum, got {-excess.min():.6g} less")
    any_failure(communicator, problem)
    excess[excess <= ROUNDING * held] = 0.0
    sides = _take_sides(values, excess, fluid, layout, communicator)
    ndim, sizes = len(layout.shape), layout.sizes3
    shaped = [value.reshape(sizes[-ndim:]) for value in values]
    return AnyGrid(
        np.where(fluid, CellType.FLUID, CellType.SOLID).astype(np.uint8).reshape(sizes[-ndim:]),
        tuple((shaped[2 * axis], shaped[2 * axis + 1]) for axis in range(3 - ndim, 3)),
        excess.reshape(sizes[-ndim:]),
        validate_boundary(sides[-ndim:], ndim),
        scale,
        diagonal.reshape(sizes[-ndim:]),
    )


def _beside(wide: NDArray[Any], face: int) -> NDArray[Any]:
    """Return what an array that is wider by a cell on each side holds beyond a face of each own cell."""
    place = [slice(1, -1)] * 3
    place[face // 2] = slice(2, None) if face % 2 else slice(0, -2)
    found: NDArray[Any] = wide[tuple(place)]
    return found


def _asymmetry(values: Array, layout: Layout) -> ValueError | None:
    """Compare each coupling with that of the neighbour's row; every process calls it."""
    problem = None
    for axis in range(3):
        if layout.shape3[axis] == 0:
            continue
        # `around` is collective, so a process that has found a difference goes on to the last axis with the others.
        other = _beside(layout.around(values[2 * axis], 0.0), 2 * axis + 1).reshape(-1)
        mine = values[2 * axis + 1]
        wrong = np.abs(mine - other) > SYMMETRIC * np.maximum(mine, other)
        if wrong.any() and problem is None:
            pair = f"{mine[wrong][0]:.9g} and {other[wrong][0]:.9g}"
            problem = ValueError(f"the matrix must be symmetric, got couplings {pair} of two neighbours")
    return problem


def _take_sides(
    values: Array, excess: Array, fluid: NDArray[np.bool_], layout: Layout, communicator: Communicator
) -> list[Any]:
    """Return the sides; what the cells at a Dirichlet side hold becomes a coefficient on their faces, in place."""
    sizes, own = layout.sizes3, layout.own3
    sides: list[Any] = []
    shaped, cells = excess.reshape(sizes), fluid.reshape(sizes)
    for axis in range(3):
        if layout.shape3[axis] == 0 or layout.periodic3[axis]:
            sides.append("periodic" if layout.shape3[axis] else "neumann")
            continue
        pair = []
        for side in range(2):
            at_side = own[axis, side] == (0, layout.shape3[axis])[side]
            place = (slice(None),) * axis + ((slice(0, 1), slice(-1, None))[side],)
            inward = values[2 * axis + 1 - side].reshape(sizes)[place]
            layer, here = shaped[place], cells[place] & (inward > 0)
            mine = [float(layer[here].sum()), float(inward[here].sum())] if at_side else [0.0, 0.0]
            held, inner = communicator.totals(np.array(mine))
            pair.append("dirichlet" if held > SIDE * inner > 0 else "neumann")
            if pair[-1] == "dirichlet" and at_side:
                taken = np.where(here, np.minimum(layer, 2 * inward), 0.0)
                values[2 * axis + side].reshape(sizes)[place] = taken / 2
                layer -= taken
        sides.append(tuple(pair))
    return sides
