"""What learning buys on sparse matrices: `dcdm` against `amg`, which is the same without learning.

    python bench/sparse_learning.py --quick                 # 10,000 unknowns, gallery alone
    python bench/sparse_learning.py --unknowns 100000 --json sparse_learning.json
    python bench/sparse_learning.py --weights runs/sparse-constants/constants.safetensors
    python bench/sparse_learning.py --fit                   # the weights of the cost, from processor seconds

Every system is solved from zero to 1e-6 by both, and by what is best for all of them without looking at the matrix: the
one candidate of the network with the least mean cost over the systems that the training was like. The cost is what
set-up and iterations touch, in whole iterations (`relaxon.solvers.sparse.learned.cost`); processor seconds of set-up
and solve, without the checks of the matrix, the least of the repeats, stand beside it. Systems are of three kinds: like
the training's, with other seeds; the gallery's families that the training has something like; and families that it has
nothing of.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring.tables import describe_run, terminal_table, write_record
from rich.console import Console

from relaxon.solvers import AlgebraicMultigrid, DeepConjugateDirectionMultigrid, gallery
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.amg.constants import DEFAULTS
from relaxon.solvers.sparse.learned import cost
from relaxon.solvers.sparse.learned.features import matrix_features
from relaxon.solvers.sparse.learned.network import ConstantsNetwork, load_shipped
from relaxon.solvers.sparse.learned.problems import PROBLEMS, random_matrix
from relaxon.solvers.sparse.prepared.prepared_matrix import prepare_system

UNKNOWNS, QUICK, REPEATS, RTOL, SEED = 100_000, 10_000, 3, 1e-6, 20_261_130
DRAWN = 26
"""Systems drawn as the training's with another seed, of half the unknowns."""
LIKE = (
    "laplacian-2d", "laplacian-3d", "neumann-2d", "stencil-27", "lognormal-3d", "layers-3d", "checkerboard-2d",
    "stretched-3d", "rotated-2d", "bilinear-2d", "heat-step-3d", "triangles-2d", "tetrahedra-3d", "elasticity-2d",
    "random-weights", "parts",
)  # fmt: skip
"""Families that the training has something like, of which only one's parameters are met here."""
UNLIKE = (
    "random-jumps-3d", "plate-2d", "tetrahedra-contrast-3d", "elasticity-3d", "neighbours-3d", "heavy-tailed",
)  # fmt: skip
"""Families that the training has nothing of in so many dimensions, or nothing of at all."""
MOST_ITERATIONS = 400
FAILED = 1.5


def solved(solver: Any, system: MatrixSystem, b: Any, repeats: int) -> dict[str, Any]:
    """Cost, iterations and processor seconds of a solver on a system."""
    seconds = math.inf
    for _ in range(repeats):
        start = time.thread_time()
        prepared = prepare_system(system, solver)
        solution = prepared.solve(b, rtol=RTOL, max_iterations=MOST_ITERATIONS)
        seconds = min(seconds, time.thread_time() - start)
    engine = (prepared if prepared.reduced is None else prepared.reduced).engine
    each = cost.iteration_cost(engine, solution.iterations)
    spent = cost.setup_cost(engine) + solution.iterations * each
    return {
        "cost": spent * (1.0 if solution.converged else FAILED),
        "setup": cost.setup_cost(engine),
        "iterations": solution.iterations,
        "seconds": seconds,
        "converged": solution.converged,
        "message": solution.message,
    }


def systems(n: int, quick: bool) -> Any:
    """The systems of the bench: kind, name, matrix."""
    for kind, names in (("like", LIKE), ("unlike", UNLIKE)):
        for name in names:
            yield kind, name, gallery.matrix(name, n, seed=7)
    for index in range(0 if quick else DRAWN):
        rng = np.random.default_rng([SEED, index])
        family = list(PROBLEMS)[index % len(PROBLEMS)]
        yield "drawn", family, random_matrix(family, n // 2, rng)


def compare(kind: str, name: str, a: Any, network: ConstantsNetwork, weights: Path | None, repeats: int) -> Any:
    """One row: what both and each candidate cost on a matrix."""
    system = MatrixSystem.of(a)
    b = system.project(np.random.default_rng(1).standard_normal(a.shape[0]))
    row: dict[str, Any] = {"kind": kind, "name": name, "unknowns": a.shape[0], "entries": a.nnz}
    row["amg"] = solved(AlgebraicMultigrid(), system, b, repeats)
    row["dcdm"] = solved(DeepConjugateDirectionMultigrid(weights), system, b, repeats)
    start = time.thread_time()
    row["chosen"] = network.choose(matrix_features(system, DEFAULTS.dense))
    row["choosing"] = time.thread_time() - start
    row["candidates"] = [solved(AlgebraicMultigrid(one), system, b, 1)["cost"] for one in network.candidates]
    return row


def mean(values: list[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(math.log(value) for value in values)) if values else math.nan


def summary(rows: list[dict[str, Any]], kind: str, one: int) -> dict[str, Any]:
    """Gains over the rows of a kind (all where it is "all"), in the geometric mean and at worst."""
    rows = [row for row in rows if kind in ("all", row["kind"])]
    gains = {row["name"]: row["amg"]["cost"] / row["dcdm"]["cost"] for row in rows}
    worst = min(gains, key=lambda name: gains[name]) if gains else ""
    return {
        "kind": kind,
        "systems": len(rows),
        "gain": mean([row["amg"]["cost"] / row["dcdm"]["cost"] for row in rows]),
        "seconds": mean([row["amg"]["seconds"] / row["dcdm"]["seconds"] for row in rows]),
        "one_for_all": mean([row["amg"]["cost"] / row["candidates"][one] for row in rows]),
        "best": mean([row["amg"]["cost"] / min(row["candidates"]) for row in rows]),
        "worst": gains.get(worst, math.nan),
        "worst_name": worst,
    }


def best_for_all(network: ConstantsNetwork, rows: list[dict[str, Any]]) -> int:
    """The candidate with the least mean cost, in logarithms, over the systems drawn as the training's."""
    drawn = [row for row in rows if row["kind"] == "drawn"] or rows
    means = [
        statistics.fmean(math.log(row["candidates"][number] / row["amg"]["cost"]) for row in drawn)
        for number in range(len(network.candidates))
    ]
    return min(range(len(means)), key=lambda number: means[number])


def fit_costs(console: Console) -> int:
    """Fit the weights of the cost to processor seconds, and show how far they are from them."""
    from scipy.optimize import nnls

    setups, runs = [], []
    with num_threads(1):
        for n in (5_000, 20_000, 80_000):
            for name in ("lognormal-3d", "rotated-2d", "laplacian-2d", "stencil-27", "heavy-tailed", "layers-3d"):
                system = MatrixSystem.of(gallery.matrix(name, n))
                b = system.project(np.random.default_rng(1).standard_normal(system.unknowns))
                for matchings in (1, 2, 3):
                    constants = replace(DEFAULTS, matchings=matchings)
                    times = []
                    for _ in range(REPEATS):
                        first = time.thread_time()
                        engine: Any = AlgebraicMultigrid(constants).prepare_matrix(system)
                        middle = time.thread_time()
                        prepared = prepare_system(system, AlgebraicMultigrid(constants))
                        after = time.thread_time()
                        solution = prepared.solve(b, max_iterations=40)
                        times.append((middle - first, time.thread_time() - after))
                    engine = prepared.engine
                    entries = [level.entries for level in engine.hierarchy.levels]
                    rows = sum(level.rows for level in engine.hierarchy.levels)
                    setups.append((min(t[0] for t in times), sum(entries), matchings * sum(entries[:-1]), rows))
                    outer = cost.OUTER_ENTRY * system.matrix.nnz + cost.OUTER_ROW * system.unknowns
                    touched = cost.iteration_cost(engine, solution.iterations) * system.matrix.nnz - outer
                    its = solution.iterations
                    figures = (its * touched, its * system.matrix.nnz, its * system.unknowns)
                    runs.append((min(t[1] for t in times), *figures))
    for title, found, names in (
        ("set-up", setups, ("entry of a level", "the same a matching", "row")),
        ("solve", runs, ("entry in a sweep", "entry of the matrix an iteration", "row an iteration")),
    ):
        table = np.array(found)
        seconds, counts = table[:, 0], table[:, 1:]
        weights, _ = nnls(counts / seconds[:, None], np.ones(len(seconds)))
        error = np.abs(counts @ weights / seconds - 1)
        shown = ", ".join(f"{name} {1e9 * weight:.2f}" for name, weight in zip(names, weights, strict=True))
        console.print(f"{title}, nanoseconds: {shown}; off by {np.median(error):.0%} in the median")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unknowns", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} unknowns, one repeat, none drawn")
    parser.add_argument("--weights", type=Path, help="another network than the shipped one")
    parser.add_argument("--fit", action="store_true", help="fit the weights of the cost, and do nothing else")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=140)
    if args.fit:
        return fit_costs(console)
    n, repeats = args.unknowns or (QUICK if args.quick else UNKNOWNS), args.repeats or (1 if args.quick else REPEATS)
    network = load_shipped() if args.weights is None else ConstantsNetwork.load(args.weights)
    rows = []
    lines: list[list[Any]] = []
    with num_threads(1):
        compare("", "", gallery.matrix("laplacian-2d", 5_000), network, args.weights, 1)  # to compile
        for kind, name, a in systems(n, args.quick):
            row = compare(kind, name, a, network, args.weights, repeats)
            rows.append(row)
            cells = [
                f"{row[who]['cost']:.0f} ({row[who]['iterations']}{'' if row[who]['converged'] else ', not converged'})"
                for who in ("amg", "dcdm")
            ]
            ratios = [
                row["amg"]["cost"] / row["dcdm"]["cost"],
                row["amg"]["seconds"] / row["dcdm"]["seconds"],
                row["amg"]["cost"] / min(row["candidates"]),
            ]
            lines.append([kind, name, row["unknowns"], *cells, *(f"{ratio:.2f}" for ratio in ratios)])
    headings = ("kind", "family", "n", "amg cost (its)", "dcdm cost (its)", "gain", "in seconds", "the best would be")
    console.print(terminal_table(headings, lines))
    one = best_for_all(network, rows)
    summaries = [summary(rows, kind, one) for kind in ("like", "unlike", "drawn", "all")]
    for found in summaries:
        if found["systems"]:
            console.print(
                f"{found['kind']}: {found['systems']} systems, learned against unlearned {found['gain']:.3f} in cost, "
                f"{found['seconds']:.3f} in processor seconds, at worst {found['worst']:.2f} ({found['worst_name']}); "
                f"one candidate for all {found['one_for_all']:.3f}, the best of them for each {found['best']:.3f}"
            )
    choosing = [row["choosing"] / row["dcdm"]["seconds"] for row in rows]
    console.print(f"choosing takes {statistics.median(choosing):.1%} of set-up and solve in the median")
    if args.json:
        write_record(args.json, describe_run(summaries=summaries, rows=rows))
    return 0 if all(row["dcdm"]["converged"] or not row["amg"]["converged"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
