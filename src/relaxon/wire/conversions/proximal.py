"""Learned proximal operators as they travel: settings, signals, reports, stored models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.html import table as html_table
from relaxon.core.pictures import draw_training
from relaxon.proto import proximal_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions import tables
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage, check_settings, read_fields, read_model
from relaxon.wire.conversions.tables import Requests, array_messages, reshape_array, stream_messages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
MOST_AXES = 3
"""The axes of an array on the wire, at most: one with more travels along one axis, with its shape beside it."""


@dataclass(frozen=True, slots=True)
class ProximalNetwork(SettingsMessage):
    """The parameters of `relaxon.neuromorphic.proximal.NetworkSettings`; None keeps the default there."""

    _message: ClassVar[Any] = pb.ProximalNetwork
    _needs_entries: ClassVar[bool] = True
    shape: tuple[int, ...]
    """The shape of one signal, with one to three axes."""
    kind: Literal["dense", "convolutional"] | None = None
    hidden: tuple[int, ...] | None = None
    kernel: int | None = None
    beta: float | None = None
    alpha: float | None = None
    scale: float | None = None
    offset: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ProximalSettings(SettingsMessage):
    """The parameters of `relaxon.neuromorphic.proximal.MatchingSettings`; None keeps the default there.

    `average` 0 keeps the last weights, without an average.
    """

    _message: ClassVar[Any] = pb.ProximalSettings
    _needs_entries: ClassVar[bool] = True
    noise: float
    """The standard deviation of the noise, in the units of the data."""
    start_steps: int | None = None
    gammas: tuple[float, ...] | None = None
    stage_steps: int | None = None
    rate: float | None = None
    matching_rate: float | None = None
    batch: int | None = None
    average: float | None = None
    seed: int | None = None
    record_every: int | None = None
    """The number of steps between two reports."""
    pairing: Literal["drawn", "posterior"] | None = None


@dataclass(frozen=True, slots=True)
class ProximalProgress:
    """The state of a training after every `record_every`-th step, and the last one."""

    report: int
    """The number of the report, from 1."""
    step: int
    steps_wanted: int
    stage: int
    """0 while the mean absolute error is minimised, then the place in `gammas`, from 1."""
    loss: float
    mean_square: float
    """The mean of the squares of `f(y) − x` over the samples of the step and their entries."""
    gradient_norm: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ProximalModelInfo:
    """A learned proximal operator that the server has stored."""

    name: str
    created: datetime
    network: ProximalNetwork
    """The network with all of its parameters."""
    noise: float
    """The standard deviation of the noise that it was trained with."""
    steps: int
    """The steps of the training; 0 where it is unknown how the model was trained."""
    outcome: str
    """How training ended: "finished", "cancelled", "non_finite" or "diverged"; empty where that is unknown."""
    message: str
    """Why training ended early."""
    train_loss: Array
    """The loss of each report; this and `mean_square` are empty in the lists of `models`."""
    mean_square: Array

    def plot(self) -> Figure:
        """Plot the loss and the mean square error during training. Needs matplotlib.

        ValueError for a model from a list, which has no curves.
        """
        panels = {"loss": {"training": self.train_loss}, "mean square error": {"training": self.mean_square}}
        return draw_training(self.name, "report", panels, np.empty(0))

    def _repr_html_(self) -> str:
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
    """R(x), `(n,)`, up to a constant that all signals share."""
    preimage: Array
    """The y with `f(y) = x`, of the shape of `x`."""
    residuals: Array
    """`‖f(y) − x‖₂ / ‖x‖₂` of each signal, `(n,)`."""
    converged: NDArray[np.bool_]
    """Whether the residual of each signal met the tolerance, `(n,)`."""
    iterations: int
    """The Newton steps of the signal that took the most."""


def train_requests(
    data: ArrayLike, network: ProximalNetwork, settings: ProximalSettings, model: str, request_id: str
) -> Requests:
    """Return the messages that have an operator trained; InvalidArgument where they can be refused on this side."""
    with errors.refusals():
        check_settings(network, ProximalNetwork, "network")
        check_settings(settings, ProximalSettings)
        array, shape = signals("data", data)
        given = network.message()
        return tables.train_requests(
            ENGINE, settings.message(), {"data": array}, model, request_id, network=given, shape=shape
        )


def denoise_requests(model: str | ProximalModelInfo, y: ArrayLike) -> tuple[Requests, tuple[int, ...]]:
    """Return the messages that have signals denoised, and the shape of the signals."""
    with errors.refusals():
        array, shape = signals("y", y)
        header = pb.DenoiseHeader(model=ENGINE.name_of(model), y=tensors.describe_array(array), shape=shape)
    return partial(stream_messages, pb.DenoiseRequest, header, {"y": array}), shape or array.shape


def prior_requests(
    model: str | ProximalModelInfo, x: ArrayLike, rtol: float | None, max_iterations: int | None
) -> tuple[Requests, tuple[int, ...]]:
    """Return the messages that have the regulariser evaluated, and the shape of the signals."""
    with errors.refusals():
        array, shape = signals("x", x)
        header = pb.PriorHeader(model=ENGINE.name_of(model), x=tensors.describe_array(array), shape=shape)
        if rtol is not None:
            header.rtol = validation.positive_float("rtol", rtol)
        if max_iterations is not None:
            header.max_iterations = validation.positive_int("max_iterations", max_iterations)
    return partial(stream_messages, pb.PriorRequest, header, {"x": array}), shape or array.shape


def signals(name: str, value: ArrayLike) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Return signals as an array that can be sent, and their shape where it must be sent beside it."""
    array = validation.real_array(name, value)
    if not array.size or array.ndim > MOST_AXES + 1:
        raise ValueError(
            f"{name} must have 1 to {MOST_AXES + 1} axes and at least one entry on each, got {array.shape}"
        )
    return (array.reshape(-1), array.shape) if array.ndim > MOST_AXES else (array, ())


def read_prior(header: Any, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> PriorValues:
    """Return the values of a regulariser from an answer."""
    values = arrays["output"]
    return PriorValues(
        values=values,
        preimage=reshape_array("preimage", arrays["preimage"], shape),
        residuals=reshape_array("residuals", arrays["residuals"], values.shape),
        converged=reshape_array("converged", arrays["converged"], values.shape).astype(bool),
        iterations=header.iterations,
    )


def prior_messages(found: Any, shape: tuple[int, ...]) -> Iterator[pb.PriorReply]:
    """Yield the replies that carry the values of a regulariser and how well each is known.

    `shape` is that in which the signals came.
    """
    preimage = found.preimage
    arrays = {
        "output": found.values,
        "residuals": preimage.residuals,
        "converged": preimage.converged.astype(np.uint8),
        "preimage": preimage.y.reshape(shape),
    }
    return array_messages(pb.PriorReply, arrays, iterations=preimage.iterations)


ENGINE = EngineMessages(
    kind="proximal",
    service=pb.DESCRIPTOR.services_by_name["ProximalService"],
    files=("model.json", "model.safetensors"),
    model=ProximalModelInfo,
    told=partial(read_model, ProximalModelInfo),
    step=partial(read_fields, ProximalProgress),
)
