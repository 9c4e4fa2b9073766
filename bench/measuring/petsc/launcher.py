"""Finds the program that starts MPI processes for the MPI library that petsc4py was built with.

A machine may have several (Debian's Open MPI beside the environment's MPICH); processes that another library's launcher
starts do not find each other, each taking itself for the only one, or stop at options that it does not know.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

LOADED = """
import petsc4py
petsc4py.init([])
from petsc4py import PETSc
print(*sorted({line.split()[-1] for line in open("/proc/self/maps") if "/libmpi" in line}))
"""
"""Prints the MPI libraries that petsc4py has brought into its process."""
NAMES = {"libmpich": "mpiexec.mpich", "libmpi.so": "mpiexec.openmpi"}
"""What Debian calls the launcher of each library."""
OPEN_MPI_OPTIONS = ("--allow-run-as-root", "--oversubscribe")
SYSTEM_PATH = "/usr/bin:/bin:/usr/local/bin"
"""Where the system's own programs are, before those of an environment that is active."""


def find_launcher(python: str | Path, environment: Mapping[str, str]) -> list[str] | None:
    """Return the command that starts MPI processes of `python` with petsc4py, with its options, or None."""
    command = [str(python), "-c", LOADED]
    found = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    libraries = found.stdout.split() if found.returncode == 0 else []
    wanted = [program for part, program in NAMES.items() if any(part in Path(name).name for name in libraries)]
    path = f"{SYSTEM_PATH}{os.pathsep}{os.environ.get('PATH', '')}"
    for name in (*wanted[:1], "mpiexec"):
        program = shutil.which(name, path=path)
        if program is not None:
            return [program, *launcher_options(program)]
    return None


def launcher_options(program: str) -> tuple[str, ...]:
    """Return the options with which `program` starts more processes than there are cores, as root too."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return OPEN_MPI_OPTIONS if "Open MPI" in version or "OpenRTE" in version else ()
