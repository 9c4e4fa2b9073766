"""The two phases of a measurement: their relaxers and their noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import FixedStep, Relaxer


@dataclass(frozen=True, slots=True)
class Phases:
    """The relaxers of the free and the nudged phase, and the standard deviation of noise on the states at every step.

    Where `nudged` is None, both phases use `free`. With noise, a reading is the mean of the last `average` states of a
    phase, and residuals do not tell whether a phase has converged.
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


def keep_phases(phases: Phases, former: Phases, record: dict[str, Any] | None) -> Phases:
    """Return the default `phases`, or the `former` default where the checkpoint of this record was begun with it.

    Such a run resumes with the same bits as before the default changed.
    """
    began = None if record is None else record["settings"]["phases"]
    return former if began == repr(former) else phases
