#!/usr/bin/env bash
# torch 2.13.0 gives 0 for second derivatives by nested forward mode through a custom autograd.Function with a `jvp` rule
# written as its documentation says (setup_context, save_for_forward): forward mode is off while the rule runs, so that
# the tangents of the outer level are lost. Known to pytorch as issue 197867.
# Input: the square root at 4, whose second derivative is -1/32; torch's own sqrt gives it.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "torch==2.13.0"
"$folder/venv/bin/python" - <<'PY'
import sys

import torch
from torch.func import jacfwd


class SquareRoot(torch.autograd.Function):
    @staticmethod
    def forward(a):
        return a.sqrt()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(output)

    @staticmethod
    def jvp(ctx, tangent):
        (root,) = ctx.saved_tensors
        return tangent / (2 * root)

    @staticmethod
    def vmap(info, in_dims, a):
        return SquareRoot.apply(a), in_dims[0]


four = torch.tensor(4.0, dtype=torch.float64)
own, custom = (jacfwd(jacfwd(function))(four).item() for function in (torch.sqrt, SquareRoot.apply))
print("torch", torch.__version__, "second derivative:", own, "through a custom function:", custom)
sys.exit(0 if abs(own + 1 / 32) < 1e-12 and custom == 0 else 1)
PY
