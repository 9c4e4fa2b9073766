"""What the server keeps for its callers between calls: grids and matrices with the solvers set up for them.

All memory that calls take is admitted here before it is allocated: a budget in bytes for the whole server, and quotas
for each caller. Used from the event loop's thread only, but for `Session.prepared`.
"""

from __future__ import annotations

import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from relaxon.core.set_up_summary import SetUpSummary
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.identity import Caller
from relaxon.server.solving.footprint import machine_bytes
from relaxon.solvers.interface.front import Front
from relaxon.wire.shared_memory import SharedFile

RETRY_SECONDS = 1.0


@dataclass(slots=True)
class SetUp:
    """A place for one solver's set-up: `front` is None until it has been made."""

    kept_bytes: int = 0
    front: Front | None = None
    stale: bool = False
    """Made for what the session held before an update."""
    users: int = 0
    """Calls that solve with it, or are about to; it stays meanwhile."""

    @contextmanager
    def used(self) -> Iterator[None]:
        """Stays while the block runs."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1


class Session(ABC):
    """One thing kept under an id."""

    kind: ClassVar[str]
    """The full name of its message."""
    argument: ClassVar[str]
    """What its id is called where it is not known."""

    def __init__(self, owner: str, kept_bytes: int, shared: SharedFile | None = None, attendance: str = "") -> None:
        self.id = secrets.token_urlsafe(16)
        self.owner = owner
        """The caller who had it made; to others it is not there."""
        self.attendance = attendance
        """Without which it goes; empty where it only expires."""
        self.shared = shared
        """Through which its caller, on this machine, hands arrays over."""
        self.users = 0
        """Calls that work on it; one that is in use is not made room of."""
        self.created = time.time()
        self.expires = 0.0
        self.running = threading.Lock()
        """Held by the worker thread that uses the solvers: a set-up runs one right-hand side at a time."""
        self.set_ups: OrderedDict[str, SetUp] = OrderedDict()
        self.own_bytes = kept_bytes

    @property
    @abstractmethod
    def cells(self) -> int:
        """Cells or unknowns, as the limits count them."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of its cells, or of its vectors."""

    @property
    @abstractmethod
    def unknowns(self) -> int: ...

    @property
    def complex_valued(self) -> bool:
        """Whether solutions are complex whatever the right-hand side is."""
        return False

    @property
    @abstractmethod
    def content(self) -> object:
        """What it holds: another object after each update."""

    @abstractmethod
    def array_bytes(self) -> int:
        """Bytes of what its caller has sent; what the solvers have set up is not counted."""

    @property
    def bytes(self) -> int:
        """Memory that is counted for it."""
        shared = 0 if self.shared is None else self.shared.size
        # A list at once: a worker thread may take its own place away meanwhile.
        return self.own_bytes + shared + sum(one.kept_bytes for one in list(self.set_ups.values()))

    def solver_names(self) -> list[str]:
        """The solvers that are set up for it."""
        return [name for name, place in list(self.set_ups.items()) if place.front is not None]

    def set_up_labels(self) -> list[str]:
        """The same with their levels, where they have some, for people."""
        labels = {name: _label(name, summary) for name, summary in self.summaries()}
        return [labels.get(name, name) for name in self.solver_names()]

    def summaries(self) -> list[tuple[str, SetUpSummary]]:
        """What the set-ups tell of themselves, by the solver's name."""
        fronts = [(name, place.front) for name, place in list(self.set_ups.items())]
        told = [(name, None if front is None else front.summary()) for name, front in fronts]
        return [(name, summary) for name, summary in told if summary is not None]

    def prepared(self, name: str, solver: Any) -> tuple[Front, float]:
        """The solver set up, and the seconds spent on that now. In a worker thread, with `running` held."""
        place = self.set_ups[name]  # which stays for as long as a call has it
        if place.front is not None and not place.stale:
            return place.front, 0.0
        before, place.front, place.stale = place.front, None, False
        try:
            place.front = self._set_up(solver, before)
        except BaseException:
            place.kept_bytes = 0  # nothing is kept; the next call has it counted again
            raise
        return place.front, place.front.setup_seconds

    @abstractmethod
    def footprint(self, solver: str) -> tuple[int, int]:
        """Bytes that a solver's set-up keeps, and that it and a solve need beside that."""

    @abstractmethod
    def _set_up(self, solver: Any, before: Front | None) -> Front:
        """`before` is the set-up for what the session held before an update; its memory may be taken over."""


def _label(name: str, summary: SetUpSummary) -> str:
    if not summary.levels:
        return name
    return f"{name} ({len(summary.levels)} levels, operator complexity {summary.operator_complexity:.2f})"


class SessionStore:
    """Kept sessions, the longest unused first, and the memory that they and the running calls take."""

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._leaving: dict[str, Session] = {}
        """Forgotten, and still in use by calls that had begun before; their memory is counted until those end."""
        self._held: dict[str, int] = {}
        """Bytes of calls and uploads, by caller."""
        self._coming: dict[str, tuple[int, int]] = {}
        """Sessions and cells that are being uploaded, by caller."""
        self.budget = settings.memory_bytes or machine_bytes() // 2
        """Bytes that all sessions and calls may take together."""

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def bytes(self) -> int:
        """Memory that is counted at the moment."""
        return self._counted(None)

    @property
    def cells(self) -> int:
        """Of all that are kept or are being uploaded."""
        return self._cells()

    def kept(self) -> list[Session]:
        """All that is kept, the longest unused first."""
        return list(self._sessions.values())

    @contextmanager
    def reserve(self, owner: str, cells: int, kept_bytes: int, passing_bytes: int) -> Iterator[None]:
        """Room for a session while it is uploaded and checked, in all limits; `passing_bytes` are taken beside what
        it will keep.

        Expired sessions go, then set-ups of those not in use, then those themselves, the longest unused first and,
        where it is a caller's own quota that is short, its own alone. RESOURCE_EXHAUSTED where that does not make
        enough.
        """
        settings = self._settings
        if cells > settings.max_cells:
            raise errors.exhausted("cells", f"cells must number at most {settings.max_cells} here, got {cells}")
        self.drop_expired()
        for subject, limit, counted, more in (
            ("client_sessions", settings.max_client_sessions, self._count, 1),
            ("client_cells", settings.max_client_cells, self._cells, cells),
        ):
            while limit and counted(owner) + more > limit:
                self._drop_idle(owner, subject, f"{subject}: this caller's would be more than {limit}")
        while self._cells() + cells > settings.max_total_cells or self._count() + 1 > settings.max_grids:
            self._drop_idle(
                None,
                "grids",
                f"cells of all grids would be more than {settings.max_total_cells}, or the grids more than "
                f"{settings.max_grids}",
            )
        count, coming = self._coming.get(owner, (0, 0))
        self._coming[owner] = (count + 1, coming + cells)
        try:
            with self.hold(owner, kept_bytes + passing_bytes):
                yield
        finally:
            count, coming = self._coming.pop(owner)
            if count > 1:
                self._coming[owner] = (count - 1, coming - cells)

    @contextmanager
    def hold(self, owner: str, amount: int) -> Iterator[None]:
        """Memory for a call while the block runs; RESOURCE_EXHAUSTED where there is not so much."""
        self.take(owner, amount)
        try:
            yield
        finally:
            self.give_back(owner, amount)

    def take(self, owner: str, amount: int) -> None:
        """Count memory for a caller until it is given back; RESOURCE_EXHAUSTED where there is not so much."""
        self._make_room(owner, amount)
        self.keep(owner, amount)

    def keep(self, owner: str, amount: int) -> None:
        """Count memory that is taken already."""
        self._held[owner] = self._held.get(owner, 0) + amount

    def give_back(self, owner: str, amount: int) -> None:
        """Count it no more."""
        left = self._held.pop(owner, 0) - amount
        if left > 0:
            self._held[owner] = left

    def add(self, session: Session) -> None:
        """Keep a session, from now for the time to live."""
        self._sessions[session.id] = session
        self._touch(session)

    @contextmanager
    def set_up(self, session: Session, name: str) -> Iterator[SetUp]:
        """A place, counted, for a solver's set-up, whether it has been made or not, while the block runs. Use it while
        the session is in use. RESOURCE_EXHAUSTED where there is no room for it."""
        kept, _ = session.footprint(name)
        place = session.set_ups.get(name)
        if place is None:
            self._make_place(session)
        more = kept - (0 if place is None else place.kept_bytes)
        if more > 0:
            self._make_room(session.owner, more)
        place = session.set_ups.setdefault(name, SetUp())
        place.kept_bytes = kept
        session.set_ups.move_to_end(name)
        with place.used():
            yield place

    def _make_place(self, session: Session) -> None:
        """Drop those of a session's set-ups that are one too many. Before the new one is made, so that two large
        hierarchies need not fit at once."""
        limit = self._settings.max_solvers_per_grid
        while len(session.set_ups) >= limit:
            idle = next((name for name, place in session.set_ups.items() if not place.users), None)
            if idle is None:
                raise errors.exhausted(
                    "set_ups", f"set_ups: {limit} of this are in use, which is this server's limit", RETRY_SECONDS
                )
            del session.set_ups[idle]

    def find(self, session_id: str, caller: Caller, kind: type[Session]) -> Any:
        """The session of that id and kind, used now; NOT_FOUND where it is not kept, or another caller's."""
        self.drop_expired()
        session = self._sessions.get(session_id)
        if session is None or not caller.sees(session.owner) or not isinstance(session, kind):
            raise errors.not_found(kind.kind, session_id, "never made, was deleted, or has expired", kind.argument)
        self._touch(session)
        return session

    @contextmanager
    def use(self, session_id: str, caller: Caller, kind: type[Session]) -> Iterator[Any]:
        """The session, which stays while the block runs."""
        with self.using(self.find(session_id, caller, kind)) as session:
            yield session

    @contextmanager
    def using(self, session: Session) -> Iterator[Any]:
        """A session that has been found stays while the block runs."""
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            self._touch(session)
            if session.users == 0:
                self._leaving.pop(session.id, None)

    def remove(self, session_id: str, caller: Caller, kind: type[Session]) -> None:
        """Forget a session; NOT_FOUND where it is not kept."""
        self._forget(self.find(session_id, caller, kind))

    def leave(self, attendance: str) -> None:
        """Forget the sessions that were made under an attendance, in use or not: their caller has gone."""
        for session in self.kept():
            if session.attendance == attendance:
                self._forget(session)

    def drop_expired(self) -> None:
        """Forget the sessions that nobody uses or has used for the time to live."""
        now = self._clock()
        for session in self.kept():
            if session.users == 0 and session.expires <= now:
                self._forget(session)

    def _forget(self, session: Session) -> None:
        del self._sessions[session.id]
        if session.users:
            self._leaving[session.id] = session

    def _make_room(self, owner: str, amount: int) -> None:
        """See that so much memory can be taken: set-ups that nobody uses go, then sessions."""
        quota = self._settings.max_client_bytes
        for limit, whose in ((quota, owner), (self.budget, None)):
            if not limit:
                continue
            subject = "memory" if whose is None else "client_bytes"
            if amount > limit:
                raise errors.exhausted(subject, f"{subject}: {amount} bytes are needed, the limit is {limit}")
            while self._counted(whose) + amount > limit:
                if not self._drop_idle_set_ups(whose):
                    what = f"{subject}: {amount} bytes more would be over the limit of {limit}"
                    self._drop_idle(whose, subject, what)

    def _counted(self, owner: str | None) -> int:
        """Bytes of one caller's, or of all."""
        held = sum(self._held.values()) if owner is None else self._held.get(owner, 0)
        sessions = (*self._sessions.values(), *self._leaving.values())
        return held + sum(one.bytes for one in sessions if owner in (None, one.owner))

    def _drop_idle_set_ups(self, owner: str | None) -> bool:
        """Drop the set-ups of the longest unused session that has any; whether there were some."""
        for session in self._idle(owner):
            if session.set_ups:
                session.set_ups.clear()
                return True
        return False

    def _drop_idle(self, owner: str | None, subject: str, what: str) -> None:
        """Drop the longest unused session, of a caller or of all; RESOURCE_EXHAUSTED, saying `what`, without one."""
        idle = next(self._idle(owner), None)
        if idle is None:
            raise errors.exhausted(subject, f"{what}, and all others are in use", RETRY_SECONDS)
        self._forget(idle)

    def _idle(self, owner: str | None) -> Iterator[Session]:
        return (one for one in self._sessions.values() if one.users == 0 and owner in (None, one.owner))

    def _touch(self, session: Session) -> None:
        session.expires = self._clock() + self._settings.grid_ttl_seconds
        if session.id in self._sessions:
            self._sessions.move_to_end(session.id)

    def _cells(self, owner: str | None = None) -> int:
        coming = sum(cells for who, (_, cells) in self._coming.items() if owner in (None, who))
        return coming + sum(one.cells for one in self._sessions.values() if owner in (None, one.owner))

    def _count(self, owner: str | None = None) -> int:
        coming = sum(count for who, (count, _) in self._coming.items() if owner in (None, who))
        return coming + sum(1 for one in self._sessions.values() if owner in (None, one.owner))
