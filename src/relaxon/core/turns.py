"""Exclusive turns with something that one caller uses at a time: nobody waits, and no signal can leave it taken."""

from __future__ import annotations


class Turn:
    """One caller's turn. It ends with the assignment `turn.over = True`; then the next caller's can follow.

    A signal handler may raise wherever a function is entered or a call returns, and would leave a lock locked. An
    assignment in a `finally` block is made regardless.
    """

    __slots__ = ("following", "over")

    def __init__(self, over: bool = False) -> None:
        self.over = over
        self.following: dict[None, Turn] = {}


class Turns:
    """The turns with one object, in any number of threads."""

    def __init__(self) -> None:
        self._last = Turn(over=True)

    def take(self, turn: Turn) -> bool:
        """Begin a turn and return True, if no other one is under way; otherwise return False.

        A turn found here may be over although its caller never used it: the caller was interrupted in this function.
        """
        last = self._last
        while last.over:
            following = last.following.setdefault(None, turn)  # of several concurrent callers, one gets its own
            if following is turn:
                self._last = turn
                return True
            last = following
        return False
