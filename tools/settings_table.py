"""Writes the table of the server's settings into docs/service.md, or checks that it is up to date.

python tools/settings_table.py            write the table
python tools/settings_table.py --check    exit 1 where the page has another one
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from relaxon.server.config.settings import ServerSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "service.md"
BEGIN, END = "<!-- settings: tools/settings_table.py writes this table -->\n", "<!-- end of settings -->\n"
HEAD = (
    "| option | default | meaning |\n|---|---|---|\n"
    "| `--config` | | TOML file of settings; see [operation.md](operation.md) |\n"
    "| `--print-config` | | print all settings with where each comes from, and end |\n"
)
LONGEST_PLAIN = 9999
"""The largest number that is shown without separators."""


def settings_table() -> str:
    """Return the table, a row for each setting."""
    return HEAD + "".join(map(_row, fields(ServerSettings)))


def _row(setting: Field[Any]) -> str:
    default: Any = setting.default
    option, shown = f"--{setting.name.replace('_', '-')}", f"`{default}`" if default != "" else ""
    if isinstance(default, bool):
        option, shown = (option.replace("--", "--no-", 1), "") if default else (option, "")
    elif isinstance(default, int | float):
        many = default > LONGEST_PLAIN and not setting.name.endswith("port")
        shown = f"{default:,}" if many else f"{default:g}" if isinstance(default, float) else str(default)
    meaning = setting.metadata["help"]
    return f"| `{option}` | {shown} | {'do not ' if option.startswith('--no-') else ''}{meaning} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 on a difference")
    arguments = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    fresh = f"{before}{BEGIN}\n{settings_table()}\n{END}{after}"
    if not arguments.check:
        PAGE.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        print(f"{PAGE.name} has another table of settings; run python tools/settings_table.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
