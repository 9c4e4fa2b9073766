"""The command `relaxon diagnose`: write a page that shows which rows of the data matter and which look mislabelled.

Imported on first use, for their weight: torch, rich, scikit-learn, and the modules that need torch.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relaxon.core.training_bar import Record, nowhere, training_bar
from relaxon.neuromorphic.table_training import TableProblem, read_problem
from relaxon.neuromorphic.tabular import tables

if TYPE_CHECKING:
    from relaxon.neuromorphic.diagnostics.examination import Examined
    from relaxon.neuromorphic.diagnostics.page import PageData
    from relaxon.neuromorphic.diagnostics.stored import LoadedModel

DEFAULT_OUT = Path("diagnosis.html")
NAMES = {"boosting": "Boosted network", "convex": "Convex network", "equilibrium": "Equilibrium network"}
IMAGES = {"digits": (8, 8)}
"""Shapes of the images in scikit-learn's data sets of images."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; those for reading a table are the same as for training."""
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="folder of a boosted, convex or equilibrium network, or of a training command",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        required=True,
        help=f"a CSV or Parquet file, one of scikit-learn's sets ({', '.join(tables.BUNDLED)}), or for an equilibrium "
        "network what it was trained on",
    )
    data.add_argument("--target", help="the column that was predicted; needed for a file")
    tables.add_reading_arguments(data)
    scores = parser.add_argument_group("scores")
    scores.add_argument("--starts", type=int, default=10, help="number of reference networks for early scores; 10")
    scores.add_argument("--epochs", type=int, default=5, help="number of epochs of their training; 5")
    scores.add_argument("--rows", type=int, default=20, help="number of rows in each list; 20")
    scores.add_argument("--max-bytes", type=int, help="bound on the memory for gradients, in bytes; 256 MiB")
    scores.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="FILE", help=f"file for the page; {DEFAULT_OUT}"
    )


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Write the page and pass the results to `record` as JSON values; return 0, or 2 for invalid arguments."""
    from rich.console import Console

    console, out = Console(stderr=True), Console()
    try:
        record(_diagnose(args, console, out))
    except (FileNotFoundError, TypeError, ValueError) as error:
        console.print(f"relaxon diagnose: {error}", markup=False)
        return 2
    return 0


def _diagnose(args: argparse.Namespace, console: Any, out: Any) -> dict[str, Any]:
    from relaxon.neuromorphic.diagnostics.examination import STEPS, DiagnosisSettings, examine, use_one_thread
    from relaxon.neuromorphic.diagnostics.gradients import MAX_BYTES
    from relaxon.neuromorphic.diagnostics.page import PageData, render_page
    from relaxon.neuromorphic.diagnostics.stored import load_model

    if args.rows < 1:
        raise ValueError(f"--rows must be at least 1, got {args.rows}")
    settings = DiagnosisSettings(
        starts=args.starts, epochs=args.epochs, seed=args.seed, max_bytes=args.max_bytes or MAX_BYTES
    )
    stored = load_model(args.model)
    rows, image = _read_rows(args, stored)
    for line in rows.notes:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    use_one_thread()
    with training_bar(console, "{task.fields[step]}") as bar:
        task = bar.add_task("diagnosis", total=None, step=STEPS[0])
        found = examine(
            stored.model,
            rows.X,
            rows.y,
            settings,
            lambda step, done, total: bar.update(task, completed=done, total=total, step=step),
        )
    page = PageData(NAMES[stored.kind], rows.name, rows.features, rows.X, rows.y, image)
    args.out.write_text(render_page(page, found, args.rows), encoding="utf-8")
    _print_summary(out, page, found)
    out.print(f"The page is {args.out}", markup=False, highlight=False)
    return _to_json(args, page, found)


def _read_rows(args: argparse.Namespace, stored: LoadedModel) -> tuple[TableProblem, tuple[int, int] | None]:
    """Return the rows, and the shape of the image that each holds."""
    classes = getattr(stored.model, "classes_", None)
    if stored.kind == "equilibrium" and classes is None:
        return _read_images(args)
    encoding = stored.encoding and tables.Encoding(
        tuple(stored.encoding["names"]),
        tuple(words if words is None else tuple(words) for words in stored.encoding["categories"]),
    )
    task = "regression" if classes is None else "classification"
    problem = read_problem(args, task, "that of the model", encoding or None)
    expected, missing = int(stored.model.n_features_in_), int(np.isnan(problem.X).any(1).sum())
    if problem.X.shape[1] != expected:
        raise ValueError(
            f"--data must have the {expected} columns that the model was trained on, got {problem.X.shape[1]}: --drop "
            "others"
        )
    if missing:
        raise ValueError(f"--data must have no missing cells, got {missing} rows with some: fill or remove them")
    if problem.encoding is not None:
        return problem, None
    if classes is not None and classes.dtype.kind in "iu":  # a model fitted to class indices
        from sklearn import datasets

        problem = replace(problem, y=getattr(datasets, f"load_{args.data}")().target)
    return problem, IMAGES.get(args.data)


def _read_images(args: argparse.Namespace) -> tuple[TableProblem, tuple[int, int] | None]:
    from relaxon.neuromorphic.equilibrium import datasets

    tables.refuse_reading_arguments(args, "are for tables, not for images")
    data = datasets.load(args.data)
    channels, height, width = data.image
    columns = [f"pixel {number}" for number in range(channels * height * width)]
    X = data.x.astype(np.float64)
    flat = X.reshape(len(X), -1)
    problem = TableProblem(data.name, flat, data.y, columns, "classification", None, ())
    return problem, (height, width) if channels == 1 else None


def _print_summary(out: Any, page: PageData, found: Examined) -> None:
    """Print the outcome in a few lines."""
    if found.accuracy is not None:
        suspects = found.early.suspects()
        out.print(
            f"{page.data}: {len(page.X):,} rows, {100 * found.accuracy:.2f} % predicted as labelled", markup=False
        )
        first = ", ".join(map(str, suspects[:10].tolist()))
        out.print(f"Look mislabelled: {len(suspects)} rows" + (f", first {first}" if first else ""), markup=False)
    else:
        out.print(f"{page.data}: {len(page.X):,} rows, RMSE {found.rmse:.4g}", markup=False)
    first = ", ".join(map(str, found.gradient.highest(10).tolist()))
    out.print(f"Matter most: rows {first}", markup=False)


def _to_json(args: argparse.Namespace, page: PageData, found: Examined) -> dict[str, Any]:
    """Return all results as JSON values."""
    early = found.early
    return {
        "model": str(args.model),
        "data": page.data,
        "rows": len(page.X),
        "accuracy": found.accuracy,
        "rmse": found.rmse,
        "early_el2n": early.scores.tolist(),
        "early_el2n_spread": early.spread.tolist(),
        "el2n": found.error.scores.tolist(),
        "grand": found.gradient.scores.tolist(),
        "suspects": None if early.given is None else early.suspects().tolist(),
        "coherence": [value if math.isfinite(value) else None for value in found.coherence.values.tolist()],
        "opposing": {"step": found.opposing.step, "rising": found.opposing.groups[0].tolist(),
                     "falling": found.opposing.groups[1].tolist()},
    }  # fmt: skip
