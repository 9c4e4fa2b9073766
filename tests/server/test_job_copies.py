"""Jobs' processes are copies of one that has loaded what they run: one for a program, which may end at any time."""

import os
import socket
import subprocess
import sys
import time

import grpc
import psutil
import pytest
from boosting_calls import cancel, job, stubs_of, train, train_long, trained, wait
from google.longrunning import operations_pb2

from relaxon.proto import boosting_pb2 as pb
from relaxon.server import job_copies
from relaxon.server.app import EmbeddedServer
from relaxon.server.settings import ServerSettings
from relaxon.server.worker import PROCESS_NAME

pytestmark = pytest.mark.skipif(not job_copies.can_copy(), reason="this system has no copies")
PATIENCE = 60.0


def templates():
    return [one for one in psutil.Process().children() if job_copies.MODULE in one.cmdline()]


def ask(stubs, operation):
    return stubs.operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name), timeout=PATIENCE)


def first_step(stubs, operation):
    return next(stubs.boosting.Watch(pb.WatchBoostingRequest(operation=operation.name), timeout=120))


def settled(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_jobs_one_after_the_other_are_copies_of_one_process(shared):
    assert trained(wait(shared, train(shared, model="one"))).stages == 3
    (template,) = templates()
    operation = train_long(shared, model="two")
    first_step(shared, operation)
    (copy,) = template.children()
    assert copy.name() == PROCESS_NAME
    assert copy.nice() == template.nice() == psutil.Process().nice() + 10
    assert os.getsid(copy.pid) == copy.pid  # what is typed at the server's terminal is not for it
    cancel(shared, operation)
    assert job(wait(shared, operation)).starts == 1
    settled(lambda: not template.children())
    assert templates() == [template]


def test_a_job_comes_through_the_end_of_that_process_and_the_next_has_another(shared):
    operation = train_long(shared, model="three")
    first_step(shared, operation)
    (template,) = templates()
    (copy,) = template.children()
    template.kill()
    settled(lambda: not copy.is_running() or copy.status() == psutil.STATUS_ZOMBIE)
    settled(lambda: job(ask(shared, operation)).starts == 2)
    cancel(shared, operation)
    assert trained(wait(shared, operation)).stages >= 1
    (another,) = templates()
    assert another != template


def test_where_no_copy_can_be_had_a_process_is_started_as_everywhere_else(shared, monkeypatch):
    monkeypatch.setattr(job_copies, "MODULE", "tests_that_no_module_is")
    monkeypatch.setattr(job_copies, "_templates", {})
    assert trained(wait(shared, train(shared, model="four"))).stages == 3


def test_a_server_that_stops_while_a_process_is_starting_leaves_the_job_to_the_next(tmp_path, monkeypatch):
    asked = []
    settings = ServerSettings(port=0, model_folder=str(tmp_path), grace_seconds=0.0, compile="")
    with monkeypatch.context() as patched:
        patched.setattr(job_copies.Template, "ask", lambda self, copy, request, files: asked.append(copy))
        with EmbeddedServer(settings) as server, grpc.insecure_channel(server.target) as channel:
            operation = train(stubs_of(channel), model="left")
            settled(lambda: asked)
            stopped = time.monotonic()
        assert time.monotonic() < stopped + 4.0
    with EmbeddedServer(settings) as server, grpc.insecure_channel(server.target) as channel:
        assert trained(wait(stubs_of(channel), operation)).stages == 3


IDLE = """
import sys
from relaxon.server import job_template
job_template.IDLE_SECONDS = 0.2
sys.exit(job_template.main())
"""


def test_it_ends_when_it_has_had_nothing_to_do_or_its_server_has_ended():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        end = theirs.fileno()
        idle = subprocess.Popen([sys.executable, "-c", IDLE, str(end), str(os.getpid())], pass_fds=(end,))
        orphan = subprocess.Popen([sys.executable, "-c", IDLE, str(end), "1"], pass_fds=(end,))
        assert idle.wait(PATIENCE) == 0
        assert orphan.wait(PATIENCE) == 3
