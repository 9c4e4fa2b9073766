"""How the two phases of a measurement are relaxed, and with what noise."""

from __future__ import annotations

from dataclasses import dataclass, field

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import FixedStep, Relaxer


@dataclass(frozen=True, slots=True)
class Phases:
    """`free` and `nudged` relaxers (the same where `nudged` is None); Gaussian `noise` on the states at every step.

    With noise, a reading is the mean of the last `average` states of a phase, and no phase can be judged by its
    residual.
    """

    free: Relaxer = field(default_factory=FixedStep)
    nudged: Relaxer | None = None
    noise: float = 0.0
    average: int = 1

    def __post_init__(self) -> None:
        validation.non_negative_float("noise", self.noise)
        validation.positive_int("average", self.average)

    @property
    def nudge(self) -> Relaxer:
        return self.nudged or self.free
