"""Equilibrium propagation over the wire: what it predicts, its epochs, gradients compared, and refusals."""

import grpc
import numpy as np
import pytest
from boosting_calls import DEADLINE, cancel, job, refused, refused_field, trained, wait
from boosting_calls import train as train_boosted
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.rpc import error_details_pb2

from relaxon.neuromorphic.equilibrium import (
    AsymmetricCauchy,
    Cauchy,
    ContinuousOscillation,
    EquilibriumClassifier,
    Hardware,
    Implicit,
    OneSided,
    RecurrentBackprop,
    Unrolled,
)
from relaxon.neuromorphic.equilibrium.classifier.storage import load_classifier, save_classifier
from relaxon.neuromorphic.equilibrium.training.report import TrainingOutcome
from relaxon.proto import boosting_pb2, job_pb2, model_pb2
from relaxon.proto import equilibrium_pb2 as pb
from relaxon.proto.equilibrium_pb2_grpc import EquilibriumServiceStub
from relaxon.proto.tensor_pb2 import DATA_TYPE_FLOAT64, TensorHeader
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.wire import tensors

Code = grpc.StatusCode
X = np.random.default_rng(0).standard_normal((60, 3)) * [1.0, 5.0, 0.1] + [0.0, 3.0, 0.0]
PLACES = np.digitize(X[:, 0], [-0.5, 0.5]).astype(float)
ABC = model_pb2.Classes(strings=model_pb2.Classes.Strings(values=["a", "b", "c"]))
LABELS = np.array(list("abc"))[PLACES.astype(int)]
SMALL = {"hidden_sizes": [6], "epochs": 3, "batch_size": 20, "random_state": 0}
LONG = {"hidden_sizes": [64, 64], "epochs": 100_000, "random_state": 0}


class Stubs:
    """The generated stubs of one channel, which check nothing."""

    def __init__(self, channel):
        self.equilibrium = EquilibriumServiceStub(channel)
        self.operations = OperationsStub(channel)


@pytest.fixture(scope="module")
def target():
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0)) as server:
        yield server.target


@pytest.fixture(scope="module")
def stubs(target):
    with grpc.insecure_channel(target) as channel:
        yield Stubs(channel)


def header(x=X, y=PLACES, settings=None, **changes):
    return pb.TrainEquilibriumHeader(
        features=tensors.describe_array(x),
        target=tensors.describe_array(y),
        settings=pb.EquilibriumSettings(**(settings or SMALL)),
        **{"classes": ABC, **changes},
    )


def sent(message, first, x, y=None):
    yield message(header=first)
    for part in tensors.split_array(x):
        yield message(features=part)
    for part in () if y is None else tensors.split_array(y):
        yield message(target=part)


def train(stubs, x=X, y=PLACES, **changes):
    requests = sent(pb.TrainEquilibriumRequest, header(x, y, **changes), x, y)
    return stubs.equilibrium.Train(requests, timeout=DEADLINE)


def watch(stubs, operation, skip=0):
    request = pb.WatchEquilibriumRequest(operation=operation.name, skip=skip)
    return stubs.equilibrium.Watch(request, timeout=DEADLINE)


def model_of(operation):
    assert operation.done
    assert not operation.HasField("error"), operation.error
    model = pb.EquilibriumModel()
    assert operation.response.Unpack(model)
    return model


def predict(stubs, model, x=X, **options):
    first = pb.PredictEquilibriumHeader(model=model, features=tensors.describe_array(x), **options)
    reply, *rest = stubs.equilibrium.Predict(sent(pb.PredictEquilibriumRequest, first, x), timeout=DEADLINE)
    incoming = tensors.Assembler("output", *tensors.read_header("output", reply.header.output))
    for one in rest:
        incoming.take(one.output)
    assert reply.header.relaxation == "converged"
    return incoming.array()


def compare(stubs, estimators, x=X, y=PLACES, model="three"):
    first = pb.CompareGradientsHeader(
        model=model, estimators=estimators, features=tensors.describe_array(x), target=tensors.describe_array(y)
    )
    requests = sent(pb.CompareGradientsRequest, first, x, y)
    return stubs.equilibrium.CompareGradients(requests, timeout=DEADLINE)


@pytest.fixture(scope="module")
def three(stubs):
    return model_of(wait(stubs, train(stubs, model="three")))


@pytest.fixture(scope="module")
def ours():
    return EquilibriumClassifier((6,), epochs=3, batch_size=20, random_state=0).fit(X, LABELS)


def test_a_classifier_over_the_wire_is_the_one_in_process_bit_for_bit(stubs, three, ours):
    assert np.array_equal(predict(stubs, "three", output=pb.EQUILIBRIUM_OUTPUT_PROBABILITIES), ours.predict_proba(X))
    assert np.array_equal(predict(stubs, "three", output=pb.EQUILIBRIUM_OUTPUT_DECISION), ours.decision_function(X))
    assert np.array_equal(np.array(list("abc"))[predict(stubs, "three").astype(int)], ours.predict(X))
    assert list(three.train_loss) == [epoch.loss for epoch in ours.report_.epochs]
    assert (three.outcome, three.steps, three.class_count) == (pb.EQUILIBRIUM_OUTCOME_FINISHED, 9, 3)


def test_progress_comes_for_each_epoch(stubs):
    operation = train(stubs)
    seen = list(watch(stubs, operation))
    model = model_of(wait(stubs, operation))
    assert [(one.epoch, one.epochs_wanted) for one in seen] == [(1, 3), (2, 3), (3, 3)]
    assert [one.loss for one in seen] == list(model.train_loss)
    assert [one.accuracy for one in seen] == list(model.train_accuracy)
    assert all(sum(one.verdicts.values()) == 3 for one in seen)
    assert list(watch(stubs, operation, skip=2)) == seen[2:]


def test_a_cancel_keeps_what_was_trained_and_the_model_predicts(stubs):
    operation = train(stubs, settings=LONG)
    next(iter(watch(stubs, operation)))
    cancel(stubs, operation)
    ended = wait(stubs, operation)
    model = model_of(ended)
    assert model.outcome == pb.EQUILIBRIUM_OUTCOME_CANCELLED
    assert 1 <= len(model.train_loss) < 100_000
    metadata = pb.EquilibriumTraining()
    assert ended.metadata.Unpack(metadata)
    assert metadata.job.state == job_pb2.JOB_STATE_DONE
    shares = predict(stubs, model.name, output=pb.EQUILIBRIUM_OUTPUT_PROBABILITIES)
    assert np.allclose(shares.sum(1), 1.0)


def test_every_setting_reaches_the_classifier(stubs):
    settings = {
        "hidden_sizes": [5, 4],
        "activation": "tanh",
        "feedback": "independent",
        "angle": 20.0,
        "gain": 0.7,
        "estimator": "asymmetric-cauchy",
        "n": 3,
        "radius": 0.2,
        "homeostasis": 0.1,
        "epochs": 2,
        "batch_size": 15,
        "learning_rate": 0.05,
        "momentum": 0.5,
        "noise": 0.001,
        "standardise": False,
        "contraction": 0.8,
        "readout_bound": 3.0,
        "random_state": 5,
        "loss": "comp-sum",
        "tau": 1.4,
        "optimizer": "diffgrad",
    }
    elsewhere = {"image", "channels", "kernel", "residual", "shift"} | {"binary", "binarizer"}
    elsewhere |= {"weight_decay", "nesterov", "hardware"}
    assert set(settings) | elsewhere == set(pb.EquilibriumSettings.DESCRIPTOR.fields_by_name)
    model = model_of(wait(stubs, train(stubs, settings=settings)))
    ours = EquilibriumClassifier(**{**settings, "hidden_sizes": (5, 4)}).fit(X, LABELS)
    found = predict(stubs, model.name, output=pb.EQUILIBRIUM_OUTPUT_PROBABILITIES)
    assert np.array_equal(found, ours.predict_proba(X))


def test_binary_weights_over_the_wire_are_those_in_process(stubs):
    settings = {"hidden_sizes": [8], "binary": True, "binarizer": "biper", "epochs": 1, "random_state": 0}
    model = model_of(wait(stubs, train(stubs, settings=settings)))
    ours = EquilibriumClassifier((8,), binary=True, binarizer="biper", epochs=1, random_state=0).fit(X, LABELS)
    found = predict(stubs, model.name, output=pb.EQUILIBRIUM_OUTPUT_PROBABILITIES)
    assert np.array_equal(found, ours.predict_proba(X))


def test_a_device_and_decaying_weights_over_the_wire_are_those_in_process(stubs, tmp_path):
    limits = {"weight_bound": 1.0, "weight_bits": 5, "weight_noise": 0.02, "rate_bound": 1.0, "rate_bits": 7}
    limits |= {"rate_noise": 0.001, "state_noise": 0.002, "free_steps": 20, "nudged_steps": 10}
    assert set(limits) == set(pb.HardwareLimits.DESCRIPTOR.fields_by_name)
    options = {"hidden_sizes": (5,), "epochs": 2, "random_state": 0, "weight_decay": 0.01, "nesterov": True}
    model = model_of(wait(stubs, train(stubs, settings={**options, "hardware": limits})))
    found = predict(stubs, model.name, output=pb.EQUILIBRIUM_OUTPUT_PROBABILITIES)
    ours, plain = (EquilibriumClassifier(**options, hardware=one).fit(X, LABELS) for one in (Hardware(**limits), None))
    assert np.array_equal(found, ours.predict_proba(X))
    assert not np.array_equal(found, plain.predict_proba(X))
    assert not np.array_equal(found, ours.set_params(weight_decay=0.0).fit(X, LABELS).predict_proba(X))
    save_classifier(ours, tmp_path / "model")
    assert load_classifier(tmp_path / "model").get_params() == ours.get_params()


@pytest.mark.parametrize(
    "options",
    [
        {"channels": [3], "kernel": 1},
        {"channels": [2, 3], "residual": True, "shift": 1, "activation": "relu6", "n": 2, "radius": 0.01},
    ],
    ids=["convolutional", "residual and clipped"],
)
def test_a_network_of_images_over_the_wire_is_the_one_in_process(stubs, options):
    x = np.random.default_rng(1).standard_normal((60, 16)) + PLACES[:, None] * np.linspace(-1, 1, 16)
    settings = {"image": [1, 4, 4], "epochs": 2, "random_state": 0, **options}
    model = model_of(wait(stubs, train(stubs, x, settings=settings)))
    assert (list(model.image), list(model.channels), list(model.hidden_sizes)) == ([1, 4, 4], options["channels"], [])
    assert model.residual == options.get("residual", False)
    same = {**settings, "image": (1, 4, 4), "channels": tuple(options["channels"])}
    ours = EquilibriumClassifier(**same).fit(x, LABELS)
    found = predict(stubs, model.name, x, output=pb.EQUILIBRIUM_OUTPUT_PROBABILITIES)
    assert np.array_equal(found, ours.predict_proba(x))
    asked = [pb.GradientEstimator(name="cauchy", n=2 if model.residual else 6, radius=1e-4 if model.residual else 0.1)]
    row = compare(stubs, asked, x, model=model.name).rows[0]
    assert (row.verdict, row.relative_error < 1e-3) == ("ok", True)


def test_compared_gradients_are_those_of_the_engine(stubs, three, ours):
    asked = [
        pb.GradientEstimator(name="one-sided", radius=0.3),
        pb.GradientEstimator(name="cauchy", n=8, radius=0.3),
        pb.GradientEstimator(name="asymmetric-cauchy"),
        pb.GradientEstimator(name="implicit"),
        pb.GradientEstimator(name="continuous", radius=0.3, steps=400),
        pb.GradientEstimator(name="recurrent-backprop"),
        pb.GradientEstimator(name="unrolled", steps=90),
    ]
    reply = compare(stubs, asked)
    same = [OneSided(0.3), Cauchy(8, 0.3), AsymmetricCauchy(6, 0.5), Implicit()]
    same += [ContinuousOscillation(0.3, 400), RecurrentBackprop(), Unrolled(90)]
    engine = ours.compare_gradients(X, LABELS, same)
    assert reply.reference.relative_error == 0.0
    for row, expected in zip(reply.rows, engine.rows, strict=True):
        assert (row.estimator, row.verdict) == (expected.estimator, expected.verdict.value)
        assert (row.cosine, row.relative_error) == (expected.cosine, expected.relative_error)
        assert row.evaluations == expected.evaluations
        assert row.HasField("truncation") == (expected.truncation is not None)
    # A contour of eight points sees what one nudge does not.
    assert reply.rows[1].relative_error < 1e-3 < reply.rows[0].relative_error


def test_a_saved_classifier_is_loaded_to_the_same_bits_without_pickle(tmp_path, ours):
    save_classifier(ours, tmp_path / "model")
    again = load_classifier(tmp_path / "model")
    assert np.array_equal(again.predict_proba(X), ours.predict_proba(X))
    assert again.get_params() == ours.get_params()
    assert [epoch.loss for epoch in again.report_.epochs] == [epoch.loss for epoch in ours.report_.epochs]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["network.json", "network.safetensors"]
    with pytest.raises(FileNotFoundError):
        load_classifier(tmp_path)
    with pytest.raises(TypeError, match="^estimator must be given by name"):
        save_classifier(EquilibriumClassifier(estimator=Cauchy()).set_params(epochs=1).fit(X, LABELS), tmp_path / "x")


def test_models_are_kept_apart_by_kind(target, stubs, three):
    from boosting_calls import stubs_of

    with grpc.insecure_channel(target) as channel:
        other = stubs_of(channel)
        operation = train_boosted(other, model="three")
        assert trained(wait(other, operation)).name == "three"
        listed = other.boosting.ListModels(boosting_pb2.ListBoostingModelsRequest(), timeout=DEADLINE).models
        assert [model.name for model in listed] == ["three"]
        request = pb.WatchEquilibriumRequest(operation=operation.name)
        assert refused_field(lambda: list(stubs.equilibrium.Watch(request, timeout=DEADLINE))) == "operation"
        assert job(operation).model == "three"
    found = stubs.equilibrium.ListModels(pb.ListEquilibriumModelsRequest(), timeout=DEADLINE).models
    short = pb.EquilibriumModel()
    short.CopyFrom(three)
    for field in ("classes", "train_loss", "train_accuracy"):
        short.ClearField(field)
    assert short in list(found)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", ".hidden", "a/b"])
def test_what_is_no_name_is_refused(stubs, name):
    get, delete = pb.GetEquilibriumModelRequest(name=name), pb.DeleteEquilibriumModelRequest(name=name)
    assert refused_field(lambda: train(stubs, model=name)) == "model"
    assert refused_field(lambda: predict(stubs, name)) == "model"
    assert refused_field(lambda: compare(stubs, [], model=name)) == "model"
    assert refused_field(lambda: stubs.equilibrium.GetModel(get, timeout=DEADLINE)) == "name"
    assert refused_field(lambda: stubs.equilibrium.DeleteModel(delete, timeout=DEADLINE)) == "name"


def test_a_deleted_model_is_not_found(stubs):
    model_of(wait(stubs, train(stubs, model="gone")))
    stubs.equilibrium.DeleteModel(pb.DeleteEquilibriumModelRequest(name="gone"), timeout=DEADLINE)
    resource = error_details_pb2.ResourceInfo()
    refused(lambda: predict(stubs, "gone"), Code.NOT_FOUND, resource)
    assert (resource.resource_type, resource.resource_name) == ("relaxon.v1.EquilibriumModel", "gone")


def floats(*shape):
    return TensorHeader(dtype=DATA_TYPE_FLOAT64, shape=shape)


BAD_HEADERS = {
    "features of one axis": ({"features": floats(60)}, "features"),
    "target of other rows": ({"target": floats(59)}, "target"),
    "target of two axes": ({"target": floats(60, 1)}, "target"),
    "no classes": ({"classes": model_pb2.Classes()}, "classes"),
}
BAD_SETTINGS = {
    "hidden_sizes": {"hidden_sizes": [3, 0]},
    "activation": {"activation": "step"},
    "feedback": {"feedback": "none"},
    "angle": {"angle": 190.0},
    "estimator": {"estimator": "backprop"},
    "n": {"n": 0},
    "radius": {"radius": -0.5},
    "epochs": {"epochs": 0},
    "batch_size": {"batch_size": 0},
    "learning_rate": {"learning_rate": float("nan")},
    "momentum": {"momentum": 1.0},
    "noise": {"noise": -1.0},
    "random_state": {"random_state": -1},
    "image": {"image": [1, 2, 2], "channels": [2]},
    "channels": {"image": [1, 3, 1], "channels": [0]},
    "kernel": {"image": [1, 3, 1], "channels": [2], "kernel": -1},
    "residual": {"residual": True},
    "shift": {"shift": 1},
    "weight_decay": {"weight_decay": -1.0},
    "nesterov": {"nesterov": True, "optimizer": "adam"},
    "weight_bits": {"hardware": {"weight_bits": 3}},
    "hardware": {"hardware": {}, "optimizer": "adadagrad"},
}


def refused_with_the_header(stubs, first):
    request = pb.TrainEquilibriumRequest(header=first)
    return refused_field(lambda: stubs.equilibrium.Train(iter([request]), timeout=DEADLINE))


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_refused_before_the_arrays_come(stubs, name):
    changes, field = BAD_HEADERS[name]
    first = header()
    for key, value in changes.items():
        getattr(first, key).CopyFrom(value)
    assert refused_with_the_header(stubs, first) == field


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_bad_setting_is_refused_before_the_arrays_come(stubs, name):
    assert refused_with_the_header(stubs, header(settings=BAD_SETTINGS[name])) == name


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"activation": "relu6"}, "estimator"),  # four points of a contour by default
        ({"kernel": 1}, "kernel"),
        ({"feedback": "independent"}, "feedback"),
        ({"shift": -1}, "shift"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_the_arrays_come(stubs, settings, field):
    whole = {"image": [1, 3, 1], "channels": [2], "residual": True, **settings}
    assert refused_with_the_header(stubs, header(settings=whole)) == field


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({"hidden_sizes": [6000, 6000]}, "hidden_sizes"),
        ({"hidden_sizes": [2**62, 2]}, "hidden_sizes"),
        ({"image": [1, 3, 1], "channels": [2**40]}, "channels"),
        ({"image": [1, 3, 1], "channels": [2**40], "residual": True}, "channels"),
        ({"image": [1, 3, 1], "channels": [2], "shift": 4}, "shift"),
        ({"image": [1, 3, 1], "channels": [2], "kernel": 101}, "kernel"),
        ({"n": 65}, "n"),
        ({"batch_size": 4097}, "batch_size"),
        ({"epochs": 100_001}, "epochs"),
    ],
)
def test_what_is_too_large_is_refused_before_the_arrays_come(stubs, settings, subject):
    quota = error_details_pb2.QuotaFailure()
    request = pb.TrainEquilibriumRequest(header=header(settings=settings))
    refused(lambda: stubs.equilibrium.Train(iter([request]), timeout=DEADLINE), Code.RESOURCE_EXHAUSTED, quota)
    assert quota.violations[0].subject == subject


def test_bad_arrays_are_refused_by_name(stubs, three):
    holes = np.where(X > 1, np.nan, X)
    assert refused_field(lambda: train(stubs, holes)) == "features"
    assert refused_field(lambda: train(stubs, y=PLACES + 1)) == "target"
    assert refused_field(lambda: predict(stubs, "three", holes)) == "features"
    assert refused_field(lambda: predict(stubs, "three", X[:, :2])) == "features"
    assert refused_field(lambda: predict(stubs, "three", output=9)) == "output"
    cauchy = [pb.GradientEstimator(name="cauchy")]
    assert refused_field(lambda: compare(stubs, cauchy, holes)) == "features"
    assert refused_field(lambda: compare(stubs, cauchy, y=PLACES + 1)) == "target"


def test_bad_estimators_are_refused_by_their_place(stubs, three):
    assert refused_field(lambda: compare(stubs, [])) == "estimators"
    for wrong in (
        {"name": "backprop"},
        {"name": "cauchy", "n": 0},
        {"name": "centred", "radius": 0.0},
        {"name": "unrolled", "steps": 0},
    ):
        estimators = [pb.GradientEstimator(name="implicit"), pb.GradientEstimator(**wrong)]
        assert refused_field(lambda estimators=estimators: compare(stubs, estimators)) == "estimators[1]"
    refused(lambda: compare(stubs, [pb.GradientEstimator(name="cauchy", n=65)]), Code.RESOURCE_EXHAUSTED)
    refused(lambda: compare(stubs, [pb.GradientEstimator(name="unrolled", steps=10_001)]), Code.RESOURCE_EXHAUSTED)


def test_every_outcome_has_its_place_on_the_wire():
    assert {f"EQUILIBRIUM_OUTCOME_{one.name}" for one in TrainingOutcome} | {"EQUILIBRIUM_OUTCOME_UNSPECIFIED"} == set(
        pb.EquilibriumOutcome.keys()
    )
