"""`EnergyService`: training jobs, stored densities, their log-densities, samples and normalisers. No numerics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import energy_pb2 as pb
from relaxon.proto import energy_pb2_grpc
from relaxon.server.gate import errors
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import Presentation
from relaxon.server.training import energy_messages
from relaxon.server.training.boosting_messages import check_finite, seed
from relaxon.server.training.energy_task import KIND
from relaxon.server.training.service import Context, TrainingServicer
from relaxon.wire import tensors

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy import EnergyDensity, LogPartition

DRAWN_AT_ONCE = 10_000
"""Samples between two looks at whether the caller still waits."""


class EnergyServicer(TrainingServicer, energy_pb2_grpc.EnergyServiceServicer):
    """The service's calls."""

    kind = KIND

    async def Train(self, request_iterator: object, context: Context) -> Any:
        return await errors.reported(context, self._train(self._upload(context)))

    async def Watch(self, request: pb.WatchEnergyRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._tell(request, context, energy_messages.progress_message))

    async def LogDensity(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._log_density(self._upload(context), context))

    async def Sample(self, request: pb.SampleEnergyRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._sample(request, context))

    async def LogPartition(self, request: pb.LogPartitionRequest, context: Context) -> pb.LogPartitionEstimate:
        return await errors.reported(context, self._log_partition(request))

    async def GetModel(self, request: pb.GetEnergyModelRequest, context: Context) -> pb.EnergyModel:
        return await errors.reported(context, self._beside(lambda: described(self._models, request.name, "name")))

    async def ListModels(self, request: pb.ListEnergyModelsRequest, context: Context) -> pb.ListEnergyModelsReply:
        return await errors.reported(context, self._beside(self._list))

    async def DeleteModel(self, request: pb.DeleteEnergyModelRequest, context: Context) -> pb.DeleteEnergyModelReply:
        return await errors.reported(context, self._beside(lambda: self._delete(request)))

    async def _train(self, upload: Upload) -> Any:
        header: pb.TrainEnergyHeader = await upload.header()
        planned = await self._beside(lambda: energy_messages.plan(header, self._settings))

        async def receive(folder: Path) -> None:
            features = await upload.array("features", planned.features)
            await upload.end()
            await self._beside(lambda: planned.check(features))
            await self._beside(lambda: planned.write(folder, features))

        return await self._submit(header, receive)

    async def _log_density(self, upload: Upload, context: Context) -> None:
        header: pb.LogDensityHeader = await upload.header()
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, header.model))
            planned = energy_messages.rows_to_judge(header, model.n_features_in_, self._settings)
            features = await upload.array("features", planned)
            await upload.end()
            output = await self._beside(lambda: _output(model, features))
            verdict = model.verdict_
            reply = pb.LogDensityReplyHeader(
                output=tensors.header_of(output), trusted=verdict.trusted, reason=verdict.reason
            )
            await context.write(pb.LogDensityReply(header=reply))
            for part in tensors.parts_of(output):
                await context.write(pb.LogDensityReply(output=part))

    async def _sample(self, request: pb.SampleEnergyRequest, context: Context) -> None:
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, request.model))
            count = energy_messages.count_to_draw(request.count, model.n_features_in_, self._settings)
            start = seed(request)
            header = pb.SampleEnergyReplyHeader(
                rows=tensors.header_of(np.empty((count, model.n_features_in_))), random_state=start
            )
            await context.write(pb.SampleEnergyReply(header=header))
            rows = np.empty((count, model.n_features_in_))
            # In pieces, so that a caller who has gone ends the drawing.
            for number, first in enumerate(range(0, count, DRAWN_AT_ONCE)):
                last = min(first + DRAWN_AT_ONCE, count)
                rows[first:last] = await self._beside(lambda n=number, k=last - first: _drawn(model, k, start, n))  # type: ignore[misc]
            for part in tensors.parts_of(rows):
                await context.write(pb.SampleEnergyReply(rows=part))

    async def _log_partition(self, request: pb.LogPartitionRequest) -> pb.LogPartitionEstimate:
        with self._admitted():
            model = await self._beside(lambda: loaded(self._models, request.model))
            start = seed(request)
            method = await self._beside(lambda: energy_messages.method_of(request, model))

            def estimate() -> LogPartition:
                from relaxon.neuromorphic.energy import log_partition

                return log_partition(model.energy_, method, start)

            return energy_messages.estimate_message(await self._beside(estimate, self._engines))

    def _list(self) -> pb.ListEnergyModelsReply:
        return pb.ListEnergyModelsReply(models=self._stored(lambda name: described(self._models, name, whole=False)))

    def _delete(self, request: pb.DeleteEnergyModelRequest) -> pb.DeleteEnergyModelReply:
        self._models.delete(KIND, request.name)
        return pb.DeleteEnergyModelReply()


def presentation(models: ModelStore) -> Presentation:
    """How the jobs of this service are told of."""
    return Presentation(energy_messages.metadata, lambda job: described(models, job.model))


def loaded(models: ModelStore, name: str) -> EnergyDensity:
    """A stored model; NOT_FOUND where there is none."""
    from relaxon.neuromorphic.energy import load_estimator

    model: EnergyDensity = models.load(KIND, name, load_estimator)
    return model


def described(models: ModelStore, name: str, field: str = "model", whole: bool = True) -> pb.EnergyModel:
    """The message of a stored model; NOT_FOUND where there is none."""
    created = models.created(KIND, name, field)
    return energy_messages.model_message(name, created, loaded(models, name), whole)


def _output(model: EnergyDensity, features: NDArray[Any]) -> NDArray[np.float64]:
    import warnings

    check_finite("features", features)
    with warnings.catch_warnings():
        # The verdict goes with the answer.
        warnings.simplefilter("ignore")
        return np.ascontiguousarray(model.score_samples(features), np.float64)


def _drawn(model: EnergyDensity, count: int, start: int, number: int) -> NDArray[np.float64]:
    """The `number`-th piece of the samples of a seed; the first one is what the model itself would draw."""
    piece = start if number == 0 else int(np.random.SeedSequence((start, number)).generate_state(1)[0])
    return model.sample(count, random_state=piece)
