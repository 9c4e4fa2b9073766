"""Several right-hand sides on one grid, or of one matrix by conjugate gradients, each in its own thread.

Threads that share one solve wait for each other about a hundred times per iteration, and compute the planes at the
ends of their ranges twice. With one right-hand side each they do neither. Passes over several right-hand sides at once
were measured as well: what they share, one-byte codes and couplings, is not the bottleneck of an iteration.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
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
    from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix

TWIN_BYTES, MEMORY_PART = 80, 0.5
"""Bytes per cell or unknown of a twin's work space and of what its solves allocate, at most; and the fraction of the
available memory that all twins may take."""
Requests = list[Request | ComplexRequest]


def answer_all(
    prepared: PreparedSolver | PreparedMatrix,
    requests: Requests,
    starts: Sequence[Any],
    make_request: Callable[[int], Request | ComplexRequest],
) -> tuple[Solution, ...]:
    """Answer checked requests, side by side if the solver can and there are at least as many of them as threads.

    All start from the same state: what one of them runs into changes none of the others, whatever the number of
    threads. Only if the solver falls back to another one for the first, it does so for all: what the others have found
    by then is dropped, and `make_request` makes their requests once more. What the number of threads leaves over is
    answered by all threads, one after another, unless it keeps more than half of them busy.
    """
    copies = _copies(prepared, len(requests))
    found: list[Solution | None] = [None] * len(requests)
    rest = len(requests) % len(copies)
    waiting = deque(range(1, len(requests) - (rest if 2 * rest <= len(copies) else 0)))
    try:
        divide(_answer, len(copies), copies, requests, starts, waiting, found, chunks=len(copies))
        first = found[0]
        if first is not None and first.fallbacks:
            prepared.engine.remembers = True
            for number in range(1, len(requests)):
                if found[number] is not None:
                    found[number], requests[number] = None, make_request(number)
        for number, solution in enumerate(found):
            if solution is None:
                found[number] = prepared.answer(requests[number], None, starts[number])
    finally:
        for one in copies:
            one.engine.remembers = True
    return tuple(solution for solution in found if solution is not None)


def _copies(prepared: PreparedSolver | PreparedMatrix, count: int) -> list[PreparedSolver | PreparedMatrix]:
    """Return one copy of a set-up per thread; only the set-up itself if there are fewer right-hand sides or no twins.

    There are fewer copies if there is not enough memory for their work space.
    """
    copies, threads = [prepared], get_num_threads()
    if not 1 < threads <= count:
        return copies
    available = find_available_memory()
    entries = prepared.operator.grid.cells.size if hasattr(prepared, "operator") else prepared.unknowns
    room = threads if available is None else MEMORY_PART * available / (TWIN_BYTES * entries)
    while len(copies) < min(threads, 1 + int(room)):
        engine: Any = prepared.engine.twin()
        if engine is None:
            break
        copies.append(replace(prepared, engine=engine))
    return copies


def _answer(
    start: int,
    stop: int,
    copies: list[PreparedSolver | PreparedMatrix],
    requests: Requests,
    starts: Sequence[Any],
    waiting: deque[int],
    found: list[Solution | None],
) -> None:
    """Answer the first request, or waiting ones, with one set-up, while other threads do so with the others."""
    prepared, number = copies[start], 0 if start == 0 else _take(waiting)
    prepared.engine.remembers = number == 0
    try:
        while number is not None:
            solution = found[number] = prepared.answer(requests[number], None, starts[number])
            if number == 0 and solution.fallbacks:
                waiting.clear()
            prepared.engine.remembers = False
            number = _take(waiting)
    except BaseException:
        waiting.clear()  # the other threads finish what they are working on
        raise


def _take(waiting: deque[int]) -> int | None:
    """Return the next number; None if another thread has taken the last one."""
    with suppress(IndexError):
        return waiting.popleft()
    return None
