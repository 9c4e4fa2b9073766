"""Boosted networks over the wire: predictions, truncation, stored models, and refusals before any work."""

import grpc
import numpy as np
import pytest
from boosting_calls import (
    DEADLINE,
    X,
    Y,
    header,
    names,
    operations,
    predict,
    refused,
    refused_field,
    requests,
    stubs_of,
    train,
    trained,
    wait,
)
from google.rpc import error_details_pb2

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    Outcome,
)
from relaxon.proto import boosting_pb2 as pb
from relaxon.proto import model_pb2
from relaxon.proto.tensor_pb2 import DATA_TYPE_FLOAT64, TensorHeader
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings

Code = grpc.StatusCode
LABELS = np.digitize(Y, [-2.0, 0.0]).astype(float)
ABC = model_pb2.Classes(strings=model_pb2.Classes.Strings(values=["a", "b", "c"]))
WRONG_NAMES = ["../x", "..", ".", "a/b", "/etc/passwd", ".hidden", "a\0b", "a b", "x" * 65, "é", "-x"]
Probabilities, Decision = pb.BOOSTING_OUTPUT_PROBABILITIES, pb.BOOSTING_OUTPUT_DECISION


def delete(stubs, name):
    stubs.boosting.DeleteModel(pb.DeleteBoostingModelRequest(name=name), timeout=DEADLINE)


def get(stubs, name):
    return stubs.boosting.GetModel(pb.GetBoostingModelRequest(name=name), timeout=DEADLINE)


def truncate(stubs, model, n_units, name=""):
    return stubs.boosting.Truncate(
        pb.TruncateBoostingRequest(model=model, n_units=n_units, name=name), timeout=DEADLINE
    )


@pytest.fixture(scope="module")
def regression(shared):
    return trained(wait(shared, train(shared, model="regression", settings={"n_units": 6})))


@pytest.fixture(scope="module")
def classification(shared):
    operation = train(shared, y=LABELS, model="classes", classes=ABC, settings={"n_units": 6})
    return trained(wait(shared, operation))


def test_a_regression_over_the_wire_is_the_one_in_process_bit_for_bit(shared, regression):
    ours = GradientBoostedNetworkRegressor(6, random_state=0).fit(X, Y)
    assert np.array_equal(predict(shared, "regression"), ours.predict(X))
    assert np.array_equal(predict(shared, "regression", n_units=2), ours.truncate(2).predict(X))
    assert list(regression.train_loss) == ours.train_loss_.tolist()
    assert list(regression.feature_importances) == ours.feature_importances_.tolist()
    assert (regression.classifier, regression.n_features, regression.outputs) == (False, 3, 1)


def test_a_classification_over_the_wire_is_the_one_in_process_bit_for_bit(shared, classification):
    ours = GradientBoostedNetworkClassifier(6, random_state=0).fit(X, np.array(list("abc"))[LABELS.astype(int)])
    assert np.array_equal(predict(shared, "classes", output=Probabilities), ours.predict_proba(X))
    assert np.array_equal(predict(shared, "classes", output=Decision), ours.decision_function(X))
    places = predict(shared, "classes").astype(int)
    assert np.array_equal(np.array(list("abc"))[places], ours.predict(X))
    assert list(classification.classes.strings.values) == ["a", "b", "c"]
    assert (classification.classifier, classification.class_count, classification.outputs) == (True, 3, 0)


def test_missing_inputs_that_are_indicated_and_single_precision_reach_the_estimator(shared):
    holes = X.copy()
    holes[::7, 1] = np.nan
    settings = {"missing": "indicate", "precision": "single"}
    model = trained(wait(shared, train(shared, holes, settings=settings)))
    ours = GradientBoostedNetworkRegressor(3, random_state=0, **settings).fit(holes, Y)
    assert np.array_equal(predict(shared, model.name, holes), ours.predict(holes))


def test_every_setting_reaches_the_estimator(shared):
    weights = np.linspace(0.0, 2.0, len(X))
    settings = {
        "layers": [3, 2],
        "loss": "huber",
        "huber_delta": 1.1,
        "units_per_stage": 2,
        "learning_rate": 0.9,
        "newton": "published",
        "subsample": 0.7,
        "ridge": 0.01,
        "stage_iterations": 50,
        "stage_tolerance": 1e-6,
        "restarts": 2,
        "candidates": 3,
        "missing": "mean",
        "early_stopping": True,
        "validation_fraction": 0.2,
        "n_iter_no_change": 3,
        "tol": 1e-3,
        "quantile": 0.4,
        "random_state": 7,
    }
    elsewhere = {"n_units", "balanced", "class_weights"} | {"tau", "binary", "bits", "precision"}
    elsewhere |= {"categorical_features", "monotone_constraints"}
    assert set(settings) | elsewhere == set(pb.BoostingSettings.DESCRIPTOR.fields_by_name)
    holes = X.copy()
    holes[::7, 1] = np.nan
    two = np.column_stack([Y, X[:, 2]]).astype(np.float32)
    model = trained(wait(shared, train(shared, holes, two, weights, settings=settings)))
    ours = GradientBoostedNetworkRegressor(3, **{**settings, "layers": (3, 2)}).fit(holes, two, weights)
    assert np.array_equal(predict(shared, model.name, holes), ours.predict(holes))
    assert list(model.validation_loss) == ours.validation_loss_.tolist()


@pytest.mark.parametrize("settings", [{"loss": "comp-sum", "tau": 1.4}, {"binary": True, "bits": 3}])
def test_the_loss_s_tau_and_sign_units_reach_the_classifier(shared, settings):
    model = trained(wait(shared, train(shared, y=LABELS, classes=ABC, settings=settings)))
    ours = GradientBoostedNetworkClassifier(3, random_state=0, **settings)
    ours.fit(X, np.array(list("abc"))[LABELS.astype(int)])
    assert np.array_equal(predict(shared, model.name, output=Probabilities), ours.predict_proba(X))


def test_class_weights_count_for_the_classes_in_their_order(shared):
    for settings, weight in (
        ({"class_weights": [1.0, 5.0, 0.5]}, {"a": 1.0, "b": 5.0, "c": 0.5}),
        ({"balanced": True}, "balanced"),
    ):
        model = trained(wait(shared, train(shared, y=LABELS, classes=ABC, settings=settings)))
        ours = GradientBoostedNetworkClassifier(3, random_state=0, class_weight=weight)
        ours.fit(X, np.array(list("abc"))[LABELS.astype(int)])
        assert np.array_equal(predict(shared, model.name, output=Probabilities), ours.predict_proba(X))


def test_a_truncated_model_is_one_of_its_own(shared, regression):
    short = truncate(shared, "regression", 2, "short")
    assert (short.units, short.stages, list(short.ends)) == (2, 2, [0, 1, 2])
    assert list(short.train_loss) == list(regression.train_loss[:3])
    assert np.array_equal(predict(shared, "short"), predict(shared, "regression", n_units=2))
    assert get(shared, "regression") == regression
    delete(shared, "short")
    refused(lambda: predict(shared, "short"), Code.NOT_FOUND)
    assert "short" not in names(shared)
    assert len(predict(shared, "regression")) == len(X)


def test_a_truncation_that_is_none_names_the_units(shared, regression):
    assert refused_field(lambda: truncate(shared, "regression", 7)) == "n_units"
    assert refused_field(lambda: predict(shared, "regression", n_units=-1)) == "n_units"
    assert names(shared).count("regression") == 1


def test_a_list_leaves_out_what_can_be_long(shared, regression, classification):
    listed = {
        model.name: model
        for model in shared.boosting.ListModels(pb.ListBoostingModelsRequest(), timeout=DEADLINE).models
    }
    for whole in (regression, classification):
        short = pb.BoostingModel()
        short.CopyFrom(whole)
        for field in ("classes", "ends", "train_loss", "validation_loss", "feature_importances"):
            short.ClearField(field)
        assert listed[whole.name] == short


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_what_is_no_name_is_refused_everywhere_and_opens_nothing(tmp_path, name):
    folder = tmp_path / "models"
    with (
        EmbeddedServer(ServerSettings(port=0, model_folder=str(folder), grace_seconds=0.0)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stubs = stubs_of(channel)
        (folder / "x").mkdir()
        (folder / "boosting").mkdir()
        assert refused_field(lambda: train(stubs, model=name)) == "model"
        assert refused_field(lambda: predict(stubs, name)) == "model"
        assert refused_field(lambda: truncate(stubs, name, 1)) == "model"
        assert refused_field(lambda: get(stubs, name)) == "name"
        assert refused_field(lambda: delete(stubs, name)) == "name"
        assert (folder / "x").is_dir()
        assert list(operations(stubs).operations) == []


def test_a_new_name_is_checked_in_a_truncation_too(shared, regression):
    assert refused_field(lambda: truncate(shared, "regression", 2, "../y")) == "name"


def test_a_link_in_the_store_is_no_model(tmp_path, training):
    GradientBoostedNetworkRegressor(2, random_state=0).fit(X, Y).save(tmp_path / "elsewhere")
    stubs = training(model_folder=str(tmp_path / "models"))
    (tmp_path / "models" / "boosting").mkdir()
    (tmp_path / "models" / "boosting" / "link").symlink_to(tmp_path / "elsewhere")
    refused(lambda: predict(stubs, "link"), Code.NOT_FOUND)
    assert names(stubs) == []


def test_a_model_saved_in_process_can_be_put_into_the_folder(tmp_path, training):
    ours = GradientBoostedNetworkRegressor(2, random_state=0).fit(X, Y)
    ours.save(tmp_path / "models" / "boosting" / "mine")
    stubs = training(model_folder=str(tmp_path / "models"))
    assert names(stubs) == ["mine"]
    assert np.array_equal(predict(stubs, "mine"), ours.predict(X))


def test_a_name_that_is_taken_is_refused_before_the_upload(shared, regression):
    for name in ("regression", "Regression"):  # the same on some file systems
        resource = error_details_pb2.ResourceInfo()
        call = shared.boosting.Train
        first = pb.TrainBoostingRequest(header=header(model=name))
        refused(lambda call=call, first=first: call(iter([first]), timeout=DEADLINE), Code.ALREADY_EXISTS, resource)
        assert (resource.resource_type, resource.resource_name) == ("relaxon.v1.BoostingModel", name)
    refused(lambda: truncate(shared, "regression", 2, "regression"), Code.ALREADY_EXISTS)


def test_an_unknown_model_is_not_found_and_is_named(shared):
    for call in (get, predict, delete, lambda stubs, name: truncate(stubs, name, 1)):
        resource = error_details_pb2.ResourceInfo()
        refused(lambda call=call: call(shared, "nobody"), Code.NOT_FOUND, resource)
        assert (resource.resource_type, resource.resource_name) == ("relaxon.v1.BoostingModel", "nobody")


def floats(*shape):
    return TensorHeader(dtype=DATA_TYPE_FLOAT64, shape=shape)


BAD_HEADERS = {
    "features of one axis": ({"features": floats(60)}, "features"),
    "no rows": ({"features": floats(0, 3)}, "features"),
    "no features": ({"features": None}, "features"),
    "target of other rows": ({"target": floats(59)}, "target"),
    "target of three axes": ({"target": floats(60, 1, 1)}, "target"),
    "target of two axes for classes": ({"target": floats(60, 1), "classes": ABC}, "target"),
    "weights of other rows": ({"weights": floats(61)}, "weights"),
    "weights of two axes": ({"weights": floats(60, 1)}, "weights"),
    "empty classes": ({"classes": model_pb2.Classes()}, "classes"),
    "no class": ({"classes": model_pb2.Classes(strings=model_pb2.Classes.Strings())}, "classes"),
    "a class twice": ({"classes": model_pb2.Classes(integers=model_pb2.Classes.Integers(values=[1, 1]))}, "classes"),
    "classes out of order": ({"classes": model_pb2.Classes(strings=model_pb2.Classes.Strings(values="ba"))}, "classes"),
    "broken classes": ({"classes": model_pb2.Classes(doubles=model_pb2.Classes.Doubles(values=[0.5, 1]))}, "classes"),
}
BAD_SETTINGS = {
    "n_units": {"n_units": 0},
    "loss": {"loss": "log_loss"},
    "units_per_stage": {"units_per_stage": -1},
    "learning_rate": {"learning_rate": 1.5},
    "newton": {"newton": "raphson"},
    "subsample": {"subsample": 0.0},
    "ridge": {"ridge": float("nan")},
    "stage_tolerance": {"stage_tolerance": -1.0},
    "layers": {"layers": [3, 0]},
    "missing": {"missing": "drop"},
    "validation_fraction": {"validation_fraction": 1.0},
    "tol": {"tol": float("inf")},
    "quantile": {"quantile": 1.0},
    "huber_delta": {"huber_delta": 0.0},
    "random_state": {"random_state": -1},
    "balanced": {"balanced": True},
    "class_weights": {"class_weights": [1.0]},
}
CONSTRAINED = {"monotone_constraints": [0, 1, 0]}
UNFIT_COLUMNS = [
    ("categorical_features", {"categorical_features": [0, 3]}),
    ("categorical_features", {"categorical_features": [-1]}),
    ("categorical_features", {"categorical_features": [1, 1]}),
    ("monotone_constraints", {"monotone_constraints": [1, 0]}),
    ("monotone_constraints", {"monotone_constraints": [0, 0, 2]}),
    ("monotone_constraints", {"categorical_features": [1], **CONSTRAINED}),
    ("monotone_constraints", {"binary": True, **CONSTRAINED}),
    ("newton", {"newton": "published", **CONSTRAINED}),
    ("layers", {"layers": [2, 2], **CONSTRAINED}),
]


def refused_with_the_header(stubs, first):
    """The field that is refused when nothing but the header has been sent."""
    field = refused_field(lambda: stubs.boosting.Train(iter([pb.TrainBoostingRequest(header=first)]), timeout=DEADLINE))
    return field


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_refused_before_the_arrays_come(shared, name):
    changes, field = BAD_HEADERS[name]
    first = header()
    for key, value in changes.items():
        first.ClearField(key)
        if value is not None:
            getattr(first, key).CopyFrom(value)
    assert refused_with_the_header(shared, first) == field


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_bad_setting_is_refused_before_the_arrays_come(shared, name):
    assert refused_with_the_header(shared, header(settings=BAD_SETTINGS[name])) == name


@pytest.mark.parametrize(("field", "settings"), UNFIT_COLUMNS)
def test_categories_and_constraints_that_do_not_fit_are_refused_before_the_arrays_come(shared, field, settings):
    assert refused_with_the_header(shared, header(settings=settings)) == field


def test_constraints_of_several_outputs_are_refused_unless_they_are_zeros(shared):
    for first in (header(y=LABELS, classes=ABC, settings=CONSTRAINED), header(y=X[:, :2], settings=CONSTRAINED)):
        assert refused_with_the_header(shared, first) == "monotone_constraints"
    free = train(shared, y=LABELS, classes=ABC, settings={"monotone_constraints": [0, 0, 0]})
    assert trained(wait(shared, free)).class_count == 3


def test_a_statistic_for_each_class_counts_in_the_limit(training):
    coded = {"y": LABELS, "classes": ABC, "settings": {"categorical_features": [0]}}
    narrow = training(max_table_bytes=8 * 60 * (2 + 3 + 3 + 1) - 1)
    refused(lambda: train(narrow, **coded), Code.RESOURCE_EXHAUSTED)
    trained(wait(narrow, train(narrow, y=LABELS, classes=ABC)))
    stubs = training(max_table_bytes=8 * 60 * (2 + 3 + 3 + 1))
    model = trained(wait(stubs, train(stubs, **coded))).name
    assert len(predict(stubs, model)) == 60
    refused(lambda: predict(stubs, model, np.vstack([X, X])), Code.RESOURCE_EXHAUSTED)


def test_a_class_without_weight_leaves_two_that_may_be_constrained(shared):
    weights = (LABELS > 0).astype(float)
    model = trained(wait(shared, train(shared, y=LABELS, classes=ABC, weights=weights, settings=CONSTRAINED)))
    ours = GradientBoostedNetworkClassifier(3, random_state=0, **CONSTRAINED).fit(X, LABELS, weights)
    assert np.array_equal(predict(shared, model.name, output=Decision), ours.decision_function(X))


def test_settings_of_the_other_task_are_refused(shared):
    first = header(y=LABELS, classes=ABC, settings={"quantile": 0.5})
    assert refused_with_the_header(shared, first) == "quantile"
    for settings in ({"class_weights": [1.0]}, {"class_weights": [1.0, -1.0, 1.0]}):
        assert refused_with_the_header(shared, header(y=LABELS, classes=ABC, settings=settings)) == "class_weights"


BAD_ARRAYS = {
    "NaN in features": ({"x": np.where(X > 2, np.nan, X)}, {}, "features"),
    "infinity where NaN is allowed": ({"x": np.where(X > 2, np.inf, X)}, {"settings": {"missing": "mean"}}, "features"),
    "infinite target": ({"y": np.where(Y > 0, np.inf, Y)}, {}, "target"),
    "a negative weight": ({"weights": np.linspace(-1, 1, 60)}, {}, "weights"),
    "no weight at all": ({"weights": np.zeros(60)}, {}, "weights"),
    "a place beyond the classes": ({"y": LABELS + 1}, {"classes": ABC}, "target"),
    "a place between the classes": ({"y": LABELS + 0.5}, {"classes": ABC}, "target"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_are_refused_by_name_and_begin_no_job(shared, name):
    arrays, changes, field = BAD_ARRAYS[name]
    before = len(operations(shared).operations)
    assert refused_field(lambda: train(shared, **arrays, **changes)) == field
    assert len(operations(shared).operations) == before


LIMITS = {
    "bytes of the table": ({"max_table_bytes": 8 * 60 * 5 - 1}, {}, "table"),
    "units": ({"max_units": 2}, {}, "n_units"),
    "units of layers": ({"max_units": 4}, {"settings": {"layers": [2, 3]}}, "layers"),
    "bytes of a deep table": ({"max_table_bytes": 8 * 60 * 6}, {"settings": {"layers": [2, 1]}}, "table"),
    "starts": ({}, {"settings": {"restarts": 1001}}, "restarts"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_refuses_before_anything_is_uploaded(training, name):
    settings, changes, subject = LIMITS[name]
    stubs = training(**settings)
    quota = error_details_pb2.QuotaFailure()
    first = pb.TrainBoostingRequest(header=header(**changes))
    refused(lambda: stubs.boosting.Train(iter([first]), timeout=DEADLINE), Code.RESOURCE_EXHAUSTED, quota)
    assert quota.violations[0].subject == subject
    assert list(operations(stubs).operations) == []


def test_the_number_of_models_is_limited_and_a_deleted_one_makes_room(training):
    stubs = training(max_models=1)
    trained(wait(stubs, train(stubs, model="first")))
    refused(lambda: train(stubs, model="second"), Code.RESOURCE_EXHAUSTED)
    refused(lambda: truncate(stubs, "first", 1), Code.RESOURCE_EXHAUSTED)
    delete(stubs, "first")
    assert trained(wait(stubs, train(stubs, model="second"))).name == "second"


def test_bad_predictions_are_refused_by_name(shared, regression, classification):
    assert refused_field(lambda: predict(shared, "regression", X[:, :2])) == "features"
    assert refused_field(lambda: predict(shared, "regression", np.where(X > 2, np.nan, X))) == "features"
    assert refused_field(lambda: predict(shared, "regression", X[0])) == "features"
    for output in (Probabilities, Decision):
        assert refused_field(lambda output=output: predict(shared, "regression", output=output)) == "output"
    assert refused_field(lambda: predict(shared, "regression", output=9)) == "output"
    first = pb.PredictBoostingRequest(header=pb.PredictBoostingHeader(model="regression", features=floats(10**9, 3)))
    refused(lambda: list(shared.boosting.Predict(iter([first]), timeout=DEADLINE)), Code.RESOURCE_EXHAUSTED)


def test_a_recreated_name_predicts_with_the_new_model(training):
    stubs = training()
    trained(wait(stubs, train(stubs, model="name")))
    before = predict(stubs, "name")
    delete(stubs, "name")
    trained(wait(stubs, train(stubs, y=Y + 100.0, model="name")))
    assert predict(stubs, "name").mean() == pytest.approx(before.mean() + 100.0, rel=1e-3)


def test_every_outcome_has_its_place_on_the_wire():
    assert {f"BOOSTING_OUTCOME_{one.name}" for one in Outcome} | {"BOOSTING_OUTCOME_UNSPECIFIED"} == set(
        pb.BoostingOutcome.keys()
    )


def test_a_second_array_in_the_first_s_place_is_refused(shared):
    sent = list(requests(header()))
    assert refused_field(lambda: shared.boosting.Train(iter([sent[0], *sent[3:]]), timeout=DEADLINE)) == "features"
    assert refused_field(lambda: shared.boosting.Train(iter([*sent, sent[-1]]), timeout=DEADLINE)) == "target"
