"""The arguments and options of differentiable solves, validated by name before any work, and the solves of all their
right-hand sides on the CPU."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Solution
from relaxon.core.solve_options import Inconsistent
from relaxon.implicit import DerivativeOutcome, DerivativeVerdict, ImplicitOptions, implicit
from relaxon.solvers.grid.faces import check_side_pairs, side_shape
from relaxon.solvers.grid.poisson_grid import CellType, PoissonGrid
from relaxon.solvers.interface.prepared_system import PreparedSystem
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


Unconverged = Literal["error", "record"]
Purpose = Literal["forward", "adjoint"]
Log = list[tuple[str, Solution]]


class NotConvergedError(RuntimeError):
    """A forward or adjoint solve that did not meet its tolerance; `solution` is its last iterate."""

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution


@dataclass(frozen=True, slots=True)
class DifferentiableOptions:
    """The options of the solves of a differentiable system, and what happens where one does not converge."""

    rtol: float
    adjoint_rtol: float | None
    max_iterations: int | None
    inconsistent: Inconsistent
    unconverged: Unconverged
    log: Log | None

    def __post_init__(self) -> None:
        validation.positive_float("rtol", self.rtol)
        if self.adjoint_rtol is not None:
            validation.positive_float("adjoint_rtol", self.adjoint_rtol)
        if self.unconverged not in ("error", "record"):
            raise ValueError(f"unconverged must be 'error' or 'record', got {self.unconverged!r}")
        if self.unconverged == "record" and self.log is None:
            raise ValueError("log must be a list where unconverged='record', so that failures are noticed, got None")
        if self.inconsistent not in ("error", "project"):
            raise ValueError(f"inconsistent must be 'error' or 'project', got {self.inconsistent!r}")

    def solve_each(
        self, prepared: PreparedSystem, purpose: Purpose, sides: NDArray[Any], starts: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Solve for each of the right-hand sides `(k, …)` and return the solutions, float64; `starts` has their shape.

        NotConvergedError where one does not converge and `unconverged` is "error".
        """
        rtol = self.rtol if purpose == "forward" or self.adjoint_rtol is None else self.adjoint_rtol
        solutions = np.empty(sides.shape)
        for index, side in enumerate(sides):
            solution = prepared.solve(
                side,
                rtol=rtol,
                max_iterations=self.max_iterations,
                x0=None if starts is None else starts[index],
                inconsistent=self.inconsistent if purpose == "forward" else "project",
            )
            if self.log is not None:
                self.log.append((purpose, solution))
            if not solution.converged and self.unconverged == "error":
                which = f" {index} of {len(sides)}" if len(sides) > 1 else ""
                raise NotConvergedError(
                    f"the {purpose} solve{which} ended {solution.result.name} after {solution.iterations} iterations "
                    f"with a relative residual of {solution.relative_residual:.2e}, asked for {rtol:.2e}"
                    + (f" ({solution.message})" if solution.message else ""),
                    solution,
                )
            solutions[index] = solution.x
        return solutions


class SymmetricSystem(ABC):
    """The systems of one differentiable call; as A is its own transpose, adjoint systems are solved as the others."""

    terms: DifferentiableOptions

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one right-hand side."""

    @property
    def row_weights(self) -> NDArray[np.float64] | None:
        """The weights that the solver applies to right-hand sides, None for none."""
        return None

    @abstractmethod
    def prepare_for(self, *parameters: Any) -> PreparedSystem:
        """Return the solver set up for parameters of A, once for each of their values (`torch.vmap` may have many)."""

    def solve(self, x0: torch.Tensor | None, b: torch.Tensor, *parameters: Any) -> torch.Tensor:
        """Solve for each right-hand side of `(…, *shape)`."""
        return self._solve_all("forward", b, x0, parameters)

    def solve_adjoint(
        self, g: torch.Tensor, _x: torch.Tensor, _b: torch.Tensor, *parameters: Any, transposed: bool
    ) -> torch.Tensor:
        """Solve with A, which is its transpose."""
        del transposed
        return self._solve_all("adjoint", g, None, parameters)

    def _solve_all(
        self, purpose: Purpose, b: torch.Tensor, x0: torch.Tensor | None, parameters: tuple[Any, ...]
    ) -> torch.Tensor:
        prepared = self.prepare_for(*parameters)
        sides = to_array(b).reshape(-1, *self.shape)
        if purpose == "adjoint" and self.row_weights is not None:
            sides = sides / self.row_weights  # the solver applies the weights itself
        starts = None if x0 is None else np.broadcast_to(to_array(x0).astype(np.float64), sides.shape)
        solutions = self.terms.solve_each(prepared, purpose, sides, starts)
        return torch.from_numpy(solutions.reshape(b.shape)).to(dtype=b.dtype, device=b.device)


def derive_solve(system: Any, function: str, batch_dims: int) -> Callable[..., Any]:
    """Return `system.solve` differentiated as the root of `system.residual`, all systems solved by the solver alone.

    It verifies its solutions itself: a second residual would tell nothing more. ValueError, naming `function`, where
    the gradient passed back is not finite.
    """

    def refuse(verdict: DerivativeVerdict) -> None:
        if verdict.outcome is DerivativeOutcome.NON_FINITE:
            raise ValueError(f"the gradient passed back to {function} must be finite, got NaN or infinity")

    options = ImplicitOptions(
        linear_solver=system.solve_adjoint,
        rtol=math.inf,
        root_rtol=math.inf,
        error_estimate="none",
        on_unconverged="record",
    )
    return implicit(system.solve, system.residual, options=options, batch_dims=batch_dims, on_verdict=refuse)
