"""Bearer tokens: the file that holds their hashes, and the check of a call's token.

The file has one token per line, `name role sha256:<hex> added [expires]`, in any order, with blank lines and `#`
comments. The token itself is 256 random bits, shown once when it is made and stored nowhere. One round of SHA-256 is
therefore enough: there is nothing to guess that a slower hash would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from relaxon.server.gate.identity import Caller, Role

logger = logging.getLogger("relaxon.server")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PREFIX = "relaxon_"
"""The prefix by which a leaked token can be recognised."""
TOKEN_BYTES = 32
HASH = re.compile(r"sha256:[0-9a-f]{64}")
PRIVATE = 0o600
"""The mode of the file: only its owner may read and write it."""
LONGEST_FILE = 2**22
"""Bytes of a token file at most: some 30,000 tokens."""
LONGEST_TOKEN = 256
"""Characters of a token at most; a longer text is not hashed."""
HEADING = "# relaxon's tokens: name role sha256:<hash of the token> added [expires]; made by `relaxon token add`\n"


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A token as the file stores it."""

    name: str
    """The caller's name; several tokens of one name are one caller."""
    role: Role
    digest: str
    added: date
    expires: date | None = None
    """The last day on which the token is accepted, in UTC."""

    @property
    def line(self) -> str:
        """The line of the file."""
        words = [self.name, self.role.name.lower(), f"sha256:{self.digest}", self.added.isoformat()]
        return " ".join(words + ([self.expires.isoformat()] if self.expires else []))


def read(path: Path) -> tuple[TokenEntry, ...]:
    """Return the tokens of a file.

    Raises
    ------
    OSError : if the file cannot be read.
    ValueError : naming a malformed line, or if others than the file's owner may write to it.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
            raise ValueError(f"token_file {str(path)!r} must not be writable by others than its owner: chmod 600 it")
        content = file.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise ValueError(f"token_file {str(path)!r} must have at most {LONGEST_FILE} bytes")
    lines = content.decode("utf-8", errors="replace").splitlines()
    return tuple(
        _parse_entry(line, f"token_file {str(path)!r}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    )


def add(path: Path, name: str, role: Role, expires: date | None = None) -> str:
    """Add a new token to the file, which is created if missing, and return the token, which is stored nowhere."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"name must be 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first, got {name[:80]!r}"
        )
    if expires is not None and expires < _today():
        raise ValueError(f"expires must not have passed, got {expires.isoformat()}")
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    with _change_lines(path) as lines:
        lines.append(TokenEntry(name, role, _digest(token), _today(), expires).line + "\n")
    return token


def remove(path: Path, name: str) -> int:
    """Remove all tokens of a name from the file, and return how many there were."""
    read(path)
    with _change_lines(path) as lines:
        kept = [line for line in lines if line.lstrip().startswith("#") or line.split()[:1] != [name]]
        gone = len(lines) - len(kept)
        lines[:] = kept
    return gone


class TokenFile:
    """The tokens of a file, which is read again when it has changed.

    If it cannot be read any more, the tokens read last stay valid and the log says so: a failed edit locks nobody out.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Read the file; OSError and ValueError as `read`, and ValueError if it holds no token."""
        self._path = path
        self._clock = clock
        self._stamp = _read_stamp(path)
        self._entries = read(path)
        if not self._entries:
            raise ValueError(f"token_file {str(path)!r} must hold a token; make one with: relaxon token add")

    def caller(self, token: str) -> Caller | None:
        """Return the caller to whom a token belongs; None if it is unknown or has expired.

        The time this takes does not depend on the token: every stored hash is compared, each in constant time.
        """
        self.refresh()
        digest = _digest(token[:LONGEST_TOKEN])
        found: TokenEntry | None = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry
        if found is None or len(token) > LONGEST_TOKEN or (found.expires is not None and found.expires < self._today()):
            return None
        return Caller(found.name, found.role)

    def refresh(self, always: bool = False) -> None:
        """Read the file again if it has changed, or `always`."""
        try:
            stamp = _read_stamp(self._path)
            if stamp == self._stamp and not always:
                return
            self._stamp = stamp
            self._entries = read(self._path)
        except (OSError, ValueError) as error:
            if self._stamp != (0, 0, 0) or always:
                self._stamp = (0, 0, 0)
                logger.error("the tokens read last stay valid: %s", error)
            return
        logger.info("read %d tokens from %s", len(self._entries), self._path)

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the token in a call's metadata; empty if there is none, or more than one."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        return ""
    scheme, _, token = values[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _parse_entry(line: str, where: str) -> TokenEntry:
    words = line.split()
    try:
        name, role, digest, added, *expires = words
        if not NAME.fullmatch(name) or not HASH.fullmatch(digest) or len(expires) > 1:
            raise ValueError
        days = [date.fromisoformat(word) for word in (added, *expires)]
        return TokenEntry(name, Role[role.upper()], digest.partition(":")[2], days[0], days[1] if expires else None)
    except (ValueError, KeyError):
        # Do not repeat the line: someone may have put a token there.
        raise ValueError(f"{where} must be `name role sha256:<64 hexadecimal digits> added [expires]`") from None


@contextmanager
def _change_lines(path: Path) -> Iterator[list[str]]:
    """Give the file's lines to be changed, and replace the file at the end; one writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{path.name}.lock").open("w") as lock:
        with suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else [HEADING]
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        yield lines
        part = path.with_name(f".{path.name}.part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)


def _read_stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).hexdigest()


def _today() -> date:
    return datetime.now(UTC).date()
