"""What the classifier and the training command take for bounds and first weights where they are not told."""

from __future__ import annotations

BOUNDS = {"layered": (0.9, 4.0), "convolutional": (3.0, 4.0), "residual": (0.95, 8.0)}
"""Of the coupling and of the readout. For convolutions the first holds for the worst of all states, and the states met
in training are far from it: at 3 two layers come to rest in every batch, and learn better than under a smaller one. The
coupling of residual networks is linear: their bound is near what it bounds."""
INPUT_GAIN = 4.0
"""Of a convolutional network: its first kernels see neighbouring pixels, which are much alike."""
