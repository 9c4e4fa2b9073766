"""Whose turn it is with something that one caller has at a time; nobody waits, and no signal can leave it taken."""

from __future__ import annotations


class Turn:
    """One caller's time. It ends with the assignment `turn.over = True`, and the next caller's can follow then.

    A signal's handler may raise wherever a function is entered or a call returns, and would leave a lock locked; an
    assignment in a `finally` is made all the same.
    """

    __slots__ = ("following", "over")

    def __init__(self, over: bool = False) -> None:
        self.over = over
        self.following: dict[None, Turn] = {}


class Turns:
    """The turns with one thing, in any number of threads."""

    def __init__(self) -> None:
        self._last = Turn(over=True)

    def take(self, turn: Turn) -> bool:
        """Return whether it is this turn now: no other one is under way.

        A turn found here may be over although its caller never had it: the caller was interrupted in this function.
        """
        last = self._last
        while last.over:
            following = last.following.setdefault(None, turn)  # of several callers at once one gets its own
            if following is turn:
                self._last = turn
                return True
            last = following
        return False
