#!/usr/bin/env bash
# polyfem-polysolve 0.0.1: the strength threshold "theta" of its Hypre solver is accepted and has no effect.
#
# Input: the 5-point Laplacian of a 60 x 60 grid stretched 10:1 (couplings 100 and 1), symmetric positive definite, which
# BoomerAMG coarsens differently by its threshold: with 0 the weak couplings are strong too. Expected: thresholds of 0, 0.25
# and 0.9, options that the validated settings list as settings of the Hypre solver, give different hierarchies and
# so different iterations. Seen: the answers have the same bits and the same iterations, for "dimension" 1 and 2. An
# unknown option is refused, so the name is right; "dimension", which is heeded, changes the answer.
# Exit status 0 while that is so, 1 where it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check polyfem-polysolve==0.0.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
import polysolve
from scipy import sparse

print(f"polyfem-polysolve {version('polyfem-polysolve')}, numpy {np.__version__}")
n = 60
line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
eye = sparse.eye_array(n)
matrix = sparse.csc_matrix(100.0 * sparse.kron(line, eye) + sparse.kron(eye, line))
b = np.ones(n * n)


def solved(**options):
    settings = {"solver": "Hypre", "Hypre": {"tolerance": 1e-8, **options}}
    solver = polysolve.LinearSolver(settings, polysolve.LogLevel.off)
    solver.analyze_pattern(matrix)
    solver.factorize(matrix)
    x = solver.solve(b)
    residual = np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)
    print(f"{options}: {solver.info()['num_iterations']} iterations, residual {residual:.3e}")
    return x


answers = {dimension: [solved(dimension=dimension, theta=theta) for theta in (0.0, 0.25, 0.9)] for dimension in (1, 2)}
same = all(np.array_equal(first, other) for first, *others in answers.values() for other in others)
heeded = not np.array_equal(answers[1][0], answers[2][0])
try:
    polysolve.LinearSolver({"solver": "Hypre", "Hypre": {"thetta": 0.5}}, polysolve.LogLevel.off)
    refused = False
except Exception:
    refused = True
if not (same and heeded and refused):
    raise SystemExit(f"changed: same bits {same}, dimension heeded {heeded}, unknown option refused {refused}")
print("as described: theta changes no bit, dimension does, an unknown option is refused")
PY
