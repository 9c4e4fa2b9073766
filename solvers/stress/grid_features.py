"""Features of random grids besides cells and κ: Robin sides, varying widths, a reaction, cut cells."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.sides import Boundary, Robin, Side

Array = NDArray[np.float64]
Pairs = list[tuple[Side, Side]]
FILM_DECADES = (-6.0, 6.0)
"""Range of the decades of h, relative to κ over a cell's width."""
REACTION_DECADES = (-8.0, 4.0)
"""Range of the decades of σ, relative to κ over a cell's width squared."""
MOST_STRETCH = 100.0
"""Largest ratio of the widths along an axis."""
POINTS = 4
"""Points sampled along each axis of a cut cell, by which the open fractions of cells and faces are counted."""
LEAST_VOLUME = 1e-3
"""Smallest open fraction of a cell, so that one with an open face has a volume."""


def draw_sides(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> tuple[Pairs, str]:
    """Return the sides of a domain, and their names; `scale` is the unit of h on Robin sides."""
    kinds = ["neumann", "dirichlet", "dirichlet-node", "periodic", "robin", "mixed", "mixed", "mixed"]
    kind = str(rng.choice(kinds))
    pairs: Pairs = []
    for axis in range(len(shape)):
        across = shape[:axis] + shape[axis + 1 :]
        if kind == "periodic" or (kind == "mixed" and rng.random() < 0.25):
            pairs.append((Boundary.PERIODIC, Boundary.PERIODIC))
            continue
        some = ["neumann", "dirichlet", "dirichlet-node", "robin"] if kind == "mixed" else [kind]
        low, high = (_side(rng, str(rng.choice(some)), across, scale) for _ in range(2))
        pairs.append((low, high))
    return pairs, "/".join("-".join(dict.fromkeys(map(str, pair))) for pair in pairs)


def _side(rng: np.random.Generator, kind: str, across: tuple[int, ...], scale: float) -> Side:
    if kind != "robin":
        return Boundary(kind)
    h = scale * float(10.0 ** rng.uniform(*FILM_DECADES))
    if rng.random() < 0.5:
        return Robin(h)
    return Robin(np.where(rng.random(across) < 0.7, h, 0.0))


def draw_widths(
    rng: np.random.Generator, shape: tuple[int, ...], spacing: Sequence[float]
) -> tuple[list[float | Array], str]:
    """Return the widths, with one a cell along some axes, graded or random, and a description."""
    if rng.random() < 0.6:
        return list(spacing), ""
    found: list[float | Array] = []
    said = []
    for n, h in zip(shape, spacing, strict=True):
        if rng.random() < 0.4:
            found.append(h)
            continue
        ratio = float(MOST_STRETCH ** rng.random())
        graded = bool(rng.random() < 0.7)
        exponents = np.linspace(0, 1, n) if graded else rng.random(n)
        found.append(h * ratio**exponents)
        said.append(f"{'graded' if graded else 'random'} to {ratio:.2g}")
    return found, "widths " + ", ".join(said) if said else ""


def draw_reaction(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> tuple[float | Array | None, str]:
    """Return σ and a description; `scale` is its unit, `κ/h²`."""
    kind = str(rng.choice(["none", "none", "number", "cells", "patches"]))
    if kind == "none":
        return None, ""
    size = scale * float(10.0 ** rng.uniform(*REACTION_DECADES))
    said = f"σ {kind} to {size / scale:.1e} κ/h²"
    if kind == "number":
        return size, said
    if kind == "cells":
        return size * 10.0 ** rng.uniform(-3, 0, shape), said
    return np.where(rng.random(shape) < 0.1, size, 0.0), said


@dataclass(frozen=True, slots=True)
class Cut:
    """The open fractions of faces, one array an axis, and of cells."""

    faces: list[Array]
    volume: Array
    said: str


def draw_cut(rng: np.random.Generator, shape: tuple[int, ...], boundary: Pairs) -> Cut | None:
    """Return the fractions of faces and cells of a box outside some balls, by sampling; None where nothing is cut."""
    if rng.random() < 0.75:
        return None
    count = int(rng.integers(1, 4))
    centres = [rng.uniform(0, shape) for _ in range(count)]
    radii = [
        float(rng.uniform(0.3, max(0.6, 0.35 * min(n for n in shape if n > 1 or max(shape) == 1))))
        for _ in range(count)
    ]

    def outside(places: Sequence[Array]) -> Array:
        found = np.ones(np.broadcast_shapes(*(p.shape for p in places)))
        for centre, radius in zip(centres, radii, strict=True):
            distance = sum((p - c) ** 2 for p, c in zip(places, centre, strict=True))
            found *= np.asarray(distance) > radius**2
        return found

    inner = (np.arange(POINTS) + 0.5) / POINTS
    faces = [_sample(outside, shape, inner, axis) for axis in range(len(shape))]
    for axis, (low, _) in enumerate(boundary):
        if low is Boundary.PERIODIC:
            ends = np.moveaxis(faces[axis], axis, 0)
            ends[-1] = ends[0]
    volume = np.maximum(_sample(outside, shape, inner, None), LEAST_VOLUME)
    return Cut(faces, volume, f"{count} balls cut out")


def _sample(
    outside: Callable[[Sequence[Array]], Array], shape: tuple[int, ...], inner: Array, across: int | None
) -> Array:
    """Return the mean of `outside` over the sample points of each cell, or of each face across an axis."""
    ndim = len(shape)
    points = [np.zeros(1) if axis == across else inner for axis in range(ndim)]
    total = np.zeros(tuple(n + (axis == across) for axis, n in enumerate(shape)))
    offsets = list(itertools.product(*points))
    for offset in offsets:
        places = []
        for axis, n in enumerate(total.shape):
            line = np.arange(n) + offset[axis]
            places.append(line.reshape([-1 if other == axis else 1 for other in range(ndim)]))
        total += outside(places)
    return total / len(offsets)
