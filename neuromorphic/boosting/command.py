"""`relaxon train boosting`: train a boosted network on a table and write the model, a report and pictures."""
# Imported on first use, for their weight: the estimators.

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from relaxon.core.training_bar import training_bar
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
"""The losses of the regressor, repeated here because importing it requires scikit-learn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `relaxon train boosting`."""
    add_data_arguments(parser)
    network = parser.add_argument_group("network").add_argument
    network("--units", type=int, default=200, help="total number of hidden units; 200")
    network("--layers", type=int, nargs="+", help="units of each hidden layer, instead of --units")
    network("--per-stage", type=int, default=1, help="J, the number of units trained together; 1")
    network("--rate", type=float, default=0.5, help="η, the learning rate; 0.5")
    network(
        "--loss",
        choices=(*REGRESSIONS, "log_loss", "comp-sum"),
        help="regression: squared, absolute, huber, quantile or poisson; classification: log_loss or comp-sum",
    )
    network("--tau", type=float, help="τ of --loss comp-sum, above 0 and below 2")
    network("--binary", action="store_true", help="sign units with binary weights, predicted by bits")
    network("--bits", type=int, help="length of the code by which sign units see each column; 4")
    network("--quantile", type=float, help="level of --loss quantile")
    network("--newton", choices=("guarded", "published"), default="guarded", help="step of each stage; guarded")
    network("--ridge", type=float, help="weight decay; 0.1 if guarded, 1e-4 as published")
    network(
        "--missing",
        choices=("mean", "indicate"),
        default="mean",
        help="replace missing numbers by the mean, or add indicators as well",
    )
    network("--early-stopping", action="store_true", help="stop by the loss on a hold-out share of the training rows")
    network("--seed", type=int, default=0, help="seed of all randomness; 0")
    parser.add_argument(
        "--checkpoint", type=Path, help="folder for checkpoints; an interrupted run is resumed from there"
    )
    add_out_argument(parser, DEFAULT_OUT)


def _build_estimator(args: argparse.Namespace, problem: TableProblem) -> Any:
    from relaxon.neuromorphic.boosting.estimators.classifier import GradientBoostedNetworkClassifier
    from relaxon.neuromorphic.boosting.estimators.regressor import GradientBoostedNetworkRegressor

    regression = problem.task == "regression"
    if args.loss is not None and (args.loss in REGRESSIONS) != regression:
        other = "classification" if regression else "regression"
        raise ValueError(
            f"--loss {args.loss} is for a {other}, and this is a {problem.task}; --task {other} makes it one"
        )
    if args.tau is not None and args.loss != "comp-sum":
        raise ValueError("--tau requires --loss comp-sum")
    if args.bits is not None and not args.binary:
        raise ValueError("--bits requires --binary")
    if args.quantile is not None and args.loss != "quantile":
        raise ValueError("--quantile requires --loss quantile")
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


COMMAND = TableCommand("boosting", _build_estimator, _fit, "relaxon.neuromorphic.boosting.report")
run = partial(run_table_command, COMMAND)
