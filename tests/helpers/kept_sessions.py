"""The sessions that a server shared by several tests keeps, without those that earlier tests' clients leave behind."""

from __future__ import annotations


class MadeSince:
    """The sessions made since this was: those of clients that are gone end at any time, so a plain count may fall."""

    def __init__(self, embedded):
        self._sessions = embedded.sessions
        self._before = {one.id for one in self._sessions.kept()}

    def __len__(self):
        return sum(one.id not in self._before for one in self._sessions.kept())
