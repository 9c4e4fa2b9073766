"""`BoostingService`: training jobs, stored networks and predictions. Messages and admission only; no numerics."""

from __future__ import annotations

import secrets
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import boosting_pb2 as pb
from relaxon.proto import boosting_pb2_grpc
from relaxon.server.gate import errors
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import Presentation
from relaxon.server.training import boosting_messages
from relaxon.server.training import labels as classes
from relaxon.server.training.boosting_task import KIND
from relaxon.server.training.service import Context, TrainingServicer
from relaxon.wire import tensors

if TYPE_CHECKING:
    from relaxon.neuromorphic.boosting.storage import Estimator


class BoostingServicer(TrainingServicer, boosting_pb2_grpc.BoostingServiceServicer):
    """The service's calls."""

    kind = KIND

    async def Train(self, request_iterator: object, context: Context) -> Any:
        return await errors.reported(context, self._train(self._upload(context)))

    async def Watch(self, request: pb.WatchBoostingRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._tell(request, context, boosting_messages.progress_message))

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

    async def _train(self, upload: Upload) -> Any:
        header: pb.TrainBoostingHeader = await upload.header()
        planned = await self._beside(lambda: boosting_messages.plan(header, self._settings))

        return await self._submit(header, partial(planned.receive, upload, self._beside))

    async def _predict(self, upload: Upload, context: Context) -> None:
        header: pb.PredictBoostingHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: self._model_to_predict_with(header))
            method = boosting_messages.output_name(header, hasattr(model, "classes_"))
            planned = boosting_messages.features_to_predict(header, model.n_features_in_, self._settings)
            features = await upload.array("features", planned)
            await upload.end()
            found = await self._beside(lambda: output(model, method, features))
            reply = pb.PredictBoostingReplyHeader(output=tensors.header_of(found))
            if hasattr(model, "classes_"):
                reply.classes.CopyFrom(classes.of(model.classes_))
            await context.write(pb.PredictBoostingReply(header=reply))
            for part in tensors.parts_of(found):
                await context.write(pb.PredictBoostingReply(output=part))

    def _model_to_predict_with(self, header: pb.PredictBoostingHeader) -> Any:
        model = loaded(self._models, header.model)
        if not header.HasField("n_units"):
            return model
        return _truncated(model, header.n_units)

    def _truncate(self, request: pb.TruncateBoostingRequest) -> pb.BoostingModel:
        shorter = _truncated(loaded(self._models, request.model), request.n_units)
        name = self._models.reserve(KIND, request.name, "name")
        folder = self._models.incoming / secrets.token_hex(16)
        try:
            shorter.save(folder)
            self._models.put(KIND, name, folder)
        finally:
            self._models.release(KIND, name)
            shutil.rmtree(folder, ignore_errors=True)
        return described(self._models, name)

    def _list(self) -> pb.ListBoostingModelsReply:
        return pb.ListBoostingModelsReply(models=self._stored(lambda name: described(self._models, name, whole=False)))

    def _delete(self, request: pb.DeleteBoostingModelRequest) -> pb.DeleteBoostingModelReply:
        self._models.delete(KIND, request.name)
        return pb.DeleteBoostingModelReply()


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
    created = models.created(KIND, name, field)
    return boosting_messages.model_message(name, created, loaded(models, name), whole)


def _truncated(model: Any, n_units: int) -> Any:
    try:
        return model.truncate(n_units)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error


def output(model: Any, method: str, features: NDArray[Any]) -> NDArray[np.float64]:
    """What an estimator's method gives for rows; of a classification's prediction the places of the classes."""
    boosting_messages.check_finite("features", features, getattr(model, "missing", "refuse") != "refuse")
    found = getattr(model, method)(features)
    if method == "predict" and hasattr(model, "classes_"):
        found = np.searchsorted(model.classes_, found)
    return np.ascontiguousarray(found, np.float64)
