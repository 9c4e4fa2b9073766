"""Energy-based models measured: objectives, density estimation, outlier detection, images and cost, in one run.

    python bench/energy.py --quick                     # minutes: fewer seeds, rows and sets
    python bench/energy.py --parts one_d planar        # some of the parts

(one_d) the mean of a 1-D Gaussian, θ* = 16 from 0 with noise N(0, 1), all objectives. (bias) bias of the gradient of
a minibatch's logarithm against the batch, and with MECO's tracker. (planar) 2-D densities: NLL against the entropy,
both by quadrature. (coverage) how often the interval of log Z holds the value by quadrature. (far) a mode far from
the noise, planted and looked for. (density) tables against Gaussian mixture and kernel density. (outliers) 18 tabular
sets against three detectors, trained on normal rows or on contaminated ones. (images) digits and Fashion-MNIST after
principal components, and digits drawn from a convolutional energy. (matching) energies whose slopes carry noise to
the data, and chains in a metric, beside torchebm's. (cost) time per step beside torchebm and the compiled reference.
What is done is written after each row, so that a run that is cut short leaves what it measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from measuring.energy.contest import DETECTORS, FURTHER, density_rows, outlier_rows, outlier_summary
from measuring.energy.images import generation_rows, image_rows
from measuring.energy.matching import matching_rows, riemannian_rows
from measuring.energy.pictures import draw
from measuring.energy.runs import PLANAR_NAMES, bias_rows, coverage_rows, far_rows, one_d_rows, planar_rows
from measuring.energy.speed import cost_rows
from measuring.energy.tabular import NAMES
from measuring.tables import describe_run, measure_part

Record = dict[str, Any]
PARTS = ("one_d", "bias", "planar", "coverage", "far", "density", "outliers", "images", "matching", "cost")
RESULTS = Path(__file__).parent / "results"
QUICK_SETS = 10


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="fewer seeds, rows and sets")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--sets", nargs="+", choices=PLANAR_NAMES, default=PLANAR_NAMES, help="of the 2-D part")
    made.add_argument("--objectives", nargs="+", help="of the 2-D part; meco and nce by default, meco with --quick")
    made.add_argument("--settings", nargs="+", choices=("normal", "contaminated"), help="of the outliers; normal first")
    names = (*DETECTORS, *FURTHER)
    made.add_argument("--detectors", nargs="+", choices=names, default=list(DETECTORS), help="of outliers")
    made.add_argument("--tables", nargs="+", choices=NAMES, help="of outliers; all, the first ten with --quick")
    made.add_argument("--seeds", type=int)
    made.add_argument("--threads", type=int, default=1, help="of torch")
    made.add_argument("--picture", action="store_true", help="draw energy.png too: trains one more 2-D model")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder for energy.json and energy.png")
    made.add_argument("--name", default="energy", help="of the JSON file")
    return made


def main(argv: list[str] | None = None) -> int:
    """Measure the parts, print a table each, write JSON and, where asked, a picture."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    quick = args.quick
    record = describe_run(torch=torch.__version__, threads=args.threads)
    path = args.out / f"{args.name}.json"
    if "one_d" in args.parts:
        measure_part(record, "one_d", one_d_rows(args.seeds or (2 if quick else 10), 2000, 1 if quick else 3), path)
    if "bias" in args.parts:
        measure_part(record, "bias", bias_rows(1000 if quick else 20_000, 500), path)
    if "planar" in args.parts:
        objectives = args.objectives or (["meco"] if quick else ["meco", "nce"])
        rows, steps = (20_000, 300) if quick else (100_000, 5000)
        measure_part(record, "planar", planar_rows(args.sets, rows, steps, objectives), path)
    if "coverage" in args.parts:
        repeats, rows, steps = (20, 20_000, 300) if quick else (1000, 100_000, 2000)
        measure_part(record, "coverage", coverage_rows(args.sets, repeats, rows, steps), path)
    if "far" in args.parts:
        measure_part(record, "far", far_rows(args.seeds or (2 if quick else 10)), path)
    if "density" in args.parts:
        measure_part(record, "density", density_rows(args.seeds or (1 if quick else 3)), path)
    if "outliers" in args.parts:
        names = tuple(args.tables or (NAMES[:QUICK_SETS] if quick else NAMES))
        settings = args.settings or (["normal"] if quick else ["normal", "contaminated"])
        seeds = args.seeds or (1 if quick else 3)
        rows = (row for setting in settings for row in outlier_rows(setting, seeds, names, args.detectors))
        measure_part(record, "outliers", rows, path)
        measure_part(record, "outlier_summary", iter(outlier_summary(record["outliers"])), path)
    if "images" in args.parts:
        measure_part(record, "images", image_rows(quick), path)
        measure_part(record, "generation", generation_rows(quick), path)
    if "matching" in args.parts:
        measure_part(record, "matching", matching_rows(400 if quick else 2000, args.seeds or (1 if quick else 3)), path)
        measure_part(record, "riemannian", riemannian_rows(5 if quick else 20), path)
    if "cost" in args.parts:
        measure_part(record, "cost", cost_rows(5 if quick else 15), path)
    if args.picture:
        draw(record, args.out / "energy.png", quick)
    print(f"written: {path.name} in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
