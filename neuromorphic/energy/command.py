"""`relaxon train energy`: fit a density with log Z, its error and a verdict; write the model, scores and a picture."""
# Imported on first use, for their weight: rich, the estimators.

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.pictures import new_figure
from relaxon.core.training_bar import Record, nowhere, training_bar
from relaxon.neuromorphic.tabular import tables

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.datasets import PlanarDensity
    from relaxon.neuromorphic.energy.estimators.density import EnergyDensity

Array = NDArray[np.float64]
PLANAR_NAMES = ("eight-gaussians", "rings", "two-moons", "checkerboard")
DEFAULT_OUT = Path("runs/energy")
SHOWN_SAMPLES = 2000
"""Number of samples in the picture."""
NODES = 300
"""Number of nodes along each axis of the quadrature for the comparison with a known density."""


@dataclass(frozen=True, slots=True)
class DensityRows:
    """The training and hold-out rows, and the true density if it is known."""

    name: str
    features: list[str]
    train: Array
    test: Array
    truth: PlanarDensity | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `relaxon train energy`."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        required=True,
        help=f"a CSV or Parquet file of numbers, one of {', '.join(tables.BUNDLED)}, or one of "
        f"{', '.join(PLANAR_NAMES)}, whose density is known",
    )
    tables.add_reading_arguments(data)
    data.add_argument("--rows", type=int, default=20_000, help="rows drawn from a known density; 20000")
    data.add_argument("--test", type=float, default=0.2, help="fraction of the rows held out for the report; 0.2")
    model = parser.add_argument_group("model").add_argument
    model("--hidden", type=int, nargs="*", default=[96, 96], help="units of each hidden layer; 96 96")
    model(
        "--noise",
        choices=("auto", "gaussian", "mixture", "kernel", "flow"),
        default="auto",
        help="noise distribution to tilt; auto",
    )
    model(
        "--objective",
        choices=("meco", "nce", "ence", "snl", "score-matching"),
        default="meco",
        help="training objective; meco",
    )
    model("--steps", type=int, default=2000, help="training steps; 2000")
    model("--batch", type=int, default=512, help="rows per step; 512")
    model("--rate", type=float, default=3e-3, help="learning rate; 0.003")
    model(
        "--optimizer",
        choices=("adam", "sgd", "momentum", "diffgrad", "normalized"),
        default="adam",
        help="optimiser; adam",
    )
    model("--seed", type=int, default=0, help="seed of all randomness; 0")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot density, samples and log u (PNG, SVG or PDF)")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help=f"folder for the model; {DEFAULT_OUT}")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train with a progress bar, print the report and write the model; return 0, or 2 for invalid arguments."""
    import warnings

    from rich.console import Console

    console, out = Console(stderr=True), Console()
    try:
        rows = _read_rows(args, console)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the verdict is printed
            model = _fit_density(args, rows, console)
            report = _build_report(model, rows)
    except (TypeError, ValueError, FileNotFoundError) as error:
        console.print(f"relaxon train energy: {error}", markup=False)
        return 2
    model.save(args.out / "model")
    record(report)
    for name, value in report.items():
        shown = f"{value:.6g}" if isinstance(value, float) else value
        out.print(f"{name.replace('_', ' ')}: {shown}", markup=False, highlight=False)
    if args.plot is not None:
        draw(args.plot, model, rows)
    out.print(f"Model is in {args.out}", markup=False, highlight=False)
    return 0


def _read_rows(args: argparse.Namespace, console: Any) -> DensityRows:
    if not 0.0 < args.test < 1.0:
        raise ValueError(f"--test must be between 0 and 1, got {args.test}")
    if args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    if args.data in PLANAR_NAMES and not Path(args.data).exists():
        from relaxon.neuromorphic.energy.datasets import planar

        tables.refuse_reading_arguments(args, f"are for files, and {args.data} is a known density")
        if args.rows < 2:
            raise ValueError(f"--rows must be at least 2, got {args.rows}")
        truth: PlanarDensity | None = planar(args.data)
        assert truth is not None
        x, features = truth.sample(args.rows, args.seed + 1), ["x", "y"]
    else:
        x, features, truth = *_read_table(args, console), None
    order = np.random.default_rng(args.seed).permutation(len(x))
    held = max(1, round(args.test * len(x)))
    if len(x) - held < 2:
        raise ValueError(f"--data must have at least 2 rows besides the {held} that --test sets aside, got {len(x)}")
    return DensityRows(Path(args.data).name, features, x[order[held:]], x[order[:held]], truth)


def _read_table(args: argparse.Namespace, console: Any) -> tuple[Array, list[str]]:
    if tables.is_bundled(args.data):
        tables.refuse_reading_arguments(args, f"are for files, and {args.data} is a bundled data set")
        x, _, names = tables.load_bundled(args.data)
        return x, names
    table = tables.read_table(Path(args.data), tables.parse_reading_options(args)).without(args.drop)
    for line in (*table.notes, f"task: density of {table.rows} rows", *map(table.describe, table.names)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    words = [name for name, cells in zip(table.names, table.columns, strict=True) if tables.has_words(cells)]
    if words:
        raise ValueError(
            f"columns of words have no density: {', '.join(map(repr, words))}; --drop them, or convert them to numbers"
        )
    for name in table.names:
        missing = sum(cell is None for cell in table.column(name))
        if missing:
            raise ValueError(f"column {name!r} is missing in {missing} of {table.rows} rows: fill or remove them")
    return tables.build_encoding(table).features(table), list(table.names)


def _fit_density(args: argparse.Namespace, rows: DensityRows, console: Any) -> EnergyDensity:
    from relaxon.neuromorphic.energy.estimators.density import EnergyDensity

    model = EnergyDensity(
        tuple(args.hidden),
        noise=args.noise,
        objective=args.objective,
        steps=args.steps,
        batch_size=args.batch,
        noise_batch_size=2 * args.batch,
        learning_rate=args.rate,
        optimizer=args.optimizer,
        random_state=args.seed,
    )
    model._columns = rows.features
    model.check_parameters()
    with training_bar(console, "log u {task.fields[log_u]:.4g}") as bar:
        task = bar.add_task("steps", total=args.steps, log_u=math.nan)
        model.fit(
            rows.train,
            watcher=lambda progress: bar.update(task, completed=progress.step, log_u=progress.record.log_partition),
        )
        bar.update(task, completed=args.steps)
    return model


def _build_report(model: EnergyDensity, rows: DensityRows) -> dict[str, Any]:
    """Return the report as JSON values."""
    found = model.log_partition_
    held = model.score_samples(rows.test)
    report: dict[str, Any] = {
        "data": rows.name,
        "rows": len(rows.train),
        "features": len(rows.features),
        "mean_log_density_of_rows_held_out": float(held.mean()),
        "its_standard_error": float(held.std() / math.sqrt(len(held))),
        "log_z": found.value,
        "log_z_interval": list(found.interval),
        "effective_sample_size": found.effective_sample_size,
        "pareto_k": found.pareto_k,
        "trusted": model.verdict_.trusted,
        "reason": model.verdict_.reason,
        "training": None if model.training_ is None else model.training_.ended.value,
        "steps": 0 if model.training_ is None else model.training_.steps,
    }
    if rows.truth is not None:
        nodes, cell = rows.truth.nodes(NODES)
        log_model = model.score_samples(nodes)
        entropy = rows.truth.cross_entropy(rows.truth.log_density(nodes), NODES)
        report["true_entropy"] = entropy
        report["nll_above_it"] = rows.truth.cross_entropy(log_model, NODES) - entropy
        report["mass"] = float(np.exp(log_model).sum() * cell)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in report.items()
    }


def draw(path: Path, model: EnergyDensity, rows: DensityRows) -> None:
    """Plot density, samples in the first two features, and the tracked log u; the suffix determines the format."""
    plane = len(rows.features) == 2
    figure = new_figure(15.0 if plane else 10.0, 4.6)
    axes = list(figure.subplots(1, 3 if plane else 2))
    if plane:
        low, high = np.quantile(rows.train, [0.002, 0.998], axis=0)
        middle, half = (low + high) / 2, 0.65 * (high - low)
        (left, bottom), (right, top) = middle - half, middle + half
        grid = np.stack(np.meshgrid(np.linspace(left, right, NODES), np.linspace(bottom, top, NODES)), -1)
        density = np.exp(model.score_samples(grid.reshape(-1, 2))).reshape(NODES, NODES)
        shown = axes[0].imshow(density, origin="lower", extent=(left, right, bottom, top), cmap="magma", aspect="auto")
        figure.colorbar(shown, ax=axes[0])
        axes[0].set_title("density")
    samples = model.sample(SHOWN_SAMPLES, random_state=0)
    one = axes[-2]
    if len(rows.features) == 1:
        one.hist([rows.test[:, 0], samples[:, 0]], 40, density=True, label=["rows held out", "samples"])
        one.legend()
    else:
        one.plot(*rows.test[:SHOWN_SAMPLES, :2].T, ".", markersize=3, color="#bbbbbb", label="rows held out")
        one.plot(*samples[:, :2].T, ".", markersize=3, color="#0072b2", label="samples of the model")
        one.set_xlabel(rows.features[0])
        one.set_ylabel(rows.features[1])
        one.legend(markerscale=3)
    one.set_title("samples")
    _draw_tracker(axes[-1], model)
    verdict = "trusted" if model.verdict_.trusted else f"not trusted: {model.verdict_.reason[:80]}"
    figure.suptitle(f"{rows.name}: log Z {model.log_partition_.value:.4g}, {verdict}")
    figure.savefig(path, dpi=110)


def _draw_tracker(axis: Any, model: EnergyDensity) -> None:
    """Plot log u during training, together with the final log Z and its interval."""
    records = () if model.training_ is None else model.training_.records
    if records:
        axis.plot([one.step for one in records], [one.log_partition for one in records], label="log u")
    found = model.log_partition_
    axis.axhline(found.value, color="#d55e00", linestyle="--", label="log Z of the final weights")
    if all(map(math.isfinite, found.interval)):
        axis.axhspan(*found.interval, color="#d55e00", alpha=0.2)
    axis.set_xlabel("step")
    axis.set_title("tracked normaliser")
    axis.legend()
