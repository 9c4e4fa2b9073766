"""Training jobs: progress, cancelling, processes that die, limits, and what a stop leaves."""

import os
import signal

import grpc
import numpy as np
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
from job_processes import job_processes

from relaxon.proto import boosting_pb2 as pb
from relaxon.proto import job_pb2
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.jobs import forked_process
from relaxon.server.jobs import process as job_process

Code = grpc.StatusCode


def watch(stubs, operation, skip=0):
    return stubs.boosting.Watch(pb.WatchBoostingRequest(operation=operation.name, skip=skip), timeout=DEADLINE)


def files(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


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


def test_a_killed_process_is_followed_by_one_that_goes_on_where_it_was(training):
    stubs = training(checkpoint_seconds=0.0)
    operation = train_long(stubs, model="again")
    seen = []
    stream = watch(stubs, operation)
    for _ in range(3):
        seen.append(next(stream))
    (worker,) = job_processes()
    os.kill(worker.pid, signal.SIGKILL)
    while True:
        seen.append(next(stream))
        if [one for one in job_processes() if one.pid != worker.pid] and len(seen) > 10:
            break
    cancel(stubs, operation)
    seen += stream
    ended = wait(stubs, operation)
    model = trained(ended)
    assert job(ended).starts == 2
    assert [one.stage for one in seen] == list(range(1, model.stages + 1))
    assert [one.loss for one in seen] == list(model.train_loss[1:])
    assert [one.seconds for one in seen] == sorted(one.seconds for one in seen)


def test_a_job_whose_process_is_lost_time_and_again_is_given_up_and_frees_its_place(training, monkeypatch):
    stubs = training(max_jobs=1, max_models=1, max_attempts=2)
    with monkeypatch.context() as patched:
        # A process that is killed before it has told of a step.
        patched.setattr(job_process, "WORKER", "tests_that_no_module_is")
        ended = wait(stubs, train(stubs, model="lost"))
    assert ended.done
    assert ended.error.code == Code.INTERNAL.value[0]
    assert "lost 2 times in a row" in ended.error.message
    assert "ended with status 1" in ended.error.message
    assert (job(ended).state, job(ended).starts) == (job_pb2.JOB_STATE_FAILED, 2)
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
    next(iter(watch(stubs, running)))
    assert len(job_processes()) == 1
    cancel(stubs, waiting)
    ended = wait(stubs, waiting)
    assert ended.error.code == Code.CANCELLED.value[0]
    assert not job(ended).HasField("start_time")
    again = train(stubs, model="waits")  # its place and its name are free
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


def test_a_filter_chooses_and_a_page_goes_on_where_it_stopped_whatever_was_deleted(training):
    stubs = training()
    done = trained(wait(stubs, train(stubs, model="one")))
    running = train_long(stubs, model="two")
    next(iter(watch(stubs, running)))
    waiting = [train(stubs, model=name) for name in ("three", "four", "five")]
    first = operations(stubs).operations[0]

    def found(text):
        return [job(one).model for one in operations(stubs, filter=text).operations]

    assert found("done = true") == [done.name] == found("state=DONE") == found('model = "one"')
    assert found("state = running") == ["two"]
    assert found("state = JOB_STATE_QUEUED AND model != four") == ["three", "five"]
    assert found("kind = boosting  AND  done = false") == ["two", "three", "four", "five"]
    assert found("kind = equilibrium") == []
    made = job(first).create_time.ToJsonString()
    assert found(f'create_time > "{made}" AND done = true') in ([], ["one"])  # to a millisecond
    assert found("create_time < 2020-01-01T00:00:00Z") == []
    assert len(found("create_time >= 2020-01-01")) == 5
    page = operations(stubs, page_size=1, filter="state = queued")
    assert [one.name for one in page.operations] == [waiting[0].name]
    assert refused_field(lambda: operations(stubs, page_token=page.next_page_token)) == "page_token"
    cancel(stubs, waiting[0])
    delete(stubs, waiting[0].name)
    rest = operations(stubs, filter="state = queued", page_token=page.next_page_token)
    assert [one.name for one in rest.operations] == [waiting[1].name, waiting[2].name]
    assert not rest.next_page_token


def test_bad_requests_for_operations_name_their_field(shared):
    for text in (
        "running",
        "state",
        "state =",
        "state = odd",
        "state < running",
        "done = 1",
        "create_time > yesterday",
        "create_time = 2026-01-01T00:00:00Z",
        "owner = me",
        "state = done AND",
        "state = done OR state = failed",
        "AND state = done",
        'model = "a',
        "x" * 501,
    ):
        assert refused_field(lambda text=text: operations(shared, filter=text)) == "filter"
    assert refused_field(lambda: operations(shared, name="models")) == "name"
    assert refused_field(lambda: operations(shared, page_size=-1)) == "page_size"
    for token in ("nobody", "é", "YSBiIGM=", "MHgxIGEgYg=="):
        assert refused_field(lambda token=token: operations(shared, page_token=token)) == "page_token"
    for name in ("", "operations/", "operations/nobody", "../etc/passwd"):
        refused(lambda name=name: get(shared, name), Code.NOT_FOUND)
        refused(lambda name=name: delete(shared, name), Code.NOT_FOUND)
        refused(lambda name=name: list(watch(shared, operations_pb2.Operation(name=name))), Code.NOT_FOUND)


def test_a_wait_ends_at_its_own_time(training):
    stubs = training()
    operation = train_long(stubs)
    assert not wait(stubs, operation, seconds=0.05).done
    assert refused_field(lambda: wait(stubs, operation, seconds=-1)) == "timeout"


def test_a_stop_keeps_the_jobs_and_the_next_server_goes_on_with_them(tmp_path, training):
    folder = str(tmp_path / "kept")
    server = EmbeddedServer(ServerSettings(port=0, model_folder=folder, grace_seconds=60)).__enter__()
    with grpc.insecure_channel(server.target) as channel:
        stubs = stubs_of(channel)
        cut, waits = train_long(stubs, model="cut"), train(stubs, model="waits")
        next(iter(watch(stubs, cut)))
        with (
            pytest.raises(OSError, match="in use by another server"),
            EmbeddedServer(ServerSettings(port=0, model_folder=folder)),
        ):
            pass
        stream = watch(stubs, cut)
        seen = [next(stream).stage]
        server.__exit__(None, None, None)
        # Those who watch are not told that it has ended.
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(one.stage for one in stream)
    assert caught.value.code() is Code.UNAVAILABLE
    assert job_processes() == []
    again = training(model_folder=folder)
    assert names(again) == []
    more, stream = [], watch(again, cut)
    while len(more) < len(seen) + 3:
        more.append(next(stream))
    cancel(again, cut)
    more += stream
    model = trained(wait(again, cut))
    assert [one.stage for one in more] == list(range(1, model.stages + 1))
    assert job(get(again, cut.name)).starts == 2
    assert trained(wait(again, waits)).name == "waits"
    assert np.isfinite(predict(again, "cut", MANY)).all()
    assert files(tmp_path / "kept" / "boosting" / "cut") == ["model.json", "network.safetensors"]


def test_a_stop_cancels_jobs_that_have_no_folder_to_stay_in():
    server = EmbeddedServer(ServerSettings(port=0, grace_seconds=60)).__enter__()
    with grpc.insecure_channel(server.target) as channel:
        stubs = stubs_of(channel)
        stream = watch(stubs, train_long(stubs))
        next(stream)
        server.__exit__(None, None, None)
        assert len(list(stream)) >= 0  # it ends as it does for a job that has ended
    assert job_processes() == []


def test_a_stop_without_grace_leaves_no_process():
    with (
        EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        next(iter(watch(stubs_of(channel), train_long(stubs_of(channel)))))
        assert len(job_processes()) == 1
    assert job_processes() == []


def test_jobs_go_on_where_the_process_that_they_are_forked_from_is_killed(training):
    stubs = training()
    job_of = train_long(stubs)
    seen = [next(watch(stubs, job_of)).stage]
    (worker,) = job_processes()
    template = worker.parent()
    assert template.pid != os.getpid()
    template.kill()
    stream = watch(stubs, job_of)
    while not (others := [one for one in job_processes() if one.pid != worker.pid]) or len(seen) < 5:
        seen.append(next(stream).stage)
    assert [one.parent().pid in (template.pid, os.getpid()) for one in others] == [False]
    assert job(get(stubs, job_of.name)).starts == 2
    cancel(stubs, job_of)
    assert trained(wait(stubs, job_of)).outcome == pb.BOOSTING_OUTCOME_CANCELLED


def test_the_process_that_jobs_are_forked_from_ends_when_it_has_long_had_none(training, monkeypatch):
    monkeypatch.setattr(forked_process, "IDLE_SECONDS", 0.2)
    monkeypatch.setenv("FORK_FROM", "another process than other tests do")
    stubs = training()
    running = train_long(stubs)
    next(watch(stubs, running))
    template = job_processes()[0].parent()
    cancel(stubs, running)
    wait(stubs, running)
    template.wait(DEADLINE)
    assert trained(wait(stubs, train(stubs))).outcome == pb.BOOSTING_OUTCOME_COMPLETED
