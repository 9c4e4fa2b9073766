"""The messages of a sequence of steps; nothing here makes a call or waits for one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.masked import plain_array
from relaxon.proto import poisson_pb2 as pb
from relaxon.solvers.grid.poisson_grid import CellType
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.solve import SolutionReader, SolveTerms, is_column, masked_names, side, side_requests
from relaxon.wire.handover import Places, Sheet

Unchanged = Literal["unchanged"]
Kappa = ArrayLike | Sequence[ArrayLike] | None
Reaction = float | ArrayLike | None
AHEAD = 2
"""Steps that are on their way at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A step's right-hand side and, where the geometry moves, what the grid is from this step on."""

    b: ArrayLike
    cells: ArrayLike | None = None
    """None for those of the step before."""
    coefficient: Kappa | Unchanged = "unchanged"
    """None for 1 everywhere."""
    reaction: Reaction | Unchanged = "unchanged"
    """σ, a number or an array; None for 0."""
    volume: ArrayLike | Unchanged | None = "unchanged"
    """None for whole cells."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Other cells, another κ, σ or volumes, checked and ready to be sent."""

    cells: NDArray[np.uint8] | None
    coefficient: tuple[NDArray[Any], ...]
    unit_coefficient: bool
    reaction: float | NDArray[Any] | None = None
    zero_reaction: bool = False
    volume: NDArray[Any] | None = None
    whole_cells: bool = False

    @classmethod
    def of(
        cls,
        cells: ArrayLike | None,
        coefficient: Kappa | Unchanged,
        shape: tuple[int, ...],
        reaction: Reaction | Unchanged = "unchanged",
        volume: ArrayLike | Unchanged | None = "unchanged",
    ) -> Change | None:
        """None where nothing changes. Shapes and types are checked here, values by the server."""
        kappa: tuple[NDArray[Any], ...] = ()
        unchanged = isinstance(coefficient, str)
        if unchanged and coefficient != "unchanged":
            raise ValueError(
                f"coefficient must be an array, a sequence of them, None or 'unchanged', got {coefficient!r}"
            )
        if coefficient is not None and not unchanged:
            kappa = _kappa(coefficient, shape)
        sigma, parts = _term("reaction", reaction, shape), _term("volume", volume, shape)
        zero = reaction is None or (isinstance(sigma, float) and sigma == 0.0)
        whole = volume is None
        if cells is None and unchanged and sigma is None and parts is None and not (zero or whole):
            return None
        return cls(
            None if cells is None else _cells(cells, shape),
            kappa,
            coefficient is None,
            None if zero else sigma,
            zero,
            None if parts is None else np.asarray(parts),
            whole,
        )

    @property
    def needs_extended(self) -> bool:
        """Whether an older server would ignore some of it."""
        return self.reaction is not None or self.volume is not None or self.zero_reaction or self.whole_cells

    @property
    def unknowns(self) -> int | None:
        """How many the changed grid has; None where the cells stay."""
        return None if self.cells is None else int(np.count_nonzero(self.cells == CellType.FLUID))

    def message(self) -> pb.GridChange:
        """As a header announces it."""
        array = isinstance(self.reaction, np.ndarray)
        return pb.GridChange(
            cells=None if self.cells is None else tensors.header_of(self.cells),
            coefficient=[tensors.header_of(one) for one in self.coefficient],
            unit_coefficient=self.unit_coefficient,
            reaction=None if array else self.reaction,  # type: ignore[arg-type]
            reaction_array=tensors.header_of(self.reaction) if array else None,  # type: ignore[arg-type]
            zero_reaction=self.zero_reaction,
            volume=None if self.volume is None else tensors.header_of(self.volume),
            whole_cells=self.whole_cells,
        )

    def requests(self, kind: Any, wire: Wire) -> Iterator[Any]:
        """Its arrays' parts in messages of that class."""
        if self.cells is not None:
            yield from chunks.messages_of(kind, "cells", self.cells, checksum=wire.checksums)
        for array in self.coefficient:
            yield from chunks.messages_of(kind, "coefficient", array, checksum=wire.checksums)
        if isinstance(self.reaction, np.ndarray):
            yield from chunks.messages_of(kind, "reaction", self.reaction, checksum=wire.checksums)
        if self.volume is not None:
            yield from chunks.messages_of(kind, "volume", self.volume, checksum=wire.checksums)


class SteppedChange(Protocol):
    """What changes with a step."""

    def message(self) -> Any:
        """As a header announces it."""

    def requests(self, kind: Any, wire: Wire) -> Iterator[Any]:
        """Its arrays' parts in messages of that class."""


LONGEST_SECONDS = 1e9
"""What a step may take, where it may take longer than anybody waits: the wire has no more room."""


class StepMessages(ABC):
    """Makes each step's messages, and a reader for its replies."""

    _requests: ClassVar[Any]
    """The class of the messages."""

    def __init__(self, wire: Wire, places: Places | None) -> None:
        self._wire = wire
        self._places = places
        self._masked_start: tuple[str, ...] = ()
        """"x0", until the first step is made, where that holds masked entries."""
        self._readers: list[SolutionReader] = []
        """Of the steps that were not answered when the last one was made."""

    def header(
        self, grid_id: str, terms: SolveTerms, x0: NDArray[Any] | None, warm: bool, seconds: float, masked: bool = False
    ) -> list[Any]:
        """What comes before the first step; `seconds` are those that each step may take, `masked` whether `x0` was."""
        self._masked_start = ("x0",) if masked else ()
        header = pb.StepsHeader(grid_id=grid_id, cold=not warm)
        terms.fill(header, self._wire)
        header.step_timeout.FromMilliseconds(round(1000 * min(seconds, LONGEST_SECONDS)))
        if x0 is None:
            return [self._requests(header=header)]
        header.x0.CopyFrom(tensors.header_of(x0))
        parts = chunks.messages_of(self._requests, "x0", x0, checksum=self._wire.checksums)
        return [self._requests(header=header), *parts]

    def cancel(self, number: int) -> Any:
        """The message that stops a step."""
        return self._requests(cancel=pb.CancelStep(step=number))

    @abstractmethod
    def _taken(self, step: Any) -> tuple[ArrayLike, SteppedChange | None]:
        """A step's right-hand side, and what changes with it, if anything."""

    @property
    @abstractmethod
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of right-hand sides, the last step's change made."""

    @abstractmethod
    def _header(self, b: NDArray[Any], change: SteppedChange | None) -> Any:
        """A step's header."""

    def step(self, step: Any) -> tuple[list[Any], SolutionReader]:
        """A step's messages, which hold all of it: the caller's arrays may change from then on, but for a right-hand
        side that lies in the shared file."""
        given, change = self._taken(step)
        b = side("b", given, self._shapes, finite=False)
        self._readers = [one for one in self._readers if one.kept is not None]
        if any(np.may_share_memory(b, one.kept) for one in self._readers if one.kept is not None):
            raise ValueError(
                "b must not be in the memory of a step that is not answered yet, which the server reads there: ask "
                "`empty` for an array for each step, or solve with read_ahead=False"
            )
        header = self._header(b, change)
        right, reader = side_requests(self._requests, header, b, self._wire, self._places, Sheet)
        reader.column = is_column(given, b)
        reader.masked = (*masked_names(given), *self._masked_start)
        self._masked_start = ()
        messages = [self._requests(step=header)]
        if change is not None:
            messages += change.requests(self._requests, self._wire)
        self._readers.append(reader)
        return [*messages, *right], reader


class GridStepMessages(StepMessages):
    """Those of steps on a grid."""

    _requests = pb.StepsRequest

    def __init__(
        self,
        shape: tuple[int, ...],
        unknowns: int,
        wire: Wire,
        places: Places | None,
        on_change: Callable[[int], None],
        check: Callable[[Change], None],
    ) -> None:
        """`on_change` is told how many unknowns a step leaves the grid with; `check` refuses what a server ignores."""
        super().__init__(wire, places)
        self._shape = shape
        self._unknowns = unknowns
        self._on_change = on_change
        self._check = check

    def _taken(self, step: ArrayLike | Step) -> tuple[ArrayLike, Change | None]:
        given = step if isinstance(step, Step) else Step(step)
        change = Change.of(given.cells, given.coefficient, self._shape, given.reaction, given.volume)
        if change is not None:
            self._check(change)
        if change is not None and change.unknowns is not None:
            self._unknowns = change.unknowns
            self._on_change(self._unknowns)
        return given.b, change

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return self._shape, (self._unknowns,)

    def _header(self, b: NDArray[Any], change: Any) -> pb.StepHeader:
        return pb.StepHeader(b=tensors.header_of(b), change=None if change is None else change.message())


def _cells(value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    array = plain_array("cells", value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"cells must be integers (CellType values), got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"cells must have the grid's shape {shape}, got {array.shape}")
    if array.dtype != np.uint8 and (int(array.min()) < CellType.FLUID or int(array.max()) > CellType.AIR):
        raise ValueError(f"cells must be FLUID (0), SOLID (1) or AIR (2), got {int(array.min())} to {int(array.max())}")
    return array.astype(np.uint8, copy=False)


def _term(name: str, value: Any, shape: tuple[int, ...]) -> float | NDArray[Any] | None:
    """A new σ or new volumes; None where they stay as they are or go."""
    if value is None or (isinstance(value, str) and value == "unchanged"):
        return None
    if name == "reaction" and np.ndim(value) == 0:
        return validation.non_negative_float(name, value)
    array = validation.real_array(name, value, finite=False)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def _kappa(coefficient: Any, shape: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
    if not isinstance(coefficient, tuple | list):
        array = validation.real_array("coefficient", coefficient, finite=False)
        if array.shape != shape:
            raise ValueError(f"coefficient must have shape {shape}, got {array.shape}")
        return (array,)
    if len(coefficient) != len(shape):
        raise ValueError(
            f"coefficient must be an array of the grid's shape or {len(shape)} arrays of face values, "
            f"got {len(coefficient)} arrays"
        )
    faces = []
    for axis, values in enumerate(coefficient):
        face = validation.real_array(f"coefficient[{axis}]", values, finite=False)
        expected = tuple(n + (a == axis) for a, n in enumerate(shape))
        if face.shape != expected:
            raise ValueError(f"coefficient[{axis}] must have shape {expected}, got {face.shape}")
        faces.append(face)
    return tuple(faces)
