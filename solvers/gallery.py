"""Test problems by name: on grids (`make`), sparse matrices (`matrix`), and elastic bodies (`elastic_body`).

Those on grids live on a domain of edge 1 along the longest axis, with cubic cells. The last axis points up.
"""

# Imported on first use, for their weight: `solvers.plume`, `solvers.sparse.families`.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers import gallery_grids
from relaxon.solvers.grid.poisson_grid import MAX_CELLS, BoundaryLike, CellType, PoissonGrid, Problem

if TYPE_CHECKING:
    from relaxon.solvers.sparse.families.bodies import ElasticBody

Array = NDArray[np.float64]
Size = int | Sequence[int]
GridMaker = Callable[[tuple[int, ...], float, int], tuple[PoissonGrid, Array]]
"""Makes a grid and `b` from its shape, its width and a seed."""


def empty_box(size: Size, ndim: int = 3, boundary: BoundaryLike = "dirichlet", seed: int = 0) -> Problem:
    """Return a box without obstacles; a smooth source with some noise."""
    shape = _shape(size, ndim)
    grid = PoissonGrid(np.zeros(shape, np.uint8), _width(shape), boundary)
    return _problem("box", grid, _smooth_source(shape, seed), "empty box, Dirichlet sides")


def neumann(size: Size, ndim: int = 3, seed: int = 0) -> Problem:
    """Return a closed box: singular, the solution is fixed by its zero mean."""
    shape = _shape(size, ndim)
    grid = PoissonGrid(np.zeros(shape, np.uint8), _width(shape), "neumann")
    return _problem("neumann", grid, _smooth_source(shape, seed), "closed box, pure Neumann")


def spheres(size: Size, ndim: int = 3, count: int = 5, seed: int = 0) -> Problem:
    """Return solid spheres (discs in 2-D) in a stream through a box that is open at the top."""
    shape = _shape(size, ndim)
    validation.positive_int("count", count)
    rng = np.random.default_rng(seed)
    points = _centres(shape)
    cells = np.zeros(shape, np.uint8)
    extent = np.array(shape) * _width(shape)
    for _ in range(count):
        centre, radius = rng.uniform(0.15, 0.85, ndim) * extent, rng.uniform(0.06, 0.16) * extent.min()
        cells[_inside_ball(points, centre, radius)] = CellType.SOLID
    grid = PoissonGrid(cells, _width(shape), _open_top(ndim))
    return _problem("spheres", grid, -_stream_divergence(grid, seed), "solid spheres, open top")


def pool(size: Size, ndim: int = 3, seed: int = 0) -> Problem:
    """Return a pool with pillars and boulders under a wavy open surface: the pressure system of a splash.

    Walls and floor are Neumann sides; above the surface is AIR. At size 128 in 3-D it has over a million unknowns.
    """
    shape = _shape(size, ndim)
    rng = np.random.default_rng(seed)
    points = _centres(shape)
    extent = np.array(shape) * _width(shape)
    phase = rng.uniform(0, 2 * np.pi, ndim)
    waves: Array = sum(
        (np.sin(2 * np.pi * (axis + 1) * points[axis] / extent[axis] + phase[axis]) for axis in range(ndim - 1)),
        start=np.zeros((1,) * ndim),
    )
    surface = extent[-1] * (0.78 + 0.035 * waves)
    cells = np.zeros(shape, np.uint8)
    pillar = np.ones(shape, bool)
    for axis in range(ndim - 1):
        pillar &= np.abs(points[axis] - 0.3 * extent[axis]) < 0.06 * extent[axis]
    cells[pillar] = CellType.SOLID
    for _ in range(4):
        centre = rng.uniform(0.2, 0.8, ndim) * extent
        centre[-1] = rng.uniform(0.0, 0.5) * extent[-1]
        cells[_inside_ball(points, centre, rng.uniform(0.08, 0.15) * extent.min())] = CellType.SOLID
    cells[np.broadcast_to(points[-1] > surface, shape) & (cells == CellType.FLUID)] = CellType.AIR
    grid = PoissonGrid(cells, _width(shape), "neumann")
    return _problem("pool", grid, -_stream_divergence(grid, seed), "pool with obstacles and an open surface")


def random_obstacles(size: Size, ndim: int = 3, fraction: float = 0.25, seed: int = 0) -> Problem:
    """Return solid cells strewn at random, open at the top; closed pockets occur and are part of the problem."""
    shape = _shape(size, ndim)
    if not 0 <= validation.finite_float("fraction", fraction) < 1:
        raise ValueError(f"fraction must be at least 0 and less than 1, got {fraction!r}")
    rng = np.random.default_rng(seed)
    cells = np.where(rng.random(shape) < fraction, CellType.SOLID, CellType.FLUID).astype(np.uint8)
    cells[(0,) * ndim] = CellType.FLUID
    grid = PoissonGrid(cells, _width(shape), _open_top(ndim))
    return _problem("random", grid, _smooth_source(shape, seed), f"{fraction:.0%} random obstacles, open top")


def variable_coefficient(size: Size, ndim: int = 3, jump: float = 1e3, seed: int = 0) -> Problem:
    """Return balls of a material whose κ is `jump` times that around them; Dirichlet sides."""
    shape = _shape(size, ndim)
    validation.positive_float("jump", jump)
    rng = np.random.default_rng(seed)
    points = _centres(shape)
    extent = np.array(shape) * _width(shape)
    kappa = np.ones(shape)
    for _ in range(6):
        centre, radius = rng.uniform(0.1, 0.9, ndim) * extent, rng.uniform(0.08, 0.22) * extent.min()
        kappa[_inside_ball(points, centre, radius)] = jump
    grid = PoissonGrid(np.zeros(shape, np.uint8), _width(shape), "dirichlet", kappa)
    return _problem("variable", grid, _smooth_source(shape, seed), f"κ jumps by {jump:g}, Dirichlet sides")


def manufactured(
    size: Size, ndim: int = 3, boundary: BoundaryLike = "dirichlet", variable: bool = False, seed: int = 0
) -> Problem:
    """Return a problem with a known smooth solution: `Π_a f_a(x_a)` on the unit box, `f` fitting each axis's sides.

    Each axis has length 1, so that a shape with unequal sides has unequal spacing. With `variable`,
    `κ = exp(½ Σ_a cos 2πx_a)`. `b = −∇·(κ∇x)` at cell centres, second order accurate. `seed` is not used.
    """
    shape = _shape(size, ndim)
    spacing = [1.0 / n for n in shape]
    points: list[Any] = [p / (n * _width(shape)) for p, n in zip(_centres(shape), shape, strict=True)]
    cells = np.zeros(shape, np.uint8)
    grid = PoissonGrid(cells, spacing, boundary)
    if not grid.constant:
        raise ValueError(f"boundary must be neumann, dirichlet or periodic for a known solution, got {boundary!r}")
    parts = [
        gallery_grids.fitting_profile((str(low), str(high)), p)
        for (low, high), p in zip(grid.boundary, points, strict=True)
    ]
    exact = _product([f for f, _, _ in parts])
    kappa, b = np.ones(shape), np.zeros(shape)
    if variable:
        kappa = np.exp(0.5 * sum((np.cos(2 * np.pi * p) for p in points), start=np.zeros((1,) * len(shape))))
        grid = PoissonGrid(cells, spacing, boundary, np.broadcast_to(kappa, shape))
    for axis, p in enumerate(points):
        _, slope, bend = parts[axis]
        log_slope = -np.pi * np.sin(2 * np.pi * p) if variable else 0.0  # ∂_a log κ
        others = [f for other, (f, _, _) in enumerate(parts) if other != axis]
        b -= kappa * (bend + log_slope * slope) * _product(others)
    return _problem("manufactured", grid, b, "smooth solution that is known", np.broadcast_to(exact, shape).copy())


def plume(size: Size, ndim: int = 3, seed: int = 0, steps: int = 4) -> Problem:
    """Return the pressure system of a smoke plume around a moving sphere after a few steps of the simulation.

    Three dimensions only. The steps before are projected with incomplete-Cholesky CG to 1e-4. `seed` is not used.
    """
    from relaxon.solvers.plume import SmokePlume

    if ndim != 3:
        raise ValueError(f"ndim must be 3 for the plume, got {ndim}")
    shape = _shape(size, ndim)
    simulation = SmokePlume((shape[0], shape[1], shape[2]))
    for _ in range(steps):
        simulation.step(solver="ic-cg", rtol=1e-4)
    return simulation.pressure_problem()


def heat_step(size: Size, ndim: int = 3, seed: int = 0) -> Problem:
    """Return an implicit step of the heat equation around insulating spheres: a reaction of 1/Δt, Δt = 10 h²."""
    around = spheres(size, ndim, seed=seed).grid
    grid, b = gallery_grids.heat_step(around.cells, around.mean_spacing[0], seed)
    return _problem("heat-step", grid, b, "implicit heat step around insulating spheres")


def _of_kind(name: str, make_grid: GridMaker, summary: str) -> Callable[..., Problem]:
    """Return the maker `(size, ndim=3, seed=0)` of a problem whose grid and `b` a function of `gallery_grids` makes."""

    def make_one(size: Size, ndim: int = 3, seed: int = 0) -> Problem:
        shape = _shape(size, ndim)
        return _problem(name, *make_grid(shape, _width(shape), seed), summary)

    return make_one


stretched_channel = _of_kind(
    "channel", gallery_grids.stretched_channel, "channel over a step, stretched towards its walls"
)
"""Return the pressure of a channel over a step, its cells a tenth of the mean width at the walls."""
heat_sink = _of_kind("heat-sink", gallery_grids.heat_sink, "finned heat sink, Robin sides")
"""Return a finned block of metal, heated from below, cooled at its surface: Robin sides and a reaction."""
cut_cylinder = _of_kind("cylinder", gallery_grids.cut_cylinder, "channel past a cylinder, cut cells")
"""Return the pressure in a channel past a cylinder that cuts its cells."""

_MAKERS: dict[str, Callable[..., Problem]] = {
    "box": empty_box,
    "spheres": spheres,
    "pool": pool,
    "random": random_obstacles,
    "neumann": neumann,
    "variable": variable_coefficient,
    "manufactured": manufactured,
    "plume": plume,
    "heat-step": heat_step,
    "channel": stretched_channel,
    "heat-sink": heat_sink,
    "cylinder": cut_cylinder,
    "layered": _of_kind("layered", gallery_grids.layered, "layers, κ jumps by 10⁶, Dirichlet sides"),
    "stretched": _of_kind("stretched", gallery_grids.stretched_box, "box stretched by 5 % a cell along all axes"),
    "sheets": _of_kind("sheets", gallery_grids.sheets, "sheets with small holes, open top"),
    "shells": _of_kind("shells", gallery_grids.shells, "porous shells, open top"),
}


def names() -> tuple[str, ...]:
    """Return the names that `make` knows."""
    return tuple(_MAKERS)


def make(name: str, size: Size, ndim: int = 3, seed: int = 0) -> Problem:
    """Return the problem of that name with `size` cells a side (or one number an axis).

    >>> from relaxon.solvers import gallery
    >>> gallery.make("box", 8, ndim=2).grid.shape
    (8, 8)
    """
    if name not in _MAKERS:
        near = get_close_matches(str(name), _MAKERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name must be one of {', '.join(_MAKERS)}, got {name!r}{hint}")
    return _MAKERS[name](size, ndim=ndim, seed=seed)


def matrix(name: str, n: int, seed: int = 0) -> Any:
    """Return a symmetric positive (semi)definite matrix of about `n` unknowns, of a family of `matrix_names()`.

    With a name of `matrix_names("nonsymmetric")` it is nonsymmetric.

    CSR, float64, int32 indices, sorted, the same for the same `seed`. ValueError for an unknown name and for `n` below
    64.

    >>> from relaxon.solvers import gallery
    >>> gallery.matrix("rotated-2d", 100).shape
    (100, 100)
    """
    from relaxon.solvers.sparse import families

    return families.make(name, n, seed)


def matrix_names(kind: str = "spd") -> tuple[str, ...]:
    """Return the names of the families of `matrix` whose matrices are of a kind, "spd" or "nonsymmetric".

    >>> from relaxon.solvers import gallery
    >>> gallery.matrix_names("nonsymmetric")
    ('convection-3d', 'recirculating-2d')
    """
    from relaxon.solvers.sparse import families

    return families.names(kind)


def elastic_body(name: str, n: int, seed: int = 0) -> ElasticBody:
    """Return the stiffness matrix of an elastic body of about `n` unknowns, with the coordinates of its nodes.

    `matrix` is CSR, float64, int32 indices, sorted, unknowns node by node; `coordinates` is `(n/d, d)` float64. The
    same for the same `seed`. ValueError for a name that is not in `elastic_body_names()` and for `n` below 64.

    >>> from relaxon.solvers import gallery, solve
    >>> body = gallery.elastic_body("cantilever-2d", 2_000)
    >>> solve(body.matrix, body.matrix @ body.coordinates.ravel(), coordinates=body.coordinates).iterations < 15
    True
    """
    from relaxon.solvers.sparse.families.bodies import make_body

    return make_body(name, n, seed)


def elastic_body_names() -> tuple[str, ...]:
    """Return the names that `elastic_body` knows."""
    from relaxon.solvers.sparse.families.bodies import BODIES

    return tuple(BODIES)


def _shape(size: Size, ndim: int) -> tuple[int, ...]:
    if ndim not in (2, 3):
        raise ValueError(f"ndim must be 2 or 3, got {ndim!r}")
    if isinstance(size, int | np.integer):
        shape = (validation.positive_int("size", size),) * ndim
    else:
        shape = tuple(validation.positive_int(f"size[{axis}]", n) for axis, n in enumerate(size))
    if len(shape) != ndim:
        raise ValueError(f"size must be one number or {ndim}, got {len(shape)}")
    if (cells := math.prod(shape)) > MAX_CELLS:
        raise ValueError(f"size must give at most {MAX_CELLS} cells, got {'×'.join(map(str, shape))} = {cells}")
    return shape


def _width(shape: tuple[int, ...]) -> float:
    return 1.0 / max(shape)


def _centres(shape: tuple[int, ...]) -> list[Array]:
    """Return the coordinates of the cell centres, one broadcastable array an axis."""
    h = _width(shape)
    return [
        ((np.arange(n, dtype=np.float64) + 0.5) * h).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        for axis, n in enumerate(shape)
    ]


def _inside_ball(points: list[Array], centre: Array, radius: float) -> NDArray[np.bool_]:
    squares: Array = sum(
        ((p - c) ** 2 for p, c in zip(points, centre, strict=True)), start=np.zeros((1,) * len(points))
    )
    inside: NDArray[np.bool_] = squares < radius**2
    return inside


def _open_top(ndim: int) -> list[str | tuple[str, str]]:
    return ["neumann"] * (ndim - 1) + [("neumann", "dirichlet")]


def _smooth_source(shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng(seed)
    source = 0.05 * rng.standard_normal(shape)
    points = _centres(shape)
    for _ in range(4):
        wave = _product([np.cos(np.pi * rng.integers(1, 5) * p + rng.uniform(0, 6)) for p in points])
        source += rng.standard_normal() * wave
    return source


def _stream_divergence(grid: PoissonGrid, seed: int) -> Array:
    """Return the divergence of a swirling velocity on faces, stopped at walls: `grid.shape`."""
    rng = np.random.default_rng(seed)
    solid = grid.cells == CellType.SOLID
    total = np.zeros(grid.shape)
    for axis, n in enumerate(grid.shape):
        points = _centres(grid.shape)
        velocity = np.zeros(grid.shape)
        for _ in range(3):
            waves = [np.sin(np.pi * rng.integers(1, 4) * p + rng.uniform(0, 6)) for p in points]
            velocity = velocity + rng.standard_normal() * _product(waves)
        inner = tuple(slice(1, None) if a == axis else slice(None) for a in range(grid.ndim))
        below = tuple(slice(0, n - 1) if a == axis else slice(None) for a in range(grid.ndim))
        # The face below each cell; that below the first one is a wall.
        flux = np.zeros(grid.shape)
        flux[inner] = np.where(solid[inner] | solid[below], 0.0, velocity[inner])
        total += flux * (-1.0 / grid.mean_spacing[axis])
        total[below] += flux[inner] / grid.mean_spacing[axis]
    return total


def _product(factors: Sequence[Array]) -> Array:
    return math.prod(factors, start=np.ones((1,) * (factors[0].ndim if factors else 1)))


def _problem(name: str, grid: PoissonGrid, b: Array, summary: str, exact: Array | None = None) -> Problem:
    full = np.where(grid.fluid, b, 0.0)
    grid.nullspace.project(full.reshape(grid.shape3))
    return Problem(name, grid, full, exact, summary)
