"""Memory that a caller shares with a server on the same machine: a sealed memory file, mapped on both sides.

A process that maps a file gets a bus error if another one truncates it. The server therefore maps only files that are
sealed against shrinking, so that the kernel refuses to truncate them. A memory file has no name: it disappears with the
last process that has it open, however that process ends.
"""

from __future__ import annotations

import hmac
import mmap
import os
import secrets
import stat
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import tensor_pb2 as pb

try:
    import fcntl
except ImportError:  # not on this system
    fcntl = None  # type: ignore[assignment]

NAME = "relaxon"
LINK = f"/memfd:{NAME} (deleted)"
"""The kernel's name for such a file in the list of a process's descriptors."""
TOKEN_BYTES = 32
"""Bytes of the random token at the file's end, by which the server knows that the caller has it open."""
HALVED_BYTES = 4 << 20
"""Bytes from which on an array is copied by two threads."""
# From <linux/fcntl.h>; Python has these constants only if its C library had.
ADD_SEALS, GET_SEALS = 1033, 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW = 0x1, 0x2, 0x4
POPULATE_WRITE = 23
"""From <linux/mman.h>, since Linux 5.14: allocate a mapping's memory now, or fail if there is none."""
SEALS = SEAL_SEAL | SEAL_SHRINK | SEAL_GROW


class SharedFile:
    """A mapped shared memory file: from `create` on the caller's side, from `open` on the server's.

    It is unmapped once it and the arrays that view it have been dropped.
    """

    def __init__(self, descriptor: int, length: int) -> None:
        """Take over the descriptor, which is closed; the mapping keeps one of its own."""
        try:
            self._mapped = mmap.mmap(descriptor, length)
            self._octets = np.frombuffer(self._mapped, np.uint8)
        except ValueError as error:  # if the length has changed, say
            raise OSError(str(error)) from error
        finally:
            os.close(descriptor)
        self.size = length - TOKEN_BYTES
        """Bytes for arrays."""

    @classmethod
    def create(cls, size: int, reserved: int | None = None) -> tuple[SharedFile, Offer]:
        """Create a file, and the offer by which a server finds it; close the offer once it has been tried.

        The memory is allocated here, so that neither side lacks it later: all of it, or that of the first `reserved`
        bytes, the rest of which must not be used before `reserve`. OSError if no file can be made.
        """
        if fcntl is None or not hasattr(os, "memfd_create"):
            raise OSError("this system has no memory files")
        token = secrets.token_bytes(TOKEN_BYTES)
        descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size + TOKEN_BYTES)
            os.posix_fallocate(descriptor, 0, size if reserved is None else reserved)
            os.pwrite(descriptor, token, size)
            fcntl.fcntl(descriptor, ADD_SEALS, SEALS)
            file = cls(os.dup(descriptor), size + TOKEN_BYTES)
        except BaseException:
            os.close(descriptor)
            raise
        return file, Offer(descriptor, token)

    @classmethod
    def open(cls, offer: pb.SharedFile, most: int) -> SharedFile | None:
        """Open the file that a caller offers.

        None unless it is a memory file of this user, sealed, with at most `most` bytes before its final token.
        """
        if fcntl is None or offer.process <= 0 or offer.file_descriptor < 0 or len(offer.token) != TOKEN_BYTES:
            return None
        # Two numbers, so that no path from a caller is ever opened; and only after it is known to be a memory file.
        path = f"/proc/{offer.process}/fd/{offer.file_descriptor}"
        try:
            if os.readlink(path) != LINK:
                return None
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        if not _is_sound(descriptor, offer.token, most):
            os.close(descriptor)
            return None
        try:
            return cls(descriptor, os.fstat(descriptor).st_size)
        except OSError:  # no address space for it
            return None

    def reserve(self, offset: int, size: int) -> None:
        """Allocate the memory of a part of the file, on the caller's side; OSError if that is not possible."""
        # Whole pages: bytes before the offset may be in use, and keep their values.
        start = offset - offset % mmap.PAGESIZE
        self._mapped.madvise(POPULATE_WRITE, start, offset + size - start)

    def view(self, offset: int, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """Return an array at an offset, which must have been checked, without a copy."""
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self._octets[offset : offset + count].view(dtype).reshape(shape)

    def offset_of(self, array: NDArray[Any]) -> int:
        """Return the offset of an array that is known to lie in the file."""
        return int(array.ctypes.data - self._octets.ctypes.data)

    def write(self, offset: int, array: NDArray[Any]) -> None:
        """Write an array's bytes at an offset; OSError if they do not fit."""
        if not 0 <= offset <= self.size - array.nbytes:
            raise OSError(f"{array.nbytes} bytes do not fit at {offset} of {self.size}")
        there = self.view(offset, array.dtype.newbyteorder("<"), array.shape)
        middle = array.shape[0] // 2
        if not middle or array.nbytes < HALVED_BYTES:
            there[...] = array
            return
        second = threading.Thread(target=np.copyto, args=(there[middle:], array[middle:]), daemon=True)
        try:
            second.start()  # NumPy copies without holding the GIL
        except RuntimeError:  # no more threads available
            there[...] = array
            return
        there[:middle] = array[:middle]
        second.join()


class Offer:
    """A caller's descriptor of a file that it shares, until the offer is closed."""

    def __init__(self, descriptor: int, token: bytes) -> None:
        self._descriptor = descriptor
        self._token = token

    def message(self) -> pb.SharedFile:
        """Return the message by which a server finds the file."""
        return pb.SharedFile(process=os.getpid(), file_descriptor=self._descriptor, token=self._token)

    def close(self) -> None:
        """Withdraw the offer; a server that has opened the file keeps it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def _is_sound(descriptor: int, token: bytes, most: int) -> bool:
    """Return whether a descriptor is a regular file of this user, sealed, not too long, that ends with the token."""
    status = os.fstat(descriptor)
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_uid != os.geteuid()
        or not 0 < status.st_size - TOKEN_BYTES <= most
    ):
        return False
    try:
        if fcntl.fcntl(descriptor, GET_SEALS) & SEALS != SEALS:
            return False
        found = os.pread(descriptor, TOKEN_BYTES, status.st_size - TOKEN_BYTES)
    except OSError:  # not a memory file
        return False
    return len(found) == TOKEN_BYTES and hmac.compare_digest(found, token)
