"""Energy-based densities as they travel: settings, rows, reports, stored models, estimates of log Z."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.html import table as html_table
from relaxon.core.pictures import draw_training
from relaxon.proto import energy_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage, check_settings, read_fields, read_model, write_fields
from relaxon.wire.conversions.tables import Prediction, Requests, stream_messages, table
from relaxon.wire.conversions.tables import train_requests as train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
ARGUMENTS = {"features": "X"}
"""The client's names of the arguments that the messages call otherwise."""
SIZES = {"draws": "size", "paths": "size"}
"""The same for the size of an estimate of log Z."""
Method = Literal["importance", "annealed", "bridge"]


@dataclass(frozen=True, slots=True)
class EnergySettings(SettingsMessage):
    """The parameters of `relaxon.neuromorphic.energy.EnergyDensity`; None keeps the default there."""

    _message: ClassVar[Any] = pb.EnergySettings
    _needs_entries: ClassVar[bool] = True
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


@dataclass(frozen=True, slots=True)
class EnergyProgress:
    """The state of a training after every tenth step, and the last one."""

    report: int
    """The number of the report, from 1."""
    step: int
    steps_wanted: int
    loss: float
    log_partition: float | None
    """The objective's own estimate of log Z: log u of MECO, the constant that others learn; None where it has none."""
    effective_sample_size: float | None
    """That of the weights of the noise samples; None where the objective has none."""
    seconds: float


@dataclass(frozen=True, slots=True)
class PartitionEstimate:
    """An estimate of log Z; unless it is `trusted`, its numbers say nothing reliable about log Z."""

    value: float
    interval: tuple[float, float]
    """The 95 % confidence interval; infinite where no error is known."""
    standard_error: float
    effective_sample_size: float
    pareto_k: float
    """The index of the tail of the weights; NaN for a bridge."""
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
    """How training ended; empty where there were too few rows to train on. "cancelled" also means that the hold-out
    likelihood no longer improved."""
    log_partition: PartitionEstimate
    trusted: bool
    """Whether its log-densities can be trusted; `reason` says why not."""
    reason: str
    validation: Array
    """The mean log-likelihood of the hold-out rows at each evaluation; empty in the lists of `models`."""

    def plot(self) -> Figure:
        """Plot the likelihood of the hold-out rows during training. Needs matplotlib.

        ValueError for a model from a list, which has no curve.
        """
        panels = {"log-likelihood of rows held out": {"validation": self.validation}}
        return draw_training(self.name, "look", panels, np.empty(0))

    def _repr_html_(self) -> str:
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
    """Normalised log-densities of rows, and whether they can be trusted."""

    values: Array
    """`(n,)`, in the units of X."""
    trusted: bool
    reason: str


def train_requests(X: ArrayLike, settings: EnergySettings | None, model: str, request_id: str) -> Requests:
    """Return the messages that have a density trained; InvalidArgument where they can be refused on this side."""
    with errors.refusals():
        chosen = EnergySettings() if settings is None else settings
        check_settings(chosen, EnergySettings)
        return train(ENGINE, chosen.message(), {"features": table("X", X)}, model, request_id)


def density_requests(model: str | EnergyModel, X: ArrayLike) -> tuple[Requests, int]:
    """Return the messages that ask for log-densities, and the number of rows that they will have."""
    with errors.refusals():
        features = table("X", X)
        header = pb.LogDensityHeader(model=ENGINE.name_of(model), features=tensors.describe_array(features))
    return partial(stream_messages, pb.LogDensityRequest, header, {"features": features}), len(features)


def sample_request(model: str | EnergyModel, count: int, random_state: int | None) -> pb.SampleEnergyRequest:
    """Return the request for samples."""
    with errors.refusals():
        request = pb.SampleEnergyRequest(model=ENGINE.name_of(model), count=validation.positive_int("count", count))
        if random_state is not None:
            request.random_state = validation.whole_number("random_state", random_state)
        return request


def partition_request(
    model: str | EnergyModel, method: str, size: int | None, random_state: int | None
) -> pb.LogPartitionRequest:
    """Return the request for an estimate of log Z."""
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


class Samples(Prediction):
    """Puts the parts of drawn rows together; InternalError for a damaged answer."""

    def __init__(self, count: int) -> None:
        super().__init__(count, "rows")

    def finished(self) -> Any:
        """Return the rows, `(count, columns)`, once the call has ended."""
        return super().finished()[1]

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if len(shape) != 2:
            raise errors.InternalError(f"the server's {name} have shape {shape}")
        super()._check_shape(name, shape)


def read_estimate(message: pb.LogPartitionEstimate) -> PartitionEstimate:
    """Return an estimate of log Z from its message."""

    def read_optional(name: str, otherwise: float) -> float:
        return float(getattr(message, name)) if message.HasField(name) else otherwise  # type: ignore[arg-type]

    return read_fields(
        PartitionEstimate,
        message,
        interval=(read_optional("low", -math.inf), read_optional("high", math.inf)),
        standard_error=read_optional("standard_error", math.inf),
        pareto_k=read_optional("pareto_k", math.nan),
    )


def estimate_message(estimate: Any) -> pb.LogPartitionEstimate:
    """Return the message of an estimate of log Z, which has the attributes of `PartitionEstimate`.

    Numbers that are not finite are left out.
    """
    low, high = estimate.interval
    optional = {"low": low, "high": high, "standard_error": estimate.standard_error, "pareto_k": estimate.pareto_k}
    finite = {name: value if math.isfinite(value) else None for name, value in optional.items()}
    return write_fields(pb.LogPartitionEstimate, estimate, **finite)


def _read_model(message: pb.EnergyModel) -> EnergyModel:
    return read_model(EnergyModel, message, log_partition=read_estimate(message.log_partition))


ENGINE = EngineMessages(
    kind="energy",
    service=pb.DESCRIPTOR.services_by_name["EnergyService"],
    files=("model.json", "model.safetensors"),
    model=EnergyModel,
    told=_read_model,
    step=partial(read_fields, EnergyProgress),
)
