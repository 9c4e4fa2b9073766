"""Learned proximal operators as they travel: settings, signals, reports, stored models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.proto import proximal_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions.engine import Engine
from relaxon.wire.conversions.jobs import checked_id
from relaxon.wire.conversions.tables import damaged, plain, sent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Requests = Callable[[], Iterator[Any]]
"""Gives the messages of a call anew for each attempt."""
SEQUENCES = ("shape", "hidden", "gammas")
MOST_AXES = 3
"""Of an array on the wire; one with more is sent as one axis, with its shape beside it."""


@dataclass(frozen=True, slots=True)
class ProximalNetwork:
    """The parameters of `relaxon.neuromorphic.proximal.NetworkSettings`; what is None has its value there."""

    shape: tuple[int, ...]
    """Of one signal, one to three axes."""
    kind: Literal["dense", "convolutional"] | None = None
    hidden: tuple[int, ...] | None = None
    kernel: int | None = None
    beta: float | None = None
    alpha: float | None = None
    scale: float | None = None
    offset: float | None = None
    seed: int | None = None

    def message(self) -> pb.ProximalNetwork:
        """Return it as it is sent; TypeError or ValueError naming what cannot be."""
        message = pb.ProximalNetwork()
        _fill(message, self)
        return message


@dataclass(frozen=True, slots=True)
class ProximalSettings:
    """The parameters of `relaxon.neuromorphic.proximal.MatchingSettings`; what is None has its value there.

    `average` 0 keeps the last weights, without an average.
    """

    noise: float
    """Standard deviation of the noise, in the units of the data."""
    start_steps: int | None = None
    gammas: tuple[float, ...] | None = None
    stage_steps: int | None = None
    rate: float | None = None
    matching_rate: float | None = None
    batch: int | None = None
    average: float | None = None
    seed: int | None = None
    record_every: int | None = None
    """Steps between two reports."""
    pairing: Literal["drawn", "posterior"] | None = None

    def message(self) -> pb.ProximalSettings:
        """Return it as it is sent; TypeError or ValueError naming what cannot be."""
        message = pb.ProximalSettings()
        _fill(message, self)
        return message


@dataclass(frozen=True, slots=True)
class ProximalProgress:
    """What there is after every `record_every`-th step, and the last."""

    report: int
    """From 1."""
    step: int
    steps_wanted: int
    stage: int
    """0 for the start with the mean absolute error, then the place in `gammas`, from 1."""
    loss: float
    mean_square: float
    """Of `f(y) − x`, over the step's samples and their entries."""
    gradient_norm: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ProximalModelInfo:
    """A learned proximal operator that the server has stored."""

    name: str
    created: datetime
    network: ProximalNetwork
    """With all of its parameters."""
    noise: float
    """Standard deviation of the noise that it was trained at."""
    steps: int
    """That were taken; 0 where it is not known how the model was trained."""
    outcome: str
    """How training ended: "finished", "cancelled", "non_finite", "diverged"; empty where that is not known."""
    message: str
    """Why it ended early."""
    train_loss: Array
    """Of each report; empty in `models`, as `mean_square`."""
    mean_square: Array

    def plot(self) -> Figure:
        """A picture: the loss and the mean square error as training went. Needs matplotlib.

        ValueError for a model of a list, which leaves the curves out.
        """
        from relaxon.core.pictures import training_picture

        panels = {"loss": {"training": self.train_loss}, "mean square error": {"training": self.mean_square}}
        return training_picture(self.name, "report", panels, np.empty(0))

    def _repr_html_(self) -> str:
        from relaxon.core.html import table as html_table

        rows = {
            "signals": "×".join(map(str, self.network.shape)),
            "network": f"{self.network.kind}, hidden layers of {', '.join(map(str, self.network.hidden or ()))}",
            "trained at noise": f"{self.noise:g}",
            "training": f"{self.steps} steps, {self.outcome or 'not known how'}",
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }
        return html_table(f"proximal operator {self.name!r}", rows)


@dataclass(frozen=True, slots=True)
class PriorValues:
    """Values of a learned regulariser R, and how well each is known."""

    values: Array
    """R(x) up to a constant that all signals share, `(n,)`."""
    preimage: Array
    """The y with `f(y) = x`, of the shape of `x`."""
    residuals: Array
    """`‖f(y) − x‖₂ / ‖x‖₂` of each, `(n,)`."""
    converged: NDArray[np.bool_]
    """Whether the residual met the tolerance, `(n,)`."""
    iterations: int
    """Newton steps of the signal that took most."""


def train_requests(
    data: ArrayLike, network: ProximalNetwork, settings: ProximalSettings, model: str, request_id: str
) -> Requests:
    """The messages that have an operator trained; InvalidArgument where they can be refused here."""
    with errors.refusals():
        if not isinstance(network, ProximalNetwork):
            raise TypeError(f"network must be a ProximalNetwork, got {type(network).__name__}")
        if not isinstance(settings, ProximalSettings):
            raise TypeError(f"settings must be ProximalSettings, got {type(settings).__name__}")
        if not isinstance(model, str):
            raise TypeError(f"model must be a string, got {type(model).__name__}")
        array, shape = signals("data", data)
        header = pb.TrainProximalHeader(
            model=model,
            network=network.message(),
            settings=settings.message(),
            data=tensors.header_of(array),
            shape=shape,
            request_id=checked_id(request_id),
        )
    return partial(sent, pb.TrainProximalRequest, header, {"data": array})


def denoise_requests(model: str | ProximalModelInfo, y: ArrayLike) -> tuple[Requests, tuple[int, ...]]:
    """The messages that have signals denoised, and their shape."""
    with errors.refusals():
        array, shape = signals("y", y)
        header = pb.DenoiseHeader(model=ENGINE.name_of(model), y=tensors.header_of(array), shape=shape)
    return partial(sent, pb.DenoiseRequest, header, {"y": array}), shape or array.shape


def prior_requests(
    model: str | ProximalModelInfo, x: ArrayLike, rtol: float | None, max_iterations: int | None
) -> tuple[Requests, tuple[int, ...]]:
    """The messages that have the regulariser evaluated, and the shape of the signals."""
    with errors.refusals():
        array, shape = signals("x", x)
        header = pb.PriorHeader(model=ENGINE.name_of(model), x=tensors.header_of(array), shape=shape)
        if rtol is not None:
            header.rtol = validation.positive_float("rtol", rtol)
        if max_iterations is not None:
            header.max_iterations = validation.positive_int("max_iterations", max_iterations)
    return partial(sent, pb.PriorRequest, header, {"x": array}), shape or array.shape


def signals(name: str, value: ArrayLike) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Return signals as an array that can be sent, and their shape where that has to be told beside it."""
    array = validation.real_array(name, value)
    if not array.size or array.ndim > MOST_AXES + 1:
        raise ValueError(
            f"{name} must have 1 to {MOST_AXES + 1} axes and at least one entry on each, got {array.shape}"
        )
    return (array.reshape(-1), array.shape) if array.ndim > MOST_AXES else (array, ())


class GatheredArrays:
    """Puts an answer's header and the arrays that it announces together; InternalError for a damaged one."""

    def __init__(self, **dtypes: str) -> None:
        """The arrays by their names in the replies and in the header, in which order they come."""
        self._dtypes = dtypes
        self.header: Any = None
        self._arrays: dict[str, tensors.Assembler] = {}

    @property
    def complete(self) -> bool:
        """Whether all has come."""
        return self.header is not None and all(one.complete for one in self._arrays.values())

    def take(self, reply: Any) -> None:
        """Place a reply."""
        kind = reply.WhichOneof("message")
        try:
            if kind == "header" and self.header is None:
                self._begin(reply.header)
            elif kind in self._arrays:
                self._arrays[kind].take(getattr(reply, kind))
            else:
                raise errors.InternalError(f"the server sent {kind or 'an empty message'} out of turn")
        except tensors.TensorError as error:
            raise damaged(error) from error

    def finished(self) -> tuple[Any, Mapping[str, NDArray[Any]]]:
        """The header and the arrays, once the call has ended."""
        if self.header is None:
            raise errors.InternalError("the server's answer does not start with its header")
        try:
            return self.header, {name: np.asarray(one.array()) for name, one in self._arrays.items()}
        except tensors.TensorError as error:
            raise damaged(error) from error

    def _begin(self, header: Any) -> None:
        for name, dtype in self._dtypes.items():
            announced = tensors.checked_header(name, getattr(header, name), (dtype,))
            self._arrays[name] = tensors.Assembler(name, *announced)
        self.header = header


def shaped(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array of an answer in the shape that it has to have; InternalError where it has not so many entries."""
    if array.size != math.prod(shape):
        raise errors.InternalError(f"the server's {name} has shape {array.shape}, where {shape} was expected")
    return array.reshape(shape)


def prior_of(header: Any, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> PriorValues:
    """Return the values of a regulariser from an answer."""
    values = arrays["output"]
    return PriorValues(
        values=values,
        preimage=shaped("preimage", arrays["preimage"], shape),
        residuals=shaped("residuals", arrays["residuals"], values.shape),
        converged=shaped("converged", arrays["converged"], values.shape).astype(bool),
        iterations=header.iterations,
    )


def model_of(message: pb.ProximalModel) -> ProximalModelInfo:
    """Return a stored model from its message."""
    return ProximalModelInfo(
        name=message.name,
        created=message.create_time.ToDatetime(UTC),
        network=network_of(message.network),
        noise=message.noise,
        steps=message.steps,
        outcome=message.outcome,
        message=message.message,
        train_loss=np.array(message.train_loss, np.float64),
        mean_square=np.array(message.mean_square, np.float64),
    )


def network_of(message: pb.ProximalNetwork) -> ProximalNetwork:
    """Return a network's form from its message."""
    given: dict[str, Any] = {descriptor.name: value for descriptor, value in message.ListFields()}
    shape = tuple(given.pop("shape", ()))
    if "hidden" in given:
        given["hidden"] = tuple(given["hidden"])
    return ProximalNetwork(shape, **given)


def step_of(message: pb.ProximalProgress) -> ProximalProgress:
    """Return a report from its message."""
    return ProximalProgress(
        message.report,
        message.step,
        message.steps_wanted,
        message.stage,
        message.loss,
        message.mean_square,
        message.gradient_norm,
        message.seconds,
    )


def _fill(message: Any, settings: ProximalNetwork | ProximalSettings) -> None:
    """Put the settings that are given into their message."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is None:
            continue
        if field.name in SEQUENCES:
            getattr(message, field.name).extend(_sequence(field.name, value))
        else:
            setattr(message, field.name, plain(field.name, value, str(field.type)))


def _sequence(name: str, value: Any) -> list[Any]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a sequence of numbers, got {type(value).__name__}")
    check = validation.positive_float if name == "gammas" else validation.positive_int
    found = [check(name, one) for one in value]
    if not found:
        raise ValueError(f"{name} must have at least one entry, got none")
    return found


ENGINE = Engine(
    watch=pb.WatchProximalRequest,
    get=pb.GetProximalModelRequest,
    list=pb.ListProximalModelsRequest,
    delete=pb.DeleteProximalModelRequest,
    message=pb.ProximalModel,
    model=ProximalModelInfo,
    told=model_of,
    step=step_of,
)
