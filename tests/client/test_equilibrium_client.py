"""Equilibrium propagation through the client: labels travel, gradients are compared, mistakes are refused here."""

import warnings
from dataclasses import fields

import numpy as np
import pytest

import relaxon
from relaxon import client as errors
from relaxon.client import EquilibriumSettings, GradientEstimator, HardwareLimits, JobState
from relaxon.neuromorphic.equilibrium import EquilibriumClassifier
from relaxon.proto import equilibrium_pb2
from relaxon.wire.conversions.fields import read_settings

X = np.random.default_rng(0).standard_normal((40, 2))
Y = np.where(X[:, 0] > 0, "right", "left")
QUICK = EquilibriumSettings(hidden_sizes=(5,), epochs=2, batch_size=20, random_state=0)


@pytest.fixture(scope="module")
def done(embedded):
    """A model of `QUICK`, deleted at the end."""
    with relaxon.connect(embedded.target) as client:
        model = client.equilibrium.train(X, Y, settings=QUICK).result()
        yield model
        client.equilibrium.delete_model(model)


def test_a_whole_life_of_a_model(client, done):
    ours = EquilibriumClassifier((5,), epochs=2, batch_size=20, random_state=0).fit(X, Y)
    assert client.equilibrium.predict(done, X).tolist() == ours.predict(X).tolist()
    assert np.array_equal(client.equilibrium.predict_proba(done.name, X), ours.predict_proba(X))
    assert np.array_equal(client.equilibrium.decision_function(done, X), ours.decision_function(X))
    assert done.classes.tolist() == ["left", "right"]
    assert (done.outcome, done.hidden_sizes, done.n_features, done.steps) == ("finished", (5,), 2, 4)
    assert done.name in [model.name for model in client.equilibrium.models()]
    assert client.equilibrium.model(done.name).train_loss.tolist() == done.train_loss.tolist()


def test_a_job_is_watched_cancelled_and_found_again(client):
    job = client.equilibrium.train(X, Y, settings=EquilibriumSettings(epochs=100_000, random_state=0))
    first = next(job.progress())
    assert (first.epoch, first.epochs_wanted, sum(first.verdicts.values())) == (1, 100_000, 2)
    client.equilibrium.job(job.name).cancel()
    model = job.result()
    assert (model.outcome, job.state) == ("cancelled", JobState.DONE)
    assert len(model.train_loss) == len(list(job.progress())) >= 1
    assert client.equilibrium.predict(model, X).shape == (40,)
    client.equilibrium.delete_model(model)


def test_gradients_are_compared_on_labels_even_if_a_class_is_not_in_the_batch(client, done):
    rows = np.flatnonzero(Y == "right")
    estimators = [GradientEstimator("one-sided", radius=0.3), GradientEstimator("cauchy", n=8, radius=0.3)]
    one, eight = client.equilibrium.compare_gradients(done, X[rows], Y[rows], estimators)
    ours = EquilibriumClassifier((5,), epochs=2, batch_size=20, random_state=0).fit(X, Y)
    from relaxon.neuromorphic.equilibrium import Cauchy, OneSided

    engine = ours.compare_gradients(X[rows], Y[rows], [OneSided(0.3), Cauchy(8, 0.3)]).rows
    assert [one.relative_error, eight.relative_error] == [row.relative_error for row in engine]
    assert (one.truncation is None, eight.verdict) == (engine[0].truncation is None, "ok")


def test_a_free_phase_that_does_not_come_to_rest_is_warned_of(client, monkeypatch):
    from relaxon.neuromorphic.equilibrium import FixedStep, Phases
    from relaxon.neuromorphic.equilibrium.classifier import estimator

    # One layer alone has nothing that feeds back, and rests after one step.
    settings = EquilibriumSettings(hidden_sizes=(5, 4), epochs=1, random_state=0)
    done = client.equilibrium.train(X, Y, settings=settings).result()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.equilibrium.predict(done, X)
    monkeypatch.setattr(estimator, "PREDICTION", Phases(FixedStep(steps=2, tolerance=1e-12)))
    with pytest.warns(UserWarning, match="did not come to rest"):
        client.equilibrium.predict(done, X)


BAD = {
    "labels of one class": ({"y": np.full(len(Y), "up")}, "y"),
    "X of one axis": ({"X": X[:, 0]}, "X"),
    "NaN in X": ({"X": np.where(X > 1, np.nan, X)}, "X"),
    "labels of other rows": ({"y": Y[1:]}, "y"),
    "labels with fractions": ({"y": X[:, 0]}, "y"),
    "settings in a dictionary": ({"settings": {"epochs": 2}}, "settings"),
    "epochs in floats": ({"settings": EquilibriumSettings(epochs=2.0)}, "epochs"),
    "no epochs": ({"settings": EquilibriumSettings(epochs=0)}, "epochs"),
    "a layer of none": ({"settings": EquilibriumSettings(hidden_sizes=(0,))}, "hidden_sizes"),
    "an unknown estimator": ({"settings": EquilibriumSettings(estimator="backprop")}, "estimator"),
    "a path for a name": ({"model": "../x"}, "model"),
    "timeout 0": ({"timeout": 0}, "timeout"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_training_is_refused_by_the_argument_s_name(client, name):
    changes, field = BAD[name]
    with pytest.raises(errors.InvalidArgument) as caught:
        client.equilibrium.train(**{"X": X, "y": Y, "settings": QUICK, **changes})
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_bad_calls_on_a_model_are_refused_by_the_argument_s_name(client, done):
    cauchy = [GradientEstimator("cauchy")]
    for call, field in (
        (lambda: client.equilibrium.predict(done, X[:, :1]), "X"),
        (lambda: client.equilibrium.predict(3, X), "model"),
        (lambda: client.equilibrium.compare_gradients(done, X, Y, []), "estimators"),
        (lambda: client.equilibrium.compare_gradients(done, X, Y, ["cauchy"]), "estimators"),
        (lambda: client.equilibrium.compare_gradients(done, X, Y, [GradientEstimator("newton")]), "estimators[0]"),
        (lambda: client.equilibrium.compare_gradients(done, X, np.full(40, "up"), cauchy), "y"),
        (lambda: client.equilibrium.compare_gradients(done, X[:, :1], Y, cauchy), "X"),
    ):
        with pytest.raises(errors.InvalidArgument) as caught:
            call()
        assert caught.value.field == field


def test_the_settings_are_the_messages_fields():
    ours = {field.name for field in fields(EquilibriumSettings)}
    assert ours == set(equilibrium_pb2.EquilibriumSettings.DESCRIPTOR.fields_by_name)


def test_the_netlist_of_a_model_has_the_rates_of_its_predictions(client, done, tmp_path):
    from relaxon.neuromorphic.equilibrium import operating_point, read_netlist

    (tmp_path / "network.cir").write_text(client.equilibrium.netlist(done, X[3], unit_conductance=1e-4))
    voltages = operating_point(read_netlist(tmp_path / "network.cir")).voltages
    logits = np.array([voltages["z_0"], voltages["z_1"]])
    assert logits[1] - logits[0] == pytest.approx(client.equilibrium.decision_function(done, X[3:4])[0], abs=1e-9)
    for bad in ({"x": X[3, :1]}, {"x": [0.0, np.nan]}, {"x": X[3], "unit_conductance": -1.0}):
        with pytest.raises(errors.InvalidArgument) as refused:
            client.equilibrium.netlist(done, **bad)
        assert refused.value.field == list(bad)[-1]


def test_a_device_travels_with_the_settings():
    limits = HardwareLimits(weight_bound=1.0, weight_bits=4, free_steps=20)
    message = EquilibriumSettings(nesterov=True, hardware=limits).message()
    assert read_settings(message) == {
        "nesterov": True,
        "hardware": {"weight_bound": 1.0, "weight_bits": 4, "free_steps": 20},
    }
    for settings, name in ((EquilibriumSettings(hardware=3), "hardware"), (HardwareLimits(rate_bits="x"), "rate_bits")):
        with pytest.raises(TypeError, match=f"^{name} must be"):
            settings.message()
