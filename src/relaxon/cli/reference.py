"""The reference of all commands in `docs/cli.md`, written from their parsers: `python -m relaxon.cli.reference`."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from importlib import import_module

from relaxon.cli import COMMANDS, build_parser


def write_reference() -> str:
    """Return all commands with their options and exit statuses, in Markdown."""
    lines: list[str] = []
    for name, parser in _iterate_subparsers(build_parser(COMMANDS)):
        command = import_module(COMMANDS[name].module)
        lines += [f"## relaxon {name}", "", f"{_capitalise(COMMANDS[name].summary)}", ""]
        children = list(_iterate_subparsers(parser))
        if children:
            for child, subparser in children:
                lines += [f"### relaxon {name} {child}", "", *_write_table(subparser)]
        else:
            lines += _write_table(parser)
        status = inspect.cleandoc(command.run.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        if status:
            lines += [f"Exit status: {status}", ""]
    return "\n".join(lines)


def _iterate_subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _write_table(parser: argparse.ArgumentParser) -> list[str]:
    rows = [
        f"| {_format_option(action)} | {_format_meaning(parser, action)} |"
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    return ["| argument | meaning |", "|---|---|", *rows, ""] if rows else []


def _format_option(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    if action.nargs == 0:
        return names
    metavar = action.metavar or (action.dest.upper() if names else action.dest)
    if isinstance(metavar, tuple):
        metavar = " ".join(metavar)
    value = "\\|".join(map(str, action.choices)) if action.choices else str(metavar)
    value = {"?": f"[{value}]", "+": f"{value} …", "*": f"[{value} …]"}.get(str(action.nargs), value)
    return f"{names} `{value}`" if names else f"`{value}`"


def _format_meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = action.help or ""
    if text:
        text = parser._get_formatter()._expand_help(action)
    text = " ".join(text.split()).replace("|", "\\|")
    required = bool(action.option_strings) and action.required
    return (text + " (required)" if text else "required") if required else text


def _capitalise(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


if __name__ == "__main__":
    print(write_reference(), end="")
