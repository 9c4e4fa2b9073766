"""The two-layer network that corresponds to a solution of the convex program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.formulation import Program, UnitProgram

Array = NDArray[np.float64]

BLOCK = 2**22
"""Largest number of hidden activations computed at once."""


@dataclass(frozen=True, slots=True)
class ConvexNetwork:
    """`f(x) = shift_y + unit_y · (Σ_j (u_jᵀ x̃)₊ α_j)` with `x̃ = ((x − shift) · scale, 1)`.

    Attributes
    ----------
    hidden : (m, d + 1) float64, `u_j`; the last column is the bias.
    output : (m, K) float64, `α_j`.
    shift, scale : (d,) float64, standardisation of the inputs; the scale of a constant column is 0.
    target_shift, target_unit : (K,) float64.
    """

    hidden: Array
    output: Array
    shift: Array
    scale: Array
    target_shift: Array
    target_unit: Array

    @property
    def units(self) -> int:
        """`m`, the number of hidden units."""
        return len(self.hidden)

    def raw(self, x: Array) -> Array:
        """Return outputs `(n, K)` for inputs `(n, d)`."""
        out = np.empty((len(x), self.output.shape[1]))
        rows = max(1, BLOCK // max(self.units, 1))
        for begin in range(0, len(x), rows):
            part = augment(x[begin : begin + rows], self.shift, self.scale)
            out[begin : begin + rows] = np.maximum(part @ self.hidden.T, 0.0) @ self.output
        return self.target_shift + self.target_unit * out

    def penalty(self) -> float:
        """Return `½ Σ_j (‖u_j‖² + ‖α_j‖²)`, which β multiplies in the network's own training problem."""
        return 0.5 * float(np.square(self.hidden).sum() + np.square(self.output).sum())


def augment(x: Array, shift: Array, scale: Array) -> Array:
    """Return standardised inputs with a last column of ones, `(n, d + 1)`."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = np.where(scale > 0.0, (x / 2.0 - shift / 2.0) * scale * 2.0, 0.0)
    return np.hstack([z, np.ones((len(x), 1))])


def recover(program: Program, variables: Array) -> tuple[Array, Array]:
    """Return hidden weights `(m, d)` and output weights `(m, K)` of the network for a solution's variables.

    `(u, α) = (v/√‖v‖, √‖v‖)` for each `v ≠ 0`, `(w/√‖w‖, −√‖w‖)` for each `w ≠ 0` (Pilanci & Ergen 2020, theorem 1):
    the network's objective with `½ β Σ (‖u‖² + α²)` is the program's, as `½ (‖u‖² + α²) = ‖v‖`. In the program of
    units, `u_j` times `√|α_j|` and `sign(α_j) √|α_j|`, where `‖u_j‖ = 1`.
    """
    if isinstance(program, UnitProgram):
        outputs, unit = np.nonzero(variables)
        alpha = variables[outputs, unit]
        hidden = program.units[unit] * np.sqrt(np.abs(alpha))[:, None]
        weights = np.sign(alpha) * np.sqrt(np.abs(alpha))
    else:
        norms = np.linalg.norm(variables, axis=-1)
        outputs, side, pattern = np.nonzero(norms)
        root = np.sqrt(norms[outputs, side, pattern])
        hidden = variables[outputs, side, pattern] / root[:, None]
        weights = np.where(side == 0, root, -root)
    output = np.zeros((len(hidden), len(variables)))
    output[np.arange(len(hidden)), outputs] = weights
    return hidden, output
