"""`ConvexService`: training jobs, stored networks with their certificates, predictions. Messages only; no numerics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from relaxon.proto import convex_pb2 as pb
from relaxon.proto import convex_pb2_grpc
from relaxon.server.gate import errors
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import Presentation
from relaxon.server.training import boosting_messages, boosting_service, convex_messages
from relaxon.server.training import labels as classes
from relaxon.server.training.convex_task import KIND
from relaxon.server.training.service import Context, TrainingServicer
from relaxon.wire import tensors

if TYPE_CHECKING:
    from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor


class ConvexServicer(TrainingServicer, convex_pb2_grpc.ConvexServiceServicer):
    """The service's calls."""

    kind = KIND

    async def Train(self, request_iterator: object, context: Context) -> Any:
        return await errors.reported(context, self._train(self._upload(context)))

    async def Watch(self, request: pb.WatchConvexRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._tell(request, context, convex_messages.progress_message))

    async def Predict(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._predict(self._upload(context), context))

    async def GetModel(self, request: pb.GetConvexModelRequest, context: Context) -> pb.ConvexModel:
        return await errors.reported(context, self._beside(lambda: described(self._models, request.name, "name")))

    async def ListModels(self, request: pb.ListConvexModelsRequest, context: Context) -> pb.ListConvexModelsReply:
        return await errors.reported(context, self._beside(self._list))

    async def DeleteModel(self, request: pb.DeleteConvexModelRequest, context: Context) -> pb.DeleteConvexModelReply:
        return await errors.reported(context, self._beside(lambda: self._delete(request)))

    async def _train(self, upload: Upload) -> Any:
        header: pb.TrainConvexHeader = await upload.header()
        planned = await self._beside(lambda: convex_messages.plan(header, self._settings))
        return await self._submit(header, partial(planned.receive, upload, self._beside))

    async def _predict(self, upload: Upload, context: Context) -> None:
        header: pb.PredictConvexHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, header.model))
            labels = getattr(model, "classes_", None)
            method = boosting_messages.output_name(header, labels is not None)
            if not hasattr(model, method):
                raise errors.invalid(
                    "output", f"output must not be probabilities: the model's loss is {model.loss!r}, not 'logistic'"
                )
            planned = boosting_messages.features_to_predict(header, model.n_features_in_, self._settings)
            features = await upload.array("features", planned)
            await upload.end()
            output = await self._beside(lambda: boosting_service.output(model, method, features))
            reply = pb.PredictConvexReplyHeader(output=tensors.header_of(output))
            if labels is not None:
                reply.classes.CopyFrom(classes.of(labels))
            await context.write(pb.PredictConvexReply(header=reply))
            for part in tensors.parts_of(output):
                await context.write(pb.PredictConvexReply(output=part))

    def _list(self) -> pb.ListConvexModelsReply:
        return pb.ListConvexModelsReply(models=self._stored(lambda name: described(self._models, name, whole=False)))

    def _delete(self, request: pb.DeleteConvexModelRequest) -> pb.DeleteConvexModelReply:
        self._models.delete(KIND, request.name)
        return pb.DeleteConvexModelReply()


def presentation(models: ModelStore) -> Presentation:
    """How the jobs of this service are told of."""
    return Presentation(convex_messages.metadata, lambda job: described(models, job.model))


def loaded(models: ModelStore, name: str) -> ConvexNetworkRegressor | ConvexNetworkClassifier:
    """A stored model; NOT_FOUND where there is none."""
    from relaxon.neuromorphic.convex import load

    model: ConvexNetworkRegressor | ConvexNetworkClassifier = models.load(KIND, name, load)
    return model


def described(models: ModelStore, name: str, field: str = "model", whole: bool = True) -> pb.ConvexModel:
    """The message of a stored model; NOT_FOUND where there is none."""
    created = models.created(KIND, name, field)
    return convex_messages.model_message(name, created, loaded(models, name), whole)
