"""Convex networks on the wire: what is refused before arrays come, limits, and files that are no whole model."""

import json

import grpc
import numpy as np
import pytest
from boosting_calls import DEADLINE, refused, refused_field
from google.rpc import error_details_pb2
from safetensors.numpy import load_file, save_file

from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor
from relaxon.proto import convex_pb2 as pb
from relaxon.proto import model_pb2
from relaxon.proto.convex_pb2_grpc import ConvexServiceStub
from relaxon.proto.tensor_pb2 import DATA_TYPE_FLOAT64, TensorHeader
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate.errors import ServiceError
from relaxon.server.training import convex_messages
from relaxon.server.training.convex_task import estimator_of
from relaxon.server.training.model_kinds import KINDS, check_whole
from relaxon.wire import tensors

Code = grpc.StatusCode
X = np.random.default_rng(0).standard_normal((60, 3))
Y = X[:, 0] - 2.0 * X[:, 1] ** 2
PLACES = np.digitize(Y, [-2.0, 0.0]).astype(float)
ABC = model_pb2.Classes(strings=model_pb2.Classes.Strings(values="abc"))
TINY = {"n_patterns": 4, "refinements": 0, "max_iter": 20, "certificate_draws": 5, "random_state": 0}


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """A server that has a classifier of each loss."""
    folder = tmp_path_factory.mktemp("models")
    for loss in ("logistic", "hinge"):
        ConvexNetworkClassifier(**TINY, loss=loss).fit(X, PLACES).save(folder / "convex" / loss)
    settings = ServerSettings(port=0, grace_seconds=0.0, compile="", model_folder=str(folder))
    with EmbeddedServer(settings) as server, grpc.insecure_channel(server.target) as channel:
        yield ConvexServiceStub(channel)


def header(x=X, y=Y, settings=None, **changes):
    return pb.TrainConvexHeader(
        features=tensors.header_of(x),
        target=tensors.header_of(y),
        settings=pb.ConvexSettings(**{**TINY, **(settings or {})}),
        **changes,
    )


def train(stub, first, **arrays):
    def sent():
        yield pb.TrainConvexRequest(header=first)
        for name, array in arrays.items():
            for part in tensors.parts_of(array):
                yield pb.TrainConvexRequest(**{name: part})

    return stub.Train(sent(), timeout=DEADLINE)


def predict(stub, model, x=X, output=pb.CONVEX_OUTPUT_UNSPECIFIED):
    def sent():
        yield pb.PredictConvexRequest(
            header=pb.PredictConvexHeader(model=model, features=tensors.header_of(x), output=output)
        )
        for part in tensors.parts_of(x):
            yield pb.PredictConvexRequest(features=part)

    first, *rest = stub.Predict(sent(), timeout=DEADLINE)
    incoming = tensors.Assembler("output", *tensors.checked_header("output", first.header.output))
    for reply in rest:
        incoming.take(reply.output)
    return incoming.array()


def test_every_setting_reaches_the_estimator_and_none_is_made_up():
    settings = {
        "n_patterns": 7,
        "beta": 0.3,
        "loss": "hinge",
        "program": "patterns",
        "refinements": 2,
        "epsilon": 0.1,
        "tol": 1e-2,
        "max_iter": 30,
        "largest_factor": 50,
        "certificate_draws": 9,
        "random_state": 11,
    }
    assert set(settings) == set(pb.ConvexSettings.DESCRIPTOR.fields_by_name)
    first = header(y=PLACES, settings=settings, classes=ABC)
    assert estimator_of(convex_messages.plan(first, ServerSettings()).request).get_params() == settings
    first.ClearField("settings")
    bare = estimator_of(convex_messages.plan(first, ServerSettings()).request)
    drawn = bare.random_state
    assert bare.get_params() == ConvexNetworkClassifier(random_state=drawn).get_params()
    assert estimator_of(convex_messages.plan(first, ServerSettings()).request).random_state != drawn


def floats(*shape):
    return TensorHeader(dtype=DATA_TYPE_FLOAT64, shape=shape)


BAD_HEADERS = {
    "features of one axis": ({"features": floats(60)}, "features"),
    "no features": ({"features": None}, "features"),
    "target of other rows": ({"target": floats(59)}, "target"),
    "target of two axes for classes": ({"target": floats(60, 1), "classes": ABC}, "target"),
    "weights of other rows": ({"weights": floats(61)}, "weights"),
    "one class": ({"classes": model_pb2.Classes(strings=model_pb2.Classes.Strings(values="a"))}, "classes"),
}
BAD_SETTINGS = {
    "n_patterns": {"n_patterns": 0},
    "beta": {"beta": float("nan")},
    "loss": {"loss": "logistic"},
    "program": {"program": "all"},
    "refinements": {"refinements": -1},
    "epsilon": {"epsilon": 0.5, "program": "units"},
    "tol": {"tol": 0.0},
    "max_iter": {"max_iter": -5},
    "largest_factor": {"largest_factor": 0},
    "certificate_draws": {"certificate_draws": -1},
    "random_state": {"random_state": 2**32},
}


@pytest.mark.parametrize("name", [*BAD_HEADERS, *BAD_SETTINGS])
def test_a_bad_header_is_refused_by_its_field_before_the_arrays_come(stub, name):
    changes, field = BAD_HEADERS.get(name, ({}, name))
    first = header(settings=BAD_SETTINGS.get(name))
    for key, value in changes.items():
        first.ClearField(key)
        if value is not None:
            getattr(first, key).CopyFrom(value)
    assert refused_field(lambda: train(stub, first)) == field


def test_bad_arrays_are_refused_by_name(stub):
    assert refused_field(lambda: train(stub, header(), features=np.where(X > 2, np.nan, X), target=Y)) == "features"
    classes = header(y=PLACES, classes=ABC)
    assert refused_field(lambda: train(stub, classes, features=X, target=PLACES + 1)) == "target"
    weighted = header(weights=floats(60))
    assert refused_field(lambda: train(stub, weighted, features=X, target=Y, weights=np.zeros(60))) == "weights"


MANY = {"target": floats(60, 40)}
LIMITS = {
    "columns": ({}, {"features": floats(60, 2**14 + 1)}, {}, "features"),
    "outputs": ({}, {"target": floats(60, 1001)}, {}, "target"),
    "bytes of the table": ({"max_table_bytes": 8 * 60 * 5 - 1}, {}, {}, "table"),
    "patterns": ({"max_units": 3}, {}, {}, "n_patterns"),
    "patterns of all rounds": ({"max_units": 11}, {}, {"refinements": 2}, "n_patterns"),
    "rounds": ({}, {}, {"refinements": 1001, "n_patterns": 1}, "refinements"),
    "iterations of all rounds": ({}, {}, {"refinements": 9, "max_iter": 100_001}, "max_iter"),
    "bytes of the search": ({"max_table_bytes": 8 * 60 * 16 - 1}, {}, {"refinements": 1}, "n_patterns"),
    "bytes of the variables": ({"max_table_bytes": 8 * 2 * 12 * 4 * 40 - 1}, MANY, {"n_patterns": 12}, "n_patterns"),
    "bytes of the draws": ({"max_table_bytes": 2**16}, {}, {"certificate_draws": 200}, "certificate_draws"),
    "bytes of the factor": ({"max_table_bytes": 8 * 60 * 59}, {}, {"n_patterns": 30}, "largest_factor"),
    "bytes of the boxes": ({"max_table_bytes": 8 * 60 * 199}, MANY, {"epsilon": 0.1}, "epsilon"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_refuses_what_a_header_asks_for_by_the_field(name):
    limits, arrays, settings, field = LIMITS[name]
    first = header(settings=settings)
    for key, value in arrays.items():
        getattr(first, key).CopyFrom(value)
    with pytest.raises(ServiceError) as caught:
        convex_messages.plan(first, ServerSettings(**limits))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert str(caught.value).startswith(field)
    if limits:
        convex_messages.plan(first, ServerSettings())


def test_a_factor_has_a_row_for_each_row_of_the_data_or_for_each_unknown_as_that_is_fewer():
    for count, patterns, largest, rows in ((60, 30, 1000, 60), (100, 10, 1000, 40), (100, 50, 80, 80)):
        settings = {"n_patterns": patterns, "largest_factor": largest}
        first = header(np.zeros((count, 3)), np.zeros(count), settings=settings)
        convex_messages.plan(first, ServerSettings(max_table_bytes=8 * rows**2))
        with pytest.raises(ServiceError, match=r"^largest_factor must be such"):
            convex_messages.plan(first, ServerSettings(max_table_bytes=8 * rows**2 - 1))


def test_predictions_are_refused_by_name_and_only_logistic_networks_have_probabilities(stub):
    assert predict(stub, "logistic", output=pb.CONVEX_OUTPUT_PROBABILITIES).shape == (60, 3)
    assert predict(stub, "hinge", output=pb.CONVEX_OUTPUT_DECISION).shape == (60, 3)
    for model, x, output, field in (
        ("hinge", X, pb.CONVEX_OUTPUT_PROBABILITIES, "output"),
        ("hinge", X, 9, "output"),
        ("hinge", X[:, :2], 0, "features"),
        ("hinge", X[0], 0, "features"),
        ("hinge", np.where(X > 2, np.nan, X), 0, "features"),
        ("../x", X, 0, "model"),
    ):
        assert refused_field(lambda x=x, model=model, output=output: predict(stub, model, x, output)) == field
    resource = error_details_pb2.ResourceInfo()
    refused(lambda: predict(stub, "none"), Code.NOT_FOUND, resource)
    assert (resource.resource_type, resource.resource_name) == ("relaxon.v1.ConvexModel", "none")


def test_a_list_leaves_out_what_can_be_long(stub):
    for short in stub.ListModels(pb.ListConvexModelsRequest(), timeout=DEADLINE).models:
        whole = stub.GetModel(pb.GetConvexModelRequest(name=short.name), timeout=DEADLINE)
        assert list(whole.classes.doubles.values) == [0.0, 1.0, 2.0]
        assert len(whole.history.primal) == 2
        for field in ("classes", "history"):
            whole.ClearField(field)
        assert short == whole


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    ConvexNetworkRegressor(**TINY).fit(X, Y).save(folder)
    return folder


def check(saved, folder, card=None, arrays=None, **limits):
    """Check a copy of the saved model with its card or its arrays changed."""
    content, held = json.loads((saved / "model.json").read_text()), dict(load_file(saved / "network.safetensors"))
    for change, whole in ((card, content), (arrays, held)):
        if change is not None:
            change(whole)
    (folder / "model.json").write_text(json.dumps(content))
    save_file(held, folder / "network.safetensors")
    check_whole(KINDS["convex"], folder, ServerSettings(**limits))


BAD_CARDS = {
    "kind": (lambda c: c.update(kind="pickle"), "files"),
    "columns": (lambda c: c.update(n_features=4), "network.safetensors"),
    "columns that are no number": (lambda c: c.update(n_features=True), "n_features"),
    "classes that are none": (lambda c: c.update(kind="classifier"), "classes"),
    "names of other columns": (lambda c: c.update(feature_names=["a"]), "feature_names"),
    "an outcome that is none": (lambda c: c.update(outcome="none"), "files"),
    "a parameter that is none": (lambda c: c["parameters"].update(no_such=1), "files"),
    "a parameter of another type": (lambda c: c["parameters"].update(epsilon="0.1"), "files"),
    "a loss that is none": (lambda c: c["parameters"].update(loss="cubic"), "files"),
    "a certificate without its dual": (lambda c: c["certificate"].pop("dual"), "files"),
    "a certificate in words": (lambda c: c["certificate"].update(primal="good"), "files"),
    "iterations beyond 64 bits": (lambda c: c.update(iterations=2**70), "files"),
    "nothing": (lambda c: c.clear(), "n_features"),
}
BAD_ARRAYS = {
    "one more": (lambda a: a.update(extra=np.zeros(1)), "network.safetensors"),
    "one fewer": (lambda a: a.pop("target_unit"), "network.safetensors"),
    "halves": (lambda a: a.update(shift=a["shift"].astype(np.float32)), "network.safetensors"),
    "other units": (lambda a: a.update(output=a["output"][1:]), "files"),
    "other columns": (lambda a: a.update(hidden=a["hidden"][:, 1:].copy()), "network.safetensors"),
    "NaN": (lambda a: a.update(hidden=np.full_like(a["hidden"], np.nan)), "files"),
    "other outputs": (lambda a: a.update(target_shift=np.zeros(2)), "files"),
    "histories of two lengths": (lambda a: a.update(history_rho=np.zeros(7)), "network.safetensors"),
    "iterations in floats": (lambda a: a.update(history_iteration=np.zeros(2)), "network.safetensors"),
}


@pytest.mark.parametrize("name", [*BAD_CARDS, *BAD_ARRAYS])
def test_files_that_are_no_whole_model_are_refused_by_the_part(saved, tmp_path, name):
    check(saved, tmp_path)
    card, arrays = (BAD_CARDS.get(name, (None, "")), BAD_ARRAYS.get(name, (None, "")))
    with pytest.raises(ServiceError) as caught:
        check(saved, tmp_path, card[0], arrays[0])
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert str(caught.value).startswith(card[1] or arrays[1])


def test_files_that_are_too_large_are_refused_as_such(saved, tmp_path):
    units = load_file(saved / "network.safetensors")["hidden"].shape[0]
    large = np.zeros((2 * 20 + 1, 4))
    for limits, arrays, field in (
        ({"max_units": 20}, lambda a: a.update(hidden=large, output=np.zeros((41, 1))), "units"),
        ({}, lambda a: a.update(output=np.zeros((units, 1001))), "outputs"),
        ({"max_table_bytes": 200}, None, "bytes"),
    ):
        with pytest.raises(ServiceError) as caught:
            check(saved, tmp_path, arrays=arrays, **limits)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert str(caught.value).startswith(field)
