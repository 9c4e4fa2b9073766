"""Checkpoints of a training run: weights, optimiser and record in one safetensors file, replaced in one rename."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from relaxon.core.tensor_files import write_tensors
from relaxon.neuromorphic.checkpoints import DamagedCheckpoint, replace_file

FILE = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is written; `record` holds JSON values."""

    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    vectors: list[Tensor]
    """State beside those two."""
    record: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint of a run into its folder."""
    state = {f"network.{name}": tensor for name, tensor in checkpoint.network.state_dict().items()}
    for index, values in checkpoint.optimiser.state_dict()["state"].items():
        moments = {name: value for name, value in values.items() if value is not None}
        state |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    state |= {f"vector.{index}": vector for index, vector in enumerate(checkpoint.vectors)}
    record = {"record": json.dumps(checkpoint.record)}
    replace_file(folder / FILE, lambda path: write_tensors(path, state, record))


def restore(
    folder: Path,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    vectors: list[Tensor],
    same: dict[str, Any],
) -> dict[str, Any] | None:
    """Bring network, optimiser and vectors to where the folder's checkpoint is; returns its record, None where none is.

    ValueError where an entry of `same` is not that of its record, `DamagedCheckpoint` where it cannot be read.
    """
    path = folder / FILE
    record = recorded(folder)
    if record is None:
        return None
    state = load_file(path)
    for name, value in json.loads(json.dumps(same)).items():
        if record.get(name) != value:
            raise ValueError(f"out must be empty or hold a run of the same {name}, got {path} of {record.get(name)}")
    weights = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"out must be empty or hold a run of the same network, got {path}: {error}") from error
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = tensor
    for place, vector in enumerate(vectors):
        vector.copy_(state[f"vector.{place}"])
    full = optimiser.state_dict()
    full["state"] = moments
    optimiser.load_state_dict(full)
    return record


def recorded(folder: Path) -> dict[str, Any] | None:
    """The record of a folder's checkpoint; None where there is none, `DamagedCheckpoint` where it cannot be read."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            record: dict[str, Any] = json.loads((file.metadata() or {})["record"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedCheckpoint(f"{path} is not a checkpoint: {error}") from error
    return record
