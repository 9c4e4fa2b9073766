"""The cost model of the solvers: seconds from the features of a matrix, by constants fitted to measurements.

`python bench/sparse_choice.py` measures the solvers over the gallery and writes the constants to `costs.json`, with the
machine they were measured on. Seconds differ on other machines, but only their ratios matter.
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
"""Added to the mean gap of the rows in its logarithm, so that gaps below it count as none."""
TOLERANCE = 1e-6
"""Relative residual for which iterations are predicted."""
MOST_ITERATIONS = 20_000.0
"""Bound on predicted iterations."""
Coefficients = tuple[float, ...]


def rate_terms(features: MatrixFeatures, levels: float | None) -> NDArray[np.float64]:
    """Return the terms in which the logarithm of an iteration count is linear, `(9,)`, or `(8,)` without levels."""
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
    """Return the terms in which the logarithm of a factor's operations is linear, `(4,)`."""
    f = features
    return np.array([1.0, math.log(f.unknowns), math.log(f.entries / f.unknowns), math.log(levels)])


def linear_terms(features: MatrixFeatures) -> NDArray[np.float64]:
    """Return the terms in which the seconds of a set-up and of an iteration are linear, `(3,)`."""
    return np.array([1.0, features.unknowns, features.entries])


@dataclass(frozen=True, slots=True)
class IterativeCost:
    """Constants of an iterative solver: for the seconds of set-up and iteration, and for the number of iterations."""

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
        """Return the iterations expected to a relative residual of `TOLERANCE`; an upper bound where `levels` are
        needed and None."""
        bound = dominated_iterations(features.dominance)
        if self.by_levels and levels is None:
            return min(bound, MOST_ITERATIONS)
        exponent = float(np.dot(self.count, rate_terms(features, levels if self.by_levels else None)))
        count = math.exp(min(max(exponent, 0.0), math.log(MOST_ITERATIONS)))
        return min(count, bound)


def dominated_iterations(dominance: float) -> float:
    """Return a bound on the iterations of conjugate gradients where `Σ_{j≠i} |a_ij| ≤ d a_ii`; infinite for `d ≥ 1`.

    The matrix scaled by its diagonal has a condition number of at most `(1 + d) / (1 − d)` (Gershgorin circles).
    """
    if dominance >= 1.0:
        return math.inf
    return 1.0 + 0.5 * math.sqrt((1.0 + dominance) / (1.0 - dominance)) * math.log(2.0 / TOLERANCE)


@dataclass(frozen=True, slots=True)
class DirectCost:
    """Constants of a factor: for its seconds by rows, entries and operations, and for the operations by the
    features."""

    setup: Coefficients
    """Coefficients of 1, rows, entries and operations."""
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
