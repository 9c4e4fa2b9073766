"""How large a proximal operator, its signals and its training may be, checked before anything is built from them.

Imported on first use, for their weight: `relaxon.neuromorphic.proximal.training.matching` (torch).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from relaxon.proto import tensor_pb2
from relaxon.server.gate import errors
from relaxon.server.training.limits import MAX_COLUMNS, MAX_LAYERS, MAX_STEPS, check_bytes, check_most
from relaxon.server.training.tables import check_finite
from relaxon.wire.tensors import AnnouncedArray

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import MatchingSettings, NetworkSettings, ProximalModel
    from relaxon.server.config.settings import ServerSettings

MAX_AXES = 3
"""The axes of a signal: as many as a tensor on the wire has."""
MAX_KERNEL = 255
"""The side of a convolution's or a blur's kernel."""
MAX_REPORTS = 100_000
"""The reports of a training job, each of which is kept in the database."""
MAX_BATCH = 2**16
MAX_STAGES = 1000
WORKING_COPIES = 4
"""How many arrays of the size of a network's activations a derivative of it holds at a time."""


def check_shape(shape: tuple[int, ...], field: str = "shape") -> None:
    """Refuse a shape that no signal has, or that is too large."""
    if not 1 <= len(shape) <= MAX_AXES or min(shape) < 1:
        raise errors.invalid(field, f"{field} must have 1 to {MAX_AXES} axes of at least 1 each, got {list(shape)[:9]}")
    for side in shape:
        check_most(field, side, MAX_COLUMNS if len(shape) > 1 else MAX_COLUMNS**2, f"{field}'s sides")


def check_network(network: NetworkSettings, settings: ServerSettings) -> None:
    """Refuse a network that is too large to be built here."""
    check_shape(network.shape)
    check_most("hidden", len(network.hidden), MAX_LAYERS, "hidden's layers")
    check_most("hidden", sum(network.hidden), settings.max_units, "hidden's units")
    check_most("kernel", network.kernel, MAX_KERNEL)
    check_bytes(count_weights(network), settings)
    check_signals(network, 1, network.shape, settings)


def count_weights(network: NetworkSettings) -> int:
    """Return how many weights a network has, without building it."""
    hidden = network.hidden
    pairs = sum(before * after for before, after in pairwise(hidden))
    if network.kind == "dense":
        inputs = math.prod(network.shape)
        return inputs * (sum(hidden) + 1) + pairs + sum(hidden) + hidden[-1]
    channels = network.shape[0] if len(network.shape) == MAX_AXES else 1
    return network.kernel**2 * (channels * sum(hidden) + pairs) + sum(hidden) + hidden[-1]


def check_signals(network: NetworkSettings, count: int, shape: tuple[int, ...], settings: ServerSettings) -> None:
    """Refuse too many signals, or one for which the network's activations are too large."""
    check_bytes(count * math.prod(shape), settings)
    check_bytes(_activations(network, shape), settings)


def check_training(rows: int, network: NetworkSettings, training: MatchingSettings, settings: ServerSettings) -> None:
    """Refuse a training that takes too many steps, or too much memory."""
    from relaxon.neuromorphic.proximal.training.matching import LARGEST_PAIRS

    check_most("gammas", len(training.gammas), MAX_STAGES, "gammas' entries")
    check_most("start_steps", training.steps, MAX_STEPS, "start_steps and those of all stages")
    if training.steps > MAX_REPORTS * training.record_every:
        least = math.ceil(training.steps / MAX_REPORTS)
        raise errors.exhausted("record_every", f"record_every must be at least {least} here for so many steps")
    check_most("batch", training.batch, MAX_BATCH)
    check_network(network, settings)
    check_bytes(rows * math.prod(network.shape), settings)
    check_bytes(min(rows, training.batch) * _activations(network, network.shape), settings)
    entries = training.batch * rows * math.prod(network.shape)
    if training.pairing == "posterior" and entries > LARGEST_PAIRS:
        raise errors.exhausted(
            "pairing", f"pairing must be 'drawn' where batch × entries of data exceed {LARGEST_PAIRS}, got {entries}"
        )


def _activations(network: NetworkSettings, shape: tuple[int, ...]) -> int:
    """Return the entries of all hidden layers for one signal, times the copies that a derivative holds."""
    places = 1 if network.kind == "dense" else math.prod(shape[-2:])
    return WORKING_COPIES * places * sum(network.hidden)


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
    check_signals(model.settings, math.prod(sides) // math.prod(one), one, settings)
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
    if shape and (array.shape != (math.prod(shape),) or min(shape) < 1 or len(shape) > MAX_AXES + 1):
        raise errors.invalid(
            "shape", f"shape must be that of {name}'s {array.shape} entries along one axis, got {list(shape)[:9]}"
        )
    return array, shape or array.shape
