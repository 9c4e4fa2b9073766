"""Fit the automatic choice among solvers of sparse matrices, and show what it loses against the best of them.

    python bench/sparse_choice.py --write                      # runs, fits, writes the constants, runs `auto`
    python bench/sparse_choice.py --runs runs.json --write     # keeps the runs one by one, and goes on where it ended
    python bench/sparse_choice.py --runs runs.json --again amg # runs one solver again, and keeps the others' runs
    python bench/sparse_choice.py --runs runs.json --fit-only --write  # fits the runs that are kept, and runs nothing
    python bench/sparse_choice.py --quick                      # up to 10,000 unknowns
    python bench/sparse_choice.py --runs runs.json --hold-out  # each family judged by a fit to the others

Every solver of the project solves every family of the gallery at every size to 1e-6, set-up and checks included, one
random right-hand side, the least of a few repeats for small ones. What takes more than `--limit` seconds or a few times
the best is stopped. Seconds of set-ups and iterations are fitted as sums of positive parts (rows, entries, operations),
weighted by their inverse; iterations and operations as products of powers, least squares of their logarithms. The
constants go to `solvers/sparse/choice/costs.json`. Then `auto` runs on the same systems: what it takes is held against
1.5 times the best plus 50 ms; with `--unfitted` on a million unknowns, a large plate and elastic bodies as well, to
which nothing is fitted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring.sparse.choice_runs import (
    UNFITTED,
    UNFITTED_SOLVERS,
    Clock,
    available,
    matrices,
    matrix_of,
    race,
    solved,
    warm,
)
from measuring.tables import terminal_table
from numpy.typing import NDArray
from rich.console import Console
from scipy.optimize import least_squares, nnls

from relaxon.cli.machine import describe_machine
from relaxon.server.config.threads import wait_asleep
from relaxon.solvers import gallery
from relaxon.solvers.kernels.threads import get_num_threads, set_num_threads
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.choice import automatic as choice
from relaxon.solvers.sparse.choice import costs
from relaxon.solvers.sparse.choice.costs import (
    CostModel,
    DirectCost,
    IterativeCost,
    linear_terms,
    rate_terms,
    size_terms,
)
from relaxon.solvers.sparse.choice.estimates import Estimates
from relaxon.solvers.sparse.choice.features import MatrixFeatures

SIZES, QUICK = [1_000, 3_000, 10_000, 30_000, 100_000], [1_000, 3_000, 10_000]
LIMIT, UNFITTED_LIMIT = 3.0, 10.0
FACTOR, SLACK = 1.5, 0.05
"""What `auto` may take: so many times the best of its solvers, and so many seconds."""
ITERATIVE, BY_LEVELS, DIRECT = ("amg", "ic-cg", "jacobi-cg"), ("ic-cg", "jacobi-cg"), ("direct", "scipy-direct")
RIDGE = 0.01
FAR, REFITS = 0.3, 30
"""Logarithm of a factor from which a value counts as an outlier, and steps of a fit that lets those count less."""
NORMAL_MEDIAN = 0.6745
"""The median of what is off, of a normal distribution of variance 1."""
NOTHING = 1e-7
"""Seconds: a part of a sum that is never more is left out."""
Row = dict[str, Any]


def measure(args: argparse.Namespace, rows: list[Row], clock: Clock, console: Console) -> list[Row]:
    """Race all solvers on all matrices but those that `rows` has, and keep the runs after each where they are to be."""
    names, sizes = available(), args.sizes or (QUICK if args.quick else SIZES)
    for row in rows if args.again else []:
        row["runs"] |= race(matrix_of(row["family"], row["size"]), tuple(args.again), args.limit, clock)
    if args.runs and args.again:
        args.runs.write_text(json.dumps(rows, indent=1) + "\n")
    had = {(row["family"], row["size"]) for row in rows}
    for family, n in matrices(args.families, sizes):
        if (family, n) in had:
            continue
        rows.append(measured(family, n, names, args.limit, clock, console))
        if args.runs:
            args.runs.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def measured(family: str, n: int, names: tuple[str, ...], limit: float, clock: Clock, console: Console) -> Row:
    """Race solvers on one matrix."""
    a = matrix_of(family, n)
    runs = race(a, names, limit, clock)
    estimates = Estimates.of(MatrixSystem.of(a), costs.load_costs())
    features = {name: getattr(estimates.features, name) for name in MatrixFeatures.__slots__}
    console.print(f"{family} {a.shape[0]}: " + ", ".join(f"{k} {said(one)}" for k, one in runs.items()))
    row = {"family": family, "size": n, "runs": runs, "levels": estimates.levels, "trial": estimates.trial}
    return row | {"features": features}


def said(run: Row) -> str:
    return "-" if run["cut"] else f"{1000 * run['seconds']:.0f}"


def is_apart(row: Row) -> bool:
    """Whether another rule than the fitted one foretells the iterations: a trial, or that a factor is complete."""
    return bool(row.get("trial")) or row["features"]["entries"] <= 3 * row["features"]["unknowns"]


def features_of(row: Row) -> MatrixFeatures:
    return MatrixFeatures(**row["features"])


def fit_sum(terms: NDArray[np.float64], seconds: NDArray[np.float64]) -> tuple[float, ...]:
    """Positive constants of a sum, least absolute errors of logarithms about: a run that was held up counts little."""
    scale = np.maximum(np.abs(terms).max(axis=0), 1e-300)
    scaled = terms / scale
    begin, _ = nnls(scaled / seconds[:, None], np.ones(len(seconds)))
    begin = np.maximum(begin, 1e-3 * seconds.min())

    def errors(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(scaled @ np.exp(logarithms)) - np.log(seconds))

    found = np.exp(least_squares(errors, np.log(begin), loss="soft_l1", f_scale=0.2).x)
    found[found < NOTHING] = 0.0
    return rounded(found / scale)


def fit_product(terms: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, ...]:
    """Exponents of a product whose expectation is the value: logarithms are fitted with a small ridge on all but the
    constant, outliers count by their distance, and half the variance of what is left is added to the constant."""
    scale = np.maximum(terms.std(axis=0), 1e-9)
    scale[0] = 1.0
    scaled, logarithms, weights = terms / scale, np.log(values), np.ones(len(values))
    penalty = RIDGE * len(values) * np.diag([0.0, *[1.0] * (terms.shape[1] - 1)])
    for _ in range(REFITS):
        found = np.linalg.solve(scaled.T @ (weights[:, None] * scaled) + penalty, scaled.T @ (weights * logarithms))
        left = logarithms - scaled @ found
        weights = 1.0 / np.sqrt(1.0 + (left / FAR) ** 2)
    found[0] += 0.5 * (np.median(np.abs(left)) / NORMAL_MEDIAN) ** 2
    return rounded(found / scale)


def rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Four digits of each."""
    return tuple(float(f"{value:.4g}") for value in values)


def fit_iterative(name: str, rows: list[Row]) -> IterativeCost:
    """Constants of an iterative solver, from the runs that converged; iterations from those that were cut as well."""
    done = [row for row in rows if not row["runs"][name]["cut"]]
    runs = [row["runs"][name] for row in done]
    linear = np.array([linear_terms(features_of(row)) for row in done])
    setup = fit_sum(linear, np.array([max(run["setup"], 1e-5) for run in runs]))
    several = [k for k, run in enumerate(runs) if run["iterations"] >= 3]
    each = np.array([(runs[k]["seconds"] - runs[k]["setup"]) / runs[k]["iterations"] for k in several])
    iteration = fit_sum(linear[several], np.maximum(each, 1e-6))
    # What a trial on a piece foretells is not fitted: it would be a bad sign of all that has positive couplings.
    counted = [row for row in rows if row["runs"][name].get("expected", 0) >= 1 and not is_apart(row)]
    levels = [row["levels"] if name in BY_LEVELS else None for row in counted]
    terms = np.array([rate_terms(features_of(row), level) for row, level in zip(counted, levels, strict=True)])
    counts = np.array([min(row["runs"][name]["expected"], 1e4) for row in counted])
    return IterativeCost(setup, iteration, fit_product(terms, counts), name in BY_LEVELS)


def fit_direct(name: str, rows: list[Row]) -> DirectCost:
    """Constants of a factor."""
    sized = [row for row in rows if row["runs"][name].get("flops")]
    flops = np.array([row["runs"][name]["flops"] for row in sized])
    exponents = fit_product(np.array([size_terms(features_of(row), row["levels"]) for row in sized]), flops)
    done = [row for row in sized if not row["runs"][name]["cut"]]
    terms = np.array([[*linear_terms(features_of(row)), row["runs"][name]["flops"]] for row in done])
    return DirectCost(fit_sum(terms, np.array([row["runs"][name]["seconds"] for row in done])), exponents)


def fit(rows: list[Row]) -> CostModel:
    """The constants of all solvers that ran; those that did not keep theirs."""
    machine = {**describe_machine().as_dict(), "threads": get_num_threads(), "load": round(os.getloadavg()[0], 1)}
    ran = set(rows[0]["runs"])
    known = costs.load_costs() if costs.FILE.exists() else CostModel({}, {}, {})
    iterative = known.iterative | {name: fit_iterative(name, rows) for name in ITERATIVE if name in ran}
    direct = known.direct | {name: fit_direct(name, rows) for name in DIRECT if name in ran}
    return CostModel(iterative, direct, machine)


def quality(model: CostModel, rows: list[Row], console: Console) -> None:
    """Print how far off the estimates are: the typical factor, and the worst."""
    for name in (*ITERATIVE, *DIRECT):
        errors = []
        for row in rows:
            run = row["runs"].get(name, {"cut": True})
            if not run["cut"] and not (name in ITERATIVE and row.get("trial")):
                features = features_of(row)
                if name in model.iterative:
                    one = model.iterative[name]
                    guess = one.setup_seconds(features) + one.iteration_seconds(features) * one.iterations(
                        features, row["levels"]
                    )
                else:
                    cost = model.direct[name]
                    guess = cost.seconds(features, cost.operations(features, row["levels"]))
                errors.append(abs(math.log(guess / run["seconds"])))
        if errors:
            console.print(
                f"{name}: estimates off by {math.exp(np.median(errors)):.2f}x in the median, "
                f"{math.exp(np.quantile(errors, 0.9)):.2f}x in nine of ten, {math.exp(max(errors)):.1f}x at worst"
            )


def judge(rows: list[Row], limit: float, clock: Clock, console: Console) -> int:
    """Run `auto` on all systems and print what it loses; how many exceed what it may take."""
    lines: list[list[str]] = []
    failed, ratios = 0, []
    for row in rows:
        good = {name: run["seconds"] for name, run in row["runs"].items() if not run["cut"]}
        if not good:
            continue
        best = min(good, key=lambda name: good[name])
        a = matrix_of(row["family"], row["size"])
        system = MatrixSystem.of(a)
        b = system.project(np.random.default_rng(1).standard_normal(a.shape[0]))
        runs = [solved(a, b, "auto", 4 * limit, clock) for _ in range(3 if a.shape[0] <= 3_000 else 2)]
        run = min(runs, key=lambda one: one["seconds"])
        over = run["seconds"] - FACTOR * good[best] - SLACK
        ratios.append(run["seconds"] / good[best])
        if over > 0 or run["cut"]:
            failed += 1
        cells = [row["family"], str(a.shape[0]), best, f"{1000 * good[best]:.0f}", f"{1000 * run['seconds']:.0f}"]
        verdict = f"{1000 * over:+.0f} ms" if over > 0 else "within"
        lines.append([*cells, verdict, run["message"].removeprefix("auto chose ")[:90]])
    headings = ("matrix", "n", "best", "ms", "auto ms", "regret", "what it did")
    console.print(terminal_table(headings, lines))
    mean = math.exp(np.mean(np.log(ratios)))
    console.print(
        f"auto over the best of its solvers: {mean:.2f}x in the geometric mean of {len(ratios)}, {max(ratios):.1f}x at "
        f"most; {failed} beyond {FACTOR:g}x + {1000 * SLACK:g} ms"
    )
    return failed


def main() -> int:
    wait_asleep()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    families = list(gallery.matrix_names())
    parser.add_argument("--families", nargs="+", choices=families, default=families)
    parser.add_argument("--sizes", nargs="+", type=int)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of one solve")
    parser.add_argument("--quick", action="store_true", help=f"up to {QUICK[-1]} unknowns")
    parser.add_argument("--cpu", action="store_true", help="processor seconds of one thread, on a machine that is busy")
    parser.add_argument("--runs", type=Path, help="where runs are kept, one by one; those there are not run again")
    parser.add_argument("--again", nargs="+", choices=available(), help="solvers whose kept runs are made again")
    parser.add_argument("--unfitted", action="store_true", help="judge larger matrices and elastic bodies as well")
    parser.add_argument("--hold-out", action="store_true", help="judge each family by constants fitted to the others")
    parser.add_argument("--fit-only", action="store_true", help="fit the runs that are kept, and run nothing")
    parser.add_argument("--write", action="store_true", help="write the constants")
    args = parser.parse_args()
    console = Console(width=170)
    clock = time.process_time if args.cpu else time.perf_counter
    set_num_threads(1 if args.cpu else get_num_threads())
    rows = json.loads(args.runs.read_text()) if args.runs and args.runs.exists() else []
    if not args.fit_only:
        warm(available())
        rows = measure(args, rows, clock, console)
    model = fit(rows)
    quality(model, rows, console)
    if args.write:
        costs.FILE.write_text(json.dumps(model.as_dict(), indent=1) + "\n")
    if args.fit_only:
        return 0
    if not args.hold_out:
        use(model)
        failed = judge(rows, args.limit, clock, console)
        if args.unfitted:
            names = tuple(name for name in UNFITTED_SOLVERS if name in available())
            others = [measured(family, n, names, UNFITTED_LIMIT, clock, console) for family, n in UNFITTED]
            failed += judge(others, UNFITTED_LIMIT, clock, console)
        return 1 if failed else 0
    failed = 0
    for family in dict.fromkeys(row["family"] for row in rows):
        use(fit([row for row in rows if row["family"] != family]))
        failed += judge([row for row in rows if row["family"] == family], args.limit, clock, console)
    console.print(f"{failed} of {len(rows)} beyond, each family judged by constants fitted to the others")
    return 1 if failed else 0


def use(model: CostModel) -> None:
    """Have `auto` choose by these constants."""
    choice.load_costs = lambda: model


if __name__ == "__main__":
    sys.exit(main())
