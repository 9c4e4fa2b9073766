"""Memory that a caller shares with a server on the same machine: a sealed memory file, mapped on both sides.

A process that maps a file dies of a bus error where another one shortens it. So the server maps none that is not
sealed against shrinking, which the kernel then refuses for good. A memory file has no name: it is gone with the last
process that has it open, however that process ends.
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
"""What the kernel calls such a file where a process's descriptors are listed."""
TOKEN_BYTES = 32
HALVED_BYTES = 4 << 20
"""An array of as many is copied by two threads."""
# From <linux/fcntl.h>; Python has them from 3.9 on where its C library had.
ADD_SEALS, GET_SEALS = 1033, 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW = 0x1, 0x2, 0x4
POPULATE_WRITE = 23
"""From <linux/mman.h>, since Linux 5.14: take a mapping's memory now, or fail where that cannot be had."""
SEALS = SEAL_SEAL | SEAL_SHRINK | SEAL_GROW


class SharedFile:
    """A shared memory file, mapped: from `create` on the caller's side and from `open` on the server's.

    It is unmapped when it and the arrays that view it have been dropped.
    """

    def __init__(self, descriptor: int, length: int) -> None:
        """Takes the descriptor over. Python keeps one of its own with the mapping."""
        try:
            self._mapped = mmap.mmap(descriptor, length)
            self._octets = np.frombuffer(self._mapped, np.uint8)
        except ValueError as error:  # as for a length that has changed
            raise OSError(str(error)) from error
        finally:
            os.close(descriptor)
        self.size = length - TOKEN_BYTES
        """Bytes that it has for arrays."""

    @classmethod
    def create(cls, size: int, reserved: int | None = None) -> tuple[SharedFile, Offer]:
        """A new one and how a server finds it; close the offer once it has been tried. OSError where none can be
        made. Its memory is taken here, so that neither side fails for want of it later: all of it, or of the first
        `reserved` bytes; the others are not to be used before `reserve`."""
        if fcntl is None or not hasattr(os, "memfd_create"):
            raise OSError("this system has no memory files")
        token = secrets.token_bytes(TOKEN_BYTES)
        descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size + TOKEN_BYTES)
            os.posix_fallocate(descriptor, 0, size if reserved is None else reserved)
            os.pwrite(descriptor, token, size)
            fcntl.fcntl(descriptor, ADD_SEALS, SEALS)
            made = cls(os.dup(descriptor), size + TOKEN_BYTES)
        except BaseException:
            os.close(descriptor)
            raise
        return made, Offer(descriptor, token)

    @classmethod
    def open(cls, told: pb.SharedFile, most: int) -> SharedFile | None:
        """What a caller offers, where it is a memory file of this user's, sealed, of at most so many bytes beside the
        token that it ends in."""
        if fcntl is None or told.process <= 0 or told.file_descriptor < 0 or len(told.token) != TOKEN_BYTES:
            return None
        # Two numbers, so that no path of a caller's is ever opened; and only once it is seen to be a memory file.
        path = f"/proc/{told.process}/fd/{told.file_descriptor}"
        try:
            if os.readlink(path) != LINK:
                return None
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        if not _is_sound(descriptor, told.token, most):
            os.close(descriptor)
            return None
        try:
            return cls(descriptor, os.fstat(descriptor).st_size)
        except OSError:  # no address space for it
            return None

    def reserve(self, offset: int, size: int) -> None:
        """Take the memory of a part of the file, on the caller's side; OSError where there is none, or no way to."""
        # In whole pages; of the first, bytes before the offset may be in use, which this does not change.
        start = offset - offset % mmap.PAGESIZE
        self._mapped.madvise(POPULATE_WRITE, start, offset + size - start)

    def view(self, offset: int, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """An array of that kind at an offset, which has been checked to be within; no copy."""
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self._octets[offset : offset + count].view(dtype).reshape(shape)

    def offset_of(self, array: NDArray[Any]) -> int:
        """Where an array lies that is known to lie here."""
        return int(array.ctypes.data - self._octets.ctypes.data)

    def write(self, offset: int, array: NDArray[Any]) -> None:
        """Put an array's bytes at an offset; OSError where there is no room for them."""
        if not 0 <= offset <= self.size - array.nbytes:
            raise OSError(f"{array.nbytes} bytes do not fit at {offset} of {self.size}")
        there = self.view(offset, array.dtype.newbyteorder("<"), array.shape)
        middle = array.shape[0] // 2
        if not middle or array.nbytes < HALVED_BYTES:
            there[...] = array
            return
        second = threading.Thread(target=np.copyto, args=(there[middle:], array[middle:]), daemon=True)
        try:
            second.start()  # NumPy copies without Python's lock
        except RuntimeError:  # no more threads
            there[...] = array
            return
        there[:middle] = array[:middle]
        second.join()


class Offer:
    """A caller's descriptor of a file that it shares, until it is closed."""

    def __init__(self, descriptor: int, token: bytes) -> None:
        self._descriptor = descriptor
        self._token = token

    def message(self) -> pb.SharedFile:
        """How a server finds the file."""
        return pb.SharedFile(process=os.getpid(), file_descriptor=self._descriptor, token=self._token)

    def close(self) -> None:
        """Offer it no more; who has opened it keeps it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def _is_sound(descriptor: int, token: bytes, most: int) -> bool:
    """Whether a descriptor is of a regular file of this user's, sealed, not too long, that ends in the token."""
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
    except OSError:  # no memory file
        return False
    return len(found) == TOKEN_BYTES and hmac.compare_digest(found, token)
