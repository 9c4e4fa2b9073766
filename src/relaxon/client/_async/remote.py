"""What a grid and a matrix on a server have in common, for asyncio: solves, and an end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self

from numpy.typing import ArrayLike

from relaxon.client._async.caller import Caller
from relaxon.client._async.solve_call import solve
from relaxon.core import errors
from relaxon.core.solution import Callback, Solution
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.solution import with_one_set_up
from relaxon.wire.conversions.solve import Inconsistent
from relaxon.wire.conversions.system import SolveRequest, SystemHandle, numbered_as
from relaxon.wire.handover import Handover


class RemoteSystem(SystemHandle):
    """A system `A x = b` that a server keeps."""

    def __init__(self, method: Callable[..., Any], handover: Handover, caller: Caller, target: str, wire: Wire) -> None:
        """`method` is the stub's that solves."""
        self._method = method
        self._handover = handover
        self._caller = caller
        self._owner = caller.owner
        self._wire = wire
        self._kept_at(target)

    async def solve(
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

        Differences: `solver` is a name, None for "dcdm" on a grid and "auto" with a matrix; `device` is one of
        the server's, which refuses with FailedPrecondition where it lacks it. `setup_seconds` is what the
        set-up took in this call: 0 where an earlier solve has done it. `callback` sees the newest iteration
        about every 50 ms rather than each one (`residuals` has them all); where it returns True the solve stops
        at its next iteration, and what it has by then comes back with `Result.CANCELLED`. `timeout` is in
        seconds, None for the client's; a solve that takes longer is stopped. A solve that is made again
        (`Retries`) begins anew, for the callback too.

        Raises
        ------
        InvalidArgument : naming the argument. NotFound : it was deleted. GridLost : the server was restarted or has
        forgotten it. FailedPrecondition : the server lacks the solver's packages. ResourceExhausted : too many solves
        are waiting. DeadlineExceeded, Unavailable, InternalError.
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        request = await asyncio.to_thread(self._request, terms, "b", b, x0, finite=False)
        return await self._solved(request, callback, seconds)

    async def solve_many(
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
        """Solve for several right-hand sides, one after the other, with one set-up.

        `b` is `(k, *grid.shape)`, `(k, unknowns)` or a sequence of right-hand sides; `x0` likewise. All are checked
        here before the first is sent. As in process, every solution has the `setup_seconds` of the shared set-up.
        `timeout` is for each; otherwise as `solve`.
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        requests = await asyncio.to_thread(self._requests, terms, b, x0)
        solutions: list[Solution] = []
        for number, request in enumerate(requests):
            with numbered_as(number):
                solutions.append(await self._solved(request, callback, seconds))
        return with_one_set_up(solutions)

    async def _solutions(self, found: AsyncGenerator[Solution, None]) -> AsyncIterator[Solution]:
        with self._in_use():
            async with aclosing(found):
                async for one in found:
                    yield one

    async def delete(self) -> None:
        """Have the server forget it; NotFound where it already has."""
        await self._end(repeated=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owner.ended:  # the server forgets it with its client; in a forked child it is the parent's
            return
        # What is gone is what is wanted; and where the block failed, its error matters more than this one.
        with suppress(errors.NotFound if error is None else errors.RelaxonError):
            await self._end(repeated=error is None)

    async def _end(self, repeated: bool) -> None:
        await self._caller.delete(*self._deletion(), repeated=repeated)
        self._deleted = True
        self._handover.close()

    @abstractmethod
    def _deletion(self) -> tuple[Callable[..., Any], Any]:
        """The stub's method that deletes it, and its message."""

    async def _solved(self, request: SolveRequest, callback: Callback | None, seconds: float) -> Solution:
        attempts = self._caller.attempts(seconds)
        while True:
            try:
                # The file is borrowed for each attempt: a server that went away may still be writing to it.
                with self._in_use(), self._handover.lent() as places:
                    return await solve(
                        self._caller, self._method, request, callback, places, attempts.left(), self._wire
                    )
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
