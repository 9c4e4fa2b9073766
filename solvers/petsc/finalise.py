"""Finalise PETSc before the Python interpreter ends."""

# Imported on first use, for its weight: petsc4py.

from __future__ import annotations

import atexit

_registered: list[bool] = []


def end_before_python() -> None:
    """Have PETSc finalised among Python's exit handlers.

    By default petsc4py finalises PETSc after the interpreter is gone, and destroys what is left then. An object of type
    python among it would call the interpreter (a segmentation fault with 3.18).
    """
    if not _registered:
        from petsc4py import PETSc

        _registered.append(True)
        atexit.register(PETSc._finalize)
