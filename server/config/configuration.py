"""The configuration from four places: options take precedence over environment, file and defaults, in this order."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from relaxon.server.config.settings import ServerSettings

PREFIX = "RELAXON_"
FILE = "RELAXON_CONFIG"
CLIENTS = ("RELAXON_TARGET", "RELAXON_TOKEN", "RELAXON_ROOT_CERTIFICATES")
"""The variables of the commands that call a server, which are not settings of one."""
ENGINES = ("RELAXON_NUM_THREADS",)
"""The variables of the solvers, in a server and elsewhere (`relaxon.solvers.kernels.threads`)."""
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
LONGEST_FILE = 2**20
DEFAULTS: dict[str, Any] = {one.name: one.default for one in fields(ServerSettings)}
"""The default of each setting, in the order of the fields."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings and their sources: "option", "environment RELAXON_…", "file …" or "default"."""

    settings: ServerSettings
    sources: Mapping[str, str]

    def as_toml(self) -> str:
        """Return a file with the same settings, with the source of each as a comment."""
        lines = [f"{name} = {_toml(getattr(self.settings, name))}" for name in DEFAULTS]
        width = max(map(len, lines))
        return "".join(
            f"{line:<{width}}  # {source}\n" for line, source in zip(lines, self.sources.values(), strict=True)
        )


def load(options: Mapping[str, Any], environment: Mapping[str, str], file: str = "") -> Configuration:
    """Return the configuration.

    `options` are those given on the command line, by the names of the settings; `file` is a TOML file of settings, by
    default the one that RELAXON_CONFIG names.

    Raises
    ------
    ValueError, TypeError : naming the setting and its source; also for an unknown setting.
    OSError : where the file cannot be read.
    """
    file = file or environment.get(FILE, "")
    values, sources = dict(DEFAULTS), dict.fromkeys(DEFAULTS, "default")
    found = _read_file(Path(file)) if file else {}
    for name, value in found.items():
        values[name], sources[name] = value, f"file {file}"
    for name, value in _read_environment(environment).items():
        values[name], sources[name] = value, f"environment {PREFIX}{name.upper()}"
    for name, value in options.items():
        values[name], sources[name] = value, "option"
    try:
        settings = ServerSettings(**values)
    except (ValueError, TypeError) as error:
        named = str(error).partition(" ")[0]
        where = sources.get(named, "default")
        if where in ("default", "option"):
            raise
        raise type(error)(f"{error} ({where})") from None
    return Configuration(settings, sources)


def _read_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        content = stream.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise ValueError(f"config file {str(path)!r} must have at most {LONGEST_FILE} bytes")
    try:
        given = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"config file {str(path)!r} must be TOML: {error}") from None
    for name, value in given.items():
        if name not in DEFAULTS:
            raise ValueError(f"config file {str(path)!r} has {_describe_unknown(name, DEFAULTS)}")
        wanted = type(DEFAULTS[name])
        if wanted is float and type(value) is int:
            given[name] = float(value)
        elif type(value) is not wanted:
            raise TypeError(f"{name} must be {_type_name(wanted)}, got {value!r} (file {path})")
    return given


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable in (FILE, *CLIENTS, *ENGINES):
            continue
        if name not in DEFAULTS or variable != variable.upper():
            known = [PREFIX + one.upper() for one in DEFAULTS]
            raise ValueError(f"the environment has {_describe_unknown(variable, known)}")
        found[name] = _parse(name, variable, text, type(DEFAULTS[name]))
    return found


def _parse(name: str, variable: str, text: str, wanted: type) -> Any:
    if wanted is bool:
        if text.lower() not in (*TRUE, *FALSE):
            raise TypeError(f"{name} must be true or false, got {text!r} (environment {variable})")
        return text.lower() in TRUE
    try:
        return wanted(text)
    except ValueError:
        raise TypeError(f"{name} must be {_type_name(wanted)}, got {text!r} (environment {variable})") from None


def _describe_unknown(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"the unknown setting {name[:80]!r}" + (f"; is it {close[0]!r}?" if close else "")


def _type_name(wanted: type) -> str:
    return {bool: "true or false", int: "an integer", float: "a number", str: "a string"}[wanted]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # The basic strings of TOML have the escapes of JSON, except for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
