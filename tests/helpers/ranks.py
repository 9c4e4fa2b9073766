"""Processes of a distributed grid as threads of one, so that what MPI would run is tested without it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from relaxon.solvers.distributed.communicator import Parcel, add_in_order

PATIENCE = 60.0


class Threads:
    """A `Communicator` for each of `size` threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._mail: dict[tuple[int, int, int], SimpleQueue[Any]] = defaultdict(SimpleQueue)
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(size)
        self._board: list[Any] = [None] * size
        self.errors: list[BaseException | None] = []
        """What each rank of the last run raised."""

    def run(self, work: Callable[[Rank], Any]) -> list[Any]:
        """What `work` returns in each rank; an error of a rank is raised once all have ended, that of the first one."""
        results: list[Any] = [None] * self.size
        errors: list[BaseException | None] = [None] * self.size

        def one(rank: int) -> None:
            try:
                results[rank] = work(Rank(self, rank))
            except BaseException as error:
                errors[rank] = error
                if not isinstance(error, ValueError | TypeError):
                    self._barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE)
        self.errors = errors
        for error in errors:
            if error is not None and not isinstance(error, threading.BrokenBarrierError):
                raise error
        assert not any(thread.is_alive() for thread in threads)
        return results


class Rank:
    def __init__(self, threads: Threads, rank: int) -> None:
        self._threads, self.rank, self.size = threads, rank, threads.size

    def swap(self, parcels: Sequence[Parcel]) -> None:
        mail = self._threads._mail
        for parcel in parcels:
            with self._threads._lock:
                box = mail[self.rank, parcel.peer, parcel.tag]
            box.put(parcel.outgoing.copy())
        for parcel in parcels:
            with self._threads._lock:
                box = mail[parcel.peer, self.rank, parcel.tag_back]
            parcel.incoming.reshape(-1)[:] = box.get(timeout=PATIENCE).reshape(-1)

    def totals(self, values: Any) -> Any:
        return add_in_order(np.stack(self._shared(np.array(values, np.float64))))

    def gathered(self, array: Any) -> list[Any]:
        return [np.array(one) for one in self._shared(np.array(array).reshape(-1))]

    def _shared(self, value: Any) -> list[Any]:
        threads = self._threads
        threads._board[self.rank] = value
        threads._barrier.wait(PATIENCE)
        found = list(threads._board)
        threads._barrier.wait(PATIENCE)
        return found
