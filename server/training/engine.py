"""The description of a training engine: everything in which one engine differs from another on the server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from relaxon.core.tensor_files import write_tensors
from relaxon.server.jobs.folder import DATA, REQUEST
from relaxon.server.jobs.worker import Tell
from relaxon.wire.conversions.engine import EngineMessages

if TYPE_CHECKING:
    from relaxon.server.config.settings import ServerSettings
    from relaxon.server.gate.uploads import Upload
    from relaxon.server.jobs.records import Json
    from relaxon.server.training.service import TrainingService
    from relaxon.wire.tensors import AnnouncedArray

Arrays = Mapping[str, NDArray[Any]]
RunBeside = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs a function in a thread, so that the event loop never computes."""
Call = Callable[["TrainingService", Any, Any], Awaitable[Any]]
"""Answers a call of the engine's own, given the service, the request (or their stream) and the call's context."""


def load_later(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports a function of a module when it is first called, for its weight, and calls it."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module), name)(*arguments)

    return call


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A training run as its header describes it."""

    arrays: Mapping[str, AnnouncedArray]
    """The announced arrays, in order of arrival."""
    request: Json
    """What the worker process is given beside the arrays: `kind`, and what the engine needs to train."""
    check: Callable[[Arrays], None]
    """Raises INVALID_ARGUMENT, naming the array, for data that the engine does not take."""

    async def receive(self, upload: Upload, run_beside: RunBeside, folder: Path) -> None:
        """Take the arrays in and put them, with the request, into the folder where the worker process reads them."""
        arrays = {name: await upload.array(name, announced) for name, announced in self.arrays.items()}
        await upload.end()
        await run_beside(lambda: self._write(folder, arrays))

    def _write(self, folder: Path, arrays: Arrays) -> None:
        self.check(arrays)
        folder.mkdir()
        write_tensors(folder / DATA, arrays)
        (folder / REQUEST).write_text(json.dumps(self.request), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEngine:
    """An engine that the server trains models with, described once.

    The worker process, the operations service, the model store, the models service and the server's status all read
    this description. A module that describes an engine names it `ENGINE`, and is light: it is imported by each process
    that works on a job. It imports what computes (torch, scikit-learn, the engine's package) inside its functions.
    """

    module: str
    """The dotted name of the module that holds the description as `ENGINE`; the worker process imports it."""
    wire: EngineMessages[Any, Any]
    """The service's messages, the kind of the engine, and the files of a stored model."""
    training: type[Any]
    """The message type of a job's metadata, with the fields `job` and `progress`."""
    needs: tuple[str, ...]
    """The Python modules without which nothing can be trained or predicted, by their import names."""
    extra: str
    """The extra of relaxon that brings all of them."""

    plan: Callable[[Any, ServerSettings], TrainingPlan]
    """Reads the header of a `Train` call.

    INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED for a run that is too large for this server.
    """
    train: Callable[[Path, Json, Tell], None]
    """Trains, in a worker process, on the data of a job's folder and writes the model to `folder / MODEL`.

    It reports each step through the given function, then keeps a checkpoint in `folder / CHECKPOINT` where the last
    one is `request["checkpoint_seconds"]` old, and ends where the function returns True. What it draws comes from a
    seed in the request: a run that was cut off ends with the same bits. A ValueError refuses an argument.
    """
    step: str
    """The entry of a report that numbers the steps, from 1."""
    imports: tuple[str, ...] = ()
    """The modules that `train` imports and that take long to import."""

    load: Callable[[Path], Any]
    """Reads a stored model."""
    describe: Callable[[Any, bool], Any]
    """Returns the message of a stored model, without its name and time, given the model and whether to fill in the
    fields that can be long."""
    check: Callable[[Path, ServerSettings], None]
    """Refuses an uploaded model by what its files say, before anything is allocated for them."""
    probe: Callable[[Any], Any]
    """Returns a model's answer for one row, as an array of length 1: a whole model has one."""
    calls: Mapping[str, Call] = field(default_factory=dict)
    """The methods that the service has beside Train, Watch, GetModel, ListModels and DeleteModel."""
    onnx: Callable[[Any], bytes] | None = None
    """Exports a model to ONNX; None where that is not possible."""

    @property
    def kind(self) -> str:
        """The name of the engine: of its jobs and its stored models."""
        return self.wire.kind
