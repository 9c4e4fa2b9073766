"""What each solver is expected to cost on a matrix: seconds from its features, by constants that a bench has fitted.

`python bench/sparse_choice.py` measures the solvers over the gallery and writes the constants to `costs.json`, with the
machine that they were measured on. Seconds elsewhere are others; what decides is their ratio.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.choice.features import MatrixFeatures

FILE = Path(__file__).with_name("costs.json")
GAP = 1e-3
"""A mean gap of a row's sums below this is none."""
TOLERANCE = 1e-6
"""Of the residual, for which iterations are foretold."""
MOST_ITERATIONS = 20_000.0
Coefficients = tuple[float, ...]


def rate_terms(features: MatrixFeatures, levels: float | None) -> NDArray[np.float64]:
    """Return what the logarithm of an iteration count is linear in, `(9,)`, or `(8,)` where no levels are given."""
    f = features
    terms = [
        1.0,
        math.log(f.unknowns),
        math.log(f.entries / f.unknowns),
        -math.log(f.gap + GAP),
        f.positive,
        f.anisotropy,
        f.contrast,
        f.hubs,
    ]
    return np.array(terms if levels is None else [*terms, math.log(levels)])


def size_terms(features: MatrixFeatures, levels: float) -> NDArray[np.float64]:
    """Return what the logarithm of a factor's operations is linear in, `(4,)`."""
    f = features
    return np.array([1.0, math.log(f.unknowns), math.log(f.entries / f.unknowns), math.log(levels)])


def linear_terms(features: MatrixFeatures) -> NDArray[np.float64]:
    """Return what the seconds of a set-up and of an iteration are linear in, `(3,)`."""
    return np.array([1.0, features.unknowns, features.entries])


@dataclass(frozen=True, slots=True)
class IterativeCost:
    """Constants of an iterative solver: seconds of the set-up and of an iteration, and how many iterations it takes."""

    setup: Coefficients
    iteration: Coefficients
    count: Coefficients
    by_levels: bool
    """Whether the count depends on the levels of the graph."""

    def setup_seconds(self, features: MatrixFeatures) -> float:
        return float(np.dot(self.setup, linear_terms(features)))

    def iteration_seconds(self, features: MatrixFeatures) -> float:
        return float(np.dot(self.iteration, linear_terms(features)))

    def iterations(self, features: MatrixFeatures, levels: float | None) -> float:
        """Return how many are expected to a relative residual of `TOLERANCE`; without `levels`, a bound where one is
        needed."""
        bound = dominated_iterations(features.dominance)
        if self.by_levels and levels is None:
            return min(bound, MOST_ITERATIONS)
        exponent = float(np.dot(self.count, rate_terms(features, levels if self.by_levels else None)))
        count = math.exp(min(max(exponent, 0.0), math.log(MOST_ITERATIONS)))
        return min(count, bound)


def dominated_iterations(dominance: float) -> float:
    """Return the bound on conjugate gradients' iterations where `Σ_{j≠i} |a_ij| ≤ d a_ii`; infinite for `d ≥ 1`.

    The matrix scaled by its diagonal has the condition `(1 + d) / (1 − d)` at most (Gershgorin's circles).
    """
    if dominance >= 1.0:
        return math.inf
    return 1.0 + 0.5 * math.sqrt((1.0 + dominance) / (1.0 - dominance)) * math.log(2.0 / TOLERANCE)


@dataclass(frozen=True, slots=True)
class DirectCost:
    """Constants of a factor: its seconds by rows, entries and operations, and the operations by the features."""

    setup: Coefficients
    """Of 1, rows, entries and operations."""
    flops: Coefficients

    def operations(self, features: MatrixFeatures, levels: float) -> float:
        return math.exp(min(float(np.dot(self.flops, size_terms(features, levels))), 100.0))

    def seconds(self, features: MatrixFeatures, operations: float) -> float:
        return float(np.dot(self.setup, [*linear_terms(features), operations]))


@dataclass(frozen=True, slots=True)
class CostModel:
    """The constants of all solvers."""

    iterative: dict[str, IterativeCost]
    direct: dict[str, DirectCost]
    machine: dict[str, Any]

    @classmethod
    def of(cls, content: dict[str, Any]) -> CostModel:
        """Read what `as_dict` returns."""
        iterative = {name: IterativeCost(**_as_tuples(one)) for name, one in content["iterative"].items()}
        direct = {name: DirectCost(**_as_tuples(one)) for name, one in content["direct"].items()}
        return cls(iterative, direct, content["machine"])

    def as_dict(self) -> dict[str, Any]:
        """Return the constants as JSON values."""
        iterative = {name: asdict(one) for name, one in self.iterative.items()}
        direct = {name: asdict(one) for name, one in self.direct.items()}
        return {"machine": self.machine, "iterative": iterative, "direct": direct}


def _as_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


@cache
def load_costs() -> CostModel:
    """Return the shipped constants."""
    return CostModel.of(json.loads(FILE.read_text("utf-8")))
