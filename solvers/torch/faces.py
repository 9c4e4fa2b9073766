"""Differences, coefficients and known values on the faces of a grid as differentiable torch operations.

They correspond to `relaxon.solvers.grid.faces`. Tensors may have a leading batch axis; the grid's axes are the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from relaxon.solvers.grid.cell_metrics import film_scale, half_shares
from relaxon.solvers.grid.faces import films, side_shape
from relaxon.solvers.grid.poisson_grid import CellType, PoissonGrid

LARGEST = 1000
"""Largest exponent of the powers of two used for scaling."""
Pairs = Sequence[tuple[torch.Tensor | None, torch.Tensor | None]]


def face_means(grid: PoissonGrid, kappa: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return κ of faces from κ of cells: harmonic means inside, the cell's own κ at the ends of an axis."""
    # The derivatives contain 1/κ², which might overflow: κ is scaled by a power of two and back, which is exact.
    exponent = torch.frexp(kappa.detach().abs().amax()).exponent.clamp(-LARGEST, LARGEST)
    half = torch.pow(2.0, (exponent // 2).double())
    return tuple(face * half * half for face in _means(grid, kappa / half / half))


def _means(grid: PoissonGrid, kappa: torch.Tensor) -> tuple[torch.Tensor, ...]:
    faces = []
    for axis, n in enumerate(grid.shape):
        first, last = kappa.narrow(axis, 0, 1), kappa.narrow(axis, n - 1, 1)
        widths = grid.spacing[axis]
        if isinstance(widths, np.ndarray):
            below, above = torch.cat([last, kappa], axis), torch.cat([kappa, first], axis)
            part, rest = (
                torch.tensor(share, dtype=kappa.dtype, device=kappa.device).reshape(
                    [-1 if other == axis else 1 for other in range(grid.ndim)]
                )
                for share in half_shares(widths, n, grid.periodic[axis])
            )
            whole = 1.0 / (part / below + rest / above)
            ends = (whole.narrow(axis, 0, 1),) * 2 if grid.periodic[axis] else (first, last)
            faces.append(torch.cat([ends[0], whole.narrow(axis, 1, n - 1), ends[1]], axis))
            continue
        inner = _harmonic(kappa.narrow(axis, 0, n - 1), kappa.narrow(axis, 1, n - 1))
        low, high = (_harmonic(first, last),) * 2 if grid.periodic[axis] else (first, last)
        faces.append(torch.cat([low, inner, high], axis))
    return tuple(faces)


def add_films(grid: PoissonGrid, weights: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return conductances in series with the films of Robin sides, and what each face adds to its cell's row for a
    known value of 1 beyond it.
    """
    whole, known = list(weights), list(weights)
    for (axis, end), film in films(grid).items():
        n, weight = grid.shape[axis], whole[axis]
        h = torch.tensor(film, dtype=weight.dtype, device=weight.device)
        inside = weight.narrow(axis, 0 if end == 0 else n, 1)
        total = h + inside
        part = torch.where(total > 0, inside / torch.where(total > 0, total, torch.ones_like(total)), 0.0)
        scale = torch.as_tensor(film_scale(grid, axis), dtype=weight.dtype, device=weight.device)
        whole[axis] = _replace_end(whole[axis], axis, end, h * part)
        known[axis] = _replace_end(known[axis], axis, end, scale * part)
    return whole, known


def _replace_end(faces: torch.Tensor, axis: int, end: int, value: torch.Tensor) -> torch.Tensor:
    n = faces.shape[axis] - 1
    if end == 0:
        return torch.cat([value, faces.narrow(axis, 1, n)], axis)
    return torch.cat([faces.narrow(axis, 0, n), value], axis)


def share_periodic_ends(grid: PoissonGrid, faces: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the same values with those at both ends of a periodic axis replaced by their mean.

    They are equal, as the grid has checked. The mean divides the derivative between them, so that a gradient step keeps
    them equal.
    """
    shared = []
    for axis, face in enumerate(faces):
        n = grid.shape[axis]
        if grid.periodic[axis]:
            around = 0.5 * (face.narrow(axis, 0, 1) + face.narrow(axis, n, 1))
            face = torch.cat([around, face.narrow(axis, 1, n - 1), around], axis)
        shared.append(face)
    return tuple(shared)


def differences(grid: PoissonGrid, x: torch.Tensor, axis: int) -> torch.Tensor:
    """Return `x_below − x_above` at each face of an axis; values beyond the ends of the grid are 0, or periodic."""
    n, dim = grid.shape[axis], x.ndim - grid.ndim + axis
    beyond = torch.zeros_like(x.narrow(dim, 0, 1))
    around = x.narrow(dim, n - 1, 1) if grid.periodic[axis] else beyond
    return torch.cat([around, x], dim) - torch.cat([x, beyond], dim)


def apply_operator(grid: PoissonGrid, weights: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Return `−∇·(κ∇x)` for conductances on faces, one tensor an axis: the transpose of `differences` of the fluxes.

    `x` is 0 outside the fluid; the result is meaningless there.
    """
    total = torch.zeros_like(x)
    for axis, weight in enumerate(weights):
        n, dim = grid.shape[axis], x.ndim - grid.ndim + axis
        flux = weight * differences(grid, x, axis)
        total = total + flux.narrow(dim, 1, n) - flux.narrow(dim, 0, n)
        if grid.periodic[axis]:
            around = torch.zeros_like(total.narrow(dim, 0, n - 1))
            total = total + torch.cat([around, flux.narrow(dim, 0, 1)], dim)
    return total


def known_source(
    grid: PoissonGrid,
    weights: Sequence[torch.Tensor],
    air_values: torch.Tensor | None,
    side_values: Pairs | None,
) -> torch.Tensor:
    """Return the source of known boundary values, weighted as rows are: `grid.shape`, or `(k, *grid.shape)` where
    values have a leading axis. `weights` are those of known values, one tensor an axis.
    """
    like = weights[0]
    nothing = torch.zeros((), dtype=like.dtype, device=like.device)
    pairs = [(None, None)] * grid.ndim if side_values is None else side_values
    sides = [[_side(grid, axis, nothing if v is None else v) for v in pair] for axis, pair in enumerate(pairs)]
    given = [nothing.expand(grid.shape) if air_values is None else air_values, *(v for pair in sides for v in pair)]
    batch = np.broadcast_shapes(*(tuple(value.shape[: value.ndim - grid.ndim]) for value in given))
    # `where` and not a product, so that NaN outside AIR stays outside, in the derivative as well.
    air = torch.as_tensor(grid.cells == CellType.AIR, device=like.device)
    known = torch.where(air, given[0], nothing).expand(*batch, *grid.shape)
    total = torch.zeros_like(known)
    for axis, weight in enumerate(weights):
        n, dim = grid.shape[axis], len(batch) + axis
        low, high = (value.expand(*batch, *value.shape[value.ndim - grid.ndim :]) for value in sides[axis])
        below = torch.cat([known.narrow(dim, n - 1, 1) if grid.periodic[axis] else low, known], dim)
        above = torch.cat([known, high], dim)
        total = total + weight.narrow(axis, 0, n) * below.narrow(dim, 0, n)
        total = total + weight.narrow(axis, 1, n) * above.narrow(dim, 1, n)
        if grid.periodic[axis]:
            wrapped = weight.narrow(axis, 0, 1) * known.narrow(dim, 0, 1)
            total = total + torch.cat([torch.zeros_like(known.narrow(dim, 0, n - 1)), wrapped], dim)
    fluid = torch.as_tensor(grid.cells == CellType.FLUID, device=like.device)
    return torch.where(fluid, total, nothing)


def _side(grid: PoissonGrid, axis: int, value: torch.Tensor) -> torch.Tensor:
    """Return a side's values with an axis of length 1 across it, `(…, *shape)`."""
    shape = side_shape(grid, axis)
    if value.ndim == 0:
        value = value.expand(shape)
    return value.unsqueeze(value.ndim - len(shape) + axis)


def _harmonic(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return 2.0 / (1.0 / a + 1.0 / b)
