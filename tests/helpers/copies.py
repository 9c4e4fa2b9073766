"""Copies of what kernels need, with small kernels of their own, for tests of the cache."""

import os
import shutil
from pathlib import Path

import relaxon.solvers

PACKAGE = Path(relaxon.solvers.__file__).parent
CALLEE = "from relaxon.solvers.kernels.compiled import plain\n\n\n@plain\ndef add(x):\n    return x + {}\n"
CALLER = """
from relaxon.solvers.kernels.compiled import plain
from relaxon.solvers.inner_kernels import add


@plain
def add_twice(x):
    return add(add(x))
"""
NEEDED = ("core", "solvers/kernels", "solvers/precompile")
"""The packages that a copy holds whole, beside the kernels of its own."""


def make_copy(folder):
    """Make a package with two small kernels, one of which calls the other in another file; its folder."""
    root = folder / "copy" / "relaxon"
    (root / "solvers").mkdir(parents=True)
    shutil.copy(PACKAGE.parent / "__init__.py", root)
    shutil.copy(PACKAGE.parent / "_version.py", root)
    shutil.copy(PACKAGE / "__init__.py", root / "solvers")
    for name in NEEDED:
        shutil.copytree(PACKAGE.parent / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "solvers" / "grid").mkdir()
    for name in ("__init__.py", "hooks.py"):
        shutil.copy(PACKAGE / "grid" / name, root / "solvers" / "grid")
    (root / "solvers" / "inner_kernels.py").write_text(CALLEE.format(1))
    (root / "solvers" / "outer_kernels.py").write_text(CALLER)
    return root


def environment(copy, **changes):
    """The environment of a process that imports a copy; None takes a variable away."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    kept |= {"PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    return {name: value for name, value in {**kept, **changes}.items() if value is not None}
