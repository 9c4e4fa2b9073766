"""The process of a job that a Ray cluster works on; its arguments are those of `worker`, then ADDRESS and CPUS.

To the server it looks like `relaxon.server.jobs.worker`. It sends the request, the data and the last checkpoint to an
actor and writes what comes back (steps, checkpoints, the model) into the job's folder. If the actor is lost it ends
without a last message, and the next process has another actor continue from the last checkpoint. The actor ends with
this process.

Imported on first use, for their weight: ray.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from relaxon._version import __version__
from relaxon.core.extras import explain
from relaxon.neuromorphic.checkpoints import replace_file
from relaxon.server.jobs import folder as job_folder
from relaxon.server.jobs.folder import CHECKPOINT, REQUEST
from relaxon.server.jobs.process import thread_limits
from relaxon.server.jobs.ray_actor import Files, Trainer, pack, unpack
from relaxon.server.jobs.worker import BUSY, LONGEST_MESSAGE, MODEL, Link, catch_up, find_engine

POLL_SECONDS = 0.5
"""How long a cancelled job may wait until its actor hears of it."""
KNOCK_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""The time in which an actor must answer, if only with nothing; otherwise it is lost, whatever the cluster says."""
CALLS = 4
"""Concurrent calls of an actor: it is asked for events while it is told to stop."""
OWN_FILES = {job_folder.PROGRESS, job_folder.LEASE, job_folder.LOG}
"""The files of a job's folder that are not sent to the actor."""
NEVER_BEGUN = {"code": "CANCELLED", "message": "the job was cancelled while it waited for processors of the cluster"}


def main() -> int:
    """Return 0 if the last message was sent, whatever it said."""
    folder, server, known, checkpoint_seconds, address, cpus = (
        Path(sys.argv[1]),
        Link(int(sys.argv[2])),
        int(sys.argv[3]),
        float(sys.argv[4]),
        sys.argv[5],
        int(sys.argv[6]),
    )
    lease = job_folder.take_lease(folder)
    if lease is None:
        return BUSY
    steps = catch_up(folder, known, server)
    if steps is None:
        return 0
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    try:
        import ray
    except ModuleNotFoundError as error:
        message = f"this server cannot train that: {explain(error)}"
        server.say({"failed": {"code": "FAILED_PRECONDITION", "message": message}})
        return 0
    try:
        _check_reachable(address)
        ray.init(address=address, namespace="relaxon", log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        message = f"the cluster at {address!r} cannot be reached: {error}"
        server.say({"failed": {"code": "UNAVAILABLE", "message": message[:LONGEST_MESSAGE]}})
        return 0
    try:
        with_seconds = {**request, "checkpoint_seconds": checkpoint_seconds}
        server.say(_conduct_job(ray, _start_actor(ray, cpus), with_seconds, folder, steps, server))
    except ray.exceptions.RayError as error:
        print(f"the actor was lost: {error}", file=sys.stderr)
        return 1
    finally:
        ray.shutdown()
    return 0


def _check_reachable(address: str) -> None:
    """Raise OSError where nothing listens at an address; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in address:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _start_actor(ray: Any, cpus: int) -> Any:
    """Return an actor that reserves so many processors, and is lost with its machine."""
    options = {"num_cpus": cpus, "max_concurrency": CALLS, "runtime_env": {"env_vars": thread_limits(cpus)}}
    return ray.remote(Trainer).options(**options).remote()


def _conduct_job(
    ray: Any, actor: Any, request: Mapping[str, Any], folder: Path, steps: job_folder.StepLog, server: Link
) -> dict[str, Any]:
    """Run a job from its start, or from its checkpoint, and return the last message on it."""
    files = {name: content for name, content in pack(folder).items() if name.partition("/")[0] not in OWN_FILES}
    begun = actor.begin.remote(request, files)
    del files
    while not ray.wait([begun], timeout=POLL_SECONDS)[0]:
        if server.cancelled.is_set():
            return {"failed": NEVER_BEGUN}
        if server.suspended.is_set():
            return {"suspended": {}}
    if (version := ray.get(begun)) != __version__:
        message = f"the cluster has relaxon {version} where this server is {__version__}"
        return {"failed": {"code": "FAILED_PRECONDITION", "message": message}}
    name = find_engine(request).step
    last_word = None
    while True:
        for what, value in ray.get(actor.events.remote(POLL_SECONDS), timeout=ANSWER_SECONDS):
            if what == "step" and steps.add(value[name], value):
                server.say({"step": value[name], "progress": value})
            elif what == "checkpoint":
                _keep_checkpoint(folder / CHECKPOINT, value)
            elif what == "failed":
                return {"failed": value}
            elif what == "broken":
                print(value, file=sys.stderr)
                raise RuntimeError("the engine failed on the cluster")
            elif what == "ended" and not value:
                return {"suspended": {}}
            elif what == "ended":
                unpack(folder / MODEL, value)
                job_folder.publish(folder)
                return {"done": {}}
        word = "cancel" if server.cancelled.is_set() else "suspend" if server.suspended.is_set() else None
        if word != last_word:
            actor.stop.remote(word == "suspend")
            last_word = word


def _keep_checkpoint(folder: Path, files: Files) -> None:
    """Replace the last checkpoint, each of its files at once."""
    for name, content in files.items():
        replace_file(folder / name, partial(Path.write_bytes, data=content))


if __name__ == "__main__":
    sys.exit(main())
