"""One thing that the server keeps for a caller between calls, with the solvers set up for it."""

from __future__ import annotations

import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from google.protobuf.message import Message
from numpy.typing import NDArray

from relaxon.core.set_up_summary import SetUpSummary
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.wire.conversions.solve import Shapes, read_side
from relaxon.wire.shared_memory import SharedFile
from relaxon.wire.tensors import AnnouncedArray


class Announcement(Protocol):
    """What a header describes, before its arrays arrive."""

    @property
    def parts(self) -> tuple[tuple[str, AnnouncedArray], ...]:
        """The arrays to come, in their order, each with the field of the messages that carry it."""


class Change(Announcement, Protocol):
    """A change to a session, before its arrays arrive."""

    def fill(self, arrays: Sequence[NDArray[Any]]) -> Any:
        """Return the change with its arrays."""


@dataclass(slots=True)
class SetUp:
    """The place of one solver's set-up: `prepared` is None until the set-up has been made."""

    kept_bytes: int = 0
    prepared: PreparedSystem | None = None
    stale: bool = False
    """Whether the set-up is for what the session held before an update."""
    users: int = 0
    """Calls that solve with the set-up, or are about to; it is not dropped meanwhile."""

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the set-up while the block runs."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1


class Session(ABC):
    """One thing kept under an id."""

    argument: ClassVar[str]
    """The argument that an unknown id is refused as."""

    message: ClassVar[type[Any]]
    """The message that describes the session to its caller."""

    def __init__(self, content: Any, owner: str = "", shared: SharedFile | None = None, attendance: str = "") -> None:
        """`content` is what `build` built."""
        self.content = content
        """What the session holds: a new object after each update."""
        self.id = secrets.token_urlsafe(16)
        self.owner = owner
        """The caller who made it; it does not exist for others."""
        self.attendance = attendance
        """The attendance with which the session ends; empty if it only expires."""
        self.shared = shared
        """The file through which its caller, on this machine, hands arrays over."""
        self.users = 0
        """Calls that work on it; a session in use is never evicted."""
        self.created = time.time()
        self.expires = 0.0
        self.running = threading.Lock()
        """Held by the worker thread that uses the solvers: a set-up solves for one right-hand side at a time."""
        self.set_ups: OrderedDict[str, SetUp] = OrderedDict()
        self.own_bytes = self.count_bytes()
        """Bytes counted for the session without its solvers and shared memory."""

    @staticmethod
    @abstractmethod
    def read_header(header: Any) -> Announcement:
        """Return what a header describes; ValueError or TypeError naming the argument that is refused."""

    @classmethod
    @abstractmethod
    def measure(cls, plan: Any) -> tuple[int, int]:
        """Return the number of cells or unknowns of what a header describes, and the bytes that will be kept for it."""

    @classmethod
    @abstractmethod
    def build(cls, plan: Any, arrays: list[NDArray[Any]]) -> Any:
        """Check the arrays that have arrived and build what the session keeps; in a worker thread."""

    @staticmethod
    @abstractmethod
    def find_solver(name: str) -> Any:
        """Return the solver of a name; ServiceError if it is unknown or cannot be used on this server."""

    @abstractmethod
    def count_bytes(self) -> int:
        """Return the bytes to be counted for the content."""

    @abstractmethod
    def describe_content(self) -> dict[str, Any]:
        """Return the fields of `message` that describe the content alone."""

    def describe(self, setup_seconds: float) -> Message:
        """Return the message that describes the session to its caller."""
        reply = self.message(
            id=self.id,
            unknowns=self.unknowns,
            setup_seconds=setup_seconds,
            shared=self.shared is not None,
            **self.describe_content(),
        )
        reply.expire_time.FromMilliseconds(int(1000 * self.expires))
        described: Message = reply
        return described

    @property
    @abstractmethod
    def cells(self) -> int:
        """Cells or unknowns, as the limits count them."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of its cells, or of its vectors."""

    @property
    def unknowns(self) -> int:
        return int(self.content.unknowns)

    @property
    def side_shapes(self) -> Shapes:
        """The shapes that right-hand sides may have; the last is that of a vector of the unknowns."""
        return ((self.unknowns,),)

    @property
    def complex_valued(self) -> bool:
        """Whether solutions are complex even for real right-hand sides."""
        return False

    @abstractmethod
    def array_bytes(self) -> int:
        """Return the bytes of what the caller has sent, without what the solvers have set up."""

    @abstractmethod
    def read_change(self, change: Any) -> Change:
        """Return what a message announces; ValueError or TypeError naming the argument that is refused."""

    @abstractmethod
    def measure_change(self, change: Any) -> int:
        """Return the bytes that a change takes while it is uploaded and made."""

    @abstractmethod
    def apply(self, change: Any) -> None:
        """Make a change whose arrays have arrived. In a worker thread, with `running` held."""

    def read_step_side(self, header: Any, changed: bool) -> AnnouncedArray:
        """Return the announced `b` of a step.

        `changed` says whether a step has announced a change, which may not have been made yet.
        """
        return read_side("b", header.b, self.side_shapes)

    def carry(self, start: NDArray[Any] | None, content: Any) -> NDArray[Any] | None:
        """Return an initial guess that was made for an earlier `content` in a form that outlives it."""
        return start

    @property
    def bytes(self) -> int:
        """The memory that is counted for the session."""
        shared = 0 if self.shared is None else self.shared.size
        # A copy of the list: a worker thread may change its own entry meanwhile.
        return self.own_bytes + shared + sum(place.kept_bytes for place in list(self.set_ups.values()))

    def solver_names(self) -> list[str]:
        """Return the solvers that are set up for the session."""
        return [name for name, place in list(self.set_ups.items()) if place.prepared is not None]

    def set_up_labels(self) -> list[str]:
        """Return the same with the number of their levels, where they have some, for people."""
        labels = {name: _label(name, summary) for name, summary in self.summaries()}
        return [labels.get(name, name) for name in self.solver_names()]

    def summaries(self) -> list[tuple[str, SetUpSummary]]:
        """Return the summaries of the set-ups that have one, each with its solver's name."""
        made = [(name, place.prepared) for name, place in list(self.set_ups.items())]
        found = [(name, None if prepared is None else prepared.summary()) for name, prepared in made]
        return [(name, summary) for name, summary in found if summary is not None]

    def mark_stale(self) -> None:
        """Note that the session holds something else now, so that its set-ups are to be updated."""
        for place in list(self.set_ups.values()):
            place.stale = True

    def prepare(self, name: str, solver: Any) -> tuple[PreparedSystem, float]:
        """Return the solver set up, and the seconds just spent on that. In a worker thread, with `running` held."""
        place = self.set_ups[name]  # which stays for as long as a call has it
        if place.prepared is not None and not place.stale:
            return place.prepared, 0.0
        before, place.prepared, place.stale = place.prepared, None, False
        try:
            place.prepared = self._set_up(solver, before)
        except BaseException:
            place.kept_bytes = 0  # nothing is kept; the next call has it counted again
            raise
        return place.prepared, place.prepared.setup_seconds

    @abstractmethod
    def footprint(self, solver: str) -> tuple[int, int]:
        """Return the bytes that a solver's set-up keeps, and those that it and a solve need besides."""

    @abstractmethod
    def _set_up(self, solver: Any, before: PreparedSystem | None) -> PreparedSystem:
        """Set a solver up. `before` is the set-up from before an update, whose memory may be taken over."""


def _label(name: str, summary: SetUpSummary) -> str:
    if not summary.levels:
        return name
    return f"{name} ({len(summary.levels)} levels, operator complexity {summary.operator_complexity:.2f})"
