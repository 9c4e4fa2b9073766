"""The cache of compiled kernels on disk: a file for each kernel and signature, in a folder whose key covers all that
compiled code depends on.

Numba's own cache lies next to the package, has an index for each function that two concurrent processes may corrupt,
and considers a kernel up to date as long as its own file has not changed, even where a kernel that it calls has.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import pickle
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from numba.core import caching, compiler_lock, serialize
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import nrt

from relaxon.solvers.kernels import cache_folder
from relaxon.solvers.kernels.key import is_kernel_source, kernel_key

Compiled = TypeVar("Compiled")
FunctionCache: Any = caching.FunctionCache
dump: Any = serialize.dumps
COMPILER_LOCK: Any = compiler_lock.global_compiler_lock
RUNTIME: Any = nrt.rtsys
CHECKSUM_BYTES = 32


def enable_cache(kernel: Compiled) -> Compiled:
    """Cache the compiled code of a kernel (a Numba dispatcher) on disk, and return the kernel."""
    kernel_key()  # of the sources as they are now, not as they are when the first kernel is called
    if isinstance(kernel, Dispatcher):  # a plain function where NUMBA_DISABLE_JIT is set
        dispatcher: Any = kernel
        dispatcher._cache = KernelCache(dispatcher)
    return kernel


class KernelCache(FunctionCache):  # type: ignore[misc]
    """The compiled code of a kernel on disk. Failures lead to another compilation and one warning, never to an
    error."""

    def __init__(self, kernel: Any) -> None:
        self._py_func = kernel.py_func
        self._name = repr(kernel.py_func)
        self._impl = _Implementation(kernel.py_func)
        options = sorted((name, _spell_option(value)) for name, value in kernel.targetoptions.items())
        self._identity = (self._impl.filename_base, options, _own_source(self._impl.locator._py_file))
        self.enable()

    @property
    def cache_path(self) -> str | None:
        path = cache_folder.open_folder().path
        return None if path is None else str(path)

    def flush(self) -> None:
        """Do nothing: outdated code is in the folder of another key."""

    def holds(self, signature: Any, target_context: Any) -> bool:
        """Return whether the code for a signature (a tuple of Numba types) is in the cache."""
        path = self._path(self._index_key(signature, target_context.codegen()))
        return path is not None and path.exists()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, None where it must be compiled."""
        RUNTIME.initialize(target_context)  # not refresh(): only who compiles needs the implementations, and calls it
        path = self._path(self._index_key(sig, target_context.codegen())) if self._enabled else None
        if path is None:
            return None
        try:
            content = path.read_bytes()
            checksum, data = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
            if hashlib.sha256(data).digest() != checksum:
                return None
            return self._impl.rebuild(target_context, pickle.loads(data))
        except OSError:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the code for a signature, atomically."""
        if not self._enabled or not self._impl.check_cachable(data):
            return
        folder = cache_folder.open_folder()
        path = self._path(self._index_key(sig, data.codegen))
        if path is None:
            return
        if not folder.writable:
            cache_folder.warn_once(folder.problem)
            return
        content = dump(self._impl.reduce(data))
        draft = path.with_name(f".{uuid.uuid4().hex}.draft")
        try:
            draft.write_bytes(hashlib.sha256(content).digest() + content)
            os.replace(draft, path)
        except OSError as error:
            cache_folder.warn_once(f"{path.parent} cannot be written to ({error.strerror or error})")
            with contextlib.suppress(OSError):
                draft.unlink()

    def _path(self, key: Any) -> Path | None:
        folder = cache_folder.open_folder().path
        if folder is None:
            return None
        digest = hashlib.sha256(repr((self._identity, key)).encode()).hexdigest()
        return folder / f"{self._impl.filename_base}-{digest[:20]}.nbc"


class _Implementation(FunctionCache._impl_class):  # type: ignore[misc]
    """Numba's interface of a function's cache, without its search for a folder next to the package."""

    def __init__(self, py_func: Any) -> None:
        self._locator = SimpleNamespace(_py_file=inspect.getfile(py_func))
        self._lineno = py_func.__code__.co_firstlineno
        module = py_func.__module__.removeprefix("relaxon.")
        self._filename_base = f"{module}.{py_func.__qualname__}".replace("<", "").replace(">", "")


def _spell_option(option: Any) -> str:
    """Return an option as text. The order of a set, by its hashes, differs between processes."""
    return repr(sorted(option) if isinstance(option, set | frozenset) else option)


def _own_source(path: str) -> str:
    """Return the digest of a file whose kernels the folder's key does not cover, such as a test; empty where it
    does."""
    if is_kernel_source(path):
        return ""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:  # a cell of a notebook, whose code is part of the signature's key
        return ""


if hasattr(os, "register_at_fork"):
    # No thread may be compiling when the process forks: its child would wait for the compiler's lock for ever.
    os.register_at_fork(
        before=COMPILER_LOCK.acquire, after_in_parent=COMPILER_LOCK.release, after_in_child=COMPILER_LOCK.release
    )
