"""Tables of text from other countries and instruments: read as they are meant, or refused by column and row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relaxon.cli import main
from relaxon.neuromorphic.tabular import tables
from relaxon.neuromorphic.tabular.cells import parse_number
from relaxon.neuromorphic.tabular.tables import ReadingOptions, TableError


def read(tmp_path: Path, text: str, **options: Any) -> tables.ColumnTable:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return tables.read_table(path, ReadingOptions(**options))


def train(engine: str, *options: Any) -> int:
    return main(["train", engine, *map(str, options)])


@pytest.mark.parametrize(
    ("cell", "point", "comma"),
    [
        ("28,7", None, 28.7),
        ("28.7", 28.7, None),
        ("1.234", 1.234, 1234.0),
        ("1,234", 1234.0, 1.234),
        ("1.234,5", None, 1234.5),
        ("1,234.5", 1234.5, None),
        ("12,345,678", 12345678.0, None),
        ("0.250", 0.25, None),
        ("1234,567", None, 1234.567),
        ("1 234,5", None, 1234.5),
        ("1\u202f234", 1234.0, 1234.0),
        ("1'234.50", 1234.5, None),
        ("−3", -3.0, -3.0),
        ("2,5e3", None, 2500.0),
        (".5", 0.5, None),
        ("1_1", None, None),
        ("inf", None, None),
        ("1e999", None, None),
        ("٣", None, None),
        ("1,23,456", None, None),
        ("-", None, None),
        (".", None, None),
    ],
)
def test_a_cell_in_both_readings(cell: str, point: float | None, comma: float | None) -> None:
    assert parse_number(cell, ".") == point
    assert parse_number(cell, ",") == comma


def test_decimal_commas_and_thousands_points_where_a_semicolon_divides(tmp_path: Path) -> None:
    table = read(tmp_path, "temp;hum;power\n28,7;60;1.234,5\n9,05;;12.000\n-3,25;1.000,25;7\n")
    assert table.columns == ([28.7, 9.05, -3.25], [60.0, None, 1000.25], [1234.5, 12000.0, 7.0])
    assert table.describe("temp") == "'temp': numbers, decimal comma"
    assert table.describe("hum") == "'hum': numbers, decimal comma, 1 of 3 missing"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_decimal_points_and_thousands_commas(tmp_path: Path, delimiter: str) -> None:
    table = read(tmp_path, "a;b\n1,234.5;0.5\n99;1,234,567\n".replace(";", delimiter))
    assert table.columns[0] == [1234.5, 99.0]
    with pytest.raises(TableError, match="column 'b' holds numbers in 3 of 4 rows, but row 5 has '12,345,678'"):
        read(tmp_path, "a;b\n1;0,5\n2;0,25\n3;1,5\n4;12,345,678\n".replace(";", delimiter))


def test_quoted_thousands_in_a_file_of_commas(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n"1,234.5",2.5\n"12,345",1.125\n7,3.250\n')
    assert table.columns == ([1234.5, 12345.0, 7.0], [2.5, 1.125, 3.25])
    with pytest.raises(TableError, match=r"row 2 must have 2 cells, got 3 \(a comma inside a number"):
        read(tmp_path, "a,b\n1,234,5\n")


@pytest.mark.parametrize(
    ("text", "column", "cell"),
    [
        ("a;b\n1.234;1\n5.678;2\n", "'a', row 2", "'1.234'"),
        ("a;b\n7;1,234\n8;2,345\n", "'b', row 2", "'1,234'"),
        ("a\tb\n7\t100\n8\t2.345\n", "'b', row 3", "'2.345'"),
        ('a,b\n"1,234",1\n"2,345",2\n', "'a', row 2", "'1,234'"),
        ('a,b\n"28,7",1\n"3,5",2\n', "'a', row 2", "'28,7'"),
    ],
)
def test_a_reading_that_no_cell_proves_is_refused_and_the_option_settles_it(
    tmp_path: Path, text: str, column: str, cell: str
) -> None:
    with pytest.raises(TableError, match=f"column {column}: {cell} can be read.*--decimal . or --decimal ,"):
        read(tmp_path, text)
    name = column[1]
    raw = [line.replace('"', "") for line in text.splitlines()[1:]]
    point = read(tmp_path, text, decimal=".") if "28,7" not in text else None
    comma = read(tmp_path, text, decimal=",")
    assert comma.column(name) != (point.column(name) if point else None)
    witness = cell.strip("'")
    assert parse_number(witness, ",") in comma.column(name)
    assert point is None or parse_number(witness, ".") in point.column(name)
    assert len(comma.column(name)) == len(raw)


def test_points_in_a_file_of_commas_are_decimal_points(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1.234,1\n5.678,2\n").column("a") == [1.234, 5.678]


def test_codes_stay_words(tmp_path: Path) -> None:
    table = read(tmp_path, "code,y\n1_1,1\n1_2,2\n2_1,3\n")
    assert table.column("code") == ["1_1", "1_2", "2_1"]
    assert read(tmp_path, "code,y\n11,1\n12,2\n", words=("code",)).column("code") == ["11", "12"]
    with pytest.raises(TableError, match="there is no column 'cod'"):
        read(tmp_path, "code,y\n11,1\n12,2\n", words=("cod",))


def test_a_line_of_units_is_said_and_left_out(tmp_path: Path) -> None:
    text = "time;temp;share;city\ns;°C;1;\n0;20,5;0,5;Ulm\n1;21,5;0,25;Bonn\n2;22,5;0,75;Ulm\n"
    table = read(tmp_path, text)
    assert table.columns == ([0.0, 1.0, 2.0], [20.5, 21.5, 22.5], [0.5, 0.25, 0.75], ["Ulm", "Bonn", "Ulm"])
    assert table.notes == ("row 2 is read as a line of units and left out: s, °C",)
    with pytest.raises(TableError, match="column 'temp'.*row 4 has 'broken'"):
        read(tmp_path, text.replace("21,5", "broken") + "3;1,5;1,5;Ulm\n")


def test_a_first_row_of_words_is_no_line_of_units_where_columns_are_of_words(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\nx,u\ny,v\nx,u\n")
    assert table.rows == 3
    assert not table.notes


@pytest.mark.parametrize("place", [0, 3, 19])
def test_a_stray_cell_is_refused_by_its_row(tmp_path: Path, place: int) -> None:
    cells = [f"{value}.5,{value}" for value in range(20)]
    cells[place] = f"n.a.,{place}"
    text = "a,b\n" + "\n".join(cells) + "\n"
    with pytest.raises(TableError, match=f"column 'a' holds numbers in 19 of 20 rows, but row {place + 2} has 'n.a.'"):
        read(tmp_path, text)
    assert read(tmp_path, text, words=("a",)).column("a")[place] == "n.a."


def test_half_a_column_of_words_is_a_column_of_words(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b\n1,1\nx,2\n2,3\ny,4\n").column("a") == ["1", "x", "2", "y"]


def test_an_index_without_a_name_is_said_and_dropped_by_the_option(tmp_path: Path) -> None:
    text = ",a,b,\n0,1.5,2,\n1,2.5,1,\n2,3.5,2,\n"
    table = read(tmp_path, text)
    assert table.names == ("column 1", "a", "b")
    assert table.notes == ("column 1 counts the rows, as an index does; it is a feature unless --drop-index is given",)
    dropped = read(tmp_path, text, drop_index=True)
    assert dropped.names == ("a", "b")
    assert "is left out" in dropped.notes[0]


def test_a_header_with_a_comma_does_not_make_the_delimiter(tmp_path: Path) -> None:
    assert read(tmp_path, "height, m;weight, kg, dry;y\n1,5;2,5;3\n2,5;3,5;4\n").names[0] == "height, m"
    assert read(tmp_path, "only\n28,7\n3,5\n").columns == ([28.7, 3.5],)


def weather(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["temp;hum;power", "°C;%;kW"]
    for _ in range(80):
        t, h = rng.uniform(-5, 35), rng.uniform(20, 90)
        lines.append(f"{t:.1f};{h:.0f};{1000 + 40 * t - 3 * h:.2f}".replace(".", ","))
    path = tmp_path / "weather.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_command_trains_a_regression_and_says_how_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, this was a classification of 60 words, with exit status 0."""
    path = weather(tmp_path)
    assert train("boosting", "--data", path, "--target", "power", "--units", 10, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "row 2 is read as a line of units and left out: °C, %, kW" in said
    assert "task: regression (as the target looks) of 80 rows; target 'power': numbers, decimal comma" in said
    assert "'temp': numbers, decimal comma" in said
    assert "'hum': numbers" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["task"] == "regression"
    assert report["test_error"] < 0.5 * report["truncation"]["test"][0]


def test_the_energy_command_reads_the_same_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = weather(tmp_path)
    options = ("--data", path, "--drop", "power", "--steps", 2, "--hidden", 4, "--out", tmp_path / "out")
    assert train("energy", *options) == 0
    said = capsys.readouterr().err
    assert "task: density of 80 rows" in said
    assert "'temp': numbers, decimal comma" in said


REFUSALS = [
    ("boosting", "a,y\n1,x\n2,x\n3,x\n", "the target 'y' must have at least two classes, got 'x' only"),
    ("boosting", "a,y\n1,7\n2,7\n3,7\n", "the target 'y' must have at least two classes, got 7.0 only"),
    ("boosting", "a,y\n" + "".join(f"{i},w{i}\n" for i in range(60)), "the target 'y' has 60 different words in 60"),
    ("boosting", "a;y\n1.234;1\n5.678;2\n", "column 'a', row 2: '1.234' can be read"),
    ("boosting", "a,y\n1,1\n2,2\n3,3\nx,4\n", "column 'a' holds numbers in 3 of 4 rows, but row 5 has 'x'"),
    ("energy", "a,y\n1,x\n2,z\n3,x\n", "columns of words have no density: 'y'"),
    ("energy", "a,y\n1,2\n,3\n3,1\n", "column 'a' is missing in 1 of 3 rows"),
    ("energy", "a,y\n" + "".join(f"{i % 7},5\n" for i in range(30)), "constant over 24 sample(s) are features y"),
    ("energy", "a,y\n" + "".join(f"{i * i},{2 * i * i}\n" for i in range(60)), "is a combination of 'a'"),
]


@pytest.mark.parametrize(("engine", "text", "said"), REFUSALS)
def test_refusals_name_the_column(
    engine: str, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    target = ["--target", "y", "--units", 2] if engine == "boosting" else ["--steps", 2]
    assert train(engine, "--data", path, *target, "--out", tmp_path / "out") == 2
    assert said.replace("'a'", "").strip() in " ".join(capsys.readouterr().err.split()).replace("'a'", "")
    assert not (tmp_path / "out").exists()
