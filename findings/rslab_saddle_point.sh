#!/usr/bin/env bash
# rslab's LDLᵀ calls a regular, well conditioned saddle point "numerically rank-deficient".
#
# rslab 1.7.0 (rslab.ldlt, documented for "symmetric" matrices, by Bunch-Kaufman pivots), numpy 2.4.6, scipy 1.17.1.
# The matrix is the marker-and-cell discretisation of Stokes flow in a closed box with one pressure held: symmetric, of
# full rank, its condition below 10⁴ by the singular values. rslab.ldlt raises
#     RuntimeError: matrix is numerically rank-deficient
# under every scaling it has. rslab.lu of the same matrix solves to rounding, and so does rslab.ldlt with the pivot
# floor (preconditioner=1e-8) and refinement: so the matrix is not at fault, and the message sends its reader to look for
# a null vector that there is none of.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 rslab==1.7.0

cat >"$folder/saddle.py" <<'PY'
import numpy as np
import rslab
from scipy import sparse

m = 16
second = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
inner = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m - 1, m - 1))
slope = sparse.diags_array([1.0, -1.0], offsets=[0, -1], shape=(m, m - 1))
one, less = sparse.eye_array(m), sparse.eye_array(m - 1)
velocity = sparse.block_diag(
    [sparse.kron(inner, one) + sparse.kron(less, second), sparse.kron(second, less) + sparse.kron(one, inner)]
)
divergence = sparse.hstack([sparse.kron(slope, one), sparse.kron(one, slope)], format="csr")[1:]
a = sparse.csc_matrix(sparse.block_array([[velocity, divergence.T], [divergence, None]]))
values = np.linalg.svd(a.toarray(), compute_uv=False)
print(f"{a.shape[0]} unknowns, symmetric: {abs(a - a.T).max() == 0}, condition {values[0] / values[-1]:.2g}")
assert values[0] / values[-1] < 1e4

refused = 0
for scaling in ("one_pass", "inf_norm", "mc64", "identity"):
    try:
        rslab.ldlt(a, scaling=scaling)
        print(f"ldlt, {scaling}: factored")
    except RuntimeError as error:
        refused += 1
        print(f"ldlt, {scaling}: {error}")

x = np.random.default_rng(0).standard_normal(a.shape[0])
b = a @ x
for name, found in (
    ("lu", rslab.lu(a).solve(b)),
    ("ldlt with a pivot floor", rslab.ldlt(a, preconditioner=1e-8).solve(b, refine=5)),
):
    error = np.abs(found - x).max()
    print(f"{name}: error {error:.1e}")
    assert error < 1e-8
print("as described" if refused == 4 else "no longer so")
raise SystemExit(0 if refused == 4 else 1)
PY
"$folder/venv/bin/python" "$folder/saddle.py"
