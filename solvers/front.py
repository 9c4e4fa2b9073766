"""The error of systems that have no unique solution, under its documented name."""

from relaxon.solvers.interface.system_form import SingularSystemError

__all__ = ["SingularSystemError"]
