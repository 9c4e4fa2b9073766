"""Trained models stored by commands and services, recognised by the contents of their folders."""

# Imported on first use, for their weight: `neuromorphic.equilibrium.classifier.storage` and `networks.storage`.

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relaxon.neuromorphic import boosting, convex

MODEL, NETWORK, WEIGHTS = "model.json", "network.json", "network.safetensors"
INNER = "model"
"""Name of the model's folder within a training command's folder."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, and the encoding of its table's columns where the report of its training has it."""

    model: Any
    kind: str
    encoding: dict[str, Any] | None


def load_model(folder: Path) -> LoadedModel:
    """Return the model of a folder that an engine or a training command wrote.

    FileNotFoundError where there is none, ValueError for a damaged model or one without targets.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"MODEL must be a folder with a stored model, got {str(folder)!r}")
    inner = folder if _holds_model(folder) else folder / INNER
    if not _holds_model(inner):
        raise FileNotFoundError(f"MODEL must be a folder that contains {MODEL} or {NETWORK}, got {str(folder)!r}")
    encoding = _read_encoding(folder)
    if (inner / NETWORK).is_file():
        return LoadedModel(_load_equilibrium(inner), "equilibrium", encoding)
    content = _read_content(inner / MODEL)
    if "certificate" in content:
        return LoadedModel(convex.load(inner), "convex", encoding)
    if content.get("kind") in ("classifier", "regressor") and (inner / WEIGHTS).is_file():
        return LoadedModel(boosting.load(inner), "boosting", encoding)
    raise ValueError(
        f"MODEL must be a boosted or a convex network or one trained by equilibrium propagation, got "
        f"{content.get('kind')!r} in {str(inner / MODEL)!r}"
    )


def _holds_model(folder: Path) -> bool:
    return (folder / MODEL).is_file() or (folder / NETWORK).is_file()


def _load_equilibrium(folder: Path) -> Any:
    from relaxon.neuromorphic.equilibrium.classifier.storage import CARD, load_classifier
    from relaxon.neuromorphic.equilibrium.networks.storage import load_network

    network, card = load_network(folder)
    return load_classifier(folder) if CARD in card else network


def _read_encoding(folder: Path) -> dict[str, Any] | None:
    """Return the encoding of the columns in a training command's report, or None."""
    for place in (folder, folder.parent):
        if (place / "report.json").is_file():
            return _read_content(place / "report.json").get("encoding")
    return None


def _read_content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be JSON: {error}") from None
    return content if isinstance(content, dict) else {}
