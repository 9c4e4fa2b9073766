"""What the server keeps for its callers between calls, and the memory that sessions and calls take.

All memory that calls take is admitted here before it is allocated: there is a budget in bytes for the whole server, and
quotas for each caller. Used from the event loop's thread only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.identity import Caller
from relaxon.server.solving.footprint import machine_bytes
from relaxon.server.solving.session import Session, SetUp

RETRY_SECONDS = 1.0
"""What a caller is told to wait when everything that could be dropped is in use."""


class SessionStore:
    """Kept sessions, least recently used first, and the memory that they and the running calls take."""

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._leaving: dict[str, Session] = {}
        """Forgotten sessions that earlier calls still use; their memory counts until those calls end."""
        self._held: dict[str, int] = {}
        """The bytes of calls and uploads, by caller."""
        self._coming: dict[str, tuple[int, int]] = {}
        """The numbers of sessions and cells that are being uploaded, by caller."""
        self.budget = settings.memory_bytes or machine_bytes() // 2
        """The bytes that all sessions and calls may take together."""

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def bytes(self) -> int:
        """The memory that is counted now."""
        return self._counted(None)

    @property
    def cells(self) -> int:
        """The number of cells of all sessions that are kept or being uploaded."""
        return self._cells()

    def kept(self) -> list[Session]:
        """Return the kept sessions, least recently used first."""
        return list(self._sessions.values())

    @contextmanager
    def reserve(self, owner: str, cells: int, kept_bytes: int, passing_bytes: int) -> Iterator[None]:
        """Reserve room within all limits for a session while it is uploaded and checked.

        `passing_bytes` are taken in addition to what the session will keep. Expired sessions go first, then set-ups of
        sessions that are not in use, then those sessions themselves, least recently used first. Where a caller's own
        quota is short, only that caller's go. RESOURCE_EXHAUSTED if that does not make enough room.
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
        """Take memory for a call while the block runs; RESOURCE_EXHAUSTED if there is not enough."""
        self.take(owner, amount)
        try:
            yield
        finally:
            self.give_back(owner, amount)

    def take(self, owner: str, amount: int) -> None:
        """Count memory for a caller until it is given back; RESOURCE_EXHAUSTED if there is not enough."""
        self._make_room(owner, amount)
        self.keep(owner, amount)

    def keep(self, owner: str, amount: int) -> None:
        """Count memory that has been taken already."""
        self._held[owner] = self._held.get(owner, 0) + amount

    def give_back(self, owner: str, amount: int) -> None:
        """Stop counting memory for a caller."""
        left = self._held.pop(owner, 0) - amount
        if left > 0:
            self._held[owner] = left

    def add(self, session: Session) -> None:
        """Keep a session, for the time to live from now on."""
        self._sessions[session.id] = session
        self._touch(session)

    @contextmanager
    def set_up(self, session: Session, name: str) -> Iterator[SetUp]:
        """Reserve the place of a solver's set-up, and count its memory, while the block runs.

        Call it while the session is in use. RESOURCE_EXHAUSTED if there is no room.
        """
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
        """Drop as many of a session's set-ups as the limit requires.

        Before the new one is made, so that two large hierarchies need not fit at once.
        """
        limit = self._settings.max_solvers_per_grid
        while len(session.set_ups) >= limit:
            idle = next((name for name, place in session.set_ups.items() if not place.users), None)
            if idle is None:
                raise errors.exhausted(
                    "set_ups", f"set_ups: {limit} of this are in use, which is this server's limit", RETRY_SECONDS
                )
            del session.set_ups[idle]

    def find(self, session_id: str, caller: Caller, kind: type[Session]) -> Any:
        """Return the session of an id and mark it as used; NOT_FOUND if it is not kept, or another caller's."""
        self.drop_expired()
        session = self._sessions.get(session_id)
        if session is None or not caller.sees(session.owner) or not isinstance(session, kind):
            name = kind.message.DESCRIPTOR.full_name
            raise errors.not_found(name, session_id, "never made, was deleted, or has expired", kind.argument)
        self._touch(session)
        return session

    @contextmanager
    def use(self, session_id: str, caller: Caller, kind: type[Session]) -> Iterator[Any]:
        """Find a session, which stays while the block runs."""
        with self.using(self.find(session_id, caller, kind)) as session:
            yield session

    @contextmanager
    def using(self, session: Session) -> Iterator[Any]:
        """Keep a session that has been found while the block runs."""
        session.users += 1
        try:
            yield session
        finally:
            session.users -= 1
            self._touch(session)
            if session.users == 0:
                self._leaving.pop(session.id, None)

    def remove(self, session_id: str, caller: Caller, kind: type[Session]) -> None:
        """Forget a session; NOT_FOUND if it is not kept."""
        self._forget(self.find(session_id, caller, kind))

    def leave(self, attendance: str) -> None:
        """Forget the sessions of an attendance, in use or not: their caller is gone."""
        for session in self.kept():
            if session.attendance == attendance:
                self._forget(session)

    def drop_expired(self) -> None:
        """Forget the sessions that are not in use and have not been used for the time to live."""
        now = self._clock()
        for session in self.kept():
            if session.users == 0 and session.expires <= now:
                self._forget(session)

    def _forget(self, session: Session) -> None:
        del self._sessions[session.id]
        if session.users:
            self._leaving[session.id] = session

    def _make_room(self, owner: str, amount: int) -> None:
        """Make sure that memory can be taken: unused set-ups go first, then sessions."""
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
        """Return the counted bytes of one caller, or of all."""
        held = sum(self._held.values()) if owner is None else self._held.get(owner, 0)
        sessions = (*self._sessions.values(), *self._leaving.values())
        return held + sum(one.bytes for one in sessions if owner in (None, one.owner))

    def _drop_idle_set_ups(self, owner: str | None) -> bool:
        """Drop the set-ups of the least recently used session that has any, and return whether there were some."""
        for session in self._idle(owner):
            if session.set_ups:
                session.set_ups.clear()
                return True
        return False

    def _drop_idle(self, owner: str | None, subject: str, what: str) -> None:
        """Drop the least recently used session, of a caller or of all.

        RESOURCE_EXHAUSTED with the message `what` if all are in use.
        """
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
