"""The constants of a hierarchy and its cycle, which may be chosen for a matrix, each within its bounds."""

from __future__ import annotations

from dataclasses import dataclass

from relaxon.core import validation

MOST_MATCHINGS = 3
"""The largest number of matchings from one level to the next."""


@dataclass(frozen=True, slots=True)
class Constants:
    """Thresholds of the set-up and factors of the cycle; the defaults are one configuration for every matrix.

    All values within the bounds give a symmetric positive definite cycle.

    Parameters
    ----------
    strength : a coupling is strong from this fraction of the geometric mean of both rows' strongest couplings, in
        [0, 1].
    dominated : rows whose off-diagonal magnitudes sum to at most this fraction of the diagonal are left to smoothing,
        in [0, 1).
    dense : the largest number of rows of a level that is solved by a dense inverse, at most 1000.
    matchings : how many times rows, then pairs of them, are paired from one level to the next, 1 to 3.
    correction : factor of the interpolated correction, in (0, 2).
    relaxation : factor of the sweeps (symmetric successive over-relaxation; 1 is Gauss–Seidel), in (0, 2).
    twice : a level takes two steps a visit where it has at most this fraction of the entries of the level above, in
        [0, 1]; the work on all levels then stays within a multiple of that on the first.
    budget : entries on all levels of a cycle, repeated visits included, over those of the first level, at least 1.
    enough : one step on a coarse level is enough where it leaves this fraction of the squared residual, in [0, 1); the
        default is a quarter of its norm.

    Raises
    ------
    TypeError, ValueError : for a value that is not a number, or out of its bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import AlgebraicMultigrid, gallery, solve
    >>> from relaxon.solvers.sparse import Constants
    >>> A = gallery.matrix("layers-3d", 8_000)
    >>> solver = AlgebraicMultigrid(Constants(strength=0.5, relaxation=1.2))
    >>> solve(A, np.ones(A.shape[0]), solver=solver).result.name
    'CONVERGED'
    """

    strength: float = 0.5
    dominated: float = 0.4
    dense: int = 100
    matchings: int = 2
    correction: float = 1.0
    relaxation: float = 1.0
    twice: float = 0.37
    budget: float = 3.0
    enough: float = 0.0625

    def __post_init__(self) -> None:
        for name, most in (("strength", 1.0), ("dominated", 1.0), ("twice", 1.0), ("enough", 1.0)):
            value = validation.non_negative_float(name, getattr(self, name))
            if value > most or (value == most and name in ("dominated", "enough")):
                raise ValueError(
                    f"{name} must be {'at most' if name in ('strength', 'twice') else 'below'} 1, got {value}"
                )
        for name in ("correction", "relaxation"):
            if not validation.positive_float(name, getattr(self, name)) < 2:
                raise ValueError(f"{name} must be below 2, got {getattr(self, name)}")
        if validation.positive_int("matchings", self.matchings) > MOST_MATCHINGS:
            raise ValueError(f"matchings must be at most {MOST_MATCHINGS}, got {self.matchings}")
        if validation.positive_int("dense", self.dense) > 1000:
            raise ValueError(f"dense must be at most 1000, got {self.dense}")
        if validation.positive_float("budget", self.budget) < 1:
            raise ValueError(f"budget must be at least 1, got {self.budget}")


DEFAULTS = Constants()
"""The configuration without learning, the same for every matrix."""
