"""The options of differentiable solves, and the solves of all their right-hand sides on the CPU."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Solution
from relaxon.core.solve_options import Inconsistent
from relaxon.implicit import DerivativeOutcome, DerivativeVerdict, ImplicitOptions, implicit
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.solvers.torch.arguments import to_array

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
