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
"""No separator, and no dot at the start: a name stays within its kind's folder."""
LOADED = 8
"""Models kept in memory between calls; the one not used for longest goes first."""
JOBS, INCOMING = "jobs", ".incoming"
OWNER = ".owner"
"""The file beside a model's own that holds the name of the caller who made it."""


class ModelStore:
    """Folders `<root>/<kind>/<name>`, each as the engine's own `save` wrote it; safe to use from several threads.

    A model is its maker's: others, admins aside, are told that there is none of that name. Who asks is known from the
    call's context, which a thread has to have a copy of. That a name is taken, all are told who want to use it.

    A model is written elsewhere on the same file system and moved into its place, so that what is there is complete.
    """

    def __init__(self, root: str, max_models: int) -> None:
        """`root` is made where missing, and is this store's alone; where empty, a temporary folder is.

        OSError where it cannot be written to, or another server has it.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="relaxon-models-") if not root else None
        self._root = Path(self._temporary.name if self._temporary else root).resolve()
        self._max_models = max_models
        self._guard = threading.Lock()
        self._reserved: dict[tuple[str, str], str] = {}
        """With the owner of each."""
        self._loaded: OrderedDict[tuple[str, str], tuple[tuple[int, int], Any]] = OrderedDict()
        self._lock = lock_folder(self._root, "model_folder")
        self.jobs = self._root / JOBS
        """Where jobs belong that are given no folder of their own."""
        self.incoming = self._root / INCOMING
        """For models that are not complete yet, or not there any more; emptied at the start."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir()

    def reserve(self, kind: str, name: str, field: str, owner: str | None = None) -> str:
        """Keep a name for a model that is yet to come: `name`, or one made up where it is empty.

        It will be `owner`'s, the present caller's where that is None.
        INVALID_ARGUMENT naming `field`, ALREADY_EXISTS, or RESOURCE_EXHAUSTED.
        """
        name = validate_name(field, name) if name else f"{kind}-{secrets.token_hex(8)}"
        with self._guard:
            taken = set(self._names(kind)) | {other for of, other in self._reserved if of == kind}
            # Some file systems do not tell letters' cases apart.
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
        """Keep the name of a model that an earlier server had reserved for that caller."""
        with self._guard:
            self._reserved[kind, name] = owner

    def release(self, kind: str, name: str) -> None:
        """Give a reserved name up; the model that was put there meanwhile stays."""
        with self._guard:
            self._reserved.pop((kind, name), None)

    def put(self, kind: str, name: str, folder: Path) -> None:
        """Move a complete model to its reserved name; OSError where something is there already."""
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
            # From another file system it is copied first, so that it is whole when it has its name.
            copied = self.incoming / secrets.token_hex(16)
            shutil.copytree(folder, copied)
            sync_tree(copied)
            os.rename(copied, place)
            shutil.rmtree(folder, ignore_errors=True)
        sync(place.parent)

    def path(self, kind: str, name: str, field: str = "model") -> Path:
        """A model's folder; INVALID_ARGUMENT for what can be no name, NOT_FOUND where there is none of it."""
        place = self._root / kind / validate_name(field, name)
        if place.is_symlink() or not place.is_dir() or not identity.current().sees(read_owner(place)):
            raise self.unknown(kind, name)
        return place

    def created(self, kind: str, name: str, field: str = "model") -> float:
        """When a model was put there, in seconds since 1970; as `path` else."""
        try:
            return self.path(kind, name, field).stat().st_mtime
        except FileNotFoundError:  # deleted in between
            raise self.unknown(kind, name) from None

    def names(self, kind: str) -> list[str]:
        """The models of a kind that the caller sees, in alphabetical order."""
        folder, caller = self._root / kind, identity.current()
        return sorted(name for name in self._names(kind) if caller.sees(read_owner(folder / name)))

    def count(self, kind: str) -> int:
        """How many models of a kind there are, whoever made them."""
        return len(self._names(kind))

    def load(self, kind: str, name: str, read: Callable[[Path], Any]) -> Any:
        """What `read` makes of a model's folder, from memory where it was used lately; not to be changed."""
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
        # Out of sight at once; a reader never sees half of it.
        doomed = self.incoming / secrets.token_hex(16)
        try:
            os.rename(place, doomed)
        except FileNotFoundError:
            raise self.unknown(kind, name) from None
        shutil.rmtree(doomed, ignore_errors=True)

    def close(self) -> None:
        """Let another server have the folder; a temporary one goes, with all that is in it."""
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
        """NOT_FOUND for a model that is not there, or not the caller's."""
        return errors.not_found(resource_type(kind), name, "never trained, or was deleted", "model")


def read_owner(place: Path) -> str:
    """Who made the model in that folder: empty where nobody was asked who they are."""
    try:
        return (place / OWNER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def validate_name(field: str, name: str) -> str:
    """A name that can be a model's; INVALID_ARGUMENT naming `field` otherwise."""
    if not NAME.fullmatch(name):
        raise errors.invalid(
            field,
            f"{field} must be 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first, got {name[:80]!r}",
        )
    return name


def resource_type(kind: str) -> str:
    """The full name of the message that describes a model of that kind."""
    return f"relaxon.v1.{kind.capitalize()}Model"
