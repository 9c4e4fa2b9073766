"""Distil a data set: ten images, one per class, from which a classifier of all digits is trained.

    python dataset_distillation.py [STEPS] [PICTURE.png]

The inner problem trains a multiclass logistic regression on the ten images θ, `x⋆(θ) = argmin loss(x, θ) + ε ‖x‖²`, by
SciPy's L-BFGS, which torch cannot differentiate; the outer one lowers that classifier's loss on the whole training set
by gradient descent on the pixels (M. Blondel et al. 2022, section 4). The gradient needs one linear solve with the
inner Hessian.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import cross_entropy

from relaxon.implicit import ImplicitOptions, custom_root, stationary

CLASSES, PIXELS = 10, 64
RIDGE = 1e-3  # ε, of the paper's example
LABELS = torch.arange(CLASSES)
UNTRAINED = torch.zeros(PIXELS, CLASSES, dtype=torch.float64)


def load(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images (m, 64) in [0, 1] and labels (m,): two thirds for training, one third for the test."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images, labels = torch.from_numpy(digits.data[order] / 16), torch.from_numpy(digits.target[order]).long()
    cut = 2 * len(order) // 3
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def inner_loss(weights: Tensor, images: Tensor) -> Tensor:
    """Return the ridge-regularised loss of a classifier (64, 10) on the distilled images (10, 64)."""
    return cross_entropy(images @ weights, LABELS) + RIDGE * weights.square().sum()


@custom_root(stationary(inner_loss), options=ImplicitOptions(symmetric=True))
def train(start: Tensor, images: Tensor) -> Tensor:
    """Return the classifier (64, 10) that the distilled images train, from an initial guess of that shape."""

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat.reshape(PIXELS, CLASSES)).requires_grad_()
        with torch.enable_grad():
            value = inner_loss(weights, images)
            (slope,) = torch.autograd.grad(value, weights)
        return value.item(), slope.numpy().ravel()

    options = {"maxiter": 10_000, "gtol": 1e-9, "ftol": 0.0}
    found = minimize(loss, start.numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x.reshape(PIXELS, CLASSES))


def accuracy(weights: Tensor, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that a classifier labels correctly."""
    return float((images @ weights).argmax(1).eq(labels).double().mean())


def distil(images: Tensor, labels: Tensor, steps: int, rate: float = 0.02) -> tuple[Tensor, list[float]]:
    """Return the distilled images (10, 64), after Adam's steps from grey ones, and the outer losses."""
    generator = torch.Generator().manual_seed(0)
    distilled = 0.5 + 0.01 * torch.randn(CLASSES, PIXELS, generator=generator, dtype=torch.float64)
    distilled.requires_grad_()
    optimiser = torch.optim.Adam([distilled], lr=rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = cross_entropy(images @ train(UNTRAINED, distilled), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return distilled.detach(), losses


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    images, labels, test_images, test_labels = load()
    means = torch.stack([images[labels == label].mean(0) for label in range(CLASSES)])
    distilled, losses = distil(images, labels, steps)
    print(f"loss on {len(labels)} digits: {losses[0]:.3f} at the start, {losses[-1]:.3f} after {steps} steps")
    found = accuracy(train(UNTRAINED, distilled), test_images, test_labels)
    plain = accuracy(train(UNTRAINED, means), test_images, test_labels)
    print(f"accuracy on {len(test_labels)} other digits: {found:.3f} from ten distilled images")
    print(f"and {plain:.3f} from the ten means of the classes")
    if len(sys.argv) > 2:
        draw(sys.argv[2], distilled, means)
    return 0 if losses[-1] < losses[0] else 1


def draw(path: str, distilled: Tensor, means: Tensor) -> None:
    """Write a picture of the distilled images above the means of the classes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, CLASSES, figsize=(10, 2.4), layout="constrained")
    for row, (name, pictures) in zip(axes, {"distilled": distilled, "mean": means}.items(), strict=True):
        for place, picture in zip(row, pictures, strict=True):
            place.imshow(picture.reshape(8, 8).numpy(), cmap="gray")
            place.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
