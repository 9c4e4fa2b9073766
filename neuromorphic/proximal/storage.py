"""Trained proximal operators on disk: a safetensors file and a JSON file."""

# Imported on first use, for weight or because it imports this module in turn: `model`, `training.matching`.

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from relaxon.neuromorphic.described_tensors import read_described, write_described
from relaxon.neuromorphic.proximal.potentials import NetworkSettings, build_potential

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.model import ProximalModel
    from relaxon.neuromorphic.proximal.training.matching import MatchingResult

FORMAT = 1
KIND = "proximal"
WEIGHTS = "model.safetensors"


def save_proximal(model: ProximalModel, folder: Path | str, card: dict[str, Any] | None = None) -> None:
    """Write `model.safetensors` and `model.json` to a folder, which is created where missing.

    `card` is further information on the model (data, command, results) as JSON values; None for `ProximalModel.card`.
    Weights are stored in float32, in which they were trained.
    """
    description = {
        "format": FORMAT,
        "kind": KIND,
        "network": model.settings.describe(),
        "noise": model.noise,
        "training": _describe_training(model.training),
        "card": json.loads(json.dumps(model.card if card is None else card, allow_nan=False)),
    }
    state = {name: tensor.float() for name, tensor in model.potential.state_dict().items()}
    write_described(Path(folder), "model", state, description)


def load_proximal(folder: Path | str) -> ProximalModel:
    """Return the model of a folder that `save_proximal` wrote.

    FileNotFoundError where there is none; ValueError for a damaged model, one of another version, or weights that do
    not belong to a convex potential.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"folder must contain {WEIGHTS}, got {str(folder)!r}")
    return read_model(path)


def read_model(path: Path) -> ProximalModel:
    """Return the model of a weights file, which contains its description."""
    from relaxon.neuromorphic.proximal.model import ProximalModel

    try:
        state, description = read_described(path)
        if description["format"] != FORMAT or description["kind"] != KIND:
            raise ValueError(f"format must be {FORMAT} and kind {KIND!r}, got {description['format']!r}")
        potential = build_potential(NetworkSettings(**description["network"]))
        potential.load_state_dict(state)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise ValueError("weights must be finite, got NaN or infinite ones")
        if any(bool((weight < 0).any()) for weight in potential.positive_weights()):
            raise ValueError("weights between hidden layers must be at least 0, got negative ones")
        training = _restore_training(description["training"])
        return ProximalModel(potential, description["noise"], training, description["card"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} contains no proximal model of this version: {error}") from error


def _describe_training(training: MatchingResult | None) -> dict[str, Any] | None:
    """Return a `MatchingResult` as JSON values, with None for values that are not finite."""
    if training is None:
        return None
    card = asdict(training) | {"ended": training.ended.value}
    card["records"] = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in one.items()}
        for one in card["records"]
    ]
    return card


def _restore_training(card: dict[str, Any] | None) -> MatchingResult | None:
    from relaxon.neuromorphic.proximal.training.matching import MatchingOutcome, MatchingRecord, MatchingResult

    if card is None:
        return None
    values: list[dict[str, Any]] = [
        {name: math.nan if value is None else value for name, value in one.items()} for one in card["records"]
    ]
    records = tuple(MatchingRecord(**one) for one in values)
    return MatchingResult(**{**card, "ended": MatchingOutcome(card["ended"]), "records": records})
