"""What `bench/convex.py` measured as tables and a picture, from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from measuring.boosting import report as boosting_report
from measuring.tables import terminal_table

Record = dict[str, Any]
FASTER, AGREES, LARGEST_GAP = 5.0, 1e-4, 1e-4
"""What must be reached."""


def line(part: str, row: Record) -> str:
    """Return a measurement in a line."""
    if part == "race":
        rivals = ", ".join(f"{name_of(r)} {told(r)}" for r in row["cvxpy"])
        return f"{row['name']}: ours {row['ours']['seconds']:.3f} s; {rivals or 'CVXPY is not installed'}"
    if part == "gap":
        plain = row["refinements 0"]
        return f"{row['name']}: relative gap {plain['relative_gap']:.1e} in {plain['seconds']:.2f} s"
    if part == "rate":
        return f"{row['name']}: residuals fall by a factor of {row['factor']:.4f} an iteration"
    return f"{row['name']}: error {row['error']:.4g}, {row['train_seconds']:.2f} s"


def name_of(rival: Record) -> str:
    """Return a solver's name, marked where its tolerances are loose."""
    return rival["solver"] + (" (loose)" if rival["options"] else "")


def told(rival: Record) -> str:
    """Return a solver's CPU seconds, or why there are none; what did not come near enough is marked."""
    if "seconds" in rival:
        return f"{rival['seconds']:.2f} s" + ("" if rival["within"] else f" ({rival['status']}, too far off)")
    return rival.get("cut") or ("failed" if "failed" in rival else "not installed")


def fastest(row: Record) -> Record | None:
    """Return the fastest run of a solver that came near enough to the optimum."""
    near = [rival for rival in row["cvxpy"] if rival.get("within")]
    return min(near, key=lambda rival: rival["seconds"]) if near else None


def agreement(row: Record) -> float | None:
    """Return the relative distance to the optimum of the most exact rival's objective."""
    values = [rival["claimed"] for rival in row["cvxpy"] if rival.get("status") == "optimal" and not rival["options"]]
    return min(abs(value / row["optimum"][1] - 1.0) for value in values) if values else None


def tables(record: Record) -> Iterator[Table]:
    """Yield a table for each part that was measured."""
    if record.get("race"):
        headings = ("program", "rows", "relaxon", "solver of CVXPY", "seconds", "times faster", "agrees to")
        lines: list[list[str]] = []
        for row in record["race"]:
            best, near = fastest(row), agreement(row)
            ours = row["ours"]["seconds"]
            cells = [row["name"], str(row["rows"]), f"{ours:.3f}"]
            for rival in row["cvxpy"]:
                times = f"{rival['seconds'] / ours:.0f}{' *' if rival is best else ''}" if rival.get("within") else ""
                lines.append([*cells, name_of(rival), told(rival), times, "" if near is None else f"{near:.1e}"])
                cells, near = [""] * 3, None
            if not row["cvxpy"]:
                lines.append([*cells, "CVXPY is not installed", "", "", ""])
        yield terminal_table(headings, lines, "CPU seconds to 1e-3 of the optimum")
    if record.get("gap"):
        headings = ("set", "rows", "gap", "seconds", "primal", "violating", "refined: gap", "primal", "violating")
        lines = []
        for row in record["gap"]:
            cells = [row["name"], str(row["rows"])]
            plain, refined = row["refinements 0"], row["refinements 3"]
            cells += [f"{plain['relative_gap']:.1e}", f"{plain['seconds']:.2f}", f"{plain['primal']:.5f}"]
            cells += [f"{plain['violating']:.0%} ({plain['violation']:.2f} β)", f"{refined['relative_gap']:.1e}"]
            cells += [f"{refined['primal']:.5f}", f"{refined['violating']:.0%} ({refined['violation']:.2f} β)"]
            lines.append(cells)
        yield terminal_table(headings, lines, "relative duality gap, 150 patterns, β = 0.01")
    if record.get("contest"):
        yield contest_table(record)


def contest_table(record: Record) -> Table:
    """Return the errors of each model on each set, the best marked, and the mean ranks."""
    rows, models = boosting_report.summary(record), boosting_report.models_of(record)
    lines: list[list[Any]] = []
    caption = None
    for row in rows:
        errors = row["errors"]
        least = min(errors.values())
        cells = [f"{errors[model]:.4g}{' *' if errors[model] == least else ''}" for model in models]
        lines.append([row["set"], row["folds"], *cells])
    if rows:
        found = boosting_report.ranks(rows, models)
        ranks = found["mean"]
        lines.append(["mean rank", "", *(f"{ranks[model]:.2f}" for model in models)])
        spent = [cpu_seconds(record, model) for model in models]
        lines.append(["mean CPU s", "", *("" if value is None else f"{value:.1f}" for value in spent)])
        caption = f"{len(rows)} sets, critical difference of mean ranks {found['critical']:.2f}"
    return terminal_table(["set", "folds", *models], lines, "error rate or RMSE, mean over folds", caption)


def cpu_seconds(record: Record, model: str) -> float | None:
    """Return the mean CPU seconds of choosing among four configurations and training the one chosen."""
    own = [row for row in record["contest"] if row["model"] == model and "choice_cpu_seconds" in row]
    return float(np.mean([row["choice_cpu_seconds"] + row["train_cpu_seconds"] for row in own])) if own else None


def verdicts(record: Record, console: Console) -> bool:
    """Say whether each requirement is met; return whether one is not."""
    said: list[tuple[bool, str]] = []
    for row in record.get("race", []):
        best, near = fastest(row), agreement(row)
        ours, limit = row["ours"]["seconds"], row.get("limit")
        if best is not None:
            times = best["seconds"] / ours
            said.append((times >= FASTER, f"{row['name']}: {times:.0f} times faster than {best['solver']}"))
        elif any("cut" in rival for rival in row["cvxpy"]):
            times = limit / ours
            said.append((times >= FASTER, f"{row['name']}: more than {times:.0f} times faster, all solvers cut"))
        else:
            console.print(f"{row['name']}: no solver of CVXPY to compare with", markup=False)
            continue
        if near is not None:
            said.append((near <= AGREES, f"{row['name']}: agrees with CVXPY to {near:.1e}"))
    for row in record.get("gap", []):
        for rounds in (0, 3):
            found = row[f"refinements {rounds}"]["relative_gap"]
            said.append((found <= LARGEST_GAP, f"{row['name']}, refinements {rounds}: relative gap {found:.1e}"))
    for met, text in said:
        console.print(f"{'met' if met else 'NOT MET'}: {text}", markup=False, highlight=False)
    return not all(met for met, _ in said)


def draw(record: Record, folder: Path) -> Path:
    """Write `convex.png`: the rate, the race, the contest's ranks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    rate, race, ranks = figure.subplots(1, 3)
    for row in record.get("rate", [])[:1]:
        steps = np.array(row["iteration"])
        rate.semilogy(steps, np.maximum(row["gap"], 1e-15), label="relative gap")
        rate.semilogy(steps, np.maximum(row["primal_residual"], 1e-15), label="primal residual", lw=0.8)
        rate.semilogy(steps, np.maximum(row["dual_residual"], 1e-15), label="dual residual", lw=0.8)
        published = np.maximum(row["published_error"], 1e-15)
        rate.semilogy(np.arange(1, len(published) + 1), published, "k:", lw=0.8, label="published ADMM: objective")
        rate.set(xlabel="iteration", title=row["name"])
        rate.legend(fontsize=7)
    rows = record.get("race", [])
    names, seconds = [], []
    for row in rows:
        names.append(f"{row['name']}: relaxon")
        seconds.append(row["ours"]["seconds"])
        for rival in row["cvxpy"]:
            if rival.get("within"):
                names.append(name_of(rival))
                seconds.append(rival["seconds"])
            elif "cut" in rival:
                names.append(f"{name_of(rival)}, cut")
                seconds.append(row["limit"])
    colours = ["C0" if "relaxon" in name else "0.6" for name in names]
    race.barh(range(len(names)), seconds, color=colours, tick_label=names)
    race.set_xscale("log")
    race.invert_yaxis()
    race.tick_params(axis="y", labelsize=6)
    race.set(xlabel="CPU seconds", title="to 1e-3 of the optimum")
    found = boosting_report.summary(record) if record.get("contest") else []
    if found:
        models = boosting_report.models_of(record)
        mean = boosting_report.ranks(found, models)["mean"]
        ranks.barh(
            list(mean), list(mean.values()), color=["C0" if name == "convex network" else "0.6" for name in mean]
        )
        ranks.set(xlabel="mean rank", title=f"{len(found)} sets")
        ranks.tick_params(axis="y", labelsize=7)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "convex.png"
    figure.savefig(path, dpi=100)
    return path
