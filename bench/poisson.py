"""Time to a solution of Poisson systems, set-up included: every solver on every case and size, in one run.

    python bench/poisson.py --quick              # minutes: 32³ to 64³
    python bench/poisson.py                      # 32³ to 160³
    python bench/poisson.py --size 128 --case all --json out.json
    python bench/poisson.py --size 128 --case all --against ceabc37 --json out.json --into README.md
    python bench/poisson.py --steps 100          # and 100 time steps, the geometry at rest and moving
    python bench/poisson.py --petsc              # and PETSc's multigrids, where python3-petsc4py is present
    python bench/poisson.py --from bench/results/poisson.json --markdown table.md

Same operator, same right-hand side, one tolerance on the true relative residual, recomputed here in float64 by code
that the solvers do not share. Repeats go round the solvers, each on a grid made anew, and the median counts; a run on
a small system of the same kind goes before, and is reported apart. Numba and torch get `--threads`, BLAS gets
`--blas-threads`, for all solvers alike; PyAMG's and SciPy's own loops have one thread whatever is given. Run it on a
machine that does nothing else: the load before the run is in the results. What is left out is there too, with the
reason. With `--against COMMIT` the race is between this tree's `dcdm`, that of another commit (a process of its own,
from a clone, on the same system and judged here by the same code) and PyAMG; `--into PAGE` puts the table between
PAGE's two lines for it. Exit status 1 where a solver says CONVERGED and the recomputed residual does not meet the
tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from measuring.poisson.other_build import OtherBuild
from measuring.poisson.report import AT, OURS, THEIRS, draw_convergence, draw_times, lies, markdown, table, write_into
from measuring.poisson.runs import Contest, Limits
from measuring.poisson.scenarios import STEP_SOLVERS, memory_per_unknown, steps_contest, triad_bandwidth
from petsc import PetscRow, petsc_rows
from rich.console import Console

from relaxon._version import __version__
from relaxon.cli.machine import describe_machine, list_package_versions, usable_cores
from relaxon.server.config.threads import wait_asleep
from relaxon.solvers import list_solvers

CASES = (
    *("box", "spheres", "pool", "random", "neumann", "variable", "plume", "sheets", "shells"),
    *("layered", "cylinder", "heat-step", "stretched", "channel", "heat-sink"),
)
"""κ = 1 first but for `variable`, then grids as simulation codes have them."""
SIZES, QUICK_SIZES = (32, 64, 96, 128, 160), (32, 48, 64)
REPEATS, QUICK_REPEATS = 5, 3
LIMIT, QUICK_LIMIT = 120.0, 4.0
AGAINST_LIMIT = 60.0
"""Three repeats or more of PyAMG's at 128³ on most systems."""
LARGEST, QUICK_LARGEST = (("dcdm-cnn", 96),), (("dcdm-cnn", 48), ("scipy-direct", 32))
MEMORY_CASE = "pool"
RESULTS = Path(__file__).parent / "results"
STEPS_SIDE = 64
Record = dict[str, Any]
Save = Callable[[Record], None]
THREAD_VARIABLES = ("RELAXON_NUM_THREADS", "OMP_NUM_THREADS")
BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BLAS_THREADS = 1
"""Two threads of OpenBLAS beside another program's one made SciPy's CG 13 to 25 times as slow at 48³ as one thread did,
and smoothed aggregation's set-up 8 to 11 times: they spin, from about 10,000 elements on, for every dot product."""
BUSY = 0.5
"""Other programs' load, in processors, from which on times are called disturbed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run measures."""

    cases: tuple[str, ...]
    sizes: tuple[int, ...]
    solvers: tuple[str, ...]
    rtol: tuple[float, ...]
    repeats: int
    limits: Limits
    steps: int
    steps_size: int
    memory: bool
    petsc: bool
    against: str | None = None


def settings(args: argparse.Namespace) -> Settings:
    """The arguments with the defaults of a full or a quick run filled in."""
    sizes = tuple(sorted(set(args.sizes or (QUICK_SIZES if args.quick else SIZES))))
    solvers = args.solvers or ((OURS, *THEIRS) if args.against else [entry.name for entry in list_solvers()])
    usual = QUICK_LIMIT if args.quick else AGAINST_LIMIT if args.against else LIMIT
    largest = dict(QUICK_LARGEST if args.quick else LARGEST) | dict(args.largest)
    return Settings(
        cases=CASES if "all" in args.cases else tuple(dict.fromkeys(args.cases)),
        sizes=sizes,
        solvers=tuple(dict.fromkeys(solvers)),
        rtol=tuple(dict.fromkeys(args.rtol)),
        repeats=args.repeats or (QUICK_REPEATS if args.quick else REPEATS),
        limits=Limits(args.limit or usual, tuple(largest.items())),
        steps=args.steps,
        steps_size=args.steps_size or min(STEPS_SIDE, sizes[-1]),
        memory=args.memory if args.memory is not None else not (args.quick or args.against),
        petsc=args.petsc,
        against=args.against,
    )


def run(chosen: Settings, console: Console, save: Save) -> Record:
    """All systems as JSON values; `save` gets what there is after each."""
    other = None if chosen.against is None else OtherBuild(chosen.against)
    with nullcontext() if other is None else closing(other):
        others = {} if other is None else {f"{OURS}{AT}{chosen.against}": (other, OURS)}
        return _run_contest(Contest(chosen.solvers, chosen.repeats, chosen.limits, others), chosen, console, save)


def _run_contest(contest: Contest, chosen: Settings, console: Console, save: Save) -> Record:
    machine = described()
    if (machine["machine"]["load_before"] or 0.0) > BUSY:
        console.print("The machine is busy with something else: times will be disturbed.", style="bold yellow")
    record: Record = {**machine, "settings": asdict(chosen), "repeats": chosen.repeats, "rows": []}
    for rtol in chosen.rtol:
        for case in chosen.cases:
            for size in chosen.sizes:
                console.print(f"{case} {size}³, rtol {rtol:g} …", highlight=False)
                record["rows"] += [row.as_dict() for row in contest.run(case, size, rtol)]
                save(record)
    return record


def run_beside(chosen: Settings, record: Record, console: Console, save: Save) -> None:
    """Add PETSc's solvers, the time steps and the memory to what `run` gave, where they are asked for."""
    if chosen.petsc:
        record["petsc"] = []
        for case in chosen.cases:
            for size in chosen.sizes:
                console.print(f"PETSc, {case} {size}³ …", highlight=False)
                found = petsc_rows(case, size, repeats=chosen.repeats, rtol=chosen.rtol[0])
                record["petsc"] += [petsc_summary(row) for row in found]
                save(record)
    if chosen.steps:
        console.print(f"{chosen.steps} time steps of the plume, {chosen.steps_size}³ …", highlight=False)
        few = [solver for solver in STEP_SOLVERS if solver in chosen.solvers] or chosen.solvers
        steps = steps_contest(chosen.steps_size, chosen.steps, few, chosen.rtol[0])
        record["steps"] = [asdict(result) for result in steps]
        save(record)
    if chosen.memory:
        case, size = MEMORY_CASE if MEMORY_CASE in chosen.cases else chosen.cases[-1], chosen.sizes[-1]
        console.print(f"peak memory, {case} {size}³ …", highlight=False)
        rows = [r for r in record["rows"] if (r["case"], r["size"], r["rtol"]) == (case, size, chosen.rtol[0])]
        record["memory"] = []
        for solver in (r["solver"] for r in rows if r["setup"]):
            record["memory"].append(asdict(memory_per_unknown(case, size, solver, chosen.rtol[0])))
            save(record)


def petsc_summary(row: PetscRow) -> Record:
    """A line of a table; the medians of set-up and solve."""
    setup, solve = (statistics.median(times) if times else None for times in (row.setup, row.solve))
    return {
        "case": row.case,
        "size": row.size,
        "solver": row.variant,
        "ranks": row.ranks,
        "setup": setup,
        "solve": solve,
        "seconds": row.seconds if row.met and row.setup else None,
        "iterations": row.iterations,
        "outcome": "converged" if row.met else row.failed or "tolerance not met",
    }


def described() -> Record:
    """The machine, the threads and the versions."""
    from relaxon.solvers.kernels.threads import get_num_threads

    machine = describe_machine().as_dict()
    machine["load_before"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    machine |= {"triad_bytes_per_second": triad_bandwidth(), "threads": get_num_threads(), "gpu": _gpu()}
    machine["blas_threads"] = os.environ.get(BLAS_VARIABLES[0], "its own choice")
    return {
        "relaxon": __version__,
        "machine": machine,
        "versions": list_package_versions(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _gpu() -> str | None:
    """The GPU on which torch would run the network; None where it would not."""
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [entry.name for entry in list_solvers()]
    made.add_argument("--quick", action="store_true", help="sizes 32 48 64, three repeats, short limit, no memory")
    made.add_argument("--cases", "--case", nargs="+", choices=(*CASES, "all"), default=["all"])
    made.add_argument("--sizes", "--size", nargs="+", type=_positive)
    made.add_argument("--solvers", nargs="+", choices=known, help="all by default; with --against dcdm and PyAMG's")
    made.add_argument("--rtol", nargs="+", type=float, default=[1e-6])
    made.add_argument("--repeats", type=_positive)
    made.add_argument("--limit", type=float, help="seconds that a run, or a solver's repeats on a system, may take")
    made.add_argument(
        "--largest", nargs="+", type=_side, default=[], metavar="SOLVER=SIDE", help="largest size for a solver"
    )
    made.add_argument("--steps", type=int, default=0, help="also so many time steps of the plume")
    made.add_argument("--steps-size", type=_positive, help="their grid's side")
    made.add_argument(
        "--memory", action=argparse.BooleanOptionalAction, help="also peak memory, one case at the largest size"
    )
    made.add_argument("--petsc", action="store_true", help="also PETSc's multigrids, one process each: bench/petsc.py")
    made.add_argument("--against", metavar="COMMIT", help="also the build of another commit: any name that git knows")
    made.add_argument("--json", type=Path, help="another file for the results")
    made.add_argument("--into", type=Path, metavar="PAGE", help="put the table of the largest size into this page")
    made.add_argument("--threads", type=_positive, help="of Numba and torch; all cores by default")
    made.add_argument("--blas-threads", type=_positive, default=BLAS_THREADS, help="of OpenBLAS or MKL; 1 by default")
    made.add_argument("--out", type=Path, help="folder for what is written; bench/results by default")
    made.add_argument("--from", dest="results", type=Path, help="report from an earlier JSON; pictures with --out")
    made.add_argument("--markdown", type=Path, help="file for a table of the largest size")
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def _side(text: str) -> tuple[str, int]:
    solver, _, side = text.partition("=")
    known = [entry.name for entry in list_solvers()]
    if solver not in known:
        raise argparse.ArgumentTypeError(f"must be SOLVER=SIDE with a solver of {', '.join(known)}, got {text!r}")
    return solver, _positive(side)


def main(argv: list[str] | None = None) -> int:
    wait_asleep()  # before anything loads torch or PyAMG: spinning threads of one solver must not slow another
    args, console = parser().parse_args(argv), Console()
    if args.results:
        record = json.loads(args.results.read_text(encoding="utf-8"))
        if args.out:
            _draw(record, args.out)
    else:
        record = _measure(settings(args), args.out or RESULTS, console)
        if args.json:
            _write(args.json, record)
    for rendered in table(record):
        console.print(rendered)
    if args.markdown:
        args.markdown.write_text(markdown(record), encoding="utf-8")
    if args.into:
        write_into(args.into, markdown(record, reasons=False))
    found = lies(record)
    for lie in found:
        console.print(lie, style="bold red", markup=False)
    return 1 if found else 0


def _measure(chosen: Settings, out: Path, console: Console) -> Record:
    """Measure, and leave on disk what there is, should the rest be cut short."""
    out.mkdir(parents=True, exist_ok=True)
    save = partial(_write, out / "poisson.json")
    record = run(chosen, console, save)
    _draw(record, out)
    run_beside(chosen, record, console, save)
    console.print(f"written: poisson.json, poisson.png, convergence.png in {out}", highlight=False)
    return record


def _draw(record: Record, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    draw_times(record, out / "poisson.png")
    draw_convergence(record, out / "convergence.png")


def _write(path: Path, record: Record) -> None:
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _with_threads(threads: int, blas_threads: int) -> None:
    """Start this program again with that many threads: libraries read the number when they are loaded."""
    wanted = dict.fromkeys(THREAD_VARIABLES, str(threads)) | dict.fromkeys(BLAS_VARIABLES, str(blas_threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


if __name__ == "__main__":
    asked = parser().parse_args()
    _with_threads(asked.threads or usable_cores(), asked.blas_threads)
    sys.exit(main())
