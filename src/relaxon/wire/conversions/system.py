"""What a client knows of a system `A x = b` that a server keeps, and a solve's arguments checked against it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.masked import is_masked
from relaxon.core.naming import on_device
from relaxon.proto import poisson_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.solve import (
    SolutionReader,
    SolveTerms,
    is_column,
    masked_names,
    numbered,
    several,
    side,
    solve_requests,
)
from relaxon.wire.conversions.steps import StepMessages
from relaxon.wire.handover import Handover, Places
from relaxon.wire.ownership import NotPickled, Owner


class SolveRequest:
    """A solve that has been checked; it may be attempted several times."""

    cancel: ClassVar[pb.SolveRequest] = pb.SolveRequest(cancel=pb.Cancel())

    def __init__(
        self,
        session_id: str,
        terms: SolveTerms,
        b: NDArray[Any],
        x0: NDArray[Any] | None,
        wire: Wire,
        column: bool = False,
        masked: tuple[str, ...] = (),
    ) -> None:
        """`column` where `b` came as a column, as which the solution is given back; `masked` as `SolutionReader`'s."""
        self._session_id = session_id
        self._terms = terms
        self._b = b
        self._x0 = x0
        self._wire = wire
        self._column = column
        self._masked = masked

    def attempt(self, places: Places | None) -> tuple[Iterator[pb.SolveRequest], SolutionReader]:
        """The messages of one attempt, whose arrays lie in the shared file on return where they can, and what reads its
        replies. The places are this attempt's alone."""
        header = pb.SolveHeader(grid_id=self._session_id)
        self._terms.fill(header, self._wire)
        with errors.refusals():
            messages, reader = solve_requests(header, self._b, self._x0, self._wire, places)
        reader.column, reader.masked = self._column, self._masked
        return messages, reader


class SystemHandle(NotPickled, ABC):
    """Base of the grids and matrices of both clients."""

    _default_solver: ClassVar[str]
    id: str
    unknowns: int
    _wire: Wire
    _handover: Handover
    _owner: Owner
    _complex_valued = False
    """Whether solutions are complex whatever the right-hand side is."""

    def _kept_at(self, target: str) -> None:
        """Note which server has it, and that it has it now."""
        self._target = target
        self._used = time.monotonic()
        self._deleted = False

    @property
    @abstractmethod
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of right-hand sides and starts."""

    def empty(self, dtype: DTypeLike = np.float64, *, packed: bool = False) -> NDArray[Any]:
        """An array for a right-hand side, not initialised (as `numpy.empty`), to be written to and handed over.

        Where the server is on this machine the array lies, if there is room, in memory that it shares, and handing it
        over copies nothing. Whole or as any contiguous part it is an array like others, but for this: `solve_steps`
        reads it where it is, so do not change it before its step's solution has come. With `read_ahead` that is later
        than the next step is asked for: ask for an array for each step. Two are there at a time as a rule; who holds
        more gets others in ordinary memory. Its memory is used again when the last array on it is gone.

        Parameters
        ----------
        dtype : float64, float32, complex128 or complex64.
        packed : one entry for each unknown, rather than the grid's shape.

        Raises
        ------
        InvalidArgument : for another dtype.
        """
        self._owner.check()
        with errors.refusals():
            try:
                kind = np.dtype(dtype)
            except (TypeError, ValueError):
                kind = None
            if kind is None or kind.name not in tensors.SIDES:
                raise TypeError(f"dtype must be one of {', '.join(tensors.SIDES)}, got {dtype!r}")
        return self._handover.empty(kind.newbyteorder("="), self._shapes[-1 if packed else 0])

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """A call on it: where the server does not know it, the error says what may have happened to it."""
        try:
            yield
        except errors.NotFound as error:
            if self._deleted:
                raise
            idle = time.monotonic() - self._used
            raise errors.GridLost(
                f"{self!r} with the id {self.id!r}, last used {idle:.1f} s ago, is not on the server at {self._target} "
                "any more: the server was restarted, or it has expired, made room for others or was deleted by another "
                "client; make it again",
                error.resource_type,
                error.resource_name,
            ) from error
        self._used = time.monotonic()

    def _terms(
        self,
        solver: str | None,
        device: str | None,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        inconsistent: str,
        progress: bool,
    ) -> SolveTerms:
        with errors.refusals():
            name = on_device(self._default_solver if solver is None else solver, device, self._default_solver)
            return SolveTerms.checked(name, rtol, atol, max_iterations, inconsistent, progress)

    def _request(
        self, terms: SolveTerms, name: str, b: ArrayLike, x0: ArrayLike | None, finite: bool = True
    ) -> SolveRequest:
        """A solve's arguments, refused here where they can be, in the words of the engines; entries that are not finite
        only when they are sent where `finite` is False."""
        with errors.refusals():
            right = side(name, b, self._shapes, finite=finite)
            start = None if x0 is None else side("x0", x0, self._shapes, finite=finite)
            if start is not None and right.dtype.kind != "c" and not self._complex_valued:
                start = validation.real_array("x0", start, finite=False)
        return SolveRequest(self.id, terms, right, start, self._wire, is_column(b, right), masked_names(b, x0))

    def _step_messages(
        self,
        make: Callable[[Places | None], StepMessages],
        terms: SolveTerms,
        x0: ArrayLike | None,
        warm_start: bool,
        seconds: float,
    ) -> Callable[[Places | None], tuple[list[Any], StepMessages]]:
        """What gives, for a shared file's places, the first messages of a sequence of steps and the maker of the
        others, `make` of those places. The start is refused here where it can be."""
        with errors.refusals():
            start = None if x0 is None else side("x0", x0, self._shapes)
        masked = is_masked(x0)

        def messages_for(places: Places | None) -> tuple[list[Any], StepMessages]:
            messages = make(places)
            return messages.header(self.id, terms, start, warm_start, seconds, masked), messages

        return messages_for

    def _requests(
        self, terms: SolveTerms, b: ArrayLike | Sequence[ArrayLike], x0: ArrayLike | Sequence[ArrayLike] | None
    ) -> list[SolveRequest]:
        """The same for several right-hand sides; all are checked before the first is sent."""
        with errors.refusals():
            pairs = list(zip(*several(b, x0, self._shapes), strict=True))
        return [self._request(terms, f"b[{i}]", right, start) for i, (right, start) in enumerate(pairs)]


@contextmanager
def numbered_as(number: int) -> Iterator[None]:
    """Has refusals of `b` in the block say which of several it was: the server has one a call and cannot know."""
    try:
        yield
    except errors.InvalidArgument as error:
        raise numbered(error, number) from error
