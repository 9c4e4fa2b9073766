"""The error that names the extra of relaxon which brings a missing package, under its documented name."""

from relaxon.core.extras import MissingPackageError

__all__ = ["MissingPackageError"]
