"""Energy-based densities on a server, for asyncio: jobs, stored models, log-densities, samples, log Z."""

from __future__ import annotations

import asyncio
from functools import partial

import grpc.aio
from numpy.typing import ArrayLike

from relaxon.client._async.caller import Caller
from relaxon.client._async.jobs import Job
from relaxon.client._async.training import TrainingClient
from relaxon.proto import energy_pb2_grpc
from relaxon.wire.conversions.energy import (
    ARGUMENTS,
    ENGINE,
    SIZES,
    Array,
    EnergyModel,
    EnergyProgress,
    EnergySettings,
    LogDensity,
    Method,
    PartitionEstimate,
    Samples,
    density_requests,
    estimate_of,
    partition_request,
    sample_request,
    train_requests,
)
from relaxon.wire.conversions.tables import Prediction


class EnergyClient(TrainingClient[EnergyProgress, EnergyModel]):
    """The energy calls of a `relaxon.aio.Client`."""

    _engine = ENGINE

    def __init__(self, channel: grpc.aio.Channel, caller: Caller) -> None:
        super().__init__(energy_pb2_grpc.EnergyServiceStub(channel), channel, caller)

    async def train(
        self,
        X: ArrayLike,
        *,
        settings: EnergySettings | None = None,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[EnergyProgress, EnergyModel]:
        """Send the rows and have the server train on them; returns when it has them.

        Parameters
        ----------
        X : (n, d), numbers; each column must vary.
        model : the name to store the model under; the server makes one up where it is empty.
        request_id : your own name for this call, so that your program may make it again without beginning a second job;
            one is made up where it is empty, with which a call that a server's end cut off is repeated.
        timeout : seconds for sending, None for the client's.

        Raises
        ------
        InvalidArgument : naming the argument. AlreadyExists : the name is taken, or the request id was another call's.
        ResourceExhausted : a limit of the server, or its queue is full. FailedPrecondition : the server lacks the
        packages. Unavailable : the server was away for the client's timeout.
        """
        seconds = self._caller.transfer_seconds(timeout)
        requests = await asyncio.to_thread(train_requests, X, settings, model, request_id)
        return await self._begin(requests, seconds, ARGUMENTS)

    async def log_density(self, model: str | EnergyModel, X: ArrayLike, *, timeout: float | None = None) -> LogDensity:
        """Normalised log-densities of the rows `(n, d)`, with the verdict on them."""
        seconds = self._caller.transfer_seconds(timeout)
        requests, rows = await asyncio.to_thread(density_requests, model, X)
        header, values = await self._caller.gather(
            self._stub.LogDensity, requests, partial(Prediction, rows), seconds=seconds, arguments=ARGUMENTS
        )
        return LogDensity(values, header.trusted, header.reason)

    async def sample(
        self,
        model: str | EnergyModel,
        count: int = 1,
        *,
        random_state: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Draw rows from the model, `(count, d)`; the same `random_state` gives the same ones."""
        seconds = self._caller.transfer_seconds(timeout)
        request = sample_request(model, count, random_state)
        rows: Array = await self._caller.gather(
            self._stub.Sample, lambda: request, partial(Samples, count), seconds=seconds, arguments=ARGUMENTS
        )
        return rows

    async def log_partition(
        self,
        model: str | EnergyModel,
        method: Method = "importance",
        *,
        size: int | None = None,
        random_state: int | None = None,
        timeout: float | None = None,
    ) -> PartitionEstimate:
        """Estimate log Z anew, independently of the estimate that the model has.

        `size` is the number of draws, of paths ("annealed") or of draws of each chain ("bridge").
        """
        seconds = self._caller.transfer_seconds(timeout)
        request = partition_request(model, method, size, random_state)
        found = await self._caller.make(
            self._stub.LogPartition,
            request,
            idempotent=True,
            seconds=seconds,
            arguments=SIZES,
        )
        return estimate_of(found)
