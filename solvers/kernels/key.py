"""The key of compiled kernels: a short hash of their sources, the compiler, and the processor."""
# Imported on first use, for their weight: llvmlite, numba, numpy.

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys

SOURCES = re.compile(r"(\w+_)?(kernels|passes|sweeps|compiled|lean)\.py")
"""The names of files with kernels. As a kernel may call kernels of other files, while Numba checks only the file of the
caller, an edit of any of these files changes the key of all kernels."""
PARTS = ("solvers", "neuromorphic")
"""The folders of the package with such files."""
SETTINGS = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "CPU_NAME", "CPU_FEATURES")
"""Numba's settings (environment variables `NUMBA_…`) that change the generated code."""
DIGITS = 20
"""Hexadecimal digits of a key: 80 bits, so that two keys never coincide by chance."""
PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def kernel_sources(package: str = PACKAGE) -> dict[str, bytes]:
    """Return the contents of all files with kernels, by their paths in the package, in order."""
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
    """Return the key of this process's kernels: a hash of their sources, the versions of the compiler, and the
    processor.

    Kernels compiled under a key are valid in every process with the same key, wherever the package is installed.
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
