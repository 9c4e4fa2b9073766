"""What the server knows of each kind of model: its files, how they are checked, and what it can be exported to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import convex_pb2
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.jobs.model_files import Tensors, check_classes, parsed_json, read_json, read_safetensors, whole
from relaxon.server.training import (
    boosting_messages,
    boosting_task,
    convex_messages,
    convex_task,
    energy_messages,
    energy_task,
    equilibrium_messages,
    equilibrium_task,
    proximal_limits,
    proximal_messages,
    proximal_task,
)
from relaxon.server.training.boosting_messages import MAX_COLUMNS, MAX_OUTPUTS
from relaxon.server.training.labels import LONGEST_LABEL, MAX_CLASSES

TENSORS = "network.safetensors"
MOST_LAYERS = 64
MOST_BITS = 64
"""Of the code that sign units see of a column."""
ENERGY_TENSORS = "model.safetensors"
PAIRS = {"tilted": ("base", "tilt"), "defensive": ("inner", "wide")}
"""Energies and noise distributions that are made of two others."""
DENSITIES = {"gaussian": "", "student": "", "mixture": "components", "kernel": "points"}
"""The others, and what each has a number of."""
MOST_POINTS = 2**20
HISTORY = [f"history_{name}" for name in convex_pb2.ConvexHistory.DESCRIPTOR.fields_by_name]
"""Arrays of what was measured while a convex network was trained."""


@dataclass(frozen=True, slots=True)
class ModelKind:
    """A kind of stored model."""

    files: tuple[str, ...]
    """All of them; a caller's names are compared with these and never made a path of."""
    check: Callable[[Path, ServerSettings], None]
    """Refuses a folder that holds none, or too large a one, by what the files say; nothing is made of them."""
    load: Callable[[Path], Any]
    """The engine's own reader."""
    describe: Callable[[Any], object]
    """What calls will tell of it: fails where something is missing."""
    onnx: Callable[[Any], bytes] | None = None
    answer: str = "predict"
    """Its method that answers for rows."""
    row: Callable[[Any], NDArray[np.float64]] = lambda model: np.zeros((1, model.n_features_in_))
    """A table of one row that it answers for."""


def check_whole(kind: ModelKind, folder: Path, settings: ServerSettings) -> None:
    """Refuse a folder whose model cannot be loaded, told of, and predicted with."""
    kind.check(folder, settings)
    try:
        model = kind.load(folder)
        kind.describe(model)
        output = np.asarray(getattr(model, kind.answer)(kind.row(model)))
    except (errors.ServiceError, MemoryError, ImportError):
        raise
    except Exception as error:
        # The readers find most faults, but not all: what a caller has put together is the caller's, whatever it breaks.
        raise errors.invalid("files", f"files must hold a whole model: {str(error)[:200]}") from None
    if output.shape[:1] != (1,):
        raise errors.invalid("files", f"files must hold a model that predicts a row, got shape {output.shape}")


def _check_boosting(folder: Path, settings: ServerSettings) -> None:
    card, held = read_json("model.json", folder / "model.json"), read_safetensors(TENSORS, folder / TENSORS)
    _check_card(card)
    layers = whole("hidden_layers", card.get("hidden_layers"), MOST_LAYERS)
    flat = ["shift", "scale", "initial", "gain", "sizes", "unit", "train_loss", "validation_loss", "importances"]
    axes = dict.fromkeys(flat + [f"bias_{index}" for index in range(layers)], 1)
    axes |= dict.fromkeys(["output", "intercepts"] + [f"weights_{index}" for index in range(layers)], 2)
    other = {"sizes": "I64"}
    if "indicated" in held.tensors:  # columns whose missing inputs are indicated; older models have none
        axes["indicated"], other["indicated"] = 1, "I64"
    if "thresholds" in held.tensors:
        # Sign units: their weights are bits, and a row's code has as many as there are thresholds.
        axes["thresholds"] = 2
        other |= {f"weights_{index}": "U8" for index in range(layers)}
    _check_tensors(held, axes, other)
    if "thresholds" in held.tensors:
        _check_most("bits", math.prod(held.tensors["thresholds"][1]), MOST_BITS * MAX_COLUMNS)
        bits = math.prod(held.tensors["thresholds"][1]) * sum(held.tensors[f"bias_{i}"][1][0] for i in range(layers))
        _check_most("bytes", 8 * bits, settings.max_table_bytes)
    units = sum(held.tensors[f"bias_{index}"][1][0] for index in range(layers))
    _check_most("units", units, settings.max_units)
    _check_most("outputs", held.tensors["initial"][1][0], MAX_OUTPUTS)
    _check_most("bytes", 8 * held.entries(), settings.max_table_bytes)
    from safetensors.numpy import load_file

    if units and load_file(folder / TENSORS)["sizes"].min() < 1:
        raise errors.invalid(TENSORS, f"{TENSORS} must have sizes of at least 1")


def _check_convex(folder: Path, settings: ServerSettings) -> None:
    card, held = read_json("model.json", folder / "model.json"), read_safetensors(TENSORS, folder / TENSORS)
    columns = _check_card(card)
    flat = ["shift", "scale", "target_shift", "target_unit", *HISTORY]
    _check_tensors(held, {"hidden": 2, "output": 2} | dict.fromkeys(flat, 1), {"history_iteration": "I64"})
    units, width = held.tensors["hidden"][1]
    outputs = held.tensors["output"][1][1]
    if width != columns + 1:
        raise errors.invalid(TENSORS, f"{TENSORS} must hold hidden with {columns + 1} columns, got {width}")
    _check_most("outputs", outputs, MAX_OUTPUTS)
    # Each output has units of its own, two for each pattern.
    _check_most("units", units, 2 * outputs * settings.max_units)
    _check_most("bytes", 8 * held.entries(), settings.max_table_bytes)
    if len({held.tensors[name][1] for name in HISTORY}) > 1:
        raise errors.invalid(TENSORS, f"{TENSORS} must hold a history whose arrays have one length")


def _check_card(card: Any) -> int:
    """The columns that an estimator's card says; INVALID_ARGUMENT where it is none."""
    if not isinstance(card, dict):
        raise errors.invalid("model.json", "model.json must be an object")
    columns = whole("n_features", card.get("n_features"), MAX_COLUMNS)
    if card.get("kind") == "classifier":
        check_classes("classes", card.get("classes"), MAX_CLASSES, LONGEST_LABEL)
    names = card.get("feature_names")
    if names is not None and not (
        isinstance(names, list) and len(names) == columns and all(isinstance(one, str) for one in names)
    ):
        raise errors.invalid("feature_names", f"feature_names must be {columns} strings or null")
    return columns


def _check_equilibrium(folder: Path, settings: ServerSettings) -> None:
    read_json("network.json", folder / "network.json")
    held = read_safetensors(TENSORS, folder / TENSORS)
    description = parsed_json("description", held.metadata.get("description", ""))
    if not isinstance(description, dict) or description.get("kind") not in ("layered", "binary"):
        raise errors.invalid("description", "description must be that of a layered network, of real or binary weights")
    sizes = description.get("sizes")
    if not isinstance(sizes, list) or not 2 <= len(sizes) <= MOST_LAYERS:
        raise errors.invalid("sizes", f"sizes must be 2 to {MOST_LAYERS} whole numbers")
    for size in sizes:
        whole("sizes", size, MAX_COLUMNS)
    _check_most("units", sum(sizes[1:-1]), settings.max_units)
    # The network is made before its tensors are read into it: no larger than they are.
    entries = sum(above * below for above, below in zip(sizes[1:], sizes[:-1], strict=True))
    _check_bits(held, "signs." if description["kind"] == "binary" else None)
    held_entries = held.entries() * (8 if description["kind"] == "binary" else 1)
    if entries > held_entries:
        raise errors.invalid("sizes", f"sizes must be those of the tensors, which have {held_entries} entries")
    _check_most("bytes", 8 * held_entries, settings.max_table_bytes)
    card = description.get("card")
    classifier = card.get("classifier") if isinstance(card, dict) else None
    if not isinstance(classifier, dict):
        raise errors.invalid("description", "description must have the card of a classifier")
    check_classes("classes", classifier.get("classes"), MAX_CLASSES, LONGEST_LABEL)
    parameters = classifier.get("parameters")
    if not isinstance(parameters, dict) or parameters.get("device") not in (None, "cpu"):
        raise errors.invalid("parameters", "parameters must be an object whose device is the cpu")
    for name in ("mean", "scale"):
        values = classifier.get(name)
        if not isinstance(values, list) or len(values) != sizes[0] or not all(type(one) is float for one in values):
            raise errors.invalid(name, f"{name} must be {sizes[0]} floating-point numbers")


def _check_energy(folder: Path, settings: ServerSettings) -> None:
    read_json("model.json", folder / "model.json")
    held = read_safetensors(ENERGY_TENSORS, folder / ENERGY_TENSORS)
    description = parsed_json("description", held.metadata.get("description", ""))
    card = description.get("card") if isinstance(description, dict) else None
    if not isinstance(card, dict) or card.get("estimator") != "EnergyDensity":
        raise errors.invalid("description", "description must be that of an energy-based density")
    parameters = card.get("parameters")
    if not isinstance(parameters, dict) or parameters.get("device") not in (None, "cpu"):
        raise errors.invalid("parameters", "parameters must be an object whose device is the cpu")
    _check_bits(held, None)
    modules = description.get("modules")
    if not isinstance(modules, dict) or set(modules) != {"energy"}:
        raise errors.invalid("modules", "modules must be one energy")
    _check_most("bytes", 8 * held.entries(), settings.max_table_bytes)
    entries = _entries_of(modules["energy"])
    # The modules are made before their tensors are read into them: no larger than those are.
    if entries > held.entries():
        raise errors.invalid("modules", f"modules must be those of the tensors, which have {held.entries()} entries")


def _check_proximal(folder: Path, settings: ServerSettings) -> None:
    from relaxon.neuromorphic.proximal import NetworkSettings

    card, weights = proximal_task.FILES
    read_json(card, folder / card)
    held = read_safetensors(weights, folder / weights)
    description = parsed_json("description", held.metadata.get("description", ""))
    if not isinstance(description, dict) or description.get("kind") != proximal_task.KIND:
        raise errors.invalid("description", "description must be that of a proximal operator")
    network = description.get("network")
    if not isinstance(network, dict):
        raise errors.invalid("network", "network must be an object")
    try:
        form = NetworkSettings(**network)
    except (TypeError, ValueError) as error:
        raise errors.invalid("network", f"network must be that of a proximal operator: {error}") from error
    proximal_limits.check_network(form, settings)
    # The network is built before its tensors are read into it: no larger than they are.
    if proximal_limits.count_weights(form) != held.entries():
        raise errors.invalid("network", f"network must be that of the tensors, which have {held.entries()} entries")


def _entries_of(form: object) -> int:
    """How many numbers a described module has, or fewer; INVALID_ARGUMENT for one that no server stores."""
    if not isinstance(form, dict):
        raise errors.invalid("modules", "modules must be objects")
    kind = form.get("kind")
    if kind in PAIRS:
        return sum(_entries_of(form.get(part)) for part in PAIRS[kind])
    if kind == "mlp":
        features, hidden = whole("features", form.get("features"), MAX_COLUMNS), form.get("hidden")
        octaves = form.get("fourier")
        if not isinstance(hidden, list) or len(hidden) > MOST_LAYERS or type(octaves) is not int or octaves < 0:
            raise errors.invalid("hidden", f"hidden must be at most {MOST_LAYERS} widths, fourier a number of octaves")
        widths = [features * (1 + 2 * octaves), *(whole("hidden", width, MAX_COLUMNS) for width in hidden), 1]
        return sum(a * b for a, b in pairwise(widths))
    shape = form.get("event_shape")
    if kind not in DENSITIES or not isinstance(shape, list) or len(shape) != 1:
        raise errors.invalid("modules", "modules must be a perceptron that tilts Gaussians, mixtures or kernels")
    d = whole("event_shape", shape[0], MAX_COLUMNS)
    count = whole(DENSITIES[kind], form.get(DENSITIES[kind]), MOST_POINTS) if DENSITIES[kind] else 1
    return d * d * count if kind == "mixture" else d * d + d * count


def _check_tensors(held: Tensors, axes: Mapping[str, int], other: Mapping[str, str]) -> None:
    wrong = sorted(held.tensors.keys() ^ axes.keys())
    if wrong:
        raise errors.invalid(TENSORS, f"{TENSORS} must hold the arrays of such a model, got or lacks {wrong[0][:80]!r}")
    for name, (dtype, shape) in held.tensors.items():
        wanted = other.get(name, "F64")
        if dtype != wanted or len(shape) != axes[name]:
            raise errors.invalid(
                TENSORS, f"{TENSORS} must hold {name} as {wanted} with {axes[name]} axes, got {dtype} {shape}"
            )


def _check_bits(held: Tensors, prefix: str | None) -> None:
    """Refuse bytes where numbers belong, and numbers where bits do: in tensors of that prefix, None where nowhere."""
    for name, (dtype, _) in held.tensors.items():
        if (dtype == "U8") != (prefix is not None and name.startswith(prefix)):
            raise errors.invalid(TENSORS, f"{TENSORS} must hold {name[:80]!r} as numbers of the model, got {dtype}")


def _check_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise errors.exhausted(name, f"{name} must be at most {most} here, got {value}")


def _load_boosting(folder: Path) -> Any:
    from relaxon.neuromorphic.boosting import load

    return load(folder)


def _load_convex(folder: Path) -> Any:
    from relaxon.neuromorphic.convex import load

    model = load(folder)
    # Predictions ask for some of them.
    model.check_parameters()
    return model


def _load_equilibrium(folder: Path) -> Any:
    from relaxon.neuromorphic.equilibrium.classifier.storage import load_classifier

    return load_classifier(folder)


def _load_energy(folder: Path) -> Any:
    from relaxon.neuromorphic.energy import load_estimator

    return load_estimator(folder)


def _load_proximal(folder: Path) -> Any:
    from relaxon.neuromorphic.proximal import load_proximal

    return load_proximal(folder)


def _onnx(model: Any) -> bytes:
    if model.binary:
        raise errors.failed_precondition("models of sign units cannot be exported to ONNX, which counts no bits")
    exported: bytes = model.to_onnx().SerializeToString()
    return exported


KINDS: dict[str, ModelKind] = {
    boosting_task.KIND: ModelKind(
        ("model.json", TENSORS),
        _check_boosting,
        _load_boosting,
        lambda model: boosting_messages.model_message("checked", 0.0, model),
        _onnx,
    ),
    convex_task.KIND: ModelKind(
        ("model.json", TENSORS),
        _check_convex,
        _load_convex,
        lambda model: convex_messages.model_message("checked", 0.0, model),
    ),
    energy_task.KIND: ModelKind(
        ("model.json", ENERGY_TENSORS),
        _check_energy,
        _load_energy,
        lambda model: energy_messages.model_message("checked", 0.0, model),
        answer="_log_density",
    ),
    equilibrium_task.KIND: ModelKind(
        ("network.json", TENSORS),
        _check_equilibrium,
        _load_equilibrium,
        lambda model: equilibrium_messages.model_message("checked", 0.0, model),
    ),
    proximal_task.KIND: ModelKind(
        proximal_task.FILES,
        _check_proximal,
        _load_proximal,
        lambda model: proximal_messages.model_message("checked", 0.0, model),
        answer="denoise",
        row=lambda model: np.zeros((1, *model.shape)),
    ),
}
