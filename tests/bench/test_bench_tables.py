"""The tables and records that all benches share."""

import io
import json
from importlib import import_module
from pathlib import Path

import pytest
from rich.console import Console


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    return import_module("measuring.tables")


def printed(table, width=80):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_a_terminal_table_keeps_brackets_and_sets_numbers_right(tables):
    text = printed(tables.terminal_table(["solver", "s", "result"], [["[bold]cg", 0.25, None], ["b", 1e-5, "x"]]))
    assert "[bold]cg" in text
    _, first, second = text.splitlines()
    assert first.index("0.25") + len("0.25") == second.index("1.00e-05") + len("1.00e-05")


def test_a_markdown_table_has_a_line_for_each_row(tables):
    lines = tables.markdown_table(["case", "s"], [["box", 1.23456], ["pool", 2]], right=True).splitlines()
    assert lines == ["| case | s |", "| --- | ---: |", "| box | 1.235 |", "| pool | 2 |"]


def test_what_was_measured_before_a_failure_is_on_disk_and_valid_json(tables, tmp_path, capsys):
    def rows():
        yield {"name": "first", "error": float("nan")}
        raise KeyboardInterrupt

    record = tables.describe_run(quick=True)
    with pytest.raises(KeyboardInterrupt):
        tables.measure_part(record, "part", rows(), tmp_path / "record.json")
    kept = json.loads((tmp_path / "record.json").read_text("utf-8"))
    assert kept["part"] == [{"name": "first", "error": None}]
    assert set(kept) >= {"relaxon", "date", "machine", "load_before", "quick"}
    assert capsys.readouterr().out.splitlines()[-2:] == ["name | error", "first | nan"]
