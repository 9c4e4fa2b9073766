"""A gradient through a solve: recover a hidden source in torch.

`poisson_solve` is a differentiable function of its right-hand side; the backward pass is one more solve with the same
matrix. Here the source of a field is found from noisy measurements at 100 points, by gradient descent.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from relaxon.solvers import PoissonGrid, prepare
from relaxon.solvers.torch import poisson_solve

n = 32
prepared = prepare(PoissonGrid(np.zeros((n, n), np.uint8), 1 / n, "dirichlet"))
grid = torch.meshgrid([(torch.arange(n, dtype=torch.float64) + 0.5) / n] * 2, indexing="ij")
hidden = 50 * torch.exp(-((grid[0] - 0.35) ** 2 + (grid[1] - 0.6) ** 2) / 0.01)

generator = torch.Generator().manual_seed(0)
sensors = torch.randperm(n * n, generator=generator)[:100]
measured = poisson_solve(prepared, hidden).flatten()[sensors]
measured = measured + 0.002 * torch.randn(100, dtype=torch.float64, generator=generator)

source = torch.zeros(n, n, dtype=torch.float64, requires_grad=True)
optimiser = torch.optim.Adam([source], lr=1.0)
losses = []
for _ in range(100):
    optimiser.zero_grad()
    field = poisson_solve(prepared, source.clamp(min=0))
    misfit = (field.flatten()[sensors] - measured).square().sum()
    misfit.backward()
    optimiser.step()
    losses.append(misfit.item())
print(f"misfit {losses[0]:.2e} → {losses[-1]:.2e}")

figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
axes[0].imshow(hidden.numpy().T, origin="lower")
axes[0].set_title("hidden source")
axes[1].imshow(source.detach().numpy().clip(0).T, origin="lower")
axes[1].plot(sensors.numpy() // n, sensors.numpy() % n, ".", color="white", markersize=2)
axes[1].set_title("recovered, with the sensors")
axes[2].semilogy(losses)
axes[2].set(xlabel="step", ylabel="misfit")
plt.show()
