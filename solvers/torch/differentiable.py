"""`poisson_solve`: the solution of a Poisson system as a function that torch differentiates, any number of times.

`x` is a root of `A(κ) x − b`, whose derivatives `relaxon.implicit` takes; A is symmetric, so that each of its linear
systems is one more solve by the same solver, set up once. No iteration is recorded: memory does not grow with their
number, and a derivative is as exact as the solves.
Source for the method: M. B. Giles, N. A. Pierce, "An Introduction to the Adjoint Approach to Design", 2000.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from relaxon.implicit import implicit
from relaxon.solvers.driver import prepare
from relaxon.solvers.engine import Solver
from relaxon.solvers.faces import face_coefficients, openness
from relaxon.solvers.front import Inconsistent
from relaxon.solvers.grid import PoissonGrid
from relaxon.solvers.prepared import PreparedSolver
from relaxon.solvers.torch.arguments import (
    Coefficient,
    check_batch,
    check_boundary_values,
    checked_coefficient,
    is_mapped,
    known_values,
    to_array,
    with_coefficient,
)
from relaxon.solvers.torch.faces import Pairs, apply_operator, face_means, known_source, one_around
from relaxon.solvers.torch.solving import Log, Purpose, SolveTerms, Unconverged, implicit_options, refuse_non_finite


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
    terms = SolveTerms.checked(rtol, adjoint_rtol, max_iterations, inconsistent, unconverged, log)
    check_batch("b", b, geometry.shape)
    check_boundary_values(geometry, air_values, side_values)
    kappa = checked_coefficient(coefficient)
    if prepared is not None and kappa is not None:
        raise ValueError("coefficient must be None beside a prepared solver, which is set up for its own")
    if prepared is not None and solver != "dcdm":
        raise ValueError(f"solver must be left out beside a prepared solver, got {solver!r}")
    if prepared is None and kappa is None:
        prepared = prepare(geometry, solver=solver)
    if x0 is not None:
        check_batch("x0", x0, geometry.shape)
    system = _System(geometry, prepared, solver, terms)
    if kappa is not None:
        known = pytree.tree_map(known_values, kappa)
        if any(map(is_mapped, pytree.tree_leaves(kappa))):
            with_coefficient(geometry, known)
        else:
            system.prepare_for(known)
    right = b
    if air_values is not None or side_values is not None:
        weights = system.weights(kappa, b)
        right = b + known_source(geometry, weights, air_values, side_values).to(
            b.device, _dtype(b, air_values, side_values)
        )
    # The solver judges its solutions, x and the adjoint, which a second residual would not tell more of.
    options = implicit_options(system.solve_adjoint)
    dims = b.ndim - geometry.ndim
    refuse = refuse_non_finite("poisson_solve")
    derive = implicit(system.solve, system.residual, options=options, batch_dims=dims, on_verdict=refuse)
    x: torch.Tensor = derive(x0, right, kappa)
    return x


@dataclass(frozen=True)
class _System:
    """The systems of one call: how they are solved, and what their solution is a root of.

    `prepared` is None where κ is an argument: the solver is then set up for each that comes.
    """

    geometry: PoissonGrid
    prepared: PreparedSolver | None
    solver: str | Solver
    terms: SolveTerms
    set_up: list[tuple[list[NDArray[Any]], PreparedSolver]] = field(default_factory=list)

    @cached_property
    def grid(self) -> PoissonGrid:
        """The grid that the solver is set up for, or that κ completes."""
        return self.geometry if self.prepared is None else self.prepared.operator.grid

    @cached_property
    def scales(self) -> tuple[torch.Tensor, ...]:
        """A face's conductance over its κ, one tensor an axis."""
        return tuple(
            torch.from_numpy(open_face * h**-2)
            for open_face, h in zip(openness(self.grid), self.grid.spacing, strict=True)
        )

    @cached_property
    def own_faces(self) -> tuple[torch.Tensor, ...]:
        """κ of the grid itself on faces, one tensor an axis."""
        return tuple(map(torch.tensor, face_coefficients(self.grid)))

    def residual(self, x: torch.Tensor, b: torch.Tensor, kappa: Coefficient | None) -> torch.Tensor:
        """`A(κ) x − b`, differentiable; it means nothing outside the fluid."""
        return apply_operator(self.grid, self.weights(kappa, x), x) - b

    def weights(self, kappa: Coefficient | None, like: torch.Tensor) -> list[torch.Tensor]:
        """Conductances of faces, one tensor an axis, on the device of `like`; 0 where nothing flows, whatever κ is."""
        if kappa is None:
            return [(scale * face).to(like.device) for scale, face in zip(self.scales, self.own_faces, strict=True)]
        faces = face_means(self.grid, kappa) if isinstance(kappa, torch.Tensor) else one_around(self.grid, kappa)
        scales = [scale.to(face.device, face.dtype) for scale, face in zip(self.scales, faces, strict=True)]
        return [
            torch.where(scale != 0, scale * face, torch.zeros_like(face)).to(like.device)
            for scale, face in zip(scales, faces, strict=True)
        ]

    def solve(self, x0: torch.Tensor | None, b: torch.Tensor, kappa: Coefficient | None) -> torch.Tensor:
        """Solve for each right-hand side of `(…, *grid.shape)`."""
        return self._solved("forward", b, kappa, x0)

    def solve_adjoint(
        self, g: torch.Tensor, _x: torch.Tensor, _b: torch.Tensor, kappa: Coefficient | None, *, transposed: bool
    ) -> torch.Tensor:
        """Solve with A, which is its transpose."""
        del transposed
        return self._solved("adjoint", g, kappa, None)

    def _solved(
        self, purpose: Purpose, b: torch.Tensor, kappa: Coefficient | None, x0: torch.Tensor | None
    ) -> torch.Tensor:
        """Each right-hand side by the prepared solver, on the CPU."""
        prepared = self.prepare_for(kappa)
        sides = to_array(b).reshape(-1, *self.grid.shape)
        starts = None if x0 is None else np.broadcast_to(to_array(x0).astype(np.float64), sides.shape)
        solutions = self.terms.solve_each(prepared, purpose, sides, starts)
        return torch.from_numpy(solutions.reshape(b.shape)).to(dtype=b.dtype, device=b.device)

    def prepare_for(self, kappa: Coefficient | None) -> PreparedSolver:
        """Return the solver set up for κ: once for each that comes (under `torch.vmap` there may be many)."""
        if kappa is None:
            assert self.prepared is not None
            return self.prepared
        parts = [to_array(one) for one in pytree.tree_leaves(kappa)]
        for known, prepared in self.set_up:
            if all(np.array_equal(*pair, equal_nan=True) for pair in zip(known, parts, strict=True)):  # NaN in walls
                return prepared
        prepared = prepare(with_coefficient(self.grid, kappa), solver=self.solver)
        self.set_up.append(([one.copy() for one in parts], prepared))
        return prepared


def _dtype(b: torch.Tensor, air_values: torch.Tensor | None, side_values: Pairs | None) -> torch.dtype:
    """The wider of what `x` depends on linearly."""
    values = [b, air_values, *(value for pair in side_values or () for value in pair)]
    wide = any(value is not None and value.dtype == torch.float64 for value in values)
    return torch.float64 if wide else torch.float32
