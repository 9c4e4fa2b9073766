"""The command `relaxon train convex`: train a network on a table, with a certificate, a report and figures."""

# Imported on first use, for their weight: `classifier`, `regressor`, `solving.admm`.

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

DEFAULT_OUT = Path("runs/convex")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data_arguments(parser)
    network = parser.add_argument_group("program").add_argument
    network("--patterns", type=int, default=100, help="number of sampled activation patterns; 100")
    network("--beta", type=float, default=1e-2, help="β, the weight decay, relative to the mean loss; 0.01")
    network(
        "--loss",
        choices=("squared", "logistic", "hinge"),
        help="by default squared for regression, logistic for classes",
    )
    network(
        "--program", choices=("patterns", "units"), default="patterns", help="sampled patterns, or random hidden units"
    )
    network(
        "--refinements",
        type=int,
        default=0,
        help="rounds with new patterns that violate the dual, each at least as long as the first; 0",
    )
    network("--epsilon", type=float, default=0.0, help="half-width of the box for adversarial training; 0")
    network("--tol", type=float, default=1e-4, help="relative gap at which training stops; 0.0001")
    network("--iterations", type=int, default=5000, help="maximum number of ADMM iterations in each round; 5000")
    network("--draws", type=int, default=100, help="number of patterns drawn after training to test the dual; 100")
    network("--seed", type=int, default=0)
    add_out_argument(parser, DEFAULT_OUT)


def _build_estimator(args: argparse.Namespace, problem: TableProblem) -> Any:
    from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier
    from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor

    if np.isnan(problem.X).any():
        raise ValueError(f"--data must have no missing numbers for a convex network; {args.data} has some")
    regression = problem.task == "regression"
    if regression and args.loss not in (None, "squared"):
        raise ValueError(
            f"--loss {args.loss} is for classes, and this is a regression; --task classification makes it one"
        )
    made: Any = ConvexNetworkRegressor() if regression else ConvexNetworkClassifier()
    made.set_params(
        n_patterns=args.patterns,
        beta=args.beta,
        loss=args.loss or ("squared" if regression else "logistic"),
        program=args.program,
        refinements=args.refinements,
        epsilon=args.epsilon,
        tol=args.tol,
        max_iter=args.iterations,
        certificate_draws=args.draws,
        random_state=args.seed,
    )
    made.check_parameters()
    return made


def _fit(estimator: Any, problem: TableProblem, train: Rows, args: argparse.Namespace, console: Any) -> None:
    from relaxon.neuromorphic.convex.solving.admm import ConvexProgress

    with training_bar(console, "gap {task.fields[gap]:.1e}") as bar:
        task = bar.add_task("iterations", total=None, gap=float("nan"))

        def show(progress: ConvexProgress) -> None:
            bar.update(task, completed=progress.iteration, gap=progress.relative_gap)

        estimator.fit(problem.X[train], problem.y[train], callback=show)


COMMAND = TableCommand("convex", _build_estimator, _fit, "relaxon.neuromorphic.convex.report")
run = partial(run_table_command, COMMAND)
