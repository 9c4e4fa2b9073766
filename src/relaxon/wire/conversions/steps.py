"""The messages of a sequence of time steps. No call is made here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.proto import poisson_pb2 as pb
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.grid_change import GridChange, Kappa, Reaction, Unchanged, change_of
from relaxon.wire.conversions.solution import SolutionReader
from relaxon.wire.conversions.solve import SolveTerms, find_masked, is_column, side, side_requests
from relaxon.wire.handover import Sheet, Slots

AHEAD = 2
"""Steps in flight at a time: one that the server solves, and the next."""
LONGEST_SECONDS = 1e9
"""The longest time limit of a step that is sent: longer than anyone waits, and short enough for the protocol."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The right-hand side of a step and, if the geometry changes, what the grid is from this step on."""

    b: ArrayLike
    cells: ArrayLike | None = None
    """None for the cells of the step before."""
    coefficient: Kappa | Unchanged = "unchanged"
    """None for 1 everywhere."""
    reaction: Reaction | Unchanged = "unchanged"
    """σ, a number or an array; None for no reaction term."""
    volume: ArrayLike | Unchanged | None = "unchanged"
    """None for whole cells."""


class SteppedChange(Protocol):
    """A change that comes with a step."""

    def message(self) -> Any:
        """Return the message that announces the change in a header."""

    def requests(self, kind: Any, wire: Wire) -> Iterator[Any]:
        """Yield the messages of class `kind` that carry the change's arrays."""


class StepMessages(ABC):
    """Makes the messages of each step, and a reader for the replies to it."""

    _requests: ClassVar[Any]
    """The class of the request messages."""
    _step_header: ClassVar[Any]
    """The class of a step's header."""

    def __init__(self, wire: Wire, places: Slots | None) -> None:
        self._wire = wire
        self._places = places
        self._masked_start: tuple[str, ...] = ()
        """("x0",) until the first step is made, if the initial guess holds masked entries."""
        self._readers: list[SolutionReader] = []
        """The readers of steps that may not be answered yet."""

    def header(
        self, grid_id: str, terms: SolveTerms, x0: NDArray[Any] | None, warm: bool, seconds: float, masked: bool = False
    ) -> list[Any]:
        """Return the messages before the first step; `seconds` limits each step, `masked` says whether `x0` was."""
        self._masked_start = ("x0",) if masked else ()
        header = pb.StepsHeader(grid_id=grid_id, cold=not warm)
        terms.write(header)
        header.step_timeout.FromMilliseconds(round(1000 * min(seconds, LONGEST_SECONDS)))
        if x0 is None:
            return [self._requests(header=header)]
        header.x0.CopyFrom(tensors.describe_array(x0))
        parts = chunks.split_into_messages(self._requests, "x0", x0, checksum=self._wire.checksums)
        return [self._requests(header=header), *parts]

    def cancel(self, number: int) -> Any:
        """Return the message that stops a step."""
        return self._requests(cancel=pb.CancelStep(step=number))

    @abstractmethod
    def _split(self, step: Any) -> tuple[ArrayLike, SteppedChange | None]:
        """Return the right-hand side of a step, and the change that comes with it, if any."""

    @property
    @abstractmethod
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of right-hand sides once the last step's change is made."""

    def step(self, step: Any) -> tuple[list[Any], SolutionReader]:
        """Return the messages of a step and the reader of the replies to it.

        The messages hold copies: the caller may change its arrays afterwards, except for a right-hand side that lies in
        the shared file.
        """
        given, change = self._split(step)
        b = side("b", given, self._shapes, finite=False)
        self._readers = [reader for reader in self._readers if reader.kept is not None]
        if any(np.may_share_memory(b, reader.kept) for reader in self._readers if reader.kept is not None):
            raise ValueError(
                "b must not be in the memory of a step that is not answered yet, from which the server still reads: "
                "take a new array from `empty` for each step, or solve with read_ahead=False"
            )
        announced = None if change is None else change.message()
        header = self._step_header(b=tensors.describe_array(b), change=announced)
        right, reader = side_requests(self._requests, header, b, self._wire, self._places, Sheet)
        reader.column = is_column(given, b)
        reader.masked = (*find_masked(given), *self._masked_start)
        self._masked_start = ()
        messages = [self._requests(step=header)]
        if change is not None:
            messages += change.requests(self._requests, self._wire)
        self._readers.append(reader)
        return [*messages, *right], reader


class GridStepMessages(StepMessages):
    """The messages of steps on a grid."""

    _requests = pb.StepsRequest
    _step_header = pb.StepHeader

    def __init__(
        self,
        shape: tuple[int, ...],
        unknowns: int,
        wire: Wire,
        places: Slots | None,
        on_change: Callable[[int], None],
        check: Callable[[GridChange[NDArray[Any]]], None],
    ) -> None:
        """`on_change` is called with the number of unknowns after a change; `check` refuses what the server ignores."""
        super().__init__(wire, places)
        self._shape = shape
        self._unknowns = unknowns
        self._on_change = on_change
        self._check = check

    def _split(self, step: ArrayLike | Step) -> tuple[ArrayLike, GridChange[NDArray[Any]] | None]:
        given = step if isinstance(step, Step) else Step(step)
        change = change_of(given.cells, given.coefficient, self._shape, given.reaction, given.volume)
        if change is not None:
            self._check(change)
        if change is not None and change.unknowns is not None:
            self._unknowns = change.unknowns
            self._on_change(self._unknowns)
        return given.b, change

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return self._shape, (self._unknowns,)
