"""The error of systems that have no unique solution, under its documented name."""

from relaxon.solvers.interface.prepared_system import SingularSystemError

__all__ = ["SingularSystemError"]
