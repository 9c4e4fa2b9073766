"""The subjects of models of all kinds: torch modules, fitted estimators, and networks that relax."""

# Imported on first use, for its weight: `relaxing`.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn

from relaxon.neuromorphic.diagnostics.losses import LOSS_KINDS, LossKind
from relaxon.neuromorphic.diagnostics.shallow import build_shallow_module
from relaxon.neuromorphic.diagnostics.subjects import ModuleSubject, Subject, TorchExportable


def as_subject(model: Any, loss: str = "auto", y: ArrayLike | None = None) -> Subject:
    """Return what the diagnostics need of a model; TypeError or ValueError, naming `model`, for what has none of it.

    `loss` "auto" is the model's own: of an estimator what it was trained with, of a network that relaxes what it nudges
    with, of a module "cross-entropy" where `y` holds integers and "squared" where it holds other numbers.
    """
    if loss not in ("auto", *LOSS_KINDS):
        raise ValueError(f"loss must be one of auto, {', '.join(LOSS_KINDS)}, got {loss!r}")
    if isinstance(model, Subject):
        return model
    from relaxon.neuromorphic.diagnostics.relaxing import find_relaxing_subject

    relaxing = find_relaxing_subject(model)
    if relaxing is not None:
        if loss not in ("auto", relaxing.loss):
            raise ValueError(f"loss must be {relaxing.loss!r}, with which the network was trained, got {loss!r}")
        return relaxing
    name = type(model).__name__
    if isinstance(model, nn.Module):
        return ModuleSubject(model, _choose_loss(loss, y), None, name)
    module = None if isinstance(model, type) else build_shallow_module(model)
    if module is None:
        if isinstance(model, type) or not isinstance(model, TorchExportable):
            raise TypeError(f"model must be a torch module or a fitted estimator with to_torch(), got {name}")
        module = model.to_torch()
    classes = getattr(model, "classes_", None)
    own = "poisson" if getattr(model, "loss", None) == "poisson" else "squared" if classes is None else "cross-entropy"
    if classes is not None and loss not in ("auto", "cross-entropy"):
        raise ValueError(f"loss must be 'cross-entropy' for a classifier, got {loss!r}")
    return ModuleSubject(module, own if loss == "auto" else loss, classes, name)  # type: ignore[arg-type]


def as_subjects(models: Any, loss: str = "auto", y: ArrayLike | None = None) -> tuple[Subject, ...]:
    """Return the subjects of a model or of a sequence of models."""
    if not isinstance(models, list | tuple):
        models = [models]
    if not models:
        raise ValueError("models must hold at least one model, got none")
    subjects = tuple(as_subject(model, loss, y) for model in models)
    if len({subject.loss for subject in subjects}) > 1:
        raise ValueError(f"models must have one loss, got {', '.join(sorted({s.loss for s in subjects}))}")
    return subjects


def _choose_loss(loss: str, y: ArrayLike | None) -> LossKind:
    if loss != "auto":
        return loss  # type: ignore[return-value]
    kind = np.asarray(y.detach().cpu().numpy() if isinstance(y, Tensor) else y).dtype.kind
    return "squared" if kind == "f" else "cross-entropy"
