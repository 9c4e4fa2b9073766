"""The two convex programs: sampled activation patterns (Pilanci & Ergen 2020), sampled units (Bai et al. 2023).

Patterns: `min Σ_k c_k ℓ(z_k) + β Σ_i (‖v_i‖ + ‖w_i‖)`, `z = Σ_i D_i X (v_i − w_i)`, `(2D_i − I) X v_i ≥ 0`, same for
`w_i`. Under an l∞ box of half-widths `ε`, the loss is the worst in the box, of `z_k` and `‖Σ_i d_ik ε ∘ (v_i − w_i)‖₁`,
and the constraints are `(2D_i − I) X v_i ≥ ‖ε ∘ v_i‖₁`, so that no perturbation changes a pattern (Bai et al. 2023,
section 4). The dual is `max −Σ_k c_k ℓ*(θ_k/c_k)` subject to `‖Proj_{K_i}(∓Xᵀ D_i θ)‖ ≤ β`: by Moreau's decomposition
the norm of the projection is that of `∓Xᵀ D_i θ + Σ λ_k a_k`, `λ ≥ 0`, at its least.
Units: `min Σ_k c_k ℓ(z_k) + β ‖α‖₁`, `z = Σ_j (X u_j)₊ α_j`, with random `u_j` of norm 1, no constraint.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.cones import ConeProjector, PatternCones
from relaxon.neuromorphic.convex.program.losses import ConvexLoss
from relaxon.neuromorphic.convex.program.maps import PatternMap, RobustMap, UnitMap

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ConvexObjective:
    """The objective of both programs: the loss, the rows' shares `(n,)`, β, and the number of outputs."""

    loss: ConvexLoss
    shares: Array
    beta: float
    outputs: int


def primal_value(program: Program, v: Array, outputs: Array | None = None) -> float:
    """Return the objective at `V`, which is in the constraint set."""
    z = program.map.forward(program.difference(v)) if outputs is None else outputs
    return program.objective.loss.value(z, program.objective.shares) + program.objective.beta * program.penalty(v)


@dataclass(slots=True)
class PatternProgram:
    """The program of sampled patterns; variables `(K, 2, P, d)`: `v` and `w` of each pattern and output."""

    objective: ConvexObjective
    x: Array
    patterns: NDArray[np.bool_]
    cones: PatternCones
    map: PatternMap = field(init=False)
    _steps: ConeProjector = field(init=False)
    _checks: ConeProjector = field(init=False)

    def __post_init__(self) -> None:
        box = self.cones.box
        self.map = RobustMap(self.x, self.patterns, box) if box.any() else PatternMap(self.x, self.patterns)
        groups = self.objective.outputs * 2 * self.patterns.shape[1]
        self._steps, self._checks = ConeProjector(self.cones, groups), ConeProjector(self.cones, groups)

    def zeros(self) -> Array:
        """Return variables of value 0."""
        return np.zeros((self.objective.outputs, 2, self.patterns.shape[1], self.x.shape[1]))

    def difference(self, v: Array) -> Array:
        """Return the argument of the map for these variables, `(K, N)`."""
        return np.asarray((v[:, 0] - v[:, 1]).reshape(len(v), -1))

    def lift(self, v: Array, change: Array) -> Array:
        """Return the variables closest to `v` whose difference is `difference(v) + change`."""
        half = 0.5 * change.reshape(len(v), *v.shape[2:])
        return np.stack([v[:, 0] + half, v[:, 1] - half], axis=1)

    def shrink(self, v: Array, threshold: float) -> Array:
        """Return `argmin_u threshold · penalty(u) + ½ ‖u − v‖²` over the constraint set."""
        groups = v.reshape(-1, v.shape[-1])
        out = self._steps(groups, threshold)
        norms = np.linalg.norm(out, axis=1)
        out *= np.maximum(1.0 - threshold / np.maximum(norms, 1e-300), 0.0)[:, None]
        return out.reshape(v.shape)

    def penalty(self, v: Array) -> float:
        """Return the sum of norms."""
        return float(np.linalg.norm(v, axis=-1).sum())

    def dual_norm(self, theta: Array) -> float:
        """Return the norm that is at most β for dual feasible `θ` `(n, K)`; for those it may be any value up to β."""
        back = self.map.adjoint(theta).reshape(-1, 1, self.patterns.shape[1], self.x.shape[1])
        groups = np.concatenate([-back, back], axis=1).reshape(-1, self.x.shape[1])
        return float(np.linalg.norm(self._checks(groups, self.objective.beta), axis=1).max(initial=0.0))

    def violation(self, v: Array) -> float:
        """Return the largest violation of the constraints, for rows of norm 1 and relative to the variables' norms."""
        return self.cones.violation(v.reshape(-1, v.shape[-1]))


@dataclass(slots=True)
class UnitProgram:
    """The program of sampled units; variables `(K, m)`: the output weights of the units."""

    objective: ConvexObjective
    units: Array
    map: UnitMap

    @classmethod
    def of(cls, objective: ConvexObjective, x: Array, units: Array) -> UnitProgram:
        """Return the program of unit directions `(m, d)` over rows `(n, d)`."""
        return cls(objective, units, UnitMap(np.maximum(x @ units.T, 0.0)))

    def zeros(self) -> Array:
        return np.zeros((self.objective.outputs, len(self.units)))

    def difference(self, v: Array) -> Array:
        return v

    def lift(self, v: Array, change: Array) -> Array:
        return v + change

    def shrink(self, v: Array, threshold: float) -> Array:
        return np.asarray(np.sign(v) * np.maximum(np.abs(v) - threshold, 0.0))

    def penalty(self, v: Array) -> float:
        return float(np.abs(v).sum())

    def dual_norm(self, theta: Array) -> float:
        return float(np.abs(self.map.adjoint(theta)).max(initial=0.0))

    def violation(self, v: Array) -> float:
        return 0.0


Program = PatternProgram | UnitProgram
"""What the ADMM solves: its variables `V` are one array, and `map` leads from differences to outputs `(n, K)`."""
