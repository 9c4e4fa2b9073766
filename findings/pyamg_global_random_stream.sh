#!/usr/bin/env bash
# PyAMG 5.4.1: setting up smoothed aggregation draws from NumPy's global random stream.
#
# Input: the 5-point Poisson matrix of a 20 x 20 grid, PyAMG's default options. Expected by most callers: building a
# solver leaves their seeded random numbers alone, and gives the same hierarchy each time. Seen: the global stream
# moves on, and two hierarchies of one matrix differ. Cause: pyamg/util/linalg.py, approximate_spectral_radius, starts
# from numpy.random.rand unless it is given a start; smoothed aggregation gives none. Ruge-Stuben is not affected.
# Exit status 0 while that is so, 1 where it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyamg==5.4.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import pyamg
import scipy

print(f"pyamg {pyamg.__version__}, numpy {np.__version__}, scipy {scipy.__version__}")
matrix = pyamg.gallery.poisson((20, 20), format="csr")
seen = {}
for build in (pyamg.smoothed_aggregation_solver, pyamg.ruge_stuben_solver):
    np.random.seed(0)
    untouched = np.random.rand()
    np.random.seed(0)
    first = build(matrix)
    after = np.random.rand()
    second = build(matrix)
    difference = abs(first.levels[0].P - second.levels[0].P).max()
    seen[build.__name__] = (after != untouched, difference > 0)
    print(f"{build.__name__}: next number of the seeded stream {untouched:.6f} without, {after:.6f} after a set-up;")
    print(f"  largest difference between the interpolations of two set-ups {difference:.1e}")
expected = {"smoothed_aggregation_solver": (True, True), "ruge_stuben_solver": (False, False)}
if seen != expected:
    raise SystemExit(f"changed: (stream moved, set-ups differ) is {seen}, was {expected}")
print("as described: smoothed aggregation moves the caller's stream and differs from run to run, Ruge-Stuben does not")
PY
