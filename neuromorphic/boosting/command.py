"""`relaxon train boosting`: a table in, a stored network, a report and pictures out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from relaxon.core.training_bar import Record, nowhere, training_bar
from relaxon.neuromorphic.table_training import (
    Rows,
    TableCommand,
    TableProblem,
    add_data_arguments,
    add_out_argument,
    run_table_command,
)

DEFAULT_OUT = Path("runs/boosting")
REGRESSIONS = ("squared", "absolute", "huber", "quantile", "poisson")
"""As in `regressor`, which needs scikit-learn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_arguments(parser)
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
        "--missing", choices=("mean", "indicate"), default="mean", help="what a missing number counts as"
    )
    network.add_argument(
        "--early-stopping", action="store_true", help="stop on a validation share of the training rows"
    )
    network.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--checkpoint", type=Path, help="folder for the run's state; a run that was cut off goes on there"
    )
    add_out_argument(parser, DEFAULT_OUT)


def _estimator(args: argparse.Namespace, problem: TableProblem) -> Any:
    from relaxon.neuromorphic.boosting.estimators.classifier import GradientBoostedNetworkClassifier
    from relaxon.neuromorphic.boosting.estimators.regressor import GradientBoostedNetworkRegressor

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
        missing=args.missing if missing else "refuse",
        binary=args.binary,
        bits=4 if args.bits is None else args.bits,
    )
    if regression:
        made.set_params(loss=args.loss or "squared", quantile=0.5 if args.quantile is None else args.quantile)
    elif args.loss is not None:
        made.set_params(loss=args.loss, tau=1.0 if args.tau is None else args.tau)
    return made


def _fit(estimator: Any, problem: TableProblem, train: Rows, args: argparse.Namespace, console: Any) -> None:
    from relaxon.neuromorphic.boosting.training.runs import StageProgress
    from relaxon.neuromorphic.checkpoints import Checkpoints

    kept = None if args.checkpoint is None else Checkpoints(args.checkpoint)
    with training_bar(console, "loss {task.fields[loss]:.4g}") as bar:
        total = sum(args.layers) if args.layers else args.units
        task = bar.add_task("units", total=total, loss=float("nan"))

        def show(progress: StageProgress) -> None:
            bar.update(task, completed=progress.units, loss=progress.loss)

        estimator.fit(problem.X[train], problem.y[train], callback=show, checkpoints=kept)


COMMAND = TableCommand("boosting", _estimator, _fit, "relaxon.neuromorphic.boosting.report")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar and write everything to `--out`; 0 when done, 2 for arguments that are refused."""
    return run_table_command(COMMAND, args, record)
