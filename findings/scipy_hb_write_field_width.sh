#!/usr/bin/env bash
# SciPy 1.17.1's hb_write announces fields of 25 characters, (3E25.16), and writes fields of 24: by the format in the
# file's own header, which is how Fortran reads it, the sign of a third number on a line falls into the second field.
# SciPy's hb_read does not see it, as it parts numbers by blanks.
# Input: a 3 by 3 matrix with a negative number that comes third in its columns.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - "$folder/a.rua" <<'PY'
import re
import sys

import numpy as np
import scipy
from scipy.io import hb_read, hb_write
from scipy.sparse import csc_array

A = csc_array(np.array([[0.5, -0.25, 0.0], [0.125, 2.0, 0.75], [0.0, -1.5, 1.0]]))
hb_write(sys.argv[1], A)
lines = open(sys.argv[1]).read().splitlines()
announced = lines[3][32:52].strip()
per_line, width = map(int, re.fullmatch(r"\((\d+)E(\d+)\.\d+\)", announced).groups())
print("scipy", scipy.__version__, "announces", announced)
fields = [line[at : at + width] for line in lines[6:] for at in range(0, per_line * width, width)]
fields = [field for field in fields if field.strip()]
for field, value in zip(fields, A.data):
    print(f"{value:6}: {field!r}")
broken = [field for field in fields if len(field.split()) != 1]
own = abs(hb_read(sys.argv[1]) - A).max() == 0
print(len(broken), "fields hold no number; hb_read reads its own file right:", own)
sys.exit(0 if broken and own else 1)
PY
