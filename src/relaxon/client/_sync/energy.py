# Generated from relaxon/client/_async/energy.py by tools/generate_client.py: edit that file and run the tool.
"""Energy-based densities on a server: jobs, stored models, log-densities, samples, log Z."""

from __future__ import annotations

from functools import partial

from numpy.typing import ArrayLike

from relaxon.client._sync.jobs import Job
from relaxon.client._sync.training import TrainingClient
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
    partition_request,
    read_estimate,
    sample_request,
    train_requests,
)


class EnergyClient(TrainingClient[EnergyProgress, EnergyModel]):
    """The calls of a `relaxon.client.Client` for energy-based models.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import EnergySettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.random.default_rng(0).standard_normal((400, 2))
    >>> def train(target):
    ...     with relaxon.connect(target) as client:
    ...         job = client.energy.train(X, settings=EnergySettings(steps=50, random_state=0))
    ...         model = job.result()
    ...         density = client.energy.log_density(model, X[:3])
    ...         drawn = client.energy.sample(model, 5)
    ...         return density.values.shape, density.trusted, drawn.shape
    >>> with EmbeddedServer() as server:
    ...     train(server.target)
    ((3,), True, (5, 2))
    """

    _engine = ENGINE
    _new_stub = energy_pb2_grpc.EnergyServiceStub

    def train(
        self,
        X: ArrayLike,
        *,
        settings: EnergySettings | None = None,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[EnergyProgress, EnergyModel]:
        """Send the rows and start a training job on them; return once the server has received them.

        `X` holds numbers, (n, d), of which each column must vary. The other arguments and the errors are those of
        `client.boosting.train`.
        """
        data = X, settings, model, request_id
        return self._train(train_requests, *data, timeout=timeout, arguments=ARGUMENTS)

    def log_density(self, model: str | EnergyModel, X: ArrayLike, *, timeout: float | None = None) -> LogDensity:
        """Return the normalised log-densities of the rows, `(n, d)`, and whether they can be trusted."""
        header, values = self._evaluate(
            self._stub.LogDensity, density_requests, model, X, timeout=timeout, arguments=ARGUMENTS
        )
        return LogDensity(values, header.trusted, header.reason)

    def sample(
        self,
        model: str | EnergyModel,
        count: int = 1,
        *,
        random_state: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Draw rows from the model, `(count, d)`; the same `random_state` draws the same rows."""
        seconds = self._caller.transfer_seconds(timeout)
        request = sample_request(model, count, random_state)
        rows: Array = self._caller.gather(
            self._stub.Sample, lambda: request, partial(Samples, count), seconds=seconds, arguments=ARGUMENTS
        )
        return rows

    def log_partition(
        self,
        model: str | EnergyModel,
        method: Method = "importance",
        *,
        size: int | None = None,
        random_state: int | None = None,
        timeout: float | None = None,
    ) -> PartitionEstimate:
        """Estimate log Z again, independently of the estimate stored with the model.

        `size` is the number of draws, of paths ("annealed") or of draws from each chain ("bridge").
        """
        seconds = self._caller.transfer_seconds(timeout)
        request = partition_request(model, method, size, random_state)
        reply = self._caller.make(self._stub.LogPartition, request, idempotent=True, seconds=seconds, arguments=SIZES)
        return read_estimate(reply)
