"""`relaxon train convex`: a table in, a stored network with its certificate, a report and pictures out."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting import tables
from relaxon.neuromorphic.boosting.command import Problem, _problem, _rows
from relaxon.solvers.extras import explain
from relaxon.solvers.training_bar import Record, nowhere, training_bar

DEFAULT_OUT = Path("runs/convex")


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
    network = parser.add_argument_group("program")
    network.add_argument("--patterns", type=int, default=100, help="activation patterns sampled; 100")
    network.add_argument("--beta", type=float, default=1e-2, help="β, the weight decay, beside the mean loss; 0.01")
    network.add_argument("--loss", choices=("squared", "logistic", "hinge"), help="squared for numbers, else logistic")
    network.add_argument(
        "--program", choices=("patterns", "units"), default="patterns", help="sampled patterns, or random hidden units"
    )
    network.add_argument(
        "--refinements",
        type=int,
        default=0,
        help="rounds of new patterns that the dual asks for, each as long as the first or longer; 0",
    )
    network.add_argument("--epsilon", type=float, default=0.0, help="half-width of the box of adversarial training; 0")
    network.add_argument("--tol", type=float, default=1e-4, help="relative gap to stop at; 0.0001")
    network.add_argument("--iterations", type=int, default=5000, help="of the ADMM at most, for each round; 5000")
    network.add_argument("--draws", type=int, default=100, help="patterns drawn after training to test the dual; 100")
    network.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, help=f"folder for model, report, pictures; {DEFAULT_OUT}"
    )


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar and write everything to `--out`; 0 when done, 2 for arguments that are refused."""
    from rich.console import Console

    from relaxon.neuromorphic.convex.report import ConvexFit, print_report, write_pictures, write_report

    console, out = Console(stderr=True), Console()
    try:
        problem = _problem(args)
        if np.isnan(problem.X).any():
            raise ValueError(f"--data must have no missing numbers for a convex network; {args.data} has some")
        estimator = _estimator(args, problem)
        train, test = _rows(args.test, problem)
        for line in problem.said:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        since = time.perf_counter()
        _fit(estimator, problem, train, console)
        seconds = time.perf_counter() - since
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train convex: {error}", markup=False)
        return 2
    fit = ConvexFit(problem.name, problem.task, problem.features, estimator, seconds, len(train), len(test))
    scores = fit.scores(problem.X[train], problem.y[train], problem.X[test], problem.y[test])
    args.out.mkdir(parents=True, exist_ok=True)
    estimator.save(args.out / "model")
    encoding = problem.encoding.as_dict() if problem.encoding else None
    write_report(args.out / "report.json", fit, scores, encoding)
    record(json.loads((args.out / "report.json").read_text("utf-8")))
    print_report(out, fit, scores)
    try:
        write_pictures(args.out, fit)
    except ModuleNotFoundError as error:
        console.print(f"No pictures: {explain(error)}", markup=False)
    out.print(f"Model, report and pictures are in {args.out}", markup=False, highlight=False)
    return 0


def _estimator(args: argparse.Namespace, problem: Problem) -> Any:
    from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier
    from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor

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


def _fit(estimator: Any, problem: Problem, train: NDArray[np.int64], console: Any) -> None:
    from relaxon.neuromorphic.convex.admm import ConvexProgress

    with training_bar(console, "gap {task.fields[gap]:.1e}") as bar:
        task = bar.add_task("iterations", total=None, gap=float("nan"))

        def show(progress: ConvexProgress) -> None:
            bar.update(task, completed=progress.iteration, gap=progress.relative_gap)

        estimator.fit(problem.X[train], problem.y[train], callback=show)
