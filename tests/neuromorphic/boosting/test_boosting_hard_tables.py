"""The guard of the boosted estimators, hard tables, refusals and early ends."""

from typing import Any

import numpy as np
import pytest
from boosted import CX, CY, LOSSES, X, Y, classifier, labels, regressor

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    Outcome,
    StageProgress,
)
from relaxon.neuromorphic.boosting.training import losses


@pytest.mark.parametrize("newton", ["guarded", "published"])
@pytest.mark.parametrize("constant", [0.0, 3.7, -1e9])
def test_a_constant_target_is_predicted_exactly(newton: Any, constant: float) -> None:
    y = np.full(50, constant)
    for loss in ("squared", "absolute", "huber", "quantile"):
        model = regressor(loss=loss, newton=newton).fit(X[:50], y)
        np.testing.assert_allclose(model.predict(X), constant, rtol=1e-14)
        assert model.outcome_ in (Outcome.FITTED, Outcome.STALLED)


def test_zeros_for_poisson_are_refused() -> None:
    with pytest.raises(ValueError, match="y must have a value above 0"):
        regressor(loss="poisson").fit(X[:50], np.zeros(50))
    with pytest.raises(ValueError, match="y must not be negative"):
        regressor(loss="poisson").fit(X[:50], np.full(50, -1.0))


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="y must have at least two classes.*got one class: 'only'$"):
        classifier().fit(X[:20], ["only"] * 20)
    with pytest.raises(ValueError, match="y must have at least two classes"):
        classifier().fit(X[:20], np.arange(20) % 2, sample_weight=np.arange(20) % 2)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("units", [1, 4])
def test_separable_classes_never_give_nan(classes: int, units: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=120)
    x = rng.normal(size=(120, 2)) * 0.01 + 100.0 * y[:, None]
    model = classifier(80, units_per_stage=units, learning_rate=1.0, ridge=0.0).fit(x, y)
    for probabilities in model.staged_predict_proba(np.vstack([x, 1e12 * x, -1e300 * x[:5]])):
        assert np.isfinite(probabilities).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    assert model.score(x, y) == 1.0
    assert model.train_loss_[-1] < 1e-3
    assert np.isfinite(model.network_.output).all()


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_no_guarded_stage_moves_a_log_mean_beyond_the_trust_radius(rate: float) -> None:
    """A few huge counts far from the rest: Newton's step there is the number of rows, in logarithms."""
    y, x = np.ones(120), np.random.default_rng(0).normal(size=(120, 2))
    y[:3], x[:3] = 1e6, 50.0
    model = regressor(20, loss="poisson", learning_rate=rate, ridge=0.0).fit(x, y)
    logs = np.log([*model.truncate(0).predict(x)[None], *model.staged_predict(x)])
    largest = np.abs(np.diff(logs, axis=0)).max()
    assert 0.9 * losses.LOGIT_RADIUS * rate <= largest <= losses.LOGIT_RADIUS * rate * (1 + 1e-9)
    np.testing.assert_allclose(model.predict(x)[:3], 1e6, rtol=0.2)


def test_the_published_step_on_separable_classes_ends_before_it_is_not_finite() -> None:
    y = np.repeat([0, 1], 30)
    x = np.linspace(0, 1e-3, 60)[:, None] + 100.0 * y[:, None]
    model = classifier(300, newton="published", learning_rate=1.0).fit(x, y)
    assert np.isfinite(model.predict_proba(x)).all()
    assert model.score(x, y) == 1.0


@pytest.mark.parametrize("make", [regressor, classifier])
def test_duplicated_constant_and_huge_columns_are_no_trouble(make: Any) -> None:
    x, y = (X, Y) if make is regressor else (CX, CY)
    wide = np.column_stack([x, x, x[:, 0], np.full(len(x), 7.0), np.zeros(len(x)), 1e6 * x, 1e-200 * x, 1e200 * x])
    model = make(20).fit(wide, y)
    assert np.isfinite(model.network_.raw(wide)).all()
    assert model.score(wide, y) > 0.5 * make(20).fit(x, y).score(x, y)
    constant = 2 * x.shape[1] + 1
    np.testing.assert_array_equal(model.feature_importances_[[constant, constant + 1]], 0.0)


def test_inputs_at_the_end_of_the_range_of_numbers_never_give_nan() -> None:
    far = np.sign(np.random.default_rng(0).normal(size=(50, 6))) * 1.7e308
    for model in (regressor(), classifier()):
        model.fit(1e-100 * X, CY[: len(X)] if isinstance(model, GradientBoostedNetworkClassifier) else Y)
        assert np.isfinite(model.network_.raw(far)).all()
        assert np.isfinite(model.network_.input_gradient(far, 0)).all()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_three_rows_or_fewer_are_fitted(rows: int) -> None:
    for newton in ("guarded", "published"):
        model = regressor(newton=newton).fit(X[:rows], Y[:rows])
        assert np.isfinite(model.predict(X)).all()
        if rows == 1:
            continue  # of one class
        labelled = classifier(newton=newton).fit(X[:rows], np.arange(rows))
        assert np.isfinite(labelled.predict_proba(X)).all()
        if newton == "guarded":
            assert labelled.score(X[:rows], np.arange(rows)) == 1.0


def test_missing_values_are_refused_or_imputed_by_choice() -> None:
    holes = X.copy()
    holes[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        regressor().fit(holes, Y)
    model = regressor(missing="mean").fit(holes, Y)
    filled = np.where(np.isnan(holes), np.nanmean(holes, axis=0), holes)
    np.testing.assert_allclose(model.predict(holes), model.predict(filled), rtol=1e-9)
    assert model.score(holes, Y) > 0.5
    holes[:, 2] = np.nan
    assert np.isfinite(regressor(missing="mean").fit(holes, Y).predict(holes)).all()
    for bad in (np.inf, -np.inf):
        holes[0, 0] = bad
        with pytest.raises(ValueError, match="infinity"):
            regressor(missing="mean").fit(holes, Y)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"n_units": 0}, ValueError, "n_units must be at least 1, got 0"),
        ({"n_units": 2.5}, TypeError, "n_units must be an integer"),
        ({"units_per_stage": True}, TypeError, "units_per_stage"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be greater than 0 and at most 1"),
        ({"learning_rate": 1.5}, ValueError, "learning_rate"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
        ({"subsample": 0.0}, ValueError, "subsample"),
        ({"subsample": "half"}, TypeError, "subsample"),
        ({"ridge": -1.0}, ValueError, "ridge must be at least 0"),
        ({"ridge": np.nan}, ValueError, "ridge"),
        ({"newton": "wild"}, ValueError, "newton must be 'guarded' or 'published'"),
        ({"missing": "drop"}, ValueError, "missing"),
        ({"layers": ()}, ValueError, "layers"),
        ({"layers": (3, 0)}, ValueError, "layers must be at least 1"),
        ({"loss": "hinge"}, ValueError, "loss must be"),
        ({"loss": "quantile", "quantile": 1.0}, ValueError, "quantile"),
        ({"huber_delta": 0.0}, ValueError, "huber_delta"),
        ({"early_stopping": "yes"}, TypeError, "early_stopping"),
        ({"early_stopping": True, "validation_fraction": 1e-9}, ValueError, "validation_fraction"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_by_name(options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        regressor(**options).fit(X, Y)


def test_data_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="[Ww]eights must contain"):
        regressor().fit(X, Y, sample_weight=np.zeros(len(Y)))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        regressor().fit(X, Y, sample_weight=-np.ones(len(Y)))
    with pytest.raises(ValueError, match="y must be at most"):
        regressor().fit(X, 1e200 * Y)


# ---- early ends --------------------------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_stage() -> None:
    rng = np.random.default_rng(0)
    y = X[:, 0] + rng.normal(size=len(X))
    options = {"early_stopping": True, "n_iter_no_change": 4, "ridge": 0.0, "learning_rate": 1.0}
    model = regressor(150, **options, validation_fraction=0.3).fit(X, y)
    assert model.outcome_ is Outcome.EARLY_STOPPED
    assert model.n_units_ < 150
    assert model.validation_loss_.argmin() == len(model.validation_loss_) - 1 == model.n_stages_
    assert len(model.train_loss_) == model.n_stages_ + 1


def test_a_callback_ends_training_with_the_stages_done() -> None:
    seen: list[StageProgress] = []

    def watch(progress: StageProgress) -> bool:
        seen.append(progress)
        return progress.stage == 4

    model = regressor(50, units_per_stage=3).fit(X, Y, callback=watch)
    assert model.outcome_ is Outcome.CANCELLED
    assert model.n_units_ == 12
    assert [p.units for p in seen] == [3, 6, 9, 12]
    assert [p.loss for p in seen] == model.train_loss_[1:].tolist()
    np.testing.assert_array_equal(model.predict(X), regressor(12, units_per_stage=3).fit(X, Y).predict(X))


def test_a_cancelled_run_can_be_resumed_to_the_same_bits() -> None:
    model = regressor(15, warm_start=True).fit(X, Y, callback=lambda p: p.stage == 6)
    assert model.n_units_ == 6
    model.fit(X, Y)
    assert model.outcome_ is Outcome.COMPLETED
    np.testing.assert_array_equal(model.predict(X), regressor(15).fit(X, Y).predict(X))


# ---- the guard ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("learning_rate", [0.3, 1.0])
@pytest.mark.parametrize("subsample", [0.3, 1.0])
def test_the_training_loss_never_rises(loss: Any, learning_rate: float, subsample: float) -> None:
    """Recomputed here from the staged predictions, not read from the estimator."""
    model = regressor(loss=loss, learning_rate=learning_rate, subsample=subsample, ridge=0.0, units_per_stage=2)
    y = np.exp(Y / 10) if loss == "poisson" else Y
    w = np.random.default_rng(0).uniform(0.1, 3.0, len(Y))
    model.fit(X, y, sample_weight=w)
    error = np.array([y - p for p in model.staged_predict(X)])
    if loss == "squared":
        total = (error**2) @ w
    elif loss in ("absolute", "quantile"):
        total = np.abs(error) @ w
    elif loss == "poisson":
        mean = np.array(list(model.staged_predict(X)))
        total = (mean - y * np.log(mean)) @ w
    else:
        total = model.train_loss_[1:]
    assert len(total) == model.n_stages_ == 6
    assert (np.diff(total) <= 1e-12 * np.abs(total[:-1])).all()
    assert (np.diff(model.train_loss_) <= 0.0).all()
    assert model.train_loss_[-1] < 0.9 * model.train_loss_[0]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("learning_rate", [0.3, 1.0])
def test_the_log_loss_never_rises(classes: int, learning_rate: float) -> None:
    y = labels(classes)
    model = classifier(learning_rate=learning_rate, subsample=0.3, ridge=0.0).fit(CX, y)
    found = [-np.log(p[np.arange(len(y)), y]).mean() for p in model.staged_predict_proba(CX)]
    assert (np.diff(found) <= 1e-12).all()
    np.testing.assert_allclose(model.train_loss_[1:], found, rtol=1e-10)
    assert found[-1] < 0.8 * model.train_loss_[0]


def test_the_published_step_does_raise_the_loss_which_the_guard_prevents() -> None:
    published = regressor(40, newton="published", subsample=0.1, ridge=0.0, learning_rate=1.0).fit(X, Y)
    guarded = regressor(40, subsample=0.1, ridge=0.0, learning_rate=1.0).fit(X, Y)
    assert (np.diff(published.train_loss_) > 0.0).any()
    assert not (np.diff(guarded.train_loss_) > 0.0).any()
