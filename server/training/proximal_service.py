"""`ProximalService`: training jobs, stored proximal operators, denoising, priors, inverse problems. No numerics."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from relaxon.proto import proximal_pb2 as pb
from relaxon.proto import proximal_pb2_grpc
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import OperationsServicer, Presentation
from relaxon.server.jobs.runner import JobRunner
from relaxon.server.solving.observations import Observations, SolveTrace
from relaxon.server.solving.runtime import watch
from relaxon.server.solving.solve_job import SolveJob
from relaxon.server.training import forward_maps, inverse_problems, proximal_messages
from relaxon.server.training.forward_maps import ReadMap, Shape
from relaxon.server.training.inverse_problems import InversePlan, InverseRun
from relaxon.server.training.proximal_task import KIND
from relaxon.server.training.service import Context, TrainingServicer

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import ProximalModel


class _Alone:
    """What a job of this service runs on: nothing that another one uses."""

    running = nullcontext()


ALONE: Any = _Alone()


class ProximalServicer(TrainingServicer, proximal_pb2_grpc.ProximalServiceServicer):
    """The service's calls."""

    kind = KIND

    def __init__(
        self,
        settings: ServerSettings,
        runner: JobRunner,
        models: ModelStore,
        operations: OperationsServicer,
        checks: Executor,
        engines: Executor,
        observations: Observations | None = None,
    ) -> None:
        """`observations` is told of the inverse problems that are solved."""
        super().__init__(settings, runner, models, operations, checks, engines)
        self._observations = observations

    async def Train(self, request_iterator: object, context: Context) -> Any:
        return await errors.reported(context, self._train(self._upload(context)))

    async def Watch(self, request: pb.WatchProximalRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._tell(request, context, proximal_messages.progress_message))

    async def Denoise(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._denoise(self._upload(context), context))

    async def Prior(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._prior(self._upload(context), context))

    async def Solve(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._solve(self._upload(context), context))

    async def GetModel(self, request: pb.GetProximalModelRequest, context: Context) -> pb.ProximalModel:
        return await errors.reported(context, self._beside(lambda: described(self._models, request.name, "name")))

    async def ListModels(self, request: pb.ListProximalModelsRequest, context: Context) -> pb.ListProximalModelsReply:
        return await errors.reported(context, self._beside(self._list))

    async def DeleteModel(
        self, request: pb.DeleteProximalModelRequest, context: Context
    ) -> pb.DeleteProximalModelReply:
        return await errors.reported(context, self._beside(lambda: self._delete(request)))

    async def _train(self, upload: Upload) -> Any:
        header: pb.TrainProximalHeader = await upload.header()
        planned = await self._beside(lambda: proximal_messages.plan(header, self._settings))

        async def receive(folder: Path) -> None:
            data = await upload.array("data", planned.data)
            await upload.end()
            await self._beside(lambda: planned.write(folder, data))

        return await self._submit(header, receive)

    async def _denoise(self, upload: Upload, context: Context) -> None:
        header: pb.DenoiseHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, header.model))
            planned = proximal_messages.signals("y", header.y, header.shape, model, self._settings)
            y = await upload.array("y", planned.array)
            await upload.end()
            output = await self._beside(lambda: model.denoise(planned.read(y)))
            for reply in proximal_messages.denoised_replies(output, planned):
                await context.write(reply)

    async def _prior(self, upload: Upload, context: Context) -> None:
        header: pb.PriorHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, header.model))
            options = proximal_messages.prior_options(header)
            planned = proximal_messages.signals("x", header.x, header.shape, model, self._settings)
            array = await upload.array("x", planned.array)
            await upload.end()
            x = await self._beside(lambda: planned.read(array))

            def evaluate(job: SolveJob) -> Any:
                return model.prior(x, callback=lambda *_: job.check(), **options)

            with self._running(evaluate) as job:
                found: Any = await job.result()
                for reply in proximal_messages.prior_replies(found, planned):
                    await context.write(reply)

    async def _solve(self, upload: Upload, context: Context) -> None:
        header: pb.SolveInverseHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, header.model))
            planned = await self._beside(lambda: inverse_problems.plan(header, model, self._settings))
            maps = await self._read_maps(header, planned, upload)
            announced = inverse_problems.observed(header, maps[-1].output_shape, self._settings)
            observation = await upload.array("observation", announced)
            x0 = None if planned.x0 is None else await upload.array("x0", planned.x0)
            run = InverseRun(model, maps, planned.fields, planned.options, observation, x0)
            await self._beside(run.check)
            trace = self._trace(planned)
            with self._running(run.reconstruct, planned.progress_seconds, trace) as job:
                found = await watch(job, upload, partial(_write_progress, job, context))
                for reply in inverse_problems.reconstruction_replies(found):
                    await context.write(reply)

    async def _read_maps(self, header: pb.SolveInverseHeader, planned: InversePlan, upload: Upload) -> list[ReadMap]:
        """The forward maps, each for what the one before it gives; what a mask gives is known once it is here."""
        maps: list[ReadMap] = []
        shape: Shape = planned.shape
        for field, described in zip(planned.fields, header.operator, strict=True):
            one = await self._beside(partial(forward_maps.plan, field, described, shape, self._settings))
            with forward_maps.named(field):
                arrays: list[NDArray[Any]] = [await upload.array("operator", array) for array in one.arrays]
                maps.append(await self._beside(partial(one.read, arrays)))
            shape = maps[-1].output_shape
        return maps

    @contextmanager
    def _running(
        self,
        work: Callable[[SolveJob], Any],
        progress_seconds: float | None = None,
        trace: SolveTrace | None = None,
    ) -> Iterator[SolveJob]:
        """A job of the engines, for the block in which its call waits for it: at its end the job is told to stop, and
        keeps a place until it has."""
        job = SolveJob(ALONE, work, self._engines, progress_seconds, trace)
        try:
            yield job
        finally:
            job.abandon()
            if not job.future.done():
                self._pending += 1
                loop = asyncio.get_running_loop()

                def ended(_: object) -> None:
                    # At a server's end its loop may be gone before its threads are.
                    with suppress(RuntimeError):
                        loop.call_soon_threadsafe(self._ended)

                job.future.add_done_callback(ended)

    def _ended(self) -> None:
        self._pending -= 1

    def _trace(self, planned: InversePlan) -> SolveTrace | None:
        if self._observations is None:
            return None
        name, entries = f"{KIND}-{planned.options['method']}", math.prod(planned.shape)
        return self._observations.solve(name, planned.shape, entries)

    def _list(self) -> pb.ListProximalModelsReply:
        return pb.ListProximalModelsReply(models=self._stored(lambda name: described(self._models, name, whole=False)))

    def _delete(self, request: pb.DeleteProximalModelRequest) -> pb.DeleteProximalModelReply:
        self._models.delete(KIND, request.name)
        return pb.DeleteProximalModelReply()


def presentation(models: ModelStore) -> Presentation:
    """Return how the jobs of this service are told of."""
    return Presentation(proximal_messages.metadata, lambda job: described(models, job.model))


def loaded(models: ModelStore, name: str) -> ProximalModel:
    """Return a stored model; NOT_FOUND where there is none."""
    from relaxon.neuromorphic.proximal import load_proximal

    model: ProximalModel = models.load(KIND, name, load_proximal)
    return model


def described(models: ModelStore, name: str, field: str = "model", whole: bool = True) -> pb.ProximalModel:
    """Return the message of a stored model; NOT_FOUND where there is none."""
    created = models.created(KIND, name, field)
    return proximal_messages.model_message(name, created, loaded(models, name), whole)


async def _write_progress(job: SolveJob, context: Context) -> None:
    while (progress := await job.next_progress()) is not None:
        found: Any = progress
        await context.write(inverse_problems.progress_reply(found))
