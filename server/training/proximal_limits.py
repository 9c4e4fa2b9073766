"""How large a proximal operator, its signals and its training may be here: found before anything is made of them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.training.boosting_messages import MAX_COLUMNS, check_bytes

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import MatchingSettings, NetworkSettings

MAX_AXES = 3
"""Of a signal: as many as a tensor on the wire has."""
MAX_LAYERS = 64
MAX_KERNEL = 255
"""Side of a convolution's or a blur's kernel."""
MAX_STEPS = 1_000_000
MAX_REPORTS = 100_000
"""Of a training job: each is kept in the database."""
MAX_BATCH = 2**16
MAX_STAGES = 1000
WORKING_COPIES = 4
"""Arrays of the size of a network's activations that a derivative of it holds at a time."""


def at_most(field: str, value: int, most: int, words: str = "") -> None:
    """Refuse a number above a limit of this server with RESOURCE_EXHAUSTED."""
    if value > most:
        raise errors.exhausted(field, f"{words or field} must be at most {most} here, got {value}")


def check_shape(shape: tuple[int, ...], field: str = "shape") -> None:
    """Refuse the shape of a signal that is none, or too large a one."""
    if not 1 <= len(shape) <= MAX_AXES or min(shape) < 1:
        raise errors.invalid(field, f"{field} must have 1 to {MAX_AXES} axes of at least 1 each, got {list(shape)[:9]}")
    for side in shape:
        at_most(field, side, MAX_COLUMNS if len(shape) > 1 else MAX_COLUMNS**2, f"{field}'s sides")


def check_network(network: NetworkSettings, settings: ServerSettings) -> None:
    """Refuse a network that is too large to be built here."""
    check_shape(network.shape)
    at_most("hidden", len(network.hidden), MAX_LAYERS, "hidden's layers")
    at_most("hidden", sum(network.hidden), settings.max_units, "hidden's units")
    at_most("kernel", network.kernel, MAX_KERNEL)
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
    """Refuse signals that are too many, or one that is too large for what the network makes of it."""
    check_bytes(count * math.prod(shape), settings)
    check_bytes(_activations(network, shape), settings)


def check_training(rows: int, network: NetworkSettings, training: MatchingSettings, settings: ServerSettings) -> None:
    """Refuse a training that takes too many steps, or too much memory."""
    from relaxon.neuromorphic.proximal.training.matching import LARGEST_PAIRS

    at_most("gammas", len(training.gammas), MAX_STAGES, "gammas' entries")
    at_most("start_steps", training.steps, MAX_STEPS, "start_steps and those of all stages")
    if training.steps > MAX_REPORTS * training.record_every:
        least = math.ceil(training.steps / MAX_REPORTS)
        raise errors.exhausted("record_every", f"record_every must be at least {least} here for so many steps")
    at_most("batch", training.batch, MAX_BATCH)
    check_network(network, settings)
    check_bytes(rows * math.prod(network.shape), settings)
    check_bytes(min(rows, training.batch) * _activations(network, network.shape), settings)
    entries = training.batch * rows * math.prod(network.shape)
    if training.pairing == "posterior" and entries > LARGEST_PAIRS:
        raise errors.exhausted(
            "pairing", f"pairing must be 'drawn' where batch × entries of data exceed {LARGEST_PAIRS}, got {entries}"
        )


def _activations(network: NetworkSettings, shape: tuple[int, ...]) -> int:
    """Entries of all hidden layers for one signal, as often as a derivative holds them."""
    places = 1 if network.kind == "dense" else math.prod(shape[-2:])
    return WORKING_COPIES * places * sum(network.hidden)
