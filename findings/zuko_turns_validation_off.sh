#!/usr/bin/env bash
# Importing zuko 1.6.0 turns off the validation of all distributions of torch 2.13.0, also of those that have nothing to do
# with it: a scale below 0 or a value outside the support then gives numbers instead of a ValueError.
# Input: a normal distribution with scale -1, before and after the import.
# Exit status 0 while this is so, 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "torch==2.13.0" "zuko==1.6.0"
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.distributions import Normal


def is_refused() -> bool:
    try:
        print("log-density at 0:", float(Normal(0.0, -1.0).log_prob(torch.zeros(()))))
    except ValueError as error:
        print("refused:", str(error).splitlines()[0])
        return True
    return False


before = is_refused()
import zuko  # noqa: E402, F401

assert before and not is_refused(), "the import leaves the validation of torch's distributions on now"
PY
