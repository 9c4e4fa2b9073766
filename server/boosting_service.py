"""`BoostingService`: training jobs, stored networks and predictions. Messages and admission only; no numerics."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from relaxon.proto import boosting_pb2 as pb
from relaxon.proto import boosting_pb2_grpc, tensors
from relaxon.server import boosting_messages, classes, errors, jobs
from relaxon.server.boosting_task import KIND
from relaxon.server.job_runner import JobRunner
from relaxon.server.jobs import Job
from relaxon.server.models import ModelStore
from relaxon.server.operations_service import OperationsServicer, Presentation
from relaxon.server.settings import ServerSettings
from relaxon.server.uploads import Upload
from relaxon.server.worker import MODEL

if TYPE_CHECKING:
    from relaxon.neuromorphic.boosting.storage import Estimator

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
RETRY_SECONDS = 1.0


class BoostingServicer(boosting_pb2_grpc.BoostingServiceServicer):
    """The service's calls; `checks` runs what takes more than a moment, so that the event loop never computes."""

    def __init__(
        self,
        settings: ServerSettings,
        runner: JobRunner,
        models: ModelStore,
        operations: OperationsServicer,
        checks: Executor,
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._models = models
        self._operations = operations
        self._checks = checks
        self._predicting = 0

    async def Train(self, request_iterator: object, context: Context) -> Any:
        return await errors.reported(context, self._train(self._upload(context)))

    async def Watch(self, request: pb.WatchBoostingRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._watch(request, context))

    async def Predict(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._predict(self._upload(context), context))

    async def Truncate(self, request: pb.TruncateBoostingRequest, context: Context) -> pb.BoostingModel:
        return await errors.reported(context, self._beside(lambda: self._truncate(request)))

    async def GetModel(self, request: pb.GetBoostingModelRequest, context: Context) -> pb.BoostingModel:
        return await errors.reported(context, self._beside(lambda: described(self._models, request.name, "name")))

    async def ListModels(self, request: pb.ListBoostingModelsRequest, context: Context) -> pb.ListBoostingModelsReply:
        return await errors.reported(context, self._beside(self._list))

    async def DeleteModel(
        self, request: pb.DeleteBoostingModelRequest, context: Context
    ) -> pb.DeleteBoostingModelReply:
        return await errors.reported(context, self._beside(lambda: self._delete(request)))

    def _upload(self, context: Context) -> Upload:
        return Upload(context, self._settings.idle_seconds)

    async def _train(self, upload: Upload) -> Any:
        header: pb.TrainBoostingHeader = await upload.header()
        planned = await self._beside(lambda: boosting_messages.plan(header, self._settings))
        with self._runner.place():
            name = self._models.reserve(KIND, header.model, "model")
            job = Job.new(KIND, name)
            folder = self._runner.folder_of(job)

            def release() -> None:
                self._models.release(KIND, name)

            try:
                features = await upload.array("features", planned.features)
                target = await upload.array("target", planned.target)
                weights = None if planned.weights is None else await upload.array("weights", planned.weights)
                await upload.end()
                await self._beside(lambda: planned.check(features, target, weights))
                await self._beside(lambda: planned.write(folder, features, target, weights))
                self._runner.submit(job, self._keep, release)
            except BaseException:
                release()
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return await self._operations.operation(job.id)

    async def _keep(self, job: Job, folder: Path) -> None:
        await self._beside(lambda: self._models.put(KIND, job.model, folder / MODEL))

    async def _watch(self, request: pb.WatchBoostingRequest, context: Context) -> None:
        job_id = jobs.job_id_of(request.operation)
        if self._runner.store.find(job_id).kind != KIND:
            raise errors.invalid("operation", f"operation must train a boosted network, got {request.operation!r}")
        if request.skip < 0:
            raise errors.invalid("skip", f"skip must not be negative, got {request.skip}")
        async for progress in self._runner.watch(job_id, request.skip):
            await context.write(boosting_messages.progress_message(progress))

    async def _predict(self, upload: Upload, context: Context) -> None:
        header: pb.PredictBoostingHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: self._model_to_predict_with(header))
            method = boosting_messages.output_name(header, hasattr(model, "classes_"))
            planned = boosting_messages.features_to_predict(header, model.n_features_in_, self._settings)
            features = await upload.array("features", planned)
            await upload.end()
            output = await self._beside(lambda: _output(model, method, features))
            reply = pb.PredictBoostingReplyHeader(output=tensors.header_of(output))
            if hasattr(model, "classes_"):
                reply.classes.CopyFrom(classes.of(model.classes_))
            await context.write(pb.PredictBoostingReply(header=reply))
            for part in tensors.parts_of(output):
                await context.write(pb.PredictBoostingReply(output=part))

    def _model_to_predict_with(self, header: pb.PredictBoostingHeader) -> Any:
        model = loaded(self._models, header.model)
        if not header.HasField("n_units"):
            return model
        return _truncated(model, header.n_units)

    def _truncate(self, request: pb.TruncateBoostingRequest) -> pb.BoostingModel:
        shorter = _truncated(loaded(self._models, request.model), request.n_units)
        name = self._models.reserve(KIND, request.name, "name")
        folder = self._models.jobs / secrets.token_hex(16)
        try:
            shorter.save(folder)
            self._models.put(KIND, name, folder)
        finally:
            self._models.release(KIND, name)
            shutil.rmtree(folder, ignore_errors=True)
        return described(self._models, name)

    def _list(self) -> pb.ListBoostingModelsReply:
        reply = pb.ListBoostingModelsReply()
        for name in self._models.names(KIND):
            try:
                reply.models.append(described(self._models, name, whole=False))
            except errors.ServiceError as error:
                if error.code is not grpc.StatusCode.NOT_FOUND:  # deleted since the names were read
                    raise
        return reply

    def _delete(self, request: pb.DeleteBoostingModelRequest) -> pb.DeleteBoostingModelReply:
        self._models.delete(KIND, request.name)
        return pb.DeleteBoostingModelReply()

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """A place among the predictions, each of which holds its arrays; RESOURCE_EXHAUSTED if none is free."""
        if self._predicting >= self._settings.max_pending:
            raise errors.exhausted(
                "predictions",
                f"predictions: {self._predicting} are pending, which is this server's limit",
                RETRY_SECONDS,
            )
        self._predicting += 1
        try:
            yield
        finally:
            self._predicting -= 1

    async def _beside(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` in a thread of `checks`; a missing package is FAILED_PRECONDITION."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._checks, work)
        except ImportError as error:
            raise errors.failed_precondition(f"this server cannot do that: {error}") from error


def presentation(models: ModelStore) -> Presentation:
    """How the jobs of this service are told of."""
    return Presentation(boosting_messages.metadata, lambda job: described(models, job.model))


def loaded(models: ModelStore, name: str) -> Estimator:
    """A stored model; NOT_FOUND where there is none."""
    from relaxon.neuromorphic.boosting import load

    model: Estimator = models.load(KIND, name, load)
    return model


def described(models: ModelStore, name: str, field: str = "model", whole: bool = True) -> pb.BoostingModel:
    """The message of a stored model; NOT_FOUND where there is none."""
    created = models.path(KIND, name, field).stat().st_mtime
    return boosting_messages.model_message(name, created, loaded(models, name), whole)


def _truncated(model: Any, n_units: int) -> Any:
    try:
        return model.truncate(n_units)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error


def _output(model: Any, method: str, features: NDArray[Any]) -> NDArray[np.float64]:
    boosting_messages.check_finite("features", features, model.missing == "mean")
    output = getattr(model, method)(features)
    if method == "predict" and hasattr(model, "classes_"):
        output = np.searchsorted(model.classes_, output)
    return np.ascontiguousarray(output, np.float64)
