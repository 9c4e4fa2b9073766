"""What `bench/sparse.py` says of its rows: ratios, bytes, the table of docs/sparse.md and a performance profile.

Source of the profile: E. D. Dolan, J. J. Moré, "Benchmarking optimization software with performance profiles", Math.
Program. 91 (2002).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measuring.sparse.race import GROUPS, RTOL
from measuring.tables import markdown_table

Row = dict[str, Any]
MOST = 20.0
"""Times the best, up to which a profile is drawn."""


def marks_of(large: bool) -> tuple[str, str]:
    """The lines of docs/sparse.md between which stands what `--docs` writes, or `--large --docs`."""
    of = ", large" if large else ""
    return f"<!-- bench/sparse.py{of}: begin -->", f"<!-- bench/sparse.py{of}: end -->"


def median(runs: list[dict[str, Any]]) -> float:
    """Seconds; infinite where the tolerance was not met, or nothing ran."""
    if not runs or any(run["cut"] for run in runs):
        return math.inf
    return statistics.median(run["seconds"] for run in runs)


def seconds(row: Row, name: str) -> float:
    """Seconds of a contestant, or of a group's best option, on a row's matrix."""
    return min((median(row["runs"].get(option, [])) for option in GROUPS.get(name, (name,))), default=math.inf)


def best_option(row: Row, group: str) -> str:
    """The option with which a group was fastest, else one that ran."""
    ran = [option for option in GROUPS.get(group, (group,)) if row["runs"].get(option)]
    return min(ran, key=lambda option: median(row["runs"][option]), default="")


def groups_of(rows: list[Row]) -> list[str]:
    """The peers that ran."""
    return [group for group in GROUPS if any(best_option(row, group) for row in rows)]


def wrong(row: Row) -> list[str]:
    """Who said `CONVERGED` of what was not."""
    return [
        name
        for name, runs in row["runs"].items()
        for run in runs
        if run.get("says") == "converged" and max(run["residual"], run["scaled"]) > RTOL * 1.001
    ]


def shown(row: Row, name: str) -> str:
    """Seconds and iterations of a contestant or of a group's best option, or why there are none."""
    option = best_option(row, name)
    if not option:
        return "-"
    last, prefix = row["runs"][option][-1], option.removeprefix(name).strip()
    prefix = f"{prefix} " if prefix else ""
    if last["cut"]:
        return f"{prefix}{last['cut']}"
    return f"{prefix}{median(row['runs'][option]):.3f} ({last['iterations']})"


def bytes_an_entry(row: Row, name: str, which: str) -> float:
    """The most bytes beside the matrix of a contestant's runs, for each entry; NaN where they were not measured."""
    runs = row["runs"].get(best_option(row, name), [])
    found = [run[which] for run in runs if which in run]
    return max(found) / row["entries"] if found else math.nan


def ratio(row: Row, peer: str, own: str) -> float:
    """How many times the peer's seconds are our own; infinite where only it failed, NaN where both did."""
    theirs, ours = seconds(row, peer), seconds(row, own)
    return math.nan if ours == theirs == math.inf else theirs / ours


def best_of_all(row: Row, peers: Iterable[str]) -> str:
    """The peer that was fastest on a row's matrix."""
    return min(peers, key=lambda peer: seconds(row, peer))


def comparison(rows: list[Row], own: str, peer: str) -> str:
    """The geometric mean and the least ratio over the matrices on which both met the tolerance, in a sentence."""
    ratios = {row["family"]: ratio(row, peer, own) for row in rows if best_option(row, peer)}
    both = {family: value for family, value in ratios.items() if 0 < value < math.inf}
    alone = [family for family, value in ratios.items() if value == math.inf]
    failed = [family for family, value in ratios.items() if value == 0]
    neither = [family for family, value in ratios.items() if math.isnan(value)]
    text = f"{own} against {peer}: "
    if both:
        mean = math.exp(statistics.fmean(math.log(value) for value in both.values()))
        least = min(both, key=lambda family: both[family])
        text += f"{mean:.1f} times as fast in the geometric mean of {len(both)}, at least {both[least]:.2f} ({least})"
    else:
        text += "nothing to compare"
    for families, what in ((alone, f"{peer} failed on"), (failed, f"{own} failed on"), (neither, "both failed on")):
        text += f"; {what} {', '.join(families)}" if families else ""
    return text


def against_the_best(rows: list[Row], own: str) -> str:
    """The worst ratio to the fastest of all peers on each matrix."""
    peers = groups_of(rows)
    if not peers:
        return f"{own}: no peer ran"
    ratios = {row["family"]: ratio(row, best_of_all(row, peers), own) for row in rows}
    both = {family: value for family, value in ratios.items() if 0 < value < math.inf}
    if not both:
        return f"{own} against the best of all: nothing to compare"
    mean = math.exp(statistics.fmean(math.log(value) for value in both.values()))
    least = min(both, key=lambda family: both[family])
    row = next(row for row in rows if row["family"] == least)
    return (
        f"{own} against the best of all peers on each matrix: {mean:.1f} times as fast in the geometric mean of "
        f"{len(both)}, at least {both[least]:.2f} ({least}, {best_of_all(row, peers)})"
    )


def memory(rows: list[Row], name: str) -> str:
    """The median and the most bytes an entry, kept and at the peak."""
    parts = []
    for which, what in (("kept_bytes", "kept"), ("peak_bytes", "at the peak")):
        values = [value for row in rows if not math.isnan(value := bytes_an_entry(row, name, which))]
        if values:
            parts.append(f"{statistics.median(values):.0f} (at most {max(values):.0f}) {what}")
    return f"{name}: bytes an entry beside the caller's matrix: {', '.join(parts) or 'not measured'}"


def sentences(rows: list[Row], solvers: list[str]) -> list[str]:
    """All of what is compared."""
    peers = groups_of(rows)
    found = [comparison(rows, own, peer) for own in solvers for peer in peers]
    found += [against_the_best(rows, own) for own in solvers]
    return found + [memory(rows, name) for name in (*solvers, *peers)]


def columns(solvers: list[str], peers: list[str]) -> list[str]:
    """The heads of the table."""
    return [
        "family", "n", "entries a row", *(f"{name}, s (iterations)" for name in (*solvers, *peers)),
        "against PyAMG", "against the best",
    ]  # fmt: skip


def cells(row: Row, solvers: list[str], peers: list[str]) -> list[str]:
    """A row of the table."""
    best = best_of_all(row, peers) if peers else ""
    ratios = [
        ratio(row, peer, solvers[0]) if peer else math.nan for peer in ("pyamg" if "pyamg" in peers else "", best)
    ]
    return [
        row["family"],
        f"{row['unknowns']:,}",
        f"{row['entries'] / row['unknowns']:.1f}",
        *(shown(row, name) for name in (*solvers, *peers)),
        *("-" if math.isnan(value) else "alone" if value == math.inf else f"{value:.2f}" for value in ratios),
    ]


def markdown(rows: list[Row], solvers: list[str], how: str) -> str:
    """The table of docs/sparse.md, with how it was measured before and the sentences after it."""
    peers = groups_of(rows)
    lines = [how, "", markdown_table(columns(solvers, peers), [cells(row, solvers, peers) for row in rows])]
    lines += [*(f"- {sentence}." for sentence in sentences(rows, solvers))]
    return "\n".join(lines)


def write_docs(page: Path, text: str, marks: tuple[str, str]) -> None:
    """Put the table between its two lines of a page."""
    first, last = marks
    before, begin, rest = page.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page} must have the lines {first} and {last}")
    page.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}", encoding="utf-8")


def profile(rows: list[Row], names: list[str]) -> dict[str, tuple[list[float], list[float]]]:
    """For each contestant, factors τ and the part of the matrices on which it took at most τ times the best's time."""
    best = [min(seconds(row, name) for name in names) for row in rows]
    found = {}
    for name in names:
        factors = sorted(
            seconds(row, name) / least for row, least in zip(rows, best, strict=True) if seconds(row, name) < math.inf
        )
        found[name] = (factors, [(count + 1) / len(rows) for count in range(len(factors))])
    return found


def plot(rows: list[Row], solvers: list[str], path: Path) -> None:
    """Draw the performance profile."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 4.2), dpi=110, layout="constrained")
    for name, (factors, parts) in profile(rows, [*solvers, *groups_of(rows)]).items():
        own = name in solvers
        seen = [(1.0, 0.0), *(pair for pair in zip(factors, parts, strict=True) if pair[0] <= MOST)]
        axes.step(
            [*(factor for factor, _ in seen), MOST], [*(part for _, part in seen), seen[-1][1]], where="post",
            label=f"relaxon {name}" if own else name, linewidth=2.6 if own else 1.4, linestyle="-" if own else "--",
        )  # fmt: skip
    axes.set(
        xscale="log", xlim=(1.0, MOST), ylim=(0.0, 1.02), xlabel="time, in units of the fastest on each matrix",
        ylabel=f"part of {len(rows)} matrices solved",
    )  # fmt: skip
    axes.set_xticks([1, 2, 3, 5, 10, 20], ["1", "2", "3", "5", "10", "20"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path)
    plt.close(figure)
