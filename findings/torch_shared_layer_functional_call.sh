#!/usr/bin/env bash
# torch 2.13.0: torch.func.functional_call leaves a module changed in which one layer occurs twice. The replacement goes
# in under the layer's first name, is taken for the layer's own tensor under the second, and is what is put back: the
# module then holds a plain tensor that is no parameter and has no gradient, and training it goes on without an effect.
# Input: a sequence of a layer, a ReLU and the same layer, called with copies of its parameters.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "torch==2.13.0"
"$folder/venv/bin/python" - <<'PY'
import sys

import torch
from torch import nn
from torch.func import functional_call

layer = nn.Linear(2, 2)
model = nn.Sequential(layer, nn.ReLU(), layer)
own = layer.weight
copies = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
functional_call(model, copies, (torch.ones(1, 2),))
kept = layer.weight is own
print("torch", torch.__version__, "the layer has its own weight:", kept, "requires grad:", layer.weight.requires_grad)
sys.exit(1 if kept else 0)
PY
