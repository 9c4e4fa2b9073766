"""The solvers that the automatic choice has, with what each is expected to cost on a given matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from relaxon.solvers.extras import find_missing
from relaxon.solvers.sparse.costs import CostModel
from relaxon.solvers.sparse.direct.solver import NEEDS
from relaxon.solvers.sparse.features import MatrixFeatures, count_levels
from relaxon.solvers.sparse.system import MatrixSystem

LARGE = 30_000
"""Unknowns from which on multigrid is begun without a look at the graph's levels, which would cost a part of it; they
are counted when it turns out slow."""
FIRST_USE = {"amg": 0.01, "ic-cg": 0.001}
"""Seconds that are added for what a new machine has to compile: multigrid's kernels take some ten times as long as an
incomplete factor's, for which a system that is solved in milliseconds does not pay."""
AT_BEST = 4.0
"""One count of iterations in ten is foretold too large by about this factor (`bench/sparse_choice.py`)."""
FIRST_ITERATIONS = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a solver is expected to take: seconds in all and, of an iterative one, iterations and seconds of each."""

    solver: str
    seconds: float
    iterations: float = 1.0
    iteration_seconds: float = 0.0

    @property
    def trial_seconds(self) -> float:
        """Of the set-up and the first iterations; all of a factor."""
        if self.iteration_seconds == 0:
            return math.inf
        return self.seconds - (self.iterations - FIRST_ITERATIONS) * self.iteration_seconds

    def at_best(self) -> Estimate:
        """Return what it takes where its iterations are as few as they turn out to be now and then."""
        fewer = self.iterations / AT_BEST
        return replace(
            self, iterations=fewer, seconds=self.seconds - (self.iterations - fewer) * self.iteration_seconds
        )

    def __str__(self) -> str:
        return f"{self.solver} {seconds_said(self.seconds)}"


@dataclass(slots=True)
class Estimates:
    """Of one matrix; what takes time is found out when it is asked for."""

    system: MatrixSystem
    model: CostModel
    features: MatrixFeatures
    _levels: float | None = field(default=None, repr=False)

    @classmethod
    def of(cls, system: MatrixSystem, model: CostModel) -> Estimates:
        return cls(system, model, MatrixFeatures.of(system.matrix, system.diagonal))

    @property
    def levels(self) -> float:
        """Of the graph."""
        if self._levels is None:
            self._levels = count_levels(self.system.matrix)
        return self._levels

    @property
    def direct_name(self) -> str:
        """The factor that is to be had."""
        return "scipy-direct" if find_missing(NEEDS) else "direct"

    @property
    def least_seconds(self) -> float:
        """Below which nothing that is not begun is expected to be done: a set-up and ten iterations, or a factor
        without operations."""
        f = self.features
        iterative = [self.model.iterative[name] for name in ("amg", "jacobi-cg", "ic-cg")]
        tried = [one.setup_seconds(f) + FIRST_ITERATIONS * one.iteration_seconds(f) for one in iterative]
        return min(*tried, self.model.direct[self.direct_name].seconds(f, 0.0))

    def first(self) -> list[Estimate]:
        """Return what may be begun with, the cheapest first."""
        names = ["amg", "jacobi-cg"]
        if self.features.unknowns < LARGE:
            return self.ranked([*names, "ic-cg", self.direct_name])
        return self.ranked(names if self.features.dominance < 1.0 else names[:1])

    def others(self, tried: set[str]) -> list[Estimate]:
        """Return what has not been tried, the cheapest first."""
        return self.ranked([name for name in ("amg", "jacobi-cg", "ic-cg", self.direct_name) if name not in tried])

    def ranked(self, names: list[str]) -> list[Estimate]:
        """Return the estimates of these, the cheapest first where the first use counts too."""
        found = [self.estimate(name) for name in names]
        return sorted(found, key=lambda one: one.seconds + FIRST_USE.get(one.solver, 0.0))

    def estimate(self, name: str) -> Estimate:
        """Return that of one solver."""
        if name in self.model.direct:
            cost = self.model.direct[name]
            return Estimate(name, cost.seconds(self.features, cost.operations(self.features, self.levels)))
        one = self.model.iterative[name]
        bounded = self.features.unknowns >= LARGE and self.features.dominance < 1.0
        levels = self._levels if bounded or not one.by_levels else self.levels
        count = one.iterations(self.features, levels)
        each = one.iteration_seconds(self.features)
        return Estimate(name, one.setup_seconds(self.features) + count * each, count, each)

    def factored(self, name: str, operations: float) -> float:
        """Return the seconds of a factor whose operations have been counted."""
        return self.model.direct[name].seconds(self.features, operations)


def seconds_said(seconds: float) -> str:
    """Return a duration for people, in two digits."""
    number, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{float(f'{number:.2g}'):g} {unit}"
