"""Estimators by name, for the classifier, the training command and the service."""

from __future__ import annotations

from collections.abc import Callable

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


def build_estimator(name: str, n: int, radius: float, steps: int | None = None) -> Estimator:
    """Return the estimator of this name; ValueError for an unknown name.

    `n` is used by the two Cauchy estimators, `radius` by every estimator with a nudge. `steps` is the period of
    "continuous" and the number of steps of "unrolled"; None means their own defaults.
    """
    by_name = {kind.name: kind for kind in ESTIMATORS}
    if name not in by_name:
        raise ValueError(f"estimator must be an Estimator or one of {', '.join(map(repr, by_name))}, got {name!r}")
    kind: Callable[..., Estimator] = by_name[name]
    given = () if steps is None else (steps,)
    if kind in (Cauchy, AsymmetricCauchy):
        return kind(n, radius)
    if kind in (Centred, OneSided):
        return kind(radius)
    if kind is ContinuousOscillation:
        return kind(radius, *given)
    return kind(*given) if kind is Unrolled else kind()
