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
from relaxon.server import errors
from relaxon.server.job_folder import locked, sync_tree

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""No separator, and no dot at the start: a name stays within its kind's folder."""
LOADED = 8
"""Models kept in memory between calls; the one not used for longest goes first."""
JOBS, INCOMING = "jobs", ".incoming"


class ModelStore:
    """Folders `<root>/<kind>/<name>`, each as the engine's own `save` wrote it; safe to use from several threads.

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
        self._reserved: set[tuple[str, str]] = set()
        self._loaded: OrderedDict[tuple[str, str], tuple[tuple[int, int], Any]] = OrderedDict()
        self._lock = locked(self._root, "model_folder")
        self.jobs = self._root / JOBS
        """Where jobs belong that are given no folder of their own."""
        self.incoming = self._root / INCOMING
        """For models that are not complete yet, or not there any more; emptied at the start."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir()

    def reserve(self, kind: str, name: str, field: str) -> str:
        """Keep a name for a model that is yet to come: `name`, or one made up where it is empty.

        INVALID_ARGUMENT naming `field`, ALREADY_EXISTS, or RESOURCE_EXHAUSTED.
        """
        name = checked_name(field, name) if name else f"{kind}-{secrets.token_hex(8)}"
        with self._guard:
            taken = set(self._names(kind)) | {other for of, other in self._reserved if of == kind}
            # Some file systems do not tell letters' cases apart.
            if name.casefold() in {other.casefold() for other in taken}:
                raise errors.already_exists(
                    resource(kind), name, f"{field} {name!r} is taken; delete that model first, or use another name"
                )
            if len(taken) >= self._max_models:
                raise errors.exhausted(
                    "models", f"models of this kind must number at most {self._max_models} here; delete one first"
                )
            self._reserved.add((kind, name))
        return name

    def hold(self, kind: str, name: str) -> None:
        """Keep the name of a model that an earlier server had reserved."""
        with self._guard:
            self._reserved.add((kind, name))

    def release(self, kind: str, name: str) -> None:
        """Give a reserved name up; the model that was put there meanwhile stays."""
        with self._guard:
            self._reserved.discard((kind, name))

    def put(self, kind: str, name: str, folder: Path) -> None:
        """Move a complete model to its reserved name; OSError where something is there already."""
        place = self._root / kind / name
        place.parent.mkdir(exist_ok=True)
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
        place = self._root / kind / checked_name(field, name)
        if place.is_symlink() or not place.is_dir():
            raise self._unknown(kind, name)
        return place

    def names(self, kind: str) -> list[str]:
        """The models of a kind, in alphabetical order."""
        return sorted(self._names(kind))

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
            raise self._unknown(kind, name) from None
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
            raise self._unknown(kind, name) from None
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

    def _unknown(self, kind: str, name: str) -> errors.ServiceError:
        return errors.not_found(resource(kind), name, "never trained, or was deleted", "model")


def checked_name(field: str, name: str) -> str:
    """A name that can be a model's; INVALID_ARGUMENT naming `field` otherwise."""
    if not NAME.fullmatch(name):
        raise errors.invalid(
            field,
            f"{field} must be 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first, got {name[:80]!r}",
        )
    return name


def resource(kind: str) -> str:
    """The full name of the message that describes a model of that kind."""
    return f"relaxon.v1.{kind.capitalize()}Model"
