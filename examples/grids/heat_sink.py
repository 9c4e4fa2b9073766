"""A fin and a finned heat sink that lose heat to the air, compared with the theory of fins.

    python heat_sink.py [CELLS_PER_THICKNESS] [PICTURE.png]

A fin that is held at 1 at its foot and loses heat at its long sides, `κ ∂T/∂n + h T = 0`, is a grid with two `Robin(h)`
sides. Its efficiency is the heat it gives divided by the heat it would give if it were as hot as its foot everywhere.
It is compared with the exact series, and with the one-dimensional theory `tanh(mL)/(mL)`, `m² = 2h/(κt)` (Incropera and
DeWitt, "Fundamentals of Heat and Mass Transfer", chapter 3), which neglects differences across the fin and is accurate
for Biot numbers `ht/(2κ)` near 0. A sink with several fins follows, heated from below. Inside the domain the air
consists of cells of type AIR, and the face coefficients put the film in series with half a metal cell.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import CellType, PoissonGrid, Robin, boundary_source, solve

Array = NDArray[np.float64]
LENGTH = 6.0
"""Length of a fin, in thicknesses; κ is 1."""
BIOTS = (0.01, 0.1, 1.0)
FINS, GAP, BASE = 5, 2, 2
"""Number of fins of the sink, and the air between them and the base below them, in thicknesses."""


def exact_efficiency(biot: float, terms: int = 60) -> float:
    """Return the efficiency by the series over `βₙ tan(βₙ/2) = h`, for a fin of thickness 1 with an insulated tip."""
    h, total = 2 * biot, 0.0
    for n in range(terms):
        low, high = n * math.pi, n * math.pi + math.pi / 2
        for _ in range(80):  # bisection for x tan x = h/2 between the poles, x = β/2
            middle = 0.5 * (low + high)
            low, high = (middle, high) if middle * math.tan(middle) < h / 2 else (low, middle)
        x = 0.5 * (low + high)
        weight = 4 * math.sin(x) / (2 * x + math.sin(2 * x))
        total += weight * 2 * math.sin(x) * math.tanh(2 * x * LENGTH)
    return total / (2 * h * LENGTH)


def fin_theory(biot: float) -> float:
    ml = math.sqrt(4 * biot) * LENGTH
    return math.tanh(ml) / ml


def fin_efficiency(cells: int, biot: float) -> float:
    """Return the efficiency of a fin with so many cells across its thickness."""
    h, film = 1.0 / cells, 2 * biot
    grid = PoissonGrid(
        np.zeros((round(LENGTH * cells), cells), np.uint8), h, [("dirichlet", "neumann"), (Robin(film), Robin(film))]
    )
    heated = boundary_source(grid, side_values=[(1.0, None), (None, None)])
    x = solve(grid, heated, solver="mg-cg", rtol=1e-10).x
    return float(2 * (1.0 - x[0]).sum()) / (2 * film * LENGTH)


def sink(cells: int, biot: float) -> tuple[PoissonGrid, Array, float]:
    """Return the grid of a heat sink, its temperature for a mean of 1 at its foot, and the efficiency of its fins."""
    h, film = 1.0 / cells, 2 * biot
    width = FINS * (1 + GAP) * cells
    metal = np.ones((width, round((BASE + LENGTH + GAP) * cells)), bool)
    fin = np.zeros(width, bool)
    for number in range(FINS):
        start = (number * (1 + GAP)) * cells + GAP * cells // 2
        fin[start : start + cells] = True
    metal[~fin, BASE * cells :] = False
    metal[:, round((BASE + LENGTH) * cells) :] = False
    types = np.where(metal, CellType.FLUID, CellType.AIR).astype(np.uint8)
    to_air = h * film * (2 / h) / (film + 2 / h)
    faces = []
    for axis in range(2):
        padded = np.pad(metal, [(1, 1) if a == axis else (0, 0) for a in range(2)], mode="edge")
        surface = np.diff(padded.astype(np.int8), axis=axis) != 0
        faces.append(np.where(surface, to_air, 1.0))
    grid = PoissonGrid(types, h, "neumann", faces)
    heat = np.zeros(grid.shape)
    heat[:, 0] = 1.0
    x = solve(grid, heat, solver="mg-cg", rtol=1e-10).x
    x /= x[:, 0].mean()
    feet = x[:, BASE * cells - 1][fin].mean()
    # The heat through the fins' surfaces, divided by that at the temperature of their feet.
    given, area = 0.0, 0.0
    for axis in range(2):
        for way in (-1, 1):
            beside = np.roll(metal, -way, axis)
            lost = metal & ~beside & (np.arange(metal.shape[1]) >= BASE * cells)
            given += float((to_air / h * x[lost]).sum() * h)
            area += float(lost.sum()) * h
    return grid, x, given / (film * area * feet)


def main() -> int:
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    worst = 0.0
    for biot in BIOTS:
        exact, found = exact_efficiency(biot), [fin_efficiency(n, biot) for n in (cells // 2, cells)]
        errors = [abs(value / exact - 1) for value in found]
        worst = max(worst, errors[-1])
        order = math.log2(errors[0] / errors[1])
        print(
            f"Biot {biot}: efficiency {found[-1]:.5f}, series {exact:.5f} (difference {errors[-1]:.1e}, "
            f"order {order:.1f}), one-dimensional theory {fin_theory(biot):.5f} ({fin_theory(biot) / exact - 1:+.1%})"
        )
    grid, x, efficiency = sink(cells, 0.1)
    print(f"a sink of {FINS} fins, Biot 0.1: {grid.unknowns} unknowns, efficiency of its fins {efficiency:.4f}")
    if len(sys.argv) > 2:
        draw(sys.argv[2], grid, x)
    return 0 if worst < 0.01 else 1


def draw(path: str, grid: PoissonGrid, x: Array) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    shape = [n * width for n, width in zip(grid.shape, grid.mean_spacing, strict=True)]
    shown = axes.imshow(
        np.where(grid.fluid, x, np.nan).T, origin="lower", extent=(0, shape[0], 0, shape[1]), cmap="inferno", vmin=0
    )
    axes.contour(
        np.where(grid.fluid, x, np.nan).T, levels=12, extent=(0, shape[0], 0, shape[1]), colors="w", linewidths=0.4
    )
    axes.set(xlabel="thicknesses of a fin", ylabel="height")
    figure.colorbar(shown, label="temperature above the air's, 1 at the foot", shrink=0.8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
