"""What a client knows of a grid or a matrix that a server keeps, and a solve's arguments checked against it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.html import table
from relaxon.core.masked import is_masked
from relaxon.core.naming import on_device
from relaxon.core.solve_options import SolveOptions
from relaxon.core.sparse_matrix import SparseMatrix
from relaxon.proto import linear_pb2
from relaxon.proto import poisson_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.grid import check_extended
from relaxon.wire.conversions.grid_change import GridChange
from relaxon.wire.conversions.matrix import MatrixStepMessages, SentMatrix, ValuesChange, change_values
from relaxon.wire.conversions.solution import SolutionReader
from relaxon.wire.conversions.solve import (
    Shapes,
    SolveTerms,
    find_masked,
    is_column,
    number_refusal,
    side,
    solve_requests,
    split_sides,
)
from relaxon.wire.conversions.steps import GridStepMessages, StepMessages
from relaxon.wire.handover import Handover, Slots
from relaxon.wire.ownership import NotPickled, Owner


class SolveRequest:
    """A checked solve, which may be attempted several times."""

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
        """`column` says that `b` was given as a column; `masked` names masked arguments, as in `SolutionReader`."""
        self._session_id = session_id
        self._terms = terms
        self._b = b
        self._x0 = x0
        self._wire = wire
        self._column = column
        self._masked = masked

    def attempt(self, places: Slots | None) -> tuple[Iterator[pb.SolveRequest], SolutionReader]:
        """Return the messages of one attempt and the reader of its replies.

        Arrays lie in the shared file on return, where there is room. The places belong to this attempt alone.
        """
        header = pb.SolveHeader(grid_id=self._session_id)
        self._terms.write(header)
        with errors.refusals():
            messages, reader = solve_requests(header, self._b, self._x0, self._wire, places)
        reader.column, reader.masked = self._column, self._masked
        return messages, reader


class SystemHandle(NotPickled, ABC):
    """Base of the grids and matrices of the blocking and the asyncio client."""

    _default_solver: ClassVar[str]
    id: str
    unknowns: int
    singular_components: int
    """Components without a fixed value, over each of which `b` must sum to zero: fluid that touches neither air nor a
    Dirichlet side, or rows that sum to zero."""
    setup_seconds: float
    """Seconds that the server spent on checking the system, or its newest change, and finding its components."""
    expires: datetime
    """When the server would forget the system if it were not used after it was made."""
    _wire: Wire
    _handover: Handover
    _owner: Owner
    _complex_valued = False
    """Whether solutions are complex even for real right-hand sides."""

    def _note_server(self, target: str) -> None:
        """Note which server keeps the system, and that it was there just now."""
        self._target = target
        self._used = time.monotonic()
        self._deleted = False

    @property
    @abstractmethod
    def _shapes(self) -> Shapes:
        """The shapes of right-hand sides and initial guesses."""

    @abstractmethod
    def _new_step_messages(self, places: Slots | None) -> StepMessages:
        """Return the maker of a sequence's messages, with a shared file's places."""

    def _note(self, kept: pb.Grid | linear_pb2.Matrix) -> None:
        """Note what the server said of the system that it keeps."""
        self.id = kept.id
        self.unknowns = kept.unknowns
        self.expires = kept.expire_time.ToDatetime(UTC)
        self._note_change(kept)

    def _note_change(self, kept: pb.Grid | linear_pb2.Matrix) -> None:
        self.singular_components = kept.singular_components
        self.setup_seconds = kept.setup_seconds

    def empty(self, dtype: DTypeLike = np.float64, *, packed: bool = False) -> NDArray[Any]:
        """Return an uninitialised array (as `numpy.empty`) to write a right-hand side into and hand over.

        If the server is on this machine and there is room, the array lies in memory that the server shares, and handing
        it over, whole or as any contiguous part, copies nothing. It is an ordinary array with one exception:
        `solve_steps` reads it in place, so do not change it before the solution of its step has come. With `read_ahead`
        that is after the next step is asked for: take a new array for each step. As a rule two such arrays are
        available at a time; further ones lie in ordinary memory. The memory is reused once the last array on it is
        gone.

        Parameters
        ----------
        dtype : float64, float32, complex128 or complex64.
        packed : True for one entry per unknown instead of the grid's shape.

        Raises
        ------
        InvalidArgument : for any other dtype.
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
        """Guard a call on the system: if the server does not know it, the error says what may have happened."""
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
            options = SolveOptions(rtol, atol, max_iterations, inconsistent)
            return SolveTerms.of(name, options, progress, self._wire)

    def _request(
        self, terms: SolveTerms, name: str, b: ArrayLike, x0: ArrayLike | None, finite: bool = True
    ) -> SolveRequest:
        """Check a solve's arguments as far as the client can, with the messages of the in-process solve.

        With `finite=False`, entries that are not finite are refused only when they are sent.
        """
        with errors.refusals():
            right = side(name, b, self._shapes, finite=finite)
            start = None if x0 is None else side("x0", x0, self._shapes, finite=finite)
            if start is not None and right.dtype.kind != "c" and not self._complex_valued:
                start = validation.real_array("x0", start, finite=False)
        return SolveRequest(self.id, terms, right, start, self._wire, is_column(b, right), find_masked(b, x0))

    def _step_messages(
        self, terms: SolveTerms, x0: ArrayLike | None, warm_start: bool, seconds: float
    ) -> Callable[[Slots | None], tuple[list[Any], StepMessages]]:
        """Check the initial guess, and return a function of a shared file's places that begins a sequence of steps.

        That function returns the first messages, and what makes the messages of the steps.
        """
        with errors.refusals():
            start = None if x0 is None else side("x0", x0, self._shapes)
        masked = is_masked(x0)

        def messages_for(places: Slots | None) -> tuple[list[Any], StepMessages]:
            messages = self._new_step_messages(places)
            return messages.header(self.id, terms, start, warm_start, seconds, masked), messages

        return messages_for

    def _requests(
        self, terms: SolveTerms, b: ArrayLike | Sequence[ArrayLike], x0: ArrayLike | Sequence[ArrayLike] | None
    ) -> list[SolveRequest]:
        """Check several right-hand sides; all of them are checked before the first is sent."""
        with errors.refusals():
            pairs = list(zip(*split_sides(b, x0, self._shapes), strict=True))
        return [self._request(terms, f"b[{i}]", right, start) for i, (right, start) in enumerate(pairs)]


class GridHandle(SystemHandle):
    """What a client knows of a grid that a server keeps."""

    _default_solver = "dcdm"

    def _note_kept(self, kept: pb.Grid, shape: tuple[int, ...]) -> None:
        """Note what the server said of the grid."""
        self._note(kept)
        self.shape = shape
        self.extended: bool = kept.extended
        """Whether the server knows reactions, volumes and the widths of single cells."""

    def _note_reply(self, reply: pb.Grid) -> None:
        self._set_unknowns(reply.unknowns)
        self._note_change(reply)

    def _set_unknowns(self, unknowns: int) -> None:
        self.unknowns = unknowns

    def _new_step_messages(self, places: Slots | None) -> GridStepMessages:
        return GridStepMessages(self.shape, self.unknowns, self._wire, places, self._set_unknowns, self._check_change)

    def _check_change(self, change: GridChange[NDArray[Any]]) -> None:
        check_extended(self.extended, change.needs_extended)

    @property
    def _shapes(self) -> Shapes:
        return self.shape, (self.unknowns,)

    def __repr__(self) -> str:
        return f"RemoteGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns)"

    def _repr_html_(self) -> str:
        rows = {
            "shape": "×".join(map(str, self.shape)),
            "unknowns": f"{self.unknowns:,}",
            "components without a fixed value": self.singular_components,
            "server": self._target,
            "id": self.id,
        }
        return table("grid on a server", rows)


class MatrixHandle(SystemHandle):
    """What a client knows of a matrix that a server keeps."""

    _default_solver = "auto"

    def _note_kept(self, kept: linear_pb2.Matrix, sent: SentMatrix) -> None:
        """Note what the server said of the matrix that it was sent."""
        self._order = sent.order()
        self._complex_valued = sent.data.dtype.kind == "c"
        self._note(kept)
        self.entries: int = kept.entries
        """The number of entries that are not zero."""

    def _change(self, matrix: SparseMatrix) -> ValuesChange[NDArray[Any]]:
        """Return new values for the matrix; InvalidArgument if they cannot be sent."""
        return change_values(matrix, self.unknowns, self._order)

    def _note_reply(self, reply: linear_pb2.Matrix) -> None:
        self.entries = reply.entries
        self._note_change(reply)

    def _new_step_messages(self, places: Slots | None) -> MatrixStepMessages:
        return MatrixStepMessages(self.unknowns, self._change, self._wire, places)

    @property
    def _shapes(self) -> Shapes:
        return ((self.unknowns,),)

    def __repr__(self) -> str:
        return f"RemoteMatrix({self.unknowns} unknowns, {self.entries} entries)"

    def _repr_html_(self) -> str:
        rows = {"unknowns": f"{self.unknowns:,}", "entries": f"{self.entries:,}", "server": self._target, "id": self.id}
        return table("matrix on a server", rows)


@contextmanager
def number_refusals(number: int) -> Iterator[None]:
    """Number the refusals of `b` in the block: the server gets one right-hand side per call and cannot know."""
    try:
        yield
    except errors.InvalidArgument as error:
        raise number_refusal(error, number) from error
