"""Energy-based densities as they travel: settings, rows, reports, stored models, estimates of log Z."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.proto import energy_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions.engine import Engine
from relaxon.wire.conversions.jobs import checked_id
from relaxon.wire.conversions.tables import damaged, plain, sent, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Requests = Callable[[], Iterator[Any]]
"""Gives the messages of a call anew for each attempt."""
ARGUMENTS = {"features": "X"}
"""What the messages' fields are called here."""
SIZES = {"draws": "size", "paths": "size"}
Method = Literal["importance", "annealed", "bridge"]


@dataclass(frozen=True, slots=True)
class EnergySettings:
    """The parameters of `relaxon.neuromorphic.energy.EnergyDensity`; what is None has its value there."""

    hidden_sizes: tuple[int, ...] | None = None
    noise: Literal["auto", "gaussian", "mixture", "kernel", "flow"] | None = None
    objective: Literal["meco", "nce", "ence", "snl", "score-matching"] | None = None
    steps: int | None = None
    batch_size: int | None = None
    noise_batch_size: int | None = None
    learning_rate: float | None = None
    average: float | None = None
    weight_decay: float | None = None
    octaves: int | None = None
    validation_fraction: float | None = None
    patience: int | None = None
    partition_draws: int | None = None
    random_state: int | None = None
    optimizer: Literal["adam", "sgd", "momentum", "diffgrad", "normalized"] | None = None

    def message(self) -> pb.EnergySettings:
        """As it is sent; TypeError or ValueError naming what cannot be."""
        message = pb.EnergySettings()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "hidden_sizes":
                if not len(value):
                    raise ValueError("hidden_sizes must have at least one layer, got none")
                message.hidden_sizes.extend(validation.positive_int("hidden_sizes", width) for width in value)
            else:
                setattr(message, field.name, plain(field.name, value, str(field.type)))
        return message


@dataclass(frozen=True, slots=True)
class EnergyProgress:
    """What there is after every tenth step, and the last."""

    report: int
    """From 1."""
    step: int
    steps_wanted: int
    loss: float
    log_partition: float | None
    """The objective's own idea of log Z: MECO's log u, the constant that others learn; None for one without."""
    effective_sample_size: float | None
    """Of the noise samples' weights."""
    seconds: float


@dataclass(frozen=True, slots=True)
class PartitionEstimate:
    """An estimate of log Z. Where not `trusted`, the numbers are what was found, and no statement on log Z."""

    value: float
    interval: tuple[float, float]
    """95 % confidence; endless where there is no error to tell."""
    standard_error: float
    effective_sample_size: float
    pareto_k: float
    """Index of the weights' tail; NaN for a bridge."""
    trusted: bool
    reason: str
    method: str
    draws: int


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """A density that the server has stored."""

    name: str
    created: datetime
    n_features: int
    objective: str
    noise: str
    steps: int
    outcome: str
    """How training ended; empty where the rows were too few to train on. "cancelled" is also when rows held out gained
    no more."""
    log_partition: PartitionEstimate
    trusted: bool
    """Whether its log-densities can be taken at their word; `reason` says why not."""
    reason: str
    validation: Array
    """Mean log-likelihood of the rows held out, at each look; empty in `models`."""

    def plot(self) -> Figure:
        """A picture: the likelihood of the rows held out as training went. Needs matplotlib.

        ValueError for a model of a list, which leaves the curve out.
        """
        from relaxon.core.pictures import training_picture

        panels = {"log-likelihood of rows held out": {"validation": self.validation}}
        return training_picture(self.name, "look", panels, np.empty(0))

    def _repr_html_(self) -> str:
        from relaxon.core.html import table as html_table

        z = self.log_partition
        rows = {
            "features": self.n_features,
            "objective": f"{self.objective}, noise {self.noise}",
            "training": f"{self.steps} steps, {self.outcome or 'none'}",
            "log Z": f"{z.value:.6g} ± {z.standard_error:.2g}",
            "log-densities": "trusted" if self.trusted else f"not trusted: {self.reason}",
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }
        return html_table(f"energy-based density {self.name!r}", rows)


@dataclass(frozen=True, slots=True)
class LogDensity:
    """Normalised log-densities of rows, and whether they can be taken at their word."""

    values: Array
    """`(n,)`, in the units of X."""
    trusted: bool
    reason: str


def train_requests(X: ArrayLike, settings: EnergySettings | None, model: str, request_id: str) -> Requests:
    """The messages that have a density trained; InvalidArgument where they can be refused here."""
    with errors.refusals():
        if settings is not None and not isinstance(settings, EnergySettings):
            raise TypeError(f"settings must be EnergySettings, got {type(settings).__name__}")
        if not isinstance(model, str):
            raise TypeError(f"model must be a string, got {type(model).__name__}")
        features = table("X", X, missing=False)
        header = pb.TrainEnergyHeader(
            model=model,
            settings=(settings or EnergySettings()).message(),
            features=tensors.header_of(features),
            request_id=checked_id(request_id),
        )
    return partial(sent, pb.TrainEnergyRequest, header, {"features": features})


def density_requests(model: str | EnergyModel, X: ArrayLike) -> tuple[Requests, int]:
    """The messages that ask for log-densities, and how many there will be."""
    with errors.refusals():
        features = table("X", X, missing=False)
        header = pb.LogDensityHeader(model=ENGINE.name_of(model), features=tensors.header_of(features))
    return partial(sent, pb.LogDensityRequest, header, {"features": features}), len(features)


def sample_request(model: str | EnergyModel, count: int, random_state: int | None) -> pb.SampleEnergyRequest:
    """Asks for samples."""
    with errors.refusals():
        request = pb.SampleEnergyRequest(model=ENGINE.name_of(model), count=validation.positive_int("count", count))
        if random_state is not None:
            request.random_state = validation.whole_number("random_state", random_state)
        return request


def partition_request(
    model: str | EnergyModel, method: str, size: int | None, random_state: int | None
) -> pb.LogPartitionRequest:
    """Asks for an estimate of log Z."""
    with errors.refusals():
        number = 0 if size is None else validation.positive_int("size", size)
        request = pb.LogPartitionRequest(model=ENGINE.name_of(model))
        if method == "importance":
            request.importance.draws = number
        elif method == "annealed":
            request.annealed.paths = number
        elif method == "bridge":
            request.bridge.draws = number
        else:
            raise ValueError(f"method must be 'importance', 'annealed' or 'bridge', got {method!r}")
        if random_state is not None:
            request.random_state = validation.whole_number("random_state", random_state)
        return request


class Samples:
    """Puts the parts of drawn rows together; InternalError for a damaged answer."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: tensors.Assembler | None = None

    def take(self, reply: Any) -> None:
        """Place a reply."""
        try:
            if self._rows is not None:
                self._rows.take(reply.rows)
                return
            dtype, shape = tensors.checked_header("rows", reply.header.rows, ("float64",))
            if len(shape) != 2 or shape[0] != self._count:
                raise errors.InternalError(f"the server's rows have shape {shape} for {self._count} samples")
            self._rows = tensors.Assembler("rows", dtype, shape)
        except tensors.TensorError as error:
            raise damaged(error) from error

    def finished(self) -> Array:
        """The rows, once the call has ended."""
        if self._rows is None:
            raise errors.InternalError("the server's answer does not start with its header")
        try:
            return np.asarray(self._rows.array(), np.float64)
        except tensors.TensorError as error:
            raise damaged(error) from error


def estimate_of(message: pb.LogPartitionEstimate) -> PartitionEstimate:
    """An estimate from its message."""

    def given(name: str, otherwise: float) -> float:
        return float(getattr(message, name)) if message.HasField(name) else otherwise  # type: ignore[arg-type]

    return PartitionEstimate(
        value=message.value,
        interval=(given("low", -math.inf), given("high", math.inf)),
        standard_error=given("standard_error", math.inf),
        effective_sample_size=message.effective_sample_size,
        pareto_k=given("pareto_k", math.nan),
        trusted=message.trusted,
        reason=message.reason,
        method=message.method,
        draws=message.draws,
    )


def model_of(message: pb.EnergyModel) -> EnergyModel:
    """A stored model from its message."""
    return EnergyModel(
        name=message.name,
        created=message.create_time.ToDatetime(UTC),
        n_features=message.n_features,
        objective=message.objective,
        noise=message.noise,
        steps=message.steps,
        outcome=message.outcome,
        log_partition=estimate_of(message.log_partition),
        trusted=message.trusted,
        reason=message.reason,
        validation=np.array(message.validation, np.float64),
    )


def step_of(message: pb.EnergyProgress) -> EnergyProgress:
    """A report from its message."""
    return EnergyProgress(
        message.report,
        message.step,
        message.steps_wanted,
        message.loss,
        message.log_partition if message.HasField("log_partition") else None,
        message.effective_sample_size if message.HasField("effective_sample_size") else None,
        message.seconds,
    )


ENGINE = Engine(
    watch=pb.WatchEnergyRequest,
    get=pb.GetEnergyModelRequest,
    list=pb.ListEnergyModelsRequest,
    delete=pb.DeleteEnergyModelRequest,
    message=pb.EnergyModel,
    model=EnergyModel,
    told=model_of,
    step=step_of,
)
