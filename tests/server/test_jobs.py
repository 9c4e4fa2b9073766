"""Training jobs: progress, cancelling, processes that die, limits, and what a stop leaves."""

import os
import signal

import grpc
import numpy as np
import psutil
import pytest
from boosting_calls import (
    DEADLINE,
    MANY,
    NOISE,
    Y,
    cancel,
    header,
    job,
    names,
    operations,
    predict,
    refused,
    refused_field,
    requests,
    stubs_of,
    train,
    train_long,
    trained,
    wait,
)
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2

from relaxon.proto import boosting_pb2 as pb
from relaxon.proto import job_pb2
from relaxon.server.app import EmbeddedServer
from relaxon.server.settings import ServerSettings

Code = grpc.StatusCode


def watch(stubs, operation, skip=0):
    return stubs.boosting.Watch(pb.WatchBoostingRequest(operation=operation.name, skip=skip), timeout=DEADLINE)


def workers():
    return [child for child in psutil.Process().children() if "relaxon.server.worker" in child.cmdline()]


def delete(stubs, name):
    stubs.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name), timeout=DEADLINE)


def get(stubs, name):
    return stubs.operations.GetOperation(operations_pb2.GetOperationRequest(name=name), timeout=DEADLINE)


def test_progress_comes_for_each_stage_and_again_for_who_comes_late(shared):
    operation = train(shared, settings={"n_units": 5, "units_per_stage": 2})
    seen = list(watch(shared, operation))
    model = trained(wait(shared, operation))
    assert [(one.stage, one.units, one.units_wanted) for one in seen] == [(1, 2, 5), (2, 4, 5), (3, 5, 5)]
    assert [one.loss for one in seen] == list(model.train_loss[1:])
    assert list(model.ends) == [0, 2, 4, 5]
    assert list(watch(shared, operation, skip=2)) == seen[2:]
    assert list(watch(shared, operation, skip=9)) == []
    metadata = pb.BoostingTraining()
    get(shared, operation.name).metadata.Unpack(metadata)
    assert metadata.progress == seen[-1]


def test_a_job_tells_its_state_and_times(shared):
    started = train(shared, model="told")
    assert job(started).state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)
    assert not job(started).HasField("end_time")
    told = job(wait(shared, started))
    assert (told.state, told.model, told.cancel_requested) == (job_pb2.JOB_STATE_DONE, "told", False)
    times = [told.create_time, told.start_time, told.end_time]
    assert times == sorted(times, key=lambda time: time.ToNanoseconds())


def test_a_cancel_keeps_the_stages_done_and_the_model_predicts(shared):
    operation = train_long(shared)
    next(iter(watch(shared, operation)))
    cancel(shared, operation)
    cancel(shared, operation)  # a second one changes nothing
    ended = wait(shared, operation)
    model = trained(ended)
    assert model.outcome == pb.BOOSTING_OUTCOME_CANCELLED
    assert 1 <= model.stages < 10_000
    assert job(ended).cancel_requested
    assert len(list(watch(shared, operation))) == model.stages
    # The loss of what it predicts is the loss that the last stage told of, in the target's own units.
    predicted = predict(shared, model.name, MANY)
    assert 0.5 * np.mean((predicted - NOISE) ** 2) / NOISE.var() == pytest.approx(model.train_loss[-1], rel=1e-9)
    cancel(shared, operation)  # nor does one that comes too late
    assert trained(get(shared, operation.name)) == model


def test_a_killed_process_ends_its_job_with_an_error_and_frees_its_place(training):
    stubs = training(max_jobs=1, max_models=1)
    operation = train_long(stubs, model="lost")
    next(iter(watch(stubs, operation)))
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGKILL)
    ended = wait(stubs, operation)
    assert ended.done
    assert ended.error.code == Code.INTERNAL.value[0]
    assert "signal 9" in ended.error.message
    assert job(ended).state == job_pb2.JOB_STATE_FAILED
    assert names(stubs) == []
    # The name, the queue and the worker's place are free again.
    assert trained(wait(stubs, train(stubs, model="lost"))).name == "lost"


def test_a_full_queue_refuses_and_a_waiting_job_can_be_cancelled(training):
    stubs = training(max_jobs=2)
    running, waiting = train_long(stubs), train(stubs, model="waits")
    assert job(waiting).state == job_pb2.JOB_STATE_QUEUED
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    refused(lambda: train(stubs), Code.RESOURCE_EXHAUSTED, quota)
    assert quota.violations[0].subject == "jobs"
    refused(lambda: train(stubs), Code.RESOURCE_EXHAUSTED, retry)
    assert retry.retry_delay.ToMilliseconds() > 0
    assert len(workers()) == 1
    cancel(stubs, waiting)
    ended = wait(stubs, waiting)
    assert ended.error.code == Code.CANCELLED.value[0]
    assert not job(ended).HasField("start_time")
    again = train(stubs, model="waits")  # its place and its name are free
    next(iter(watch(stubs, running)))
    cancel(stubs, running)
    assert trained(wait(stubs, running)).outcome == pb.BOOSTING_OUTCOME_CANCELLED
    assert trained(wait(stubs, again)).name == "waits"


def test_what_only_the_engine_can_refuse_is_the_job_s_error_with_its_field(shared):
    operation = wait(shared, train(shared, y=-np.abs(Y), settings={"loss": "poisson"}))
    assert operation.error.code == Code.INVALID_ARGUMENT.value[0]
    violations = error_details_pb2.BadRequest()
    assert operation.error.details[0].Unpack(violations)
    assert violations.field_violations[0].field == "y"
    assert "must not be negative for loss='poisson'" in operation.error.message


def test_an_upload_that_breaks_off_leaves_nothing_behind(training):
    stubs = training(max_jobs=1, max_models=1)
    first = header(model="half")
    assert refused_field(lambda: stubs.boosting.Train(iter([*requests(first)][:2]), timeout=DEADLINE)) == "features"
    bad = np.where(Y > 0, np.nan, Y)
    assert refused_field(lambda: stubs.boosting.Train(requests(first, y=bad), timeout=DEADLINE)) == "target"
    assert list(operations(stubs).operations) == []
    assert trained(wait(stubs, train(stubs, model="half"))).name == "half"


def test_operations_are_listed_by_page_and_deleted_when_they_have_ended(training):
    stubs = training(max_ended_jobs=3)
    running = train_long(stubs)
    waiting = [train(stubs) for _ in range(4)]
    everything = [running.name, *(one.name for one in waiting)]
    page = operations(stubs, page_size=2)
    seen = [one.name for one in page.operations]
    while page.next_page_token:
        page = operations(stubs, name="operations", page_size=2, page_token=page.next_page_token)
        seen += [one.name for one in page.operations]
    assert seen == everything
    message = refused(lambda: delete(stubs, running.name), Code.FAILED_PRECONDITION)
    assert "has not ended" in message
    for one in waiting:
        cancel(stubs, one)
    # Of four that have ended three are still known.
    refused(lambda: get(stubs, waiting[0].name), Code.NOT_FOUND)
    delete(stubs, waiting[1].name)
    resource = error_details_pb2.ResourceInfo()
    refused(lambda: wait(stubs, waiting[1]), Code.NOT_FOUND, resource)
    assert (resource.resource_type, resource.resource_name) == ("google.longrunning.Operation", waiting[1].name)
    assert [one.name for one in operations(stubs).operations] == [everything[0], *everything[3:]]


def test_bad_requests_for_operations_name_their_field(shared):
    assert refused_field(lambda: operations(shared, filter="done = true")) == "filter"
    assert refused_field(lambda: operations(shared, name="models")) == "name"
    assert refused_field(lambda: operations(shared, page_size=-1)) == "page_size"
    assert refused_field(lambda: operations(shared, page_token="nobody")) == "page_token"
    for name in ("", "operations/", "operations/nobody", "../etc/passwd"):
        refused(lambda name=name: get(shared, name), Code.NOT_FOUND)
        refused(lambda name=name: delete(shared, name), Code.NOT_FOUND)
        refused(lambda name=name: list(watch(shared, operations_pb2.Operation(name=name))), Code.NOT_FOUND)


def test_a_wait_ends_at_its_own_time(training):
    stubs = training()
    operation = train_long(stubs)
    assert not wait(stubs, operation, seconds=0.05).done
    assert refused_field(lambda: wait(stubs, operation, seconds=-1)) == "timeout"


def test_a_stop_stores_what_was_trained_and_the_next_server_has_it(tmp_path, training):
    folder = str(tmp_path / "kept")
    with (
        EmbeddedServer(ServerSettings(port=0, model_folder=folder, grace_seconds=60)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stubs = stubs_of(channel)
        next(iter(watch(stubs, train_long(stubs, model="cut"))))
        train(stubs, model="never")
        with (
            pytest.raises(OSError, match="in use by another server"),
            EmbeddedServer(ServerSettings(port=0, model_folder=folder)),
        ):
            pass
    assert workers() == []
    again = training(model_folder=folder)
    assert names(again) == ["cut"]
    assert np.isfinite(predict(again, "cut", MANY)).all()
    kept = sorted(path.name for path in (tmp_path / "kept" / "boosting" / "cut").iterdir() if path.name != ".owner")
    assert kept == ["model.json", "network.safetensors"]
    assert list((tmp_path / "kept" / "jobs").iterdir()) == []


def test_a_stop_without_grace_leaves_no_process():
    with (
        EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        next(iter(watch(stubs_of(channel), train_long(stubs_of(channel)))))
        assert len(workers()) == 1
    assert workers() == []
