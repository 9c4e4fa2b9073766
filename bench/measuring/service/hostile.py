"""Hostile calls for any served method, made from the services' descriptors alone and from a seed.

What a service is does not have to be known here: fields are filled by their types, with values that are awkward for the
type, and by their names where a value can be right (`known`), so that some calls get far. Where a stream's header
announces tensors and its messages carry their parts under the same names, sound parts are made, and then spoiled.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

INTEGERS = (0, 1, -1, 2, 3, 7, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 10**6)
DOUBLES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-6, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "",
    "a",
    "../../etc/passwd",
    "/dev/shm/relaxon-0",
    "relaxon-" + 32 * "0",
    "..",
    ".",
    "C:\\nul",
    "a/b",
    "a\0b",
    "\n\r\x1b[31m",
    "%s%n%x",
    "{0.__class__}",
    "'; DROP TABLE jobs; --",
    "\u202e\ud7ff\U0010ffff",
    "operations/",
    "operations/" + 32 * "0",
    "x" * 10_000,
    ".lock",
    "jobs",
)
SHAPES: tuple[tuple[int, ...], ...] = (
    (4, 5),
    (4, 5),
    (4,),
    (4,),
    (4, 5, 3),
    (20,),
    (),
    (0,),
    (-1, 4),
    (1,) * 9,
    (2**62, 2**62),
    (2**31, 2**31, 2**31),
    (2**20, 2**10),
    (1,),
    (5, 5),
)
LENGTHS = (0, 1, 7, 8, 20, 32, 80, 160, 4096)
DEEP = 5000
"""Levels of a nested message, far beyond what a parser may follow."""
TENSOR_HEADER, TENSOR_PART = "relaxon.v1.TensorHeader", "relaxon.v1.TensorPart"
DTYPES = {1: np.float32, 2: np.float64, 3: np.uint8}
OCTETS = {1: 4, 2: 8, 3: 1}


@dataclass(frozen=True)
class HostileCall:
    """What is sent to one method."""

    method: str
    messages: tuple[bytes, ...]
    ending: str
    """"close" the sending side, "leave" it open, or "cancel" the call."""
    metadata: tuple[tuple[str, str], ...]
    token: bool
    """Whether it brings the right token."""


class Attacker:
    """Makes calls; the same seed makes the same ones."""

    def __init__(self, seed: int | str, known: Mapping[str, Sequence[Any]]) -> None:
        """`known` are values that are right for the fields of that name."""
        self._random = random.Random(seed)
        self._known = known

    def call(self, method: MethodDescriptor) -> HostileCall:
        """One call of a method."""
        draw = self._random
        if method.client_streaming and draw.random() < 0.5:
            messages = self._stream(method.input_type)
        else:
            count = draw.choice((0, 1, 1, 2, 4)) if method.client_streaming else draw.choices((0, 1, 2), (1, 20, 1))[0]
            messages = [self._message(method.input_type) for _ in range(count)]
        ending = draw.choices(("close", "leave", "cancel"), (18, 1, 1))[0]
        metadata = (
            [("x-request-id", draw.choice(("a", "b" * 300, "c d", "<script>", "{}")))] if draw.random() < 0.1 else []
        )
        right = draw.random() < 0.95
        if not right and draw.random() < 0.7:
            metadata.append(
                ("authorization", draw.choice(("Bearer", "Bearer x", "Basic eDp4", "Bearer " + "y" * 3000)))
            )
        name = f"/{method.containing_service.full_name}/{method.name}"
        return HostileCall(name, tuple(messages), ending, tuple(metadata), right)

    def frames(self) -> bytes:
        """Bytes for a bare connection: noise, or the start of HTTP/2 and then noise in the form of frames."""
        draw = self._random
        if draw.random() < 0.3:
            return draw.randbytes(draw.randrange(1, 2000))
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4)
        frames = b""
        for _ in range(draw.randrange(1, 8)):
            body = draw.randbytes(draw.randrange(0, 200))
            length = len(body) if draw.random() < 0.8 else draw.randrange(2**24)
            kind, flags = draw.randrange(12), draw.randrange(256)
            frames += length.to_bytes(3, "big") + bytes((kind, flags)) + draw.randrange(2**31).to_bytes(4, "big") + body
        return preface + frames

    def _message(self, form: Descriptor) -> bytes:
        draw = self._random
        kind = draw.choices(("filled", "noise", "spoiled", "deep", "long"), (50, 12, 28, 5, 5))[0]
        if kind == "noise":
            return draw.randbytes(draw.randrange(0, 600))
        if kind == "deep":
            return self._deep(draw.randrange(1, 8))
        content: bytes = self._filled(form, 0, draw.random()).SerializeToString()
        if kind == "spoiled":
            return self._spoiled(content)
        if kind == "long":
            return content * draw.randrange(1, 50)
        return content

    def _stream(self, form: Descriptor) -> list[bytes]:
        """A header and the arrays that it announces, sound or with one thing spoiled."""
        draw = self._random
        make = message_factory.GetMessageClass(form)
        header_field = form.fields_by_name.get("header")
        if header_field is None:
            return [self._message(form) for _ in range(3)]
        header = self._filled(header_field.message_type, 0, draw.choice((0.0, 0.3, 0.9)))
        messages = []
        for field in header_field.message_type.fields:
            if field.message_type is None or field.message_type.full_name != TENSOR_HEADER:
                continue
            announced = getattr(header, field.name)
            for one in announced if field.is_repeated else (announced,):
                one.dtype = draw.choice((1, 2, 2, 3)) if field.name != "cells" else 3
                del one.shape[:]
                one.shape.extend(draw.choice(SHAPES[:5]))
                part = form.fields_by_name.get(field.name)
                if part is not None and part.message_type.full_name == TENSOR_PART:
                    messages += [make(**{field.name: piece}) for piece in self._parts(part.message_type, one)]
        sent = [make(header=header).SerializeToString(), *(one.SerializeToString() for one in messages)]
        if draw.random() < 0.5:
            return sent
        at = draw.randrange(len(sent))
        spoil = draw.choice(("drop", "double", "swap", "bytes", "other"))
        if spoil == "drop":
            del sent[at]
        elif spoil == "double":
            sent.insert(at, sent[at])
        elif spoil == "swap":
            draw.shuffle(sent)
        elif spoil == "bytes":
            sent[at] = self._spoiled(sent[at])
        else:
            sent[at] = self._message(form)
        return sent

    def _parts(self, form: Descriptor, header: Any) -> list[Any]:
        """An array of the header's form: a chunk and its checksum."""
        draw, make = self._random, message_factory.GetMessageClass(form)
        size = int(np.prod(header.shape)) * OCTETS[header.dtype]
        values = draw.choice((0.0, 1.0, 1.0, 2.0, float("nan"), float("inf"), 1e300))
        with np.errstate(all="ignore"):
            dtype = DTYPES[header.dtype]
            content = np.full(
                size // OCTETS[header.dtype], values if dtype is not np.uint8 else draw.randrange(4)
            ).astype(dtype)
        content[: len(content) // 2] = 0
        octets = content.tobytes()
        return [make(chunk=octets), make(end={"crc32": zlib.crc32(octets)})]

    def _filled(self, form: Descriptor, depth: int, fullness: float) -> Any:
        """A message, its fields filled with chance `fullness`; those with a known right value more often."""
        draw, made = self._random, message_factory.GetMessageClass(form)()
        for field in form.fields:
            likely = field.name in self._known and draw.random() < 0.8
            if not likely and draw.random() > fullness:
                continue
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue  # maps are in replies only; the spoiled bytes have them
            count = draw.choices((1, 2, 5, 5000), (10, 5, 2, 0.2))[0] if field.is_repeated else 1
            if field.message_type is not None:
                self._fill_messages(made, field, depth, fullness, min(count, 5))
                continue
            if field.name == "shape":
                made.shape.extend(draw.choice(SHAPES))
                continue
            values = [self._scalar(field, likely) for _ in range(count)]
            if field.is_repeated:
                getattr(made, field.name).extend(values)
            else:
                setattr(made, field.name, values[0])
        return made

    def _fill_messages(self, made: Any, field: FieldDescriptor, depth: int, fullness: float, count: int) -> None:
        if depth > 6:
            return
        for _ in range(count):
            inner = self._filled(field.message_type, depth + 1, fullness)
            if field.is_repeated:
                getattr(made, field.name).add().CopyFrom(inner)
            else:
                getattr(made, field.name).CopyFrom(inner)

    def _scalar(self, field: FieldDescriptor, likely: bool) -> Any:
        draw = self._random
        if likely:
            return draw.choice(self._known[field.name])
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return draw.randbytes(draw.choice(LENGTHS) if draw.random() < 0.97 else 2**20)
            return draw.choice(TEXTS)
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return draw.choice(DOUBLES)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return draw.random() < 0.5
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return draw.choice([one.number for one in field.enum_type.values] * 3 + [999, -1])
        bits = 32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
        signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return draw.choice([one for one in INTEGERS if low <= one <= high])

    def _spoiled(self, content: bytes) -> bytes:
        draw, spoiled = self._random, bytearray(content)
        for _ in range(draw.randrange(1, 6)):
            at = draw.randrange(len(spoiled) + 1)
            change = draw.randrange(4)
            if change == 0 and at < len(spoiled):
                spoiled[at] ^= 1 << draw.randrange(8)
            elif change == 1:
                spoiled[at:at] = draw.randbytes(draw.randrange(1, 8))
            elif change == 2:
                del spoiled[at : at + draw.randrange(1, 8)]
            else:
                del spoiled[at:]
        return bytes(spoiled)

    def _deep(self, number: int) -> bytes:
        """A message in a message in a message …, as groups: two bytes a level, so that lengths do not grow."""
        return bytes((number << 3 | 3,)) * DEEP + bytes((number << 3 | 4,)) * DEEP
