"""Storage of energies, noise distributions and fitted estimators in a safetensors and a JSON file, without pickle."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from relaxon.neuromorphic.described_tensors import read_described, write_described
from relaxon.neuromorphic.energy.energies.families import (
    ConvolutionalEnergy,
    ExponentialFamilyEnergy,
    MLPEnergy,
    PolynomialStatistics,
    QuadraticEnergy,
    TiltedEnergy,
)
from relaxon.neuromorphic.energy.noise.adaptive import AdaptiveNoise, DefensiveNoise
from relaxon.neuromorphic.energy.noise.distributions import GaussianNoise, NoiseModule, StudentNoise, UniformNoise
from relaxon.neuromorphic.energy.noise.fitted import KernelDensityNoise, MixtureNoise
from relaxon.neuromorphic.energy.noise.flow import FlowNoise
from relaxon.neuromorphic.energy.training.loop import Ended, Record, TrainingResult

FORMAT = 1
STEM = "model"
WEIGHTS = f"{STEM}.safetensors"
DTYPES = {"float32": torch.float32, "float64": torch.float64}
ENERGIES: dict[str, Any] = {"mlp": MLPEnergy, "convolutional": ConvolutionalEnergy, "quadratic": QuadraticEnergy}
NOISES: dict[str, type[NoiseModule]] = {
    "gaussian": GaussianNoise,
    "student": StudentNoise,
    "uniform": UniformNoise,
    "mixture": MixtureNoise,
    "kernel": KernelDensityNoise,
    "flow": FlowNoise,
}
ADAPTIVE = ("source", "every", "share", "widen")

Description = dict[str, Any]


def describe_module(module: Any) -> Description:
    """Describe an energy or noise distribution as JSON values; raise `TypeError` for one that cannot be stored."""
    for kind, made in (ENERGIES | NOISES).items():
        if type(module) is made:
            return {"kind": kind, **module.config()}
    if type(module) is ExponentialFamilyEnergy:
        return {"kind": "exponential-family", **module.config()}
    if type(module) is TiltedEnergy:
        return {"kind": "tilted", "base": describe_module(module.base), "tilt": describe_module(module.tilt)}
    if type(module) is DefensiveNoise:
        parts = {"inner": describe_module(module.inner), "wide": describe_module(module.wide)}
        return {"kind": "defensive", "share": module.share, **parts}
    if type(module) is AdaptiveNoise:
        settings = {name: getattr(module, name) for name in ADAPTIVE}
        return {"kind": "adaptive", "start": describe_module(module.start), **settings}
    raise TypeError(f"module must be an energy or noise distribution of this package, got {type(module).__name__}")


def build_module(description: Description) -> Any:
    """Build an energy or noise distribution from its description, to be filled by `load_state_dict`."""
    kind = description["kind"]
    config = {name: value for name, value in description.items() if name != "kind"}
    if kind in ENERGIES:
        return ENERGIES[kind](**config)
    if kind in NOISES:
        return NOISES[kind].empty(config)
    if kind == "exponential-family":
        statistics = PolynomialStatistics(config["features"], config["degree"])
        return ExponentialFamilyEnergy(statistics, config["features"], confinement=config["confinement"])
    if kind == "tilted":
        return TiltedEnergy(build_module(config["base"]), build_module(config["tilt"]))
    if kind == "defensive":
        return DefensiveNoise(build_module(config["inner"]), build_module(config["wide"]), config["share"])
    if kind == "adaptive":
        start = build_module(config["start"])
        d = math.prod(start.event_shape)
        settings = {name: config[name] for name in ADAPTIVE}
        return AdaptiveNoise(start, torch.zeros(start.event_shape), torch.eye(d), **settings)
    raise ValueError(f"kind must be one that this version stores, got {kind!r}")


def save_modules(folder: Path | str, modules: dict[str, Any], card: Description, tensors: dict[str, Tensor]) -> None:
    """Write modules and further tensors, with a card of JSON values, to a folder, which is created if missing."""
    description: Description = {"format": FORMAT, "card": json.loads(json.dumps(card, allow_nan=False)), "modules": {}}
    state = {f"tensor.{name}": tensor for name, tensor in tensors.items()}
    for name, module in modules.items():
        weights = module.state_dict()
        dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in weights.values() if tensor.is_floating_point()}
        if len(dtypes) > 1:
            raise TypeError(f"{name} must be of one dtype to be stored, got {sorted(dtypes)}")
        description["modules"][name] = {"dtype": next(iter(dtypes), "float32"), **describe_module(module)}
        state |= {f"{name}.{key}": tensor for key, tensor in weights.items()}
    write_described(Path(folder), STEM, state, description)


def load_modules(folder: Path | str) -> tuple[dict[str, Any], Description, dict[str, Tensor]]:
    """Return modules, card and further tensors; raise FileNotFoundError if missing and ValueError if damaged."""
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"folder must hold {WEIGHTS}, got {str(folder)!r}")
    try:
        state, description = read_described(path)
        if description["format"] != FORMAT:
            raise ValueError(f"format must be {FORMAT}, got {description['format']!r}")
        modules = {}
        for name, form in description["modules"].items():
            module = build_module({key: value for key, value in form.items() if key != "dtype"}).to(
                DTYPES[form["dtype"]]
            )
            prefix = f"{name}."
            weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            module.load_state_dict(weights)
            modules[name] = module
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not contain a model of this version: {error}") from error
    tensors = {key.removeprefix("tensor."): value for key, value in state.items() if key.startswith("tensor.")}
    return modules, description["card"], tensors


def save_energy(energy: Any, folder: Path | str, card: Description | None = None, noise: Any = None) -> None:
    """Write an energy and, if given, its noise distribution."""
    for name, module in {"energy": energy, "noise": noise}.items():
        if not isinstance(module, torch.nn.Module) and (module is not None or name == "energy"):
            raise TypeError(f"{name} must be a torch.nn.Module to be stored, got {type(module).__name__}")
    save_modules(folder, {"energy": energy} | ({} if noise is None else {"noise": noise}), card or {}, {})


def load_energy(folder: Path | str) -> tuple[Any, Any, Description]:
    """Return energy, noise (or None) and card from a folder that `save_energy` wrote."""
    modules, card, _ = load_modules(folder)
    if "energy" not in modules:
        raise ValueError(f"{folder} does not contain an energy")
    return modules["energy"], modules.get("noise"), card


def save_estimator(estimator: Any, folder: Path | str) -> None:
    """Write a fitted `EnergyDensity`, `EnergyOutlierDetector` or `EnergyRegressor`.

    Raises `TypeError` for one whose noise distribution or objective is an object, which JSON cannot represent.
    """
    modules, card, tensors = estimator._parts()
    parameters = {name: _encode_parameter(name, value) for name, value in estimator.get_params(deep=False).items()}
    names = getattr(estimator, "feature_names_in_", None)
    whole = {
        "estimator": type(estimator).__name__,
        "parameters": parameters,
        "features": int(estimator.n_features_in_),
        "feature_names": None if names is None else names.tolist(),
        "fitted": encode_json(card),
    }
    save_modules(folder, modules, whole, tensors)


def encode_json(value: Any) -> Any:
    """Encode non-finite floats as strings, for JSON; `decode_json` is the inverse."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {name: encode_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [encode_json(one) for one in value]
    return value


def decode_json(value: Any) -> Any:
    """Decode what `encode_json` returned."""
    if isinstance(value, dict):
        return (
            float(value["float"])
            if set(value) == {"float"}
            else {name: decode_json(one) for name, one in value.items()}
        )
    return [decode_json(one) for one in value] if isinstance(value, list) else value


def describe_training(training: TrainingResult | None) -> Description | None:
    """Return a `TrainingResult` as JSON values."""
    return None if training is None else asdict(training) | {"ended": training.ended.value}


def restore_training(card: Description | None) -> TrainingResult | None:
    """Return the `TrainingResult` of such values."""
    if card is None:
        return None
    records = tuple(Record(**record) for record in card["records"])
    return TrainingResult(**{**card, "ended": Ended(card["ended"]), "records": records})


def _encode_parameter(name: str, value: Any) -> Any:
    if isinstance(value, np.random.RandomState):
        return None  # a generator cannot be stored
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_encode_parameter(name, one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{name} must be a name or a number to be stored, got {type(value).__name__}")
