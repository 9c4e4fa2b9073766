"""The communication between the processes of a distributed grid, and MPI as its means."""

# Imported on first use, for its weight: mpi4py.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Parcel:
    """An outgoing message to a peer, and room for what the peer sends under the other tag; both contiguous."""

    peer: int
    tag: int
    outgoing: NDArray[Any]
    tag_back: int
    incoming: NDArray[Any]


class Communicator(Protocol):
    """Processes 0 … size − 1. All but `swap` are called by every process, in the same order."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...

    def swap(self, parcels: Sequence[Parcel]) -> None:
        """Send and receive all parcels; several may go to one peer, or to this process itself."""

    def totals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sums of `(k,)` numbers over the processes, to the same bits in each."""

    def gathered(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Return each process's array, flat, by rank; all of one dtype, sizes may differ."""


class MPICommunicator:
    """An mpi4py communicator, duplicated so that these messages meet no others.

    Parameters
    ----------
    comm : `mpi4py.MPI.Comm`, an intracommunicator.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm.Dup()
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()

    def swap(self, parcels: Sequence[Parcel]) -> None:
        from mpi4py import MPI

        waiting = [
            self._comm.Irecv([p.incoming.reshape(-1).view(np.uint8), MPI.BYTE], p.peer, p.tag_back) for p in parcels
        ]
        waiting += [self._comm.Isend([p.outgoing.reshape(-1).view(np.uint8), MPI.BYTE], p.peer, p.tag) for p in parcels]
        MPI.Request.Waitall(waiting)

    def totals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        # Not MPI's own reduction: it may add in another order from one process to the next.
        everyone = np.empty((self.size, len(values)))
        self._comm.Allgather(np.ascontiguousarray(values, np.float64), everyone)
        return add_in_order(everyone)

    def gathered(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        from mpi4py import MPI

        flat = np.ascontiguousarray(array).reshape(-1)
        counts = np.empty(self.size, np.int64)
        self._comm.Allgather(np.array([flat.nbytes], np.int64), counts)
        ends = np.cumsum(counts)
        everything = np.empty(int(ends[-1]), np.uint8)
        places = (counts, ends - counts)
        self._comm.Allgatherv([flat.view(np.uint8), MPI.BYTE], [everything, places, MPI.BYTE])
        return [everything[end - count : end].view(flat.dtype) for count, end in zip(counts, ends, strict=True)]


class Alone:
    """The communicator of one process."""

    rank = 0
    size = 1

    def swap(self, parcels: Sequence[Parcel]) -> None:
        if parcels:
            raise ValueError(f"one process has no peers, got {len(parcels)} parcels")

    def totals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array(values, np.float64)

    def gathered(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        return [np.array(array).reshape(-1)]


def add_in_order(everyone: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(size, k)` → `(k,)`, added in the order of the ranks."""
    total = np.zeros(everyone.shape[1])
    for values in everyone:
        total += values
    return total


def as_communicator(comm: Any) -> Communicator:
    """Return a `Communicator` for what a caller gives: None for one process, an mpi4py communicator, or one already."""
    if comm is None:
        return Alone()
    if all(hasattr(comm, name) for name in ("swap", "totals", "gathered")):
        return comm  # type: ignore[no-any-return]
    if all(hasattr(comm, name) for name in ("Dup", "Irecv", "Allgatherv")):
        return MPICommunicator(comm)
    raise TypeError(f"comm must be None, an mpi4py communicator or a Communicator, got {type(comm).__name__}")


def any_failure(communicator: Communicator, error: Exception | None) -> None:
    """Raise in every process what was found wrong in one, so that none waits for the others.

    In the process where it was found the error itself, elsewhere one of the same kind that says where.
    """
    text = "" if error is None else f"{'T' if isinstance(error, TypeError) else 'V'}{error}"
    heard = [bytes(part).decode() for part in communicator.gathered(np.frombuffer(text.encode(), np.uint8))]
    if error is not None:
        raise error
    for rank, found in enumerate(heard):
        if found:
            kind = TypeError if found[0] == "T" else ValueError
            raise kind(f"process {rank}: {found[1:]}")
