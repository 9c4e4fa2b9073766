"""Diagnostics of training measured on scikit-learn's digits, in one run.

    python bench/diagnostics.py --quick                    # about two minutes of one core: fewer splits, seeds, repeats
    python bench/diagnostics.py --parts labels pruning     # some of the parts
    python bench/diagnostics.py --pictures docs            # draw the pictures of docs/diagnostics.md as well

(labels) wrong labels among the rows with the highest EL2N. (pruning) accuracy after training on half of the rows, kept
by EL2N, by GraNd at initialisation and later, by the length of the input, or at random, beside all rows, at the same
number of steps. (coherence) m-coherence in the first epochs, real labels against random ones. (speed) per-sample
gradients and their norms against a loop over rows, interleaved, CPU time. (geometry) alignment of the hidden layer
with inputs and targets, tanh against ReLU, for ten classes and for odd against even digits. (roar) DiffROAR on digits
beside an empty frame. (opposing) the two groups of rows that full-batch gradient descent moves furthest apart. What
misses its goal is marked.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from measuring.diagnostics.parts import PARTS, Scale
from measuring.tables import describe_run, record_table, write_record
from rich.console import Console

FULL, QUICK = Scale(splits=8, seeds=5, repeats=5, roar_repeats=3), Scale(splits=5, seeds=3, repeats=3, roar_repeats=1)
RESULTS = Path(__file__).parent / "results"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="fewer splits, seeds and repeats")
    made.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    made.add_argument("--threads", type=int, default=1, help="of torch")
    made.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw diagnostics-*.png there")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder for diagnostics.json")
    return made


def main(argv: list[str] | None = None) -> int:
    """Measure the parts and print a table each; 1 where a goal is missed."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    console = Console(width=130)
    record = describe_run(quick=args.quick)
    missed = 0
    for name in args.parts:
        since = time.process_time()
        rows, goals, picture = PARTS[name](QUICK if args.quick else FULL)
        seconds = time.process_time() - since
        record[name] = {"rows": rows, "goals": goals, "cpu_seconds": seconds}
        console.print()
        console.print(record_table(rows, f"{name} ({seconds:.0f} s of CPU)"))
        for goal, met in goals.items():
            missed += not met
            console.print(f"{'met   ' if met else 'MISSED'} {goal}", style="" if met else "red", highlight=False)
        if args.pictures is not None and picture is not None:
            args.pictures.mkdir(parents=True, exist_ok=True)
            picture.savefig(args.pictures / f"diagnostics-{name}.png", dpi=80)
        args.out.mkdir(parents=True, exist_ok=True)
        write_record(args.out / "diagnostics.json", record)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
