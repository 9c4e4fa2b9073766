"""The part of `relaxon train` that all estimators for tables share: read a table, train, store model and report."""
# Imported on first use, for their weight: rich, scikit-learn.

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon._version import __version__
from relaxon.core.extras import explain
from relaxon.core.pictures import new_figure
from relaxon.core.training_bar import Record, nowhere
from relaxon.neuromorphic.tabular import tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TableProblem:
    """A training problem: features, target, their names, and the encoding of the table as features."""

    name: str
    X: NDArray[np.float64]
    y: NDArray[Any]
    features: list[str]
    task: str
    encoding: tables.Encoding | None
    notes: tuple[str, ...]
    """Remarks for the user on how the data were read."""


@dataclass(frozen=True, slots=True)
class TableFit:
    """A trained estimator and a description of its data."""

    data: str
    task: str
    features: list[str]
    estimator: Any
    seconds: float
    train_rows: int
    test_rows: int

    @property
    def measure(self) -> str:
        return "error rate" if self.task == "classification" else "RMSE"

    @property
    def headline(self) -> str:
        return (
            f"{self.data}: {self.task}, {self.train_rows:,} rows to train on, {self.test_rows:,} held out, "
            f"{len(self.features)} columns"
        )

    def describe(self) -> dict[str, Any]:
        """Return, as JSON values, what the reports of all estimators have."""
        estimator = self.estimator
        return {
            "relaxon": __version__,
            "data": self.data,
            "task": self.task,
            "rows": {"train": self.train_rows, "test": self.test_rows},
            "parameters": {name: value for name, value in estimator.get_params().items() if name != "class_weight"},
            "units": estimator.n_units_,
            "outcome": estimator.outcome_.value,
            "seconds": self.seconds,
            "measure": self.measure,
        }

    def error(self, predicted: NDArray[Any], target: NDArray[Any]) -> float:
        """Return the error rate or the root mean squared error."""
        if self.task == "classification":
            return float(np.mean(predicted != target))
        return float(np.sqrt(np.mean(np.square(predicted - target))))


@dataclass(frozen=True, slots=True)
class TableCommand:
    """A subcommand of `relaxon train`: its name and the parts that differ between estimators.

    `make` builds the estimator from the arguments, and `train` fits it to the given rows with a progress bar. `report`
    is the module with `measure_errors`, and with `print_report`, `describe_scores` and `write_pictures` of its result;
    it is imported only for training.
    """

    name: str
    make: Callable[[argparse.Namespace, TableProblem], Any]
    train: Callable[[Any, TableProblem, Rows, argparse.Namespace, Any], None]
    report: str


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the table, the target and the hold-out rows."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        required=True,
        help=f"a CSV or Parquet file, or one of scikit-learn's data sets: {', '.join(tables.BUNDLED)}",
    )
    data.add_argument("--target", help="the column to predict; required for a file")
    tables.add_reading_arguments(data)
    data.add_argument("--task", choices=("regression", "classification"), help="by default inferred from the target")
    data.add_argument("--test", type=float, default=0.2, help="fraction of the rows held out for the report; 0.2")


def add_out_argument(parser: argparse.ArgumentParser, default: Path) -> None:
    """Add the argument for the output folder."""
    parser.add_argument("--out", type=Path, default=default, help=f"folder for model, report and pictures; {default}")


def run_table_command(command: TableCommand, args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train with a progress bar and write all results to `--out`; return 0 on success and 2 for invalid arguments."""
    from rich.console import Console

    report = importlib.import_module(command.report)
    console, out = Console(stderr=True), Console()
    try:
        problem = read_problem(args, args.task, "given by --task")
        estimator = command.make(args, problem)
        train, test = split_rows(args.test, problem)
        for line in problem.notes:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        since = time.perf_counter()
        command.train(estimator, problem, train, args, console)
        seconds = time.perf_counter() - since
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train {command.name}: {error}", markup=False)
        return 2
    fit = TableFit(problem.name, problem.task, problem.features, estimator, seconds, len(train), len(test))
    scores = report.measure_errors(fit, problem.X[train], problem.y[train], problem.X[test], problem.y[test])
    args.out.mkdir(parents=True, exist_ok=True)
    estimator.save(args.out / "model")
    encoding = {"encoding": problem.encoding.as_dict() if problem.encoding else None}
    text = json.dumps(fit.describe() | report.describe_scores(fit, scores) | encoding, indent=2, allow_nan=False)
    (args.out / "report.json").write_text(text + "\n", encoding="utf-8")
    record(json.loads(text))
    report.print_report(out, fit, scores)
    try:
        report.write_pictures(args.out, fit, scores)
    except ModuleNotFoundError as error:
        console.print(f"No pictures: {explain(error)}", markup=False)
    out.print(f"Model, report and pictures are in {args.out}", markup=False, highlight=False)
    return 0


@contextmanager
def draw_axes(path: Path, height: float = 4.0) -> Iterator[Axes]:
    """Write a picture of one pair of axes to a file, for use as a context manager that draws on them."""
    figure = new_figure(6.0, height)
    yield figure.add_subplot()
    figure.savefig(path, dpi=120)


def read_problem(
    args: argparse.Namespace, task: Any, origin: str, encoding: tables.Encoding | None = None
) -> TableProblem:
    """Read the problem that `--data` and its arguments describe; raise `TableError` if they do not fit together.

    `task` is given by `origin`, or None to infer it; `encoding` is that of the table's columns, if it is known already.
    """
    if tables.is_bundled(args.data):
        tables.refuse_reading_arguments(args, f"are for files, and {args.data} is one of scikit-learn's data sets")
        X, y, names = tables.load_bundled(args.data)
        task = task or tables.BUNDLED[args.data]
        notes: tuple[str, ...] = (f"task: {task} of {len(y)} rows", f"{len(names)} columns of numbers")
        return TableProblem(args.data, X, y, names, task, None, notes)
    table = tables.read_table(Path(args.data), tables.parse_reading_options(args))
    column = tables.select_target(table, args)
    origin = origin if task else "inferred from the target"
    task = task or tables.infer_task(column)
    rest = table.without([args.target, *args.drop])
    encoding = encoding or tables.build_encoding(rest)
    y = tables.parse_target(args.target, column, task)
    notes = (
        *table.notes,
        f"task: {task} ({origin}) of {table.rows} rows; target {table.describe(args.target)}",
        *map(rest.describe, rest.names),
    )
    return TableProblem(Path(args.data).name, encoding.features(rest), y, encoding.feature_names, task, encoding, notes)


def split_rows(share: float, problem: TableProblem) -> tuple[Rows, Rows]:
    """Return training and hold-out rows, stratified by class and independent of the seed of the network."""
    from sklearn.model_selection import train_test_split

    if not 0.0 < share < 1.0:
        raise ValueError(f"--test must be between 0 and 1, got {share}")
    labels = problem.y if problem.task == "classification" else None
    # A class with a single row cannot be in both parts; then the split is not stratified.
    if labels is not None and np.unique(labels, return_counts=True)[1].min() < 2:
        labels = None
    try:
        train, test = train_test_split(np.arange(len(problem.y)), test_size=share, random_state=0, stratify=labels)
    except ValueError as error:
        raise ValueError(f"--test {share} does not fit {len(problem.y)} rows: {error}") from None
    return train, test
