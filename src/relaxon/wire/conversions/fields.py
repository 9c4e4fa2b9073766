"""Dataclasses and messages whose fields have the same names, each made from the other."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, MutableSequence
from dataclasses import fields
from datetime import UTC
from typing import Any, ClassVar, TypeVar

import numpy as np

from relaxon.core import errors, validation
from relaxon.wire.conversions import labels

T = TypeVar("T")
ARRAYS = {"Array": np.float64, "NDArray[np.int64]": np.int64}
"""The annotations of array fields and the dtypes that they stand for."""


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
            if annotation.startswith("tuple["):
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
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a sequence of numbers, got {type(value).__name__}")
    check = validation.positive_float if annotation.startswith("tuple[float") else validation.positive_int
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

    Repeated numbers become arrays or tuples, as the field's annotation says; a scalar that is not set becomes None
    where its annotation allows that; an enumeration's value becomes its name in lower case without the prefix.
    """
    descriptors = message.DESCRIPTOR.fields_by_name
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in given:
            given[field.name] = _read_field(message, descriptors[field.name], str(field.type))
    return kind(**given)


def read_model(kind: type[T], message: Any, **given: Any) -> T:
    """Return a stored model's description from its message, as `read_fields` does, with its date and its classes."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    given["created"] = message.create_time.ToDatetime(UTC)
    if "classes" in names:
        given["classes"] = labels.decode_classes(message.classes)
    if "task" in names:
        given["task"] = "classification" if message.classifier else "regression"
    return read_fields(kind, message, **given)


def _read_field(message: Any, descriptor: Any, annotation: str) -> Any:
    value = getattr(message, descriptor.name)
    if isinstance(value, MutableMapping):
        return dict(value)
    if isinstance(value, MutableSequence):
        return np.array(value, ARRAYS[annotation]) if annotation in ARRAYS else tuple(value)
    if descriptor.enum_type is not None:
        return _enum_name(descriptor, value)
    if annotation.endswith("| None") and not message.HasField(descriptor.name):
        return None
    return value


def _enum_name(descriptor: Any, number: int) -> str:
    names: Mapping[int, Any] = descriptor.enum_type.values_by_number
    if number not in names:
        raise errors.InternalError(f"the server's {descriptor.name} is the unknown {number}")
    return str(names[number].name.removeprefix(names[0].name.removesuffix("UNSPECIFIED")).lower())
