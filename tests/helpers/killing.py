"""A server in a process of its own that can be killed, and jobs that have to come through it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from job_processes import job_processes
from safetensors.numpy import load_file

import relaxon
from relaxon.client import (
    BoostingSettings,
    Client,
    ConvexSettings,
    EnergySettings,
    EquilibriumSettings,
    JobState,
    ProximalNetwork,
    ProximalSettings,
)
from relaxon.server.jobs.database import FILE

SERVE = """
import json, sys
from relaxon.server.app import serve
from relaxon.server.config.settings import ServerSettings
serve(ServerSettings(**json.loads(sys.argv[1])), lambda target: print(target, flush=True))
"""
SOURCE = str(Path(relaxon.__file__).resolve().parents[1])
PATIENCE = 120.0
"""Seconds for anything to happen on a busy machine."""


class Rig:
    """Servers on one folder and one port, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.target = f"127.0.0.1:{self.port}"
        self._log = (folder / "server.log").open("ab")
        self._server: Any = None

    def start(self) -> None:
        settings = {
            "port": self.port,
            "model_folder": str(self.folder / "models"),
            "checkpoint_seconds": 0.05,
            # Each life may be too short for a step: here that is the test's doing, not the job's.
            "max_attempts": 10_000,
        }
        command = [sys.executable, "-c", SERVE, json.dumps(settings)]
        environment = {**os.environ, "PYTHONPATH": SOURCE}
        self._server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self._server.stdout.readline().strip() == self.target

    def kill(self) -> None:
        """As a power cut would, but for the disk: the server goes, and its process of the job has to go by itself."""
        orphans = self.workers()
        self._server.kill()
        self._server.wait()
        self._server.stdout.close()
        _, left = psutil.wait_procs(orphans, timeout=PATIENCE)
        assert not left, "a process of a killed server lives on"
        self.check_database()

    def stop(self) -> None:
        self._server.send_signal(signal.SIGTERM)
        self._server.stdout.read()
        assert self._server.wait(PATIENCE) == 0
        self._server.stdout.close()
        self._log.close()

    def workers(self) -> list[psutil.Process]:
        return job_processes(self._server.pid)

    def check_database(self) -> None:
        connection = sqlite3.connect(self.folder / "models" / "jobs" / FILE)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()


@dataclass
class Trained:
    """A job of the rig: what was asked of it, and what its progress said, watched through all of its lives."""

    job: Any
    steps: list[Any] = field(default_factory=list)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        try:
            for step in self.job.progress():
                self.steps.append(step)
        except BaseException as error:
            self.failure = error


@dataclass(frozen=True)
class Kind:
    """What is trained, and the same in process and without any end but its own."""

    train: Callable[[Client, str], Any]
    unbroken: Callable[[Path], None]
    number: Callable[[Any], int]
    loss: Callable[[Any], Any]
    told: Callable[[Any], float] = lambda step: step.loss


def boosting(stages: int, rows: int = 12_000) -> Kind:
    from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor

    x = np.random.default_rng(1).standard_normal((rows, 8))
    y = np.sin(2.0 * x[:, 0]) + x[:, 1] * x[:, 2]
    settings = BoostingSettings(n_units=stages, random_state=0)
    return Kind(
        lambda client, name: client.boosting.train(x, y, settings=settings, model=name),
        lambda folder: GradientBoostedNetworkRegressor(stages, random_state=0).fit(x, y).save(folder),
        lambda step: step.stage,
        lambda model: model.train_loss[1:],
    )


def convex(iterations: int) -> Kind:
    from relaxon.neuromorphic.convex import ConvexNetworkRegressor

    x = np.random.default_rng(1).standard_normal((400, 5))
    y = np.sin(2.0 * x[:, 0]) + x[:, 1] * x[:, 2]
    options = {
        "n_patterns": 40,
        "beta": 1e-5,
        "tol": 1e-12,
        "max_iter": iterations,
        "refinements": 1,
        "random_state": 0,
    }
    primal: list[float] = []

    def unbroken(folder: Path) -> None:
        ConvexNetworkRegressor(**options).fit(x, y, callback=lambda one: primal.append(one.primal)).save(folder)

    return Kind(
        lambda client, name: client.convex.train(x, y, settings=ConvexSettings(**options), model=name),
        unbroken,
        lambda step: step.report,
        lambda model: np.array(primal),
        lambda step: step.primal,
    )


def equilibrium(epochs: int) -> Kind:
    from relaxon.neuromorphic.equilibrium import EquilibriumClassifier
    from relaxon.neuromorphic.equilibrium.classifier.storage import save_classifier

    x = np.random.default_rng(1).standard_normal((400, 4))
    y = (x[:, 0] > 0).astype(int)
    options = {"hidden_sizes": (12,), "epochs": epochs, "batch_size": 40, "random_state": 0}
    return Kind(
        lambda client, name: client.equilibrium.train(x, y, settings=EquilibriumSettings(**options), model=name),
        lambda folder: save_classifier(EquilibriumClassifier(**options).fit(x, y), folder),
        lambda step: step.epoch,
        lambda model: model.train_loss,
    )


def energy(steps: int) -> Kind:
    from relaxon.neuromorphic.energy import EnergyDensity

    x = np.random.default_rng(1).standard_normal((200, 2)) ** 3
    options = {"hidden_sizes": (16,), "steps": steps, "patience": steps, "noise": "mixture", "random_state": 0}
    losses: list[float] = []

    def unbroken(folder: Path) -> None:
        def watch(progress: Any) -> bool:
            if progress.step % 10 == 0:
                losses.append(progress.record.loss)
            return False

        EnergyDensity(**options).fit(x, watcher=watch).save(folder)

    return Kind(
        lambda client, name: client.energy.train(x, settings=EnergySettings(**options), model=name),
        unbroken,
        lambda step: step.report,
        lambda model: np.array(losses),
    )


def proximal(steps: int) -> Kind:
    from relaxon.neuromorphic.proximal import MatchingSettings, NetworkSettings, train_proximal

    x = np.random.default_rng(1).laplace(size=(200, 6))
    network = {"shape": (6,), "hidden": (16,)}
    options = {"noise": 1.0, "start_steps": steps, "gammas": (0.5,), "stage_steps": steps}
    losses: list[float] = []

    def unbroken(folder: Path) -> None:
        model = train_proximal(x, NetworkSettings(**network), MatchingSettings(**options))
        losses.extend(record.loss for record in model.training.records)
        model.save(folder)

    return Kind(
        lambda client, name: client.proximal.train(
            x, ProximalNetwork(**network), ProximalSettings(**options), model=name
        ),
        unbroken,
        lambda step: step.report,
        lambda model: np.array(losses),
    )


@dataclass
class Report:
    """What came of it."""

    worker_kills: int = 0
    server_kills: int = 0
    in_training: int = 0
    """Kills of a process that had made steps of its own; the others were still starting."""
    jobs: int = 0
    starts: int = 0


def outlive(folder: Path, kind: Kind, kills: int, seed: int, longest: float) -> Report:
    """Jobs one after the other, through so many kills, at random moments, of their process and of their server."""
    rng, report, rig = random.Random(seed), Report(), Rig(folder)
    kind.unbroken(folder / "unbroken")
    victims = ["worker", "server"] * (kills // 2) + ["worker"] * (kills % 2)
    rng.shuffle(victims)
    jobs: list[Trained] = []
    stored: dict[str, tuple[int, int]] = {}
    rig.start()
    with relaxon.connect(rig.target, timeout=PATIENCE) as client:
        for victim in victims:
            if not jobs or jobs[-1].job.state.name in ("DONE", "FAILED"):
                jobs.append(Trained(kind.train(client, f"model-{len(jobs)}")))
            if not _at_a_moment(rig, jobs[-1], rng, longest):
                jobs.append(Trained(kind.train(client, f"model-{len(jobs)}")))
                assert _at_a_moment(rig, jobs[-1], rng, 0.0)
            known = len(jobs[-1].steps)
            if victim == "worker":
                for worker in rig.workers():
                    worker.kill()
                report.worker_kills += 1
            else:
                rig.kill()
                rig.start()
                client.wait_until_ready()
                report.server_kills += 1
            report.in_training += known > 0
            for name, stamp in stored.items():
                assert _stamp(rig, name) == stamp, "a model that was stored has been stored again"
            stored |= {one.job.model: _stamp(rig, one.job.model) for one in jobs if _place(rig, one.job.model).exists()}
        for one in jobs:
            _check(kind, one, rig, folder)
        infos = client.jobs.list()
        assert [info.name for info in infos] == [one.job.name for one in jobs]
        assert all(info.state is JobState.DONE for info in infos)
        assert rig.workers() == []
        report.jobs, report.starts = len(jobs), sum(info.starts for info in infos)
    for name, stamp in stored.items():
        assert _stamp(rig, name) == stamp
    rig.stop()
    rig.check_database()
    kept = folder / "models" / "jobs"
    assert [path.name for path in kept.iterdir() if path.is_dir()] == []
    assert sorted(path.name for path in (folder / "models").glob("*/model-*")) == sorted(one.job.model for one in jobs)
    return report


def _at_a_moment(rig: Rig, one: Trained, rng: random.Random, longest: float) -> bool:
    """Wait for a moment of the job's process, while it starts or in its training; False where the job has ended."""
    started = time.monotonic()
    while not rig.workers():
        if one.job.state.name in ("DONE", "FAILED"):
            return False
        assert time.monotonic() < started + PATIENCE
        time.sleep(0.01)
    if rng.random() < 0.7:
        seen = len(one.steps)
        while len(one.steps) == seen:
            if not one.thread.is_alive():
                return False
            assert time.monotonic() < started + PATIENCE
            time.sleep(0.01)
    time.sleep(rng.uniform(0.0, longest))
    return bool(rig.workers())


def _check(kind: Kind, one: Trained, rig: Rig, folder: Path) -> None:
    """A job has one model, of the same bits as the unbroken one's, and its progress was told once, each step."""
    model = one.job.result(timeout=PATIENCE)
    one.thread.join(PATIENCE)
    assert one.failure is None, one.failure
    assert [kind.number(step) for step in one.steps] == list(range(1, len(one.steps) + 1))
    assert [kind.told(step) for step in one.steps] == kind.loss(model).tolist()
    (own,) = (folder / "unbroken").glob("*.safetensors")
    ours, theirs = load_file(_place(rig, model.name) / own.name), load_file(own)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert np.array_equal(ours[name], array), name


def _place(rig: Rig, model: str) -> Path:
    return next(iter((rig.folder / "models").glob(f"*/{model}")), rig.folder / "models" / "nowhere")


def _stamp(rig: Rig, model: str) -> tuple[int, int]:
    found = _place(rig, model).stat()
    return found.st_ino, found.st_mtime_ns
