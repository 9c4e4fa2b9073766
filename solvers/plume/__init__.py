"""A small simulation as a user would write it: smoke rises around a moving sphere, a pressure solve each step."""

from relaxon.solvers.plume.simulation import SmokePlume, StepReport

__all__ = ["SmokePlume", "StepReport"]
