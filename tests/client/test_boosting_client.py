"""Boosting through the client: labels and settings travel, jobs are found again, mistakes are refused here."""

import warnings

import numpy as np
import pytest

import relaxon
from relaxon import client as errors
from relaxon.client import BoostingSettings, JobState
from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    UnseenCategoryWarning,
    load,
)

X = np.random.default_rng(0).standard_normal((50, 2))
Y = X[:, 0] ** 2
QUICK = BoostingSettings(n_units=3, random_state=0)
LONG = BoostingSettings(n_units=10_000, learning_rate=1e-3, random_state=0)
SIGN = (X[:, 0] > 0).astype(int)
LABELS = {
    "strings": np.array(["no", "yes é"])[SIGN],
    "objects": np.array(["no", "yes"], object)[SIGN],
    "integers": SIGN * 7 - 3,
    "unsigned": SIGN.astype(np.uint8),
    "floats": SIGN * 2.0,
    "booleans": SIGN == 1,
    "a list": ["no" if one else "yes" for one in SIGN],
}


@pytest.fixture(scope="module")
def done(embedded):
    """A model of `QUICK`, deleted at the end."""
    with relaxon.connect(embedded.target) as client:
        model = client.boosting.train(X, Y, settings=QUICK).result()
        yield model
        client.boosting.delete_model(model)


def test_a_whole_life_of_a_model(client, done):
    ours = GradientBoostedNetworkRegressor(3, random_state=0).fit(X, Y)
    assert np.array_equal(client.boosting.predict(done, X), ours.predict(X))
    assert np.array_equal(client.boosting.predict(done.name, X, n_units=1), ours.truncate(1).predict(X))
    short = client.boosting.truncate(done, 1, name="short")
    assert np.array_equal(client.boosting.predict(short, X), ours.truncate(1).predict(X))
    assert {"short", done.name} <= {model.name for model in client.boosting.models()}
    assert client.boosting.model("short").ends.tolist() == [0, 1]
    client.boosting.delete_model("short")
    with pytest.raises(errors.NotFound, match="short"):
        client.boosting.model("short")
    assert (done.task, done.outcome, done.stages, done.n_features) == ("regression", "completed", 3, 2)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_went(client, kind):
    labels = LABELS[kind]
    job = client.boosting.train(X, labels, task="classification", settings=QUICK)
    ours = GradientBoostedNetworkClassifier(3, random_state=0).fit(X, labels)
    model = job.result()
    predicted = client.boosting.predict(model, X)
    assert predicted.tolist() == ours.predict(X).tolist()
    assert predicted.dtype.kind in {"objects": "U", "unsigned": "i", "a list": "U"}.get(
        kind, np.asarray(labels).dtype.kind
    )
    assert model.classes.tolist() == ours.classes_.tolist()
    assert np.array_equal(client.boosting.predict_proba(model, X), ours.predict_proba(X))
    assert np.array_equal(client.boosting.decision_function(model, X), ours.decision_function(X))
    client.boosting.delete_model(model)


def test_a_job_is_found_again_and_cancelled_by_another_client(client, embedded):
    job = client.boosting.train(X, Y, settings=LONG, model="long")
    first = next(job.progress())
    assert (first.stage, first.units, first.units_wanted) == (1, 1, 10_000)
    with pytest.raises(errors.DeadlineExceeded, match="it goes on"):
        job.result(timeout=0.0)
    with pytest.raises(errors.FailedPrecondition, match="has not ended"):
        job.delete()
    with relaxon.connect(embedded.target) as other:
        again = other.boosting.job(job.name)
        assert (again.model, again.state) == ("long", JobState.RUNNING)
        again.cancel()
    model = job.result()
    assert (model.name, model.outcome) == ("long", "cancelled")
    assert model.stages == len(list(job.progress())) == 1 + len(list(job.progress(skip=1)))
    assert job.state is JobState.DONE
    job.delete()
    with pytest.raises(errors.NotFound):
        job.result()
    assert np.isfinite(client.boosting.predict(model, X)).all()
    client.boosting.delete_model(model)


def test_a_waiting_job_s_cancel_raises_cancelled(client):
    running = client.boosting.train(X, Y, settings=LONG)
    waiting = client.boosting.train(X, Y, settings=QUICK)
    waiting.cancel()
    with pytest.raises(errors.Cancelled):
        waiting.result()
    assert waiting.state is JobState.FAILED
    running.cancel()
    client.boosting.delete_model(running.result())


def test_what_the_engine_refuses_is_the_result_s_error(client):
    job = client.boosting.train(X, -Y - 1, settings=BoostingSettings(loss="poisson"))
    with pytest.raises(errors.InvalidArgument, match="must not be negative for loss='poisson'") as caught:
        job.result()
    assert caught.value.field == "y"


def test_the_input_may_be_of_any_layout_and_is_not_modified(client, done):
    for rows in (np.asfortranarray(X), X[::-1][::-1], X.astype(">f8"), X.tolist()):
        assert np.array_equal(client.boosting.predict(done, rows), client.boosting.predict(done, X))
    frozen = X.copy()
    frozen.flags.writeable = False
    client.boosting.train(frozen, Y, settings=QUICK, model="frozen").result()
    assert np.array_equal(client.boosting.predict("frozen", X), client.boosting.predict(done, X))
    client.boosting.delete_model("frozen")


CODES = np.column_stack([np.repeat([0.0, 1.5, 7.0, -2.0, 3.0], 10), X])
"""A column of categories and two of numbers."""
HEIGHTS = 3.0 * (CODES[:, 0] == 7.0) - 2.0 * (CODES[:, 0] == 1.5) + X[:, 0]
CODED = {"n_units": 6, "random_state": 0, "missing": "mean", "categorical_features": [0]}
CONSTRAINED = CODED | {"monotone_constraints": [0, 1, 0]}


def warned_of(call):
    """What a call returns, and the unseen categories that it warns of, as a warning at the line of the call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call()
    assert {(one.category, one.filename) for one in caught} <= {(UnseenCategoryWarning, __file__)}
    return found, [str(one.message) for one in caught]


def unseen_and_missing():
    strange = CODES.copy()
    strange[:2, 0], strange[2, 1], strange[3:5, 0] = np.nan, np.nan, (99.0, 0.5)
    return strange


@pytest.mark.parametrize("options", [CODED, CONSTRAINED, CONSTRAINED | {"missing": "indicate"}])
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_categories_and_constraints_predict_as_in_process(client, options, classes):
    if classes == 3 and "monotone_constraints" in options:
        options = {**options, "monotone_constraints": [0, 0, 0]}
    holes = CODES.copy()
    holes[::9, 0] = np.nan
    kind = GradientBoostedNetworkClassifier if classes else GradientBoostedNetworkRegressor
    y = np.digitize(HEIGHTS, [-1.0, 1.0][: classes - 1]) if classes else HEIGHTS
    ours = kind(**options).fit(holes, y)
    task = "classification" if classes else "regression"
    model = client.boosting.train(holes, y, task=task, settings=BoostingSettings(**options)).result()
    short = client.boosting.truncate(model, 3)
    for rows in (holes, unseen_and_missing(), holes.astype(np.float32)):
        for there, here in ((model, ours), (short, ours.truncate(3))):
            expected, warned = warned_of(lambda here=here, rows=rows: here.predict(rows))
            found, told = warned_of(lambda there=there, rows=rows: client.boosting.predict(there, rows))
            assert np.array_equal(found, expected)
            assert told == warned
    assert warned_of(lambda: ours.predict(unseen_and_missing()))[1]
    if classes:
        assert np.array_equal(client.boosting.predict_proba(model, holes), ours.predict_proba(holes))
    for one in (model, short):
        client.boosting.delete_model(one)


def test_models_with_categories_travel_both_ways_unless_they_are_strings(client, embedded, tmp_path):
    holes = np.where(CODES == 7.0, np.nan, CODES)
    ours = GradientBoostedNetworkRegressor(**CONSTRAINED).fit(CODES, HEIGHTS)
    ours.save(tmp_path / "numbers")
    client.models.upload("boosting", tmp_path / "numbers", name="coded")
    assert np.array_equal(client.boosting.predict("coded", holes), ours.predict(holes))
    client.models.download("boosting", "coded", tmp_path / "back")
    assert np.array_equal(load(tmp_path / "back").predict(CODES), ours.predict(CODES))
    with pytest.raises(errors.FailedPrecondition, match="categories"):
        client.models.download("boosting", "coded", tmp_path / "onnx", format="onnx")
    client.boosting.delete_model("coded")
    words = np.column_stack([np.array(["a", "b", "c", "d", "e"], object).repeat(10), X])
    GradientBoostedNetworkRegressor(2, categorical_features=[0]).fit(words, HEIGHTS).save(tmp_path / "words")
    with pytest.raises(errors.InvalidArgument, match="categories are numbers"):
        client.models.upload("boosting", tmp_path / "words", name="words")


BAD_TRAININGS = {
    "X of one axis": ({"X": Y}, "X"),
    "X without rows": ({"X": np.zeros((0, 2))}, "X"),
    "X of text": ({"X": [["a", "b"]]}, "X"),
    "complex X": ({"X": X.astype(complex)}, "X"),
    "NaN in X": ({"X": np.where(X > 1, np.nan, X)}, "X"),
    "a scalar X": ({"X": 1.0}, "X"),
    "y of other rows": ({"y": Y[1:]}, "y"),
    "y of three axes": ({"y": Y[:, None, None]}, "y"),
    "NaN in y": ({"y": np.where(Y > 1, np.nan, Y)}, "y"),
    "labels with fractions": ({"y": Y, "task": "classification"}, "y"),
    "labels of two axes": ({"y": X > 0, "task": "classification"}, "y"),
    "labels of objects": ({"y": [None] * 50, "task": "classification"}, "y"),
    "labels of one class": ({"y": np.zeros(50, int), "task": "classification"}, "y"),
    "an unknown task": ({"task": "ranking"}, "task"),
    "settings in a dictionary": ({"settings": {"n_units": 3}}, "settings"),
    "units in floats": ({"settings": BoostingSettings(n_units=3.0)}, "n_units"),
    "too many units to count": ({"settings": BoostingSettings(n_units=2**63)}, "n_units"),
    "an infinite ridge": ({"settings": BoostingSettings(ridge=float("inf"))}, "ridge"),
    "early stopping of 1": ({"settings": BoostingSettings(early_stopping=1)}, "early_stopping"),
    "a number for loss": ({"settings": BoostingSettings(loss=2)}, "loss"),
    "no unit": ({"settings": BoostingSettings(n_units=0)}, "n_units"),
    "an unknown loss": ({"settings": BoostingSettings(loss="l2")}, "loss"),
    "class weights of a regression": ({"settings": BoostingSettings(class_weight=[1.0])}, "class_weight"),
    "class weights by a wrong name": ({"settings": BoostingSettings(class_weight="even")}, "class_weight"),
    "a mask": (
        {"settings": BoostingSettings(categorical_features=[True, False])},
        "categorical_features",
    ),
    "categories by name": ({"settings": BoostingSettings(categorical_features=["town"])}, "categorical_features"),
    "categories from types": (
        {"settings": BoostingSettings(categorical_features="from_dtype")},
        "categorical_features",
    ),
    "a category beyond the columns": ({"settings": BoostingSettings(categorical_features=[2])}, "categorical_features"),
    "constraints by name": ({"settings": BoostingSettings(monotone_constraints={"x": 1})}, "monotone_constraints"),
    "no constraint": ({"settings": BoostingSettings(monotone_constraints=[])}, "monotone_constraints"),
    "a constraint of a half": ({"settings": BoostingSettings(monotone_constraints=[0.5, 0])}, "monotone_constraints"),
    "constraints of other columns": ({"settings": BoostingSettings(monotone_constraints=[1])}, "monotone_constraints"),
    "a huge constraint": ({"settings": BoostingSettings(monotone_constraints=[2**40, 0])}, "monotone_constraints"),
    "weights of other rows": ({"sample_weight": np.ones(49)}, "sample_weight"),
    "a negative weight": ({"sample_weight": -np.ones(50)}, "sample_weight"),
    "a path for a name": ({"model": "../x"}, "model"),
    "a number for a name": ({"model": 3}, "model"),
    "timeout 0": ({"timeout": 0}, "timeout"),
}


@pytest.mark.parametrize("name", BAD_TRAININGS)
def test_a_bad_training_is_refused_by_the_argument_s_name(client, name):
    changes, field = BAD_TRAININGS[name]
    with pytest.raises(errors.InvalidArgument) as caught:
        client.boosting.train(**{"X": X, "y": Y, "settings": QUICK, **changes})
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_bad_predictions_are_refused_by_the_argument_s_name(client, done):
    for call, field in (
        (lambda: client.boosting.predict(done, X[:, :1]), "X"),
        (lambda: client.boosting.predict(done, np.where(X > 1, np.nan, X)), "X"),
        (lambda: client.boosting.predict(done, X, n_units=4), "n_units"),
        (lambda: client.boosting.predict(done, X, n_units=1.0), "n_units"),
        (lambda: client.boosting.predict_proba(done, X), "output"),
        (lambda: client.boosting.predict(3, X), "model"),
        (lambda: client.boosting.predict("../x", X), "model"),
        (lambda: client.boosting.truncate(done, 1, name="a/b"), "name"),
    ):
        with pytest.raises(errors.InvalidArgument) as caught:
            call()
        assert caught.value.field == field


def test_a_name_that_is_taken_is_told_apart(client, done):
    with pytest.raises(errors.AlreadyExists, match=done.name):
        client.boosting.train(X, Y, settings=QUICK, model=done.name)


def test_the_settings_are_the_messages_fields():
    from dataclasses import fields

    from relaxon.proto import boosting_pb2

    ours = {field.name for field in fields(BoostingSettings)} - {"class_weight"} | {"balanced", "class_weights"}
    assert ours == set(boosting_pb2.BoostingSettings.DESCRIPTOR.fields_by_name)
