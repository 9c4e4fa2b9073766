"""Estimators by name, as the classifier, the training command and the service know them."""

from __future__ import annotations

from relaxon.neuromorphic.equilibrium.estimators.exact import Implicit, RecurrentBackprop, Unrolled
from relaxon.neuromorphic.equilibrium.estimators.nudged import (
    AsymmetricCauchy,
    Cauchy,
    Centred,
    ContinuousOscillation,
    Estimator,
    OneSided,
)

ESTIMATORS: tuple[type[Estimator], ...] = (
    Cauchy,
    AsymmetricCauchy,
    Centred,
    OneSided,
    ContinuousOscillation,
    Implicit,
    RecurrentBackprop,
    Unrolled,
)


def estimator_named(name: str, n: int, radius: float, steps: int | None = None) -> Estimator:
    """The estimator of a name; ValueError for an unknown one.

    `n` is taken by the two of Cauchy; `radius` by all with a nudge; `steps` by "continuous" (of a turn) and "unrolled",
    which have their own defaults where it is None.
    """
    if name in (Cauchy.name, AsymmetricCauchy.name):
        return Cauchy(n, radius) if name == Cauchy.name else AsymmetricCauchy(n, radius)
    if name in (Centred.name, OneSided.name):
        return Centred(radius) if name == Centred.name else OneSided(radius)
    if name == ContinuousOscillation.name:
        return ContinuousOscillation(radius) if steps is None else ContinuousOscillation(radius, steps)
    if name == Unrolled.name:
        return Unrolled() if steps is None else Unrolled(steps)
    if name in (Implicit.name, RecurrentBackprop.name):
        return Implicit() if name == Implicit.name else RecurrentBackprop()
    names = ", ".join(repr(kind.name) for kind in ESTIMATORS)
    raise ValueError(f"estimator must be an Estimator or one of {names}, got {name!r}")
