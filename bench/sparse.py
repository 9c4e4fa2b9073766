"""Sparse matrices: the automatic choice against PyAMG, hypre, CHOLMOD, Pardiso, apxchol and AMGCL over the gallery.

    python bench/sparse.py --quick                           # 10,000 unknowns, one repeat
    python bench/sparse.py --docs --plot docs/sparse-profile.png    # 100,000 unknowns, two threads: the page's table
    python bench/sparse.py --large --docs                    # a million unknowns, against PyAMG and hypre
    python bench/sparse.py --cpu --json sparse.json          # CPU seconds, on a machine that does other work too
    python bench/sparse.py --families rotated-2d --solvers auto amg --unknowns 1000000
    python bench/sparse.py --folder my-matrices --plot profile.png

Set-up and solve to a relative residual of 1e-6, recomputed here; median of the repeats, all interleaved. The first of
them counts bytes too: it begins without free memory in the process, the others with what the last one left. Before
each run 0.3 s pass, as threads of BLAS may still spin after the last contestant's. Each
contestant is a process of its own that has solved another system before, with the same number of threads. Ours checks
the matrix as always; peers get it checked, and the direct ones and AMGCL with an equation more where it is singular.
Where a peer has several options, all run and its fastest counts. What takes more seconds or bytes than its limit is
stopped and marked. `--docs` writes the table into docs/sparse.md, where that of `--large` has a place of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from measuring.sparse.race import GROUPS, Limits, Problem, Worker, from_folder, from_gallery, missing_peers, race
from measuring.sparse.report import cells, columns, groups_of, markdown, marks_of, plot, sentences, write_docs, wrong
from measuring.tables import Record, describe_run, terminal_table, write_record
from rich.console import Console

from relaxon.solvers import gallery
from relaxon.solvers.sparse import MATRIX_SOLVERS

UNKNOWNS, QUICK_UNKNOWNS, LARGE_UNKNOWNS = 100_000, 10_000, 1_000_000
LARGE_FAMILIES = (
    "laplacian-2d", "laplacian-3d", "lognormal-3d", "stretched-3d", "random-jumps-3d", "triangles-2d", "tetrahedra-3d",
)  # fmt: skip
"""Families of `--large`: in two and three dimensions, with smooth and jumping coefficients, regular and not."""
LARGE_PEERS = ("pyamg", "hypre")
"""The peers of `--large`, whose memory grows as the number of unknowns; that of factors grows faster in 3-D."""
REPEATS, LIMIT, LIMIT_BYTES, THREADS = 3, 60.0, 8e9, 2
PAGE = Path(__file__).parents[1] / "docs" / "sparse.md"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    families = list(gallery.matrix_names())
    parser.add_argument("--families", nargs="+", choices=families, metavar="FAMILY", help="of the gallery; all of them")
    parser.add_argument("--folder", type=Path, help="matrices of your own, in the place of the gallery")
    parser.add_argument("--unknowns", type=int)
    parser.add_argument("--solvers", nargs="+", choices=list(MATRIX_SOLVERS), default=["auto"], metavar="SOLVER")
    parser.add_argument("--peers", nargs="*", choices=list(GROUPS), metavar="PEER", help="all of them")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--threads", type=int, help=f"of every contestant; {THREADS}, 1 with --cpu")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of one run")
    parser.add_argument("--limit-bytes", type=float, default=LIMIT_BYTES, help="of one run, beside the matrix")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help=f"{QUICK_UNKNOWNS} unknowns, one repeat")
    size.add_argument(
        "--large", action="store_true",
        help=f"{LARGE_UNKNOWNS} unknowns, {len(LARGE_FAMILIES)} families against {' and '.join(LARGE_PEERS)}",
    )  # fmt: skip
    parser.add_argument("--cpu", action="store_true", help="CPU seconds in the place of elapsed ones")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="a performance profile")
    parser.add_argument("--docs", action="store_true", help=f"write the table into {PAGE.name}")
    args = parser.parse_args(arguments)
    if args.folder is not None and not args.folder.is_dir():
        parser.error(f"--folder must be a folder, got {args.folder}")
    if args.large and args.folder is not None:
        parser.error("--large is of the gallery, got --folder too")
    args.families = args.families or list(LARGE_FAMILIES if args.large else families)
    if args.peers is None:  # an empty list is no peer
        args.peers = list(LARGE_PEERS if args.large else GROUPS)
    args.threads = args.threads or (1 if args.cpu else THREADS)
    args.repeats = args.repeats or (1 if args.quick else REPEATS)
    usual = QUICK_UNKNOWNS if args.quick else LARGE_UNKNOWNS if args.large else UNKNOWNS
    args.unknowns = args.unknowns or usual
    return args


def how_measured(args: argparse.Namespace, about: Record) -> str:
    """A sentence for the page."""
    machine = about["machine"]
    clock = "CPU seconds" if args.cpu else "elapsed seconds"
    plural, large = "s" if args.threads > 1 else "", "--large " if args.large else ""
    return (
        f"`python bench/sparse.py {large}--docs`: {clock} of set-up and solve with {args.threads} thread{plural}, "
        f"{'median of ' + str(args.repeats) + ' runs' if args.repeats > 1 else 'one run'}, on {machine['cpu']} "
        f"({machine['cores']} cores, a load of {about['load_before']:.1f} when it began)."
    )


def run(args: argparse.Namespace, problems: list[Problem], console: Console) -> list[dict[str, Any]]:
    """The rows, written down after each matrix."""
    about = describe_run(threads=args.threads, cpu=args.cpu)
    missing = missing_peers()
    for peer in args.peers:
        if peer in missing:
            console.print(f"{peer}: not run, needs {', '.join(missing[peer])}")
    names = [*args.solvers, *(name for peer in args.peers if peer not in missing for name in GROUPS[peer])]
    workers = {name: Worker(name, args.threads, args.cpu) for name in names}
    rows: list[dict[str, Any]] = []
    try:
        for problem in problems:
            try:
                row = race(problem, workers, args.repeats, Limits(args.limit, args.limit_bytes))
            except (ValueError, TypeError, OSError) as error:  # a user's file may hold anything
                console.print(f"{problem.name}: not run: {error}")
                continue
            rows.append(row)
            if args.json:
                write_record(args.json, about | {"rows": rows})
    finally:
        for worker in workers.values():
            worker.stop()
    if args.docs and rows:
        write_docs(PAGE, markdown(rows, args.solvers, how_measured(args, about)), marks_of(args.large))
    return rows


def main(arguments: list[str] | None = None) -> int:
    args, console = parse(arguments), Console(width=200)
    problems = list(from_folder(args.folder) if args.folder else from_gallery(args.families, args.unknowns))
    rows = run(args, problems, console)
    peers = groups_of(rows)
    console.print(terminal_table(columns(args.solvers, peers), [cells(row, args.solvers, peers) for row in rows]))
    for sentence in sentences(rows, args.solvers):
        console.print(sentence)
    if args.plot and rows:
        plot(rows, args.solvers, args.plot)
    mistakes = [(row["family"], name) for row in rows for name in wrong(row)]
    console.print(f"wrong CONVERGED: {mistakes or 0}")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
