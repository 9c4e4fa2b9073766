"""Equilibrium propagation: a network trained without a backward pass.

The network relaxes to an equilibrium, its output is nudged towards the target, and the gradient is read off from how
the units move. Nudges on a circle in the complex plane remove the bias of a single finite nudge.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from relaxon.neuromorphic.equilibrium import EquilibriumClassifier

images, labels = load_digits(return_X_y=True)
train_images, test_images, train_labels, test_labels = train_test_split(
    images / 16, labels, test_size=0.3, random_state=0
)
model = EquilibriumClassifier(hidden_sizes=(32,), estimator="cauchy", n=4, epochs=4, random_state=0)
model.fit(train_images, train_labels)
predicted = model.predict(test_images)
print(f"test accuracy {(predicted == test_labels).mean():.3f}")

figure, axes = plt.subplots(2, 8, figsize=(9, 2.8), layout="constrained")
for number, panel in enumerate(axes.flat):
    right = predicted[number] == test_labels[number]
    panel.imshow(test_images[number].reshape(8, 8), cmap="Greys")
    panel.set_title(predicted[number], color="green" if right else "red")
    panel.set_axis_off()
plt.show()
