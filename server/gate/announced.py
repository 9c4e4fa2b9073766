"""Announced arrays under the name that the training services import."""

from relaxon.wire.tensors import FLOATS, AnnouncedArray

__all__ = ["FLOATS", "AnnouncedArray"]
