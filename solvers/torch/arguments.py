"""Validation of the arguments of `poisson_solve` and `sparse_solve`, by name and before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relaxon.solvers.grid.faces import check_side_pairs, side_shape
from relaxon.solvers.grid.poisson_grid import CellType, PoissonGrid
from relaxon.solvers.torch.faces import Pairs

FLOATS = (torch.float32, torch.float64)
Coefficient = torch.Tensor | Sequence[torch.Tensor]


def validate_coefficient(coefficient: Coefficient | None) -> Coefficient | None:
    """Return κ as a tensor or a tuple of tensors; shapes and values are checked by the grid.

    Raises
    ------
    TypeError : naming the argument.
    """
    if coefficient is None:
        return None
    if isinstance(coefficient, torch.Tensor):
        check_float("coefficient", coefficient)
        return coefficient
    if isinstance(coefficient, str) or not isinstance(coefficient, Sequence):
        raise TypeError(f"coefficient must be a tensor or one tensor an axis, got {type(coefficient).__name__}")
    for axis, face in enumerate(coefficient):
        check_float(f"coefficient[{axis}]", face)
    return tuple(coefficient)


def validate_reaction(reaction: torch.Tensor | None, grid: PoissonGrid) -> torch.Tensor | None:
    """Return σ; TypeError or ValueError for a wrong type or shape. Its values are checked by the grid."""
    if reaction is None:
        return None
    check_float("reaction", reaction)
    if tuple(reaction.shape) not in ((), grid.shape):
        raise ValueError(f"reaction must be a scalar or have shape {grid.shape}, got {tuple(reaction.shape)}")
    return reaction


def replace_terms(grid: PoissonGrid, kappa: Coefficient | None, reaction: torch.Tensor | None) -> PoissonGrid:
    """Return the grid with κ and σ, where given, instead of its own; the errors are those of the grid.

    ValueError, too, where κ shuts other cells than the grid's own, as the set of unknowns would depend on it.
    """
    values: Any = grid.given_coefficient
    if kappa is not None:
        values = to_array(kappa) if isinstance(kappa, torch.Tensor) else [to_array(face) for face in kappa]
    sigma: Any = grid.given_reaction
    if reaction is not None:
        sigma = to_array(reaction)
        sigma = float(sigma) if sigma.ndim == 0 else sigma
    made = PoissonGrid(grid.given_cells, grid.spacing, grid.boundary, values, sigma, volume=grid.given_volume)
    if not np.array_equal(made.cells, grid.cells):
        raise ValueError(
            f"coefficient must shut the same cells as the grid's own, got {made.unknowns} unknowns, not {grid.unknowns}"
        )
    return made


def is_mapped(tensor: torch.Tensor) -> bool:
    """Return whether the tensor is under `torch.vmap`: then it has a shape but no values that could be checked."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False


def unwrap_values(tensor: torch.Tensor) -> torch.Tensor:
    """Return the plain tensor inside the wrappers of `torch.func`; ones of its shape where it is mapped."""
    if is_mapped(tensor):
        return torch.ones(tensor.shape, dtype=tensor.dtype)
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def check_boundary_values(grid: PoissonGrid, air_values: torch.Tensor | None, side_values: Pairs | None) -> None:
    """Raise TypeError or ValueError where boundary values do not fit the grid."""
    if air_values is not None:
        check_batch("air_values", air_values, grid.shape)
        air = torch.as_tensor(grid.cells == CellType.AIR)
        if not torch.isfinite(unwrap_values(air_values).detach()[..., air]).all():
            raise ValueError("air_values must be finite in the AIR cells, got NaN or infinity there")
    if side_values is None:
        return
    check_side_pairs(grid, side_values)
    for axis, pair in enumerate(side_values):
        for side, value in enumerate(pair):
            if value is None:
                continue
            name = f"side_values[{axis}][{side}]"
            check_float(name, value)
            if value.ndim:
                check_batch(name, value, side_shape(grid, axis))
            if not torch.isfinite(unwrap_values(value).detach()).all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")


def check_batch(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raise TypeError or ValueError unless `value` is a float tensor of that shape, with at most one leading axis."""
    check_float(name, value)
    if value.ndim not in (len(shape), len(shape) + 1) or tuple(value.shape[value.ndim - len(shape) :]) != shape:
        raise ValueError(f"{name} must have shape {shape} or (k, *{shape}), got {tuple(value.shape)}")
    if value.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")


def check_float(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is a tensor of float32 or float64."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if value.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}")


def to_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a plain tensor's values on the CPU."""
    with torch._C._DisableFuncTorch():  # otherwise `torch.func` would wrap the result of `detach`
        array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
