"""What the service costs and withstands: the wire, steps, health under load, small solves of many clients, memory.

    python bench/service.py [--quick] [--only transfer steps health small] [--json FILE]

    transfer  round trip of a 128³ float64 right-hand side and its solution, against the solve in process: handed over
              through shared memory, and sent over TCP loopback (as bench/transport.py, which has more ways to ask)
    steps     100 time steps in one `solve_steps` call, against the same warm-started solves in process: right-hand
              sides written to shared memory (`grid.empty`), copied there, and sent over TCP loopback
    health    how long health checks take while nothing, a 256³ solve, and a training job run
    small     32² solves of 32 clients at a time; then what the server's memory does over 10,000 of them

Each compares within one run, in turns, the steps with those in process before and after; ratios are medians over
rounds. The server is `relaxon serve` in another process. The JSON has the machine, every figure, and for each figure
that has to reach something whether it did. `--quick` takes some six minutes on two cores: fewer rounds and checks.
Exit status 1 where a figure does not reach what it has to.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from transport import Times, measured

import relaxon
from relaxon.cli.machine import describe_machine
from relaxon.client import BoostingSettings, Client
from relaxon.server.config.threads import wait_asleep
from relaxon.solvers import gallery, prepare

SOLVER = "dcdm"
RTOL = 1e-6
CLIENTS, CLIENT_PROCESSES = 32, 4
SMALL = 32
"""Cells along a side of the small solves' grid."""
HEALTH_PAUSE = 0.01


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    step_side: int
    step_rounds: int
    checks: int
    small_seconds: float
    small_count: int


QUICK = Size(rounds=11, step_side=128, step_rounds=4, checks=1000, small_seconds=10.0, small_count=10_000)
FULL = Size(rounds=15, step_side=128, step_rounds=9, checks=4000, small_seconds=30.0, small_count=30_000)


@dataclass
class Bench:
    """What has been measured."""

    figures: dict[str, Any] = field(default_factory=dict)
    demands: list[dict[str, Any]] = field(default_factory=list)

    def demand(self, what: str, figure: float, limit: float, *, least: bool = False) -> None:
        """Note a figure that has to be at most, or at least, the limit."""
        met = figure >= limit if least else figure <= limit
        self.demands.append({"what": what, "figure": figure, "limit": limit, "least": least, "met": bool(met)})
        print(f"  {'reached' if met else 'MISSED'}: {what}: {figure:.4g} ({'≥' if least else '≤'} {limit:g})")


@contextmanager
def server(*options: str) -> Iterator[tuple[str, psutil.Process]]:
    """`relaxon serve` in a process of its own: its address, and the process."""
    command = [sys.executable, "-m", "relaxon", "serve", "--port", "0", "--grace-seconds", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said += line
                if "relaxon serves on" in line:
                    break
            else:
                raise RuntimeError(f"the server did not start: {said}")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield line.split("serves on")[1].split()[0], psutil.Process(process.pid)
        finally:
            process.terminate()


def transfer(bench: Bench, size: Size) -> None:
    """A solve's way to and fro."""
    problem = gallery.make("pool", 128)
    grid = problem.grid
    local = prepare(grid, solver=SOLVER)
    here, there = Times([], []), {}
    with server() as (target, _), ExitStack() as stack:
        remotes = {}
        for way, shared in (("shared", True), ("sent", False)):
            client = stack.enter_context(relaxon.connect(target, shared_memory=shared))
            made = client.poisson.grid(grid.cells, grid.spacing, grid.boundary, grid.coefficient)
            remotes[way], there[way] = stack.enter_context(made), Times([], [])
        same = True
        for round_ in range(size.rounds + 1):
            if round_ == 1:  # the first one compiled, set up and touched its memory
                here, there = Times([], []), {way: Times([], []) for way in remotes}
            ours = measured(local, problem.b, here, rtol=RTOL)
            for way, remote in remotes.items():
                same &= bool(np.array_equal(ours, measured(remote, problem.b, there[way], solver=SOLVER, rtol=RTOL)))
    found: dict[str, Any] = {"solver": SOLVER, "in_process_seconds": statistics.median(here.wall), "same_bits": same}
    for way, times in there.items():
        found[way] = {
            "seconds": statistics.median(times.wall),
            "ratio": statistics.median(t / h for t, h in zip(times.wall, here.wall, strict=True)),
            "outside_engine_seconds": statistics.median(w - e for w, e in zip(times.wall, times.engine, strict=True)),
        }
    bench.figures["transfer"] = found
    print(f"  in process {found['in_process_seconds']:.3f} s; same bits: {same}")
    bench.demand("128³ over shared memory, of the solve in process", found["shared"]["ratio"], 1.15)
    bench.demand("128³ over TCP loopback, of the solve in process", found["sent"]["ratio"], 1.5)


def steps(bench: Bench, size: Size) -> None:
    """A time loop: the sources of a pool drift, each step starts from the last solution."""
    count, problem = 100, gallery.make("pool", size.step_side)
    grid, local = problem.grid, prepare(problem.grid, solver=SOLVER)
    own = np.empty_like(problem.b)

    def sides(memory: Callable[[], np.ndarray]) -> Iterator[np.ndarray]:
        for step in range(count):
            yield np.multiply(problem.b, 1.0 + 0.2 * np.sin(0.3 * step), out=memory())

    def in_process() -> list[bytes]:
        found, start = [], None
        for b in sides(lambda: own):
            start = local.solve(b, rtol=RTOL, x0=start).x
            found.append(_digest(start))
        return found

    with server() as (target, _), ExitStack() as stack:
        ways: dict[str, Callable[[], list[bytes]]] = {}
        grids = {}
        for shared in (True, False):
            client = stack.enter_context(relaxon.connect(target, shared_memory=shared))
            made = client.poisson.grid(grid.cells, grid.spacing, grid.boundary, grid.coefficient)
            grids[shared] = stack.enter_context(made)
            made.solve(problem.b, solver=SOLVER, rtol=RTOL)
        for way, shared, given in (("shared", True, True), ("copied", True, False), ("sent", False, False)):
            made = grids[shared]
            memory = made.empty if given else lambda: own
            ways[way] = lambda made=made, memory=memory: [
                _digest(one.x) for one in made.solve_steps(sides(memory), solver=SOLVER, rtol=RTOL)
            ]
        ours = in_process()
        seconds: dict[str, list[float]] = {way: [] for way in ("in process", *ways)}
        ratios: dict[str, list[float]] = {way: [] for way in ways}
        same = True

        def timed(way: str, work: Callable[[], list[bytes]]) -> float:
            nonlocal same
            start = time.perf_counter()
            answer = work()
            seconds[way].append(time.perf_counter() - start)
            same &= answer == ours
            return seconds[way][-1]

        before = timed("in process", in_process)
        for _ in range(size.step_rounds):
            for way, work in ways.items():
                there, after = timed(way, work), timed("in process", in_process)
                # A machine's speed drifts by as much as is looked for.
                ratios[way].append(2.0 * there / (before + after))
                before = after
    found: dict[str, Any] = {"steps": count, "side": size.step_side, "solver": SOLVER, "same_bits": same}
    found["seconds"] = {way: statistics.median(each) for way, each in seconds.items()}
    print(f"  {count} steps on {size.step_side}³ in process {found['seconds']['in process']:.2f} s; same bits: {same}")
    for way in ways:
        found[way] = {"ratio": statistics.median(ratios[way]), "ratios": ratios[way]}
    bench.demand(f"{count} steps over shared memory: lost to the wire", found["shared"]["ratio"] - 1.0, 0.05)
    for way, words in (("copied", "shared memory, b copied to it"), ("sent", "TCP loopback")):
        print(f"  {count} steps over {words}: {found[way]['ratio'] - 1.0:.3f} lost to the wire")
    bench.figures["steps"] = found


def _digest(x: np.ndarray) -> bytes:
    """Of some of it: a time loop looks at its solution, and does not keep them all."""
    return x.reshape(-1)[::1009].tobytes()


def health(bench: Bench, size: Size) -> None:
    """Health checks every 10 ms while something runs; the client of the solve does nothing meanwhile."""
    found: dict[str, Any] = {}
    with server("--training-workers", "1") as (target, process), ExitStack() as stack:
        asking, busy = (stack.enter_context(relaxon.connect(target)) for _ in range(2))
        found["nothing"] = _health_while(asking, size.checks // 4, lambda: True)
        problem = gallery.make("pool", 256)
        grid = problem.grid
        kept = stack.enter_context(busy.poisson.grid(grid.cells, grid.spacing, grid.boundary, grid.coefficient))
        kept.solve(problem.b, solver=SOLVER, rtol=RTOL, max_iterations=1)
        running = threading.Event()
        running.set()

        def solve() -> None:
            while running.is_set():
                kept.solve(problem.b, solver=SOLVER, rtol=1e-9)

        thread = threading.Thread(target=solve)
        thread.start()
        found["256³ solve"] = _health_while(asking, size.checks, thread.is_alive)
        running.clear()
        thread.join()
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20_000, 20))
        job = busy.boosting.train(x, x[:, 0] * x[:, 1], settings=BoostingSettings(n_units=10_000))
        next(iter(job.progress()))
        found["training"] = _health_while(asking, size.checks, lambda: job.state.name == "RUNNING", every=100)
        job.cancel()
        found["server_bytes"] = process.memory_info().rss
    bench.figures["health"] = found
    for what in ("256³ solve", "training"):
        bench.demand(f"health p99 during {what}, in ms", 1000 * found[what]["p99"], 50.0)


def _health_while(client: Client, checks: int, busy: Callable[[], bool], every: int = 1) -> dict[str, float]:
    seconds = []
    for number in range(checks):
        if number % every == 0 and not busy():
            raise RuntimeError("what was to run beside the health checks has ended")
        start = time.perf_counter()
        if client.health() != "SERVING":
            raise RuntimeError("the server does not serve")
        seconds.append(time.perf_counter() - start)
        time.sleep(HEALTH_PAUSE)
    return {"p50": float(np.quantile(seconds, 0.5)), "p99": float(np.quantile(seconds, 0.99)), "max": max(seconds)}


CROWD = """
import sys, threading, time
import numpy as np
import relaxon
from relaxon.client import Retries
target, clients, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
links = [relaxon.connect(target, retries=Retries(attempts=8)) for _ in range(clients)]
grids = [one.poisson.grid(np.zeros((side, side), np.uint8), boundary="dirichlet") for one in links]
done, wrong = [0] * clients, [0]
b = np.random.default_rng(0).standard_normal((side, side))
for grid in grids:
    grid.solve(b, solver="dcdm")
print("ready", flush=True)
sys.stdin.readline()
running = True
def work(number):
    while running:
        wrong[0] += not grids[number].solve(b, solver="dcdm").converged
        done[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
for thread in threads:
    thread.start()
for line in sys.stdin:
    if line.startswith("stop"):
        break
    print(sum(done), flush=True)
running = False
for thread in threads:
    thread.join()
print(sum(done), wrong[0], flush=True)
"""


class Crowd:
    """Clients in processes of their own, who solve as fast as they can."""

    def __init__(self, target: str) -> None:
        command = [sys.executable, "-c", CROWD, target, str(CLIENTS // CLIENT_PROCESSES), str(SMALL)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._processes = [subprocess.Popen(command, **pipes) for _ in range(CLIENT_PROCESSES)]
        for process in self._processes:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the clients did not start")

    def _told(self, word: str) -> list[list[int]]:
        for process in self._processes:
            process.stdin.write(word + "\n")
            process.stdin.flush()
        return [[int(one) for one in process.stdout.readline().split()] for process in self._processes]

    def start(self) -> None:
        for process in self._processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def done(self) -> int:
        return sum(one[0] for one in self._told("done"))

    def stop(self) -> tuple[int, int]:
        """Solves in all, and those that did not converge."""
        totals = self._told("stop")
        for process in self._processes:
            process.wait()
        return sum(one[0] for one in totals), sum(one[1] for one in totals)


def small(bench: Bench, size: Size) -> None:
    """Many clients with small solves; how fast, and whether the server grows."""
    with server() as (target, process):
        crowd = Crowd(target)
        crowd.start()
        time.sleep(2.0)
        first, start = crowd.done(), time.monotonic()
        time.sleep(size.small_seconds)
        in_ten = 10.0 * (crowd.done() - first) / (time.monotonic() - start)
        before, base = crowd.done(), process.memory_info().rss
        memory = [(0, base)]
        while memory[-1][0] < size.small_count:
            time.sleep(0.5)
            memory.append((crowd.done() - before, process.memory_info().rss))
        total, wrong = crowd.stop()
    grown = memory[-1][1] - base
    bench.figures["small"] = {
        "side": SMALL,
        "clients": CLIENTS,
        "solves_per_10_s": in_ten,
        "solves": total,
        "not_converged": wrong,
        "grown_bytes": grown,
        "over": memory[-1][0],
        "memory": memory[:: max(1, len(memory) // 40)],
    }
    bench.demand(f"{SMALL}² solves of {CLIENTS} clients in 10 s", in_ten, 1000.0, least=True)
    bench.demand(f"bytes grown over {memory[-1][0]:,} solves, MiB", grown / 2**20, 8.0)
    bench.demand("solves that did not converge", wrong, 0)


PARTS = {"transfer": transfer, "steps": steps, "health": health, "small": small}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="some six minutes")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there; to the output where -")
    args = parser.parse_args()
    wait_asleep()
    bench, size = Bench(), QUICK if args.quick else FULL
    start = time.monotonic()
    for name in args.only:
        print(f"{name}: {(PARTS[name].__doc__ or '').strip()}")
        PARTS[name](bench, size)
    record = {
        "machine": asdict(describe_machine()),
        "quick": args.quick,
        "seconds": time.monotonic() - start,
        "demands": bench.demands,
        **bench.figures,
    }
    if args.json is not None:
        text = json.dumps(record, indent=1)
        print(text) if str(args.json) == "-" else args.json.write_text(text + "\n", encoding="utf-8")
    return 0 if all(one["met"] for one in bench.demands) else 1


if __name__ == "__main__":
    raise SystemExit(main())
