"""Task-driven dictionary learning: atoms that are good for a classifier, not only for the reconstruction.

    python dictionary_learning.py [STEPS] [PICTURE.png]

The sparse code of an image b in a dictionary θ is `x⋆(θ) = argmin ½ ‖b − x θ‖² + λ₁ ‖x‖₁ + ½ λ₂ ‖x‖²` (J. Mairal, F.
Bach, J. Ponce, "Task-driven dictionary learning", 2012; M. Blondel et al. 2022, section 4); a logistic regression
reads the digit from the code. Both, atoms and classifier, are trained together on the classifier's loss: the
derivative of the codes in the dictionary comes from the proximal gradient fixed point. The comparison is with a
dictionary learned for the reconstruction alone, with the same classifier trained on its codes.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from relaxon.implicit import custom_fixed_point, prox_elastic_net, proximal_gradient

ATOMS, CLASSES = 12, 10
L1, L2 = 0.05, 0.01
STEP = 0.1  # 1/L of the codes' objective for unit atoms is at least 1/ATOMS


def load(train: int = 600, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return unit images (m, 64) and labels (m,): `train` of them, and all the others."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = normalize(torch.from_numpy(digits.data[order]))
    labels = torch.from_numpy(digits.target[order]).long()
    return images[:train], labels[:train], images[train:], labels[train:]


def reconstruction(codes: Tensor, atoms: Tensor, images: Tensor) -> Tensor:
    """Return `½ ‖B − X θ‖²` of codes (m, a), atoms (a, 64) and images (m, 64)."""
    return 0.5 * (images - codes @ atoms).square().sum()


def shrink(codes: Tensor, step: float, *_: Tensor) -> Tensor:
    """Return the proximal operator of the elastic net, for a step."""
    return prox_elastic_net(codes, step * L1, step * L2)


@custom_fixed_point(proximal_gradient(reconstruction, shrink, STEP), batch_dims=1)
def encode(start: None, atoms: Tensor, images: Tensor) -> Tensor:
    """Return the sparse codes (m, a) of images, by accelerated proximal gradient steps."""
    codes = ahead = torch.zeros(len(images), len(atoms), dtype=images.dtype)
    size = 1 / float(torch.linalg.matrix_norm(atoms, 2)) ** 2
    momentum = 1.0
    for _ in range(20_000):
        new = shrink(ahead - size * (ahead @ atoms - images) @ atoms.T, size)
        following = 0.5 * (1 + (1 + 4 * momentum**2) ** 0.5)
        change = new - codes
        if ((ahead - new) * change).sum() > 0:
            following = 1.0
        ahead = new + (momentum - 1) / following * change if following > 1 else new
        codes, momentum = new, following
        if change.abs().max() < 1e-11:
            break
    return codes


def learn(images: Tensor, labels: Tensor, steps: int, task_driven: bool, rate: float = 0.005) -> tuple[Tensor, Tensor]:
    """Return atoms (a, 64) and the classifier (a + 1, 10).

    Half the steps learn the atoms for the reconstruction; the others train the classifier, and, if `task_driven`, the
    atoms with it.
    """
    generator = torch.Generator().manual_seed(0)
    atoms = normalize(images[:ATOMS] + 0.05 * torch.randn(ATOMS, 64, generator=generator, dtype=images.dtype))
    weights = torch.zeros(ATOMS + 1, CLASSES, dtype=images.dtype, requires_grad=True)
    atoms.requires_grad_()
    for phase in ("reconstruction", "task"):
        moving = phase == "reconstruction" or task_driven
        groups = [{"params": [atoms], "lr": rate}] * moving + [{"params": [weights], "lr": 0.3}] * (phase == "task")
        optimiser = torch.optim.Adam(groups)
        for _ in range(steps // 2):
            optimiser.zero_grad()
            codes = encode(None, atoms, images)
            if phase == "reconstruction":
                # The derivative of the minimum in θ is that of the objective at fixed codes (Danskin).
                loss = reconstruction(codes.detach(), atoms, images) / len(images)
            else:
                loss = cross_entropy(classify(codes, weights), labels) + 1e-3 * weights.square().sum()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                atoms.copy_(normalize(atoms))
    return atoms.detach(), weights.detach()


def classify(codes: Tensor, weights: Tensor) -> Tensor:
    """Return the scores (m, 10) of codes."""
    return codes @ weights[:-1] + weights[-1]


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    images, labels, test_images, test_labels = load()
    atoms, scores = {}, {}
    for name, task_driven in (("reconstruction", False), ("task-driven", True)):
        atoms[name], weights = learn(images, labels, steps, task_driven)
        right = classify(encode(None, atoms[name], test_images), weights).argmax(1).eq(test_labels)
        scores[name] = float(right.double().mean())
        used = float((encode(None, atoms[name], test_images) != 0).double().sum(1).mean())
        print(f"{name} dictionary: accuracy {scores[name]:.3f} on {len(test_labels)} digits")
        print(f"  a code uses {used:.1f} of {ATOMS} atoms")
    if len(sys.argv) > 2:
        draw(sys.argv[2], atoms, scores)
    return 0 if scores["task-driven"] > scores["reconstruction"] else 1


def draw(path: str, atoms: dict[str, Tensor], scores: dict[str, float]) -> None:
    """Write a picture of both dictionaries."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, ATOMS, figsize=(11, 2.4), layout="constrained")
    for row, (name, found) in zip(axes, atoms.items(), strict=True):
        for place, atom in zip(row, found, strict=True):
            place.imshow(atom.reshape(8, 8).numpy(), cmap="RdBu", vmin=-0.5, vmax=0.5)
            place.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{name}\n{100 * scores[name]:.1f} %")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
