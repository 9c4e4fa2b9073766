#!/usr/bin/env bash
# SciPy 1.17.1's mmread drops Fortran's exponents without a word: 2.5D+03 (the D edit descriptor) and 2.5+300 (what E20.12
# writes where an exponent has three digits) are both read as 2.5. NIST's own mmio.f reads both by list-directed input;
# SciPy's older Python reader (scipy.io._mmio, where it is still there) refuses them with a ValueError.
# Input: Matrix Market files of two entries, coordinate and array, as a Fortran program writes them.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import io
import sys
from importlib import import_module

import numpy as np
import scipy
from scipy.io import mmread

print("scipy", scipy.__version__)
COORDINATE = "%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 {}\n2 2 1.0\n"
ARRAY = "%%MatrixMarket matrix array real general\n2 1\n{}\n1.0\n"
silent = True
for written, value in (("2.5D+03", 2.5e3), ("2.5d3", 2.5e3), ("2.5+300", 2.5e300), ("2.5-300", 2.5e-300)):
    for name, text in (("coordinate", COORDINATE), ("array", ARRAY)):
        found = mmread(io.BytesIO(text.format(written).encode()))
        first = float((found.toarray() if hasattr(found, "toarray") else found)[0, 0])
        print(f"{name:10}  {written:8} means {value:g}, is read as {first:g}")
        silent &= first == 2.5
usual = float(np.asarray(mmread(io.BytesIO(ARRAY.format("2.5E+03").encode())))[0, 0]) == 2.5e3
try:
    import_module("scipy.io._mmio").mmread(io.BytesIO(COORDINATE.format("2.5D+03").encode()))
    print("the older reader takes it")
except (ImportError, ValueError) as error:
    print(f"the older reader: {type(error).__name__}: {error}")
sys.exit(0 if silent and usual else 1)
PY
