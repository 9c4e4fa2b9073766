"""What each solver of the automatic choice is expected to cost on a given matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from relaxon.core.extras import find_missing
from relaxon.solvers.sparse.choice.costs import MOST_ITERATIONS, CostModel
from relaxon.solvers.sparse.choice.features import MatrixFeatures, count_levels
from relaxon.solvers.sparse.choice.trial import POSITIVE, WORTH, try_multigrid
from relaxon.solvers.sparse.direct.solver import NEEDS, OWN_FROM
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.near_null import NearNullSpace, recognise_block_size

LARGE = 20_000
"""Unknowns from which multigrid begins without counting the levels of the graph, which takes a fraction of its time;
they are counted once it turns out slow."""
FIRST_USE = {"amg": 0.002, "ic-cg": 0.0}
"""Seconds added for what a new machine has to compile: the kernels of multigrid take some ten times as long as those of
an incomplete factor, which does not pay for systems that are solved in milliseconds."""
NODES = "amg in blocks of"
"""Beginning of the name of multigrid with the nodes found in the pattern, which follows where it is slow without."""
NODES_SETUP, NODES_ITERATION = 2.0, 1.5
"""What its set-up and its iterations cost, relative to multigrid without nodes."""
AT_BEST = 4.0
"""One predicted iteration count in ten is too large by about this factor (`bench/sparse_choice.py`)."""
FIRST_ITERATIONS = 10
FOURTH_ORDER = 2.0
"""Where multigrid fails on a piece, iteration counts of other methods, fitted to second-order equations, are raised to
this power: the condition number of fourth-order equations is the square."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected cost of a solver: total seconds and, for an iterative one, iterations and seconds of each."""

    solver: str
    seconds: float
    iterations: float = 1.0
    iteration_seconds: float = 0.0

    @property
    def trial_seconds(self) -> float:
        """Seconds of the set-up and the first iterations; infinite for a factor."""
        if self.iteration_seconds == 0:
            return math.inf
        return self.seconds - (self.iterations - FIRST_ITERATIONS) * self.iteration_seconds

    def at_best(self) -> Estimate:
        """Return the estimate for the few iterations that it sometimes takes."""
        return self.times(1.0 / AT_BEST)

    def times(self, factor: float) -> Estimate:
        """Return the estimate for that many times the iterations."""
        count = factor * self.iterations
        return replace(
            self, iterations=count, seconds=self.seconds + (count - self.iterations) * self.iteration_seconds
        )

    def __str__(self) -> str:
        return f"{self.solver} {format_seconds(self.seconds)}"


@dataclass(slots=True)
class Estimates:
    """The estimates for one matrix; expensive figures are computed on first use."""

    system: MatrixSystem
    model: CostModel
    features: MatrixFeatures
    _levels: float | None = field(default=None, repr=False)
    _trial: float | None = field(default=None, repr=False)
    _nodal: MatrixSystem | None = field(default=None, repr=False)
    _direct_name: str = field(default="", repr=False)
    _least_seconds: float | None = field(default=None, repr=False)

    @classmethod
    def of(cls, system: MatrixSystem, model: CostModel) -> Estimates:
        trial = None if system.near_null is None else 0.0
        return cls(system, model, MatrixFeatures.of(system.matrix, system.diagonal), _trial=trial)

    @property
    def levels(self) -> float:
        """Levels of the graph."""
        if self._levels is None:
            self._levels = count_levels(self.system.matrix)
        return self._levels

    @property
    def trial(self) -> float:
        """Iterations of multigrid, predicted from a piece of the matrix, where they are many; else 0."""
        if self._trial is None:
            least, most = POSITIVE
            worth = least <= self.features.positive <= most and self.features.unknowns >= WORTH
            self._trial = try_multigrid(self.nodal) if worth else 0.0
        return self._trial

    @property
    def nodal(self) -> MatrixSystem:
        """The system with nodes: those given, else those recognised from its pattern, where there are any."""
        if self._nodal is None:
            self._nodal = self.system
            size = 1 if self.system.near_null is not None else recognise_block_size(self.system.matrix)
            if size > 1:
                self._nodal = replace(self.system, near_null=NearNullSpace.constants(self.system.unknowns, size))
        return self._nodal

    def follow(self, system: MatrixSystem) -> Estimates:
        """Return the estimates for new values on the same pattern, reusing the figures of these."""
        return replace(self, system=system, _nodal=None)

    def system_of(self, solver: str) -> MatrixSystem:
        """Return the system for which the solver of that name is set up."""
        return self.nodal if solver.startswith(NODES) else self.system

    @property
    def direct_name(self) -> str:
        """The name of the fastest factor there is."""
        if not self._direct_name:  # a search of all folders of packages takes as long as some iterations
            small = self.features.unknowns < OWN_FROM and find_missing(NEEDS)
            self._direct_name = "scipy-direct" if small else "direct"
        return self._direct_name

    @property
    def least_seconds(self) -> float:
        """A lower bound on what a method takes from the start: a set-up and ten iterations, or a factor's fixed
        costs."""
        if self._least_seconds is None:
            f = self.features
            iterative = [self.model.iterative[name] for name in ("amg", "jacobi-cg", "ic-cg")]
            tried = [one.setup_seconds(f) + FIRST_ITERATIONS * one.iteration_seconds(f) for one in iterative]
            self._least_seconds = min(*tried, self.model.direct[self.direct_name].seconds(f, 0.0))
        return self._least_seconds

    def first(self) -> list[Estimate]:
        """Return the estimates of solvers to begin with, cheapest first."""
        names = ["amg", "jacobi-cg"]
        if self.features.unknowns < LARGE or self.trial > 0:
            return self.ranked([*names, "ic-cg", self.direct_name])
        return self.ranked(names if self.features.dominance < 1.0 else names[:1])

    def others(self, tried: set[str]) -> list[Estimate]:
        """Return the estimates of solvers that have not been tried, cheapest first; of a factor alone where near-null
        vectors are given, as methods without them take far more iterations."""
        names = [self.direct_name]
        if self.system.near_null is None:
            names += ["amg", "jacobi-cg", "ic-cg"]
        if self.nodal.near_null is not None:
            names.append(f"{NODES} {self.nodal.near_null.block_size}")
        return self.ranked([name for name in names if name not in tried])

    def of_nodes(self) -> Estimate:
        """Return the estimate of multigrid with nodes, of which there must be some."""
        assert self.nodal.near_null is not None
        return self.estimate(f"{NODES} {self.nodal.near_null.block_size}")

    def ranked(self, names: list[str]) -> list[Estimate]:
        """Return the estimates of these solvers, cheapest first, with the cost of a first use included."""
        found = [self.estimate(name) for name in names]
        return sorted(found, key=lambda one: one.seconds + FIRST_USE.get(one.solver, 0.0))

    def estimate(self, name: str) -> Estimate:
        """Return the estimate of one solver."""
        if name in self.model.direct:
            cost = self.model.direct[name]
            return Estimate(name, cost.seconds(self.features, cost.operations(self.features, self.levels)))
        nodes = name.startswith(NODES)
        one = self.model.iterative["amg" if nodes else name]
        bounded = self.features.unknowns >= LARGE and self.features.dominance < 1.0
        levels = self._levels if bounded or not one.by_levels else self.levels
        count = one.iterations(self.features, levels)
        if self.trial > 0:
            count = min(self.trial if name.startswith("amg") else count**FOURTH_ORDER, MOST_ITERATIONS)
        each, before = one.iteration_seconds(self.features), one.setup_seconds(self.features)
        if nodes:
            each, before = NODES_ITERATION * each, NODES_SETUP * before
        return Estimate(name, before + count * each, count, each)

    def factored(self, name: str, operations: float) -> float:
        """Return the seconds of a factor with that many operations, which have been counted."""
        return self.model.direct[name].seconds(self.features, operations)


def format_seconds(seconds: float) -> str:
    """Return a duration in words, with two digits."""
    number, unit = (seconds, "s") if seconds >= 1 else (1000 * seconds, "ms")
    return f"{float(f'{number:.2g}'):g} {unit}"
