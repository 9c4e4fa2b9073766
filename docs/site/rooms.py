"""The picture of the rooms in docs/architecture.md, drawn from the imports in the source.

    python docs/site/rooms.py              # draw docs/rooms.png
    python docs/site/rooms.py --imports    # print who imports whom, with the number of modules that do

A room is a package of `relaxon`, or one inside `relaxon.server`. Imports within functions count; imports for type
checking alone do not. An arrow that follows from others, to a room that is reached through a third one, is left out so
that the picture can be read.
"""

from __future__ import annotations

import argparse
import ast
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "relaxon"
PLACES = {
    "core": (4.0, 0.0),
    "proto": (1.6, 0.0),
    "implicit": (6.7, 0.0),
    "wire": (2.3, 1.0),
    "solvers": (5.6, 1.0),
    "neuromorphic": (6.7, 2.0),
    "client": (0.9, 2.0),
    "server.config": (4.6, 2.0),
    "server.gate": (3.9, 3.0),
    "server.solving": (2.9, 4.0),
    "server.jobs": (4.9, 4.0),
    "server.training": (4.9, 5.0),
    "server.watching": (3.9, 6.0),
    "server.app": (3.9, 7.0),
    "cli": (0.9, 8.0),
}
"""Where each room stands: from left to right, and its floor."""

WORDS = {
    "core": "results, options,\nvalidation, errors",
    "proto": "messages and stubs",
    "implicit": "derivatives of equilibria",
    "wire": "tensors, chunks,\nshared memory",
    "solvers": "grids, matrices, Krylov,\nmultigrid, kernels",
    "neuromorphic": "boosting, energy,\nequilibrium, ...",
    "client": "blocking and asyncio",
    "server.config": "settings, threads",
    "server.gate": "who calls, what is let in",
    "server.solving": "sessions, solves, steps",
    "server.jobs": "jobs, models, workers",
    "server.training": "engines, training service",
    "server.watching": "status, metrics, logs",
    "server.app": "the server, assembled",
    "cli": "the command",
}


def find_room(module: str) -> str | None:
    """Return the room of a dotted module name; None for what belongs to no room."""
    parts = module.split(".")
    if parts[0] != "relaxon" or len(parts) < 2 or parts[1] in ("__init__", "__main__", "_version", "aio", "connect"):
        return None
    if parts[1] == "server":
        inner = parts[2] if len(parts) > 2 else "app"
        return f"server.{inner}" if f"server.{inner}" in PLACES else "server.app"
    return parts[1]


def list_imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names that a module imports, without those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        else:
            yield from list_imports(node)


def count_imports() -> Counter[tuple[str, str]]:
    """Return, for each pair of rooms, how many modules of the first import from the second."""
    found: Counter[tuple[str, str]] = Counter()
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for file in files:
            path = Path(folder, file)
            if path.suffix != ".py" or "_pb2" in file:
                continue
            module = ".".join(("relaxon", *path.relative_to(PACKAGE).with_suffix("").parts))
            room = find_room(module)
            names = set(map(find_room, list_imports(ast.parse(path.read_text(encoding="utf-8")))))
            found.update((room, other) for other in names if room and other and room != other)
    return found


def drop_implied(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the edges that do not follow from a path of others."""
    ahead = defaultdict(set)
    for start, end in edges:
        ahead[start].add(end)

    def reaches(start: str, end: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(
            step == end or (step not in seen and reaches(step, end, seen | {step})) for step in ahead[start] - seen
        )

    return {
        (start, end)
        for start, end in edges
        if not any(reaches(step, end, frozenset({start})) for step in ahead[start] - {end})
    }


def draw(edges: set[tuple[str, str]], path: Path) -> None:
    """Draw the rooms and the arrows among them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import FancyBboxPatch

    width, height = 1.36, 0.5
    figure, axes = pyplot.subplots(figsize=(8.2, 8.0), layout="constrained")
    axes.add_patch(
        FancyBboxPatch((2.1, 1.66), 3.6, 5.72, boxstyle="round,pad=0.02", facecolor="#f3f6f9", edgecolor="#9fb3c4")
    )
    axes.text(2.2, 7.22, "server", color="#5b7388", fontsize=12, style="italic", va="center")
    for start, end in sorted(edges):
        (x0, y0), (x1, y1) = PLACES[start], PLACES[end]
        beside = 0.5 * width * (1 if x1 > x0 else -1)
        axes.annotate(
            "",
            xy=(x1, y1 + height / 2) if y0 > y1 else (x1 - beside, y1),
            xytext=(x0, y0 - height / 2) if y0 > y1 else (x0 + beside, y0),
            arrowprops={"arrowstyle": "-|>", "color": "#6a7f91", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0},
        )
    for room, (x, y) in PLACES.items():
        colour = "#dcebf7" if room.startswith("server.") else "#fff4dc"
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                boxstyle="round,pad=0.0,rounding_size=0.06",
                facecolor=colour,
                edgecolor="#3d5366",
            )
        )
        axes.text(x, y + 0.13, room.removeprefix("server."), ha="center", va="center", fontsize=11, weight="bold")
        axes.text(x, y - 0.09, WORDS[room], ha="center", va="center", fontsize=7.5, color="#333333")
    axes.set(xlim=(0.1, 7.5), ylim=(-0.4, 8.4))
    axes.set_axis_off()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    """Draw the picture, or print what it is drawn from."""
    parser = argparse.ArgumentParser(description="Draw the rooms of the package and the imports among them.")
    parser.add_argument("--imports", action="store_true", help="print the imports and draw nothing")
    options = parser.parse_args()
    counts = count_imports()
    if options.imports:
        for (start, end), count in sorted(counts.items()):
            print(f"{start:16} -> {end:16} {count}")
        return
    draw(drop_implied(set(counts)), ROOT / "docs" / "rooms.png")


if __name__ == "__main__":
    main()
