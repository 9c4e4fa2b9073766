#!/usr/bin/env bash
# PyAMG 5.4.1's krylov.gmres stops by ‖M r‖ < tol ‖M b‖ (as its page says), while its cg and bicgstab with the same
# arguments stop by ‖r‖ < tol ‖b‖: where unknowns have mixed units, gmres returns info 0 with a true relative residual
# five orders above tol. Its residual history is of the preconditioned norm, too.
# Input: a five-point Laplacian of 900 unknowns whose rows and columns are scaled by units from 1e-3 to 1e3, M the
# inverse of the diagonal; symmetric positive definite.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "scipy==1.17.1" "pyamg==5.4.1"
"$folder/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from pyamg.krylov import cg, gmres
from scipy import sparse

side, tol = 30, 1e-6
path = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
rng = np.random.default_rng(0)
b = rng.normal(size=side * side)
units = sparse.diags_array(10.0 ** rng.uniform(-3, 3, side * side))
A = sparse.csr_matrix(units @ sparse.csr_array(sparse.kronsum(path, path)) @ units)
M = sparse.csr_matrix(sparse.diags_array(1 / A.diagonal()))
print("pyamg", version("pyamg"))
found = {}
for solver, options in ((cg, {"maxiter": 20_000}), (gmres, {"restart": 200, "maxiter": 200})):
    x, info = solver(A, b, M=M, tol=tol, **options)
    r = b - A @ x
    true, own = (np.linalg.norm(P @ r) / np.linalg.norm(P @ b) for P in (sparse.eye_array(len(b)), M))
    found[solver.__name__] = info, true
    print(f"{solver.__name__}(tol={tol:g}): info {info}, true relative residual {true:.1e}, preconditioned {own:.1e}")
surprising = found["gmres"][0] == 0 and found["gmres"][1] > 1000 * tol
usual = found["cg"][0] == 0 and found["cg"][1] <= 1.01 * tol
sys.exit(0 if surprising and usual else 1)
PY
