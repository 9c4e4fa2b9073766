"""What grids and sparse matrices share at the front: checks, tolerance, restarts, and the verdict in float64."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import scaling, validation
from relaxon.core.masked import fill_unused
from relaxon.core.set_up_summary import SetUpSummary
from relaxon.core.solution import Callback, Result, Solution
from relaxon.core.solve_options import Inconsistent, SolveOptions
from relaxon.solvers.grid.nullspace import CONSISTENCY
from relaxon.solvers.interface.complex_parts import ComplexRequest, is_complex, joined, split
from relaxon.solvers.interface.elimination import Elimination, run_reduced
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.interface.request import Request, RequestMemory
from relaxon.solvers.interface.verdict import BETTER, Figures, verdict

MAX_RESTARTS = 3
"""How often a run whose own residual claims the tolerance is started again from where it stands."""
MAX_TIGHTENINGS = 6
"""How often a run that meets the tolerance in ‖r‖₂ is asked for more, because the scaled residual does not meet it."""
TOO_LARGE = "x0 is too large beside the solution for float64: started from zero"


class SingularSystemError(ValueError):
    """`b` is not in the range of a singular operator: a closed pocket of fluid is given a net source."""


class PreparedSystem(ABC):
    """A solver with its set-up done, for one grid or one matrix: `solve` for a right-hand side."""

    __slots__ = ()
    solver: Any
    engine: Prepared
    setup_seconds: float

    def summary(self) -> SetUpSummary | None:
        """Return what is set up, where there is something to tell."""
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
        """As the function `solve`, without the set-up."""
        return self.solve_with(SolveOptions(rtol, atol, max_iterations, inconsistent), b, x0, callback)

    def solve_with(
        self, options: SolveOptions, b: ArrayLike, x0: ArrayLike | None = None, callback: Callback | None = None
    ) -> Solution:
        """Solve for one right-hand side, as `solve` does with these options."""
        request = self.request(b, options, x0)
        solution = self.answer(request, callback, x0)
        self.reclaim(request)
        return solution

    def request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None = None, name: str = "b"
    ) -> Request | ComplexRequest:
        """Check the arguments of a solve and bring its arrays into the solver's form; of a complex `b` both parts."""
        validation.array_like(name, b)
        b, x0 = fill_unused(name, b, self._used), fill_unused("x0", x0, self._used)
        if not is_complex(b):
            return self._real_request(b, options, x0, name)
        b = validation.real_or_complex_array(name, b, finite=False)
        starts = (None, None) if x0 is None else split(validation.real_or_complex_array("x0", x0, finite=False))
        parts = split(b)
        # A part that is rounding beside the other need not sum to zero where that does.
        sizes = [self._largest(self._side(name, part)) for part in parts]
        negligible = self._consistency(parts[0].dtype) * max(sizes)
        real, imaginary = (
            self._real_request(
                part,
                replace(options, inconsistent="project")
                if options.inconsistent == "error" and size <= negligible
                else options,
                start,
                name,
            )
            for part, size, start in zip(parts, sizes, starts, strict=True)
        )
        norm = hypot(*(scaling.scaled(part.b_norm, part.exponent) for part in (real, imaginary)))
        return ComplexRequest(real, imaginary, options.rtol * norm + options.atol, norm)

    def continued(self, last: Request, b: ArrayLike, options: SolveOptions) -> Request:
        """As `request` for a real `b` and a start where an earlier request of this front has ended, in its memory: that
        one and its arrays are used up, where `b` is not refused for its form."""
        return self._real_request(b, options, None, "b", last)

    def _real_request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None, name: str, last: Request | None = None
    ) -> Request:
        side = validation.real_array(name, b, finite=False)
        right = self._side(name, side, self._spare("b") if last is None else last.b)
        start = self._start(right, x0) if last is None else last.x
        refusal = self._make_consistent(name, right, side.dtype, options.inconsistent)
        norm, exponent = self._norm(right), 0
        if not scaling.is_safe(norm):
            # The squares of very large and very small numbers are not representable: once more, brought to size.
            right = self._side(name, side, right)
            exponent = scaling.exponent_of(self._largest(right))
            scaling.scale(right, -exponent)
            refusal = self._make_consistent(name, right, side.dtype, options.inconsistent)
            norm = self._norm(right)
        scaling.scale(start, self.exponent - exponent)
        if exponent != self.exponent and not np.isfinite(start).all():
            start.fill(0.0)  # it is so much larger than the solution that float64 cannot hold both
        self._project(start)
        rtol, atol = options.rtol, scaling.scaled(options.atol, -exponent)
        tolerance, packed, warm = rtol * norm + atol, self._packed(side), x0 is not None or last is not None
        column = packed and side.ndim == 2
        return Request(
            right,
            start,
            packed,
            tolerance,
            norm,
            options.max_iterations,
            refusal,
            rtol,
            atol,
            exponent,
            warm,
            column=column,
        )

    def _make_consistent(self, name: str, right: NDArray[np.float64], dtype: np.dtype[Any], inconsistent: str) -> str:
        """Take the null vectors out of `right`, in place; or say why it has no solution, raised where it is to be."""
        defect, component = self._defect(right)
        if defect > self._consistency(dtype) and inconsistent != "project":
            refusal = (
                f"{name} is not in the range of the singular operator: {self._component(component)} has a net source "
                f"of {defect:.2e} of its total; remove it or pass inconsistent='project'"
            )
            if inconsistent == "error":
                raise SingularSystemError(refusal)
            return refusal
        self._project(right)
        return ""

    def _start(self, right: NDArray[np.float64], x0: ArrayLike | None) -> NDArray[np.float64]:
        spare = self._spare("x")
        if x0 is not None:
            return self._vector("x0", validation.real_array("x0", x0, finite=False), spare)
        if spare is None:
            return np.zeros_like(right)
        spare.fill(0.0)
        return spare

    def look_ahead(self, requests: Sequence[Request | ComplexRequest], watched: bool) -> None:
        """Let the engine do at once what the answers to several checked requests share; `watched` where a callback is
        going to be told of each iteration."""
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

        `x0` is the start that the request was made with, where the caller still holds it: what a solve that ends with
        a larger residual gives back.
        """
        if not isinstance(request, ComplexRequest):
            return self._real_answer(request, callback, x0)
        starts = iter((None, None) if x0 is None else split(x0))
        return joined(
            request,
            self._sides(request),
            lambda part, ask: self._real_answer(part, ask, next(starts)),
            self._unsolved,
            callback,
        )

    def _sides(self, request: ComplexRequest) -> tuple[float, float] | None:
        """The norms of a complex right-hand side that the scaled test compares with, where there is one."""
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
                # The start is so large beside the solution that its residual has no norm in float64.
                x[...] = 0.0
                monitor = Monitor(request.tolerance, scaling.unscaled_callback(callback, request.exponent))
                result, message, figures = self._run(request, monitor)
                message = "; ".join(part for part in (TOO_LARGE, message) if part)
            if result is not Result.CONVERGED:
                figures, returned = self._better(request, monitor, x0, figures)
                message = "; ".join(part for part in (message, returned) if part)
        if request.exponent != self.exponent:
            # What is judged is what is returned: on the way back entries may leave float64's range.
            scaling.scale(x, request.exponent - self.exponent)
            held = x.copy()
            scaling.scale(held, self.exponent - request.exponent)
            figures = self._figures(b, held)
        figures = (self._figures(b, x) if figures is None else figures).beside(request.sides)
        result, message = verdict(result, message, figures, request.tolerance, request.rtol, request.atol)
        history = np.array(monitor.history or [figures.residual])
        scaling.scale(history, request.exponent)
        return Solution(
            x=self._formed(x, request),
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

    def _unsolved(self, request: Request) -> tuple[float, float, NDArray[Any]]:
        """The residual norm and the backward error of a request's start, and the start as an answer."""
        figures, x = self._figures(request.b, request.x), request.x.copy()
        scaling.scale(x, request.exponent - self.exponent)
        residual = scaling.scaled(figures.residual, request.exponent)
        return residual, figures.backward_error, self._formed(x, request)

    def _formed(self, x: NDArray[np.float64], request: Request) -> NDArray[Any]:
        """A solution in the form of the request's right-hand side."""
        answered = self._answered(x, request.packed)
        return answered.reshape(-1, 1) if request.column else answered

    def _run(self, request: Request, monitor: Monitor) -> tuple[Result, str, Figures | None]:
        """Run; where a recurrence claims the tolerance and the true residual does not, go on from there.

        The result, a message and the figures of `x`, None where they were not computed.
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
            monitor.history.pop()  # the next run records the true residual in the place of the claimed one

    def _run_once(self, request: Request, monitor: Monitor, limit: int) -> tuple[Result, str]:
        """Run the engine, or on what is left when decided unknowns are eliminated; the result and a message."""
        if self.elimination is not None and self.reduced is not None:
            return run_reduced(self.elimination, self.reduced, request, monitor, limit)
        if self.elimination is not None:
            self.elimination.decide(request.b, request.x)  # all unknowns are decided
        result = self.engine.run(request.b, request.x, monitor, limit)
        self._project(request.x)
        return result, self.engine.failure

    def _better(
        self, request: Request, monitor: Monitor, x0: ArrayLike | None, figures: Figures | None
    ) -> tuple[Figures, str]:
        """Go back in `request.x` to the step before, or to the start, where its residual is less; its figures, and
        what was done."""
        b, x = request.b, request.x
        said = ""
        if monitor.undo_worse_step():
            self._project(x)
            figures, said = self._figures(b, x), BETTER["step"]
        figures = self._figures(b, x) if figures is None else figures
        first = monitor.history[0] if monitor.history else np.inf
        if request.warm and x0 is not None and not figures.residual <= first:
            np.copyto(x, self._vector("x0", validation.real_array("x0", x0, finite=False)))
            scaling.scale(x, self.exponent - request.exponent)
            self._project(x)
            figures, said = self._figures(b, x), BETTER["start"]
        if not figures.residual <= request.b_norm:
            x.fill(0.0)
            figures, said = self._figures(b, x), BETTER["zero"]
        return figures, said

    def reclaim(self, request: Request | ComplexRequest, x: bool = False) -> None:
        """Use an answered request's memory for the next one: that of `b`, and that of `x` too where nobody has the
        solution's."""
        memory = self._memory
        if memory is not None and isinstance(request, Request):
            memory.keep("b", request.b)
            if x:
                memory.keep("x", request.x)

    @abstractmethod
    def _used(self) -> NDArray[np.bool_]:
        """Where the entries of a whole array are used: a mask elsewhere is no matter."""

    @property
    def exponent(self) -> int:
        """The caller's operator is `2^exponent` times the engine's."""
        return 0

    @property
    def elimination(self) -> Elimination | None:
        """Of the unknowns that their own diagonal decides, where there are any."""
        return None

    @property
    def reduced(self) -> PreparedSystem | None:
        """The solver that is set up for what is then left."""
        return None

    @property
    def _remark(self) -> str:
        """What `Solution.message` says of the operator."""
        return ""

    @property
    def _more_info(self) -> dict[str, float]:
        """What `Solution.info` says of the operator."""
        return {} if self.elimination is None else {"eliminated": float(np.count_nonzero(self.elimination.decided))}

    def _consistency(self, dtype: np.dtype[Any]) -> float:
        """How much of a component's total its net source may be, for a right-hand side of that dtype."""
        return CONSISTENCY[dtype]

    def _largest(self, v: NDArray[np.float64]) -> float:
        """The largest magnitude in `v`."""
        return float(np.abs(v).max())

    @property
    def _memory(self) -> RequestMemory | None:
        """Of earlier requests, where they leave it."""
        return None

    def _spare(self, name: str) -> NDArray[np.float64] | None:
        memory = self._memory
        return None if memory is None else memory.take(name)

    @abstractmethod
    def _vector(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """The caller's array in the engine's form: a new one, or in `out`, which is an earlier result; ValueError,
        naming it, for a wrong shape and for entries that are not finite."""

    def _side(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """The caller's right-hand side as that of the engine's system: `_vector`, weighted where its rows are."""
        return self._vector(name, array, out)

    def copy_answer(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Copy a solution's `x` into an array of its form."""
        out[...] = x

    @abstractmethod
    def _packed(self, side: NDArray[Any]) -> bool:
        """Whether the caller's right-hand side is a vector of the unknowns."""

    @abstractmethod
    def _answered(self, x: NDArray[np.float64], packed: bool) -> NDArray[np.float64]:
        """The solution in the form of the right-hand side."""

    @abstractmethod
    def _defect(self, b: NDArray[np.float64]) -> tuple[float, int]:
        """How far `b` is from the range, as a part of its worst singular component's total, and that component."""

    @abstractmethod
    def _component(self, number: int) -> str:
        """A singular component, for people."""

    @abstractmethod
    def _project(self, v: NDArray[np.float64]) -> None:
        """Take the null vectors out of `v`, in place."""

    @abstractmethod
    def _norm(self, v: NDArray[np.float64]) -> float: ...

    @abstractmethod
    def _figures(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> Figures:
        """The figures that the verdict is made from, in float64, by nothing that the engine has computed."""
