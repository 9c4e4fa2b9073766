"""A file in shared memory through which arrays pass between two processes of one machine.

It is read and written, never mapped: a process that maps a file dies of a bus error where another one shortens it.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from relaxon.proto import tensor_pb2 as pb

FOLDER = Path("/dev/shm")
NAME = re.compile(r"relaxon-[0-9a-f]{32}")
TOKEN_BYTES = 32
PRIVATE = 0o600


class SharedFile:
    """An open shared file, from `create` on the caller's side and from `open` on the server's; closed when dropped."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size
        """Bytes that it has for arrays."""

    @classmethod
    def create(cls, size: int) -> tuple[SharedFile, pb.SharedFile]:
        """A new file and how a server finds it; `remove` its name once that has been tried. OSError where none
        can be made. Memory is taken as it is written to."""
        if not FOLDER.is_dir():
            raise FileNotFoundError(f"{FOLDER} is not on this system")
        name, token = f"relaxon-{secrets.token_hex(16)}", secrets.token_bytes(TOKEN_BYTES)
        descriptor = os.open(FOLDER / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        made = cls(descriptor, size)
        try:
            made.write(size, memoryview(token))
        except OSError:
            remove(name)
            raise
        return made, pb.SharedFile(name=name, token=token)

    @classmethod
    def open(cls, told: pb.SharedFile) -> SharedFile | None:
        """The file of that name where it is there, belongs to this user alone, and ends in the token."""
        if not FOLDER.is_dir() or not NAME.fullmatch(told.name) or len(told.token) != TOKEN_BYTES:
            return None
        try:
            descriptor = os.open(FOLDER / told.name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        found = cls(descriptor, 0)
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == PRIVATE
        if not (stat.S_ISREG(status.st_mode) and private and status.st_size > TOKEN_BYTES):
            return None
        found.size = status.st_size - TOKEN_BYTES
        token = bytearray(TOKEN_BYTES)
        try:
            found.read(found.size, memoryview(token))
        except OSError:
            return None
        return found if hmac.compare_digest(token, told.token) else None

    def write(self, offset: int, octets: memoryview) -> None:
        """Put bytes at an offset; OSError where there is no memory for them."""
        done = 0
        while done < len(octets):
            done += os.pwrite(self._descriptor, octets[done:], offset + done)

    def read(self, offset: int, octets: memoryview) -> None:
        """Fill `octets` with the bytes at an offset; OSError where there are not so many."""
        done = 0
        while done < len(octets):
            came = os.preadv(self._descriptor, [octets[done:]], offset + done)
            if came == 0:
                raise OSError(f"the shared file ends after {done} of {len(octets)} bytes")
            done += came

    def close(self) -> None:
        """Give the file up; its memory is free once both sides have."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def remove(name: str) -> None:
    """Remove a shared file's name; those who have it open keep it."""
    with suppress(FileNotFoundError):
        (FOLDER / name).unlink()
