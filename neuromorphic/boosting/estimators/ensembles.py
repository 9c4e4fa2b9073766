"""Bagged and cross-fitted ensembles whose members are merged into one network, which predicts their mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils.validation import _num_samples

from relaxon.neuromorphic.boosting.networks.merged import MergedNetwork, merge
from relaxon.neuromorphic.boosting.networks.signs import SignNetwork
from relaxon.neuromorphic.parameters import check_choice, check_whole

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """`model` predicts the mean of the members; `out_of_sample` is what members made of rows they had not seen.

    `out_of_sample` is `decision_function` or `predict` of the members that did not see a row, their mean: `(n,)` or
    `(n, K)`; NaN where every member saw the row.
    """

    model: Any
    out_of_sample: Array


def train_ensemble(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    kind: Literal["bagged", "cross_fitted"] = "bagged",
    members: int = 5,
    random_state: int = 0,
) -> Ensemble:
    """Train `members` clones of a boosted network and merge them into one; `estimator` stays as it is.

    "bagged" members see bootstrap samples (Breiman 1996), as weights; "cross_fitted" ones all but one of as many folds.
    The merged network's outputs before the link (numbers, log-means, logits) are the mean of the members': it has the
    units of all, those of each member's first stage first, so that it can be cut at any stage.

    Raises `ValueError` for deep networks and sign units, whose layers do not add up, for members that lack a class,
    and for an `estimator` with a warm start.
    """
    check_whole("members", members)
    check_choice("kind", kind, ("bagged", "cross_fitted"))
    if members < 2:
        raise ValueError(f"members must be at least 2, got {members}")
    _check_estimator(estimator)
    target, classes = np.asarray(y), np.unique(np.asarray(y)) if is_classifier(estimator) else None
    n = _num_samples(X)
    total: Any = 0.0
    count, fitted = np.zeros(n), []
    for index, weight in enumerate(
        _draw_member_weights(kind, members, n, None if classes is None else target, random_state)
    ):
        member = clone(estimator).set_params(random_state=random_state + index).fit(X, target, sample_weight=weight)
        if classes is not None and not np.array_equal(member.classes_, classes):
            raise ValueError(
                f"y must have enough rows of each class for {members} {kind} members: member {index} saw "
                f"{member.classes_.tolist()} of {classes.tolist()}"
            )
        unseen = weight == 0.0
        found = np.asarray(member.predict(X) if classes is None else member.decision_function(X))
        total = total + np.where(unseen.reshape(-1, *(1,) * (found.ndim - 1)), found, 0.0)
        count += unseen
        fitted.append(member)
    with np.errstate(invalid="ignore"):
        out_of_sample = total / count.reshape(-1, *(1,) * (np.ndim(total) - 1))
    return Ensemble(_merge_members(fitted), out_of_sample)


def _check_estimator(estimator: Any) -> None:
    estimator.check_parameters()
    if estimator.binary or (estimator.layers is not None and len(tuple(estimator.layers)) > 1):
        what = "sign units" if estimator.binary else f"layers={tuple(estimator.layers)}"
        raise ValueError(f"estimator must have one layer of logistic units to be merged, got {what}")
    if estimator.warm_start:
        raise ValueError("estimator must not have warm_start=True: members are trained from the start")
    if estimator.categorical_features is not None:
        raise ValueError("estimator must not have categorical_features: members have statistics of their own")
    if estimator.missing == "indicate":
        raise ValueError("estimator must not have missing='indicate': members may indicate other columns")


def _draw_member_weights(kind: str, members: int, n: int, labels: Any, seed: int) -> list[Array]:
    if kind == "bagged":
        rng = np.random.default_rng([seed, 0, 3])
        return [np.bincount(rng.integers(n, size=n), minlength=n).astype(np.float64) for _ in range(members)]
    folds = (KFold if labels is None else StratifiedKFold)(members, shuffle=True, random_state=seed)
    found = []
    for _, held in folds.split(np.zeros(n), labels):
        weight = np.ones(n)
        weight[held] = 0.0
        found.append(weight)
    return found


def _merge_members(members: list[Any]) -> Any:
    """The first member with the mean network of all."""
    first = members[0]
    first.network_ = average_networks([member.network_ for member in members])
    first._unit = np.ones(first.network_.outputs)
    first._attempts = sum(member._attempts for member in members)
    for name in ("n_refused_stages_", "n_dead_units_"):
        setattr(first, name, sum(getattr(member, name) for member in members))
    first.feature_importances_ = np.mean([member.feature_importances_ for member in members], axis=0)
    stages = first.network_.stages
    # The losses of members are of other rows: there is no curve of the whole.
    first.train_loss_, first.validation_loss_ = np.full(stages + 1, np.nan), np.empty(0)
    return first


def average_networks(networks: list[MergedNetwork]) -> MergedNetwork:
    """One network whose outputs are the mean of those of `networks`, each of one hidden layer of logistic units.

    Units are brought to one standardisation of the inputs; a missing input counts as the first network's mean.
    """
    if any(isinstance(network, SignNetwork) or len(network.layers) > 1 for network in networks):
        raise ValueError("networks must have one hidden layer of logistic units")
    shift, scale = networks[0].shift, networks[0].scale.copy()
    for network in networks[1:]:
        # A column that was constant to the first members has the scale of one that it was not.
        scale = np.where(scale == 0.0, network.scale, scale)
    parts = []
    for network in networks:
        share = network.gain / len(networks)
        by = np.divide(network.scale, scale, out=np.zeros_like(scale), where=scale > 0.0)
        for place, stage in enumerate(network.split()):
            bias = stage.bias + stage.weights @ ((shift - network.shift) * network.scale)
            moved = replace(
                stage,
                weights=stage.weights * by,
                bias=bias,
                output=stage.output * share,
                intercept=stage.intercept * share,
            )
            parts.append((place, moved))
    stages = [stage for _, stage in sorted(parts, key=lambda part: part[0])]
    initial = np.asarray(sum(network.gain * network.initial for network in networks) / len(networks))
    return merge(tuple(stages), initial, np.ones(len(initial)), shift, scale)
