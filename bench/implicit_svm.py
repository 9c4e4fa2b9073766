"""The section `svm` of bench/implicit.py: implicit derivatives against unrolling, at equal error of the gradient.

The problem is that of examples/implicit/svm_hyperparameters.py: dloss/dθ of a multiclass SVM's regulariser. Each way
gets the loosest setting (steps, or a solver's tolerance) with which its gradient's relative error meets the target; the
reference is the unrolled gradient of a run to machine precision, which owes nothing to implicit differentiation. Times
are CPU times of this process, the ways measured in turn, one thread. Memory is the growth of the peak resident set
(VmHWM, reset before the gradient) of a child process that computes one gradient after a small one has warmed up the
libraries; it holds what torch, the allocator and NumPy take, not only tensors.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring.tables import terminal_table
from rich.console import Console
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "implicit"))
import svm_hyperparameters as svm
from measuring.implicit.descent import solve_by_compiled_descent

from relaxon.implicit import ImplicitOptions

SAMPLES, QUICK_SAMPLES = 1700, 1000
THETA = 5.0
TARGETS = (1e-4, 1e-6)
REPEATS, QUICK_REPEATS = 7, 3
STEPS = tuple(round(50 * 1.15**n) for n in range(32))  # up to some 3,800
TOLERANCES = tuple(10.0**-n for n in range(3, 12))
CHILD_SECONDS = 300


def unroll(data: svm.Data, steps: float) -> float:
    """Return dloss/dθ by back-propagation through steps of accelerated projected gradient."""
    theta = torch.tensor(THETA, dtype=torch.float64, requires_grad=True)
    dual = svm.solve_by_projected_gradient(theta, data, int(steps), 0.0)
    svm.validation_loss(dual, theta, data).backward()
    return _gradient(theta)


def differentiate(data: svm.Data, tolerance: float, solver: Callable[..., Tensor]) -> float:
    """Return dloss/dθ by the fixed point's condition at the result of a solver with a tolerance."""
    theta = torch.tensor(THETA, dtype=torch.float64, requires_grad=True)
    # The error of the result and that of the adjoint solve weigh alike; the target judges them, not the defaults.
    options = ImplicitOptions(method="bicgstab", rtol=tolerance, root_rtol=1e-2, error_estimate="none")
    solve = svm.differentiate(solver, data, options)
    svm.validation_loss(solve(None, theta, tolerance=tolerance), theta, data).backward()
    return _gradient(theta)


def _gradient(theta: Tensor) -> float:
    assert theta.grad is not None
    return float(theta.grad)


class Way(NamedTuple):
    """A way to the gradient: a function of the data and of its setting, and the settings, the loosest first."""

    gradient: Callable[[svm.Data, float], float]
    settings: tuple[float, ...]


WAYS = {
    "unrolled": Way(unroll, tuple(map(float, STEPS))),
    "implicit, the same solver": Way(
        lambda data, tolerance: differentiate(data, tolerance, svm.solve_by_projected_gradient), TOLERANCES
    ),
    "implicit, compiled descent": Way(
        lambda data, tolerance: differentiate(data, tolerance, solve_by_compiled_descent), TOLERANCES
    ),
}


def run(console: Console, quick: bool) -> dict[str, Any]:
    """Print and return the rows."""
    samples, repeats = (QUICK_SAMPLES, QUICK_REPEATS) if quick else (SAMPLES, REPEATS)
    data = svm.load(samples)
    reference = _reference(data)
    rows = []
    for target in TARGETS[-1:] if quick else TARGETS:
        settings = {name: loosest(way, data, reference, target) for name, way in WAYS.items()}
        seconds = _time(data, settings, repeats)
        memory = {name: measure_memory(name, samples, setting) for name, setting in settings.items()}
        for name, setting in settings.items():
            ratios = [a / b for a, b in zip(seconds["unrolled"], seconds[name], strict=True)]
            rows.append(
                {
                    "target": target,
                    "way": name,
                    "setting": setting,
                    "error": abs(WAYS[name].gradient(data, setting) / reference - 1),
                    "seconds": statistics.median(seconds[name]),
                    "mebibytes": memory[name] / 2**20,
                    "less_time": statistics.median(ratios),
                    "less_memory": memory["unrolled"] / max(memory[name], 1),
                }
            )
    console.print(f"{samples // 2} training samples, 10 classes, θ = {THETA:g}; dloss/dθ = {reference:.6f}")
    headings = ("error ≤", "way", "steps or tolerance", "error", "CPU s", "MiB", "less time", "less memory")
    cells = [
        [
            f"{row['target']:.0e}",
            row["way"],
            f"{row['setting']:g}",
            f"{row['error']:.1e}",
            f"{row['seconds']:.3f}",
            f"{row['mebibytes']:.1f}",
            f"{row['less_time']:.1f}×",
            f"{row['less_memory']:.0f}×",
        ]
        for row in rows
    ]
    console.print(terminal_table(headings, cells))
    return {"samples": samples, "theta": THETA, "reference": reference, "rows": rows}


def _reference(data: svm.Data) -> float:
    """Return the gradient by unrolling until the steps change nothing that could be seen."""
    theta = torch.tensor(THETA, dtype=torch.float64, requires_grad=True)
    svm.validation_loss(svm.solve_by_projected_gradient(theta, data, tolerance=1e-13), theta, data).backward()
    return _gradient(theta)


def loosest(way: Way, data: svm.Data, reference: float, target: float) -> float:
    """Return the first setting whose gradient has a relative error of at most `target`, and the next one's too.

    Found by bisection. The next setting is asked as well because an error may pass through zero by chance.
    """

    def meets(index: int) -> bool:
        pair = way.settings[index : index + 2]
        return all(abs(way.gradient(data, setting) / reference - 1) <= target for setting in pair)

    low, high = 0, len(way.settings) - 2
    if not meets(high):
        raise RuntimeError(f"no setting meets a relative error of {target:g}")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle + 1, high)
    return way.settings[low]


def _time(data: svm.Data, settings: dict[str, float], repeats: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(repeats):
        for name, setting in settings.items():
            start = time.process_time()
            WAYS[name].gradient(data, setting)
            seconds[name].append(time.process_time() - start)
    return seconds


def measure_memory(name: str, samples: int, setting: float) -> int:
    """Return by how many bytes the peak resident set of a child process grows while it computes one gradient."""
    command = [sys.executable, __file__, name, str(samples), repr(setting)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=True)
    return int(json.loads(done.stdout)["bytes"])


def _resident(field: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def _child(name: str, samples: int, setting: float) -> None:
    torch.set_num_threads(1)
    way = WAYS[name]
    way.gradient(svm.load(40), way.settings[4])
    data = svm.load(samples)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before = _resident("VmRSS")
    way.gradient(data, setting)
    print(json.dumps({"bytes": max(_resident("VmHWM") - before, 0)}))


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
