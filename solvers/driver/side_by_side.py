"""Several right-hand sides on one grid, each in a thread of its own.

Threads that divide one solve among them wait for each other some hundred times an iteration, and make the planes at
the ends of their runs twice. With a right-hand side each they do neither. Passes of several right-hand sides in one
were measured too: what they would share, one-byte codes and couplings, is not what an iteration waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relaxon.core.available_memory import find_available_memory
from relaxon.core.solution import Solution
from relaxon.solvers.interface.complex_parts import ComplexRequest
from relaxon.solvers.interface.request import Request
from relaxon.solvers.kernels.threads import divide, get_num_threads

if TYPE_CHECKING:
    from relaxon.solvers.driver.prepared import PreparedSolver

TWIN_BYTES, MEMORY_PART = 80, 0.5
"""Bytes a cell of a twin's work space and of what its solves make, at most, and of the memory that is available the
part that all of them may take."""
Requests = Sequence[Request | ComplexRequest]


def answer_all(front: PreparedSolver, requests: Requests, starts: Sequence[Any]) -> tuple[Solution, ...]:
    """Answer checked requests, side by side where the solver can and there are as many of them as threads.

    The first is answered before the others, by all threads: it compiles what is to be compiled, and shows whether the
    solver needs another one's help on this grid. Where it does not, each of the others starts from the same: what one
    of them meets changes no other, in however many threads they are.
    """
    first = front.answer(requests[0], None, starts[0])
    if first.fallbacks:
        rest = zip(requests[1:], starts[1:], strict=True)
        return (first, *(front.answer(request, None, start) for request, start in rest))
    fronts = _fronts(front, len(requests) - 1)
    found: list[Solution | None] = [first, *[None] * (len(requests) - 1)]
    waiting = deque(range(1, len(requests)))
    for one in fronts:
        one.engine.remembers = False
    try:
        divide(_answer, len(fronts), fronts, requests, starts, waiting, found, chunks=len(fronts))
    finally:
        for one in fronts:
            one.engine.remembers = True
    return tuple(solution for solution in found if solution is not None)


def _fronts(front: PreparedSolver, count: int) -> list[PreparedSolver]:
    """As many of one set-up as there are threads; one where right-hand sides are fewer, or the engine has no twin.

    Fewer where memory is short of their work space.
    """
    fronts, threads = [front], get_num_threads()
    if not 1 < threads <= count:
        return fronts
    available = find_available_memory()
    room = threads if available is None else MEMORY_PART * available / (TWIN_BYTES * front.operator.grid.cells.size)
    while len(fronts) < min(threads, 1 + int(room)):
        engine = front.engine.twin()
        if engine is None:
            break
        fronts.append(replace(front, engine=engine))
    return fronts


def _answer(
    start: int,
    stop: int,
    fronts: list[PreparedSolver],
    requests: Requests,
    starts: Sequence[Any],
    waiting: deque[int],
    found: list[Solution | None],
) -> None:
    """Answer what is waiting by one front, whoever else does by the others."""
    front = fronts[start]
    try:
        while waiting:
            number = _take(waiting)
            if number is not None:
                found[number] = front.answer(requests[number], None, starts[number])
    except BaseException:
        waiting.clear()  # the other threads end with what they are at
        raise


def _take(waiting: deque[int]) -> int | None:
    """The next number; None where another thread has taken the last one."""
    with suppress(IndexError):
        return waiting.popleft()
    return None
