"""Has mkdocstrings read this project's docstrings, which put the words where numpydoc puts the type.

An item of a section is `name : what it is`, its further lines indented; types stand in the signature alone. That is
what Google's style says with other marks, so each section is rewritten to it before the parser comes:

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
"""Where a line on an error is followed by the next error."""


class HouseStyle(griffe.Extension):
    """Rewrites every docstring as it is found."""

    def on_instance(self, *, obj: Any, **kwargs: Any) -> None:
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """A docstring of the house in Google's style."""
    lines = text.split("\n")
    written: list[str] = []
    place = 0
    while place < len(lines):
        if _begins_section(lines, place):
            title = lines[place].strip()
            end = _end(lines, place + 2, title)
            body = lines[place + 2 : end]
            written += [f"{title}:", *("    " + line if line else "" for line in _body(title, body)), ""]
            place = end
        elif lines[place].startswith(PROMPT):
            # A session needs no title in the source; here it gets one.
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


def _end(lines: list[str], place: int, title: str) -> int:
    """Where a section ends: at the next one, or, of items, at a paragraph that is none."""
    for at in range(place, len(lines)):
        if _begins_section(lines, at):
            return at
        after_a_gap = at > place and not lines[at - 1].strip()
        plain = lines[at].strip() and not lines[at].startswith(" ") and not ITEM.match(lines[at])
        if title in ITEMS and after_a_gap and plain:
            return at
    return len(lines)


def _body(title: str, lines: list[str]) -> list[str]:
    if title in PROSE:
        return lines
    if title == "Raises":
        return _errors(lines)
    if title in ("Returns", "Yields"):
        # The type stands in the signature; what is written first is the type again, or already the words.
        text = " ".join(line.strip() for line in lines).strip()
        named = ITEM.match(text)
        return [named["words"] if named else text]
    return [line for item in _items(lines) for line in item]


def _items(lines: list[str]) -> list[list[str]]:
    items: list[list[str]] = []
    names: list[str] = []
    for line in lines:
        found = ITEM.match(line)
        if found:
            # Several names that share a line get one each, as each has its own type.
            names = found["names"].split(", ")
            items += [[f"{name}: {found['words']}"] for name in names]
        elif line.strip():
            for item in items[len(items) - len(names) :]:
                item.append("    " + line.strip())
    return items


def _errors(lines: list[str]) -> list[str]:
    if lines and not ITEM.match(lines[0]):
        # Numpydoc's own form: the error, then its words indented.
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
