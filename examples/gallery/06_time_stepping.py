"""A time-stepping loop: one set-up, warm starts.

A source moves along a circle, and a Poisson equation is solved at each step. The grid does not change, so the solver is
set up once; the last solution is a good start for the next one and saves iterations.
"""

import matplotlib.pyplot as plt
import numpy as np

from relaxon.solvers import PoissonGrid, prepare

n, steps = 64, 24
x, y = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
prepared = prepare(PoissonGrid(np.zeros((n, n), np.uint8), 1 / n, "dirichlet"), solver="ic-cg")


def run(warm):
    """Return the iterations of each step, and the last solution."""
    iterations, last = [], None
    for angle in np.linspace(0, 0.05 * np.pi, steps):
        b = np.exp(-((x - 0.5 - 0.3 * np.cos(angle)) ** 2 + (y - 0.5 - 0.3 * np.sin(angle)) ** 2) / 0.01)
        solution = prepared.solve(b, x0=last if warm else None, rtol=1e-5)
        assert solution.converged, solution.message
        iterations.append(solution.iterations)
        last = solution.x
    return iterations, last


cold, _ = run(warm=False)
warm, last = run(warm=True)
print(f"iterations of {steps} steps: {sum(cold)} from zero, {sum(warm)} from the last solution")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.imshow(last.T, origin="lower", extent=(0, 1, 0, 1))
left.set_title("last step")
right.plot(cold, "o-", label="from zero")
right.plot(warm, "o-", label="warm start")
right.set(xlabel="step", ylabel="iterations", ylim=(0, 55))
right.legend()
plt.show()
