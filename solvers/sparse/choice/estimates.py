"""The solvers that the automatic choice has, with what each is expected to cost on a given matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from relaxon.core.extras import find_missing
from relaxon.solvers.sparse.choice.costs import MOST_ITERATIONS, CostModel
from relaxon.solvers.sparse.choice.features import MatrixFeatures, count_levels
from relaxon.solvers.sparse.choice.trial import POSITIVE, WORTH, iterations_by_trial
from relaxon.solvers.sparse.direct.solver import NEEDS
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.near_null import NearNullSpace, recognised_block_size

LARGE = 30_000
"""Unknowns from which on multigrid is begun without a look at the graph's levels, which would cost a part of it; they
are counted when it turns out slow."""
FIRST_USE = {"amg": 0.01, "ic-cg": 0.001}
"""Seconds that are added for what a new machine has to compile: multigrid's kernels take some ten times as long as an
incomplete factor's, for which a system that is solved in milliseconds does not pay."""
AT_BEST = 4.0
"""One count of iterations in ten is foretold too large by about this factor (`bench/sparse_choice.py`)."""
FIRST_ITERATIONS = 10
FOURTH_ORDER = 2.0
"""Where multigrid fails on a piece, the power by which other methods take more iterations than was fitted to equations
of second order: the condition of fourth-order ones is the square."""


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
    _trial: float | None = field(default=None, repr=False)
    _nodal: MatrixSystem | None = field(default=None, repr=False)

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
    def trial(self) -> float:
        """Iterations of multigrid by those on a piece of the matrix, where these are many; else 0."""
        if self._trial is None:
            least, most = POSITIVE
            worth = least <= self.features.positive <= most and self.features.unknowns >= WORTH
            self._trial = iterations_by_trial(self.nodal) if worth else 0.0
        return self._trial

    @property
    def nodal(self) -> MatrixSystem:
        """The system as multigrid takes it: with the nodes that its pattern shows, where it does."""
        if self._nodal is None:
            size = recognised_block_size(self.system.matrix)
            self._nodal = self.system
            if size > 1:
                self._nodal = replace(self.system, near_null=NearNullSpace.constants(self.system.unknowns, size))
        return self._nodal

    def follow(self, system: MatrixSystem) -> Estimates:
        """Return those for new values on the same pattern, by what is known of these."""
        return replace(self, system=system, _nodal=None)

    def system_of(self, solver: str) -> MatrixSystem:
        """Return the system that a solver of that name is set up for."""
        return self.nodal if solver == "amg" else self.system

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
        if self.features.unknowns < LARGE or self.trial > 0:
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
        if self.trial > 0:
            count = min(self.trial if name == "amg" else count**FOURTH_ORDER, MOST_ITERATIONS)
        each = one.iteration_seconds(self.features)
        return Estimate(name, one.setup_seconds(self.features) + count * each, count, each)

    def factored(self, name: str, operations: float) -> float:
        """Return the seconds of a factor whose operations have been counted."""
        return self.model.direct[name].seconds(self.features, operations)


def seconds_said(seconds: float) -> str:
    """Return a duration for people, in two digits."""
    number, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{float(f'{number:.2g}'):g} {unit}"
