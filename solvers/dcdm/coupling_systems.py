"""Random grids whose couplings vary, to train on: each a function of a generator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.cut_cells import outside_disc
from relaxon.solvers.dcdm.problems import random_grid
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.grid.sides import Robin

Array = NDArray[np.float64]
SIDES = {2: (60, 400), 3: (18, 64)}
"""The least and the largest number of cells a side, by the number of dimensions; the logarithm is uniform between."""
PLAIN_GEOMETRY = 0.5
LEAST_VOLUME = 1e-3


def random_system(rng: np.random.Generator, ndim: int) -> tuple[PoissonGrid, Array]:
    """Return a random grid of another kind than κ = 1 on equal cells, and a right-hand side of `grid.shape`."""
    least, most = np.log(SIDES[ndim])
    shape = tuple(int(n) for n in np.exp(rng.uniform(least, most, ndim)))
    kinds = (_jumps, _layers, _lognormal, _find_closed_faces, _cut_cells, _stretched, _reaction, _sides)
    given: dict[str, Any] = {
        "spacing": 1.0,
        "boundary": [["neumann", "dirichlet"][int(v)] for v in rng.integers(0, 2, ndim)],
    }
    given["cells"] = np.zeros(shape, np.uint8) if rng.random() < PLAIN_GEOMETRY else random_grid(shape, rng).cells
    kinds[int(rng.integers(len(kinds)))](given, shape, rng)
    if rng.random() < 0.25:  # two kinds at once; the second takes the place of the first where both set the same
        kinds[int(rng.integers(len(kinds)))](given, shape, rng)
    grid = PoissonGrid(**given)
    if grid.constant or grid.unknowns < 2:
        return random_system(rng, ndim)
    return grid, rng.standard_normal(shape) * grid.fluid


def _jumps(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Put in balls of another material."""
    kappa, where = np.ones(shape), np.indices(shape).reshape(len(shape), -1)
    jump = 10.0 ** rng.uniform(-6, 6)
    for _ in range(int(rng.integers(1, 9))):
        centre, radius = rng.uniform(0, shape), rng.uniform(0.06, 0.25) * min(shape)
        kappa.reshape(-1)[((where - centre[:, None]) ** 2).sum(0) < radius**2] = jump
    _put_coefficient(given, kappa)


def _layers(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    axis, thick = int(rng.integers(len(shape))), int(rng.integers(1, 6))
    exponents = np.repeat(rng.uniform(0, 6, shape[axis]), thick)[: shape[axis]]
    kappa = 10.0 ** exponents.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    _put_coefficient(given, np.broadcast_to(kappa, shape).copy())


def _lognormal(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    _put_coefficient(given, np.exp(rng.uniform(0.3, 2.5) * rng.standard_normal(shape)))


def _put_coefficient(given: dict[str, Any], kappa: Array) -> None:
    given["coefficient"] = kappa
    given.pop("volume", None)


def _find_closed_faces(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Put in thin walls between cells: faces closed at random, or whole layers of them with holes."""
    faces = [np.ones([n + (a == axis) for a, n in enumerate(shape)]) for axis in range(len(shape))]
    if rng.random() < 0.5:
        share = rng.uniform(0.05, 0.4)
        for face in faces:
            face[rng.random(face.shape) < share] = 0.0
    else:
        axis, step = int(rng.integers(len(shape))), int(rng.integers(2, 8))
        layers = np.moveaxis(faces[axis], axis, 0)[1:-1:step]
        layers[rng.random(layers.shape) > rng.uniform(0.02, 0.3)] = 0.0
    given["coefficient"] = faces
    given.pop("volume", None)


def _cut_cells(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Cut the cells around a disc across the first two axes."""
    centre = (float(rng.uniform(0.2, 0.8) * shape[0]), float(rng.uniform(0.2, 0.8) * shape[1]))
    (one, other), volume = outside_disc(
        (shape[0], shape[1]), 1.0, centre, float(rng.uniform(0.1, 0.35) * min(shape[:2]))
    )
    volume = np.maximum(volume, LEAST_VOLUME)
    faces = [one, other]
    if len(shape) == 3:
        faces = [face[..., None] * np.ones(shape[2]) for face in faces]
        faces.append(volume[..., None] * np.ones(shape[2] + 1))
        volume = volume[..., None] * np.ones(shape[2])
    given["coefficient"], given["volume"], given["spacing"] = faces, volume, 1.0


def _stretched(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Have the widths grow from cell to cell, along some of the axes."""
    if isinstance(given.get("coefficient"), list):
        given.pop("coefficient")
        given.pop("volume", None)
    along = rng.random(len(shape)) < 0.7
    growth = rng.uniform(1.0, 1.0 + 8.0 / max(shape))
    widths: list[Any] = [growth ** np.arange(n) if a else 1.0 for n, a in zip(shape, along, strict=True)]
    given["spacing"] = tuple(w / w.mean() if isinstance(w, np.ndarray) else w for w in widths)


def _reaction(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    sigma = 10.0 ** rng.uniform(-7, 0.5)
    given["reaction"] = sigma if rng.random() < 0.5 else sigma * rng.random(shape)


def _sides(given: dict[str, Any], shape: tuple[int, ...], rng: np.random.Generator) -> None:
    kinds: list[Any] = [Robin(float(10.0 ** rng.uniform(-3, 2))), "dirichlet-node", "neumann", "dirichlet"]
    given["boundary"] = [(kinds[int(rng.integers(4))], kinds[int(rng.integers(4))]) for _ in shape]
    given["boundary"][0] = (kinds[int(rng.integers(2))], given["boundary"][0][1])
