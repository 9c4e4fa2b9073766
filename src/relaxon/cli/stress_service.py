"""`relaxon stress service`: crowds of clients are killed at any moment; the server must neither fail nor leak.

A server with small limits runs in a process of its own, on loopback. Crowds of clients in further processes solve,
step, update, stop, make mistakes and flood, and check each answer. Each crowd is killed by SIGKILL after a while, and
another one begins. The health of the server is checked all the time. At the end all clients are gone, and so must be
everything that the server kept for them. Imported on first use, for their weight: rich, gRPC.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaxon.cli.errors import CommandError, UsageError
from relaxon.cli.json_output import add_json, check_json, text_on_stderr, write_json
from relaxon.cli.machine import describe_machine

if TYPE_CHECKING:
    from relaxon.client import Client

LIMITS = {
    "memory-bytes": 2**28,
    "max-grids": 48,
    "max-pending": 16,
    "lease-seconds": 1.0,
    "idle-seconds": 5.0,
}
CROWDS = 4
"""Processes of clients at the same time."""
SHORTEST_LIFE, LONGEST_LIFE = 2.0, 8.0
"""Bounds of the life of a crowd, in seconds."""
START_SECONDS, SETTLE_SECONDS, HEALTH_SECONDS = 120.0, 60.0, 5.0
"""Most seconds for the server to start, to free what it kept, and to answer a health check."""
GROWTH_BYTES = 150 * 2**20
"""Allowed growth of the server after its warm-up: the allocator's reserves, and kernels compiled late."""
SPARE_THREADS = 8
"""Allowed growth in threads: pools that fill up."""
SHOWN = 20
"""Most violations that are printed; the JSON file has all of them."""


@dataclass
class ServiceStress:
    """The findings of a run."""

    violations: list[str] = field(default_factory=list)
    operations: dict[str, int] = field(default_factory=dict)
    clients: int = 0
    killed: int = 0
    health_checks: int = 0
    health_worst_seconds: float = 0.0
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the attack (default %(default)g)")
    parser.add_argument(
        "--clients", type=int, default=40, help="clients at the same time, in four processes (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the operations and of the kills (default %(default)s)"
    )
    add_json(parser, "the operations and the findings")


def run(args: argparse.Namespace) -> int:
    """0 where there was no violation, 1 where there was one, 2 for a mistake."""
    from rich.console import Console

    if not 1.0 <= args.seconds <= 3600.0:
        raise UsageError(f"--seconds must be from 1 to 3600, got {args.seconds:g}")
    if not CROWDS <= args.clients <= 400:
        raise UsageError(f"--clients must be from {CROWDS} to 400, got {args.clients}")
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if not Path("/proc/self/maps").exists():
        raise CommandError("stress service reads /proc, which this system lacks")
    check_json(args.json)
    outcome = attack_server(args.seconds, args.clients, args.seed)
    asked = {name: getattr(args, name) for name in ("seconds", "clients", "seed")}
    record = {"settings": asked, "machine": describe_machine().as_dict(), **asdict(outcome)}
    write_json(args.json, record)
    with text_on_stderr(args.json):
        return _report(Console(highlight=False, emoji=False), outcome)


def attack_server(seconds: float, clients: int, seed: int) -> ServiceStress:
    """Attack a server for so many seconds, and look for leaks."""
    import relaxon

    outcome, start = ServiceStress(), time.monotonic()
    with _run_server() as (target, process), relaxon.connect(target, timeout=START_SECONDS) as client:
        _warm_up(target, outcome)
        outcome.before = _wait_until_settled(client, process, {})
        stop = threading.Event()
        asking = threading.Thread(target=_check_health, args=(target, stop, outcome))
        asking.start()
        crowds = [
            threading.Thread(
                target=_run_crowds, args=(target, seed * CROWDS + number, clients // CROWDS, seconds, outcome)
            )
            for number in range(CROWDS)
        ]
        for thread in crowds:
            thread.start()
        for thread in crowds:
            thread.join()
        stop.set()
        asking.join()
        if process.poll() is not None:
            outcome.violations.append(f"the server died with status {process.returncode}")
        else:
            outcome.after = _wait_until_settled(client, process, outcome.before)
            outcome.violations += _find_leaks(outcome.before, outcome.after)
    outcome.seconds = time.monotonic() - start
    return outcome


@contextmanager
def _run_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with tempfile.TemporaryDirectory(prefix="relaxon-stress-") as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "relaxon", "serve", "--port", "0", "--grace-seconds", "0"]
        for name, value in LIMITS.items():
            command += [f"--{name}", str(value)]
        with log.open("w") as stream:
            process = subprocess.Popen(command, stderr=stream, text=True, env=_build_environment())
        try:
            deadline = time.monotonic() + START_SECONDS
            while "serves on " not in (said := log.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise CommandError(f"the server did not start: {said}")
                time.sleep(0.05)
            yield said.split("serves on ")[1].split()[0], process
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _build_environment() -> dict[str, str]:
    import relaxon

    source = str(Path(relaxon.__file__).parents[1])
    return {**os.environ, "OMP_WAIT_POLICY": "passive", "COLUMNS": "200", "PYTHONPATH": source}


def _start_crowd(target: str, seed: int, clients: int, *once: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "relaxon.cli.service_crowd", target, str(seed), str(clients), *once]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_build_environment())


def _warm_up(target: str, outcome: ServiceStress) -> None:
    """Perform every operation once, so that kernels are compiled and pools filled."""
    with _start_crowd(target, 0, 2, "once") as process:
        _listen(process, outcome)


def _run_crowds(target: str, seed: int, clients: int, seconds: float, outcome: ServiceStress) -> None:
    """Run one crowd after another, and kill each after a while."""
    chance, deadline = random.Random(seed), time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with _start_crowd(target, chance.randrange(10**6), clients) as process:
            outcome.clients += clients
            life = min(chance.uniform(SHORTEST_LIFE, LONGEST_LIFE), left + SHORTEST_LIFE)
            threading.Timer(life, process.kill).start()
            _listen(process, outcome)
            outcome.killed += clients


def _listen(process: subprocess.Popen[str], outcome: ServiceStress) -> None:
    """Count the operations and collect the violations that a crowd reports until it ends."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            word = json.loads(line)
        except ValueError:  # "ready", or a line that was cut off
            continue
        if "done" in word:
            outcome.operations[word["done"]] = outcome.operations.get(word["done"], 0) + 1
        else:
            outcome.violations.append(word["violation"])


def _check_health(target: str, stop: threading.Event, outcome: ServiceStress) -> None:
    """Check the server's health until `stop` is set: every answer must be in time and be SERVING."""
    import relaxon
    from relaxon.client import RelaxonError

    with relaxon.connect(target, timeout=HEALTH_SECONDS) as client:
        while not stop.wait(0.05):
            start = time.monotonic()
            try:
                if client.health() != "SERVING":
                    outcome.violations.append("health: the server does not report SERVING")
            except RelaxonError as error:
                outcome.violations.append(f"health: {type(error).__name__}: {error}")
            outcome.health_checks += 1
            outcome.health_worst_seconds = max(outcome.health_worst_seconds, time.monotonic() - start)


def _wait_until_settled(client: Client, process: subprocess.Popen[str], before: dict[str, int]) -> dict[str, int]:
    """Return what the server holds once that is no more than before, or once the time for that is over."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        held = _measure_holdings(client, process.pid)
        calm = held["sessions"] == 0 and held["solves"] == 0 and held["shared files"] == 0
        if (calm and not _find_leaks(before, held)) or time.monotonic() > deadline:
            return held
        time.sleep(0.25)


def _measure_holdings(client: Client, server: int) -> dict[str, int]:
    status = client.status()
    folder = Path(f"/proc/{server}")
    with (folder / "maps").open() as lines:
        shared = sum("/memfd:relaxon" in line for line in lines)
    return {
        "sessions": status.sessions.used,
        "solves": status.solves.used,
        "calls": status.calls.used,
        "shared files": shared,
        "threads": len(list((folder / "task").iterdir())),
        "bytes": status.memory.used,
    }


def _find_leaks(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Return a phrase for each thing that is left behind."""
    spare = {"threads": SPARE_THREADS, "bytes": GROWTH_BYTES}
    return [
        f"left behind: {after[name] - figure} {name}"
        for name, figure in before.items()
        if after[name] - figure > spare.get(name, 0)
    ]


def _report(console: Any, outcome: ServiceStress) -> int:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("operations", ", ".join(f"{count} {name}" for name, count in sorted(outcome.operations.items()))),
        ("clients, all of them killed", f"{outcome.killed}"),
        ("health", f"{outcome.health_checks} checks, the longest {1e3 * outcome.health_worst_seconds:.0f} ms"),
        ("the server before the attack", ", ".join(f"{value:,} {name}" for name, value in outcome.before.items())),
        ("and after it", ", ".join(f"{value:,} {name}" for name, value in outcome.after.items())),
        ("seconds", f"{outcome.seconds:.1f}"),
    ):
        table.add_row(name, value)
    console.print(table)
    for violation in outcome.violations[:SHOWN]:
        console.print(f"violation: {violation}", style="red", markup=False)
    if len(outcome.violations) > SHOWN:
        console.print(f"… and {len(outcome.violations) - SHOWN} more (--json FILE has all)")
    console.print(
        f"FAILED: {len(outcome.violations)} violations" if outcome.violations else "no violation",
        style="red" if outcome.violations else "green",
    )
    return 1 if outcome.violations else 0
