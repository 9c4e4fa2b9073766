"""What set-ups for grids and for sparse matrices share: checks, tolerances, restarts, and the verdict in float64."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import scaling, validation
from relaxon.core.set_up_summary import SetUpSummary
from relaxon.core.solution import Callback, Result, Solution
from relaxon.core.solve_options import Inconsistent, SolveOptions
from relaxon.solvers.interface.complex_parts import ComplexRequest, solve_parts, split
from relaxon.solvers.interface.elimination import run_reduced
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.interface.request import Request
from relaxon.solvers.interface.system_form import SystemForm
from relaxon.solvers.interface.verdict import BETTER, Figures, verdict

MAX_RESTARTS = 3
"""How often a run is continued whose own residual claims the tolerance while the true one does not meet it."""
MAX_TIGHTENINGS = 6
"""How often a run that meets the tolerance in ‖r‖₂ is asked for more because the scaled residual does not."""
TOO_LARGE = "x0 is too large beside the solution for float64: started from zero"


class PreparedSystem(SystemForm):
    """A solver set up for one grid or one matrix; `solve` solves for a right-hand side."""

    __slots__ = ()
    solver: Any
    engine: Prepared
    setup_seconds: float

    def summary(self) -> SetUpSummary | None:
        """Return a summary of the set-up; None if there is nothing to tell."""
        return None

    def solve(
        self,
        b: ArrayLike,
        *,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
    ) -> Solution:
        """Solve for one right-hand side, as the function `solve` does after its set-up."""
        return self.solve_with(SolveOptions(rtol, atol, max_iterations, inconsistent), b, x0, callback)

    def solve_with(
        self, options: SolveOptions, b: ArrayLike, x0: ArrayLike | None = None, callback: Callback | None = None
    ) -> Solution:
        """Solve for one right-hand side, as `solve` does with these options."""
        request = self.request(b, options, x0)
        solution = self.answer(request, callback, x0)
        self.reclaim(request)
        return solution

    @property
    def reduced(self) -> PreparedSystem | None:
        """The set-up for the unknowns that remain after the elimination."""
        return None

    def look_ahead(self, requests: Sequence[Request | ComplexRequest], watched: bool) -> None:
        """Have the engine do in one go what the answers to several requests share.

        `watched` says that a callback is called after each iteration.
        """
        parts: list[Request] = []
        for request in requests:
            parts += [request.real, request.imaginary] if isinstance(request, ComplexRequest) else [request]
        parts = [part for part in parts if not part.inconsistent and part.b_norm > 0.0]
        if len(parts) > 1 and self.elimination is None:
            free = not watched and all(part.max_iterations is None for part in parts)
            tolerances = [part.tolerance for part in parts] if free else None
            self.engine.look_ahead([(part.b, part.x) for part in parts], tolerances)

    def answer(
        self, request: Request | ComplexRequest, callback: Callback | None = None, x0: ArrayLike | None = None
    ) -> Solution:
        """Run the solver on a checked request and judge the outcome by the true residual.

        `x0` is the initial guess of the request, if the caller still has it: a solve that ends with a larger residual
        returns the guess.
        """
        if not isinstance(request, ComplexRequest):
            return self._real_answer(request, callback, x0)
        starts = iter((None, None) if x0 is None else split(x0))
        return solve_parts(
            request,
            self._sides(request),
            lambda part, ask: self._real_answer(part, ask, next(starts)),
            self._judge_start,
            callback,
        )

    def _sides(self, request: ComplexRequest) -> tuple[float, float] | None:
        """Return the norms of a complex right-hand side for the scaled test; None if there is no such test."""
        norms = []
        for part in (request.real, request.imaginary):
            if self.elimination is not None:
                self.elimination.decide(part.b, part.x)
            figures = self._figures(part.b, part.x)
            if figures.scaled_norm is None:
                return None
            norms.append([scaling.scaled(one, part.exponent) for one in (figures.scaled_side, figures.left_side)])
        return hypot(norms[0][0], norms[1][0]), hypot(norms[0][1], norms[1][1])

    def _real_answer(self, request: Request, callback: Callback | None, x0: ArrayLike | None = None) -> Solution:
        start = time.perf_counter()
        monitor = Monitor(request.tolerance, scaling.unscaled_callback(callback, request.exponent))
        x, b = request.x, request.b
        figures: Figures | None = None
        if request.inconsistent:
            result, message = Result.SINGULAR_INCONSISTENT, request.inconsistent
        elif request.b_norm == 0.0:
            x[...] = 0.0
            result, message = Result.CONVERGED, "b is zero"
        else:
            result, message, figures = self._run(request, monitor)
            if result is Result.NON_FINITE and request.warm and monitor.iterations == 0:
                # The initial guess is so much larger than the solution that its residual has no norm in float64.
                x[...] = 0.0
                monitor = Monitor(request.tolerance, scaling.unscaled_callback(callback, request.exponent))
                result, message, figures = self._run(request, monitor)
                message = "; ".join(part for part in (TOO_LARGE, message) if part)
            if result is not Result.CONVERGED:
                figures, returned = self._go_back(request, monitor, x0, figures)
                message = "; ".join(part for part in (message, returned) if part)
        if request.exponent != self.exponent:
            # The verdict is on what is returned: scaling back may take entries out of float64's range.
            scaling.scale(x, request.exponent - self.exponent)
            held = x.copy()
            scaling.scale(held, self.exponent - request.exponent)
            figures = self._figures(b, held)
        figures = (self._figures(b, x) if figures is None else figures).beside(request.sides)
        result, message = verdict(result, message, figures, request.tolerance, request.rtol, request.atol)
        history = np.array(monitor.history or [figures.residual])
        scaling.scale(history, request.exponent)
        return Solution(
            x=self._form(x, request),
            result=result,
            residuals=history,
            iterations=monitor.iterations,
            setup_seconds=self.setup_seconds,
            solve_seconds=time.perf_counter() - start,
            true_residual=scaling.scaled(figures.residual, request.exponent),
            relative_residual=figures.residual / request.b_norm if request.b_norm > 0 else 0.0,
            tolerance=scaling.scaled(request.tolerance, request.exponent),
            solver=self.solver.name,
            message="; ".join(part for part in (self.engine.reason, self._remark, message) if part),
            fallbacks=monitor.fallbacks,
            info=dict(self.engine.info) | self._more_info,
            backward_error=figures.backward_error,
        )

    def _judge_start(self, request: Request) -> tuple[float, float, NDArray[Any]]:
        """Return the residual norm and the backward error of a request's initial guess, and the guess as an answer."""
        figures, x = self._figures(request.b, request.x), request.x.copy()
        scaling.scale(x, request.exponent - self.exponent)
        residual = scaling.scaled(figures.residual, request.exponent)
        return residual, figures.backward_error, self._form(x, request)

    def _form(self, x: NDArray[np.float64], request: Request) -> NDArray[Any]:
        """Return a solution in the form of the request's right-hand side."""
        answered = self._form_answer(x, request.packed)
        return answered.reshape(-1, 1) if request.column else answered

    def _run(self, request: Request, monitor: Monitor) -> tuple[Result, str, Figures | None]:
        """Run the engine; if it claims a tolerance that the true residual does not meet, continue from there.

        Return the result, a message and the figures of `x`, None if they were not computed.
        """
        b, x = request.b, request.x
        limit = request.max_iterations or self.engine.default_max_iterations
        restarts = tightenings = 0
        while True:
            before = monitor.iterations
            result, message = self._run_once(request, monitor, limit - before)
            if result is not Result.CONVERGED:
                return result, message, None
            figures = self._figures(b, x).beside(request.sides)
            if figures.meet(request.tolerance, request.rtol, request.atol):
                return result, message, figures
            if monitor.iterations >= limit:
                return Result.MAX_ITERATIONS, "", figures
            if figures.residual <= request.tolerance:
                tightenings += 1
                if tightenings > MAX_TIGHTENINGS:
                    return Result.STAGNATED, "", figures
                monitor.tolerance = figures.next_tolerance(monitor.tolerance, request.rtol, request.atol)
            else:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    reason = "the recurrence met the tolerance, the true residual did not"
                    return Result.STAGNATED, reason, figures
            monitor.history.pop()  # the next run records the true residual in place of the claimed one

    def _run_once(self, request: Request, monitor: Monitor, limit: int) -> tuple[Result, str]:
        """Run the engine, on what remains if decided unknowns are eliminated; return the result and a message."""
        if self.elimination is not None and self.reduced is not None:
            return run_reduced(self.elimination, self.reduced, request, monitor, limit)
        if self.elimination is not None:
            self.elimination.decide(request.b, request.x)  # all unknowns are decided
        result = self.engine.run(request.b, request.x, monitor, limit)
        self._null.project(request.x)
        return result, self.engine.failure

    def _go_back(
        self, request: Request, monitor: Monitor, x0: ArrayLike | None, figures: Figures | None
    ) -> tuple[Figures, str]:
        """Go back in `request.x` to the step before, or to the initial guess, if its residual is smaller.

        Return the figures of `x`, and a message that says what was done.
        """
        b, x = request.b, request.x
        said = ""
        if monitor.undo_worse_step():
            self._null.project(x)
            figures, said = self._figures(b, x), BETTER["step"]
        figures = self._figures(b, x) if figures is None else figures
        first = monitor.history[0] if monitor.history else np.inf
        if request.warm and x0 is not None and not figures.residual <= first:
            np.copyto(x, self._vector("x0", validation.real_array("x0", x0, finite=False)))
            scaling.scale(x, self.exponent - request.exponent)
            self._null.project(x)
            figures, said = self._figures(b, x), BETTER["start"]
        if not figures.residual <= request.b_norm:
            x.fill(0.0)
            figures, said = self._figures(b, x), BETTER["zero"]
        return figures, said

    def reclaim(self, request: Request | ComplexRequest, x: bool = False) -> None:
        """Reuse an answered request's memory for the next one: that of `b`, and with `x` that of the solution too.

        Pass `x=True` only if nobody references the solution's array.
        """
        memory = self._memory
        if memory is not None and isinstance(request, Request):
            memory.keep("b", request.b)
            if x:
                memory.keep("x", request.x)
