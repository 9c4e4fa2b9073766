"""Dataclasses and messages whose fields have the same names, each made from the other."""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping, MutableSequence
from dataclasses import Field, fields
from datetime import UTC
from enum import Enum
from typing import Any, ClassVar, TypeVar

import numpy as np
from google.protobuf.message_factory import GetMessageClass

from relaxon.core import errors, validation
from relaxon.wire.conversions import labels

T = TypeVar("T")
SEQUENCES = {
    "tuple[float": validation.positive_float,
    "tuple[int": validation.positive_int,
    "Sequence[int": validation.whole_number,
}
"""The starts of the annotations of settings that are sequences, and the checks of their entries."""
M = TypeVar("M")
ARRAYS = {"Array": np.float64, "NDArray[np.int64]": np.int64}
"""The annotations of array fields and the dtypes that they stand for."""
TIMES = {
    "created": "create_time",
    "started": "start_time",
    "ended": "end_time",
    "uptime_seconds": "uptime",
    "seconds_left": "time_left",
}
"""The dataclasses' names of times and durations that the messages call otherwise."""


class SettingsMessage:
    """Base of the dataclasses of an engine's settings: a field that is None keeps the engine's default."""

    __slots__ = ()
    _message: ClassVar[Any]
    """The type of the message that carries the settings."""
    _needs_entries: ClassVar[bool] = False
    """Whether an empty sequence is refused; otherwise it counts as not given."""

    def message(self) -> Any:
        """Return the settings as they are sent.

        Raises
        ------
        TypeError, ValueError : naming a setting of the wrong type; the server checks the values themselves.
        """
        message = self._message()
        self._fill(message)
        return message

    def _fill(self, message: Any, special: tuple[str, ...] = ()) -> None:
        """Put the settings that are given into their message, `special` ones excepted."""
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value is None or field.name in special:
                continue
            annotation = str(field.type)
            if annotation.startswith(tuple(SEQUENCES)):
                entries = _check_sequence(field.name, value, annotation)
                if self._needs_entries and not entries:
                    raise ValueError(f"{field.name} must have at least one entry, got none")
                getattr(message, field.name).extend(entries)
            else:
                setattr(message, field.name, check_scalar(field.name, value, annotation))


def check_settings(settings: object, kind: type[Any], name: str = "settings") -> None:
    """Raise TypeError, naming the argument, unless `settings` are of that dataclass."""
    if not isinstance(settings, kind):
        article = "" if kind.__name__.endswith("s") else "a "
        raise TypeError(f"{name} must be {article}{kind.__name__}, got {type(settings).__name__}")


def check_scalar(name: str, value: object, annotation: str) -> int | float | str | bool:
    """Return a setting as its message's field takes it.

    TypeError or ValueError, naming the setting, for a value of another type than `annotation` says.
    """
    if annotation.startswith("int"):
        return validation.whole_number(name, value)
    if annotation.startswith("float"):
        return validation.finite_float(name, value)
    if annotation.startswith("bool"):
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r}")
        return bool(value)
    return check_text(name, value)


def check_text(name: str, value: object) -> str:
    """Return a string argument; TypeError naming it otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    return value


def _check_sequence(name: str, value: Any, annotation: str) -> list[Any]:
    if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a sequence of numbers, got {type(value).__name__}")
    check = next(check for start, check in SEQUENCES.items() if annotation.startswith(start))
    return [check(name, entry) for entry in value]


def read_settings(message: Any) -> dict[str, Any]:
    """Return the settings that a message gives, by name, as JSON values."""

    def plain(value: Any) -> Any:
        if hasattr(value, "ListFields"):
            return read_settings(value)
        return list(value) if isinstance(value, MutableSequence) else value

    return {descriptor.name: plain(value) for descriptor, value in message.ListFields()}


def read_fields(kind: type[T], message: Any, **given: Any) -> T:
    """Return a dataclass read from the message with the same field names; `given` holds the fields read elsewhere.

    Repeated numbers become arrays or tuples, as the field's annotation says; what is not set becomes None where its
    annotation allows that; an enumeration's value becomes its name in lower case without the prefix. A message becomes
    the dataclass that the annotation names, a time a date in UTC, and a duration seconds.
    """
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in given:
            given[field.name] = _read_field(kind, message, field)
    return kind(**given)


def read_model(kind: type[T], message: Any, **given: Any) -> T:
    """Return a stored model's description from its message, as `read_fields` does, with its task and its classes."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if "classes" in names:
        given["classes"] = labels.decode_classes(message.classes)
    if "task" in names:
        given["task"] = "classification" if message.classifier else "regression"
    return read_fields(kind, message, **given)


def write_fields(kind: type[M], *sources: Any, **given: Any) -> M:
    """Return a message of the values that `collect_fields` finds for it."""
    return kind(**collect_fields(kind, *sources, **given))


def collect_fields(kind: Any, *sources: Any, **given: Any) -> dict[str, Any]:
    """Return the fields of a message type, each from the first of `sources` that has an attribute of its name.

    `given` holds the fields that come from elsewhere. What no source has, or is None there, is left out. A member of an
    enumeration becomes its number in the message's, or its value; objects in a sequence become messages.
    """
    for descriptor in kind.DESCRIPTOR.fields:
        if descriptor.name not in given:
            value = next((getattr(one, descriptor.name) for one in sources if hasattr(one, descriptor.name)), None)
            if value is not None:
                given[descriptor.name] = _write_value(descriptor, value)
    return given


def _read_field(kind: type[Any], message: Any, field: Field[Any]) -> Any:
    annotation = str(field.type)
    descriptor = message.DESCRIPTOR.fields_by_name[TIMES.get(field.name, field.name)]
    value, optional = getattr(message, descriptor.name), annotation.endswith("| None")
    if isinstance(value, MutableMapping):
        return dict(sorted(value.items()))
    if isinstance(value, MutableSequence):
        if annotation in ARRAYS:
            return np.array(value, ARRAYS[annotation])
        found = value if descriptor.message_type is None else [_read_message(kind, field, one) for one in value]
        return None if optional and not found else tuple(found)
    if descriptor.enum_type is not None:
        return _enum_name(descriptor, value)
    if optional and not message.HasField(descriptor.name):
        return None
    return value if descriptor.message_type is None else _read_message(kind, field, value)


def _read_message(kind: type[Any], field: Field[Any], message: Any) -> Any:
    full_name = message.DESCRIPTOR.full_name
    if full_name == "google.protobuf.Timestamp":
        return message.ToDatetime(UTC)
    if full_name == "google.protobuf.Duration":
        return message.ToMilliseconds() / 1000
    name = str(field.type).removeprefix("tuple[").partition(",")[0]
    return read_fields(getattr(sys.modules[kind.__module__], name), message)


def _write_value(descriptor: Any, value: Any) -> Any:
    if isinstance(value, Enum):
        if descriptor.enum_type is None:
            return value.value
        return descriptor.enum_type.values_by_name[_enum_prefix(descriptor) + value.name].number
    if descriptor.message_type is not None and not isinstance(value, MutableMapping):
        return [write_fields(GetMessageClass(descriptor.message_type), one) for one in value]
    return value


def _enum_prefix(descriptor: Any) -> str:
    return str(descriptor.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED"))


def _enum_name(descriptor: Any, number: int) -> str:
    names = descriptor.enum_type.values_by_number
    if number not in names:
        raise errors.InternalError(f"the server's {descriptor.name} is the unknown {number}")
    return str(names[number].name.removeprefix(_enum_prefix(descriptor)).lower())
