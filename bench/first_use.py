"""What a new user waits for: set-up, imports, compiling by kernel, the first solve and the second.

    python bench/first_use.py --quick                        # compiling and solves of this tree, in this environment
    python bench/first_use.py --against ceabc37 --json out.json   # and set-up, of both, from fresh clones
    python bench/first_use.py --parts compile kernels --against ceabc37 --repeats 3 --matrix --engines \
        --solvers dcdm mg-cg ic-cg cg --ndim 2 3 --varying        # what else compiles, each kind in turn

Each commit is cloned into a temporary folder; every measurement is a process of its own that starts with an empty cache
of compiled kernels. With `--against` the two take turns, part by part, so that both see the same machine.

Parts: `set-up` runs the first command under "Set up and run" of the clone's own README and weighs what it installs;
without it this environment's packages are used. `import` is the least of several fresh interpreters. `compile` is the
wall time of `warm_up` and the processor time of all its processes; `kernels` is the same by one process, kernel by
kernel, each with and without those it calls. `solve` is the first solve of a process on an empty cache, the second in
the same process, and the first of the next process, which finds the cache.

What is compiled: each of `--solvers` on grids of each `--ndim`, with `--varying` where κ varies too; `--matrix`: the
first solve with the 13,824 unknowns of a 24³ Laplacian; `--engines`: the first small fit of each training engine whose
kernels are ours. With `--repeats` each figure is the least of several, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from measuring.tables import markdown_table

TREE = Path(__file__).resolve().parents[1]
PARTS = ("set-up", "import", "compile", "kernels", "solve")
QUICK = ("import", "compile", "solve")
MATRIX = "auto matrix"
ENGINES = ("boosting fit", "energy fit", "equilibrium fit")
HEADING = "## Set up and run"
IMPORTS = 3
SHOWN_KERNELS = 25

WORK = """
import json, os, sys, time
kind, side = sys.argv[1], int(sys.argv[2])
solver, what, *rest = kind.split()


def used():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if what == "fit":  # not what is timed
    import importlib
    import numpy as np
    importlib.import_module("relaxon.neuromorphic.boosting")
    importlib.import_module(f"relaxon.neuromorphic.{solver}.kernels")


def fit():
    X = np.random.default_rng(0).standard_normal((60, 2))
    if solver == "boosting":
        from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
        GradientBoostedNetworkRegressor(2, random_state=0).fit(X, X[:, 0]).predict(X)
        GradientBoostedNetworkClassifier(2, random_state=0).fit(X, X[:, 0] > 0).predict(X)
    elif solver == "energy":
        from relaxon.neuromorphic.energy import kernels
        theta, powers, out = np.ones(16), np.array([[1, 0], [0, 1]]), np.empty(60)
        kernels.family_log_density(X, theta[:2], powers, 0.1, out)
        kernels.family_gradient(X, out, powers, np.zeros(2))
        kernels.hidden_log_density(X, theta[:13], 3, 0.1, out)
        kernels.hidden_gradient(X, out, theta[:13], 3, np.zeros(13))
    else:
        from relaxon.neuromorphic.equilibrium import kernels
        sizes, u = np.array([5, 4]), np.full((3, 2, 1, 9), 0.5)
        up, drive = np.full(20, 0.1), np.zeros((3, 9))
        given = (drive, up, up.copy(), sizes, np.ones((3, 4)), np.zeros(3), np.eye(3), np.array([[0.2, 0], [-0.2, 0]]))
        kernels.relax(u, *given, 1e-9, 20, np.empty((3, 2)), np.empty((3, 2), np.int64))


def system():
    import numpy as np
    from relaxon.solvers import gallery
    if what == "matrix":
        grid = gallery.make("box", 24, ndim=3, seed=0).grid
        return grid.operator().to_csr(), np.ones(24**3)
    problem = gallery.make("variable" if rest else "pool", side, ndim=int(what[0]), seed=0)
    return problem.grid, np.asarray(problem.b)


def warm_up():
    from relaxon.solvers import solve
    try:
        from relaxon.solvers.driver import warm_up as compiling
    except ImportError:  # commits before the rooms
        from relaxon.solvers import compiling
    if what == "fit":
        fit()
    elif what == "matrix":  # every commit compiles it with its first solve
        solve(*system())
    else:
        compiling.warm_up(solver, compiling.usual_grid(int(what[0]), bool(rest)))
"""
COMPILE = """
import relaxon.solvers
start, before = time.perf_counter(), used()
warm_up()
print(json.dumps({"wall": time.perf_counter() - start, "cpu": used() - before}), flush=True)
"""
KERNELS = """
from numba.core import event

rows, stack = {}, []


class Listener(event.Listener):
    def on_start(self, found):
        function = found.data["dispatcher"].py_func
        stack.append([f"{function.__module__.removeprefix('relaxon.')}.{function.__qualname__}",
                      time.perf_counter(), time.process_time(), 0.0, 0.0])

    def on_end(self, found):
        name, wall, cpu, inner_wall, inner_cpu = stack.pop()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        row = rows.setdefault(name, {"kernel": name, "count": 0, "wall": 0.0, "cpu": 0.0,
                                     "self_wall": 0.0, "self_cpu": 0.0})
        row["count"] += 1
        row["wall"] += wall
        row["cpu"] += cpu
        row["self_wall"] += wall - inner_wall
        row["self_cpu"] += cpu - inner_cpu
        if stack:
            stack[-1][3] += wall
            stack[-1][4] += cpu


event.register("numba:compile", Listener())
start, before = time.perf_counter(), used()
warm_up()
rows = sorted(rows.values(), key=lambda row: -row["self_cpu"])
print(json.dumps({"wall": time.perf_counter() - start, "cpu": used() - before, "kernels": rows}), flush=True)
"""
SOLVE = """
import relaxon.solvers
operator, b = system()
from relaxon.solvers import solve
times = []
for _ in range(2):
    start = time.perf_counter()
    solution = solve(operator, b, solver=solver)
    times.append(time.perf_counter() - start)
print(json.dumps({"first": times[0], "second": times[1], "result": solution.result.name,
                  "iterations": solution.iterations}), flush=True)
"""


class Commit:
    """A clone of the project at a commit, and the environment that runs it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.tree = folder / "tree"
        self.python = Path(sys.executable)
        self._caches = folder
        _run(["git", "clone", "--quiet", "--no-hardlinks", str(TREE), str(self.tree)])
        _run(
            ["git", "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", _commit(name)], cwd=self.tree
        )

    def set_up(self) -> dict[str, float]:
        """Run the README's own command; the seconds it takes, and the bytes of the environment it makes."""
        readme = (self.tree / "README.md").read_text("utf-8")
        command = re.search(rf"^{re.escape(HEADING)}$.*?^```sh\n(.*?)\n", readme, re.M | re.S)
        if command is None:
            raise SystemExit(f"README.md of {self.name} has no command under {HEADING!r}")
        start = time.perf_counter()
        # What pip says is no part of this program's output.
        _run(["bash", "-euo", "pipefail", "-c", command.group(1)], cwd=self.tree, stdout=sys.stderr)
        seconds = time.perf_counter() - start
        self.python = self.tree / ".venv" / "bin" / "python"
        size = sum(file.stat().st_size for file in (self.tree / ".venv").rglob("*") if file.is_file())
        return {"seconds": seconds, "bytes": size}

    def import_seconds(self) -> dict[str, float]:
        """Seconds of imports beyond an empty interpreter's, the least of several."""
        statements = ("pass", "import relaxon", "import relaxon.solvers", "from relaxon.solvers import solve")
        least = dict.fromkeys(statements, float("inf"))
        for _ in range(IMPORTS):
            for statement in statements:
                start = time.perf_counter()
                _run([str(self.python), "-c", statement], env=self._environment(self._caches))
                least[statement] = min(least[statement], time.perf_counter() - start)
        return {statement: seconds - least["pass"] for statement, seconds in least.items() if statement != "pass"}

    def measure(self, part: str, kind: str, side: int) -> dict[str, Any]:
        """One of the parts that compile."""
        with tempfile.TemporaryDirectory(dir=self._caches) as cache:
            environment = self._environment(Path(cache))
            if part == "compile":
                return self._told(COMPILE, kind, side, environment)
            if part == "kernels":
                return self._told(KERNELS, kind, side, {**environment, "NUMBA_NUM_THREADS": "1"})
            first = self._told(SOLVE, kind, side, environment)
            again = self._told(SOLVE, kind, side, environment)
            return {**first, "next_process": again["first"]}

    def _told(self, program: str, kind: str, side: int, environment: dict[str, str]) -> dict[str, Any]:
        command = [str(self.python), "-c", WORK + program, kind, str(side)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        if not done.stdout:
            raise SystemExit(f"{self.name}: {kind} failed with exit status {done.returncode}")
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def _environment(self, cache: Path) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.tree / "src"), "NUMBA_CACHE_DIR": str(cache)}


def all_kinds(
    solvers: Iterable[str], dimensions: Sequence[int], varying: bool, matrix: bool, engines: bool
) -> list[str]:
    """What is compiled: names as `WORK` takes them."""
    forms = ["", " varying"] if varying else [""]
    found = [f"{solver} {ndim}D{form}" for solver in solvers for ndim in dimensions for form in forms]
    return found + [MATRIX] * matrix + list(ENGINES) * engines


def measure_all(
    commits: Sequence[Commit], parts: Sequence[str], kinds: Sequence[str], side: int, repeats: int = 1
) -> dict[str, Any]:
    """All parts of all commits, which take turns."""
    record: dict[str, Any] = {commit.name: {} for commit in commits}
    if "set-up" in parts:
        for commit in commits:
            record[commit.name]["set-up"] = commit.set_up()
    if "import" in parts:
        for commit in commits:
            record[commit.name]["import"] = commit.import_seconds()
    for part in ("compile", "kernels", "solve"):
        for kind in kinds if part in parts else ():
            if part == "solve" and kind in ENGINES:
                continue
            for commit in [commit for _ in range(repeats) for commit in commits]:
                row = commit.measure(part, kind, side)
                times = (f"{name} {row[name]:.1f} s" for name in ("wall", "cpu", "first") if name in row)
                print(f"{commit.name}: {part}, {kind},", *times, file=sys.stderr)
                rows = record[commit.name].setdefault(part, {})
                rows[kind] = least(rows[kind], row) if kind in rows else row
    return record


def least(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The smaller of each time; the rest is that of the run that took less."""
    measure = "cpu" if "cpu" in one else "first"
    best = one if one[measure] <= other[measure] else other
    return {name: min(one[name], other[name]) if isinstance(value, float) else value for name, value in best.items()}


def figures(measured: dict[str, Any]) -> dict[str, float]:
    """The numbers of a commit that are compared, by what they are."""
    found = {f"set-up, {name}": value for name, value in measured.get("set-up", {}).items()}
    found |= {f"{statement}, s": value for statement, value in measured.get("import", {}).items()}
    for kind, row in measured.get("compile", {}).items():
        found[f"compile {kind}, wall s"] = row["wall"]
        found[f"compile {kind}, CPU s"] = row["cpu"]
    for kind, row in measured.get("kernels", {}).items():
        found[f"compile {kind} in one process, CPU s"] = row["cpu"]
        found[f"compile {kind}, kernels"] = sum(one["count"] for one in row["kernels"])
    for kind, row in measured.get("solve", {}).items():
        found[f"first solve {kind}, s"] = row["first"]
        found[f"second solve {kind}, s"] = row["second"]
        found[f"first solve of the next process {kind}, s"] = row["next_process"]
    return found


def show(record: dict[str, Any], out: Any = sys.stdout) -> None:
    """Print the figures, the ratio of the first commit's to the second's, and the first one's kernels."""
    names = list(record)
    columns = [figures(record[name]) for name in names]
    lines = []
    for row, value in columns[0].items():
        cells = [f"{column[row]:,.3g}" if column[row] < 1e6 else f"{column[row]:,.0f}" for column in columns]
        if len(columns) > 1:
            cells.append(f"{value / columns[1][row]:.3f}" if columns[1][row] else "")
        lines.append([row, *cells])
    headings = ["", *names, *(["ratio"] if len(names) > 1 else [])]
    print(markdown_table(headings, lines, right=True), end="", file=out)
    for kind, row in record[names[0]].get("kernels", {}).items():
        print(f"\n{kind}, one process, seconds of processor time (wall):\n", file=out)
        lines = []
        for one in row["kernels"][:SHOWN_KERNELS]:
            own, whole = (f"{one[f'{part}cpu']:.2f} ({one[f'{part}wall']:.2f})" for part in ("self_", ""))
            lines.append([f"`{one['kernel']}`", one["count"], own, whole])
        print(markdown_table(("kernel", "count", "self", "with what it calls"), lines, right=True), end="", file=out)


def _commit(name: str) -> str:
    return _run(["git", "rev-parse", "--verify", f"{name}^{{commit}}"], cwd=TREE, stdout=subprocess.PIPE).strip()


def _run(command: Sequence[str], **options: Any) -> str:
    return str(subprocess.run(command, check=True, text=True, **options).stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="measure another commit in the same run, and print ratios")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help=f"the parts {', '.join(QUICK)}, in this environment")
    parser.add_argument("--solvers", nargs="*", default=["dcdm"], metavar="NAME", help="default: %(default)s")
    parser.add_argument("--ndim", nargs="+", type=int, choices=(2, 3), default=[3], help="of the solvers' grids")
    parser.add_argument("--varying", action="store_true", help="grids where κ varies as well")
    parser.add_argument("--matrix", action="store_true", help="a sparse matrix as well")
    parser.add_argument("--engines", action="store_true", help="the training engines' kernels as well")
    parser.add_argument("--repeats", type=int, default=1, help="of which the least counts (default %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="cells a side of the solves (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there; to the output where -")
    args = parser.parse_args(argv)
    names: Iterable[str] = ["HEAD", *([args.against] if args.against else [])]
    with tempfile.TemporaryDirectory(prefix="relaxon-first-use-") as folder:
        commits = []
        for number, name in enumerate(names):
            place = Path(folder, str(number))
            place.mkdir()
            commits.append(Commit(name, place))
        kinds = all_kinds(args.solvers, args.ndim, args.varying, args.matrix, args.engines)
        record = measure_all(commits, QUICK if args.quick else args.parts, kinds, args.size, args.repeats)
    to_output = args.json is not None and str(args.json) == "-"
    show(record, sys.stderr if to_output else sys.stdout)
    if args.json is not None:
        text = json.dumps(record, indent=1)
        print(text) if to_output else args.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
