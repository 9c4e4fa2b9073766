"""What the site has beyond the pages in docs/: the command line's reference, and prompts told from code."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from mkdocs.structure.files import File, Files

from relaxon.cli import COMMANDS

COMMAND_LINE = "reference/command-line.md"
SESSION = re.compile(r"^```python\n(?=>>> )", re.M)


def on_files(files: Files, config: Any) -> Files:
    """Add the page on the command line, made from the commands' own parsers."""
    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """A block that begins with a prompt is a session: what is typed and what comes back look different.

    A number stays on one line with its deviation.
    """
    return SESSION.sub("```pycon\n", markdown).replace(" ± ", "\u00a0±\u00a0")


def command_line() -> str:
    """The page on the command line."""
    page = ["# The command line", "", "Each command's `--help` says the same."]
    for name, entry in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"relaxon {name}", add_help=False)
        command: Any = import_module(entry.module)
        command.add_arguments(parser)
        page += ["", f"## relaxon {name}", "", f"{entry.summary[0].upper()}{entry.summary[1:]}.", ""]
        page += _described(parser)
    return "\n".join(page) + "\n"


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A table of the parser's arguments; its own commands after it."""
    rows = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    rows = [action for action in rows if action.help != argparse.SUPPRESS and action.dest != "help"]
    if rows:
        yield from ("| argument | default | meaning |", "|---|---|---|")
    for action in rows:
        yield f"| {_spelling(parser, action)} | {_default(action)} | {_meaning(parser, action)} |"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, inner in action.choices.items():
                words = summaries.get(name, "")
                yield from ("", f"### {parser.prog} {name}", "", f"{words[:1].upper()}{words[1:]}.", "")
                yield from _described(inner)


def _spelling(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    if not action.option_strings:
        return f"`{formatter._format_args(action, action.dest.upper())}`".replace("|", "\\|")
    value = ""
    if action.nargs != 0:
        value = " " + formatter._format_args(action, action.dest.upper())
    return ", ".join(f"`{option}{value}`" for option in action.option_strings).replace("|", "\\|")


def _default(action: argparse.Action) -> str:
    if action.default in (None, False, "", [], (), argparse.SUPPRESS) or action.nargs == 0:
        return ""
    shown = action.default
    if isinstance(shown, (list, tuple)):
        shown = " ".join(map(str, shown))
    return f"`{shown}`"


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    words = parser._get_formatter()._expand_help(action) if action.help else ""
    # The default has a column of its own.
    words = re.sub(r"\s*\(default:? [^()]*\)", "", words)
    return words.replace("|", "\\|").replace("<", "&lt;")
