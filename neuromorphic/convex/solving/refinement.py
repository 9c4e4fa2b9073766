"""Refinement of a program by new activation patterns that violate the dual.

A pattern outside the program can reduce its optimum where a unit has `|θᵀ (X u)₊| > β ‖u‖`, which violates the dual of
all patterns. Ascent on the unit sphere, from random directions and from the network's units, searches for such units.
Their patterns join the program, patterns without a unit leave it, and training continues from the current network. This
is column generation; the search finds local maxima, so it proves nothing about patterns that it does not find.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.cones import PatternCones
from relaxon.neuromorphic.convex.program.formulation import PatternProgram

Array = NDArray[np.float64]

ASCENT_STEPS = 30
DIRECTIONS = 4
"""Number of random starts for each requested pattern."""


def refine(
    program: PatternProgram, variables: Array, theta: Array, wanted: int, rng: np.random.Generator
) -> tuple[PatternProgram, Array] | None:
    """Return the program with up to `wanted` new patterns and without unused ones, and the variables in it.

    None where the search finds no pattern that violates the dual at `θ` `(n, K)`.
    """
    used = np.linalg.norm(variables, axis=-1).max(axis=(0, 1)) > 0.0
    own = variables[:, :, used].reshape(-1, variables.shape[-1])
    own = own[np.linalg.norm(own, axis=1) > 0.0]
    starts = np.concatenate([own, rng.standard_normal((DIRECTIONS * wanted, program.x.shape[1]))])
    # The first of an output's columns multiplies the activations of a unit; the others belong to perturbations.
    slopes = theta.reshape(len(theta), program.objective.outputs, -1)[:, :, 0]
    found: dict[bytes, tuple[float, NDArray[np.bool_]]] = {}
    for k in range(slopes.shape[1]):
        for side in (1.0, -1.0):
            _ascend(program, side * slopes[:, k], starts, found)
    for column in program.patterns.T:
        found.pop(np.packbits(column).tobytes(), None)
    best = sorted(found.values(), key=lambda entry: -entry[0])[:wanted]
    if not best:
        return None
    kept = program.patterns[:, used]
    patterns = np.concatenate([kept, np.array([column for _, column in best]).T], axis=1)
    cones = PatternCones.of(program.x, patterns, program.cones.box)
    larger = PatternProgram(program.objective, program.x, patterns, cones)
    start = larger.zeros()
    start[:, :, : kept.shape[1]] = variables[:, :, used]
    return larger, start


def _ascend(
    program: PatternProgram, slope: Array, starts: Array, found: dict[bytes, tuple[float, NDArray[np.bool_]]]
) -> None:
    """Add the patterns with `slopeᵀ (X u)₊ > β`, `‖u‖ = 1`, after each unit's ascent, with this value."""
    units = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    for step in range(ASCENT_STEPS):
        products = program.x @ units.T
        active = products >= 0.0
        values = slope @ np.maximum(products, 0.0)
        last = step == ASCENT_STEPS - 1
        for value, column in zip(values, active.T, strict=True):
            if last and value > program.objective.beta and column.any():
                key = np.packbits(column).tobytes()
                if key not in found or found[key][0] < value:
                    found[key] = (float(value), column.copy())
        gradient = (active * slope[:, None]).T @ program.x
        units = units + gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-300)
        units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-300)
