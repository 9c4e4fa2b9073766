"""What a grid and a matrix on a server have in common: solves, and an end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike, NDArray

from relaxon.client import errors
from relaxon.client.handover import Handover
from relaxon.client.solve_call import SolveCall
from relaxon.client.solve_messages import Inconsistent, SolveTerms, numbered, several, side, with_one_set_up
from relaxon.client.wire import Wire
from relaxon.proto import poisson_pb2 as pb
from relaxon.solvers import validation
from relaxon.solvers.solution import Callback, Solution


class RemoteSystem(ABC):
    """A system `A x = b` that a server keeps."""

    default_solver: ClassVar[str]
    id: str
    unknowns: int

    def __init__(
        self, method: Callable[..., Any], handover: Handover, timeout: float, transfer_timeout: float, wire: Wire
    ) -> None:
        """`method` is the stub's that solves."""
        self._method = method
        self._handover = handover
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout
        self._wire = wire

    def solve(
        self,
        b: ArrayLike,
        *,
        solver: str | None = None,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> Solution:
        """Solve `A x = b` on the server; the arguments and the result are those of `relaxon.solvers.solve`.

        Differences: `solver` is a name, None for "dcdm" on a grid and "auto" with a matrix. `setup_seconds` is what the
        set-up took in this call: 0 where an earlier solve has done it. `callback` sees the newest iteration about every
        50 ms rather than each one (`residuals` has them all); where it returns True the solve stops at its next
        iteration, and what it has by then comes back with `Result.CANCELLED`. `timeout` is in seconds, None for the
        client's; a solve that takes longer is stopped.

        Raises
        ------
        InvalidArgument : naming the argument. NotFound : it was deleted or has expired. FailedPrecondition : the server
        lacks the solver's packages. ResourceExhausted : too many solves are waiting, or there is not enough memory.
        DeadlineExceeded, Unavailable, InternalError.
        """
        with errors.refusals():
            seconds = self._seconds(timeout)
            terms = SolveTerms.checked(
                solver or self.default_solver, rtol, atol, max_iterations, inconsistent, callback is not None
            )
            right, start = self._sides("b", b, x0)
        return self._call(terms, right, start, callback, seconds)

    def solve_many(
        self,
        b: ArrayLike | Sequence[ArrayLike],
        *,
        solver: str | None = None,
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
        with errors.refusals():
            seconds = self._seconds(timeout)
            terms = SolveTerms.checked(
                solver or self.default_solver, rtol, atol, max_iterations, inconsistent, callback is not None
            )
            pairs = [
                self._sides(f"b[{i}]", right, start)
                for i, (right, start) in enumerate(zip(*several(b, x0), strict=True))
            ]
        solutions = []
        for i, (right, start) in enumerate(pairs):
            try:
                solutions.append(self._call(terms, right, start, callback, seconds))
            except errors.InvalidArgument as error:
                raise numbered(error, i) from error
        return with_one_set_up(solutions)

    @abstractmethod
    def delete(self) -> None:
        """Have the server forget it; NotFound where it already has."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A grid that is gone is what is wanted; and where the block failed, its error matters more than this one.
        with suppress(errors.NotFound if error is None else errors.RelaxonError):
            self.delete()

    @property
    @abstractmethod
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of right-hand sides and starts."""

    def _sides(self, name: str, b: ArrayLike, x0: ArrayLike | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
        right = side(name, b, self._shapes)
        start = None if x0 is None else side("x0", x0, self._shapes)
        if start is not None and start.dtype.kind == "c" and right.dtype.kind != "c":
            raise TypeError(f"x0 must be real where b is, got dtype {start.dtype}")
        return right, start

    def _call(
        self,
        terms: SolveTerms,
        b: NDArray[Any],
        x0: NDArray[Any] | None,
        callback: Callback | None,
        seconds: float,
    ) -> Solution:
        header = pb.SolveHeader(grid_id=self.id)
        terms.fill(header, self._wire)
        with self._handover.lent() as shared:
            return SolveCall(header, b, x0, callback, self._wire, shared).run(self._method, seconds)

    def _seconds(self, timeout: float | None) -> float:
        return self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
