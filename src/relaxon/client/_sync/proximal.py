"""Learned proximal operators on a server: jobs, stored models, denoising, priors, inverse problems."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import grpc
from numpy.typing import ArrayLike

from relaxon.client._sync.caller import Caller
from relaxon.client._sync.jobs import Job
from relaxon.client._sync.solve_call import SolveCall
from relaxon.client._sync.training import TrainingClient
from relaxon.core import errors
from relaxon.proto import proximal_pb2_grpc
from relaxon.wire.conversions.forward_maps import ForwardMap
from relaxon.wire.conversions.inverse import WIRE, InverseCallback, InverseSolution, Method, inverse_request
from relaxon.wire.conversions.proximal import (
    ENGINE,
    Array,
    GatheredArrays,
    PriorValues,
    ProximalModelInfo,
    ProximalNetwork,
    ProximalProgress,
    ProximalSettings,
    denoise_requests,
    prior_of,
    prior_requests,
    shaped,
    train_requests,
)


class ProximalClient(TrainingClient[ProximalProgress, ProximalModelInfo]):
    """The calls of a `Client` that train learned proximal operators and solve inverse problems with them.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import MaskMap, ProximalNetwork, ProximalSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> data = np.random.default_rng(0).laplace(size=(500, 3))
    >>> settings = ProximalSettings(noise=1.0, start_steps=40, gammas=(0.5,), stage_steps=20)
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     model = client.proximal.train(data, ProximalNetwork((3,), hidden=(8,)), settings).result()
    ...     found = client.proximal.solve(model, [1.0, 2.0], MaskMap([True, False, True]), data_weight=0.5)
    ...     client.proximal.denoise(model, data).shape, found.converged, found.x.shape
    ((500, 3), True, (3,))
    """

    _engine = ENGINE

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        super().__init__(proximal_pb2_grpc.ProximalServiceStub(channel), channel, caller)

    def train(
        self,
        data: ArrayLike,
        network: ProximalNetwork,
        settings: ProximalSettings,
        *,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[ProximalProgress, ProximalModelInfo]:
        """Send samples of a prior and have the server train a proximal operator on them; returns when it has them.

        Parameters
        ----------
        data : `(n, *network.shape)`, finite.
        network, settings : as `NetworkSettings` and `MatchingSettings` in process.
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
        requests = train_requests(data, network, settings, model, request_id)
        return self._begin(requests, seconds)

    def denoise(self, model: str | ProximalModelInfo, y: ArrayLike, *, timeout: float | None = None) -> Array:
        """Return `f(y) = prox_R(y)` of one signal or of `(n, *shape)`, in the shape of `y`."""
        seconds = self._caller.transfer_seconds(timeout)
        requests, shape = denoise_requests(model, y)
        collector = partial(GatheredArrays, output="float64")
        _, arrays = self._caller.gather(self._stub.Denoise, requests, collector, seconds=seconds)
        return shaped("output", arrays["output"], shape)

    def prior(
        self,
        model: str | ProximalModelInfo,
        x: ArrayLike,
        *,
        rtol: float | None = None,
        max_iterations: int | None = None,
        timeout: float | None = None,
    ) -> PriorValues:
        """Evaluate the regulariser R of one signal or of `(n, *shape)`, up to a constant, as `ProximalModel.prior`.

        It takes a Newton iteration for each signal; one that does not meet `rtol` is said so in `converged`. Where the
        call ends before it is done, the server stops at the next step.
        """
        seconds = self._caller.transfer_seconds(timeout)
        requests, shape = prior_requests(model, x, rtol, max_iterations)
        collector = partial(
            GatheredArrays, output="float64", residuals="float64", converged="uint8", preimage="float64"
        )
        header, arrays = self._caller.gather(self._stub.Prior, requests, collector, seconds=seconds)
        return prior_of(header, arrays, shape)

    def solve(
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
        model : R, by its name or as it was told of.
        observation : b, of the shape that A gives.
        operator : A, an `IdentityMap`, `MaskMap`, `BlurMap`, `RadonMap` or `FieldMap`, or several, the first applied
            first.
        data_weight, observation_noise, method, penalty, tolerance, max_iterations, x0 : as in process; one of the first
            two is given.
        shape : of the signal; None for that of a mask or a grid that comes first, else for the model's own. A
            convolutional model takes images of any size.
        callback : sees the newest iteration about every 50 ms rather than each one; where it returns True the run ends
            at its next iteration, and what it has by then comes back with `Result.CANCELLED`.
        timeout : seconds, None for the client's; a run that takes longer is stopped.

        Raises
        ------
        InvalidArgument : naming the argument; of a map it names `operator.kernel`, or `operator[1].kernel` where there
        are several. NotFound : there is no such model. ResourceExhausted : a limit of the server. FailedPrecondition :
        the server lacks the packages. DeadlineExceeded, Unavailable, InternalError.
        """
        seconds = self._caller.transfer_seconds(timeout)
        request = inverse_request(
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
        attempts = self._caller.attempts(seconds)
        while True:
            try:
                return SolveCall(request, callback, WIRE).run(self._stub.Solve, attempts.left())
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            time.sleep(wait)
