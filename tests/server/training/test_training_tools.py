"""Losses, optimisers and binary models over the protocol: taken or refused, told of, uploaded, not exported."""

import numpy as np
import pytest

from relaxon.client import BoostingSettings, EnergySettings, EquilibriumSettings
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier
from relaxon.neuromorphic.equilibrium import EquilibriumClassifier
from relaxon.neuromorphic.equilibrium.classifier.storage import save_classifier
from relaxon.proto import boosting_pb2, energy_pb2, equilibrium_pb2
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.training.engines import boosting as boosting_engine
from relaxon.server.training.engines import energy as energy_engine
from relaxon.server.training.engines import equilibrium as equilibrium_engine
from relaxon.server.training.registry import ENGINES
from relaxon.server.training.stored_files import check_whole
from relaxon.wire import tensors

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)


def header_of(kind, settings):
    header = kind(settings=settings.message(), features=tensors.describe_array(X))
    if kind is not energy_pb2.TrainEnergyHeader:
        header.target.CopyFrom(tensors.describe_array(Y.astype(float)))
        header.classes.integers.values.extend([0, 1])
    return header


def boosting(**settings):
    header = header_of(boosting_pb2.TrainBoostingHeader, BoostingSettings(**settings))
    return boosting_engine.plan(header, ServerSettings())


def equilibrium(**settings):
    header = header_of(equilibrium_pb2.TrainEquilibriumHeader, EquilibriumSettings(**settings))
    return equilibrium_engine.plan(header, ServerSettings())


def energy(**settings):
    header = header_of(energy_pb2.TrainEnergyHeader, EnergySettings(**settings))
    return energy_engine.plan(header, ServerSettings())


def test_the_settings_reach_the_estimators():
    boosted = boosting_engine.build_estimator(boosting(loss="comp-sum", tau=1.5, binary=True, bits=6).request)
    assert (boosted.loss, boosted.tau, boosted.binary, boosted.bits) == ("comp-sum", 1.5, True, 6)
    wanted = {"loss": "comp-sum", "tau": 0.5, "optimizer": "diffgrad", "binary": True, "binarizer": "biper"}
    relaxing = equilibrium_engine.build_classifier(equilibrium(**wanted).request)
    assert {name: getattr(relaxing, name) for name in wanted} == wanted
    assert energy(optimizer="normalized").request["parameters"]["optimizer"] == "normalized"


@pytest.mark.parametrize(
    ("make", "settings", "field"),
    [
        (boosting, {"loss": "comp-sum", "tau": 2.0}, "tau"),
        (boosting, {"loss": "comp-sum", "newton": "published"}, "newton"),
        (boosting, {"binary": True, "layers": (3, 3)}, "layers"),
        (boosting, {"binary": True, "bits": 100}, "bits"),
        (equilibrium, {"loss": "squared"}, "loss"),
        (equilibrium, {"tau": 1.5}, "tau"),
        (equilibrium, {"optimizer": "lion"}, "optimizer"),
        (equilibrium, {"binary": True, "feedback": "independent"}, "feedback"),
        (equilibrium, {"binary": True, "channels": (2,), "image": (1, 1, 3)}, "channels"),
        (equilibrium, {"binary": True, "binarizer": "round"}, "binarizer"),
        (energy, {"optimizer": "adadagrad"}, "optimizer"),
        (energy, {"optimizer": "normalized", "weight_decay": 0.1}, "weight_decay"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name_before_the_data_come(make, settings, field):
    with pytest.raises(errors.ServiceError) as refusal:
        make(**settings)
    assert refusal.value.message.startswith(field)
    assert refusal.value.details[0].field_violations[0].field == field


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A stored binary model of each kind."""
    home = tmp_path_factory.mktemp("binary")
    boosted = GradientBoostedNetworkClassifier(5, binary=True, random_state=0).fit(X, Y)
    boosted.save(home / "boosting")
    relaxing = EquilibriumClassifier((6, 5), epochs=1, binary=True, optimizer="adam", random_state=0).fit(X, Y)
    save_classifier(relaxing, home / "equilibrium")
    return home, {"boosting": boosted, "equilibrium": relaxing}


@pytest.mark.parametrize("kind", ["boosting", "equilibrium"])
def test_binary_models_are_whole_where_they_are_uploaded_and_told_of(folders, kind):
    home, models = folders
    check_whole(ENGINES[kind], home / kind, ServerSettings())
    loaded = ENGINES[kind].load(home / kind)
    assert np.array_equal(loaded.predict_proba(X), models[kind].predict_proba(X))
    assert ENGINES[kind].describe(loaded, True).binary


def test_models_of_sign_units_are_not_exported_and_the_reason_is_given(folders):
    _, models = folders
    with pytest.raises(errors.ServiceError, match="counts no bits"):
        ENGINES["boosting"].onnx(models["boosting"])


def test_damaged_bits_are_refused(folders, tmp_path):
    home, _ = folders
    for kind in ("boosting", "equilibrium"):
        place = tmp_path / kind
        place.mkdir()
        for file in (home / kind).iterdir():
            content = file.read_bytes()
            (place / file.name).write_bytes(content.replace(b'"U8"', b'"I8"'))
        with pytest.raises(errors.ServiceError):
            check_whole(ENGINES[kind], place, ServerSettings())
