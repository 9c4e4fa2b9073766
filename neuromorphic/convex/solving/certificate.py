"""Certificates: how close a fitted network is to the optimum of its convex program, and what the sampling missed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.cones import PatternCones, draw_patterns
from relaxon.neuromorphic.convex.program.formulation import ConvexObjective, PatternProgram, Program, UnitProgram
from relaxon.neuromorphic.convex.solving.admm import AdmmSolution, relative_gap

Array = NDArray[np.float64]

EQUAL = 1e-9
"""Relative excess of a dual norm over β that is attributed to rounding."""


@dataclass(frozen=True, slots=True)
class ConvexCertificate:
    """Bounds on the optimum of the *sampled* program, and the violation of the full program's dual.

    Attributes
    ----------
    program : the program to which the bounds apply: "sampled patterns" or "sampled units".
    primal : the objective of the network, an upper bound on the sampled program's optimum.
    dual : a lower bound on it, the value of a point that satisfies the dual's constraints.
    gap, relative_gap : primal − dual, and the same divided by primal.
    sampled : number of patterns or units in the program.
    constraint_violation : largest violation of a pattern's cone by a row, relative to the norms, due to rounding.
    drawn : number of patterns (or units) drawn after training, none of which is in the program.
    drawn_violation : excess of the largest of their dual norms over β, as a fraction of β; 0 where all of them satisfy
        the dual. A network with such a unit may have a smaller objective.
    drawn_violating : fraction of the drawn ones that violate the dual.
    drawn_dual : a lower bound on the optimum of the program with sampled and drawn ones together. The optimum over all
        patterns may be lower.
    """

    program: str
    primal: float
    dual: float
    gap: float
    relative_gap: float
    sampled: int
    constraint_violation: float
    drawn: int
    drawn_violation: float
    drawn_violating: float
    drawn_dual: float


def certify(
    program: Program, solved: AdmmSolution, x: Array, draws: int, rng: np.random.Generator
) -> ConvexCertificate:
    """Return the certificate of a solved program, whose dual is tested with `draws` new patterns or units."""
    objective = program.objective
    norms = _measure_drawn_norms(program, solved.theta, x, draws, rng)
    worst = float(norms.max(initial=0.0)) / objective.beta
    dual = solved.dual
    if worst > 1.0:
        dual = min(dual, objective.loss.dual_value(solved.theta, objective.shares, 1.0 / worst)[0])
    return ConvexCertificate(
        program="sampled patterns" if isinstance(program, PatternProgram) else "sampled units",
        primal=solved.primal,
        dual=solved.dual,
        gap=solved.primal - solved.dual,
        relative_gap=relative_gap(solved.primal, solved.dual),
        sampled=len(program.units) if isinstance(program, UnitProgram) else program.zeros().shape[2],
        constraint_violation=program.violation(solved.variables),
        drawn=len(norms),
        drawn_violation=max(worst - 1.0, 0.0) if worst > 1.0 + EQUAL else 0.0,
        drawn_violating=float(np.mean(norms > objective.beta * (1.0 + EQUAL))) if len(norms) else 0.0,
        drawn_dual=dual,
    )


def _measure_drawn_norms(program: Program, theta: Array, x: Array, draws: int, rng: np.random.Generator) -> Array:
    """Return the dual norms of new patterns or units, `(drawn,)`; norms up to β may have any value up to β."""
    objective = program.objective
    if isinstance(program, UnitProgram):
        units = draw_units(draws, x.shape[1], rng)
        return np.asarray(np.abs(theta.T @ np.maximum(x @ units.T, 0.0)).max(axis=0, initial=0.0))
    new = draw_patterns(x, draws, rng, program.patterns) if draws else np.zeros((len(x), 0), bool)
    found = []
    for column in new.T:
        pattern = column[:, None]
        one = ConvexObjective(objective.loss, objective.shares, objective.beta, objective.outputs)
        cones = PatternCones.of(x, pattern, program.cones.box)
        found.append(PatternProgram(one, x, pattern, cones).dual_norm(theta))
    return np.array(found, np.float64)


def draw_units(count: int, d: int, rng: np.random.Generator) -> Array:
    """Return random directions `(count, d)` of norm 1."""
    units = rng.standard_normal((count, d))
    return np.asarray(units / np.linalg.norm(units, axis=1, keepdims=True))
