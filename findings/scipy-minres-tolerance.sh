#!/usr/bin/env bash
# SciPy 1.17.1's minres reports success (info 0) with a residual far above rtol ‖b‖: it stops where an estimate of
# ‖r‖ / (‖A‖ ‖x‖) is below rtol (scipy/sparse/linalg/_isolve/minres.py, "test1"), while the page of cg, gmres and others
# promises norm(b - A @ x) <= max(rtol * norm(b), atol) for the same argument.
# Input: the tridiagonal (-1, 2, -1) matrix of 1,000 unknowns and b of ones; symmetric positive definite, no preconditioner.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import scipy
from scipy.sparse import diags_array
from scipy.sparse.linalg import cg, minres

n, rtol = 1000, 1e-6
A = diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()
b = np.ones(n)
print("scipy", scipy.__version__)
found = {}
for solver in (cg, minres):
    x, info = solver(A, b, rtol=rtol, maxiter=10 * n)
    found[solver.__name__] = info, np.linalg.norm(b - A @ x) / np.linalg.norm(b)
    print(f"{solver.__name__}(rtol={rtol:g}): info {info}, true relative residual {found[solver.__name__][1]:.1e}")
surprising = found["minres"][0] == 0 and found["minres"][1] > 100 * rtol
usual = found["cg"][0] == 0 and found["cg"][1] <= rtol
sys.exit(0 if surprising and usual else 1)
PY
