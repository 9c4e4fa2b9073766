"""Signals that the proximal service is sent: announced by a header, and checked before they arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from relaxon.proto import tensor_pb2
from relaxon.server.gate import errors
from relaxon.server.training import proximal_limits
from relaxon.server.training.tables import check_finite
from relaxon.wire.tensors import AnnouncedArray

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import ProximalModel
    from relaxon.server.config.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class AnnouncedSignals:
    """One signal, or several along the first axis, that are still to arrive."""

    array: AnnouncedArray
    shape: tuple[int, ...]

    def read(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the signals in the shape that the engine takes; INVALID_ARGUMENT for NaN and infinity."""
        check_finite(self.array.name, array)
        return array.reshape(self.shape)


def announce_signals(
    name: str, header: tensor_pb2.TensorHeader, shape: Sequence[int], model: ProximalModel, settings: ServerSettings
) -> AnnouncedSignals:
    """Return the announced signals; refused before they arrive where they do not fit the model, or are too many."""
    array, sides = _announce_shaped(name, header, shape)
    axes = len(model.shape)
    one = sides if len(sides) == axes else sides[1:]
    if len(one) != axes or not model.accepts(one):
        expected = ", ".join(map(str, model.shape))
        raise errors.invalid(name, f"{name} must have shape ({expected}) or (n, {expected}), got {sides}")
    proximal_limits.check_signals(model.settings, math.prod(sides) // math.prod(one), one, settings)
    return AnnouncedSignals(array, sides)


def announce_training_data(header: Any) -> tuple[AnnouncedArray, tuple[int, ...]]:
    """Return the announced array of a training header, and the shape of its signals."""
    return _announce_shaped("data", header.data, header.shape)


def _announce_shaped(
    name: str, header: tensor_pb2.TensorHeader, given: Sequence[int]
) -> tuple[AnnouncedArray, tuple[int, ...]]:
    """Return an announced array and its shape, which stands beside it where the array has one axis only."""
    array = AnnouncedArray.of(name, header)
    shape = tuple(given)
    if shape and (array.shape != (math.prod(shape),) or min(shape) < 1 or len(shape) > proximal_limits.MAX_AXES + 1):
        raise errors.invalid(
            "shape", f"shape must be that of {name}'s {array.shape} entries along one axis, got {list(shape)[:9]}"
        )
    return array, shape or array.shape
