"""`poisson_solve`: the solution of a Poisson system as a function that torch differentiates, any number of times.

By the implicit function theorem: from `A(κ) x = b` follows `A dx = db − dA x`, and with the adjoint `A λ = g` (`A` is
symmetric: the same solver, set up once) the derivative of `⟨g, x⟩` is `λ` in `b` and `−(λ_below − λ_above)(x_below −
x_above)` in the conductance of a face. No iteration is recorded: memory does not grow with their number, and the
derivative is as exact as the two solves. `λ` is itself such a solve, which is what makes second derivatives work.
Source for the method: M. B. Giles, N. A. Pierce, "An Introduction to the Adjoint Approach to Design", 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from relaxon.solvers import validation
from relaxon.solvers.driver import PreparedSolver, prepare
from relaxon.solvers.engine import Solver
from relaxon.solvers.faces import check_side_pairs, openness, side_shape
from relaxon.solvers.front import Inconsistent
from relaxon.solvers.grid import CellType, PoissonGrid
from relaxon.solvers.solution import Solution
from relaxon.solvers.torch.faces import Pairs, differences, face_means, known_source, one_around

FLOATS = (torch.float32, torch.float64)
Coefficient = torch.Tensor | Sequence[torch.Tensor]
Unconverged = Literal["error", "record"]
Log = list[tuple[str, Solution]]


class NotConvergedError(RuntimeError):
    """A forward or an adjoint solve did not meet its tolerance; `solution` is what it came to."""

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution


@dataclass(frozen=True, slots=True)
class _Options:
    """What every solve of one call shares."""

    prepared: PreparedSolver
    rtol: float
    adjoint_rtol: float
    max_iterations: int | None
    inconsistent: Inconsistent
    unconverged: Unconverged
    log: Log | None
    x0: NDArray[np.float64] | None


def poisson_solve(
    grid: PoissonGrid | PreparedSolver,
    b: torch.Tensor,
    *,
    coefficient: Coefficient | None = None,
    air_values: torch.Tensor | None = None,
    side_values: Pairs | None = None,
    solver: str | Solver = "dcdm",
    rtol: float = 1e-8,
    adjoint_rtol: float | None = None,
    max_iterations: int | None = None,
    x0: torch.Tensor | None = None,
    inconsistent: Inconsistent = "error",
    unconverged: Unconverged = "error",
    log: Log | None = None,
) -> torch.Tensor:
    """`x` of `−∇·(κ∇x) = b`, differentiable in `b`, κ and the boundary values, to any order.

    Parameters
    ----------
    grid : the geometry, with the κ that holds where `coefficient` is None; or a solver set up by `prepare`, so that
        many calls share one set-up.
    b : `grid.shape`, or `(k, *grid.shape)` for k right-hand sides; float32 or float64, on any device. Solves run on
        the CPU in float64: tensors elsewhere are copied there and back.
    coefficient : κ, in place of the grid's: a tensor of the grid's shape (harmonic mean at faces), or one tensor an
        axis with values on faces. Finite and > 0. The solver is set up anew for it.
    air_values : values in AIR cells, `grid.shape` or `(k, *grid.shape)`; what stands in other cells is not read.
    side_values : for each axis a (low, high) pair of tensors with values on Dirichlet sides: a scalar, the side's
        shape, or that with a leading k; None for 0.
    solver : name or object; not beside a prepared solver, which has its own.
    rtol, adjoint_rtol : tolerance on the true relative residual of the solve and of the adjoint solve (`rtol` where
        None). Derivatives are as exact as both.
    max_iterations, x0, inconsistent : as for `relaxon.solvers.solve`; `x0` is a constant. Adjoint solves of a singular
        system always take the gradient's projection: `x` has zero mean, so the rest of it has no effect on `x`.
    unconverged : "error" raises `NotConvergedError`, from the backward pass too; "record" goes on with what there is
        and needs `log`.
    log : a list to which ("forward" or "adjoint", `Solution`) is added for each solve.

    Returns
    -------
    `(…, *grid.shape)`, zero outside the fluid, in the wider dtype of `b` and the boundary values, on the device of `b`.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work. NotConvergedError: see above.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from relaxon.solvers import PoissonGrid
    >>> from relaxon.solvers.torch import poisson_solve
    >>> grid = PoissonGrid(np.zeros((6, 6), np.uint8), boundary="dirichlet")
    >>> b = torch.ones(grid.shape, dtype=torch.float64, requires_grad=True)
    >>> x = poisson_solve(grid, b, solver="cg", rtol=1e-12)
    >>> x.sum().backward()
    >>> bool(torch.allclose(b.grad, x))       # A is symmetric: the adjoint of the sum is the solve of ones
    True
    """
    prepared, geometry = (grid, grid.operator.grid) if isinstance(grid, PreparedSolver) else (None, grid)
    if not isinstance(geometry, PoissonGrid):
        raise TypeError(f"grid must be a PoissonGrid or a PreparedSolver, got {type(grid).__name__}")
    rtol = validation.positive_float("rtol", rtol)
    adjoint_rtol = rtol if adjoint_rtol is None else validation.positive_float("adjoint_rtol", adjoint_rtol)
    if unconverged not in ("error", "record"):
        raise ValueError(f"unconverged must be 'error' or 'record', got {unconverged!r}")
    if unconverged == "record" and log is None:
        raise ValueError("log must be a list where unconverged='record', so that a failure is seen, got None")
    if inconsistent not in ("error", "project"):
        raise ValueError(f"inconsistent must be 'error' or 'project', got {inconsistent!r}")
    _check_batch("b", b, geometry.shape)
    _check_boundary_values(geometry, air_values, side_values)
    kappa = _checked_coefficient(coefficient)
    if prepared is not None and kappa is not None:
        raise ValueError("coefficient must be None beside a prepared solver, which is set up for its own")
    if prepared is None:
        prepared = prepare(_with_coefficient(geometry, kappa), solver=solver)
    elif solver != "dcdm":
        raise ValueError(f"solver must be left out beside a prepared solver, got {solver!r}")
    start = None if x0 is None else _checked_start(x0, geometry)
    options = _Options(prepared, rtol, adjoint_rtol, max_iterations, inconsistent, unconverged, log, start)
    faces = _faces(geometry, kappa)
    right = b
    if air_values is not None or side_values is not None:
        constant = _grids_faces(prepared.operator.grid, b) if faces is None else faces
        weights = [scale * face for scale, face in zip(_scales(geometry, constant), constant, strict=True)]
        right = b + known_source(geometry, weights, air_values, side_values).to(
            b.device, _dtype(b, air_values, side_values)
        )
    x: torch.Tensor = _Solve.apply(right, options, options.rtol, "forward", *(faces or ()))  # type: ignore[no-untyped-call]
    return x


class _Solve(torch.autograd.Function):
    """`x = A(κ)⁺ b` for `(…, *grid.shape)`; κ on faces, one tensor an axis, or none where it is a constant."""

    @staticmethod
    def forward(
        ctx: Any, b: torch.Tensor, options: _Options, rtol: float, purpose: str, *faces: torch.Tensor
    ) -> torch.Tensor:
        x = _solved(b, options, rtol, purpose)
        ctx.options = options
        ctx.save_for_backward(x, *faces)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, *faces = ctx.saved_tensors
        options: _Options = ctx.options
        grid = options.prepared.operator.grid
        if not torch.isfinite(gradient).all():
            raise ValueError("the gradient that came back to poisson_solve must be finite, got NaN or infinity")
        adjoint: torch.Tensor = _Solve.apply(gradient, options, options.adjoint_rtol, "adjoint", *faces)  # type: ignore[no-untyped-call]
        by_face: list[torch.Tensor | None] = []
        for axis, (face, scale) in enumerate(zip(faces, _scales(grid, faces), strict=True)):
            if not ctx.needs_input_grad[4 + axis]:
                by_face.append(None)
                continue
            product = -differences(grid, adjoint, axis) * differences(grid, x, axis)
            summed = product.reshape(-1, *face.shape).sum(0)
            by_face.append((scale * summed.to(face.device)).to(face.dtype))
        return (adjoint if ctx.needs_input_grad[0] else None, None, None, None, *by_face)


def _solved(b: torch.Tensor, options: _Options, rtol: float, purpose: str) -> torch.Tensor:
    """Each right-hand side by the prepared solver, on the CPU."""
    grid = options.prepared.operator.grid
    forward = purpose == "forward"
    sides = b.detach().cpu().numpy().reshape(-1, *grid.shape)
    starts = [None] * len(sides)
    if forward and options.x0 is not None:
        starts = list(np.broadcast_to(options.x0, sides.shape))
    solutions = np.empty(sides.shape)
    for index, (side, start) in enumerate(zip(sides, starts, strict=True)):
        solution = options.prepared.solve(
            side,
            rtol=rtol,
            max_iterations=options.max_iterations,
            x0=start,
            inconsistent=options.inconsistent if forward else "project",
        )
        if options.log is not None:
            options.log.append((purpose, solution))
        if not solution.converged and options.unconverged == "error":
            which = f" {index} of {len(sides)}" if len(sides) > 1 else ""
            raise NotConvergedError(
                f"the {purpose} solve{which} ended {solution.result.name} after {solution.iterations} iterations with "
                f"a relative residual of {solution.relative_residual:.2e}, asked for {rtol:.2e}"
                + (f" ({solution.message})" if solution.message else ""),
                solution,
            )
        solutions[index] = solution.x
    return torch.from_numpy(solutions.reshape(b.shape)).to(dtype=b.dtype, device=b.device)


def _scales(grid: PoissonGrid, faces: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A face's conductance over its κ, one tensor an axis, with the dtypes and devices of `faces`."""
    return [
        torch.as_tensor(open_face * h**-2, dtype=face.dtype, device=face.device)
        for open_face, h, face in zip(openness(grid), grid.spacing, faces, strict=False)
    ]


def _faces(grid: PoissonGrid, kappa: Coefficient | None) -> tuple[torch.Tensor, ...] | None:
    if kappa is None:
        return None
    return face_means(grid, kappa) if isinstance(kappa, torch.Tensor) else one_around(grid, kappa)


def _dtype(b: torch.Tensor, air_values: torch.Tensor | None, side_values: Pairs | None) -> torch.dtype:
    """The wider of what `x` depends on linearly."""
    values = [b, air_values, *(value for pair in side_values or () for value in pair)]
    wide = any(value is not None and value.dtype == torch.float64 for value in values)
    return torch.float64 if wide else torch.float32


def _grids_faces(grid: PoissonGrid, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
    from relaxon.solvers.faces import face_coefficients

    return tuple(torch.tensor(face, dtype=torch.float64, device=b.device) for face in face_coefficients(grid))


def _with_coefficient(grid: PoissonGrid, kappa: Coefficient | None) -> PoissonGrid:
    """The grid with κ in the place of its own; what the grid refuses is refused in its words."""
    if kappa is None:
        return grid
    values: Any = _array(kappa) if isinstance(kappa, torch.Tensor) else [_array(face) for face in kappa]
    return PoissonGrid(grid.cells, grid.spacing, grid.boundary, values)


def _checked_coefficient(coefficient: Coefficient | None) -> Coefficient | None:
    if coefficient is None:
        return None
    if isinstance(coefficient, torch.Tensor):
        _check_float("coefficient", coefficient)
        return coefficient
    if isinstance(coefficient, str) or not isinstance(coefficient, Sequence):
        raise TypeError(f"coefficient must be a tensor or one tensor an axis, got {type(coefficient).__name__}")
    for axis, face in enumerate(coefficient):
        _check_float(f"coefficient[{axis}]", face)
    return tuple(coefficient)


def _checked_start(x0: torch.Tensor, grid: PoissonGrid) -> NDArray[np.float64]:
    _check_batch("x0", x0, grid.shape)
    return _array(x0).astype(np.float64)


def _check_boundary_values(grid: PoissonGrid, air_values: torch.Tensor | None, side_values: Pairs | None) -> None:
    if air_values is not None:
        _check_batch("air_values", air_values, grid.shape)
        air = torch.as_tensor(grid.cells == CellType.AIR, device=air_values.device)
        if not torch.isfinite(air_values.detach()[..., air]).all():
            raise ValueError("air_values must be finite in the AIR cells, got NaN or infinity there")
    if side_values is None:
        return
    check_side_pairs(grid, side_values)
    for axis, pair in enumerate(side_values):
        for side, value in enumerate(pair):
            if value is None:
                continue
            name = f"side_values[{axis}][{side}]"
            _check_float(name, value)
            if value.ndim:
                _check_batch(name, value, side_shape(grid, axis))
            if not torch.isfinite(value.detach()).all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")


def _check_batch(name: str, value: Any, shape: tuple[int, ...]) -> None:
    _check_float(name, value)
    if value.ndim not in (len(shape), len(shape) + 1) or tuple(value.shape[value.ndim - len(shape) :]) != shape:
        raise ValueError(f"{name} must have shape {shape} or (k, *{shape}), got {tuple(value.shape)}")
    if value.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")


def _check_float(name: str, value: Any) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if value.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}")


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
