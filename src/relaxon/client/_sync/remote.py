# Generated from relaxon/client/_async/remote.py by tools/generate_client.py: edit that file and run the tool.
"""Base of the grids and matrices on a server: solves and deletion."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, Self, TypeVar

from numpy.typing import ArrayLike

from relaxon.client._sync.attendance import Attendance
from relaxon.client._sync.caller import RetryingCaller
from relaxon.client._sync.solve_call import solve
from relaxon.client._sync.steps_call import StepSequence
from relaxon.client.shared.blocking_runtime import Channel
from relaxon.core import errors
from relaxon.core.solution import Callback, Solution
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.solution import share_set_up
from relaxon.wire.conversions.solve import Inconsistent
from relaxon.wire.conversions.system import SolveRequest, SystemHandle, number_refusals
from relaxon.wire.handover import Handover

StepKind = TypeVar("StepKind")
"""The steps of a system that may change what is solved."""


@dataclass(frozen=True, slots=True)
class ServerLink:
    """A connection to a server, with what the clients of its services need for their calls."""

    channel: Channel
    caller: RetryingCaller
    attendance: Attendance
    target: str
    wire: Wire


class RemoteSystem(SystemHandle, Generic[StepKind]):
    """A system `A x = b` that a server keeps."""

    _arguments: ClassVar[Mapping[str, str] | None] = None
    """The caller's names of the arguments that the messages of steps call otherwise."""

    def __init__(
        self, method: Callable[..., Any], steps_method: Callable[..., Any], handover: Handover, link: ServerLink
    ) -> None:
        """The methods are those of the stub that solve once, and in steps."""
        self._method = method
        self._steps_method = steps_method
        self._handover = handover
        self._caller = link.caller
        self._owner = link.caller.owner
        self._wire = link.wire
        self._note_server(link.target)

    def solve(
        self,
        b: ArrayLike,
        *,
        solver: str | None = None,
        device: str | None = None,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> Solution:
        """Solve `A x = b` on the server; the arguments and the result are those of `relaxon.solvers.solve`.

        There are these differences:

        - `solver` is a name; None stands for "dcdm" on a grid and "auto" with a matrix.
        - `device` is one of the server's, which raises FailedPrecondition where it has no such device.
        - `setup_seconds` is the time of the set-up in this call: 0 where an earlier solve has done it.
        - `callback` sees the newest iteration about every 50 ms rather than each one (`residuals` has them all). Where
          it returns True the solve stops at its next iteration, and the iterate reached by then comes back with
          `Result.CANCELLED`.
        - `timeout` is in seconds, None for the client's; a solve that takes longer is stopped. A repeated solve
          (`Retries`) starts from the beginning, for the callback too.

        Raises
        ------
        InvalidArgument : for a bad argument, which it names. NotFound : the system was deleted. GridLost : the server
        was restarted or has deleted the system. FailedPrecondition : the server lacks the solver's packages.
        ResourceExhausted : too many solves are waiting. DeadlineExceeded, Unavailable, InternalError.
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        request = self._request(terms, "b", b, x0, finite=False)
        return self._solve(request, callback, seconds)

    def solve_many(
        self,
        b: ArrayLike | Sequence[ArrayLike],
        *,
        solver: str | None = None,
        device: str | None = None,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | Sequence[ArrayLike] | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> tuple[Solution, ...]:
        """Solve for several right-hand sides, one after another, with one set-up.

        `b` is `(k, *grid.shape)`, `(k, unknowns)` or a sequence of right-hand sides; `x0` likewise. All are validated
        before the first is sent. As in process, every solution has the `setup_seconds` of the shared set-up. `timeout`
        is for each of them. Everything else is as in `solve`.
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        requests = self._requests(terms, b, x0)
        solutions: list[Solution] = []
        for number, request in enumerate(requests):
            with number_refusals(number):
                solutions.append(self._solve(request, callback, seconds))
        return share_set_up(solutions)

    def solve_steps(
        self,
        steps: Iterable[ArrayLike | StepKind],
        *,
        solver: str | None = None,
        device: str | None = None,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        warm_start: bool = True,
        read_ahead: bool = True,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> Iterator[Solution]:
        """Solve for one right-hand side after another, each starting from the solution before it.

        Parameters
        ----------
        steps : right-hand sides; or a `Step` where cells, κ, σ or volumes of a grid change as well, and a `MatrixStep`
            where the values of a matrix do (time steps, Newton's method), as by `update`. They are read
            in the caller's own thread as solutions are taken.
            The arrays of a step may change once the next one is asked for.
        warm_start : start each step from the last solution; False starts from zero, as for Newton's method.
        read_ahead : take a step from `steps` before yielding the solution of the step before it, so that sending it
            overlaps with the solve. Use False where a step depends on the last solution.
        timeout : seconds for each step, None for the client's.

        The other arguments are those of `solve`; `x0` is the start of the first step. Leaving the iteration ends the
        call and the step that is being solved. A callback that returns True stops only its own step.

        Raises
        ------
        As `solve`: for an argument at once, and for a step when its turn has come. InvalidArgument then names `b[3]`,
        say, or `matrix`.

        Examples
        --------
        >>> import numpy as np
        >>> import relaxon
        >>> from relaxon.server.app import EmbeddedServer
        >>> cells = np.zeros((32, 32), np.uint8)
        >>> b = np.outer(np.hanning(32), np.hanning(32))
        >>> def count_iterations(target):
        ...     with relaxon.connect(target) as client:
        ...         with client.poisson.grid(cells, boundary="dirichlet") as grid:
        ...             sides = (b * (1 + 1e-3 * k) for k in range(3))
        ...             return [solution.iterations for solution in grid.solve_steps(sides)]
        >>> with EmbeddedServer() as server:
        ...     counts = count_iterations(server.target)
        >>> counts[0] > counts[1] >= counts[2]
        True
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        messages_for = self._step_messages(terms, x0, warm_start, seconds)
        with errors.refusals():
            if not isinstance(steps, Iterable):
                raise TypeError(f"steps must be an iterable of right-hand sides, got {type(steps).__name__}")
        method = partial(self._steps_method, compression=self._wire.outgoing)
        call = StepSequence(self._caller, method, steps, callback, read_ahead, seconds, self._arguments)
        return self._yield_solutions(call.solutions(self._handover, messages_for))

    def _yield_solutions(self, found: Generator[Solution, None, None]) -> Iterator[Solution]:
        with self._in_use(), closing(found):
            yield from found

    def delete(self) -> None:
        """Delete the system on the server; NotFound where the server does not have it any more."""
        self._delete(repeated=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._owner.ended:  # the server deletes it with its client; in a forked child it is the parent's
            return
        # A system that is already gone is no error; and where the block failed, its error matters more.
        with suppress(errors.NotFound if error is None else errors.RelaxonError):
            self._delete(repeated=error is None)

    def _delete(self, repeated: bool) -> None:
        self._caller.delete(*self._deletion_call(), repeated=repeated)
        self._deleted = True
        self._handover.close()

    @abstractmethod
    def _deletion_call(self) -> tuple[Callable[..., Any], Any]:
        """Return the stub's method that deletes the system, and its message."""

    def _solve(self, request: SolveRequest, callback: Callback | None, seconds: float) -> Solution:
        def attempt(left: float | None) -> Solution:
            # The file is borrowed for each attempt: a server that went away may still be writing to it.
            with self._in_use(), self._handover.lent() as places:
                return solve(self._caller, self._method, request, callback, places, left, self._wire)

        return self._caller.repeat(self._caller.attempts(seconds), attempt)
