"""Learned proximal operators measured: what was learned, how fast it runs, and what it is worth in inverse problems.

    python bench/proximal.py --quick                      # fewer images, and no training
    python bench/proximal.py --parts laplace source       # some of the parts

(laplace) the shipped and, without --quick, a newly trained operator of a Laplacian prior against soft thresholding.
(conservative) asymmetry of the shipped operators' Jacobians, and how far their priors' preimages are found. (methods)
the three plug-and-play methods on one problem. (source) sources from their fields against Tikhonov and total variation.
(deblurring, tomography) the same for digits. (speed) the dense network in torch and in the compiled reference, in turn.
Each comparison takes each method at its best weight; PSNR in decibels, mean over the images.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring.tables import describe_run, measure_part

from relaxon.neuromorphic.proximal import polish_proximal, pretrained, train_proximal
from relaxon.neuromorphic.proximal.evaluation import evaluate_model, soft_threshold_error
from relaxon.neuromorphic.proximal.reference import ProximalReference
from relaxon.neuromorphic.proximal.training.recipes import choose_recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "proximal"))
import digits
import source_recovery
from comparison import Entry

Row = dict[str, Any]
PARTS = ("laplace", "conservative", "methods", "source", "deblurring", "tomography", "speed")
RESULTS = Path(__file__).parent / "results"
SHIPPED = {"laplace-1d": "laplace", "digits-16": "digits", "blocks": "blocks"}
SHARES = (1.0, 0.1)
CURVATURE = 0.95
"""`w‖A‖²` where all three methods may be compared."""
TIMED_ROWS = 20_000


def laplace_rows(quick: bool) -> Iterator[Row]:
    """Largest error against soft thresholding on [−3, 3]."""
    yield {"operator": "shipped", "largest_error": soft_threshold_error(pretrained("laplace-1d")), "seconds": 0.0}
    if not quick:
        recipe = choose_recipe("laplace")
        began = time.process_time()
        model = train_proximal(recipe.train, recipe.network, recipe.matching)
        yield {
            "operator": "trained here, before it is polished",
            "largest_error": soft_threshold_error(model),
            "seconds": time.process_time() - began,
        }
        if recipe.polish is not None:
            model = polish_proximal(model, recipe.train, recipe.polish)
        seconds = time.process_time() - began
        yield {"operator": "trained here", "largest_error": soft_threshold_error(model), "seconds": seconds}


def conservative_rows() -> Iterator[Row]:
    """The figures of each shipped model's report."""
    for name, data in SHIPPED.items():
        report = evaluate_model(pretrained(name), choose_recipe(data))
        kept = ("noise", "parameters", "root_mean_square_error_denoised", "jacobian_asymmetry")
        yield {"model": name} | {key: report[key] for key in (*kept, "prior_inversion_residual")}


def method_rows() -> Iterator[Row]:
    """The three methods on tomography of one digit, to a residual of 1e-6."""
    model, operator = pretrained("digits-16"), digits.choose_operator("tomography")
    truth = choose_recipe("digits").test[0]
    b = operator.apply(truth)
    for curvature in (CURVATURE, 20.0):
        for method in ("pgd", "admm", "mirror"):
            if method == "pgd" and curvature >= 1:
                continue
            began = time.process_time()
            found = model.solve(b, operator, data_weight=curvature / operator.norm**2, method=method)  # type: ignore[arg-type]
            yield {
                "weight·‖A‖²": curvature,
                "method": method,
                "result": found.result.name,
                "iterations": found.iterations,
                "residual": found.residual,
                "objective": float(found.objectives[-1]),
                "cpu_seconds": time.process_time() - began,
            }


def comparison_rows(part: str, quick: bool) -> Iterator[Row]:
    """A row for each method at its best weight."""
    images = 2 if quick else 8
    if part == "source":
        for share in SHARES[:1] if quick else SHARES:
            _, entries = source_recovery.recover(pretrained("blocks"), images, share, 32)
            yield from (_row(f"{share:.0%} of the cells", entry) for entry in entries)
        return
    _, entries = digits.recover(pretrained("digits-16"), part, images)
    yield from (_row(part, entry) for entry in entries)


def _row(problem: str, entry: Entry) -> Row:
    return {
        "problem": problem,
        "method": entry.method,
        "psnr": entry.psnr,
        "weight": entry.weight,
        "iterations": entry.iterations,
        "largest_residual": entry.residual,
        "converged": entry.converged,
        "seconds": entry.seconds,
    }


def speed_rows(repeats: int) -> Iterator[Row]:
    """Microseconds of CPU a signal, medians of runs in turn on one thread."""
    import torch

    from relaxon.solvers import num_threads

    torch.set_num_threads(1)
    model = pretrained("laplace-1d")
    reference = ProximalReference.of(model)
    y = np.random.default_rng(0).standard_normal((TIMED_ROWS, 1))
    runs = {"torch": lambda: model.denoise(y), "compiled": lambda: reference.evaluate(y)[1]}
    with num_threads(1):
        difference = float(np.abs(runs["torch"]() - runs["compiled"]()).max())
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name, run in runs.items():
                began = time.process_time()
                run()
                taken[name].append(time.process_time() - began)
    for name, seconds in taken.items():
        yield {
            "inference": name,
            "microseconds_a_signal": 1e6 * float(np.median(seconds)) / TIMED_ROWS,
            "largest_difference": difference,
        }


def main(argv: list[str] | None = None) -> int:
    """Measure the parts, print a table each, and write JSON after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images, and no training")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for proximal.json")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    record = describe_run()
    rows = {
        "laplace": lambda: laplace_rows(args.quick),
        "conservative": conservative_rows,
        "methods": method_rows,
        "speed": lambda: speed_rows(3 if args.quick else 9),
    }
    for part in args.parts:
        found = rows[part]() if part in rows else comparison_rows(part, args.quick)
        measure_part(record, part, found, args.out / "proximal.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
