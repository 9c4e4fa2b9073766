"""Learned proximal operators on a server, for asyncio: jobs, stored models, denoising, priors, inverse problems."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from numpy.typing import ArrayLike

from relaxon.client._async.jobs import Job
from relaxon.client._async.solve_call import solve
from relaxon.client._async.training import TrainingClient
from relaxon.proto import proximal_pb2_grpc
from relaxon.wire.conversions.forward_maps import ForwardMap
from relaxon.wire.conversions.inverse import WIRE, InverseCallback, InverseSolution, Method, inverse_request
from relaxon.wire.conversions.proximal import (
    ENGINE,
    Array,
    PriorValues,
    ProximalModelInfo,
    ProximalNetwork,
    ProximalProgress,
    ProximalSettings,
    denoise_requests,
    prior_requests,
    read_prior,
    train_requests,
)
from relaxon.wire.conversions.tables import GatheredArrays, reshape_array


class ProximalClient(TrainingClient[ProximalProgress, ProximalModelInfo]):
    """The calls of a `relaxon.aio.Client` for learned proximal operators and the inverse problems solved with them.

    Examples
    --------
    >>> import asyncio
    >>> import numpy as np
    >>> import relaxon.aio
    >>> from relaxon.client import MaskMap, ProximalNetwork, ProximalSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> data = np.random.default_rng(0).laplace(size=(500, 3))
    >>> network = ProximalNetwork((3,), hidden=(8,))
    >>> settings = ProximalSettings(noise=1.0, start_steps=40, gammas=(0.5,), stage_steps=20)
    >>> async def train(target):
    ...     async with relaxon.aio.connect(target) as client:
    ...         job = await client.proximal.train(data, network, settings)
    ...         model = await job.result()
    ...         mask = MaskMap([True, False, True])
    ...         solution = await client.proximal.solve(model, [1.0, 2.0], mask, data_weight=0.5)
    ...         denoised = await client.proximal.denoise(model, data)
    ...         return denoised.shape, solution.converged, solution.x.shape
    >>> with EmbeddedServer() as server:
    ...     asyncio.run(train(server.target))
    ((500, 3), True, (3,))
    """

    _engine = ENGINE
    _new_stub = proximal_pb2_grpc.ProximalServiceStub

    async def train(
        self,
        data: ArrayLike,
        network: ProximalNetwork,
        settings: ProximalSettings,
        *,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[ProximalProgress, ProximalModelInfo]:
        """Send samples of a prior and start a training job on them; return once the server has received them.

        Parameters
        ----------
        data : finite numbers, `(n, *network.shape)`.
        network, settings : like `NetworkSettings` and `MatchingSettings` in process.

        The other arguments and the errors are those of `client.boosting.train`.
        """
        return await self._train(train_requests, data, network, settings, model, request_id, timeout=timeout)

    async def denoise(self, model: str | ProximalModelInfo, y: ArrayLike, *, timeout: float | None = None) -> Array:
        """Return `f(y) = prox_R(y)` of one signal or of `(n, *shape)`, in the shape of `y`."""
        seconds = self._caller.transfer_seconds(timeout)
        requests, shape = await asyncio.to_thread(denoise_requests, model, y)
        collector = partial(GatheredArrays, output="float64")
        _, arrays = await self._caller.gather(self._stub.Denoise, requests, collector, seconds=seconds)
        return reshape_array("output", arrays["output"], shape)

    async def prior(
        self,
        model: str | ProximalModelInfo,
        x: ArrayLike,
        *,
        rtol: float | None = None,
        max_iterations: int | None = None,
        timeout: float | None = None,
    ) -> PriorValues:
        """Evaluate the regulariser R of one signal or of `(n, *shape)`, up to a constant, like `ProximalModel.prior`.

        Newton's method is run for each signal; `converged` says for which it met `rtol`. Where the call ends early, the
        server stops at the next Newton step.
        """
        seconds = self._caller.transfer_seconds(timeout)
        requests, shape = await asyncio.to_thread(prior_requests, model, x, rtol, max_iterations)
        collector = partial(
            GatheredArrays, output="float64", residuals="float64", converged="uint8", preimage="float64"
        )
        header, arrays = await self._caller.gather(self._stub.Prior, requests, collector, seconds=seconds)
        return read_prior(header, arrays, shape)

    async def solve(
        self,
        model: str | ProximalModelInfo,
        observation: ArrayLike,
        operator: ForwardMap | Sequence[ForwardMap],
        *,
        data_weight: float | None = None,
        observation_noise: float | None = None,
        method: Method = "pgd",
        penalty: float | None = None,
        tolerance: float | None = None,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        shape: Sequence[int] | None = None,
        callback: InverseCallback | None = None,
        timeout: float | None = None,
    ) -> InverseSolution:
        """Find a stationary point of `data_weight ½‖A x − b‖² + R(x)`, as `ProximalModel.solve` does in process.

        Parameters
        ----------
        model : the model of R, or its name.
        observation : b, with the shape of A x.
        operator : A: an `IdentityMap`, `MaskMap`, `BlurMap`, `RadonMap` or `FieldMap`, or a sequence of them, applied
            in its order.
        data_weight, observation_noise, method, penalty, tolerance, max_iterations, x0 : as in process; one of the first
            two must be given.
        shape : the shape of the signal; None for that of a mask or a grid that comes first, else for the model's own. A
            convolutional model takes images of any size.
        callback : sees the newest iteration about every 50 ms rather than each one; where it returns True the run ends
            at its next iteration, and the iterate reached by then comes back with `Result.CANCELLED`.
        timeout : seconds, None for the client's; a run that takes longer is stopped.

        Raises
        ------
        InvalidArgument : for a bad argument, which it names; for a map's it names `operator.kernel`, say, or
        `operator[1].kernel` where there are several. NotFound : there is no such model. ResourceExhausted : a limit of
        the server is reached. FailedPrecondition : the server lacks packages. DeadlineExceeded, Unavailable,
        InternalError.
        """
        seconds = self._caller.transfer_seconds(timeout)
        request = await asyncio.to_thread(
            inverse_request,
            model,
            observation,
            operator,
            x0,
            shape,
            method=method,
            max_iterations=max_iterations,
            progress=callback is not None,
            data_weight=data_weight,
            observation_noise=observation_noise,
            penalty=penalty,
            tolerance=tolerance,
        )

        async def attempt(left: float | None) -> InverseSolution:
            return await solve(self._caller, self._stub.Solve, request, callback, None, left, WIRE)

        return await self._caller.repeat(self._caller.attempts(seconds), attempt)
