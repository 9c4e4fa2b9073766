#!/usr/bin/env bash
# SciPy 1.17.1's sparse.random and random_array need memory for all m·n places of the matrix, not for its entries, unless
# they are given a Generator: the legacy generator behind `random_state=0`, and behind no seed at all, draws places without
# repetition from a permutation of all of them (scipy/sparse/_construct.py, Generator.choice against RandomState.choice).
# `rng=0` seeds a Generator. So a test matrix of 100,000 rows with five entries in each asks for 80 GB, or for next to
# nothing, according to the name of the keyword that its seed is given by.
# Input: 4,000 × 4,000, density 1e-4, 1,600 entries. Output seen: 128.0 MB with random_state=0 or no seed, 0.1 MB with rng=0.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import sys
import tracemalloc

import scipy
from scipy import sparse

n, density = 4000, 1e-4
print("scipy", scipy.__version__)
peaks = {}
for said, seed in (("random_state=0", {"random_state": 0}), ("no seed", {}), ("rng=0", {"rng": 0})):
    tracemalloc.start()
    entries = sparse.random_array((n, n), density=density, **seed).nnz
    peaks[said] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{said}: {entries} entries, {peaks[said] / 1e6:.1f} MB at the peak, {8 * n * n / 1e6:.1f} MB are a number a place")
surprising = min(peaks["random_state=0"], peaks["no seed"]) >= 8 * n * n
usual = peaks["rng=0"] < 1e6
sys.exit(0 if surprising and usual else 1)
PY
