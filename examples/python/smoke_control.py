"""Smoke control: gradients through a whole simulation, including its pressure solves.

    python smoke_control.py [GRADIENT_STEPS] [PICTURE.png]

A puff of smoke rises in a closed box for some time steps with buoyancy, semi-Lagrangian advection, and a projection by
`poisson_solve`, which torch differentiates by one more solve. Adam finds the initial wind for which the smoke ends at
the desired place.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from relaxon.solvers import PoissonGrid, prepare
from relaxon.solvers.torch import poisson_solve

N, STEPS, DT, BUOYANCY = 32, 12, 0.5, 0.2
PREPARED = prepare(PoissonGrid(np.zeros((N, N), np.uint8)))  # closed walls; distances in cells


def blob(x: float, y: float, radius: float = 3.5) -> Tensor:
    axis = torch.arange(N, dtype=torch.float64) + 0.5
    return torch.exp(-((axis[:, None] - x) ** 2 + (axis[None, :] - y) ** 2) / radius**2)


def carried(field: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return a cell field advected by the velocity of its cells, by bilinear interpolation at the departure points."""
    axis = torch.arange(N, dtype=torch.float64) + 0.5
    x, y = axis[:, None] - DT * u, axis[None, :] - DT * v
    # grid_sample takes (y, x) from −1 to 1 over the whole field.
    where = torch.stack([2 * y / N - 1, 2 * x / N - 1], -1)[None]
    return F.grid_sample(field[None, None], where, padding_mode="border", align_corners=False)[0, 0]


def projected(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the divergence-free part of a cell velocity, projected on faces with walls."""
    faces_u = F.pad(0.5 * (u[1:] + u[:-1]), (0, 0, 1, 1))
    faces_v = F.pad(0.5 * (v[:, 1:] + v[:, :-1]), (1, 1))
    divergence = faces_u[1:] - faces_u[:-1] + faces_v[:, 1:] - faces_v[:, :-1]
    p = poisson_solve(PREPARED, -divergence, rtol=1e-8)
    faces_u = faces_u - F.pad(p[1:] - p[:-1], (0, 0, 1, 1))
    faces_v = faces_v - F.pad(p[:, 1:] - p[:, :-1], (1, 1))
    return 0.5 * (faces_u[1:] + faces_u[:-1]), 0.5 * (faces_v[:, 1:] + faces_v[:, :-1])


def simulated(u: Tensor, v: Tensor) -> Tensor:
    """Return the smoke after all steps, for an initial wind."""
    smoke = blob(N / 2, N / 4)
    for _ in range(STEPS):
        u, v = projected(u, v + DT * BUOYANCY * smoke)
        smoke, u, v = carried(smoke, u, v), carried(u, u, v), carried(v, u, v)
    return smoke


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    wanted = blob(0.7 * N, 0.55 * N)
    wind = torch.zeros(2, N, N, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([wind], lr=0.05)
    losses = []
    for step in range(count):
        optimiser.zero_grad()
        end = simulated(wind[0], wind[1])
        loss = (end - wanted).square().sum() / wanted.square().sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if step % max(count // 5, 1) == 0 or step == count - 1:
            print(f"gradient step {step}: distance {losses[-1]:.4f}")
    if len(sys.argv) > 2:
        picture(sys.argv[2], wind.detach(), wanted)
    return 0 if losses[-1] < 0.7 * losses[0] else 1


def picture(path: str, wind: Tensor, wanted: Tensor) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    still = torch.zeros_like(wind)
    fields = {
        "start": blob(N / 2, N / 4),
        "end, no wind": simulated(still[0], still[1]),
        "end, with the wind found": simulated(wind[0], wind[1]),
        "wanted": wanted,
    }
    figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
    for place, (title, field) in zip(axes, fields.items(), strict=True):
        place.imshow(field.T, origin="lower", cmap="magma", vmin=0, vmax=1)
        place.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
