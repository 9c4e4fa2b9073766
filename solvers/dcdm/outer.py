"""The deep conjugate direction method: any direction, made A-orthogonal to the last two, with an exact line search.

Source: Kaneda, Akar, Chen, Kala, Hyde, Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear
Systems", ICML 2023, algorithm 1.
"""

# Imported on first use, for their weight: `kernels`, `solvers.grid.stencil_kernels`.

from __future__ import annotations

import itertools
import math
from copy import copy
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from relaxon.core.cached import cached_property
from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.krylov.iteration import Steps, end_of, iterate

WINDOW = 2
"""The number of past directions to which the next one is made A-orthogonal; the paper found that more do not pay."""
SAFEGUARD_STEPS = 60
"""After so many steps without a new least residual, the plain direction `D⁻¹r` is taken until there is one. The
residuals of conjugate directions wander, the more so the more κ jumps."""
STAGNATION_STEPS = 500
"""Without a new least residual for so many steps, rounding or the direction forbids progress."""
NEGLIGIBLE = 1e-10
"""A step whose gain, relative to `‖r‖ √(dᵀAd)`, is below this is lost in rounding."""


class Direction(Protocol):
    """What the method accelerates: a map from a residual to a search direction, neither linear nor symmetric."""

    def __call__(self, r: NDArray[np.float64]) -> NDArray[Any]:
        """Return a direction for the residual `r` (`shape3`, Euclidean norm 1): `shape3`, float32 or float64.

        Values outside the fluid are ignored. `r` must not be written to; the array returned may be.
        """


@runtime_checkable
class TwinDirection(Direction, Protocol):
    """A direction that can be duplicated for another thread."""

    def twin(self) -> Direction | None:
        """Return the same with work space of its own, None where that cannot be."""


class ConjugateDirections(Prepared):
    """The outer iteration on one operator.

    `d = f(r/‖r‖)`; for the last `window` directions `p`: `d ← d − p (pᵀAd)/(pᵀAp)`; `α = dᵀr / dᵀAd`;
    `x ← x + αd`; `r ← b − Ax`, recomputed. The error's A-norm cannot grow, whatever `f` returns. Where `f`
    returns something not finite, or without curvature, or orthogonal to the residual, or where its steps have not
    brought a new least residual for a while, the step is taken along `D⁻¹r` instead and counted in `Monitor.fallbacks`.
    """

    by_planes = False

    def __init__(
        self,
        operator: PoissonOperator,
        direction: Direction,
        window: int = WINDOW,
        max_iterations: int = 1000,
        safeguard_steps: int = SAFEGUARD_STEPS,
    ) -> None:
        self.operator = operator
        self.direction = direction
        self.default_max_iterations = max_iterations
        self.info = {"window": float(window)}
        shape = operator.grid.shape3
        self._window = window
        self._safeguard_steps = safeguard_steps
        self._fluid = operator.grid.fluid.reshape(shape)
        self._r = np.empty(shape)
        self._unit = np.empty(shape)
        # One slot more than the window: the new direction is built beside the ones it is compared with.
        self._directions = np.zeros((window + 1, *shape))
        self._images = np.zeros((window + 1, *shape))

    def twin(self) -> Prepared | None:
        direction = self.direction.twin() if isinstance(self.direction, TwinDirection) else None
        if direction is None:
            return None
        made = copy(self)
        made.direction = direction
        made._r, made._unit = np.empty_like(self._r), np.empty_like(self._unit)
        made._directions, made._images = np.zeros_like(self._directions), np.zeros_like(self._images)
        return made

    def run(self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, max_iterations: int) -> Result:
        return iterate(self._take_steps(b, x, monitor), monitor, max_iterations, STAGNATION_STEPS)

    def _take_steps(self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor) -> Steps:
        from relaxon.solvers.dcdm import kernels

        past: list[tuple[int, float]] = []  # slot and curvature pᵀAp, the oldest first
        for step in itertools.count():
            norm = self._residual(b, x)
            since = yield norm
            slot = step % (self._window + 1)
            monitor.stepped(None)  # the slot may hold the last step's direction
            curvature, projection = self._search(slot, past, norm, monitor, plain=since >= self._safeguard_steps)
            if not curvature > 0:
                break
            kernels.step(x, projection / curvature, self._directions[slot])
            monitor.stepped(partial(subtract, x, projection / curvature, self._directions[slot]))
            past = [*past, (slot, curvature)][-self._window :] if self._window else []
        return end_of(curvature)

    @cached_property
    def _inverse_diagonal(self) -> NDArray[np.float64]:
        """`D⁻¹`, made when the first plain direction asks for it: most solves never do."""
        diagonal = self.operator.diagonal
        inverse: NDArray[np.float64] = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        return inverse

    def _residual(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> float:
        from relaxon.solvers.grid import stencil_kernels

        self.operator.apply(x, self._r)
        (square,) = self._total(stencil_kernels.residual_norm(b, self._r, self._r))
        return math.sqrt(square)

    def _total(self, *sums: float) -> tuple[float, ...]:
        """Return the sums over the whole grid, where this is a part of it."""
        return sums

    def _search(
        self, slot: int, past: list[tuple[int, float]], norm: float, monitor: Monitor, plain: bool
    ) -> tuple[float, float]:
        """Put the next direction and its image into `slot`; its curvature `dᵀAd` and projection `dᵀr`."""
        from relaxon.solvers.grid import stencil_kernels

        if not plain:
            stencil_kernels.scaled(self._r, 1.0 / norm, self._unit)
            curvature, projection = self._make_conjugate(slot, past, np.asarray(self.direction(self._unit)))
            if curvature > 0 and abs(projection) > NEGLIGIBLE * norm * math.sqrt(curvature):
                return curvature, projection
        monitor.fallbacks += 1
        curvature, projection = self._make_conjugate(slot, past, self._inverse_diagonal * self._r)
        if curvature > 0:
            return curvature, projection
        # D⁻¹r lies in the span of the window, to rounding: without it the step is plain descent.
        return self._make_conjugate(slot, [], self._inverse_diagonal * self._r)

    def _make_conjugate(self, slot: int, past: list[tuple[int, float]], proposal: NDArray[Any]) -> tuple[float, float]:
        from relaxon.solvers.dcdm import kernels

        d, image = self._directions[slot], self._images[slot]
        if proposal.shape != d.shape:
            return math.nan, 0.0
        null = self.operator.grid.nullspace
        # The images lie in the range of A, so that a null component of d changes no product with them. The window is
        # gone through two directions at a time, so that the paper's takes one pass to measure and one to subtract.
        pairs = [past[start : start + 2] for start in range(0, len(past), 2)] or [[]]
        for index, pair in enumerate(pairs):
            slots = [other for other, _ in pair] + [slot] * (2 - len(pair))
            first, second = (self._images[other] for other in slots)
            # Converted in the same pass, by all threads: they also touch the memory of `d` first.
            square, *products = self._total(*kernels.masked(d if index else proposal, self._fluid, first, second, d))
            scale = 1.0
            if index == 0:
                length = math.sqrt(square)
                if not 0 < length < math.inf:
                    return math.nan, 0.0
                scale = 1.0 / length
            factors = [scale * product / c for product, (_, c) in zip(products, pair, strict=False)]
            factors += [0.0] * (2 - len(pair))
            one, two = (self._directions[other] for other in slots)
            kernels.combined(d, scale, one, factors[0], two, factors[1])
        null.project(d)
        self.operator.apply(d, image)
        curvature, projection = self._total(*kernels.two_products(d, image, self._r))
        return curvature, projection
