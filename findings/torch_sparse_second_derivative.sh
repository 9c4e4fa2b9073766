#!/usr/bin/env bash
# torch 2.13.0: second derivatives through torch.sparse_coo_tensor(indices, values) are silently wrong.
#
# Input: f(w) = sum(values**3) + sum(w**2), where values are those of the sparse tensor made from w, float64. Its
# second derivative along ones is 6 w + 2. Expected: that, or an error that says that it is not implemented. Seen: 2,
# everywhere: the backward pass of the constructor, run with create_graph=True, returns a gradient without a graph, so
# that whatever passes through the sparse tensor is missing from the second derivative. The first one is right.
# The same for torch.sparse.mm. Exit status 0 while that is so, 1 where it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch

print(f"torch {torch.__version__}")
indices = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
start = torch.tensor([2.0, -1.0, -1.0, 3.0], dtype=torch.float64)
column = torch.tensor([[1.0], [2.0]], dtype=torch.float64)


def product(values):
    """The same product, written out."""
    return torch.stack([values[0] + 2 * values[1], values[2] + 2 * values[3]])


cases = {
    "coalesce().values()": (lambda w: (torch.sparse_coo_tensor(indices, w, (2, 2)).coalesce().values() ** 3).sum(),
                            lambda w: (w**3).sum()),
    "torch.sparse.mm": (lambda w: (torch.sparse.mm(torch.sparse_coo_tensor(indices, w, (2, 2)), column) ** 3).sum(),
                        lambda w: (product(w) ** 3).sum()),
}
wrong = 0
for name, pair in cases.items():
    found = []
    for function in pair:
        w = start.clone().requires_grad_()
        (first,) = torch.autograd.grad(function(w) + (w**2).sum(), w, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), w)
        found.append((first.detach(), second))
    (first, second), (right_first, right_second) = found
    print(f"{name}: first {first.tolist()}, as written out {right_first.tolist()};")
    print(f"  second {second.tolist()}, as written out {right_second.tolist()}")
    wrong += torch.equal(first, right_first) and torch.equal(second, torch.full_like(second, 2.0))
if wrong != len(cases):
    raise SystemExit(f"changed: {wrong} of {len(cases)} as described")
print("as described: first derivatives are right, second ones miss what passes through the sparse tensor")
PY
