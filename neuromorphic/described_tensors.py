"""Tensor files that contain their own description, with the same description beside them in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from relaxon.core.tensor_files import write_tensors


def write_described(folder: Path, stem: str, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write `stem.safetensors` and `stem.json` to a folder, which is created where missing.

    The tensors carry their description, so that a crash between the two files cannot pair the wrong ones.
    """
    text = json.dumps(description, indent=1, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{stem}.partial"
    write_tensors(partial, tensors, {"description": text})
    partial.replace(folder / f"{stem}.safetensors")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder / f"{stem}.json")


def read_described(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file and their description.

    Raises
    ------
    SafetensorError, KeyError, ValueError : for a file that `write_described` did not write.
    """
    with safe_open(path, "pt") as file:
        description: dict[str, Any] = json.loads((file.metadata() or {})["description"])
    return load_file(path), description
