"""The gradients of an epoch against another checkout, in turn, one thread, processor seconds of that thread.

    python bench/equilibrium_against.py --against ../ceabc37        # the root of a checkout of that commit

Each round runs both sides, each in a process of its own: the paper's network (784-256-256-10, batch 50, |β| = 0.5,
layers in turn, weights scaled to the bounds of the training) on the first images of Fashion-MNIST, and `--repeats`
gradients of each number of points. Medians count, of a side's gradients and then of the rounds' ratios. The error is to
the exact gradient, and to that of the same nudges relaxed to 1e-6. This checkout runs twice: with the other one's
default tolerances of training, and with its own, `--tolerances`, whose error is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POINTS = ("1", "2", "6", "12")
BATCHES = 1200
"""Of an epoch of 60,000 images."""
BEFORE = (1e-4, 1e-3)
"""Default tolerances of the two phases in ceabc37's `relaxon train equilibrium`."""
CHILD = """
import json, statistics, sys, time
import torch
from relaxon.neuromorphic.equilibrium import (
    Alternating, Cauchy, FixedStep, Implicit, LayeredNetwork, Phases, datasets, gradient)
torch.set_num_threads(1)
repeats, data, found = int(sys.argv[1]), datasets.load(sys.argv[2]).flat(), {}
network = LayeredNetwork((data.x.shape[1], 256, 256, 10), gain=1.0)
with torch.no_grad():
    for weight, bound in ((network.weights[1], 0.9), (network.weights[2], 2.0)):
        weight.mul_(bound / torch.linalg.matrix_norm(weight, 2))
x, y = torch.from_numpy(data.x[:50]), torch.from_numpy(data.y[:50])
phases = Phases(Alternating(75, tolerance=float(sys.argv[3])), Alternating(20, tolerance=float(sys.argv[4])))
flat = lambda one: torch.cat([value.flatten() for value in one.gradients.values()])
exact = flat(gradient(network, x, y, Implicit(), Phases(FixedStep(tolerance=1e-6))))
for n in sys.argv[5:]:
    seconds = []
    for repeat in range(repeats + 3):
        since = time.thread_time()
        one = gradient(network, x, y, Cauchy(int(n), 0.5), phases)
        seconds.append(time.thread_time() - since)
    error = float((flat(one) - exact).norm() / exact.norm())
    settled = flat(gradient(network, x, y, Cauchy(int(n), 0.5), Phases(FixedStep(2000, tolerance=1e-6))))
    unsettled = float((flat(one) - settled).norm() / settled.norm())
    found[n] = [statistics.median(seconds[3:]), error, unsettled, one.evaluations]
print(json.dumps(found))
"""


def run(root: Path, repeats: int, data: str, tolerances: Sequence[float]) -> dict[str, list[float]]:
    """One side's figures."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RELAXON_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": str(root / "src")}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(repeats), data, *map(str, tolerances), *POINTS]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="the root of the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--tolerances", type=float, nargs=2, default=(8e-3, 4e-3), help="of the free and nudged phases")
    parser.add_argument("--data", default="fashion-mnist")
    args = parser.parse_args(argv)
    if not (args.against / "src" / "relaxon").is_dir():
        parser.error(f"--against must be the root of a checkout with src/relaxon, got {args.against}")
    ways = [("before", args.against, BEFORE), ("now", ROOT, BEFORE), ("now, its defaults", ROOT, args.tolerances)]
    rounds = [[run(root, args.repeats, args.data, stop) for _, root, stop in ways] for _ in range(args.rounds)]
    print("N | way | an epoch, s | times as fast | error | from settled | evaluations")
    for n in POINTS:
        for place, (name, *_) in enumerate(ways):
            _, error, unsettled, evaluations = rounds[0][place][n]
            seconds = statistics.median(one[place][n][0] for one in rounds)
            ratio = statistics.median(one[0][n][0] / one[place][n][0] for one in rounds)
            figures = f"{BATCHES * seconds:.1f} | {ratio:.2f} | {error:.2e} | {unsettled:.1e} | {evaluations:.0f}"
            print(f"{n} | {name} | {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
