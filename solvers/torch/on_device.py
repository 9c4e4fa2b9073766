"""Solves with a right-hand side that is already on a device; only a few numbers a step are copied to the host."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from relaxon.core import scaling
from relaxon.core.solution import Callback, Result
from relaxon.core.solve_options import SolveOptions
from relaxon.solvers.dcdm.device import DeviceDirections, memory_errors
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.grid.nullspace import CONSISTENCY, NEXT_TO_NOTHING
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.interface.prepared_system import MAX_RESTARTS, TOO_LARGE
from relaxon.solvers.interface.system_form import SingularSystemError
from relaxon.solvers.interface.verdict import BETTER, Figures, verdict
from relaxon.solvers.torch.solving import check_float

MOST_AT_ONCE = 1000
"""Largest exponent of one scaling step: the largest power of two in float64 is 2^1023."""


@dataclass(frozen=True, slots=True)
class TensorSolution:
    """The outcome of a solve on a device."""

    x: Tensor
    """The solution: shape, dtype and device of `b`, 0 outside the fluid."""
    result: Result
    residuals: tuple[float, ...]
    """‖r‖₂ at the start and after each iteration."""
    iterations: int
    true_residual: float
    """‖b − A x‖₂ of the float64 solution, recomputed on the device."""
    relative_residual: float
    tolerance: float
    solve_seconds: float
    message: str
    fallbacks: int
    backward_error: float = 0.0
    """The componentwise backward error, as in `Solution`."""

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED


def solve_tensor(
    prepared: PreparedSolver,
    b: Tensor,
    *,
    rtol: float = 1e-6,
    atol: float = 0.0,
    max_iterations: int | None = None,
    x0: Tensor | None = None,
    callback: Callback | None = None,
    inconsistent: Literal["error", "project"] = "error",
) -> TensorSolution:
    """Solve `A x = b` for a tensor on its own device.

    Parameters
    ----------
    prepared : from `prepare(grid, device=...)`, with the device of `b`.
    b : float32 or float64, of the grid's shape; values outside the fluid are ignored. Neither `b` nor `x0` is modified.
    rtol, atol, max_iterations, callback, inconsistent : as in `relaxon.solvers.solve`.

    Raises
    ------
    TypeError, ValueError : naming the argument.
    SingularSystemError : `b` is not in the range of a singular operator.
    MemoryError : the device has too little memory.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from relaxon.solvers import PoissonGrid, prepare
    >>> from relaxon.solvers.torch import solve_tensor
    >>> grid = PoissonGrid(np.zeros((32, 32), np.uint8), spacing=1 / 32, boundary="dirichlet")
    >>> solution = solve_tensor(prepare(grid, device="cpu"), torch.ones(32, 32))      # "cuda" with a GPU
    >>> solution.result.name, solution.x.dtype
    ('CONVERGED', torch.float32)
    """
    start = time.perf_counter()
    engine = _find_engine(prepared)
    options = SolveOptions(rtol, atol, max_iterations)
    rtol, atol, max_iterations = options.rtol, options.atol, options.max_iterations
    if inconsistent not in ("error", "project"):
        raise ValueError(f"inconsistent must be 'error' or 'project', got {inconsistent!r}")
    with torch.no_grad(), memory_errors(engine.cycle.device):
        system = _DeviceSystem(prepared, engine)
        right = system.vector("b", b)
        largest = float(right.abs().max())
        if not math.isfinite(largest):
            raise ValueError(f"b must have a finite norm in float64, got {largest}")
        exponent = scaling.exponent_of(largest)
        exponent = 0 if scaling.is_safe(largest) else exponent
        _scale(right, -exponent)
        x = torch.zeros_like(right) if x0 is None else system.start(x0, exponent)
        defect = system.defect(right)
        if inconsistent == "error" and defect > CONSISTENCY[np.dtype(str(b.dtype).removeprefix("torch."))]:
            raise SingularSystemError(
                "b is not in the range of the singular operator: a fluid component has a net source of "
                f"{defect:.2e} of its total; remove it or pass inconsistent='project'"
            )
        system.project(right)
        system.project(x)
        norm, atol = float(torch.linalg.vector_norm(right)), scaling.scaled(atol, -exponent)
        tolerance = rtol * norm + atol
        monitor = Monitor(tolerance, scaling.unscaled_callback(callback, exponent))
        result, message, notes = Result.CONVERGED, "", [engine.reason]
        if norm == 0.0:
            x.zero_()
            figures = Figures(0.0, 0.0)
        else:
            result, figures = system.run(right, x, monitor, max_iterations)
            if result is Result.NON_FINITE and x0 is not None and monitor.iterations == 0:
                x.zero_()
                monitor = Monitor(tolerance, scaling.unscaled_callback(callback, exponent))
                result, figures = system.run(right, x, monitor, max_iterations)
                notes.append(TOO_LARGE)
        if result is not Result.CONVERGED:
            figures, message = system.go_back(right, x, monitor, figures, norm, x0, exponent)
        _scale(x, exponent - prepared.exponent)
        result, message = verdict(result, message, figures, tolerance, rtol, atol)
        return TensorSolution(
            x=x.to(b.dtype).reshape(b.shape),
            result=result,
            residuals=tuple(scaling.scaled(one, exponent) for one in monitor.history or [figures.residual]),
            iterations=monitor.iterations,
            true_residual=scaling.scaled(figures.residual, exponent),
            relative_residual=figures.residual / norm if norm > 0 else 0.0,
            tolerance=scaling.scaled(tolerance, exponent),
            solve_seconds=time.perf_counter() - start,
            message="; ".join(part for part in (*notes, message) if part),
            fallbacks=monitor.fallbacks,
            backward_error=figures.backward_error,
        )


def _scale(x: Tensor, exponent: int) -> None:
    """Multiply by `2^exponent`, in place, in representable steps."""
    while exponent:
        step = max(-MOST_AT_ONCE, min(MOST_AT_ONCE, exponent))
        x.mul_(2.0**step)
        exponent -= step


def _find_engine(prepared: PreparedSolver) -> DeviceDirections:
    if not isinstance(prepared, PreparedSolver):
        raise TypeError(f"prepared must be from prepare(grid, device=...), got {type(prepared).__name__}")
    engine: Prepared = getattr(prepared.engine, "first", prepared.engine)
    if not isinstance(engine, DeviceDirections):
        raise ValueError("prepared must be on a device: prepare(grid, device=...)")
    return engine


class _DeviceSystem:
    """A grid's system on the device of a prepared solver: its vectors, constant null vectors and figures."""

    def __init__(self, prepared: PreparedSolver, engine: DeviceDirections) -> None:
        self.prepared, self.engine = prepared, engine
        null, device = prepared.operator.grid.nullspace, engine.cycle.device
        self._labels: Tensor | None = None
        if null.labels is not None:
            self._labels = torch.as_tensor(null.labels.reshape(-1).astype(np.int64), device=device)
        self._sizes = torch.as_tensor(np.asarray(null.sizes, np.float64), device=device).clamp(min=1)

    def vector(self, name: str, tensor: Tensor) -> Tensor:
        """Return a validated tensor as a new float64 tensor of the planes' shape, 0 outside the fluid."""
        grid = self.prepared.operator.grid
        check_float(name, tensor)
        if tuple(tensor.shape) != grid.shape:
            raise ValueError(f"{name} must have the grid's shape {grid.shape}, got {tuple(tensor.shape)}")
        device = self.engine.cycle.device
        if tensor.device.type != device.type or (device.index is not None and tensor.device.index != device.index):
            raise ValueError(f"{name} must be on {device}, got a tensor on {tensor.device}")
        planes = self.prepared.operator.planes
        zero = torch.zeros((), dtype=torch.float64, device=tensor.device)
        return torch.where(self.engine.fluid, tensor.reshape(planes.shape).double(), zero)

    def start(self, x0: Tensor, exponent: int) -> Tensor:
        """Return the start in the solver's scale; zero if it is so much larger than `b` that float64 cannot hold
        both."""
        x, shift = self.vector("x0", x0), self.prepared.exponent - exponent
        _scale(x, shift)
        return x if not shift or bool(torch.isfinite(x).all()) else torch.zeros_like(x)

    def run(self, right: Tensor, x: Tensor, monitor: Monitor, max_iterations: int | None) -> tuple[Result, Figures]:
        """Run, and continue where the recurrence meets the tolerance but the true residual does not."""
        limit = max_iterations or self.engine.default_max_iterations
        for _ in range(1 + MAX_RESTARTS):
            result = self.engine.run_there(right, x, monitor, limit - monitor.iterations)
            self.project(x)
            figures = self.figures(right, x)
            if result is not Result.CONVERGED or figures.residual <= monitor.tolerance or monitor.iterations >= limit:
                break
            monitor.history.pop()
        return result, figures

    def go_back(
        self,
        right: Tensor,
        x: Tensor,
        monitor: Monitor,
        figures: Figures,
        norm: float,
        x0: Tensor | None,
        exponent: int,
    ) -> tuple[Figures, str]:
        """Go back to the step before, to the start or to zero where its residual is less, as `PreparedSystem` does."""
        said = ""
        if monitor.undo_worse_step():
            self.project(x)
            figures, said = self.figures(right, x), BETTER["step"]
        if x0 is not None and monitor.history and not figures.residual <= monitor.history[0]:
            x.copy_(self.start(x0, exponent))
            self.project(x)
            figures, said = self.figures(right, x), BETTER["start"]
        if not figures.residual <= norm:
            x.zero_()
            figures, said = self.figures(right, x), BETTER["zero"]
        return figures, said

    def figures(self, right: Tensor, x: Tensor) -> Figures:
        """Return the figures of an `x`, computed in float64."""
        cycle = self.engine.cycle
        r, magnitude = cycle.residual(right, x), cycle.magnitude(right, x)
        parts = torch.where(magnitude > 0, r.abs() / magnitude, torch.zeros_like(r))
        return Figures(cycle.unit * float(torch.linalg.vector_norm(r)), float(parts.max()))

    def defect(self, b: Tensor) -> float:
        """Return the largest |Σ b| / Σ |b| over the singular components, as `NullSpace.defect` does."""
        if self._labels is None or len(self._sizes) <= 1:
            return 0.0
        floor = NEXT_TO_NOTHING * b.abs().mean() * self._sizes
        ratio = self._sums(b).abs() / torch.maximum(self._sums(b.abs()), floor).clamp(min=1e-300)
        return float(ratio[1:].max())

    def project(self, v: Tensor) -> None:
        """Subtract each singular component's mean, in place."""
        if self._labels is not None:
            means = self._sums(v) / self._sizes
            means[0] = 0.0
            v.sub_(means[self._labels].reshape(v.shape))

    def _sums(self, v: Tensor) -> Tensor:
        assert self._labels is not None
        sums = torch.zeros(len(self._sizes), dtype=torch.float64, device=v.device)
        return sums.index_add_(0, self._labels, v.reshape(-1))
