"""The settings of each engine are the same in its dataclass, in its message and in its estimator."""

from dataclasses import fields

import pytest

from relaxon.client import (
    BoostingSettings,
    ConvexSettings,
    EnergySettings,
    EquilibriumSettings,
    ProximalNetwork,
    ProximalSettings,
)
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor
from relaxon.neuromorphic.energy import EnergyDensity
from relaxon.neuromorphic.equilibrium import EquilibriumClassifier
from relaxon.neuromorphic.proximal import MatchingSettings, NetworkSettings
from relaxon.server.training.registry import BUILT_IN
from relaxon.wire.conversions.models import ENGINES, FILES


def parameters(*estimators):
    return {name for estimator in estimators for name in estimator().get_params()}


def names(settings):
    return {field.name for field in fields(settings)}


ENGINE_SETTINGS = {
    # In the message, a class weight is a flag or a list.
    BoostingSettings: (
        parameters(GradientBoostedNetworkRegressor, GradientBoostedNetworkClassifier) - {"warm_start"},
        {"class_weight"},
    ),
    ConvexSettings: (parameters(ConvexNetworkRegressor, ConvexNetworkClassifier), set()),
    # The server chooses the device and the place of checkpoints.
    EnergySettings: (parameters(EnergyDensity) - {"device", "verbose"}, set()),
    EquilibriumSettings: (parameters(EquilibriumClassifier) - {"device", "verbose"}, set()),
    ProximalNetwork: (names(NetworkSettings), set()),
    ProximalSettings: (names(MatchingSettings) - {"out", "checkpoint_seconds", "checkpoint_every", "device"}, set()),
}
OTHERWISE = {"class_weight": {"balanced", "class_weights"}}


@pytest.mark.parametrize("settings", ENGINE_SETTINGS, ids=lambda settings: settings.__name__)
def test_settings_have_the_names_of_their_message_and_of_their_estimator(settings):
    wanted, special = ENGINE_SETTINGS[settings]
    assert names(settings) == wanted
    in_message = set(settings._message.DESCRIPTOR.fields_by_name)
    assert in_message == (wanted - special) | {name for one in special for name in OTHERWISE[one]}


def test_the_client_and_the_server_know_the_same_engines():
    assert {engine.kind: engine.wire for engine in BUILT_IN} == {engine.kind: engine for engine in ENGINES}
    assert {engine.kind: engine.wire.files for engine in BUILT_IN} == FILES
