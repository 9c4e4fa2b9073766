#!/usr/bin/env bash
# TorchOpt 0.7.3's custom_root takes a second derivative without a word, and it is wrong: of x = √θ at θ = 4 (the root of
# x² − θ) the second derivative is −1/32. With the default linear solver, and with solve_normal_cg, it returns +1/32; with
# solve_cg, 0; only solve_inv, which forms the Jacobian, gives −1/32. The first derivative is right with all four.
# Input: one float64 number, torch.autograd.grad with create_graph=True, then torch.autograd.grad of its result.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "numpy==2.4.6" "torchopt==0.7.3"
"$folder/venv/bin/python" - <<'PY'
import sys
import warnings
from importlib.metadata import version

import torch
import torchopt
from torchopt.diff.implicit import custom_root

warnings.simplefilter("ignore")  # deprecations of functorch, several a gradient
print("torchopt", version("torchopt"), "torch", torch.__version__)
solvers = {
    "default": None,
    "solve_normal_cg": torchopt.linear_solve.solve_normal_cg(),
    "solve_cg": torchopt.linear_solve.solve_cg(),
    "solve_inv": torchopt.linear_solve.solve_inv(),
}
first, second = {}, {}
for name, solve in solvers.items():
    root = custom_root(lambda x, theta: x * x - theta, argnums=1, solve=solve)(lambda init, theta: theta.sqrt())
    theta = torch.tensor([4.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(root(torch.zeros(1, dtype=torch.float64), theta).sum(), theta, create_graph=True)
    first[name], second[name] = slope.item(), torch.autograd.grad(slope.sum(), theta)[0].item()
    print(f"{name}: first derivative {first[name]:.6f} (1/4), second {second[name]:+.6f} (−1/32)")
as_told = (
    all(abs(value - 0.25) < 1e-9 for value in first.values())
    and abs(second["default"] - 1 / 32) < 1e-9
    and abs(second["solve_normal_cg"] - 1 / 32) < 1e-9
    and abs(second["solve_cg"]) < 1e-9
    and abs(second["solve_inv"] + 1 / 32) < 1e-9
)
sys.exit(0 if as_told else 1)
PY
