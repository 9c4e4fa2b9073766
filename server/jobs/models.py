"""Trained models on the server's disk, by kind and name. No path from a caller is ever opened."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from relaxon.neuromorphic.checkpoints import sync
from relaxon.server.gate import errors, identity
from relaxon.server.jobs.folder import lock_folder, sync_tree

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Without separators, and without a dot at the start: a name stays within its kind's folder."""
LOADED = 8
"""Models kept in memory between calls; the least recently used one is dropped first."""
JOBS, INCOMING = "jobs", ".incoming"
OWNER = ".owner"
"""The file beside a model's own files that holds the name of its owner."""


class ModelStore:
    """Folders `<root>/<kind>/<name>`, each as the engine's own `save` wrote it; safe to use from several threads.

    A model belongs to the caller who trained or uploaded it. To others, admins aside, it does not exist, except that
    its name is taken. The caller is known from the context of the call, of which a thread must have a copy.

    A model is written elsewhere on the same file system and then moved into its place, so that it is always complete.
    """

    def __init__(self, root: str, max_models: int) -> None:
        """`root` is created if missing and locked for this store; if empty, a temporary folder takes its place.

        OSError where it cannot be written to, or another server uses it.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="relaxon-models-") if not root else None
        self._root = Path(self._temporary.name if self._temporary else root).resolve()
        self._max_models = max_models
        self._guard = threading.Lock()
        self._reserved: dict[tuple[str, str], str] = {}
        """The reserved names and their owners."""
        self._loaded: OrderedDict[tuple[str, str], tuple[tuple[int, int], Any]] = OrderedDict()
        self._lock = lock_folder(self._root, "model_folder")
        self.jobs = self._root / JOBS
        """The folder of jobs, unless the settings name another one."""
        self.incoming = self._root / INCOMING
        """The folder of models that are incomplete or about to be deleted; emptied at the start."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir()

    def reserve(self, kind: str, name: str, field: str, owner: str | None = None) -> str:
        """Reserve `name`, or a random name if it is empty, for a model and return it.

        The model will belong to `owner`; None stands for the present caller.
        INVALID_ARGUMENT naming `field`, ALREADY_EXISTS, or RESOURCE_EXHAUSTED.
        """
        name = validate_name(field, name) if name else f"{kind}-{secrets.token_hex(8)}"
        with self._guard:
            taken = set(self._names(kind)) | {other for of, other in self._reserved if of == kind}
            # Some file systems ignore the case of letters.
            if name.casefold() in {other.casefold() for other in taken}:
                raise errors.already_exists(
                    resource_type(kind),
                    name,
                    f"{field} {name!r} is taken; delete that model first, or use another name",
                )
            if len(taken) >= self._max_models:
                raise errors.exhausted(
                    "models", f"models of this kind must number at most {self._max_models} here; delete one first"
                )
            self._reserved[kind, name] = identity.current().name if owner is None else owner
        return name

    def hold(self, kind: str, name: str, owner: str) -> None:
        """Reserve a name again that an earlier server had reserved for that owner."""
        with self._guard:
            self._reserved[kind, name] = owner

    def release(self, kind: str, name: str) -> None:
        """Release a reserved name; a model that was put there meanwhile stays."""
        with self._guard:
            self._reserved.pop((kind, name), None)

    def put(self, kind: str, name: str, folder: Path) -> None:
        """Move a complete model to its reserved name; OSError where something exists there."""
        place = self._root / kind / name
        place.parent.mkdir(exist_ok=True)
        if owner := self._reserved.get((kind, name)):
            (folder / OWNER).write_text(owner, encoding="utf-8")
            sync(folder / OWNER)
        try:
            os.rename(folder, place)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # From another file system it is copied first, so that it is complete when it gets its name.
            copied = self.incoming / secrets.token_hex(16)
            shutil.copytree(folder, copied)
            sync_tree(copied)
            os.rename(copied, place)
            shutil.rmtree(folder, ignore_errors=True)
        sync(place.parent)

    def path(self, kind: str, name: str, field: str = "model") -> Path:
        """Return a model's folder; INVALID_ARGUMENT for a malformed name, NOT_FOUND where there is no such model."""
        place = self._root / kind / validate_name(field, name)
        if place.is_symlink() or not place.is_dir() or not identity.current().sees(read_owner(place)):
            raise self.unknown(kind, name)
        return place

    def created(self, kind: str, name: str, field: str = "model") -> float:
        """Return when a model was stored, in seconds since 1970; raises as `path` does."""
        try:
            return self.path(kind, name, field).stat().st_mtime
        except FileNotFoundError:  # deleted in between
            raise self.unknown(kind, name) from None

    def names(self, kind: str) -> list[str]:
        """Return the names of the models of a kind that the caller may see, in alphabetical order."""
        folder, caller = self._root / kind, identity.current()
        return sorted(name for name in self._names(kind) if caller.sees(read_owner(folder / name)))

    def count(self, kind: str) -> int:
        """Return the number of models of a kind, whoever owns them."""
        return len(self._names(kind))

    def load(self, kind: str, name: str, read: Callable[[Path], Any]) -> Any:
        """Return the model that `read` loads, from memory if it was used lately; the caller must not change it."""
        place = self.path(kind, name)
        try:
            found = place.stat()
            stamp = (found.st_ino, found.st_mtime_ns)
            with self._guard:
                held = self._loaded.get((kind, name))
                if held is not None and held[0] == stamp:
                    self._loaded.move_to_end((kind, name))
                    return held[1]
            model = read(place)
        except FileNotFoundError:  # deleted in between
            raise self.unknown(kind, name) from None
        with self._guard:
            self._loaded[kind, name] = stamp, model
            while len(self._loaded) > LOADED:
                self._loaded.popitem(last=False)
        return model

    def delete(self, kind: str, name: str) -> None:
        """Remove a model; NOT_FOUND where there is none."""
        place = self.path(kind, name, "name")
        with self._guard:
            self._loaded.pop((kind, name), None)
        # Moved out of sight at once: a reader never sees a part of it.
        doomed = self.incoming / secrets.token_hex(16)
        try:
            os.rename(place, doomed)
        except FileNotFoundError:
            raise self.unknown(kind, name) from None
        shutil.rmtree(doomed, ignore_errors=True)

    def close(self) -> None:
        """Release the folder to other servers; a temporary one is removed with its content."""
        self._lock.close()
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.cleanup()

    def _names(self, kind: str) -> list[str]:
        folder = self._root / kind
        if not folder.is_dir():
            return []
        return [
            one.name for one in os.scandir(folder) if one.is_dir(follow_symlinks=False) and NAME.fullmatch(one.name)
        ]

    def unknown(self, kind: str, name: str) -> errors.ServiceError:
        """Return NOT_FOUND for a model that does not exist, or belongs to another caller."""
        return errors.not_found(resource_type(kind), name, "never trained, or was deleted", "model")


def read_owner(place: Path) -> str:
    """Return the owner of the model in a folder; empty where callers were anonymous."""
    try:
        return (place / OWNER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def validate_name(field: str, name: str) -> str:
    """Return a name that a model can have; INVALID_ARGUMENT, naming `field`, otherwise."""
    if not NAME.fullmatch(name):
        raise errors.invalid(
            field,
            f"{field} must be 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first, got {name[:80]!r}",
        )
    return name


def resource_type(kind: str) -> str:
    """Return the full name of the message that describes a model of a kind."""
    return f"relaxon.v1.{kind.capitalize()}Model"
