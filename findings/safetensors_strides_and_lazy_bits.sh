#!/usr/bin/env bash
# safetensors 0.8.0: arrays that are not C-contiguous, and torch's lazy views, are read back with other entries.
#
# safetensors.numpy.save_file writes the bytes of a transposed, Fortran-ordered, strided or reversed array in memory
# order under the array's logical shape; load_file gives wrong entries without an error. safetensors.torch refuses
# tensors that are not contiguous, but writes a lazily conjugated or negated tensor without its conjugation or negation.
# Expected: what is loaded equals what was saved, or the call is refused. Remedy: numpy.asarray(a, order="C");
# tensor.resolve_conj().resolve_neg().contiguous(). Exit status 0 while that is so, 1 where it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# On Linux the CPU build: PyPI's own torch brings gigabytes of CUDA libraries.
torch=(torch==2.13.0)
[ "$(uname -s)" = Linux ] && torch=(torch==2.13.0+cpu --find-links https://download.pytorch.org/whl/cpu/torch/)
PIP_RETRIES=1 "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  safetensors==0.8.0 numpy==2.4.6 "${torch[@]}"
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import safetensors
import torch
from safetensors import numpy as of_numpy
from safetensors import torch as of_torch

print(f"safetensors {safetensors.__version__}, numpy {np.__version__}, torch {torch.__version__}")
whole = np.arange(6.0).reshape(2, 3)
z = torch.tensor([1 + 2j, 3 - 4j])
arrays = {
    "C-contiguous": (whole, True),
    "transposed": (whole.T, False),
    "Fortran order": (np.asfortranarray(whole), False),
    "strided": (whole[:, ::2], False),
    # Its first six numbers in memory, from where it starts, still lie in the array that it is a view of. Of a reversed
    # view of a whole array, bytes that lie behind the array are written.
    "reversed": (np.arange(12.0).reshape(4, 3)[:2, ::-1], False),
}
# The view as real numbers of a conjugate: its imaginary part is negated lazily; one entry is contiguous.
tensors = {
    "plain": (z, True),
    "conjugated": (z.conj(), False),
    "negated": (z[:1].conj().imag, False),
}
changed = []
for kind, (array, sound) in arrays.items():
    of_numpy.save_file({"a": array}, "file")
    found = of_numpy.load_file("file")["a"]
    equal = bool(np.array_equal(found, array))
    print(f"numpy, {kind}: saved {array.tolist()}, loaded {found.tolist()}: {'equal' if equal else 'DIFFERENT'}")
    changed += [kind] if equal != sound else []
for kind, (tensor, sound) in tensors.items():
    of_torch.save_file({"a": tensor}, "file")
    found = of_torch.load_file("file")["a"]
    equal = bool(torch.equal(found, tensor))
    print(f"torch, {kind}: saved {tensor.tolist()}, loaded {found.tolist()}: {'equal' if equal else 'DIFFERENT'}")
    changed += [kind] if equal != sound else []
if changed:
    raise SystemExit(f"changed: {', '.join(changed)}")
print("as described: all but the first of each library are read back with other entries, without an error")
PY
