"""Convex networks through both clients: the bits of those in process, certificates, jobs killed and cancelled."""

import os
import signal
from dataclasses import asdict, fields

import numpy as np
import pytest
from both import given, listed, play
from job_processes import job_processes

from relaxon import client as errors
from relaxon.client import BoundsProgress, ConvexSettings, JobState, OptimalityCertificate
from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor, ConvexOutcome, load
from relaxon.proto import convex_pb2 as pb
from relaxon.server.training.engines.convex import OUTCOMES

X = np.random.default_rng(0).standard_normal((60, 3))
Y = np.sin(2.0 * X[:, 0]) + X[:, 1]
LABELS = np.array(["blue", "green", "red é"])[np.digitize(Y, [-0.7, 0.7])]
QUICK = {"n_patterns": 8, "beta": 0.05, "tol": 1e-3, "refinements": 1, "certificate_draws": 20, "random_state": 3}
ENDLESS = {"n_patterns": 30, "beta": 1e-7, "tol": 1e-14, "max_iter": 200_000, "refinements": 0, "random_state": 0}
"""A training that does not end within a test unless it is told to."""


def same(model, ours):
    """Whether a model that was told of has the certificate, the history and the size of one in process."""
    history = asdict(ours.history_)
    assert asdict(model.certificate) == asdict(ours.certificate_)
    assert all(np.array_equal(getattr(model.history, name), array) for name, array in history.items())
    assert (model.units, model.iterations, model.loss) == (ours.n_units_, ours.n_iter_, ours.loss)
    return len(model.history.primal) > 0


def test_a_regression_is_the_one_in_process_bit_for_bit_and_tells_its_certificate(client):
    two, weights = np.column_stack([Y, X[:, 2] ** 2]).astype(np.float32), np.linspace(0.0, 2.0, len(X))
    job = client.convex.train(X, two, sample_weight=weights, settings=ConvexSettings(**QUICK), model="two")
    steps = list(job.progress())
    model = job.result()
    told = []
    ours = ConvexNetworkRegressor(**QUICK).fit(X, two, weights, callback=told.append)
    assert np.array_equal(client.convex.predict(model, X), ours.predict(X))
    assert same(model, ours)
    assert (model.task, model.n_features, model.outputs, model.outcome) == ("regression", 3, 2, "converged")
    assert [step.report for step in steps] == list(range(1, len(told) + 1))
    for name in ("iteration", "primal", "dual", "relative_gap", "primal_residual", "dual_residual"):
        assert [getattr(step, name) for step in steps] == [getattr(one, name) for one in told]
    assert list(job.progress(skip=len(told) - 1)) == steps[-1:]
    assert job.info().kind == "convex"
    gap = model.plot().axes[1].lines[0].get_ydata()
    assert np.array_equal(gap, ours.history_.primal - ours.history_.dual)
    short = next(one for one in client.convex.models() if one.name == "two")
    assert short.certificate == model.certificate
    assert not len(short.history.primal)
    with pytest.raises(ValueError, match="ask for it by name"):
        short.plot()
    for one in (model, short):
        assert f"{model.units} of {model.certificate.sampled} sampled patterns" in one._repr_html_()
    with pytest.raises(errors.InvalidArgument, match="the model is a regression") as caught:
        client.convex.predict_proba(model, X)
    assert caught.value.field == "output"
    client.convex.delete_model("two")


def test_a_classification_through_the_asyncio_client_is_the_one_in_process(embedded):
    ours = ConvexNetworkClassifier(**QUICK).fit(X, LABELS)

    async def scenario(client):
        settings = ConvexSettings(**QUICK)
        job = await given(client.convex.train(X, LABELS, task="classification", settings=settings, model="named"))
        model = await given(job.result())
        assert len(await listed(job.progress())) > 0
        assert model.classes.tolist() == ["blue", "green", "red é"]
        assert same(model, ours)
        found = await given(client.convex.predict(model, X))
        assert found.tolist() == ours.predict(X).tolist()
        assert np.array_equal(await given(client.convex.predict_proba("named", X)), ours.predict_proba(X))
        assert np.array_equal(await given(client.convex.decision_function("named", X)), ours.decision_function(X))
        assert (await given(client.convex.model("named"))).created == model.created
        await given(client.convex.delete_model(model))
        with pytest.raises(errors.NotFound) as missing:
            await given(client.convex.predict("named", X))
        assert missing.value.resource_type == "relaxon.v1.ConvexModel"

    play("asyncio", embedded.target, scenario)


def test_a_killed_job_begins_anew_tells_nothing_twice_and_a_cancel_keeps_its_network(client, tmp_path):
    job = client.convex.train(X, Y, settings=ConvexSettings(**ENDLESS), model="long")
    told = job.progress()
    steps = [next(told) for _ in range(3)]
    (worker,) = job_processes()
    os.kill(worker.pid, signal.SIGKILL)
    while not (others := [one for one in job_processes() if one.pid != worker.pid]) or len(steps) < 40:
        steps.append(next(told))
    assert len(others) == 1
    job.cancel()
    steps += told
    model = job.result()
    assert [step.report for step in steps] == list(range(1, len(steps) + 1))
    assert (model.outcome, job.state) == ("cancelled", JobState.DONE)
    assert job.info().starts == 2
    assert model.certificate.dual <= model.certificate.primal == steps[-1].primal
    unbroken = []

    def stop(progress):
        unbroken.append(progress.primal)
        return len(unbroken) == len(steps)

    ours = ConvexNetworkRegressor(**ENDLESS).fit(X, Y, callback=stop)
    assert [step.primal for step in steps] == unbroken
    assert same(model, ours)
    client.models.download("convex", "long", tmp_path)
    assert np.array_equal(load(tmp_path).network_.hidden, ours.network_.hidden)
    client.convex.delete_model(model)


BAD_TRAININGS = {
    "X of one axis": ({"X": Y}, "X"),
    "NaN in X": ({"X": np.where(X > 1, np.nan, X)}, "X"),
    "y of other rows": ({"y": Y[1:]}, "y"),
    "y of three axes": ({"y": Y[:, None, None]}, "y"),
    "labels of one class": ({"y": np.zeros(60, int), "task": "classification"}, "y"),
    "an unknown task": ({"task": "ranking"}, "task"),
    "settings in a dictionary": ({"settings": {"n_patterns": 3}}, "settings"),
    "patterns in floats": ({"settings": ConvexSettings(n_patterns=3.0)}, "n_patterns"),
    "an infinite beta": ({"settings": ConvexSettings(beta=float("inf"))}, "beta"),
    "a beta of 0": ({"settings": ConvexSettings(beta=0.0)}, "beta"),
    "a number for the loss": ({"settings": ConvexSettings(loss=2)}, "loss"),
    "a loss for classes": ({"settings": ConvexSettings(loss="hinge")}, "loss"),
    "an unknown program": ({"settings": ConvexSettings(program="all")}, "program"),
    "a box around units": ({"settings": ConvexSettings(program="units", epsilon=0.1)}, "epsilon"),
    "weights of other rows": ({"sample_weight": np.ones(59)}, "sample_weight"),
    "a negative weight": ({"sample_weight": -np.ones(60)}, "sample_weight"),
    "a path for a name": ({"model": "../x"}, "model"),
    "a number for a name": ({"model": 3}, "model"),
}


@pytest.mark.parametrize("name", BAD_TRAININGS)
def test_a_bad_training_is_refused_by_the_argument_s_name(client, name):
    changes, field = BAD_TRAININGS[name]
    with pytest.raises(errors.InvalidArgument) as caught:
        client.convex.train(**{"X": X, "y": Y, "settings": ConvexSettings(**QUICK), **changes})
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_the_client_s_records_are_the_messages_and_the_outcomes_are_the_engine_s():
    for record, message in (
        (ConvexSettings, pb.ConvexSettings),
        (BoundsProgress, pb.ConvexProgress),
        (OptimalityCertificate, pb.ConvexCertificate),
    ):
        assert {field.name for field in fields(record)} == set(message.DESCRIPTOR.fields_by_name)
    assert {outcome.name for outcome in ConvexOutcome} == set(OUTCOMES)
    assert set(OUTCOMES.values()) | {pb.CONVEX_OUTCOME_UNSPECIFIED} == set(pb.ConvexOutcome.values())
    estimator = ConvexNetworkClassifier()
    assert {field.name for field in fields(ConvexSettings)} == set(estimator.get_params())


def test_the_status_tells_of_the_engine_and_that_it_needs_no_torch(client):
    (engine,) = [one for one in client.status().engines if one.name == "convex"]
    assert (engine.available, engine.extra) == (True, "server")
