"""The course of a sequence of steps in the worker thread: each makes its change, and starts from the one before."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Solution
from relaxon.server.gate import errors
from relaxon.server.solving.session import Session
from relaxon.server.solving.solve_job import Room, SolveJob, prepare_in
from relaxon.solvers.interface.complex_parts import ComplexRequest
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.solvers.interface.request import Request
from relaxon.wire.conversions.solve import SolveTerms


@dataclass(slots=True)
class ReadStep:
    """A step as it was read."""

    b: NDArray[Any] | None
    """None once the solve has taken it."""
    change: Any
    """The change with its arrays; None if there is none."""
    room: Room | None


class StepSolver:
    """Solves steps one after the other, in a worker thread."""

    def __init__(
        self, session: Session, solver: Any, terms: SolveTerms, start: NDArray[Any] | None, warm: bool
    ) -> None:
        """`start` is the first step's initial guess; with `warm` each further step starts from the solution before."""
        self.terms = terms
        self._session = session
        self._solver = solver
        self._start = start
        self._content = session.content
        self._warm = warm
        self._last: tuple[PreparedSystem, Request] | None = None
        """The step before, if the next one can go on in its arrays: without copies, and without new memory."""

    def solve(self, step: ReadStep, job: SolveJob) -> Solution:
        """Make a step's change and solve: the work of a job."""
        session = self._session
        if step.change is not None:
            session.apply(step.change)
            job.check()
        if session.content is not self._content:
            if self._last is not None:
                self._last[0].reclaim(self._last[1])
            self._start = session.carry(self._start, self._content)
            self._content, self._last = session.content, None
        prepared, setup_seconds = prepare_in(session, self._solver, self.terms.solver)
        job.check()
        request, start = self._request(prepared, step)
        solution = replace(prepared.answer(request, job.record, start), setup_seconds=setup_seconds)
        del start
        answer = job.hand_over(solution, step.room, prepared)
        # An `x` that is not in the caller's memory is still to be sent.
        free = isinstance(request, Request) and not np.may_share_memory(answer.x, request.x)
        if not self._warm or not math.isfinite(solution.true_residual):
            prepared.reclaim(request, x=free)
            return answer
        self._start = solution.x
        if isinstance(request, Request) and free:
            self._last = prepared, request
        else:
            prepared.reclaim(request)
        return answer

    def end(self) -> None:
        """Leave the last step's memory to other calls. Not while a step is being solved."""
        if self._last is not None:
            prepared, request = self._last
            self._start = self._last = None
            prepared.reclaim(request, x=True)

    def _request(
        self, prepared: PreparedSystem, step: ReadStep
    ) -> tuple[Request | ComplexRequest, NDArray[Any] | None]:
        """Return the step's request, and its initial guess unless that is in the memory in which the solve goes on."""
        options = self.terms.options
        b, step.b = step.b, None
        assert b is not None
        start, self._start = self._start, None
        last, self._last = self._last, None
        real = b.dtype.kind != "c"
        with errors.refusing():
            if last is not None and last[0] is prepared and real:
                return prepared.continued(last[1], b, options), None
            if start is not None and start.dtype.kind == "c" and real and not self._session.complex_valued:
                start = start.real
            return prepared.request(b, options, start), start
