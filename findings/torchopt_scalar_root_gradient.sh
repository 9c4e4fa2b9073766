#!/usr/bin/env bash
# TorchOpt 0.7.3 gives -0 for the implicit gradient of a scalar root, where the same root as a vector has the right one:
# its CG takes the number of unknowns of a 0-dimensional right-hand side for 0 and makes no step (issue 222 of TorchOpt).
# It also gives a gradient, without a word, at a point that is no root.
# Input: x² = 4 by custom_root with the exact root 2 (gradient 1/4), and with half of it.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "torch==2.13.0" "torchopt==0.7.3"
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import torch
import torchopt


def gradient(shape, share):
    a = torch.full(shape, 4.0, dtype=torch.float64, requires_grad=True)
    root = torchopt.diff.implicit.custom_root(
        lambda x, a: x * x - a, argnums=1, solve=torchopt.linear_solve.solve_normal_cg()
    )(lambda x, a: share * a.detach().sqrt())
    return torch.autograd.grad(root(torch.zeros_like(a.detach()), a).sum(), a)[0]


scalar, vector, no_root = gradient((), 1.0), gradient((1,), 1.0), gradient((1,), 0.5)
print("torch", torch.__version__, "torchopt", torchopt.__version__)
print("scalar:", scalar.item(), "vector:", vector.item(), "at half of the root:", no_root.item())
sys.exit(0 if scalar == 0 and abs(vector.item() - 0.25) < 1e-9 and torch.isfinite(no_root).all() else 1)
PY
