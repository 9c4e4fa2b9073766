"""After a warm-up, a solve of that kind compiles nothing."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from copies import environment

from relaxon.cli import main
from relaxon.solvers import CompileProgress, PoissonGrid, warm_up
from relaxon.solvers.driver.warm_up import CYCLE_SIDE, small_grids, usual_grid
from relaxon.solvers.multigrid.passes import Smoother
from relaxon.solvers.precompile import compiling
from relaxon.solvers.precompile import work as compile_work
from relaxon.solvers.precompile.table import CompileTask, KernelTable, decode, encode, freeze, load_table
from relaxon.solvers.precompile.work import Child, Work, compile_here

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from relaxon.solvers import gallery, solve, warm_up

solver, size, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
kept = lambda: {str(path) for path in folder.rglob("*.nbc")}
warm_up(solver)
after_warm_up = kept()
results = []
for name in ("box", "pool", "neumann", "random"):
    problem = gallery.make(name, size, ndim=3, seed=0)
    results.append(solve(problem.grid, np.asarray(problem.b), solver=solver).result.name)
print(json.dumps({"compiled": len(after_warm_up), "more": sorted(kept() - after_warm_up), "results": results}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "mg-rbgs-cg", "ic-cg", "cg"])
def test_a_solve_after_it_compiles_nothing(solver, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, solver, "64", str(tmp_path)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["compiled"] > 0
    assert told["more"] == []
    assert told["results"] == ["CONVERGED"] * 4


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("varying", [False, True])
def test_the_small_grids_are_of_the_kind_of_the_large_one(ndim, varying):
    large = usual_grid(ndim, varying)
    assert large.cells.size > CYCLE_SIDE[ndim] ** ndim
    for solver, count in (("dcdm", 3), ("cg", 2)):
        found = list(small_grids(large, solver))
        assert len(found) == count
        assert {grid.ndim for grid in found} == {ndim}
        assert {grid.coefficient is None for grid in found} == {not varying}
        assert set(np.unique(found[0].cells)) == {0, 1, 2}
    few = PoissonGrid(large.cells[(slice(5),) * ndim])
    assert next(small_grids(few, "dcdm")).cells.size == 5**ndim


def test_what_is_no_grid_or_no_solver_is_refused():
    with pytest.raises(TypeError, match=r"^like must be a PoissonGrid, a SciPy sparse matrix or None, got ndarray"):
        warm_up("cg", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="solver must be one of"):
        warm_up("none")


def test_the_command_says_what_each_kind_took(capsys):
    assert main(["compile", "cg", "jacobi-cg", "cg", "--ndim", "2", "--varying", "--json"]) == 0
    told = capsys.readouterr()
    rows = json.loads(told.out)
    kinds = [(row["solver"], row["ndim"], row["varying"]) for row in rows]
    assert kinds == [("cg", 2, False), ("cg", 2, True), ("jacobi-cg", 2, False), ("jacobi-cg", 2, True)]
    assert all(row["seconds"] > 0 for row in rows)
    assert "jacobi-cg in 2 dimensions, varying κ" in told.err
    assert main(["compile", "none"]) == 2
    assert "solver must be one of" in capsys.readouterr().err


def task(seconds, *calls, name="none", types=()):
    return CompileTask("solvers.compiled", name, types, calls, seconds)


CHAIN = KernelTable((task(1.0), task(1.0, 0), task(9.0, 1), task(2.0), task(4.0), task(0.5, 2, 4)), {"all": (3, 5)})
"""0 → 1 → 2 → 5, 4 → 5, and 3 by itself."""


def test_a_task_comes_after_what_it_calls_and_the_longest_chain_first():
    assert CHAIN.list_needed([3, 5]) == [0, 1, 2, 3, 4, 5]
    assert CHAIN.list_needed([1]) == [0, 1]
    told = []
    work = Work(CHAIN, range(6), told.append)
    assert [work.take(), work.take(), work.take()] == [0, 4, 3]
    work.finish(0)
    assert work.take() == 1
    work.give_back(1)
    assert work.take() == 1
    for number in (4, 3, 1):
        work.finish(number)
    assert work.take() == 2
    work.finish(2)
    assert work.take() == 5
    assert not work.complete
    work.finish(5)
    assert work.take() is None
    assert work.complete
    assert [one.done for one in told] == [1, 2, 3, 4, 5, 6]
    assert {one.total for one in told} == {6}
    assert told[-1].seconds_left == 0.0
    assert sorted((one.seconds_left for one in told[:-1]), reverse=True)[-1] > 0


def test_work_that_is_stopped_hands_out_nothing_more_to_those_who_wait():
    work = Work(CHAIN, [0, 1], lambda _: None)
    assert work.take() == 0
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(work.take)
        work.stop()
        assert waiting.result(timeout=20) is None
    assert not work.complete


DYING = "import sys; sys.stdin.readline()"


@pytest.mark.parametrize("program", [DYING, "raise SystemExit(1)", "print('failed')"])
def test_what_a_dead_child_had_is_compiled_here(monkeypatch, program):
    monkeypatch.setattr(compile_work, "CHILD", program)
    table = KernelTable((task(1.0, name="column_sum", types=("float64[2C]", "int64", "int64", "int64")), task(1.0)), {})
    told = []
    work = Work(table, [0, 1], told.append)
    child = Child(work)
    compile_here(table, work)
    child.end()
    assert work.complete
    assert told[-1] == CompileProgress(2, 2, 0.0)


CHILDREN = """
import json
from numba.core import event
from relaxon.solvers.precompile import table as kernel_table, work as compile_work

compiled = []


class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(e.data["dispatcher"].py_func.__name__)

    def on_end(self, e):
        pass


event.register("numba:compile", Listener())
table = kernel_table.load_table()
told = []
work = compile_work.Work(table, range(len(table.tasks)), told.append)
children = [compile_work.Child(work) for _ in range(2)]
for child in children:
    child.join()
from relaxon.solvers.outer_kernels import add_twice

print(json.dumps({"complete": work.complete, "answer": add_twice(1.0), "compiled": compiled, "told": len(told)}))
"""


def test_children_compile_into_the_cache_and_run_nothing_of_the_caller(copy, tmp_path):
    kernels = [
        {"module": "solvers.inner_kernels", "name": "add", "types": ["float64"], "calls": [], "seconds": 1.0},
        {"module": "solvers.outer_kernels", "name": "add_twice", "types": ["float64"], "calls": [0], "seconds": 1.0},
    ]
    (copy / "solvers" / "precompile" / "kernels.json").write_text(
        json.dumps({"kernels": kernels, "kinds": {"add": [1]}})
    )
    program = tmp_path / "program.py"
    program.write_text(CHILDREN + "open('ran', 'x').close()\n")  # without the guard that multiprocessing asks for
    done = subprocess.run(
        [sys.executable, str(program)],
        env=environment(copy, XDG_CACHE_HOME=str(tmp_path / "home")),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"complete": True, "answer": 3.0, "compiled": [], "told": 2}


@pytest.mark.parametrize("kind", ["dcdm 3D", "ic-cg 2D varying", "auto matrix"])
def test_the_table_names_what_solves_of_a_kind_run(kind):
    """Where it does not: python -m relaxon.solvers.precompile.record"""
    done = subprocess.run(
        [sys.executable, "-m", "relaxon.solvers.precompile.record", "--kind", kind], stdout=subprocess.PIPE, text=True
    )
    ran = {(one["module"], one["name"], freeze(one["types"])) for one in json.loads(done.stdout) if one["top"]}
    table = load_table()
    named = [table.tasks[number] for number in table.kinds[kind]]
    assert ran == {(one.module, one.name, freeze(list(one.types))) for one in named}


def test_every_kernel_of_the_table_is_there_and_its_types_can_be_read():
    table = load_table()
    assert len(table.tasks) > 50
    for number, one in enumerate(table.tasks):
        assert one.kernel().py_func.__name__ == one.name
        assert [encode(kind) for kind in one.signature()] == list(one.types)
        assert all(call < number for call in one.calls)
    assert {"dcdm 3D", "dcdm 2D", "dcdm 3D varying", "mg-cg 3D", "ic-cg 3D", "cg 3D", "auto matrix"} <= set(table.kinds)


def test_types_are_written_and_read_as_they_were():
    from numba import types

    for kind in (
        types.Array(types.float64, 3, "C", readonly=True),
        types.Array(types.boolean, 1, "A"),
        types.Array(types.uint8, 2, "F", aligned=False),
        types.UniTuple(types.UniTuple(types.boolean, 2), 3),
        types.Tuple((types.float64, types.Array(types.int32, 1, "C"))),
        types.NamedTuple([types.Array(types.float32, 2, "C")] * 4, Smoother),
        types.literal(3),
        types.Omitted(False),
        types.none,
    ):
        assert decode(json.loads(json.dumps(encode(kind)))) == kind
    with pytest.raises(ValueError, match=r"^kind must be an array"):
        encode(types.ListType(types.int64))


def test_what_is_compiled_is_looked_for_once(monkeypatch):
    looked = []
    monkeypatch.setattr(compiling, "missing_kernels", lambda table, kind: looked.append(kind) or [])
    monkeypatch.setattr(compiling, "_ready", set())
    for _ in range(2):
        compiling.compile_kind("some kind")
    assert looked == ["some kind"]
    assert compiling.is_ready("some kind")
    assert compiling.compile_seconds("some kind") == 0.0


def test_what_runs_on_a_device_compiles_nothing_here():
    grid = PoissonGrid(np.zeros((4, 4), np.uint8), coefficient=np.ones((4, 4)))
    assert compiling.kind_of("dcdm", grid) == "dcdm 2D varying"
    assert compiling.kind_of("dcdm@cuda", grid) is None
    assert compiling.kind_of("auto", None) == "auto matrix"
