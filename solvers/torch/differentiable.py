"""`poisson_solve`: the solution of a Poisson system as a function that torch can differentiate, to any order.

`x` is a root of `A(κ, σ) x − b`, which `relaxon.implicit` differentiates. As A is symmetric, each linear system of a
derivative is one more solve by the same solver, set up once. Iterations are not recorded: memory does not grow with
their number, and a derivative is as accurate as the solves.
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

from relaxon.core.solve_options import Inconsistent
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.driver.solve import prepare
from relaxon.solvers.grid.faces import face_coefficients, face_scales
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.engine import Solver
from relaxon.solvers.torch.faces import Pairs, add_films, apply_operator, face_means, known_source, share_periodic_ends
from relaxon.solvers.torch.solving import (
    Coefficient,
    DifferentiableOptions,
    Log,
    SymmetricSystem,
    Unconverged,
    check_batch,
    check_boundary_values,
    derive_solve,
    is_mapped,
    replace_terms,
    to_array,
    unwrap_values,
    validate_coefficient,
    validate_reaction,
)


def poisson_solve(
    grid: PoissonGrid | PreparedSolver,
    b: torch.Tensor,
    *,
    coefficient: Coefficient | None = None,
    reaction: torch.Tensor | None = None,
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
    """Solve `(σ − ∇·κ∇) x = b` for `x`, differentiable in `b`, κ, σ and the boundary values, to any order.

    Parameters
    ----------
    grid : the geometry, with the κ that is used where `coefficient` is None; or a solver set up by `prepare`, so that
        many calls share one set-up.
    b : `grid.shape`, or `(k, *grid.shape)` for k right-hand sides; float32 or float64, on any device. Solves run on
        the CPU in float64: tensors on other devices are copied there and back.
    coefficient : κ, instead of the grid's: a tensor of the grid's shape (harmonic means at faces), or one tensor an
        axis with values on faces. Finite and > 0, on faces ≥ 0. The solver is set up for it.
    reaction : σ, instead of the grid's: a scalar or `grid.shape`, ≥ 0. The solver is set up for it.
    air_values : values in AIR cells, `grid.shape` or `(k, *grid.shape)`; values in other cells are ignored.
    side_values : for each axis a (low, high) pair of tensors with values on Dirichlet sides, `κ ∂x/∂n + h x` on Robin
        ones: a scalar, the side's shape, or that with a leading k; None for 0.
    solver : name or object; not allowed with a prepared solver, which has its own.
    rtol, adjoint_rtol : tolerance on the true relative residual of the solve and of the adjoint solve (`rtol` where
        None). Derivatives are as accurate as both.
    max_iterations, x0, inconsistent : as for `relaxon.solvers.solve`; `x0` is a constant. Adjoint solves of a singular
        system always project the gradient: `x` has zero mean, so the rest of the gradient has no effect on `x`.
    unconverged : "error" raises `NotConvergedError`, from the backward pass too; "record" continues with the last
        iterate and needs `log`.
    log : a list to which ("forward" or "adjoint", `Solution`) is appended for each solve.

    Returns
    -------
    x : `(…, *grid.shape)`, zero outside the fluid, in the wider dtype of `b` and the boundary values, on the device of
        `b`.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work.
    NotConvergedError : see `unconverged`.

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
    terms = DifferentiableOptions(rtol, adjoint_rtol, max_iterations, inconsistent, unconverged, log)
    check_batch("b", b, geometry.shape)
    check_boundary_values(geometry, air_values, side_values)
    kappa = validate_coefficient(coefficient)
    sigma = validate_reaction(reaction, geometry)
    for name, value in (("coefficient", kappa), ("reaction", sigma)):
        if prepared is not None and value is not None:
            raise ValueError(f"{name} must be None with a prepared solver, which is set up for its own")
    if prepared is not None and solver != "dcdm":
        raise ValueError(f"solver must be omitted with a prepared solver, got {solver!r}")
    if prepared is None and kappa is None and sigma is None:
        prepared = prepare(geometry, solver=solver)
    if x0 is not None:
        check_batch("x0", x0, geometry.shape)
    system = _System(geometry, prepared, solver, terms)
    if kappa is not None or sigma is not None:
        known, known_sigma = (None if one is None else pytree.tree_map(unwrap_values, one) for one in (kappa, sigma))
        if any(map(is_mapped, _tensors(kappa, sigma))):
            replace_terms(geometry, known, known_sigma)
        else:
            system.prepare_for(known, known_sigma)
    right = b
    if air_values is not None or side_values is not None:
        _, weights = system.weights(kappa, b)
        source = known_source(geometry, weights, air_values, side_values) / system.rows(b)
        right = b + source.to(b.device, _dtype(b, air_values, side_values))
    derive = derive_solve(system, "poisson_solve", b.ndim - geometry.ndim)
    x: torch.Tensor = derive(x0, right, kappa, sigma)
    return x


@dataclass(frozen=True)
class _System(SymmetricSystem):
    """The systems of one call: their solvers, and the residual of which their solution is a root.

    `prepared` is None where κ or σ is an argument: the solver is then set up for each of their values.
    """

    geometry: PoissonGrid
    prepared: PreparedSolver | None
    solver: str | Solver
    terms: DifferentiableOptions
    set_up: list[tuple[list[NDArray[Any]], PreparedSolver]] = field(default_factory=list)

    @cached_property
    def grid(self) -> PoissonGrid:
        """The grid of the prepared solver, or the geometry that κ completes."""
        return self.geometry if self.prepared is None else self.prepared.operator.grid

    @cached_property
    def scales(self) -> tuple[torch.Tensor, ...]:
        """The conductances of faces over their κ, one tensor an axis."""
        return tuple(torch.from_numpy(np.ascontiguousarray(scale)) for scale in face_scales(self.grid))

    @cached_property
    def own_faces(self) -> tuple[torch.Tensor, ...]:
        """κ of the grid on faces, one tensor an axis."""
        return tuple(map(torch.tensor, face_coefficients(self.grid)))

    def residual(
        self, x: torch.Tensor, b: torch.Tensor, kappa: Coefficient | None, sigma: torch.Tensor | None
    ) -> torch.Tensor:
        """Return `A(κ, σ) x − b`, weighted as rows are and differentiable; it is meaningless outside the fluid."""
        found, rows = apply_operator(self.grid, self.weights(kappa, x)[0], x), self.rows(x)
        reaction = self.own_reaction if sigma is None else sigma
        if reaction is not None:
            # `where` and not a product, so that NaN outside the fluid stays outside.
            fluid = torch.from_numpy(self.grid.fluid.copy()).to(x.device)
            inside = torch.where(fluid, reaction.to(x.device), torch.zeros((), dtype=reaction.dtype, device=x.device))
            found = found + inside * rows * x
        return found - rows * b

    @cached_property
    def own_reaction(self) -> torch.Tensor | None:
        """σ of the grid, None where it has none."""
        return None if self.grid.reaction is None else torch.tensor(self.grid.reaction, dtype=torch.float64)

    def rows(self, like: torch.Tensor) -> torch.Tensor | float:
        """Return the weights of rows: a tensor on the device of `like`, or 1."""
        weights = self.grid.row_weights
        return 1.0 if weights is None else torch.tensor(weights, device=like.device)

    def weights(self, kappa: Coefficient | None, like: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the conductances of faces, one tensor an axis, on the device of `like`, and the weights of known
        values.

        Conductances are 0 where nothing flows, whatever κ is.
        """
        return add_films(self.grid, self._conductances(kappa, like))

    def _conductances(self, kappa: Coefficient | None, like: torch.Tensor) -> list[torch.Tensor]:
        """Return the conductances of faces; at Robin sides those up to the face itself."""
        if kappa is None:
            return [(scale * face).to(like.device) for scale, face in zip(self.scales, self.own_faces, strict=True)]
        faces = (
            face_means(self.grid, kappa) if isinstance(kappa, torch.Tensor) else share_periodic_ends(self.grid, kappa)
        )
        scales = [scale.to(face.device, face.dtype) for scale, face in zip(self.scales, faces, strict=True)]
        return [
            torch.where(scale != 0, scale * face, torch.zeros_like(face)).to(like.device)
            for scale, face in zip(scales, faces, strict=True)
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def row_weights(self) -> NDArray[np.float64] | None:
        return self.grid.row_weights

    def prepare_for(self, kappa: Coefficient | None, sigma: torch.Tensor | None) -> PreparedSolver:
        if kappa is None and sigma is None:
            assert self.prepared is not None
            return self.prepared
        parts = [to_array(one) for one in _tensors(kappa, sigma)]
        for known, prepared in self.set_up:
            if all(np.array_equal(*pair, equal_nan=True) for pair in zip(known, parts, strict=True)):  # NaN in walls
                return prepared
        prepared = prepare(replace_terms(self.grid, kappa, sigma), solver=self.solver)
        self.set_up.append(([one.copy() for one in parts], prepared))
        return prepared


def _tensors(*given: Coefficient | None) -> list[torch.Tensor]:
    """Return all tensors in the arguments."""
    return [leaf for one in given if one is not None for leaf in pytree.tree_leaves(one)]


def _dtype(b: torch.Tensor, air_values: torch.Tensor | None, side_values: Pairs | None) -> torch.dtype:
    """Return the wider dtype of the tensors on which `x` depends linearly."""
    values = [b, air_values, *(value for pair in side_values or () for value in pair)]
    wide = any(value is not None and value.dtype == torch.float64 for value in values)
    return torch.float64 if wide else torch.float32
