"""What grids and sparse matrices share at the front: checks, tolerance, restarts, and the verdict in float64."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import hypot
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.solvers import validation
from relaxon.solvers.complex_parts import ComplexRequest, is_complex, joined, split
from relaxon.solvers.engine import Monitor, Prepared
from relaxon.solvers.masked import fill_unused
from relaxon.solvers.nullspace import CONSISTENCY
from relaxon.solvers.solution import Callback, Result, Solution

Inconsistent = Literal["error", "report", "project"]
MAX_RESTARTS = 3
"""How often a run whose own residual claims the tolerance is started again from where it stands."""


class SingularSystemError(ValueError):
    """`b` is not in the range of a singular operator: a closed pocket of fluid is given a net source."""


@dataclass(frozen=True, slots=True)
class Request:
    """A checked right-hand side: arrays on `shape3`, zero outside the fluid, `b` in the range of `A`."""

    b: NDArray[np.float64]
    x: NDArray[np.float64]
    packed: bool
    tolerance: float
    b_norm: float
    max_iterations: int | None
    inconsistent: str
    """Empty, or why no solution exists."""
    column: bool = False
    """Whether `b` came as a column `(n, 1)`, as which `x` is given back."""


class RequestMemory:
    """Arrays of earlier requests for the next one's: fresh memory takes longer than what is then done with it. Each is
    one's alone who takes it, in any thread."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.float64]] = {}

    def take(self, name: str) -> NDArray[np.float64] | None:
        """The one that was last kept under a name, if it is still there."""
        return self._kept.pop(name, None)

    def keep(self, name: str, array: NDArray[np.float64]) -> None:
        """Keep one that nothing else has any more."""
        self._kept[name] = array


class Front(ABC):
    """A solver with its set-up done, for one grid or one matrix: `solve` for a right-hand side."""

    __slots__ = ()
    solver: Any
    engine: Prepared
    setup_seconds: float

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
        request = self.request(b, rtol, atol, max_iterations, x0, inconsistent)
        solution = self.answer(request, callback)
        self.reclaim(request)
        return solution

    def request(
        self,
        b: ArrayLike,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        x0: ArrayLike | None,
        inconsistent: str,
        name: str = "b",
    ) -> Request | ComplexRequest:
        """Check the arguments of a solve and bring its arrays into the solver's form; of a complex `b` both parts."""
        validation.array_like(name, b)
        b, x0 = fill_unused(name, b, self._used), fill_unused("x0", x0, self._used)
        if not is_complex(b):
            return self._real_request(b, rtol, atol, max_iterations, x0, inconsistent, name)
        b = validation.real_or_complex_array(name, b)
        starts = (None, None) if x0 is None else split(validation.real_or_complex_array("x0", x0))
        parts = split(b)
        # A part that is rounding beside the other need not sum to zero where that does.
        negligible = CONSISTENCY[parts[0].dtype] * max(float(np.abs(part).max()) for part in parts)
        real, imaginary = (
            self._real_request(
                part,
                rtol,
                atol,
                max_iterations,
                start,
                "project" if inconsistent == "error" and float(np.abs(part).max()) <= negligible else inconsistent,
                name,
            )
            for part, start in zip(parts, starts, strict=True)
        )
        norm = hypot(real.b_norm, imaginary.b_norm)
        return ComplexRequest(real, imaginary, rtol * norm + atol, norm)

    def continued(
        self,
        last: Request,
        b: ArrayLike,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        inconsistent: str,
    ) -> Request:
        """As `request` for a real `b` and a start where an earlier request of this front has ended, in its memory: that
        one and its arrays are used up, where `b` is not refused for its form."""
        return self._real_request(b, rtol, atol, max_iterations, None, inconsistent, "b", last)

    def _real_request(
        self,
        b: ArrayLike,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        x0: ArrayLike | None,
        inconsistent: str,
        name: str,
        last: Request | None = None,
    ) -> Request:
        rtol = validation.positive_float("rtol", rtol)
        atol = validation.non_negative_float("atol", atol)
        if max_iterations is not None:
            max_iterations = validation.positive_int("max_iterations", max_iterations)
        if inconsistent not in ("error", "report", "project"):
            raise ValueError(f"inconsistent must be 'error', 'report' or 'project', got {inconsistent!r}")
        side = validation.real_array(name, b, finite=False)
        right = self._vector(name, side, self._spare("b") if last is None else last.b)
        start = self._start(right, x0) if last is None else last.x
        defect, component = self._defect(right)
        refusal = ""
        if defect > CONSISTENCY[side.dtype] and inconsistent != "project":
            refusal = (
                f"{name} is not in the range of the singular operator: {self._component(component)} has a net source "
                f"of {defect:.2e} of its total; remove it or pass inconsistent='project'"
            )
            if inconsistent == "error":
                raise SingularSystemError(refusal)
        else:
            self._project(right)
        self._project(start)
        norm = self._norm(right)
        if not np.isfinite(norm):
            raise ValueError(f"{name} must have a finite norm in float64, got {norm}")
        packed = self._packed(side)
        column = packed and side.ndim == 2
        return Request(right, start, packed, rtol * norm + atol, norm, max_iterations, refusal, column)

    def _start(self, right: NDArray[np.float64], x0: ArrayLike | None) -> NDArray[np.float64]:
        spare = self._spare("x")
        if x0 is not None:
            return self._vector("x0", validation.real_array("x0", x0, finite=False), spare)
        if spare is None:
            return np.zeros_like(right)
        spare.fill(0.0)
        return spare

    def answer(self, request: Request | ComplexRequest, callback: Callback | None = None) -> Solution:
        """Run the solver on a checked request and judge the outcome by the true residual."""
        if isinstance(request, ComplexRequest):
            return joined(request, self._real_answer, self._unsolved, callback)
        return self._real_answer(request, callback)

    def _real_answer(self, request: Request, callback: Callback | None) -> Solution:
        start = time.perf_counter()
        monitor = Monitor(request.tolerance, callback)
        limit = request.max_iterations or self.engine.default_max_iterations
        x, b = request.x, request.b
        true: float | None = None
        if request.inconsistent:
            result, message = Result.SINGULAR_INCONSISTENT, request.inconsistent
        elif request.b_norm == 0.0:
            x[...] = 0.0
            result, message = Result.CONVERGED, "b is zero"
        else:
            result, message, true = self._run(b, x, monitor, limit)
        true = self._true_residual(b, x) if true is None else true
        result, message = verdict(result, message, true, request.tolerance)
        return Solution(
            x=self._formed(x, request),
            result=result,
            residuals=np.array(monitor.history or [true]),
            iterations=monitor.iterations,
            setup_seconds=self.setup_seconds,
            solve_seconds=time.perf_counter() - start,
            true_residual=true,
            relative_residual=true / request.b_norm if request.b_norm > 0 else 0.0,
            tolerance=request.tolerance,
            solver=self.solver.name,
            message="; ".join(part for part in (self.engine.reason, message) if part),
            fallbacks=monitor.fallbacks,
            info=dict(self.engine.info),
        )

    def _unsolved(self, request: Request) -> tuple[float, NDArray[Any]]:
        """The residual norm of a request's start, and the start as an answer."""
        return self._true_residual(request.b, request.x), self._formed(request.x.copy(), request)

    def _formed(self, x: NDArray[np.float64], request: Request) -> NDArray[Any]:
        """A solution in the form of the request's right-hand side."""
        answered = self._answered(x, request.packed)
        return answered.reshape(-1, 1) if request.column else answered

    def _run(
        self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, limit: int
    ) -> tuple[Result, str, float | None]:
        """Run; where a recurrence claims the tolerance and the true residual does not, go on from there.

        The result, a message and the true residual of `x`, None where it was not computed.
        """
        for _ in range(1 + MAX_RESTARTS):
            before = monitor.iterations
            result = self.engine.run(b, x, monitor, limit - before)
            self._project(x)
            if result is not Result.CONVERGED:
                return result, self.engine.failure, None
            true = self._true_residual(b, x)
            if true <= monitor.tolerance:
                return result, self.engine.failure, true
            if monitor.iterations >= limit:
                return Result.MAX_ITERATIONS, "", true
            monitor.history.pop()  # the next run records the true residual in the place of the claimed one
        return Result.STAGNATED, "the recurrence met the tolerance, the true residual did not", None

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
    def _true_residual(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> float:
        """`‖b − A x‖₂` in float64, by nothing that the engine has computed."""


def packed_vector(name: str, array: NDArray[Any], unknowns: int) -> NDArray[Any] | None:
    """A vector of the unknowns, from `(unknowns,)` or a column `(unknowns, 1)`; None for any other shape.

    ValueError, naming `solve_many`, for several columns.
    """
    if array.shape in ((unknowns,), (unknowns, 1)):
        return array.reshape(unknowns)
    if array.ndim == 2 and array.shape[0] == unknowns:
        raise ValueError(
            f"{name} must have shape ({unknowns},) or ({unknowns}, 1), got {array.shape}: for several right-hand sides "
            f"call solve_many(A, {name}.T)"
        )
    return None


def refuse_columns(b: object, unknowns: int) -> None:
    """ValueError where the right-hand sides of `solve_many` are the columns of an array, not its rows."""
    shape: tuple[int, ...] = getattr(b, "shape", ())
    if len(shape) == 2 and shape[0] == unknowns != shape[1]:
        raise ValueError(f"b must hold a right-hand side in each row, (k, {unknowns}), got {tuple(shape)}: pass b.T")


def verdict(result: Result, message: str, true: float, tolerance: float) -> tuple[Result, str]:
    """`CONVERGED` exactly where the true residual says so, whatever the solver believed."""
    if result is Result.SINGULAR_INCONSISTENT:
        return result, message
    if not np.isfinite(true):
        return Result.NON_FINITE, message or "the residual is not finite"
    if true <= tolerance and result is not Result.CANCELLED:
        return Result.CONVERGED, message
    if result is Result.CONVERGED:
        return Result.STAGNATED, message or "the true residual does not meet the tolerance"
    return result, message
