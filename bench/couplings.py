"""Iterations and processor time of `dcdm`'s cycle for any couplings beside `mg-cg`: `python bench/couplings.py`.

One thread, to a true relative residual of 1e-6. The seconds are processor seconds with the set-up included, the median
of the repeats, which go round the methods. With `--ideas` each coarse space that was tried stands in a column of its
own, in the same outer iteration:

    follow 2, 4   transfers that follow the couplings, 2 and 4 sweeps (2 is what ran before there was a choice)
    parts V       connected parts of blocks, each level gone through once
    parts W       the same, each coarse level gone through twice
    whole blocks  as `parts W`, blocks never parted by weak faces (only by closed ones)
    factor 1      as `parts W`, without over-correction
    dcdm          the cycle that the network chooses; where κ is 1 the fused one
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from measuring.poisson.runs import fresh

from relaxon.solvers import PoissonGrid, Robin, gallery, num_threads, prepare
from relaxon.solvers.dcdm.coupled import Candidate
from relaxon.solvers.dcdm.coupled_training import FixedCycle
from relaxon.solvers.multigrid.parted import PartedCycle, Parting

CASES = ("variable", "layered", "cylinder", "heat-step", "heat-sink", "channel", "stretched")
PLAIN_CASES = ("random", "sheets", "shells")
"""Where `dcdm` has the fused cycle in place of the one for any couplings."""
MOST = 100


class OncePartedCycle(PartedCycle):
    """Without second visits."""

    def _descend_twice(self, depth: int) -> None:
        self._descend(depth)


class OnceParted(Candidate):
    def cycle(self, operator: Any) -> Any:
        return OncePartedCycle(operator, self.parting)


IDEAS: dict[str, Callable[[], Any]] = {
    "follow 2": lambda: FixedCycle(Candidate(2)),
    "follow 4": lambda: FixedCycle(Candidate(4)),
    "parts V": lambda: FixedCycle(OnceParted(3, Parting())),
    "parts W": lambda: FixedCycle(Candidate(3, Parting())),
    "whole blocks": lambda: FixedCycle(Candidate(3, Parting(least=0.0))),
    "factor 1": lambda: FixedCycle(Candidate(3, Parting(factor=1.0))),
    "dcdm": lambda: "dcdm",
}


def systems(n: int, ndim: int) -> Iterator[tuple[str, PoissonGrid, Any]]:
    """The cases, each with a name."""
    for name in CASES:
        problem = gallery.make(name, n, ndim)
        yield name, problem.grid, problem.b
    cells, rng = np.zeros((n,) * ndim, np.uint8), np.random.default_rng(0)
    noise = rng.standard_normal(cells.shape)
    kappa = np.exp(2 * rng.standard_normal(cells.shape))
    yield "log-normal κ", PoissonGrid(cells, 1 / n, "dirichlet", kappa), noise
    strewn = gallery.make("random", n, ndim).grid.cells
    for share in (0.1, 1e-3, 1e-6):
        grid = PoissonGrid(strewn, 1 / n, "neumann", reaction=share * n * n)
        yield f"random, σ h² = {share:g}", grid, noise * grid.fluid
    yield "Robin, h = 1", PoissonGrid(cells, 1 / n, Robin(1.0)), noise
    for growth in (1.1, 1.2):
        widths = growth ** np.arange(min(n, 48))
        widths = np.concatenate([widths, np.full(n - len(widths), widths[-1])])
        yield f"stretched {growth - 1:.0%}, 48 cells", PoissonGrid(cells, (widths,) * ndim, "dirichlet"), noise
    for name in PLAIN_CASES:
        problem = gallery.make(name, n, ndim)
        yield f"κ = 1, {name}", problem.grid, problem.b


def measure(solvers: dict[str, Any], grid: PoissonGrid, b: Any, repeats: int) -> list[str]:
    """Iterations and seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    last: dict[str, Any] = {}
    for _ in range(repeats):
        for name, solver in solvers.items():
            again = fresh(grid)
            start = time.process_time()
            last[name] = prepare(again, solver=solver).solve(b, max_iterations=MOST, inconsistent="project")
            seconds[name].append(time.process_time() - start)
    return [
        f"{last[name].iterations:4}{' ' if last[name].converged else '!'}{statistics.median(times):8.3f}"
        for name, times in seconds.items()
    ]


def main() -> None:
    """Print a line for each case: iterations (! where they were not enough) and seconds of each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=48, help="cells a side (default 48)")
    parser.add_argument("--ndim", type=int, choices=(2, 3), default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ideas", action="store_true", help="each coarse space that was tried")
    parser.add_argument("--cases", nargs="+", help="only those whose names begin so")
    args = parser.parse_args()
    solvers = {name: make() for name, make in IDEAS.items()} if args.ideas else {"mg-cg": "mg-cg", "dcdm": "dcdm"}
    print(f"{'':26}" + "".join(f"{name:>14}" for name in solvers))
    with num_threads(1):
        for number, (name, grid, b) in enumerate(systems(args.size, args.ndim)):
            if args.cases and not any(name.startswith(case) for case in args.cases):
                continue
            if number == 0 or args.cases:
                measure(solvers, grid, b, 1)  # what is to be compiled is compiled
            found = measure(solvers, grid, b, args.repeats)
            print(f"{name:26}" + "".join(f"{text:>14}" for text in found), flush=True)


if __name__ == "__main__":
    main()
