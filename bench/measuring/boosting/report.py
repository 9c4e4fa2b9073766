"""What `bench/boosting.py` measured as tables and pictures, from its JSON alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from measuring.boosting.ridge import means
from measuring.boosting.ridge import verdicts as ridge_verdicts
from measuring.tables import terminal_table

Record = dict[str, Any]
OURS, PUBLISHED = "boosted network", "as published"
LEVEL = 0.05


def models_of(record: Record) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in record["contest"]))


def summary(record: Record) -> list[Record]:
    """For each set: mean error and standard error of each model over the folds that all models have run."""
    models, out = models_of(record), []
    for name in dict.fromkeys(row["set"] for row in record["contest"]):
        rows = [row for row in record["contest"] if row["set"] == name]
        folds = set.intersection(*({r["fold"] for r in rows if r["model"] == model} for model in models))
        if not folds:
            continue
        found: Record = {"set": name, "task": rows[0]["task"], "folds": len(folds), "errors": {}, "standard_errors": {}}
        for model in models:
            own = sorted((r["fold"], r["error"]) for r in rows if r["model"] == model and r["fold"] in folds)
            errors = [value for _, value in own]
            found["errors"][model] = statistics.mean(errors)
            spread = statistics.stdev(errors) if len(errors) > 1 else 0.0
            found["standard_errors"][model] = spread / len(errors) ** 0.5
        out.append(found)
    return out


def ranks(rows: list[Record], models: list[str]) -> Record:
    """Mean ranks, Friedman's test, and Nemenyi's critical difference (Demšar 2006)."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    errors = np.array([[row["errors"][model] for model in models] for row in rows])
    ranked = np.array([rankdata(row) for row in errors])
    k, n = len(models), len(rows)
    critical = float(studentized_range.ppf(1.0 - LEVEL, k, np.inf) / np.sqrt(2.0) * np.sqrt(k * (k + 1) / (6.0 * n)))
    found = float(friedmanchisquare(*errors.T).pvalue) if k > 2 and n > 1 else math.nan
    p = found if math.isfinite(found) else None
    return {
        "mean": dict(zip(models, ranked.mean(axis=0).tolist(), strict=True)),
        "critical": critical,
        "p": p,
        "sets": n,
    }


def verdicts(record: Record) -> list[str]:
    """The project's goals against what was measured, a sentence each, losses as plainly as wins."""
    out = []
    if record.get("speed"):
        speed = record["speed"]
        medians = speed["medians"]
        out.append(
            f"Training {speed['rows']:,} × {speed['columns']}, {speed['units']} units: plain {medians['plain']:.2f} s, "
            f"the same algorithm compiled {medians['compiled']:.2f} s, {medians['plain'] / medians['compiled']:.1f} "
            f"times as fast; guarded {medians['guarded']:.2f} s, {medians['plain'] / medians['guarded']:.1f} times."
        )
        equal = [row for row in speed["rounds"] if row["equal_loss"]]
        if len(equal) == len(speed["rounds"]):
            ratio = statistics.median(row["plain"] / row["equal_loss"] for row in equal)
            out.append(f"To the plain loop's lowest loss the guarded default is {ratio:.0f} times as fast (goal 10).")
        else:
            out.append(
                f"The guarded default reached the plain loop's loss in {len(equal)} of {len(speed['rounds'])} rounds."
            )
    if record.get("prediction"):
        for row in record["prediction"]["by_rows"]:
            out.append(
                f"Predicting {row['rows']:,} rows: merged {row['merged'] * 1e3:.3f} ms"
                + (f", in single precision {row['single'] * 1e3:.3f} ms" if "single" in row else "")
                + "; staged in NumPy "
                f"{row['staged'] * 1e3:.3f} ms, {row['staged'] / row['merged']:.1f} times; as one estimator a stage "
                f"{row['estimators'] * 1e3:.1f} ms, {row['estimators'] / row['merged']:.1f} times (goal 20)."
            )
    if record.get("truncation"):
        few = [row["set"] for row in record["truncation"] if row["loss"] < 0.02]
        out.append(
            f"The last half of the units dropped costs under 2 % on {len(few)} of {len(record['truncation'])} sets: "
            + ", ".join(f"{row['set']} {row['loss']:+.1%}" for row in record["truncation"])
            + "."
        )
        for key, how in (
            ("compressed_loss", "chosen to give"),
            ("refined_loss", "chosen and then fitted to give"),
            ("noisy_loss", "chosen and then fitted, on noisy copies of the rows too, to give"),
        ):
            chosen = [row for row in record["truncation"] if key in row]
            if chosen:
                few = [row["set"] for row in chosen if row[key] < 0.02]
                out.append(
                    f"Half of the units, {how} the same outputs, cost under 2 % on {len(few)} of {len(chosen)}: "
                    + ", ".join(f"{row['set']} {row[key]:+.1%}" for row in chosen)
                )
        shares = {row["set"]: _accuracy_lost(row) for row in record["truncation"]}
        least = [name for name, lost in shares.items() if lost < 0.02]
        out.append(
            f"Counted in accuracy where there are classes, on {len(least)} of {len(shares)}: "
            + ", ".join(f"{name} {lost:+.1%}" for name, lost in shares.items())
            + "."
        )
    if record.get("ridge"):
        out += ridge_verdicts(record["ridge"])
    for row in record.get("single", []):
        out.append(
            f"{row['set']} with {row['options']}: {row['error']:.4g} ± {row['spread']:.2g} over {row['folds']} folds."
        )
    rows = summary(record) if record.get("contest") else []
    if rows and {OURS, PUBLISHED} <= set(models_of(record)):
        worse = [
            row["set"]
            for row in rows
            if row["errors"][OURS] > row["errors"][PUBLISHED] + row["standard_errors"][PUBLISHED]
        ]
        out.append(
            f"No worse than the published algorithm within one standard error on {len(rows) - len(worse)} of "
            f"{len(rows)} sets{'; worse on ' + ', '.join(worse) if worse else ''}."
        )
        best = {row["set"]: min(row["errors"], key=row["errors"].get) for row in rows}
        beaten = [f"{name} ({model})" for name, model in best.items() if model != OURS]
        out.append(
            f"Best of all on {len(rows) - len(beaten)} of {len(rows)} sets; beaten on {', '.join(beaten) or 'none'}."
        )
    return out


def _accuracy_lost(row: Record) -> float:
    """What the half loses of the whole network's accuracy; of the error, where there are no classes."""
    if row["task"] == "regression":
        return float(row["loss"])
    return float((row["half"] - row["whole"]) / (1.0 - row["whole"]))


def table(record: Record) -> Iterator[Table]:
    """Errors, times, and J and η."""
    rows = summary(record) if record.get("contest") else []
    if rows:
        models = models_of(record)
        lines: list[list[Any]] = []
        for row in rows:
            best = min(row["errors"].values())
            lines.append([row["set"], *[_cell(row, model, best) for model in models]])
        ranked = ranks(rows, models) if len(models) > 1 else None
        if ranked:
            lines.append(["mean rank", *[f"{ranked['mean'][model]:.2f}" for model in models]])
        for key in ("train_seconds", "predict_seconds"):
            medians = [statistics.median(r[key] for r in record["contest"] if r["model"] == m) for m in models]
            lines.append([f"median {key.partition('_')[0]} ms", *[f"{1e3 * value:.3g}" for value in medians]])
        caption = None
        if ranked:
            test = f", Friedman's test p = {ranked['p']:.1g}" if ranked["p"] is not None else ""
            caption = f"critical difference of mean ranks {ranked['critical']:.2f} ({ranked['sets']} sets){test}"
        title = "error rate, or RMSE: mean over folds ± standard error"
        yield terminal_table(["set", *models], lines, title, caption)
    if record.get("ridge"):
        headings = ["set", *dict.fromkeys(f"{row['ridge']:g}" for row in record["ridge"])]
        lines = []
        for name, by_ridge in means(record["ridge"]).items():
            cells = [f"{one['loss']:.3f} | {one['error']:.4g} | {one['units']:.0f}" for one in by_ridge.values()]
            lines.append([name, *cells])
        yield terminal_table(headings, lines, "held-out loss | error | units by ridge, means over folds")
    for name in dict.fromkeys(row["set"] for row in record.get("ablation", [])):
        own = [row for row in record["ablation"] if row["set"] == name]
        rates = sorted({row["rate"] for row in own})
        lines = []
        for J in sorted({row["J"] for row in own}):
            cells = []
            for rate in rates:
                pair = [r["error"] for r in own if (r["J"], r["rate"]) == (J, rate)]
                cells.append(" | ".join(f"{value:.4g}" for value in pair))
            lines.append([J, *cells])
        headings = ["J", *(f"η = {rate:g}" for rate in rates)]
        yield terminal_table(headings, lines, f"{name}: error by J and η, guarded | as published")


def _cell(row: Record, model: str, best: float) -> Text:
    value, spread = row["errors"][model], row["standard_errors"][model]
    digits = ".4f" if value < 1 else ".4g"
    text = f"{value:{digits}} ± {spread:.2g}"
    return Text(text, style="bold" if value == best else "")


def draw(record: Record, folder: Path) -> list[Path]:
    """One picture: critical differences, truncation curves, J and η."""
    from matplotlib.figure import Figure

    rows = summary(record) if record.get("contest") else []
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.5))
    if rows and len(models_of(record)) > 1:
        critical_difference(figure.add_subplot(grid[0, :]), ranks(rows, models_of(record)))
    axes = figure.add_subplot(grid[1, 0])
    for row in record.get("truncation", []):
        curve = np.array(row["curve"]) / row["whole"]
        axes.plot(np.arange(1, len(curve) + 1), curve, label=row["set"])
    axes.axhline(1.02, color="0.6", linestyle=":", label="2 % above the whole network")
    axes.set(
        xlabel="units kept", ylabel="test error / whole network's", ylim=(0.9, 1.6), title="Networks cut at each stage"
    )
    axes.legend(fontsize=8)
    axes = figure.add_subplot(grid[1, 1])
    _ablation(axes, record.get("ablation", []))
    path = folder / "boosting.png"
    figure.savefig(path, dpi=110)
    return [path]


def critical_difference(axes: Any, ranked: Record) -> None:
    """Demšar's diagram: mean ranks on a line, a bar over models that do not differ significantly."""
    order = sorted(ranked["mean"].items(), key=lambda item: item[1])
    k = len(order)
    axes.set(xlim=(0.6, k + 0.4), ylim=(-(k // 2) - 1.6, 1.4), yticks=[])
    axes.xaxis.tick_top()
    axes.set_title(
        f"Mean rank over {ranked['sets']} sets (1 is best); bars join what {ranked['critical']:.2f} does not part"
    )
    for side in ("left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    for place, (name, rank) in enumerate(order):
        left = place < (k + 1) // 2
        level = -1.1 - (place if left else k - 1 - place) * 0.8
        edge = 0.65 if left else k + 0.35
        axes.plot([rank, rank, edge], [1.4, level, level], color="0.3", linewidth=1)
        axes.text(edge, level + 0.08, f"{name} {rank:.2f}", ha="left" if left else "right", va="bottom", fontsize=9)
    height, reached = 0.9, -1
    for start in range(k):
        end = max(i for i in range(start, k) if order[i][1] - order[start][1] <= ranked["critical"])
        if end > start and end > reached:
            axes.plot([order[start][1] - 0.03, order[end][1] + 0.03], [height, height], color="tab:blue", linewidth=4)
            height, reached = height - 0.45, end


def _ablation(axes: Any, rows: list[Record]) -> None:
    if not rows:
        axes.set_axis_off()
        return
    name = rows[0]["set"]
    colours = {1: "tab:blue", 2: "tab:orange", 4: "tab:green", 8: "tab:red"}
    for newton, style in (("guarded", "-"), ("published", ":")):
        for J in sorted({row["J"] for row in rows}):
            own = sorted((r["rate"], r["error"]) for r in rows if (r["set"], r["newton"], r["J"]) == (name, newton, J))
            axes.plot(*zip(*own, strict=True), style, marker="o", color=colours.get(J), label=f"J = {J}, {newton}")
    axes.set(xlabel="learning rate η", ylabel="test error", xscale="log", title=f"{name}: J and η")
    axes.set_yscale("log")
    axes.legend(fontsize=7, ncols=2)
