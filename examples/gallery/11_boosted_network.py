"""A boosted network, cut at a stage.

The network is trained unit by unit: each stage fits one unit to what the units before it left over. So it can be
truncated after training at the stage where more units stop helping, without training again.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_friedman1

from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor

X, y = make_friedman1(900, noise=1.0, random_state=0)
X, X_valid, y, y_valid = X[:500], X[500:], y[:500], y[500:]
model = GradientBoostedNetworkRegressor(n_units=80, random_state=0).fit(X, y)

# The predictions of all stages cost no more than those of the last.
train_error = [np.mean((staged - y) ** 2) for staged in model.staged_predict(X)]
valid_error = [np.mean((staged - y_valid) ** 2) for staged in model.staged_predict(X_valid)]
best = 1 + int(np.argmin(valid_error))
short = model.truncate(best)
print(f"{model.n_units_} units: R² {model.score(X_valid, y_valid):.3f}")
print(f"{short.n_units_} units: R² {short.score(X_valid, y_valid):.3f}")

figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
axes.plot(range(1, 81), train_error, label="training rows")
axes.plot(range(1, 81), valid_error, label="validation rows")
axes.axvline(best, linestyle="--", color="grey", label=f"cut at {best} units")
axes.set(xlabel="units", ylabel="mean squared error", ylim=(0, 8))
axes.legend()
plt.show()
