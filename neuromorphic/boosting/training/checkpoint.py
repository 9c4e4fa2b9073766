"""Checkpoints of boosting: the stages so far in one safetensors file, which only the same run can resume."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from relaxon.core.tensor_files import write_tensors
from relaxon.neuromorphic.boosting.networks.merged import Stage
from relaxon.neuromorphic.boosting.training.losses import Loss
from relaxon.neuromorphic.boosting.training.runs import BoostingState, StagewiseSettings, TrainingRows
from relaxon.neuromorphic.checkpoints import Checkpoints, DamagedCheckpoint, Pace, replace_file

Array = NDArray[np.float64]

FILE = "checkpoint.safetensors"
FORMAT = 3
"""The layout of the file and the steps that it goes on with: raised with each change to either."""


class BoostingCheckpoint:
    """The checkpoint of one run, which is identified by its settings, its loss and its rows."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        settings: StagewiseSettings,
        loss: Loss,
        train: TrainingRows,
        validation: TrainingRows | None,
    ) -> None:
        self._path = checkpoints.folder / FILE
        self._pace = Pace(checkpoints.seconds)
        self._identity = {
            "format": FORMAT,
            "settings": {name: value for name, value in asdict(settings).items() if name != "signs" or value},
            "loss": _describe_loss(loss),
            "train": _hash_rows(train),
            "validation": None if validation is None else _hash_rows(validation),
        }

    def read(self) -> BoostingState | None:
        """Return the state of an interrupted run, or None if there is no checkpoint.

        Raises `ValueError` if the checkpoint belongs to another run, and `DamagedCheckpoint` if it cannot be read or
        has the format of another release: jobs begin again then.
        """
        if not self._path.exists():
            return None
        record, arrays = _read_checkpoint(self._path)
        if (found := record["identity"].get("format")) != FORMAT:
            raise DamagedCheckpoint(f"{self._path} must have format {FORMAT} for this release, got {found}")
        for name, value in json.loads(json.dumps(self._identity)).items():
            if record["identity"].get(name) != value:
                raise ValueError(
                    f"checkpoints must be in a separate folder for each run: {self._path} is of a run with different "
                    f"{name}"
                )
        try:
            return _unpack_stages(record, arrays)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise DamagedCheckpoint(f"{self._path} is not a complete checkpoint: {error!r}") from None

    def offer(self, trained: BoostingState, at_once: bool) -> None:
        """Write the state after a stage if a checkpoint is due or `at_once` is set."""
        if not at_once and not self._pace.due:
            return
        with self._pace.writing():
            record = {
                "identity": self._identity,
                "attempts": trained.attempts,
                "evaluations": trained.evaluations,
                "refused": trained.refused,
                "dead": trained.dead,
                "seconds": trained.seconds,
            }
            arrays = _pack_stages(trained)
            replace_file(self._path, lambda path: write_tensors(path, arrays, {"record": json.dumps(record)}))


def read_seed(folder: Path) -> int | None:
    """Return the seed of the run whose checkpoint is in the folder, or None if there is no checkpoint."""
    path = folder / FILE
    return int(_read_checkpoint(path)[0]["identity"]["settings"]["seed"]) if path.exists() else None


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with safe_open(path, "np") as file:
            record = json.loads((file.metadata() or {})["record"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        record["identity"]["settings"]["seed"]
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise DamagedCheckpoint(f"{path} is not a checkpoint: {error}") from error
    return record, arrays


def _pack_stages(trained: BoostingState) -> dict[str, NDArray[Any]]:
    """Concatenate the stages: a file with a few arrays loads much faster than one with four arrays per stage."""
    stages, outputs = trained.stages, len(trained.initial)
    return {
        "initial": trained.initial,
        "losses": np.array(trained.losses, np.float64),
        "validation": np.array(trained.validation, np.float64),
        "layers": np.array([stage.layer for stage in stages], np.int64),
        "sizes": np.array([stage.weights.shape for stage in stages], np.int64).reshape(len(stages), 2),
        "weights": _concatenate([stage.weights.ravel() for stage in stages]),
        "bias": _concatenate([stage.bias for stage in stages]),
        "output": _concatenate([stage.output.ravel() for stage in stages]).reshape(-1, outputs),
        "intercepts": _concatenate([stage.intercept for stage in stages]).reshape(-1, outputs),
    }


def _concatenate(parts: list[Array]) -> Array:
    return np.concatenate([np.empty(0), *parts])


def _unpack_stages(record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> BoostingState:
    stages, weight, unit = [], 0, 0
    shapes = zip(arrays["layers"].tolist(), arrays["sizes"].tolist(), arrays["intercepts"], strict=True)
    for layer, (units, width), intercept in shapes:
        own = slice(unit, unit + units)
        weights = arrays["weights"][weight : weight + units * width].reshape(units, width)
        stages.append(Stage(layer, weights, arrays["bias"][own], arrays["output"][own], intercept))
        weight, unit = weight + units * width, unit + units
    if unit != len(arrays["bias"]) or weight != len(arrays["weights"]) or len(arrays["losses"]) != len(stages) + 1:
        raise ValueError("its arrays have inconsistent sizes")
    return BoostingState(
        initial=arrays["initial"],
        stages=stages,
        losses=arrays["losses"].tolist(),
        validation=arrays["validation"].tolist(),
        attempts=int(record["attempts"]),
        evaluations=int(record["evaluations"]),
        refused=int(record["refused"]),
        dead=int(record["dead"]),
        seconds=float(record["seconds"]),
    )


def _describe_loss(loss: Loss) -> dict[str, Any]:
    values = {field.name: np.asarray(getattr(loss, field.name)).tolist() for field in fields(loss)}  # type: ignore[arg-type]
    return {"name": type(loss).__name__, **{name: repr(value) for name, value in values.items()}}


def _hash_rows(rows: TrainingRows) -> str:
    found = hashlib.blake2b(digest_size=16)
    for array in (rows.x, rows.y, rows.w):
        found.update(repr(array.shape).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
