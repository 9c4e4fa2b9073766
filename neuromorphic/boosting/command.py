"""`relaxon train boosting`: a table in, a stored network, a report and pictures out."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting import tables
from relaxon.solvers.extras import explain
from relaxon.solvers.training_bar import Record, nowhere, training_bar

DEFAULT_OUT = Path("runs/boosting")
REGRESSIONS = ("squared", "absolute", "huber", "quantile", "poisson")
"""As in `regressor`, which needs scikit-learn."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is trained on: features, target, their names, and how a table becomes features."""

    name: str
    X: NDArray[np.float64]
    y: NDArray[Any]
    features: list[str]
    task: str
    encoding: tables.Encoding | None
    said: tuple[str, ...]
    """How the data were read, for the person who reads along."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        required=True,
        help=f"a CSV or Parquet file, or one of scikit-learn's sets: {', '.join(tables.BUNDLED)}",
    )
    data.add_argument("--target", help="the column to predict; needed for a file")
    tables.add_reading_arguments(data)
    data.add_argument("--task", choices=("regression", "classification"), help="by default what the target looks like")
    data.add_argument("--test", type=float, default=0.2, help="part of the rows held out for the report; 0.2")
    network = parser.add_argument_group("network")
    network.add_argument("--units", type=int, default=200)
    network.add_argument("--layers", type=int, nargs="+", help="units of each hidden layer, instead of --units")
    network.add_argument("--per-stage", type=int, default=1, help="J, units trained together")
    network.add_argument("--rate", type=float, default=0.5, help="η, the learning rate")
    network.add_argument(
        "--loss",
        choices=(*REGRESSIONS, "log_loss", "comp-sum"),
        help="of a regression: squared, absolute, huber, quantile or poisson; of a classification: log_loss, comp-sum",
    )
    network.add_argument("--tau", type=float, help="of --loss comp-sum, above 0 and below 2")
    network.add_argument("--binary", action="store_true", help="sign units of binary weights, predicted in bits")
    network.add_argument("--bits", type=int, help="of the code that sign units see of each column; 4")
    network.add_argument("--quantile", type=float, help="of --loss quantile")
    network.add_argument("--newton", choices=("guarded", "published"), default="guarded")
    network.add_argument("--ridge", type=float)
    network.add_argument(
        "--early-stopping", action="store_true", help="stop on a validation share of the training rows"
    )
    network.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--checkpoint", type=Path, help="folder for the run's state; a run that was cut off goes on there"
    )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, help=f"folder for model, report, pictures; {DEFAULT_OUT}"
    )


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar and write everything to `--out`; 0 when done, 2 for arguments that are refused."""
    from rich.console import Console

    from relaxon.neuromorphic.boosting.report import Fit, print_report, write_pictures, write_report

    console, out = Console(stderr=True), Console()
    try:
        problem = _problem(args)
        estimator = _estimator(args, problem)
        train, test = _rows(args.test, problem)
        for line in problem.said:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        since = time.perf_counter()
        _fit(estimator, problem, train, args, console)
        seconds = time.perf_counter() - since
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train boosting: {error}", markup=False)
        return 2
    fit = Fit(problem.name, problem.task, problem.features, estimator, seconds, len(train), len(test))
    scores = fit.scores(problem.X[train], problem.y[train], problem.X[test], problem.y[test])
    args.out.mkdir(parents=True, exist_ok=True)
    estimator.save(args.out / "model")
    encoding = problem.encoding.as_dict() if problem.encoding else None
    write_report(args.out / "report.json", fit, scores, encoding)
    record(json.loads((args.out / "report.json").read_text("utf-8")))
    print_report(out, fit, scores)
    try:
        write_pictures(args.out, fit, scores)
    except ModuleNotFoundError as error:
        console.print(f"No pictures: {explain(error)}", markup=False)
    out.print(f"Model, report and pictures are in {args.out}", markup=False, highlight=False)
    return 0


def _problem(args: argparse.Namespace) -> Problem:
    if args.data in tables.BUNDLED and not Path(args.data).exists():
        if args.target or args.drop or args.words or args.decimal or args.drop_index:
            raise tables.TableError(
                f"--target, --drop, --words, --decimal and --drop-index are for files, and {args.data} is one of "
                f"scikit-learn's sets"
            )
        X, y, names = tables.bundled(args.data)
        task = args.task or tables.BUNDLED[args.data]
        said: tuple[str, ...] = (f"task: {task} of {len(y)} rows", f"{len(names)} columns of numbers")
        return Problem(args.data, X, y, names, task, None, said)
    table = tables.read_table(Path(args.data), tables.reading_options(args))
    if not args.target:
        raise tables.TableError(f"--target must name a column of {args.data}: {', '.join(table.names)}")
    column = table.column(args.target)
    task = args.task or tables.task_of(column)
    rest = table.without([args.target, *args.drop])
    encoding = tables.encoding_of(rest)
    y = tables.target_values(args.target, column, task)
    found = "as --task says" if args.task else "as the target looks"
    said = (
        *table.notes,
        f"task: {task} ({found}) of {table.rows} rows; target {table.describe(args.target)}",
        *map(rest.describe, rest.names),
    )
    return Problem(Path(args.data).name, encoding.features(rest), y, encoding.feature_names, task, encoding, said)


def _rows(share: float, problem: Problem) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows held out, of each class its share, the same whatever the network's seed."""
    from sklearn.model_selection import train_test_split

    if not 0.0 < share < 1.0:
        raise ValueError(f"--test must be between 0 and 1, got {share}")
    labels = problem.y if problem.task == "classification" else None
    # A class with one row cannot be in both parts: then the rows are split regardless of class.
    if labels is not None and np.unique(labels, return_counts=True)[1].min() < 2:
        labels = None
    try:
        train, test = train_test_split(np.arange(len(problem.y)), test_size=share, random_state=0, stratify=labels)
    except ValueError as error:
        raise ValueError(f"--test {share} does not fit {len(problem.y)} rows: {error}") from None
    return train, test


def _estimator(args: argparse.Namespace, problem: Problem) -> Any:
    from relaxon.neuromorphic.boosting.classifier import GradientBoostedNetworkClassifier
    from relaxon.neuromorphic.boosting.regressor import GradientBoostedNetworkRegressor

    regression = problem.task == "regression"
    if args.loss is not None and (args.loss in REGRESSIONS) != regression:
        other = "classification" if regression else "regression"
        raise ValueError(
            f"--loss is for a {other} where it is {args.loss}, this is a {problem.task}; --task {other} makes it one"
        )
    if args.tau is not None and args.loss != "comp-sum":
        raise ValueError("--tau goes with --loss comp-sum")
    if args.bits is not None and not args.binary:
        raise ValueError("--bits goes with --binary")
    if args.quantile is not None and args.loss != "quantile":
        raise ValueError("--quantile goes with --loss quantile")
    missing = bool(np.isnan(problem.X).any())
    made: Any = GradientBoostedNetworkRegressor() if regression else GradientBoostedNetworkClassifier()
    made.set_params(
        n_units=args.units,
        layers=tuple(args.layers) if args.layers else None,
        units_per_stage=args.per_stage,
        learning_rate=args.rate,
        newton=args.newton,
        ridge=args.ridge,
        early_stopping=args.early_stopping,
        random_state=args.seed,
        missing="mean" if missing else "refuse",
        binary=args.binary,
        bits=4 if args.bits is None else args.bits,
    )
    if regression:
        made.set_params(loss=args.loss or "squared", quantile=0.5 if args.quantile is None else args.quantile)
    elif args.loss is not None:
        made.set_params(loss=args.loss, tau=1.0 if args.tau is None else args.tau)
    return made


def _fit(estimator: Any, problem: Problem, train: NDArray[np.int64], args: argparse.Namespace, console: Any) -> None:
    from relaxon.neuromorphic.boosting.training import StageProgress
    from relaxon.neuromorphic.checkpoints import Checkpoints

    kept = None if args.checkpoint is None else Checkpoints(args.checkpoint)
    with training_bar(console, "loss {task.fields[loss]:.4g}") as bar:
        total = sum(args.layers) if args.layers else args.units
        task = bar.add_task("units", total=total, loss=float("nan"))

        def show(progress: StageProgress) -> None:
            bar.update(task, completed=progress.units, loss=progress.loss)

        estimator.fit(problem.X[train], problem.y[train], callback=show, checkpoints=kept)
