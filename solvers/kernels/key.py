"""What compiled kernels depend on: their sources, the compiler, and the processor, as one short key."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys

SOURCES = re.compile(r"(\w+_)?(kernels|passes|sweeps|compiled|lean)\.py")
"""The names of the files that hold kernels. A kernel may call those of other files, and Numba itself looks at the file
of the calling one alone: an edit of any of these files gives every kernel another key."""
PARTS = ("solvers", "neuromorphic")
"""The folders of the package that hold such files."""
SETTINGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "CPU_NAME", "CPU_FEATURES")
"""Numba's settings (environment variables `NUMBA_…`) that change the code that it makes."""
DIGITS = 20
"""Hexadecimal digits of a key: 80 bits, so that two of them never meet by chance."""
PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def kernel_sources(package: str = PACKAGE) -> dict[str, bytes]:
    """Return the contents of all files that hold kernels, by their paths in the package, in order."""
    found: dict[str, bytes] = {}
    folders = [os.path.join(package, part) for part in PARTS]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:  # a package without its neuromorphic part
            continue
        for entry in entries:
            if SOURCES.fullmatch(entry.name):
                with open(entry.path, "rb") as file:
                    found[os.path.relpath(entry.path, package).replace(os.sep, "/")] = file.read()
            elif entry.is_dir() and entry.name != "__pycache__":
                folders.append(entry.path)
    return dict(sorted(found.items()))


def is_kernel_source(path: str) -> bool:
    """Return whether a file's contents are part of the key."""
    inside = any(os.path.abspath(path).startswith(os.path.join(PACKAGE, part) + os.sep) for part in PARTS)
    return inside and SOURCES.fullmatch(os.path.basename(path)) is not None


@functools.cache
def kernel_key() -> str:
    """Return the key of this process's kernels: of their sources, the versions of what compiles them, the processor.

    Kernels that were compiled under one key are right for every process with the same one, wherever the package lies.
    """
    import llvmlite
    import numba
    import numpy
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    environment = (
        numba.__version__,
        llvmlite.__version__,
        numpy.__version__,
        sys.implementation.cache_tag,
        sys.version,
        platform.system(),
        platform.machine(),
        binding.get_host_cpu_name(),
        sorted(name for name, present in features.items() if present),
        [(name, getattr(numba.config, name, None)) for name in SETTINGS],
    )
    digest = hashlib.sha256(repr(environment).encode())
    for path, content in kernel_sources().items():
        digest.update(f"\0{path}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{sys.implementation.cache_tag}-{digest.hexdigest()[:DIGITS]}"
