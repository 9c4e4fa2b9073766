"""Implicit differentiation, measured: what a gradient costs beside its linear solve, and what it saves.

    python bench/implicit.py --quick                     # a minute or two: smaller systems, fewer repeats
    python bench/implicit.py
    python bench/implicit.py --only overhead --json out.json

Sections: `overhead` (time of a gradient over that of the bare adjoint solve, memory against the solver's iterations),
`svm` (implicit against unrolling at equal error of the gradient), `torchopt` (against TorchOpt where it is installed),
`error` (of implicit and unrolled Jacobians, and the bound, as a solver converges).
Times are this process's CPU time, of pairs measured in turn; a ratio is the median of the pairs' ratios. One thread.
"""

from __future__ import annotations

import os

from measuring.tables import describe_run, write_record

if __name__ == "__main__":  # imported by a test, it leaves that process's threads alone
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # before NumPy and torch

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import implicit_svm
import implicit_torchopt
import torch
from measuring.implicit import error as implicit_error
from measuring.implicit import overhead as implicit_overhead
from rich.console import Console

Section = Callable[[Console, bool], dict[str, Any]]
SECTIONS: dict[str, Section] = {
    "overhead": implicit_overhead.run,
    "svm": implicit_svm.run,
    "torchopt": implicit_torchopt.run,
    "error": implicit_error.run,
}
"""Each prints its rows, takes `quick`, and returns what goes into the JSON."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path)
    args, console = parser.parse_args(argv), Console(highlight=False)
    record = describe_run(torch=torch.__version__, quick=args.quick)
    for name in args.only:
        console.rule(name)
        record[name] = SECTIONS[name](console, args.quick)
    if args.json:
        write_record(args.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
