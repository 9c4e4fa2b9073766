"""The trained weights in the package, described from the headers of their files."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

HEADER_LENGTH = struct.Struct("<Q")
"""A safetensors file starts with the length of its JSON header."""
LONGEST_HEADER = 2**24
"""Bytes: a longer header is taken for damage."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file: its place in the package, the numbers in it, and its bytes."""

    path: str
    parameters: int
    size: int


def read_shipped_weights() -> list[Weights]:
    """Return every safetensors file in `relaxon.solvers`; ValueError for a damaged one."""
    root = resources.files("relaxon.solvers")
    return [_read_weights(path, file) for path, file in _list_files(root, "relaxon/solvers")]


def _list_files(folder: Traversable, path: str) -> list[tuple[str, Traversable]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        here = f"{path}/{entry.name}"
        if entry.is_dir():
            found += _list_files(entry, here)
        elif entry.name.endswith(".safetensors"):
            found.append((here, entry))
    return found


def _read_weights(path: str, file: Traversable) -> Weights:
    with file.open("rb") as stream:
        start = stream.read(HEADER_LENGTH.size)
        length = HEADER_LENGTH.unpack(start)[0] if len(start) == HEADER_LENGTH.size else LONGEST_HEADER + 1
        text = stream.read(length) if length <= LONGEST_HEADER else b""
        size = len(start) + len(text) + sum(len(block) for block in iter(lambda: stream.read(2**20), b""))
    try:
        header = json.loads(text)
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        parameters = sum(math.prod(tensor["shape"]) for tensor in tensors)
        end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a safetensors file: its header cannot be read") from error
    if HEADER_LENGTH.size + length + end != size:
        raise ValueError(f"{path} must hold {HEADER_LENGTH.size + length + end} bytes by its header, has {size}")
    return Weights(path, parameters, size)
