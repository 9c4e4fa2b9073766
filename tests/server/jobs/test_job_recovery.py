"""What a server makes of the jobs that another has left, at each point where that may have been cut off."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from boosting_calls import (
    DEADLINE,
    MANY,
    NOISE,
    cancel,
    job,
    names,
    operations,
    predict,
    stubs_of,
    train_long,
    trained,
    wait,
)
from google.longrunning import operations_pb2

from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor
from relaxon.proto import boosting_pb2 as pb
from relaxon.proto import job_pb2
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.jobs import folder as job_folder

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A folder as a server leaves it that has a job in training, and the job's name."""
    folder = tmp_path_factory.mktemp("left") / "models"
    settings = ServerSettings(port=0, model_folder=str(folder), grace_seconds=60, checkpoint_seconds=0.0)
    with EmbeddedServer(settings) as server, grpc.insecure_channel(server.target) as channel:
        stubs = stubs_of(channel)
        operation = train_long(stubs, model="left")
        stream = stubs.boosting.Watch(pb.WatchBoostingRequest(operation=operation.name), timeout=DEADLINE)
        for _ in range(5):
            next(stream)
    return folder, operation.name


@pytest.fixture
def found(left, tmp_path):
    """A copy of it: the models' folder, the job's own folder, and the operation."""
    folder, name = left
    copied = tmp_path / "models"
    shutil.copytree(folder, copied)
    return copied, copied / "jobs" / name.removeprefix("operations/"), operations_pb2.Operation(name=name)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A finished model, as the job's process would have written it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    GradientBoostedNetworkRegressor(2, random_state=0).fit(MANY, NOISE).save(folder)
    return folder


def starts(operation):
    return job(operation).starts


def written(path):
    """Which file it is, and when it was written; when it was read is told by the rest of its status."""
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size


def test_a_model_that_was_moved_before_its_job_was_called_done_is_not_trained_again(found, model, training):
    """Cut off between the rename and the database."""
    folder, own, operation = found
    (own / job_folder.COMMITTED).touch()
    (folder / "boosting").mkdir()
    shutil.copytree(model, folder / "boosting" / "left")
    stamp = written(folder / "boosting" / "left" / "network.safetensors")
    stubs = training(model_folder=str(folder))
    ended = wait(stubs, operation)
    assert trained(ended).units == 2
    assert starts(ended) == 1
    assert written(folder / "boosting" / "left" / "network.safetensors") == stamp


@pytest.mark.parametrize("marked", [False, True])
def test_a_model_that_was_whole_before_it_was_moved_is_moved(found, model, training, marked):
    """Cut off after the process's last word, before or after the mark."""
    folder, own, operation = found
    shutil.copytree(model, own / job_folder.COMPLETE)
    if marked:
        (own / job_folder.COMMITTED).touch()
    stubs = training(model_folder=str(folder))
    ended = wait(stubs, operation)
    assert trained(ended).units == 2
    assert starts(ended) == 1
    assert names(stubs) == ["left"]
    assert predict(stubs, "left", MANY).shape == (len(MANY),)


def test_half_a_model_is_no_model(found, model, training):
    """Cut off while the process wrote it."""
    folder, own, operation = found
    shutil.rmtree(own / job_folder.PARTIAL, ignore_errors=True)
    (own / job_folder.PARTIAL).mkdir()
    shutil.copy(model / "network.safetensors", own / job_folder.PARTIAL)
    stubs = training(model_folder=str(folder))
    assert names(stubs) == []
    cancel(stubs, operation)
    assert trained(wait(stubs, operation)).units > 2
    assert names(stubs) == ["left"]


def test_a_damaged_checkpoint_and_a_cut_off_line_cost_time_and_nothing_else(found, training):
    folder, own, operation = found
    (own / job_folder.CHECKPOINT / "checkpoint.safetensors").write_bytes(b"half a checkpoint")
    whole = (own / job_folder.PROGRESS).read_bytes()
    (own / job_folder.PROGRESS).write_bytes(whole + b'{"step": 7')
    known = whole.count(b"\n")
    stubs = training(model_folder=str(folder))
    stream = stubs.boosting.Watch(pb.WatchBoostingRequest(operation=operation.name), timeout=DEADLINE)
    seen = [next(stream) for _ in range(known + 3)]
    cancel(stubs, operation)
    seen += stream
    model = trained(wait(stubs, operation))
    assert [one.stage for one in seen] == list(range(1, model.stages + 1))
    assert [one.loss for one in seen] == list(model.train_loss[1:])


def test_steps_that_the_database_has_not_come_from_the_job_s_folder(found, training):
    """Cut off while progress waited to be written to the database."""
    import sqlite3

    folder, own, operation = found
    told = list(job_folder.told_steps(own))
    with sqlite3.connect(folder / "jobs" / "jobs.sqlite") as connection:
        connection.execute("DELETE FROM progress WHERE step > 2")
    connection.close()
    stubs = training(model_folder=str(folder))
    stream = stubs.boosting.Watch(pb.WatchBoostingRequest(operation=operation.name), timeout=DEADLINE)
    seen = [next(stream) for _ in range(len(told) + 2)]
    assert [one.stage for one in seen] == list(range(1, len(told) + 3))
    assert [one.loss for one in seen[: len(told)]] == [one["loss"] for _, one in told]


def test_a_job_whose_data_are_gone_has_failed_and_says_so(found, training):
    folder, own, operation = found
    shutil.rmtree(own)
    stubs = training(model_folder=str(folder))
    ended = wait(stubs, operation)
    assert ended.error.code == Code.DATA_LOSS.value[0]
    assert job(ended).state == job_pb2.JOB_STATE_FAILED


def test_a_job_that_was_told_to_end_ends_after_a_step_with_what_it_has(found, training):
    import sqlite3

    folder, _, operation = found
    with sqlite3.connect(folder / "jobs" / "jobs.sqlite") as connection:
        connection.execute("UPDATE jobs SET cancel_requested = 1, state = 'running'")
    connection.close()
    stubs = training(model_folder=str(folder))
    model = trained(wait(stubs, operation))
    assert model.outcome == pb.BOOSTING_OUTCOME_CANCELLED
    assert 5 <= model.stages < 10_000


def test_a_job_that_was_lost_too_often_before_is_given_up(found, training):
    import sqlite3

    folder, _, operation = found
    with sqlite3.connect(folder / "jobs" / "jobs.sqlite") as connection:
        connection.execute("UPDATE jobs SET attempts = 3, state = 'running'")
    connection.close()
    stubs = training(model_folder=str(folder), max_attempts=3)
    ended = wait(stubs, operation)
    assert "lost 3 times in a row" in ended.error.message
    assert starts(ended) == 1


def test_uploads_that_were_cut_off_are_removed_and_other_files_stay(found, training):
    folder, own, operation = found
    other = folder / "jobs" / ("0" * 32)
    other.mkdir()
    (other / "data.safetensors").write_bytes(b"half")
    (folder / "jobs" / "notes.txt").write_text("mine")
    (folder / "jobs" / "mine").mkdir()
    stubs = training(model_folder=str(folder))
    assert [one.name for one in operations(stubs).operations] == [operation.name]
    assert not other.exists()
    assert own.exists()
    assert (folder / "jobs" / "notes.txt").exists()
    assert (folder / "jobs" / "mine").exists()


def test_the_name_of_a_model_in_training_is_still_taken(found, training):
    from boosting_calls import refused, train

    folder, _, _ = found
    stubs = training(model_folder=str(folder))
    refused(lambda: train(stubs, model="left"), Code.ALREADY_EXISTS)


def test_jobs_can_have_a_folder_of_their_own(tmp_path, training):
    from boosting_calls import train

    models, kept = tmp_path / "models", tmp_path / "elsewhere" / "jobs"
    stubs = training(model_folder=str(models), job_folder=str(kept))
    assert trained(wait(stubs, train(stubs, model="one"))).name == "one"
    assert (kept / "jobs.sqlite").exists()
    assert not (models / "jobs").exists()
    with (
        pytest.raises(OSError, match=r"^job_folder .* is in use by another server"),
        EmbeddedServer(ServerSettings(port=0, model_folder=str(tmp_path / "others"), job_folder=str(kept))),
    ):
        pass
    with pytest.raises(ValueError, match=r"^job_folder must be empty where model_folder is"):
        ServerSettings(job_folder=str(kept))


def test_a_model_from_another_file_system_is_whole_when_it_has_its_name(tmp_path, model):
    from relaxon.server.jobs.models import ModelStore

    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    store = ModelStore(str(tmp_path / "models"), 4)
    folder = memory / f"relaxon-test-{time.monotonic_ns()}"
    shutil.copytree(model, folder)
    store.put("boosting", "far", folder)
    assert not folder.exists()
    found = sorted(path.name for path in store.path("boosting", "far").iterdir() if not path.name.startswith("."))
    assert found == ["model.json", "network.safetensors"]
    assert list(store.incoming.iterdir()) == []
    store.close()


HOLD = """
import sys, time
from pathlib import Path
from relaxon.server.jobs.folder import leased
lease = leased(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_two_processes_never_work_on_one_job(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(job_folder, "LEASE_SECONDS", 0.2)
        assert job_folder.leased(tmp_path) is None
        holder.kill()
    lease = job_folder.leased(tmp_path)
    assert lease is not None
    lease.close()


@pytest.mark.parametrize("way", ["the server's id", "end of input"])
def test_a_process_whose_server_is_gone_does_nothing(found, way):
    """Where it ended before the process could ask the kernel to end it too, and where there is no such kernel."""
    import os

    _, own, _ = found
    before = (own / job_folder.PROGRESS).read_bytes()
    server = 1 if way == "the server's id" else os.getpid()
    command = [sys.executable, "-m", "relaxon.server.jobs.worker", str(own), str(server), "0", "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False)
    assert done.returncode == 3
    if way == "the server's id":
        assert done.stdout == b""
        assert (own / job_folder.PROGRESS).read_bytes() == before


def test_a_step_log_tells_of_no_step_twice(tmp_path):
    log = job_folder.StepLog(tmp_path)
    assert [log.add(number, {"n": number}) for number in (1, 2, 2, 1, 3)] == [True, True, False, False, True]
    with (tmp_path / job_folder.PROGRESS).open("ab") as file:
        file.write(b'{"step": 4, "progr')
    again = job_folder.StepLog(tmp_path)
    assert again.last == 3
    assert [again.add(number, {"n": number}) for number in (3, 4)] == [False, True]
    assert list(job_folder.told_steps(tmp_path)) == [(number, {"n": number}) for number in (1, 2, 3, 4)]
    assert json.loads((tmp_path / job_folder.PROGRESS).read_bytes().splitlines()[3]) == {
        "step": 4,
        "progress": {"n": 4},
    }
