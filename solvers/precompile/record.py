"""The command that writes the table of kernels, `kernels.json`, from the kernels that solves of each kind run.

    python -m relaxon.solvers.precompile.record            # writes it; minutes, as every kernel is compiled
    python -m relaxon.solvers.precompile.record --kind "dcdm 3D"   # prints the kernels of one kind

Each kind runs in its own process, on one cache that starts empty.
"""
# Imported on first use, for its weight: numba.

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from relaxon.solvers.precompile.table import FILE, encode, freeze, grid_kind, matrix_kind

Request = dict[str, Any]


def all_kinds() -> Iterator[str]:
    """Yield the kinds that can run here, the most common first."""
    from relaxon.solvers.interface.registry import list_solvers
    from relaxon.solvers.sparse import MATRIX_SOLVERS

    names = [entry.name for entry in list_solvers() if all(find_spec(need) for need in entry.needs)]
    for ndim, varying in ((3, False), (2, False), (3, True), (2, True)):
        for name in names:
            if not (varying and name == "dcdm-cnn"):  # which accepts no κ
                yield grid_kind(name, ndim, varying)
    for name in MATRIX_SOLVERS:
        if not name.startswith("pyamg") or find_spec("pyamg"):
            yield matrix_kind(name)


def run_kind(kind: str) -> None:
    """Solve the systems of a kind: see `relaxon.solvers.driver.warm_up`."""
    from relaxon.solvers.driver.warm_up import small_matrices, usual_grid, warm_up

    solver, what, *rest = kind.split()
    if what == "matrix":
        warm_up(solver, next(small_matrices()))
    else:
        warm_up(solver, usual_grid(int(what[0]), varying=bool(rest)))


def record_kind(kind: str) -> list[Request]:
    """Run a kind, and return the kernels that were requested in this process, in order.

    Each has its module, name and types, the kernels it calls (places in the list, where it was compiled here), the
    processor seconds of its compilation without those of the kernels it calls, and whether Python called it.
    """
    from numba.core import event

    from relaxon.solvers.kernels import cache as kernel_cache
    from relaxon.solvers.precompile import compiling

    compiling._ready.add(kind)  # so that the present table is not used
    recorder = _Recorder()
    event.register("numba:compile", recorder.listener())  # type: ignore[no-untyped-call]
    load = kernel_cache.KernelCache.load_overload

    def ask(cache: Any, sig: Any, context: Any) -> Any:
        recorder.ask(cache._py_func, sig)
        return load(cache, sig, context)

    kernel_cache.KernelCache.load_overload = ask  # type: ignore[method-assign, assignment]
    try:
        run_kind(kind)
    finally:
        kernel_cache.KernelCache.load_overload = load  # type: ignore[method-assign]
    return recorder.requests


class _Recorder:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._numbers: dict[Any, int] = {}
        self._stack: list[list[Any]] = []
        """For each kernel being compiled: its number, the start, and the seconds of the kernels it calls."""

    def ask(self, function: Any, signature: Any) -> None:
        """Record a kernel that is loaded or compiled next, unless it has no importable name."""
        module = function.__module__
        if not module.startswith("relaxon.") or "<" in function.__qualname__:
            return
        try:
            types = [encode(one) for one in signature]
        except ValueError as error:
            print(f"{module}.{function.__qualname__}: {error}", file=sys.stderr)
            return
        identity = (module, function.__qualname__, freeze(types))
        if identity not in self._numbers:
            self._numbers[identity] = len(self.requests)
            self.requests.append(
                {
                    "module": module.removeprefix("relaxon."),
                    "name": function.__qualname__,
                    "types": types,
                    "calls": [],
                    "seconds": 0.0,
                    "top": False,
                }
            )
        number = self._numbers[identity]
        if not self._stack:
            self.requests[number]["top"] = True
        elif number not in (calls := self.requests[self._stack[-1][0]]["calls"]):
            calls.append(number)

    def listener(self) -> Any:
        """Return the Numba listener that maintains the stack."""
        from numba.core import event

        recorder = self

        class Listener(event.Listener):
            def on_start(self, found: Any) -> None:
                recorder._start(found.data)

            def on_end(self, found: Any) -> None:
                recorder._end(found.data)

        return Listener()

    def _number(self, data: Any) -> int | None:
        function = data["dispatcher"].py_func
        try:
            types = freeze([encode(one) for one in data["args"]])
        except ValueError:
            return None
        return self._numbers.get((function.__module__, function.__qualname__, types))

    def _start(self, data: Any) -> None:
        number = self._number(data)
        if number is not None:
            self._stack.append([number, time.thread_time(), 0.0])

    def _end(self, data: Any) -> None:
        number = self._number(data)
        if number is None:
            return
        _, start, inner = self._stack.pop()
        seconds = time.thread_time() - start
        self.requests[number]["seconds"] = round(seconds - inner, 3)
        if self._stack:
            self._stack[-1][2] += seconds


def merge(recorded: dict[str, list[Request]]) -> dict[str, Any]:
    """Return the content of the table from the records of kinds that ran one after the other on one cache."""
    kernels: list[dict[str, Any]] = []
    numbers: dict[Any, int] = {}

    def place(requests: Sequence[Request], number: int) -> int:
        request = requests[number]
        identity = (request["module"], request["name"], freeze(request["types"]))
        if identity not in numbers:
            calls = sorted({place(requests, call) for call in request["calls"]})
            numbers[identity] = len(kernels)
            kernels.append({**{name: request[name] for name in ("module", "name", "types", "seconds")}, "calls": calls})
        return numbers[identity]

    kinds = {
        kind: sorted({place(requests, number) for number, one in enumerate(requests) if one["top"]})
        for kind, requests in recorded.items()
    }
    return {"kernels": kernels, "kinds": {kind: called for kind, called in kinds.items() if called}}


def format_table(content: dict[str, Any]) -> str:
    """Return the text of the table, with a line for each kernel so that changes are readable."""
    kernels = ",\n".join("  " + json.dumps(one) for one in content["kernels"])
    kinds = ",\n".join(f"  {json.dumps(kind)}: {json.dumps(called)}" for kind, called in content["kinds"].items())
    return f'{{\n "kernels": [\n{kernels}\n ],\n "kinds": {{\n{kinds}\n }}\n}}\n'


def record_all(kinds: Iterable[str]) -> dict[str, list[Request]]:
    """Run each kind in its own process, and return the record of each."""
    recorded: dict[str, list[Request]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "relaxon.solvers.precompile.record", "--kind", kind],
                env={**os.environ, "NUMBA_CACHE_DIR": folder},
                stdout=subprocess.PIPE,
                text=True,
            )
            recorded[kind] = json.loads(done.stdout)  # an error where the process failed early
            print(f"{kind}: {len(recorded[kind])} kernels, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return recorded


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table, or print the kernels of one kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", help="print the kernels of this kind as JSON, and write nothing")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="write a table of these kinds only")
    args = parser.parse_args(argv)
    if args.kind:
        print(json.dumps(record_kind(args.kind)), flush=True)
        return 0
    FILE.write_text(format_table(merge(record_all(args.only or all_kinds()))), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
