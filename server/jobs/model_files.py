"""Model files from callers, checked before anything is built from them: their sizes, depths, shapes and types.

Nothing is allocated here by what a file says about itself; the engines' own readers run after these checks.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relaxon.server.gate import errors

LENGTH = struct.Struct("<Q")
"""A safetensors file starts with the length of its header."""
LONGEST_HEADER = 2**22
LONGEST_JSON = 2**22
DEEPEST = 16
"""Levels of nested JSON."""
MOST_TENSORS = 4096
MOST_AXES = 4
WIDTHS = {"F64": 8, "F32": 4, "I64": 8, "U8": 1}
"""The types of stored tensors, and their sizes in bytes."""
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
CLASSES_DTYPE = re.compile(r"object|\|b1|[<|][if][1248]|<U[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Tensors:
    """The content of a safetensors file: the type and shape of each tensor, and its metadata."""

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    metadata: Mapping[str, str]

    def entries(self) -> int:
        return sum(math.prod(shape) for _, shape in self.tensors.values())


def read_json(field: str, path: Path) -> Any:
    """Return the value in a JSON file.

    INVALID_ARGUMENT or RESOURCE_EXHAUSTED, naming `field`, where it is malformed, too long, too deep or not finite.
    """
    size = path.stat().st_size
    if size > LONGEST_JSON:
        raise errors.exhausted(field, f"{field} must have at most {LONGEST_JSON} bytes, got {size}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise errors.invalid(field, f"{field} must be UTF-8: {error}") from None
    return parse_json(field, text)


def parse_json(field: str, text: str) -> Any:
    """Return the value of JSON text, with the checks of `read_json`."""
    depth = 0
    for token in TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token.group(), 0)
        if depth > DEEPEST:
            raise errors.invalid(field, f"{field} must be nested at most {DEEPEST} levels deep")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise errors.invalid(field, f"{field} must be JSON: {error}") from None


def read_safetensors(field: str, path: Path) -> Tensors:
    """Return the tensors that a safetensors file describes; INVALID_ARGUMENT, naming `field`, unless it holds them."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(LENGTH.size)
        length = LENGTH.unpack(start)[0] if len(start) == LENGTH.size else 0
        if not 2 <= length <= min(LONGEST_HEADER, size - LENGTH.size):
            raise errors.invalid(field, f"{field} must be safetensors with a header of at most {LONGEST_HEADER} bytes")
        text = stream.read(length)
    try:
        header = parse_json(field, text.decode("utf-8"))
    except UnicodeDecodeError:
        raise errors.invalid(field, f"{field} must have a header in UTF-8") from None
    if not isinstance(header, dict):
        raise errors.invalid(field, f"{field} must have a header that is an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(one, str) for one in metadata.values()):
        raise errors.invalid(field, f"{field} must have metadata that is text")
    if len(header) > MOST_TENSORS:
        raise errors.exhausted(field, f"{field} must hold at most {MOST_TENSORS} tensors, got {len(header)}")
    spans, tensors = [], {}
    for name, said in header.items():
        tensors[name], span = _tensor(field, name, said)
        spans.append(span)
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise errors.invalid(field, f"{field} must hold its tensors one after the other, got a gap at byte {place}")
        place = end
    if place != size - LENGTH.size - length:
        raise errors.invalid(field, f"{field} must have {place} bytes of tensors, got {size - LENGTH.size - length}")
    return Tensors(tensors, metadata)


def check_classes(field: str, classes: Any, most: int, longest: int) -> None:
    """Refuse stored labels of which NumPy could make a larger array than they are."""
    if not isinstance(classes, dict) or set(classes) != {"dtype", "values"}:
        raise errors.invalid(field, f"{field} must be an object of dtype and values")
    dtype, values = classes["dtype"], classes["values"]
    if not isinstance(dtype, str) or not CLASSES_DTYPE.fullmatch(dtype):
        raise errors.invalid(field, f"{field} must have a plain dtype, got {str(dtype)[:80]!r}")
    if not isinstance(values, list) or not 1 <= len(values) <= most:
        raise errors.invalid(field, f"{field} must number 1 to {most}")
    if not all(isinstance(one, str | int | float | bool) and len(str(one)) <= longest for one in values):
        raise errors.invalid(field, f"{field} must be strings, numbers or booleans of at most {longest} characters")


def check_count(field: str, value: Any, most: int) -> int:
    """Return a whole number from 1 to `most`; INVALID_ARGUMENT or RESOURCE_EXHAUSTED, naming `field`, otherwise."""
    if type(value) is not int or value < 1:
        raise errors.invalid(field, f"{field} must be a whole number of at least 1, got {str(value)[:80]}")
    if value > most:
        raise errors.exhausted(field, f"{field} must be at most {most} here, got {value}")
    return value


def _tensor(field: str, name: str, said: Any) -> tuple[tuple[str, tuple[int, ...]], tuple[int, int]]:
    try:
        dtype, shape, (begin, end) = said["dtype"], tuple(said["shape"]), said["data_offsets"]
        sound = (
            len(said) == 3
            and dtype in WIDTHS
            and len(shape) <= MOST_AXES
            and all(type(one) is int and 0 <= one < 2**63 for one in (*shape, begin, end))
            and end - begin == math.prod(shape) * WIDTHS[dtype]
        )
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise errors.invalid(
            field, f"{field} must describe {name[:80]!r} by one of {', '.join(WIDTHS)}, its shape and its bytes"
        )
    return (dtype, shape), (begin, end)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
