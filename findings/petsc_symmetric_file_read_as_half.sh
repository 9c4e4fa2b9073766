#!/usr/bin/env bash
# PETSc 3.18.5 (petsc4py) writes a symmetric matrix (SBAIJ) to a binary file under the header of a general one, its upper
# half alone. MatLoad into the default type (AIJ) reads that half as the whole matrix, without an error or a warning: nothing
# in the file or its .info says that it is a half.
# Input: the tridiagonal (-1, 4, -1) matrix of six unknowns as SBAIJ, written by MatView and read by MatLoad.
# Needs Debian 12's python3-petsc4py (PETSc 3.18.5), as PETSc has no wheels: exit status 2 where that version is not installed.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Debian's petsc4py is found by PETSC_DIR, which is /usr/lib/petsc where the alternatives system has set that up.
export PETSC_DIR=${PETSC_DIR:-$(ls -d /usr/lib/petsc /usr/lib/petscdir/petsc*/*-real 2>/dev/null | head -1 || true)}
pinned=3.18.5
found=$(/usr/bin/python3 -c "import petsc4py; print(petsc4py.__version__)" 2>/dev/null || true)
[ "$found" = "$pinned" ] || { echo "needs petsc4py $pinned, got ${found:-none}"; exit 2; }
/usr/bin/python3 - "$folder/a.petsc" <<'PY'
import sys

import petsc4py

path = sys.argv.pop()
petsc4py.init([])
import numpy as np
from petsc4py import PETSc

comm, n = PETSc.COMM_SELF, 6
print("PETSc", ".".join(map(str, PETSc.Sys.getVersion())))


def viewer(mode):
    return PETSc.Viewer().createBinary(path, mode, comm=comm)


A = PETSc.Mat().create(comm)
A.setSizes([n, n])
A.setType("sbaij")
A.setUp()
for i in range(n):
    A.setValue(i, i, 4.0)
    if i + 1 < n:
        A.setValue(i, i + 1, -1.0)
A.assemble()
A.view(viewer("w"))
B = PETSc.Mat().create(comm)
B.load(viewer("r"))
x, y, z = (PETSc.Vec().createSeq(n, comm=comm) for _ in range(3))
x.set(1.0)
A.mult(x, y)
B.mult(x, z)
print("written:", A.getType(), y.getArray(), "times ones")
print("read:   ", B.getType(), z.getArray(), "times ones, symmetric:", B.isSymmetric())
right = np.allclose(y.getArray(), [3, 2, 2, 2, 2, 3])
half = np.allclose(z.getArray(), [3, 3, 3, 3, 3, 4])
sys.exit(0 if right and half else 1)
PY
