"""Stretched cells and a Robin side: a plate that cools at its surface.

The heat equation, implicit in time: each step solves `(1/Δt − ∇²) x = x_old/Δt`. Cells are narrow at the surface on the
left, where heat leaves to surroundings at temperature 0 in proportion to the surface's temperature.
"""

import matplotlib.pyplot as plt
import numpy as np

from relaxon.solvers import PoissonGrid, Robin, prepare

widths = np.geomspace(1, 20, 48)
widths /= widths.sum()
centres = np.cumsum(widths) - widths / 2
dt, h = 2e-3, 20.0
grid = PoissonGrid(
    np.zeros((48, 24), np.uint8),
    spacing=(widths, 1 / 24),
    boundary=[(Robin(h), "neumann"), "neumann"],  # −∂x/∂n = h x on the left, insulated elsewhere
    reaction=1 / dt,
)
prepared = prepare(grid, solver="mg-cg")  # one set-up for all time steps

temperature = np.ones(grid.shape)
figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for step in range(1, 51):
    solution = prepared.solve(temperature / dt, x0=temperature, rtol=1e-9)
    temperature = solution.x
    if step in (1, 5, 15, 50):
        print(f"t = {step * dt:.3f}: {solution.iterations} iterations, surface at {temperature[0, 0]:.3f}")
        axes.plot(centres, temperature[:, 0], ".-", label=f"t = {step * dt:.3f}")
axes.set(xlabel="distance from the surface", ylabel="temperature", ylim=(0, 1.05))
axes.legend()
plt.show()
