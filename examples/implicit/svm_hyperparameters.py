"""Hyper-parameters of a multiclass support vector machine, by the gradient of the validation loss.

    python svm_hyperparameters.py [SAMPLES] [PICTURE.png]

The dual of the multiclass SVM has one probability vector per sample: `x⋆(θ) = argmin θ/2 ‖W(x, θ)‖² + ⟨x, Y⟩` over rows
on the simplex, with the classifier `W(x, θ) = Xᵀ(Y − x)/θ` (K. Crammer and Y. Singer 2001; M. Blondel et al. 2022,
section 4). Three solvers find it, projected gradient, mirror descent and block coordinate descent in NumPy; the
derivative of all three comes from one and the same condition, the projected gradient fixed point. Gradient descent on
log θ then finds the regulariser with the least loss on the validation set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import one_hot

from relaxon.implicit import (
    ImplicitOptions,
    ImplicitSolver,
    custom_fixed_point,
    project_simplex,
    project_simplex_entropic,
    projected_gradient,
    record_verdicts,
)

TOLERANCE = 1e-10  # of a solver: the largest change of an entry in a step
FIRST = 5.0  # θ; much below, the training samples are separated and the loss is flat
STEP = 0.05  # of the condition, see `differentiate`


class Data(NamedTuple):
    """Samples (m, p) and one-hot labels (m, k), for training and for validation, in float64."""

    x: Tensor
    y: Tensor
    x_validation: Tensor
    y_validation: Tensor

    @property
    def curvature(self) -> float:
        """The largest eigenvalue of X Xᵀ: that of the dual objective's Hessian times θ."""
        return float(torch.linalg.matrix_norm(self.x, 2)) ** 2


def load(samples: int, noise: float = 0.2, seed: int = 0) -> Data:
    """Return digits with noise on their pixels, which makes regularisation count: half to train, half to validate."""
    digits = load_digits()
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(digits.target))[:samples]
    pixels = digits.data[chosen] / 16 + noise * random.standard_normal((samples, 64))
    x = torch.from_numpy(pixels - pixels.mean(0))
    y = one_hot(torch.from_numpy(digits.target[chosen]).long(), 10).to(torch.float64)
    half = samples // 2
    return Data(x[:half], y[:half], x[half:], y[half:])


def classifier(dual: Tensor, theta: Tensor, data: Data) -> Tensor:
    """Return the weights W (p, k) of a dual variable (m, k)."""
    return data.x.T @ (data.y - dual) / theta


def dual_objective(dual: Tensor, theta: Tensor, data: Data) -> Tensor:
    """Return `θ/2 ‖W‖² + ⟨x, Y⟩`."""
    return 0.5 * theta * classifier(dual, theta, data).square().sum() + (dual * data.y).sum()


def dual_gradient(dual: Tensor, theta: Tensor, data: Data) -> Tensor:
    """Return the gradient of `dual_objective` in its first argument, written out for the solvers."""
    return data.y - data.x @ classifier(dual, theta, data)


def validation_loss(dual: Tensor, theta: Tensor, data: Data) -> Tensor:
    """Return half the squared error of the classifier's scores on the validation set."""
    return 0.5 * (data.x_validation @ classifier(dual, theta, data) - data.y_validation).square().sum()


def uniform(data: Data) -> Tensor:
    """Return the start of all solvers, the centre of every simplex."""
    return torch.full_like(data.y, 1 / data.y.shape[1])


def solve_by_projected_gradient(
    theta: Tensor, data: Data, steps: int = 100_000, tolerance: float = TOLERANCE
) -> Tensor:
    """Return x⋆ by accelerated projected gradient, restarted where the momentum points uphill; torch may unroll it."""
    size = theta / data.curvature
    here = ahead = uniform(data)
    momentum = 1.0
    for _ in range(steps):
        new = project_simplex(ahead - size * dual_gradient(ahead, theta, data))
        change = (new - here).detach()
        if ((ahead.detach() - new.detach()) * change).sum() > 0:
            momentum = 1.0
        following = 0.5 * (1 + (1 + 4 * momentum**2) ** 0.5)
        here, ahead = new, new + (momentum - 1) / following * (new - here)
        momentum = following
        if change.abs().max() <= tolerance:
            break
    return here


def solve_by_mirror_descent(theta: Tensor, data: Data, steps: int = 2_000, tolerance: float = TOLERANCE) -> Tensor:
    """Return x⋆ by mirror descent with the entropy, in the logarithms of x, so that no entry leaves the simplex.

    Entries that are zero in the solution are only approached, quickly if the gradient keeps them there.
    """
    # The objective's gradient is smooth with respect to the entropy of each row with the largest squared row of X.
    size = theta / data.curvature
    here = uniform(data)
    logarithms = here.log()
    for _ in range(steps):
        logarithms = torch.log_softmax(logarithms - size * dual_gradient(here, theta, data), -1)
        new = project_simplex_entropic(logarithms)
        change = float((new - here).abs().max())
        here = new
        if change <= tolerance * 1e-2:  # the steps of this method are shorter than its error
            break
    return here


def solve_by_block_descent(theta: Tensor, data: Data, sweeps: int = 10_000, tolerance: float = TOLERANCE) -> Tensor:
    """Return x⋆ by exact minimisation over one sample's row at a time, in NumPy, which torch cannot differentiate."""
    x, y, scale = data.x.numpy(), data.y.numpy(), float(theta)
    dual = uniform(data).numpy()
    weights = x.T @ (y - dual) / scale
    curvatures = (x * x).sum(1) / scale
    for _ in range(sweeps):
        largest = 0.0
        for i in range(len(x)):
            new = _nearest_on_simplex(dual[i] - (y[i] - x[i] @ weights) / curvatures[i])
            change = new - dual[i]
            largest = max(largest, float(np.abs(change).max()))
            weights -= np.outer(x[i], change) / scale
            dual[i] = new
        if largest <= tolerance:
            break
    return torch.from_numpy(dual)


def _nearest_on_simplex(point: np.ndarray) -> np.ndarray:
    ordered = np.sort(point)[::-1]
    excess = np.cumsum(ordered) - 1
    count = np.count_nonzero(ordered * np.arange(1, len(point) + 1) > excess)
    return np.maximum(point - excess[count - 1] / count, 0)


SOLVERS: dict[str, Callable[[Tensor, Data], Tensor]] = {
    "projected gradient": solve_by_projected_gradient,
    "mirror descent": solve_by_mirror_descent,
    "block coordinate descent": solve_by_block_descent,
}


def project_rows(y: Tensor, *_: object) -> Tensor:
    """Project every row onto the simplex, whatever the parameters."""
    return project_simplex(y)


def differentiate(solver: Callable[..., Tensor], data: Data, options: ImplicitOptions | None = None) -> ImplicitSolver:
    """Return a solver whose result has the derivative of the projected gradient fixed point in θ."""
    # The step that the condition uses changes no derivative: one of the order of 1/L for θ = 1 serves.
    condition = projected_gradient(lambda dual, theta: dual_objective(dual, theta, data), project_rows, STEP)
    return custom_fixed_point(condition, options=options)(
        lambda init, theta, **settings: solver(theta, data, **settings)
    )


def choose(
    data: Data, steps: int, solver: Callable[..., Tensor] = solve_by_projected_gradient
) -> list[tuple[float, float]]:
    """Return θ and the validation loss before each step of gradient descent on log θ, θ = `FIRST` at the start."""
    solve = differentiate(solver, data)
    logarithm = torch.tensor(FIRST, dtype=torch.float64).log().requires_grad_()
    optimiser = torch.optim.Adam([logarithm], lr=0.2)
    path = []
    for _ in range(steps):
        optimiser.zero_grad()
        theta = logarithm.exp()
        loss = validation_loss(solve(None, theta), theta, data)
        loss.backward()
        path.append((theta.item(), loss.item()))
        optimiser.step()
    return path


def gradients(data: Data, theta: float) -> dict[str, tuple[float, float]]:
    """Return dloss/dθ by each solver, with the residual of its result: one condition, three solvers."""
    found = {}
    for name, solver in SOLVERS.items():
        # Mirror descent approaches a vertex of the simplex slowly: the gradient is taken at the point that it reaches.
        options = ImplicitOptions(on_unconverged="record")
        value = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        with record_verdicts() as verdicts:
            validation_loss(differentiate(solver, data, options)(None, value), value, data).backward()
        found[name] = (value.grad.item(), verdicts[0].root_residual)
    return found


def main() -> int:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    data = load(samples)
    for name, (gradient, residual) in gradients(data, 20.0).items():
        print(f"{name}: dloss/dθ = {gradient:.8f} at θ = 20, relative residual {residual:.1e}")
    path = choose(data, 30)
    for step in range(0, len(path), 6):
        print(f"step {step}: θ = {path[step][0]:.3f}, validation loss {path[step][1]:.3f}")
    best = min(path, key=lambda point: point[1])
    print(f"best: θ = {best[0]:.3f}, validation loss {best[1]:.3f}, {path[0][1]:.3f} at the start")
    if len(sys.argv) > 2:
        draw(sys.argv[2], data, path)
    return 0 if path[-1][1] < path[0][1] else 1


def draw(path: str, data: Data, steps: list[tuple[float, float]]) -> None:
    """Write a picture of the validation loss over θ with the steps that gradient descent took."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    thetas = np.geomspace(0.5, 10 * max(theta for theta, _ in steps), 15)
    losses = []
    for theta in torch.from_numpy(thetas):
        losses.append(float(validation_loss(solve_by_projected_gradient(theta, data), theta, data)))
    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    axes.loglog(thetas, losses, color="grey", label="validation loss")
    axes.loglog(*zip(*steps, strict=True), "o-", color="#1b6ca8", markersize=4, label="gradient descent on log θ")
    axes.set(xlabel="regulariser θ", ylabel="loss on the validation set")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
