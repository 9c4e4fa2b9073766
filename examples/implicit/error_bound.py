"""The errors of implicit and unrolled derivatives as a solver converges, and the bound on the former.

    python error_bound.py [STEPS] [PICTURE.png]

Theorem 1 of M. Blondel et al. 2022: where `A = −∂₁F` has singular values of at least α and is γ-Lipschitz in x, and `B
= ∂₂F` is β-Lipschitz in x and of norm R at the solution, the Jacobian J(x̂) from an approximate solution x̂ satisfies

    ‖J(x̂) − ∂x⋆‖ ≤ (β/α + γ R/α²) ‖x̂ − x⋆‖.

Here for ridge regression in one regulariser per feature (γ = 0), and for logistic regression in one regulariser (γ >
0), both solved by gradient descent, whose steps are unrolled for the comparison. All constants are global ones, known
in advance from the data; the paper's figure 3 is the first of the two.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor
from torch.nn.functional import softplus

from relaxon.implicit import ImplicitOptions, implicit, record_verdicts, stationary

# The theorem is about derivatives at points that are not roots.
ANYWHERE = ImplicitOptions(method="direct", on_unconverged="record", error_estimate="none")
LARGEST_SECOND = 1 / (6 * math.sqrt(3))  # the largest |σ''| of the logistic function


class Problem(NamedTuple):
    """An objective with its parameter θ, its curvature's bounds, and the theorem's α, β, γ, R as functions of x⋆."""

    objective: Callable[[Tensor, Tensor], Tensor]
    theta: Tensor
    start: Tensor
    least: float
    largest: float
    gamma: float
    spread: Callable[[Tensor], float]  # ‖B(x⋆)‖

    def bound(self, solution: Tensor, beta: float = 1.0) -> float:
        """Return `β/α + γ R/α²`."""
        return beta / self.least + self.gamma * self.spread(solution) / self.least**2


class Errors(NamedTuple):
    """Norms of errors after some steps: of the solution, of both Jacobians; and the bound on the implicit one."""

    steps: int
    solution: float
    implicit: float
    unrolled: float
    bound: float


def ridge() -> Problem:
    """Return `½ ‖A x − b‖² + ½ Σ θⱼ xⱼ²` on the diabetes data: `∂₂F = diag(x)`, so β = 1 and R = max |x⋆|."""
    data = load_diabetes()
    a = torch.from_numpy((data.data - data.data.mean(0)) / data.data.std(0)) / math.sqrt(len(data.target))
    b = torch.from_numpy((data.target - data.target.mean()) / data.target.std()) / math.sqrt(len(data.target))
    values = torch.linalg.eigvalsh(a.T @ a)
    theta = torch.full((a.shape[1],), 0.1, dtype=torch.float64)

    def objective(x: Tensor, theta: Tensor) -> Tensor:
        return 0.5 * (a @ x - b).square().sum() + 0.5 * (theta * x.square()).sum()

    least, largest = float(values[0]) + 0.1, float(values[-1]) + 0.1
    return Problem(objective, theta, torch.zeros_like(theta), least, largest, 0.0, lambda x: float(x.abs().max()))


def logistic(count: int = 200) -> Problem:
    """Return `Σ log(1 + exp(−yᵢ⟨aᵢ, x⟩))/m + ½ θ ‖x‖²` on breast cancer data: `∂₂F = x`, so β = 1, R = ‖x⋆‖."""
    data = load_breast_cancer()
    chosen = np.random.default_rng(0).permutation(len(data.target))[:count]
    features = data.data[chosen, :8]
    a = torch.from_numpy((features - features.mean(0)) / features.std(0))
    signs = torch.from_numpy(2.0 * data.target[chosen] - 1)
    theta = torch.tensor(0.2, dtype=torch.float64)

    def objective(x: Tensor, theta: Tensor) -> Tensor:
        return softplus(-signs * (a @ x)).mean() + 0.5 * theta * x.square().sum()

    # ‖Σ (σ'(uᵢ) − σ'(wᵢ)) aᵢ aᵢᵀ‖/m ≤ max |σ''| ‖x − x'‖ maxᵢ ‖aᵢ‖ ‖A‖²/m.
    square = float(torch.linalg.matrix_norm(a, 2)) ** 2 / count
    gamma = LARGEST_SECOND * float(a.norm(dim=1).max()) * square
    start = torch.zeros(a.shape[1], dtype=torch.float64)
    return Problem(objective, theta, start, 0.2, 0.25 * square + 0.2, gamma, lambda x: float(x.norm()))


PROBLEMS = {"ridge regression": ridge, "logistic regression": logistic}


def descend(problem: Problem, theta: Tensor, steps: int) -> Tensor:
    """Return the point after some steps of gradient descent of length 2/(μ + L), the best fixed one."""
    slope = torch.func.grad(problem.objective)
    x = problem.start
    for _ in range(steps):
        x = x - 2 / (problem.least + problem.largest) * slope(x, theta)
    return x


def solve(problem: Problem) -> Tensor:
    """Return the solution to machine precision, by Newton's method."""
    x = problem.start
    for _ in range(30):
        hessian = torch.func.hessian(problem.objective)(x, problem.theta)
        x = x - torch.linalg.solve(hessian, torch.func.grad(problem.objective)(x, problem.theta))
    return x


def implicit_jacobian(problem: Problem, point: Tensor) -> Tensor:
    """Return J(x̂), from whatever point a solver stopped at."""
    derivative = implicit(lambda init, theta: init, stationary(problem.objective), options=ANYWHERE)
    with record_verdicts():  # the verdicts say that it is not a root, as intended
        jacobian: Tensor = torch.func.jacfwd(lambda theta: derivative(point, theta))(problem.theta)
    return jacobian


def measure(problem: Problem, counts: list[int]) -> list[Errors]:
    """Return the errors after each number of steps."""
    solution = solve(problem)
    exact = implicit_jacobian(problem, solution)
    found = []
    for count in counts:
        point = descend(problem, problem.theta, count)
        unrolled = torch.func.jacfwd(lambda theta, count=count: descend(problem, theta, count))(problem.theta)
        error = float((point - solution).norm())
        errors = [_norm(jacobian - exact) for jacobian in (implicit_jacobian(problem, point), unrolled)]
        found.append(Errors(count, error, *errors, problem.bound(solution) * error))
    return found


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2) if matrix.ndim == 2 else matrix.norm())


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    counts = sorted({round(value) for value in np.geomspace(1, steps, 16)})
    measured = {name: measure(make(), counts) for name, make in PROBLEMS.items()}
    for name, rows in measured.items():
        print(f"{name}\n{'steps':>6} {'solution':>10} {'implicit':>10} {'bound':>10} {'unrolled':>10}")
        for row in rows:
            print(f"{row.steps:6} {row.solution:10.2e} {row.implicit:10.2e} {row.bound:10.2e} {row.unrolled:10.2e}")
    if len(sys.argv) > 2:
        draw(sys.argv[2], measured)
    return 0 if all(row.implicit <= row.bound for rows in measured.values() for row in rows) else 1


def draw(path: str, measured: dict[str, list[Errors]]) -> None:
    """Write a picture of the Jacobians' errors against the solution's, as the paper's figure 3."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(measured), figsize=(9, 3.6), layout="constrained")
    for place, (name, rows) in zip(axes, measured.items(), strict=True):
        solution = [row.solution for row in rows]
        place.loglog(solution, [row.unrolled for row in rows], "s-", color="#d95f02", label="unrolled", markersize=4)
        place.loglog(solution, [row.implicit for row in rows], "o-", color="#1b6ca8", label="implicit", markersize=4)
        place.loglog(solution, [row.bound for row in rows], "--", color="grey", label="bound of theorem 1")
        place.invert_xaxis()
        place.set(title=name, xlabel="error of the solution ‖x̂ − x⋆‖", ylabel="error of the Jacobian")
        place.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
