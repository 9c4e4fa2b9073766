"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.estimators.nudged import Cauchy, Estimator
from relaxon.neuromorphic.equilibrium.hardware.limits import Hardware
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.training.homeostasis import JacobianHomeostasis
from relaxon.neuromorphic.optimizers import ADAPTIVE

Optimiser = Literal["sgd", "adam", "diffgrad", "normalized", "adadagrad", "adadagrad-norm"]
Schedule = Literal["constant", "cosine"]


ADDED = ("hardware", "weight_decay", "nesterov", "shift")
"""Settings introduced after the first checkpoints were written."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings of a training run; the same settings on the same machine give the same weights, resumed or not.

    `optimiser` is torch's "sgd" or "adam", or one of `relaxon.neuromorphic.optimizers`. With "adadagrad" and
    "adadagrad-norm", `batch` is the initial batch size, and batches grow. With `schedule` "cosine" the learning rate
    decays to zero over all epochs. `clip` bounds the gradient's norm. With `probe`, the angle to the exact gradient is
    measured after each epoch.
    """

    epochs: int = 10
    batch: int = 50
    rate: float = 0.01
    momentum: float = 0.9
    optimiser: Optimiser = "sgd"
    schedule: Schedule = "constant"
    estimator: Estimator = field(default_factory=Cauchy)
    phases: Phases = field(default_factory=Phases)
    homeostasis: JacobianHomeostasis | None = None
    clip: float | None = None
    contraction: float | None = None
    """Bound on the norm of the recurrent coupling, enforced by a projection after each step; below 1 the equilibrium is
    unique."""
    readout_bound: float | None = None
    """Bound on the spectral norm of a softmax readout, enforced in the same way: the radius of analyticity is inversely
    proportional to the square of that norm. Requires `contraction`."""
    weight_decay: float = 0.0
    """Factor of every parameter that is added to its gradient, for "sgd" and "adam"."""
    nesterov: bool = False
    """Whether "sgd" uses Nesterov's momentum."""
    shift: int = 0
    """Each training image is shifted at random by up to this many pixels in each direction; gaps are filled with the
    pixels at the edge. For networks of images only."""
    hardware: Hardware | None = None
    """The device on which gradients are measured. At each step it is programmed with the weights, which are kept in
    full precision. Test metrics are those of the device as well, read at rest."""
    seed: int = 0
    probe: bool = True
    out: Path | None = None
    """Folder for the checkpoint; a run with the same settings resumes from a checkpoint found there."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints."""
    checkpoint_seconds: float | None = None
    """Seconds between two checkpoints, in place of epochs: written at the end of a step, less often where writing is
    slow, and after every step where 0."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "checkpoint_every"):
            validation.positive_int(name, getattr(self, name))
        validation.positive_float("rate", self.rate)
        if not 0 <= validation.finite_float("momentum", self.momentum) < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {self.momentum!r}")
        if self.optimiser not in get_args(Optimiser):
            names = ", ".join(map(repr, get_args(Optimiser)))
            raise ValueError(f"optimiser must be one of {names}, got {self.optimiser!r}")
        if self.optimiser in ADAPTIVE and self.batch < 2:
            raise ValueError(f"batch must be at least 2 for optimiser {self.optimiser!r}, got {self.batch}")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}")
        if not isinstance(self.estimator, Estimator):
            raise TypeError(f"estimator must be an Estimator, got {type(self.estimator).__name__}")
        if self.checkpoint_seconds is not None:
            validation.non_negative_float("checkpoint_seconds", self.checkpoint_seconds)
        if self.clip is not None:
            validation.positive_float("clip", self.clip)
        if self.contraction is not None:
            validation.positive_float("contraction", self.contraction)
        if self.readout_bound is not None:
            validation.positive_float("readout_bound", self.readout_bound)
            if self.contraction is None:
                raise ValueError("readout_bound must be None where contraction is None")
        validation.non_negative_float("weight_decay", self.weight_decay)
        if self.weight_decay and self.optimiser not in ("sgd", "adam"):
            raise ValueError(f"weight_decay must be 0 for optimiser {self.optimiser!r}, got {self.weight_decay}")
        if self.nesterov and (self.optimiser != "sgd" or not self.momentum):
            raise ValueError("nesterov must be False except for optimiser 'sgd' with momentum")
        if validation.whole_number("shift", self.shift) < 0:
            raise ValueError(f"shift must be at least 0, got {self.shift}")
        if self.hardware is not None and not isinstance(self.hardware, Hardware):
            raise TypeError(f"hardware must be a Hardware or None, got {type(self.hardware).__name__}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be an integer from 0 to 2³¹ − 1, got {self.seed!r}")

    def describe(self) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON values."""
        names = [
            name
            for name in self.__dataclass_fields__
            if name not in ("out", "checkpoint_every", "checkpoint_seconds", "probe")
        ]
        # Omitted where they are not used, so that older checkpoints still have the same settings.
        values = {name: getattr(self, name) for name in names if name not in ADDED or getattr(self, name)}
        plain = (int, float, str, type(None))
        return {name: value if isinstance(value, plain) else repr(value) for name, value in values.items()}
