"""Every module can be the first of the project that is imported: none leans on another having been there before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import relaxon

PACKAGE = Path(relaxon.__file__).parent
PROGRAM = """
import importlib, os, sys, traceback
import grpc, numba, numpy, scipy.sparse.linalg, sklearn.base, torch  # in the parent, once
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(" ".join(failed) or 0)
"""


def modules(*packages: str) -> list[str]:
    found = []
    for package in packages:
        for path in sorted((PACKAGE / package).resolve().rglob("*.py")):
            parts = path.relative_to((PACKAGE / package).resolve()).with_suffix("").parts
            name = ".".join(["relaxon", package, *(part for part in parts if part != "__init__")])
            found.append(name)
    return found


def test_every_module_of_the_engines_can_be_imported_first():
    names = [
        name
        for name in modules("implicit", "solvers", "neuromorphic")
        if ".petsc." not in name or name.endswith("kernels")
    ]
    assert len(names) > 100
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
