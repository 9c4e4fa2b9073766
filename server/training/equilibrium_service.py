"""`EquilibriumService`: training jobs, stored classifiers, predictions, gradients compared. Messages only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import equilibrium_pb2 as pb
from relaxon.proto import equilibrium_pb2_grpc
from relaxon.server.gate import errors
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import Presentation
from relaxon.server.training import equilibrium_messages
from relaxon.server.training import labels as classes
from relaxon.server.training.boosting_messages import check_finite
from relaxon.server.training.equilibrium_task import KIND
from relaxon.server.training.service import Context, TrainingServicer
from relaxon.wire import tensors

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium import EquilibriumClassifier, Relaxation


class EquilibriumServicer(TrainingServicer, equilibrium_pb2_grpc.EquilibriumServiceServicer):
    """The service's calls."""

    kind = KIND

    async def Train(self, request_iterator: object, context: Context) -> Any:
        return await errors.reported(context, self._train(self._upload(context)))

    async def Watch(self, request: pb.WatchEquilibriumRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._tell(request, context, equilibrium_messages.progress_message))

    async def Predict(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._predict(self._upload(context), context))

    async def CompareGradients(self, request_iterator: object, context: Context) -> pb.CompareGradientsReply:
        return await errors.reported(context, self._compare(self._upload(context)))

    async def GetModel(self, request: pb.GetEquilibriumModelRequest, context: Context) -> pb.EquilibriumModel:
        return await errors.reported(context, self._beside(lambda: described(self._models, request.name, "name")))

    async def ListModels(
        self, request: pb.ListEquilibriumModelsRequest, context: Context
    ) -> pb.ListEquilibriumModelsReply:
        return await errors.reported(context, self._beside(self._list))

    async def DeleteModel(
        self, request: pb.DeleteEquilibriumModelRequest, context: Context
    ) -> pb.DeleteEquilibriumModelReply:
        return await errors.reported(context, self._beside(lambda: self._delete(request)))

    async def _train(self, upload: Upload) -> Any:
        header: pb.TrainEquilibriumHeader = await upload.header()
        planned = await self._beside(lambda: equilibrium_messages.plan(header, self._settings))

        async def receive(folder: Path) -> None:
            features = await upload.array("features", planned.features)
            target = await upload.array("target", planned.target)
            await upload.end()
            await self._beside(lambda: planned.write(folder, features, target))

        return await self._submit(header, receive)

    async def _predict(self, upload: Upload, context: Context) -> None:
        header: pb.PredictEquilibriumHeader = await upload.header()
        with self._admitted():
            if header.output not in equilibrium_messages.OUTPUTS:
                raise errors.invalid("output", f"output must be a known value, got {header.output}")
            model = await self._beside(lambda: loaded(self._models, header.model))
            planned = equilibrium_messages.features_of(header.features, model.n_features_in_, self._settings)
            features = await upload.array("features", planned)
            await upload.end()
            what = equilibrium_messages.OUTPUTS[header.output]
            output, relaxed = await self._beside(lambda: _output(model, what, features))
            reply = pb.PredictEquilibriumReplyHeader(
                output=tensors.header_of(output),
                classes=classes.of(model.classes_),
                relaxation=relaxed.outcome.value,
                residual=relaxed.residual,
                steps=relaxed.steps,
            )
            await context.write(pb.PredictEquilibriumReply(header=reply))
            for part in tensors.parts_of(output):
                await context.write(pb.PredictEquilibriumReply(output=part))

    async def _compare(self, upload: Upload) -> pb.CompareGradientsReply:
        header: pb.CompareGradientsHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, header.model))
            planned = await self._beside(lambda: equilibrium_messages.comparison(header, model, self._settings))
            features = await upload.array("features", planned.features)
            target = await upload.array("target", planned.target)
            await upload.end()
            return await self._beside(lambda: _compared(model, planned, features, target), self._engines)

    def _list(self) -> pb.ListEquilibriumModelsReply:
        return pb.ListEquilibriumModelsReply(
            models=self._stored(lambda name: described(self._models, name, whole=False))
        )

    def _delete(self, request: pb.DeleteEquilibriumModelRequest) -> pb.DeleteEquilibriumModelReply:
        self._models.delete(KIND, request.name)
        return pb.DeleteEquilibriumModelReply()


def presentation(models: ModelStore) -> Presentation:
    """How the jobs of this service are told of."""
    return Presentation(equilibrium_messages.metadata, lambda job: described(models, job.model))


def loaded(models: ModelStore, name: str) -> EquilibriumClassifier:
    """A stored model; NOT_FOUND where there is none."""
    from relaxon.neuromorphic.equilibrium.classifier.storage import load_classifier

    model: EquilibriumClassifier = models.load(KIND, name, load_classifier)
    return model


def described(models: ModelStore, name: str, field: str = "model", whole: bool = True) -> pb.EquilibriumModel:
    """The message of a stored model; NOT_FOUND where there is none."""
    created = models.created(KIND, name, field)
    return equilibrium_messages.model_message(name, created, loaded(models, name), whole)


def _output(model: EquilibriumClassifier, what: str, features: NDArray[Any]) -> tuple[NDArray[np.float64], Relaxation]:
    from relaxon.neuromorphic.equilibrium.classifier.estimator import decision

    check_finite("features", features)
    logits, relaxed = model.relaxed(features)
    if what == "prediction":
        output = logits.argmax(1)
    else:
        output = model.to_probabilities(logits) if what == "probabilities" else decision(logits)
    return np.ascontiguousarray(output, np.float64), relaxed


def _compared(
    model: EquilibriumClassifier,
    planned: equilibrium_messages.ComparisonPlan,
    features: NDArray[Any],
    target: NDArray[Any],
) -> pb.CompareGradientsReply:
    check_finite("features", features)
    equilibrium_messages.check_places("target", target, len(model.classes_))
    try:
        found = model.compare_gradients(features, model.classes_[target.astype(np.int64)], planned.estimators)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    return pb.CompareGradientsReply(
        reference=equilibrium_messages.comparison_row(found.reference),
        rows=[equilibrium_messages.comparison_row(row) for row in found.rows],
    )
