"""What `bench/poisson.py` measured as tables and pictures, from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

Record = dict[str, Any]
PICTURED = ("dcdm", "dcdm-cnn", "mg-cg", "ic-cg", "cg", "pyamg-sa")
OWN, OTHERS = ("dcdm", "dcdm-cnn", "mg-cg", "mg-rbgs-cg", "ic-cg"), ("pyamg-sa", "pyamg-rs")


def table(record: Record) -> Iterator[Table]:
    """A table for each case, size and tolerance, then one for the time steps and one for memory."""
    for case, size, rtol in dict.fromkeys((r["case"], r["size"], r["rtol"]) for r in record["rows"]):
        rows = [r for r in record["rows"] if (r["case"], r["size"], r["rtol"]) == (case, size, rtol)]
        found = Table(title=f"{case} {size}³, {rows[0]['unknowns']:,} unknowns, rtol {rtol:g}", title_justify="left")
        for name in ("solver", "set-up s", "solve s", "total s", "its", "residual", "result"):
            found.add_column(
                name, justify="left" if name in ("solver", "result") else "right", no_wrap=name != "result"
            )
        for row in rows:
            if row["skipped"]:
                found.add_row(row["solver"], "", "", "", "", "", row["skipped"])
                continue
            setup, solve = _median(row["setup"]), _median(row["solve"])
            figures = [f"{s:.3f}" for s in (setup, solve, row["seconds"])]
            found.add_row(
                row["solver"], *figures, str(row["iterations"]), f"{row['relative_residual']:.1e}", row["result"]
            )
        yield found
    for title, key in (("time steps of the plume", "steps"), ("peak memory", "memory")):
        if key in record:
            yield _plain(title, record[key])


def _plain(title: str, rows: list[Record]) -> Table:
    found = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        found.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    return found


def markdown(record: Record) -> str:
    """Total seconds and iterations at the largest size, a line a case."""
    size, rtol = max(r["size"] for r in record["rows"]), record["rows"][0]["rtol"]
    rows = [r for r in record["rows"] if r["size"] == size and r["rtol"] == rtol]
    shown = [s for s in (*OWN, *OTHERS) if any(r["solver"] == s for r in rows)]
    lines = [
        f"| {size}³, to {rtol:g} | unknowns | " + " | ".join(f"`{s}`" for s in shown) + " | best PyAMG / `dcdm` |",
        "|---|" + "---:|" * (len(shown) + 2),
    ]
    for case in dict.fromkeys(r["case"] for r in rows):
        by = {r["solver"]: r for r in rows if r["case"] == case}
        theirs = [by[s]["seconds"] for s in OTHERS if s in by and by[s]["result"] == "converged"]
        ours = by.get("dcdm", {}).get("seconds")
        factor = f"{min(theirs) / ours:.0f}×" if theirs and ours else "–"
        cells = " | ".join(_cell(by.get(s)) for s in shown)
        lines.append(f"| {case} | {next(iter(by.values()))['unknowns']:,} | {cells} | {factor} |")
    return "\n".join(lines) + "\n"


def _cell(row: Record | None) -> str:
    if row is None or row["skipped"]:
        return "–"
    text = f"{row['seconds']:.2f} s ({row['iterations']})"
    return text if row["result"] == "converged" else f"{text} {row['result']}"


def draw_times(record: Record, path: Path) -> None:
    """Seconds with set-up against unknowns, a panel a case."""
    rows = [r for r in record["rows"] if not r["skipped"] and r["rtol"] == record["rows"][0]["rtol"]]
    cases = list(dict.fromkeys(r["case"] for r in rows))
    figure, panels = _panels(len(cases))
    for panel, case in zip(panels, cases, strict=False):
        for index, solver in enumerate(dict.fromkeys(r["solver"] for r in rows)):
            points = [(r["unknowns"], r["seconds"]) for r in rows if r["case"] == case and r["solver"] == solver]
            if points:
                style = {"color": f"C{index % 10}", "linestyle": "-" if index < 10 else "--"}
                panel.loglog(*zip(*points, strict=True), marker="o", ms=3, label=solver, **style)
        panel.set(title=case, xlabel="unknowns", ylabel="set-up + solve, s")
    _finish(figure, panels, len(cases), path)


def draw_convergence(record: Record, path: Path) -> None:
    """Relative residual against iterations at the largest size that all the pictured solvers ran, a panel a case."""
    rows = [r for r in record["rows"] if not r["skipped"] and r["solver"] in PICTURED]
    cases = list(dict.fromkeys(r["case"] for r in rows))
    figure, panels = _panels(len(cases))
    for panel, case in zip(panels, cases, strict=False):
        here = [r for r in rows if r["case"] == case]
        count = len({r["solver"] for r in here})
        size = max(n for n in {r["size"] for r in here} if len({r["solver"] for r in here if r["size"] == n}) == count)
        for row in here:
            if row["size"] == size:
                panel.semilogy([v / row["residuals"][0] for v in row["residuals"]], label=row["solver"])
        panel.set(title=f"{case} {size}³", xlabel="iterations", ylabel="‖r‖ / ‖r₀‖")
        panel.set_xscale("symlog", linthresh=10)
    _finish(figure, panels, len(cases), path)


def _panels(count: int) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(count, 4)
    lines = -(-count // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(3.6 * columns, 3.1 * lines), squeeze=False)
    return figure, list(axes.flat)


def _finish(figure: Any, panels: list[Any], used: int, path: Path) -> None:
    for panel in panels[:used]:
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    spare = panels[used:]
    for panel in spare:
        panel.axis("off")
    (spare[0] if spare else panels[0]).legend(handles, labels, fontsize=8, loc="center" if spare else "best")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _median(values: list[float]) -> float:
    ordered, n = sorted(values), len(values)
    return ordered[n // 2] if n % 2 else 0.5 * (ordered[n // 2 - 1] + ordered[n // 2])
