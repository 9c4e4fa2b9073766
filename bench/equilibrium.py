"""Equilibrium propagation measured: gradient accuracy, training, noise, and cost, in one run.

    python bench/equilibrium.py --quick                          # minutes; Fashion-MNIST on a part of its data
    python bench/equilibrium.py --parts accuracy noise cost
    python bench/equilibrium.py --epochs 50 --samples 60000      # the paper's length: hours

(a) accuracy: relative error of Cauchy's estimate against the number of points N and the radius |β|, tied weights and
weights at 90°. (b) training: Fashion-MNIST 784-256-256-10 at |β| = 0.5, several estimators and seeds. (c) noise: 0.04
on every state at every step; `hardware`: bounded, rounded and noisy weights and rates, read at a fixed time. (d) cost:
an epoch's gradients in the paper's setting, against all steps in plain torch, the compiled kernel and NumPy.
Fashion-MNIST is looked for where Debian's package dataset-fashion-mnist puts it; `--data FOLDER` takes any other IDX
files; without it, digits stand in and the results say so. What is done is written after each row, so that a run that is
cut short leaves what it measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from measuring.equilibrium.convolutions import augmented_rows, convolutional_rows
from measuring.equilibrium.hardware import cost_of_limits_rows, device_training_rows
from measuring.equilibrium.residual import residual_rows
from measuring.equilibrium.runs import (
    accuracy_rows,
    arms,
    cost_rows,
    homeostasis_rows,
    noise_rows,
    noise_training_rows,
    training_row,
)
from measuring.tables import describe_run, measure_part

from relaxon.neuromorphic.equilibrium import datasets

Record = dict[str, Any]
PARTS = ("accuracy", "noise", "hardware", "cost", "convolutions", "augmented", "residual", "training")
RESULTS = Path(__file__).parent / "results"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a part of the data, one epoch, one seed, few repeats")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--data", default="fashion-mnist", help="of the training, the cost and chosen residual networks")
    made.add_argument("--samples", type=int, help="of the training set")
    made.add_argument("--epochs", type=int)
    made.add_argument("--seeds", type=int)
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--rate", type=float, default=0.05)
    made.add_argument("--homeostasis", type=float, default=1.0, help="λ")
    made.add_argument(
        "--arms", nargs="+", help="only those arms of training and residual networks whose name holds one of these"
    )
    made.add_argument("--unbounded", action="store_true", help="train without bounds on the weights, as published")
    made.add_argument("--checkpoints", type=Path, help="folder from which a training that was cut short goes on")
    made.add_argument("--repeats", type=int, help="of the cost")
    made.add_argument("--threads", type=int, default=1, help="of torch")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder for equilibrium.json and equilibrium.png")
    return made


def main(argv: list[str] | None = None) -> int:
    """Measure the parts, print a table each, write JSON and a picture."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    record = describe_run(torch=torch.__version__, threads=args.threads)
    path = args.out / "equilibrium.json"
    digits = datasets.digits().flat()
    if "accuracy" in args.parts:
        measure_part(record, "accuracy", accuracy_rows(digits), path)
        measure_part(record, "homeostasis", homeostasis_rows(digits), path)
    if "noise" in args.parts:
        measure_part(record, "noise", noise_rows(digits), path)
        measure_part(record, "noise_training", noise_training_rows(digits, 5 if args.quick else 15), path)
    if "hardware" in args.parts:
        measure_part(record, "hardware", cost_of_limits_rows(digits), path)
        measure_part(record, "hardware_training", device_training_rows(digits, 5 if args.quick else 15), path)
    if "convolutions" in args.parts:
        rows = convolutional_rows(args.epochs or (3 if args.quick else 20), args.seeds or 1)
        measure_part(record, "convolutions", rows, path)
    if "augmented" in args.parts:
        measure_part(
            record, "augmented", augmented_rows(args.epochs or (3 if args.quick else 60), args.seeds or 1), args.out
        )
    if "residual" in args.parts:
        images = datasets.digits() if args.data == "fashion-mnist" and not args.arms else datasets.load(args.data)
        epochs, seeds = args.epochs or (1 if args.quick else 14), args.seeds or 1
        rows = residual_rows(images, args.samples or len(images.x), epochs, seeds, args.arms or ())
        measure_part(record, "residual", rows, path)
    if {"cost", "training"} & set(args.parts):
        images = _images(args.data)
        record["data"] = images.name
        if "cost" in args.parts:
            rows = [row for n in (1, 2, 6) for row in cost_rows(images, args.repeats or (3 if args.quick else 15), n)]
            measure_part(record, "cost", iter(rows), path)
        if "training" in args.parts:
            measure_part(record, "training", _training(args, images), path)
            measure_part(record, "training_summary", iter(summary(record["training"])), path)
    if "accuracy" in record:
        draw_accuracy(record["accuracy"], args.out / "equilibrium.png")
    print(f"written: equilibrium.json in {args.out}")
    return 0


def _images(name: str) -> datasets.Dataset:
    try:
        return datasets.load(name).flat()
    except FileNotFoundError as error:
        if name != "fashion-mnist":
            raise
        print(f"{error}; the digits stand in")
        return datasets.digits().flat()


def _training(args: argparse.Namespace, images: datasets.Dataset) -> Any:
    samples = args.samples or (4000 if args.quick else len(images.x))
    epochs, seeds = args.epochs or (1 if args.quick else 3), args.seeds or (1 if args.quick else 3)
    for seed in range(args.first_seed, args.first_seed + seeds):
        for arm in arms(args.homeostasis):
            if not args.arms or any(part in arm[0] for part in args.arms):
                name = f"{arm[0]}, seed {seed}".replace("°", "").replace(" ", "").replace(",", "-")
                out = args.checkpoints / name if args.checkpoints else None
                yield training_row(arm, images, samples, epochs, args.rate, seed, not args.unbounded, out)


def summary(rows: list[Record]) -> list[Record]:
    """Mean and spread of the test error over the seeds, for each arm."""
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        errors = [row["test_error"] for row in rows if row["arm"] == arm and row["test_error"] is not None]
        angles = [row["angle"] for row in rows if row["arm"] == arm and row["angle"] is not None]
        if errors:
            found.append(
                {
                    "arm": arm,
                    "seeds": len(errors),
                    "test_error": statistics.mean(errors),
                    "spread": statistics.stdev(errors) if len(errors) > 1 else None,
                    "angle": statistics.mean(angles) if angles else None,
                }
            )
    return found


def draw_accuracy(rows: list[Record], path: Path) -> None:
    """Error against N for each radius: three panels."""
    from matplotlib.figure import Figure

    panels = [("tied", "cauchy"), ("90°", "cauchy"), ("90°", "asymmetric-cauchy")]
    titles = ["tied weights, Cauchy", "weights 90° apart, Cauchy", "weights 90° apart, AsymmetricCauchy"]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for panel, (weights, estimator), title in zip(figure.subplots(1, 3, sharey=True), panels, titles, strict=True):
        for radius in sorted({row["radius"] for row in rows}):
            chosen = [
                row
                for row in rows
                if (row["weights"], row["estimator"], row["radius"]) == (weights, estimator, radius)
                and row["error"] is not None
            ]
            line = panel.plot([r["n"] for r in chosen], [max(r["error"], 1e-16) for r in chosen], label=f"{radius:g}")
            for row in chosen:
                marker = "o" if row["verdict"] == "ok" else "x"
                panel.plot(row["n"], max(row["error"], 1e-16), marker, color=line[0].get_color())
        panel.set(yscale="log", xlabel="points N", title=title)
        panel.grid(alpha=0.3)
        panel.legend(title="|β|", fontsize=8)
    figure.axes[0].set_ylabel("relative error (×: verdict not OK)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
