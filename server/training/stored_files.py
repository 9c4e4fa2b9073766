"""Checks of uploaded models that several engines share, made on what the files say before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relaxon.server.gate import errors
from relaxon.server.jobs.model_files import Tensors, check_classes, check_count, parse_json, read_json, read_safetensors
from relaxon.server.training.limits import MAX_COLUMNS
from relaxon.wire.conversions.labels import LONGEST_LABEL, MAX_CLASSES

if TYPE_CHECKING:
    from relaxon.server.config.settings import ServerSettings
    from relaxon.server.training.engine import TrainingEngine

MODEL_JSON = "model.json"


def check_whole(engine: TrainingEngine, folder: Path, settings: ServerSettings) -> None:
    """Refuse a folder whose model cannot be loaded, described and used for a prediction."""
    engine.check(folder, settings)
    try:
        model = engine.load(folder)
        engine.describe(model, True)
        output = np.asarray(engine.probe(model))
    except (errors.ServiceError, MemoryError, ImportError):
        raise
    except Exception as error:
        # The readers find most faults, but not all. Whatever breaks on a caller's files is the caller's mistake.
        raise errors.invalid("files", f"files must hold a whole model: {str(error)[:200]}") from None
    if output.shape[:1] != (1,):
        raise errors.invalid("files", f"files must hold a model that predicts a row, got shape {output.shape}")


def read_card(folder: Path) -> tuple[Any, int]:
    """Return an estimator's card and the number of columns that it gives; INVALID_ARGUMENT where it is not a card."""
    card = read_json(MODEL_JSON, folder / MODEL_JSON)
    if not isinstance(card, dict):
        raise errors.invalid(MODEL_JSON, f"{MODEL_JSON} must be an object")
    columns = check_count("n_features", card.get("n_features"), MAX_COLUMNS)
    if card.get("kind") == "classifier":
        check_classes("classes", card.get("classes"), MAX_CLASSES, LONGEST_LABEL)
    names = card.get("feature_names")
    if names is not None and not (
        isinstance(names, list) and len(names) == columns and all(isinstance(one, str) for one in names)
    ):
        raise errors.invalid("feature_names", f"feature_names must be {columns} strings or null")
    return card, columns


def read_described(folder: Path, files: tuple[str, ...]) -> tuple[Any, Tensors]:
    """Return the description in a tensor file's header, and what the file holds; `files` are the card and that file."""
    card, tensors = files
    read_json(card, folder / card)
    held = read_safetensors(tensors, folder / tensors)
    return parse_json("description", held.metadata.get("description", "")), held


def check_parameters_card(parameters: Any) -> None:
    """Refuse the parameters of an estimator that would be loaded to another device than the processor."""
    if not isinstance(parameters, dict) or parameters.get("device") not in (None, "cpu"):
        raise errors.invalid("parameters", "parameters must be an object whose device is the cpu")


def check_tensors(file: str, held: Tensors, axes: Mapping[str, int], other: Mapping[str, str]) -> None:
    """Refuse a file unless its tensors are those of `axes`, each of so many axes, as F64 or as `other` says."""
    wrong = sorted(held.tensors.keys() ^ axes.keys())
    if wrong:
        raise errors.invalid(file, f"{file} must hold the arrays of such a model, got or lacks {wrong[0][:80]!r}")
    for name, (dtype, shape) in held.tensors.items():
        wanted = other.get(name, "F64")
        if dtype != wanted or len(shape) != axes[name]:
            raise errors.invalid(
                file, f"{file} must hold {name} as {wanted} with {axes[name]} axes, got {dtype} {shape}"
            )


def check_bits(file: str, held: Tensors, prefix: str | None) -> None:
    """Refuse bytes where numbers belong and the reverse: tensors whose names start with `prefix` hold bits.

    None means that no tensor holds bits.
    """
    for name, (dtype, _) in held.tensors.items():
        if (dtype == "U8") != (prefix is not None and name.startswith(prefix)):
            raise errors.invalid(file, f"{file} must hold {name[:80]!r} as numbers of the model, got {dtype}")
