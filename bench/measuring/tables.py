"""What the benches share: the facts of a run, its record on disk, and its tables in a terminal or in Markdown."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaxon import __version__
from relaxon.cli.machine import describe_machine

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Record = dict[str, Any]


def describe_run(**facts: Any) -> Record:
    """Return a new record: version, date, machine and its load before the run, then the facts given."""
    return {
        "relaxon": __version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": describe_machine().as_dict(),
        "load_before": os.getloadavg()[0],
        **facts,
    }


def write_record(path: Path, record: Any) -> None:
    """Write a record as JSON, in which a number that is not finite is null."""
    text = json.dumps(_drop_non_finite(record), indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def measure_part(record: Record, part: str, rows: Iterable[Record], path: Path) -> None:
    """Measure a part row by row: print each as it comes, and keep on disk what there is."""
    record[part] = []
    print(f"\n{part}")
    for row in rows:
        if not record[part]:
            print(" | ".join(row))
        record[part].append(_drop_non_finite(row))
        print(" | ".join(format_value(value) for value in row.values()), flush=True)
        write_record(path, record)


def format_value(value: Any) -> str:
    """Return a cell of a table: floating-point numbers to four digits, and to three where they are small."""
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 1e-2 else f"{value:.4g}"
    return "" if value is None else str(value)


def terminal_table(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None, caption: str | None = None
) -> Table:
    """Return a table for a terminal, without frames; columns whose cells are all text stand on the left.

    Cells of `rich`'s own type Text keep their style; all others are formatted and taken literally.
    """
    from rich.table import Table

    cells = [[_cell(value) for value in row] for row in rows]
    columns = [[row[at] for row in cells if at < len(row)] for at in range(len(headings))]
    table = Table(title=title, caption=caption, box=None, pad_edge=False, title_justify="left", caption_justify="left")
    for heading, column in zip(headings, columns, strict=True):
        table.add_column(
            heading, justify="right" if any(map(_is_number, column)) else "left", vertical="bottom", overflow="fold"
        )
    for row in cells:
        table.add_row(*row)
    return table


def record_table(rows: Sequence[Record], title: str | None = None) -> Table:
    """Return a terminal's table of records with the same keys, headed by a word a line."""
    headings = [name.replace("_", "\n") for name in rows[0]]
    return terminal_table(headings, [list(row.values()) for row in rows], title)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], right: bool = False) -> str:
    """Return a table in Markdown that ends with a new line, with all columns but the first on the right if asked."""
    rule = ["---", *["---:" if right else "---"] * (len(headings) - 1)]
    lines = [list(headings), rule, *([format_value(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> Text:
    from rich.text import Text

    return value if isinstance(value, Text) else Text(format_value(value))


def _is_number(cell: Text) -> bool:
    return cell.plain[:1].isdigit() or cell.plain[:2].strip("-–−.").isdigit()


def _drop_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_non_finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_drop_non_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
