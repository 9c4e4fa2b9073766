"""Fitted `EquilibriumClassifier`s on disk: the stored network, with everything else on its card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
from relaxon.neuromorphic.equilibrium.classifier.estimator import EquilibriumClassifier
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.residual import ResidualNetwork
from relaxon.neuromorphic.equilibrium.networks.storage import StoredNetwork, load_network, save_network
from relaxon.neuromorphic.equilibrium.training.report import EpochMetrics, TrainingOutcome, TrainingReport
from relaxon.neuromorphic.estimator_files import describe_classes, restore_classes

CARD = "classifier"
TUPLES = ("hidden_sizes", "image", "channels")


def save_classifier(classifier: EquilibriumClassifier, folder: Path | str) -> None:
    """Write a fitted classifier to a folder, which is created where missing, as safetensors and JSON.

    TypeError for an estimator given as an object and for labels without a JSON form; ValueError for weights that are
    not finite.
    """
    parameters = classifier.get_params(deep=False)
    if not isinstance(classifier.estimator, str):
        raise TypeError(f"estimator must be given by name to be stored, got {classifier.estimator!r}")
    if isinstance(classifier.random_state, np.random.RandomState):
        parameters["random_state"] = None  # a generator has no lasting state to write
    if not all(bool(torch.isfinite(tensor).all()) for tensor in classifier.network_.state_dict().values()):
        raise ValueError("network must have finite weights to be stored, got NaN or infinite ones")
    report = classifier.report_
    card = {
        "parameters": {name: _plain(value) for name, value in parameters.items()},
        "classes": describe_classes(classifier.classes_),
        "mean": classifier.mean_.tolist(),
        "scale": classifier.scale_.tolist(),
        "ended": report.ended.value,
        "message": report.message,
        "steps": report.steps,
        "seconds": report.seconds,
        # JSON has no form for infinite numbers and NaN.
        "loss": [_finite(epoch.loss) for epoch in report.epochs],
        "accuracy": [epoch.accuracy for epoch in report.epochs],
    }
    save_network(classifier.network_, folder, {CARD: card})


def load_classifier(folder: Path | str) -> EquilibriumClassifier:
    """Return the classifier that `save_classifier` wrote; ValueError for anything else found there.

    The epochs of its report have loss and accuracy only.
    """
    network, whole = load_network(folder)
    try:
        return _restore(network, whole[CARD])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} contains no complete classifier: {error!r}") from None


def _restore(network: StoredNetwork, card: dict[str, Any]) -> EquilibriumClassifier:
    parameters = {
        name: tuple(value) if name in TUPLES and value is not None else value
        for name, value in card["parameters"].items()
    }
    classifier: EquilibriumClassifier = EquilibriumClassifier().set_params(**parameters)
    classifier.classes_ = restore_classes(card["classes"])
    classifier.mean_, classifier.scale_ = np.array(card["mean"]), np.array(card["scale"])
    classifier.n_features_in_ = len(classifier.mean_)
    features = network.sizes[0] if isinstance(network, LayeredNetwork) else math.prod(network.image)
    if (features, network.classes) != (len(classifier.mean_), len(classifier.classes_)):
        raise ValueError(
            f"network must have the card's features and classes, got {features} features, {network.classes} classes"
        )
    forms = (BinaryLayeredNetwork, LayeredNetwork, ResidualNetwork)
    expected = (bool(classifier.binary), classifier.channels is None, bool(classifier.residual))
    if tuple(isinstance(network, form) for form in forms) != expected:
        raise ValueError(f"network must be of the card's form, got a {type(network).__name__}")
    if len(classifier.scale_) != len(classifier.mean_) or not (classifier.scale_ > 0).all():
        raise ValueError("scale must be above 0 for each feature")
    classifier.network_ = network
    unknown = math.nan
    epochs = tuple(
        EpochMetrics(
            *(index, unknown if loss is None else loss, accuracy, None, None, unknown, unknown),
            *({}, None, None, [], unknown),
        )
        for index, (loss, accuracy) in enumerate(zip(card["loss"], card["accuracy"], strict=True))
    )
    classifier.report_ = TrainingReport(
        TrainingOutcome(card["ended"]), epochs, int(card["steps"]), float(card["seconds"]), card["message"]
    )
    return classifier


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
