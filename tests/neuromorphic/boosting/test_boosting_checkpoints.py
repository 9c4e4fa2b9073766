"""A fit that is cut off and called again ends with the bits of one that never was."""

from typing import Any

import numpy as np
import pytest

from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.boosting.training import checkpoint
from relaxon.neuromorphic.checkpoints import Checkpoints, DamagedCheckpoint

X = np.random.default_rng(0).standard_normal((150, 4))
Y = np.sin(2.0 * X[:, 0]) + X[:, 1] * X[:, 2]
FILE = "checkpoint.safetensors"
FITS: dict[str, tuple[Any, Any]] = {
    "plain": (GradientBoostedNetworkRegressor(9, random_state=0), Y),
    "two outputs in stages of two": (
        GradientBoostedNetworkRegressor(9, units_per_stage=2, random_state=0),
        np.column_stack([Y, X[:, 3]]),
    ),
    "a part of the rows": (GradientBoostedNetworkRegressor(9, subsample=0.4, restarts=2, random_state=3), Y),
    "published": (GradientBoostedNetworkRegressor(9, newton="published", random_state=0), Y),
    "deep": (GradientBoostedNetworkRegressor(layers=(4, 5), loss="huber", random_state=0), Y),
    "early stopping": (
        GradientBoostedNetworkRegressor(60, early_stopping=True, n_iter_no_change=2, tol=0.01, random_state=0),
        Y,
    ),
    "classes": (GradientBoostedNetworkClassifier(9, random_state=0), np.digitize(Y, [-0.5, 0.5])),
    "two classes": (GradientBoostedNetworkClassifier(9, class_weight="balanced", random_state=1), Y > 0),
}


class Killed(Exception):
    """In place of a signal."""


def killed_at(stage: int) -> Any:
    def callback(progress: Any) -> None:
        if progress.stage == stage:
            raise Killed

    return callback


def same(first: Any, second: Any) -> None:
    assert first.outcome_ is second.outcome_
    for name in ("train_loss_", "validation_loss_", "feature_importances_"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    for one, other in zip(first.stages(), second.stages(), strict=True):
        for name in ("weights", "bias", "output", "intercept"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("kind", FITS)
def test_a_fit_that_is_cut_off_again_and_again_has_the_bits_of_an_unbroken_one(kind: str, tmp_path: Any) -> None:
    from sklearn.base import clone

    estimator, y = FITS[kind]
    whole = clone(estimator).fit(X, y)
    every, seen = Checkpoints(tmp_path, seconds=0.0), []
    # Each is cut off before its last stage is kept, so the next one does that stage again.
    for stage in range(2, whole.n_stages_ + 1, 3):
        with pytest.raises(Killed):
            clone(estimator).fit(X, y, callback=killed_at(stage), checkpoints=every)
    broken = clone(estimator).fit(X, y, callback=lambda progress: seen.append(progress), checkpoints=every)
    same(broken, whole)
    assert seen[0].stage > 1
    assert [one.stage for one in seen] == list(range(seen[0].stage, seen[0].stage + len(seen)))
    assert all(one.seconds > 0 for one in seen)
    # What has ended is not trained again.
    finished: list[Any] = []
    same(clone(estimator).fit(X, y, callback=finished.append, checkpoints=every), whole)
    assert finished == []


def test_a_fit_that_was_stopped_goes_on_where_it_was(tmp_path: Any) -> None:
    """A stop keeps the state, however lately the last checkpoint was."""
    seldom = Checkpoints(tmp_path, seconds=1e6)
    stopped = GradientBoostedNetworkRegressor(9, random_state=0).fit(
        X, Y, callback=lambda p: p.stage == 4, checkpoints=seldom
    )
    assert stopped.n_stages_ == 4
    seen: list[int] = []
    again = GradientBoostedNetworkRegressor(9, random_state=0)
    again.fit(X, Y, callback=lambda progress: seen.append(progress.stage), checkpoints=seldom)
    assert seen == [5, 6, 7, 8, 9]
    same(again, GradientBoostedNetworkRegressor(9, random_state=0).fit(X, Y))


def test_a_checkpoint_is_written_no_more_often_than_asked(tmp_path: Any) -> None:
    GradientBoostedNetworkRegressor(5, random_state=0).fit(X, Y, checkpoints=Checkpoints(tmp_path, seconds=1e6))
    assert not (tmp_path / FILE).exists()


def test_without_a_seed_a_fit_goes_on_with_the_one_that_was_drawn(tmp_path: Any) -> None:
    every = Checkpoints(str(tmp_path), seconds=0.0)
    with pytest.raises(Killed):
        GradientBoostedNetworkRegressor(6).fit(X, Y, callback=killed_at(3), checkpoints=every)
    broken = GradientBoostedNetworkRegressor(6).fit(X, Y, checkpoints=every)
    same(broken, GradientBoostedNetworkRegressor(6).fit(X, Y, checkpoints=every))


@pytest.mark.parametrize(
    ("changes", "rows", "named"),
    [
        ({"learning_rate": 0.4}, slice(None), "settings"),
        ({"random_state": 1}, slice(None), "settings"),
        ({"loss": "huber"}, slice(None), "loss"),
        ({"loss": "huber", "huber_delta": 1.3}, slice(None), "loss"),
        ({}, slice(1, None), "train"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changes: Any, rows: Any, named: str, tmp_path: Any) -> None:
    every = Checkpoints(tmp_path, seconds=0.0)
    first = {"loss": "huber"} if "huber_delta" in changes else {}
    GradientBoostedNetworkRegressor(3, **{"random_state": 0, **first}).fit(X, Y, checkpoints=every)
    other = GradientBoostedNetworkRegressor(3, **{"random_state": 0, **changes})
    with pytest.raises(ValueError, match=f"checkpoints must be in a separate folder.*with different {named}"):
        other.fit(X[rows], Y[rows], checkpoints=every)


def test_a_damaged_checkpoint_is_told_of_as_such(tmp_path: Any) -> None:
    every = Checkpoints(tmp_path, seconds=0.0)
    GradientBoostedNetworkRegressor(3, random_state=0).fit(X, Y, checkpoints=every)
    whole = (tmp_path / FILE).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint, match="checkpoint"):
            GradientBoostedNetworkRegressor(3, random_state=0).fit(X, Y, checkpoints=every)


def test_a_checkpoint_of_another_release_counts_as_damaged_so_that_a_job_begins_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = Checkpoints(tmp_path, seconds=0.0)
    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoint, "FORMAT", 1)
        GradientBoostedNetworkRegressor(3, random_state=0).fit(X, Y, checkpoints=every)
    with pytest.raises(DamagedCheckpoint, match=r"must have format 3 .* got 1$"):
        GradientBoostedNetworkRegressor(3, random_state=0).fit(X, Y, checkpoints=every)


def test_what_cannot_be_is_refused_by_name(tmp_path: Any) -> None:
    with pytest.raises(TypeError, match=r"^folder must be a path"):
        Checkpoints(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^seconds must"):
        Checkpoints(tmp_path, seconds=-1.0)
    warm = GradientBoostedNetworkRegressor(3, warm_start=True, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match=r"^checkpoints must be None for a warm start"):
        warm.set_params(n_units=5).fit(X, Y, checkpoints=Checkpoints(tmp_path))
