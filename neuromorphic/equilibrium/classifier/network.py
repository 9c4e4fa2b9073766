"""The network that a classifier's parameters describe."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

import torch

from relaxon.neuromorphic.equilibrium.networks.form import NetworkForm
from relaxon.neuromorphic.equilibrium.networks.storage import StoredNetwork

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium.classifier.estimator import EquilibriumClassifier


def describe_form(classifier: EquilibriumClassifier) -> NetworkForm:
    """Return the form of the network that a classifier's parameters describe, unchecked."""
    names = [field.name for field in fields(NetworkForm) if field.name != "input_gain"]
    return NetworkForm(**{name: getattr(classifier, name) for name in names})


def build_network(classifier: EquilibriumClassifier, features: int, classes: int, seed: int) -> StoredNetwork:
    """Return the network of a classifier; TypeError or ValueError naming a parameter that it cannot have."""
    if classifier.loss == "squared":
        raise ValueError("loss must be 'cross-entropy' or 'comp-sum' for a classifier, got 'squared'")
    form = describe_form(classifier)
    form.check(shift=classifier.shift, homeostasis=classifier.homeostasis)
    image = None if form.channels is None else image_shape(classifier, features)
    return form.build(features, image, classes, seed, torch.float64)


def image_shape(classifier: EquilibriumClassifier, features: int) -> tuple[int, int, int]:
    """Return the shape of the image that a row holds; ValueError where it does not have that many features."""
    if classifier.image is None or len(classifier.image) != 3:
        raise ValueError(f"image must be (channels, height, width) where channels is given, got {classifier.image!r}")
    if math.prod(classifier.image) != features:
        raise ValueError(f"image must have as many pixels as X has features, {features}, got {classifier.image!r}")
    return classifier.image
