"""The network that a classifier's parameters ask for, and which of them do not go together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.residual import KERNEL, ResidualNetwork
from relaxon.neuromorphic.equilibrium.networks.storage import StoredNetwork
from relaxon.neuromorphic.equilibrium.training.bounds import INPUT_GAIN

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium.classifier.estimator import EquilibriumClassifier


def build_network(classifier: EquilibriumClassifier, features: int, classes: int, seed: int) -> StoredNetwork:
    """Return the network that a classifier's parameters ask for; TypeError or ValueError naming one that cannot be."""
    if classifier.loss == "squared":
        raise ValueError("loss must be 'cross-entropy' or 'comp-sum' for a classifier, got 'squared'")
    _check_images(classifier)
    common: dict[str, Any] = {
        "loss": classifier.loss,
        "tau": classifier.tau,
        "gain": classifier.gain,
        "seed": seed,
        "dtype": torch.float64,
    }
    if classifier.binary:
        _refuse_as_binary(classifier)
        sizes = (features, *classifier.hidden_sizes, classes)
        return BinaryLayeredNetwork(sizes, binarizer=classifier.binarizer, **common)  # type: ignore[arg-type]
    common["activation"] = classifier.activation
    if classifier.channels is None:
        sizes = (features, *classifier.hidden_sizes, classes)
        return LayeredNetwork(sizes, feedback=classifier.feedback, angle=classifier.angle, **common)  # type: ignore[arg-type]
    image = image_of(classifier, features)
    if classifier.residual:
        return ResidualNetwork(image, classifier.channels, classes, **common)
    return ConvolutionalNetwork(
        image,
        classifier.channels,
        classes,
        kernel=classifier.kernel,
        feedback=classifier.feedback,  # type: ignore[arg-type]
        angle=classifier.angle,
        input_gain=INPUT_GAIN,
        draw="orthogonal",
        **common,
    )


def image_of(classifier: EquilibriumClassifier, features: int) -> tuple[int, int, int]:
    """Return the form of the image that each row holds; ValueError where there is none of so many features."""
    if classifier.image is None or len(classifier.image) != 3:
        raise ValueError(f"image must be (channels, height, width) where channels is given, got {classifier.image!r}")
    if math.prod(classifier.image) != features:
        raise ValueError(f"image must have as many pixels as X has features, {features}, got {classifier.image!r}")
    return classifier.image


def _check_images(classifier: EquilibriumClassifier) -> None:
    """Refuse what only networks of images have where there are none, and what residual ones have not."""
    for name in ("residual", "binary"):
        if not isinstance(getattr(classifier, name), bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {getattr(classifier, name)!r}")
    if classifier.channels is None:
        for name in ("residual", "shift"):
            if getattr(classifier, name):
                raise ValueError(f"{name} must be {type(getattr(classifier, name))()} where channels is None")
    if not classifier.residual:
        return
    if classifier.feedback != "tied":
        raise ValueError(f"feedback must be 'tied' for a residual network, got {classifier.feedback!r}")
    if classifier.kernel != KERNEL:
        raise ValueError(f"kernel must be {KERNEL} for a residual network, got {classifier.kernel!r}")


def _refuse_as_binary(classifier: EquilibriumClassifier) -> None:
    """ValueError naming what a binary network cannot be."""
    if classifier.channels is not None:
        raise ValueError("channels must be None for a binary network: only layered ones are packed")
    if classifier.feedback != "tied":
        raise ValueError(f"feedback must be 'tied' for a binary network, got {classifier.feedback!r}")
    if classifier.activation != "sigmoid":
        raise ValueError(f"activation must be 'sigmoid' for a binary network, got {classifier.activation!r}")
    if classifier.homeostasis:
        raise ValueError(
            f"homeostasis must be 0 for a binary network, which is symmetric, got {classifier.homeostasis}"
        )
