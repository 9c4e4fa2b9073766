"""Lets mkdocstrings read this project's docstrings, which have the description where numpydoc has the type.

An item of a section is `name : description`, with further lines indented; types are in the signature alone. Google's
style expresses the same with other marks, so each section is converted to it before it is parsed:

    Parameters                       Parameters:
    ----------              →            rtol: relative tolerance.
    rtol : relative tolerance.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import griffe

ITEMS = ("Parameters", "Attributes", "Raises", "Returns", "Yields")
PROSE = ("Examples", "Notes", "References")
PROMPT = ">>> "
UNDERLINE = re.compile(r"-{3,}")
ITEM = re.compile(
    r"(?P<names>\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_][\w.]*)*)(?P<note> \([^)]*\))? : (?P<words>.*)"
)
ERROR = re.compile(r"(?P<names>[A-Z]\w+(?:, [A-Z]\w+)*)(?P<note> \([^)]*\))? ?: (?P<words>.*)")
NEXT_ERROR = re.compile(rf"(?<=[.;]) (?={ERROR.pattern.replace('?P<', '?P<next_')})")
"""Matches the gap between one error and the next on the same line."""


class HouseStyle(griffe.Extension):
    """Converts every docstring as griffe finds it."""

    def on_instance(self, *, obj: Any, **kwargs: Any) -> None:
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = convert_to_google_style(obj.docstring.value)


def convert_to_google_style(text: str) -> str:
    """Return a docstring of this project in Google's style."""
    lines = text.split("\n")
    written: list[str] = []
    place = 0
    while place < len(lines):
        if _begins_section(lines, place):
            title = lines[place].strip()
            end = _find_end(lines, place + 2, title)
            body = lines[place + 2 : end]
            written += [f"{title}:", *("    " + line if line else "" for line in _convert_body(title, body)), ""]
            place = end
        elif lines[place].startswith(PROMPT):
            # A doctest has no title in the source; here it gets one.
            end = next((at for at in range(place, len(lines)) if not lines[at].strip()), len(lines))
            written += ["Examples:", *("    " + line for line in lines[place:end])]
            place = end
        else:
            written.append(lines[place])
            place += 1
    return "\n".join(written).rstrip()


def _begins_section(lines: list[str], place: int) -> bool:
    known = lines[place].strip() in ITEMS + PROSE
    return known and place + 1 < len(lines) and UNDERLINE.fullmatch(lines[place + 1].strip()) is not None


def _find_end(lines: list[str], place: int, title: str) -> int:
    """Return where a section ends: at the next one, or, for items, at a paragraph that is not an item."""
    for at in range(place, len(lines)):
        if _begins_section(lines, at):
            return at
        after_a_gap = at > place and not lines[at - 1].strip()
        plain = lines[at].strip() and not lines[at].startswith(" ") and not ITEM.match(lines[at])
        if title in ITEMS and after_a_gap and plain:
            return at
    return len(lines)


def _convert_body(title: str, lines: list[str]) -> list[str]:
    if title in PROSE:
        return lines
    if title == "Raises":
        return _convert_errors(lines)
    if title in ("Returns", "Yields"):
        # The type is in the signature; the first words are the type again, or already the description.
        text = " ".join(line.strip() for line in lines).strip()
        named = ITEM.match(text)
        return [named["words"] if named else text]
    return [line for item in _convert_items(lines) for line in item]


def _convert_items(lines: list[str]) -> list[list[str]]:
    items: list[list[str]] = []
    names: list[str] = []
    for line in lines:
        found = ITEM.match(line)
        if found:
            # Names that share a line get one item each, because each has its own type.
            names = found["names"].split(", ")
            items += [[f"{name}: {found['words']}"] for name in names]
        elif line.strip():
            for item in items[len(items) - len(names) :]:
                item.append("    " + line.strip())
    return items


def _convert_errors(lines: list[str]) -> list[str]:
    if lines and not ITEM.match(lines[0]):
        # Numpydoc's own form: the error, then its description, indented.
        lines = [f"{lines[0].strip()} : {lines[1].strip()}", *lines[2:]] if len(lines) > 1 else lines
    text = " ".join(line.strip() for line in lines).strip()
    written = []
    starts = [0, *(place.end() for place in NEXT_ERROR.finditer(text)), len(text) + 1]
    for start, end in pairwise(starts):
        part = text[start : end - 1]
        found = ERROR.match(part)
        if found is None:
            written.append(f"Exception: {part}")
            continue
        note = f"{found['note'].strip()} " if found["note"] else ""
        words = found["words"].rstrip(";.") + "."
        written += [f"{name}: {note}{words}" for name in found["names"].split(", ")]
    return written
