"""An energy-based density with its normaliser: log-densities that come with an error.

An energy gives log-densities up to a constant, log Z. `EnergyDensity` tracks that constant while it trains, estimates
it afterwards with a confidence interval, and says whether the estimate can be trusted.
"""

import matplotlib.pyplot as plt
import numpy as np

from relaxon.neuromorphic.energy import EnergyDensity, planar

moons = planar("two-moons")
samples = moons.sample(1000, seed=1)
model = EnergyDensity((32, 32), noise="mixture", steps=200, random_state=0).fit(samples)

log_z = model.log_partition_
print(f"log Z = {log_z.value:.4f}, 95 % interval ({log_z.interval[0]:.4f}, {log_z.interval[1]:.4f})")
print(f"trusted: {model.verdict_.trusted}")

axis = np.linspace(-4, 4, 120)
points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
density = np.exp(model.score_samples(points)).reshape(120, 120)
print(f"integral of the density over the picture: {density.sum() * (axis[1] - axis[0]) ** 2:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6), layout="constrained", sharex=True, sharey=True)
left.plot(*samples.T, ".", markersize=2)
left.set_title("samples")
figure.colorbar(right.imshow(density, origin="lower", extent=(-4, 4, -4, 4)), label="density")
right.set_title("learned density")
plt.show()
