"""What `bench/poisson.py` measured as tables and pictures, from its JSON alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from measuring.tables import markdown_table, record_table, terminal_table

Record = dict[str, Any]
PICTURED = ("dcdm", "dcdm-cnn", "mg-cg", "ic-cg", "cg", "pyamg-sa")
OURS, THEIRS = "dcdm", ("pyamg-sa", "pyamg-rs")
ORDER = (
    *("dcdm", "dcdm-cnn", "mg-cg", "mg-rbgs-cg", "ic-cg", "jacobi-cg", "cg"),
    *("pyamg-sa", "pyamg-rs", "scipy-cg", "scipy-direct", "auto", "fast-diagonalisation", "amg"),
)
"""Of the columns; it also fixes each solver's colour, the same in both pictures."""
HEADINGS = ("solver", "warm-up\ns", "set-up\ns", "solve\ns", "total\ns", "itera-\ntions", "true\nresidual", "result")
GIB = 2**30
CUT = "cancelled"
"""The result of a solve that `--limit` stopped."""
AT = " at "
"""Between a solver's name and the commit whose build of it takes part."""
BEGIN, END = "<!-- bench/poisson.py: begin -->", "<!-- bench/poisson.py: end -->"
"""Between these lines of a page stands what `--into` writes."""


def table(record: Record) -> Iterator[Table]:
    """A table for each case, size and tolerance, then one for the time steps and one for memory."""
    for case, size, rtol in dict.fromkeys((r["case"], r["size"], r["rtol"]) for r in record["rows"]):
        rows = [r for r in record["rows"] if (r["case"], r["size"], r["rtol"]) == (case, size, rtol)]
        title = f"{case} {size}³, {rows[0]['unknowns']:,} unknowns, rtol {rtol:g}"
        # Reasons stand below, not inside: a terminal's last column is narrow.
        reasons = [f"{r['solver']}: {reason}" for r in rows if (reason := r["skipped"] or r.get("note", ""))]
        cells = [[row["solver"], *_figures(row), _outcome(row)] for row in rows]
        yield terminal_table(HEADINGS, cells, title, "\n".join(reasons) or None)
    for title, key in (("PETSc", "petsc"), ("time steps of the plume", "steps"), ("peak memory", "memory")):
        if record.get(key):
            yield record_table(record[key], title)


def _figures(row: Record) -> list[str]:
    warm_up = row.get("warm_up_seconds")
    first = "" if warm_up is None else f"{warm_up:.3f}"
    if not row["setup"]:
        return [first, "", "", "", "", ""]
    medians = (statistics.median(row["setup"]), statistics.median(row["solve"]), row["seconds"])
    return [first, *(f"{s:.3f}" for s in medians), str(row["iterations"]), _residual(row)]


def _residual(row: Record) -> str:
    value = row["relative_residual"]
    return "not finite" if value is None else f"{value:.1e}"


def _outcome(row: Record) -> Text:
    if not row["honest"]:
        return Text(f"{row['result']}: NOT TRUE", style="bold red")
    text = row["skipped"].partition(":")[0] or row["result"] + ("*" if row.get("note") else "")
    return Text(text, style="" if row["result"] == "converged" else "yellow")


def lies(record: Record) -> list[str]:
    """A line for each solver that claimed a tolerance which the recomputed residual does not meet."""
    found = []
    for row in record["rows"]:
        if not row["honest"]:
            reached = f"a true residual of {_residual(row)}" if row["setup"] else "another in its warm-up"
            system = f"{row['case']} {row['size']}³"
            found.append(f"{row['solver']} on {system} said CONVERGED to {row['rtol']:g} at {reached}")
    for step in record.get("steps", ()):
        if not step.get("honest", True):
            found.append(f"{step['solver']} said CONVERGED untruly in the plume's steps, geometry {step['geometry']}")
    return found


def markdown(record: Record, reasons: bool = True) -> str:
    """The machine, then for each tolerance the largest size, a line a case; then time steps and memory.

    Below the table stand the `reasons` for empty cells and fewer repeats.
    """
    parts = [_machine_line(record)]
    size = max(r["size"] for r in record["rows"])
    for rtol in dict.fromkeys(r["rtol"] for r in record["rows"]):
        rows = [r for r in record["rows"] if r["size"] == size and r["rtol"] == rtol]
        parts.append(_totals(rows, size, rtol) + (_left_out(rows) if reasons else ""))
    for key in ("petsc", "steps", "memory"):
        if record.get(key):
            rows = record[key]
            headings = [name.replace("_", " ") for name in rows[0]]
            parts.append(markdown_table(headings, [row.values() for row in rows]))
    return "\n".join(parts)


def _machine_line(record: Record) -> str:
    machine = record["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads (BLAS "
        f"{machine.get('blas_threads', 'unknown')}), load before {_number(machine.get('load_before'))}, triad "
        f"{machine['triad_bytes_per_second'] / GIB:.1f} GiB/s, {record['date']}; total seconds, set-up included, and "
        f"(iterations), medians of {record['repeats']} or fewer*.\n"
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


def _totals(rows: list[Record], size: int, rtol: float) -> str:
    shown = sorted({r["solver"] for r in rows}, key=_place)
    headings = [f"{size}³, to {rtol:g}", "unknowns", *(_heading(solver) for solver in shown), f"best PyAMG / `{OURS}`"]
    builds = [solver for solver in shown if AT in solver]
    headings += [f"{_heading(build)} / `{OURS}`" for build in builds]
    lines = []
    for case in dict.fromkeys(r["case"] for r in rows):
        by = {r["solver"]: r for r in rows if r["case"] == case}
        factors = [_factor([by.get(solver) for solver in THEIRS], by.get(OURS))]
        factors += [_factor([by.get(build)], by.get(OURS)) for build in builds]
        unknowns = f"{next(iter(by.values()))['unknowns']:,}"
        lines.append([case, unknowns, *(_cell(by.get(solver)) for solver in shown), *factors])
    return markdown_table(headings, lines, right=True)


def _factor(theirs: list[Record | None], ours: Record | None) -> str:
    """How many times our seconds the best of theirs took; at least so many where all of them were cut."""
    if ours is None or not _solved(ours):
        return "–"
    solved = [row["seconds"] for row in theirs if row is not None and _solved(row)]
    cut = [row["seconds"] for row in theirs if row is not None and row["setup"] and row["result"] == CUT]
    if solved:
        return f"{min(solved) / ours['seconds']:.1f}×"
    return f"over {min(cut) / ours['seconds']:.1f}×" if cut else "–"


def _place(solver: str) -> int:
    """Return the place of a solver among the columns; that of another commit's build is the last."""
    return ORDER.index(solver) if solver in ORDER else len(ORDER)


def _heading(solver: str) -> str:
    name, at, commit = solver.partition(AT)
    return f"`{name}`{at}{commit}"


def write_into(page: Path, text: str) -> None:
    """Put the table between its lines of a page; ValueError if the page does not have them."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} must have the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", encoding="utf-8")


def _solved(row: Record | None) -> bool:
    """Whether the row's time counts: the tolerance was claimed and it was met."""
    return row is not None and row["result"] == "converged" and row["honest"]


def _cell(row: Record | None) -> str:
    if row is None or not row["setup"]:
        return "–"
    star = "*" if row.get("note") else ""
    over = "over " if row["result"] == CUT else ""
    text = f"{over}{row['seconds']:.3g} s ({row['iterations']}){star}"
    if not row["honest"]:
        return f"{text} **not true**"
    return text if row["result"] in ("converged", CUT) else f"{text} {row['result']}"


def _left_out(rows: list[Record]) -> str:
    """Below the table, why a cell is empty or has fewer repeats; cases with the same reason on one line."""
    cases: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if reason := row["skipped"] or row.get("note", ""):
            cases.setdefault((row["solver"], reason), []).append(row["case"])
    lines = [f"- `{solver}`, {', '.join(where)}: {reason}" for (solver, reason), where in cases.items()]
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def draw_times(record: Record, path: Path) -> None:
    """Seconds with set-up against unknowns, a panel a case; only what was solved has a point."""
    rows = [r for r in record["rows"] if r["rtol"] == record["rows"][0]["rtol"]]
    cases = list(dict.fromkeys(r["case"] for r in rows))
    figure, panels = _panels(len(cases))
    for panel, case in zip(panels, cases, strict=False):
        panel.set(title=case, xlabel="unknowns", ylabel="set-up + solve, s", xscale="log", yscale="log")
        for solver in sorted({r["solver"] for r in rows}, key=_place):
            mine = [r for r in rows if r["case"] == case and r["solver"] == solver and _solved(r)]
            if mine:
                points = ([r["unknowns"] for r in mine], [r["seconds"] for r in mine])
                panel.plot(*points, marker="o", markersize=3, label=solver, **_style(solver))
    _finish(figure, panels, len(cases), path)


def draw_convergence(record: Record, path: Path) -> None:
    """Relative residual against iterations, a panel a case, at the largest size that most of the pictured ran."""
    first = record["rows"][0]["rtol"]
    rows = [r for r in record["rows"] if r["setup"] and r["rtol"] == first and r["solver"] in PICTURED]
    cases = list(dict.fromkeys(r["case"] for r in rows))
    figure, panels = _panels(len(cases))
    for panel, case in zip(panels, cases, strict=False):
        here = [r for r in rows if r["case"] == case]
        sizes = [r["size"] for r in here]
        size = max(sizes, key=lambda n: (sizes.count(n), n))
        for row in sorted((r for r in here if r["size"] == size), key=lambda r: _place(r["solver"])):
            start = row["residuals"][0] or 1.0
            history = [float("nan") if v is None else v / start for v in row["residuals"]]
            panel.plot(history, label=row["solver"], **_style(row["solver"]))
        panel.set(title=f"{case} {size}³", xlabel="iterations", ylabel="‖r‖ / ‖r₀‖", yscale="log")
        panel.set_xscale("symlog", linthresh=10)
        panel.set_xlim(left=0)
    _finish(figure, panels, len(cases), path)


def _style(solver: str) -> dict[str, Any]:
    """Own solvers in full lines, others' broken; the learned one stands out."""
    dashed = solver.startswith(("pyamg", "scipy"))
    return {
        "color": "black" if solver == "scipy-direct" else f"C{_place(solver) % 10}",
        "linestyle": "--" if dashed else "-",
        "linewidth": 2.2 if solver == OURS else 1.2,
    }


def _panels(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    columns = min(max(count, 1), 4)
    lines = max(1, -(-count // columns))
    figure = Figure(figsize=(3.6 * columns, 3.1 * lines + 0.6), layout="constrained")
    return figure, list(figure.subplots(lines, columns, squeeze=False).flat)


def _finish(figure: Any, panels: list[Any], used: int, path: Path) -> None:
    """One legend for all panels: a solver may be missing from any of them."""
    handles: dict[str, Any] = {}
    for panel in panels[:used]:
        panel.grid(alpha=0.3)
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for panel in panels[used:]:
        panel.axis("off")
    if handles:
        order = sorted(handles, key=_place)
        figure.legend([handles[s] for s in order], order, fontsize=8, loc="outside lower center", ncols=6)
    figure.savefig(path, dpi=110)
