"""Training and prediction of boosted networks against another checkout, in turn: processor seconds of one thread.

    python bench/boosting_against.py --against ../ceabc37        # the root of a checkout of that commit

Each round runs both sides, each in a process of its own, on 10,000 rows of 20 columns and on digits; medians count.
"Seconds to the other's loss" are until this side's training loss is as low as the other's last one; where 200 units do
not reach that, there are none. With `--threads` above 1 the seconds are elapsed ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import json, sys, time, warnings
import numpy as np
from sklearn.datasets import load_digits, make_friedman1
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
warnings.simplefilter("ignore")
seed, clock, found = int(sys.argv[1]), getattr(time, sys.argv[2]), {}
for name, kind, data in (
    ("friedman1", GradientBoostedNetworkRegressor, make_friedman1(10_000, 20, noise=1.0, random_state=0)),
    ("digits", GradientBoostedNetworkClassifier, load_digits(return_X_y=True)),
):
    kind(2, random_state=0).fit(*data)
    curve, since = [], clock()
    model = kind(random_state=seed).fit(*data, callback=lambda p: curve.append((clock() - since, p.loss)))
    found[name] = {"train": clock() - since, "loss": float(model.train_loss_[-1]), "curve": curve}
X, y = make_friedman1(10_000, 20, noise=1.0, random_state=0)
model = GradientBoostedNetworkRegressor(random_state=0).fit(X[:2000], y[:2000])
forms = {"predict": lambda: model.predict(X), "merged": lambda: model.network_.raw(X)}
forms["staged"] = lambda: [None for _ in model.network_.staged_raw(X)]
if "single" in model.network_.raw.__code__.co_varnames:
    forms["single"] = lambda: model.network_.raw(X, single=True)
for name, form in forms.items():
    form()
    times = []
    for _ in range(11):
        since = clock()
        form()
        times.append(clock() - since)
    found[name] = sorted(times)[5]
found["units"] = model.n_units_
print(json.dumps(found))
"""


def run(root: Path, seed: int, count: int) -> dict[str, Any]:
    """One side's figures."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RELAXON_NUM_THREADS"), str(count))
    environment = {**os.environ, **threads, "PYTHONPATH": str(root / "src")}
    command = [sys.executable, "-c", CHILD, str(seed), "process_time" if count == 1 else "perf_counter"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the root of the other checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    if not (args.against / "src" / "relaxon").is_dir():
        parser.error(f"--against must be the root of a checkout with src/relaxon, got {args.against}")
    rounds = [(run(args.against, seed, args.threads), run(ROOT, seed, args.threads)) for seed in range(args.rounds)]
    for name in ("friedman1", "digits"):
        before, after = ([pair[side][name] for pair in rounds] for side in (0, 1))
        a, b = (statistics.median(one["train"] for one in side) for side in (before, after))
        losses = [statistics.median(one["loss"] for one in side) for side in (before, after)]
        print(
            f"{name}: training {a:.3f} s and {b:.3f} s, {a / b:.2f} times; "
            f"last loss {losses[0]:.4g} and {losses[1]:.4g}"
        )
        reached = [
            next((seconds for seconds, loss in new["curve"] if loss <= old["loss"]), None)
            for old, new in zip(before, after, strict=True)
        ]
        print(f"  seconds to the other's loss: {[None if s is None else round(s, 3) for s in reached]}")
    for name in ("predict", "merged", "single", "staged"):
        a, b = (
            statistics.median(pair[side][name] for pair in rounds) if name in rounds[0][side] else None
            for side in (0, 1)
        )
        print(
            f"10,000 rows, {name}: {_told(a)} and {_told(b)}; units {rounds[0][0]['units']} and {rounds[0][1]['units']}"
        )
    return 0


def _told(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1e3:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
