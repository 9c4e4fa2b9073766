"""Generates the blocking client from the asyncio one, or checks that the committed one is up to date.

    python tools/generate_client.py            write src/relaxon/client/_sync from src/relaxon/client/_async
    python tools/generate_client.py --check    compare only; exit 1 and name each file that differs

The files keep their names. Tokens are replaced (`async def` by `def`, `__aenter__` by `__enter__`), and `await` and all
that only an event loop needs is left out. Where the two clients differ, they import the same names from two modules
written by hand: `shared/asyncio_runtime.py` and `shared/blocking_runtime.py`. Needs ruff, which sorts the imports and
wraps the lines.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "src" / "relaxon" / "client"
SOURCE, TARGET = CLIENT / "_async", CLIENT / "_sync"
HEADER = "# Generated from {source} by tools/generate_client.py: edit that file and run the tool.\n"

PHRASES = {
    # Docstrings say in words how a client is used.
    r",? for asyncio\b": "",
    r"\basyncio client": "blocking client",
    r"connected once this is awaited\. Close it, or use this in an `async with` statement": (
        "connected. Close it, or use it in a `with` statement"
    ),
    r"several tasks of the event loop that connected it": "several threads",
    r"several tasks of one event loop": "several threads",
    r"Calls in other tasks": "Calls in other threads",
    r"Await the result or, better, use it in an `async with`": "Use the result in a `with`",
    r"in the event loop's thread, and may be an async iterable, as": "in the caller's own thread as",
    r"in an `async with` statement": "in a `with` statement",
    # Their examples show it.
    r"\n *>>> import asyncio(?=\n)": "",
    r"asyncio\.run\((\w+\([^()]*\))\)": r"\1",
    r"\bimport relaxon\.aio\b": "import relaxon",
    r"\brelaxon\.aio\.connect\b": "relaxon.connect",
    r"\brelaxon\.aio\.": "relaxon.client.",
}
"""Patterns of text, with their replacements. Each must match somewhere: a docstring that is changed cannot escape."""

TOKENS = {
    r"relaxon\.client\._async\b": "relaxon.client._sync",
    r"\basyncio_runtime\b": "blocking_runtime",
    r"\nimport asyncio(?=\n)": "",
    # Off the event loop, so as not to hold it up: a plain call here.
    r"\bawait asyncio\.to_thread\(\s*([\w.]+)(?:,\s*|(?=\)))": r"\1(",
    r"\bOpening\[(\w+)\]": r"\1",
    r"\bOpening\b": "open_now",
    r"\basync (?=def|with|for)": "",
    r"\bawait ": "",
    r" \| AsyncIterable(\[[^\]]*\])?": "",
    r"\bAsyncIterable\b": "Iterable",
    r"\bAwaitable\[(\w+)\]": r"\1",
    r"\bAsyncGenerator\[(\w+), None\]": r"Generator[\1, None, None]",
    r"\bAsync(Generator|Iterator)\b": r"\1",
    r"\bStopAsyncIteration\b": "StopIteration",
    r"\banext\b": "next",
    r"\baclosing\b": "closing",
    r"\b__a(enter|exit)__\b": r"__\1__",
    r"AsyncStub\b": "Stub",
}
"""Patterns of code, with their replacements, applied in this order."""


def generate() -> dict[str, str]:
    """Return the blocking client's files, by name."""
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(SOURCE.glob("*.py"))}
    lost = [pattern for pattern in PHRASES if not any(re.search(pattern, text) for text in sources.values())]
    if lost:
        raise SystemExit(f"nothing in {SOURCE.name} matches {', '.join(map(repr, lost))}: drop or correct the pattern")
    return {name: _format(name, _replace(text)) for name, text in sources.items()}


def _replace(text: str) -> str:
    for pattern, replacement in (PHRASES | TOKENS).items():
        text = re.sub(pattern, replacement, text)
    left = re.search(r".*\b(async\w*|await\w*)\b.*", text)
    if left:
        raise SystemExit(f"no pattern covers {left.group().strip()!r}")
    return text


def _format(name: str, text: str) -> str:
    header = HEADER.format(source=(SOURCE / name).relative_to(CLIENT.parents[1]))
    # Names may have become the same, imports superfluous, and blocks or loops simpler.
    commands = ["check", "--fix", "--unsafe-fixes", "--quiet", "--select=I,F401,SIM117,UP028"], ["format", "--quiet"]
    for command in commands:
        ruff = [sys.executable, "-m", "ruff", *command, f"--stdin-filename={TARGET / name}", "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return header + text


def find_differences(fresh: dict[str, str]) -> list[str]:
    """Return the names of files in the blocking client's folder that differ, are missing or have lost their source."""
    kept = {path.name: path.read_text(encoding="utf-8") for path in TARGET.glob("*.py")}
    return sorted(name for name in {*fresh, *kept} if fresh.get(name) != kept.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 on a difference")
    check = parser.parse_args().check
    fresh = generate()
    for name in find_differences(fresh):
        if check:
            print(
                f"client/_sync/{name} is not what client/_async generates; run tools/generate_client.py",
                file=sys.stderr,
            )
        elif name in fresh:
            TARGET.joinpath(name).write_text(fresh[name], encoding="utf-8")
        else:
            TARGET.joinpath(name).unlink()
    return 1 if check and find_differences(fresh) else 0


if __name__ == "__main__":
    sys.exit(main())
