"""Checkpoints of a run with a torch optimiser: weights, optimiser state and record in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from relaxon.core.tensor_files import write_tensors
from relaxon.neuromorphic.checkpoints import DamagedCheckpoint, replace_file

FILE = "checkpoint.safetensors"


def write_checkpoint(
    folder: Path,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    vectors: list[Tensor],
    record: dict[str, Any],
) -> None:
    """Write the checkpoint of a run to its folder.

    `vectors` are tensors besides those of the network and the optimiser; `record` contains JSON values only.
    """
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        moments = {name: value for name, value in values.items() if value is not None}
        state |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    state |= {f"vector.{index}": vector for index, vector in enumerate(vectors)}
    metadata = {"record": json.dumps(record)}
    replace_file(folder / FILE, lambda path: write_tensors(path, state, metadata))


def restore_checkpoint(
    folder: Path,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    vectors: list[Tensor],
    same: dict[str, Any],
) -> dict[str, Any] | None:
    """Load network, optimiser and vectors from the folder's checkpoint; return its record, or None if there is none.

    Raises ValueError if an entry of `same` differs from the record's, and `DamagedCheckpoint` if it cannot be read.
    """
    path = folder / FILE
    record = read_record(folder)
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


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a folder's checkpoint, or None if there is none.

    Raises `DamagedCheckpoint` if the file cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            record: dict[str, Any] = json.loads((file.metadata() or {})["record"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedCheckpoint(f"{path} is not a checkpoint: {error}") from error
    return record
