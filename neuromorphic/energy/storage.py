"""Energies, noise distributions and fitted estimators on disk: a safetensors file and a JSON file, no pickle."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from relaxon.core.tensor_files import write_tensors
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

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "model.json"
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
    """The form of an energy or noise distribution as JSON values; TypeError for one that cannot be stored."""
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
    """An energy or noise distribution of that form, to be filled by `load_state_dict`."""
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
    """Write modules and further tensors, with a card of JSON values, into a folder (made where missing)."""
    folder = Path(folder)
    description: Description = {"format": FORMAT, "card": json.loads(json.dumps(card, allow_nan=False)), "modules": {}}
    state = {f"tensor.{name}": tensor for name, tensor in tensors.items()}
    for name, module in modules.items():
        weights = module.state_dict()
        dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in weights.values() if tensor.is_floating_point()}
        if len(dtypes) > 1:
            raise TypeError(f"{name} must be of one dtype to be stored, got {sorted(dtypes)}")
        description["modules"][name] = {"dtype": next(iter(dtypes), "float32"), **describe_module(module)}
        state |= {f"{name}.{key}": tensor for key, tensor in weights.items()}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(description, indent=1)
    # The weights carry their description, so that a crash between the two files cannot pair the wrong ones.
    partial = folder / "model.partial"
    write_tensors(partial, state, {"description": text})
    partial.replace(folder / WEIGHTS)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(folder / CARD)


def load_modules(folder: Path | str) -> tuple[dict[str, Any], Description, dict[str, Tensor]]:
    """Modules, card and further tensors; FileNotFoundError where there are none, ValueError for damaged ones."""
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"folder must hold {WEIGHTS}, got {str(folder)!r}")
    try:
        with safe_open(path, "pt") as file:
            description = json.loads((file.metadata() or {})["description"])
        state = load_file(path)
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
        raise ValueError(f"{path} holds no model of this version: {error}") from error
    tensors = {key.removeprefix("tensor."): value for key, value in state.items() if key.startswith("tensor.")}
    return modules, description["card"], tensors


def save_energy(energy: Any, folder: Path | str, card: Description | None = None, noise: Any = None) -> None:
    """Write an energy, and the noise distribution that goes with it where there is one."""
    save_modules(folder, {"energy": energy} | ({} if noise is None else {"noise": noise}), card or {}, {})


def load_energy(folder: Path | str) -> tuple[Any, Any, Description]:
    """Energy, noise (None where none was stored) and card of a folder that `save_energy` wrote."""
    modules, card, _ = load_modules(folder)
    if "energy" not in modules:
        raise ValueError(f"{folder} holds no energy")
    return modules["energy"], modules.get("noise"), card


def save_estimator(estimator: Any, folder: Path | str) -> None:
    """Write a fitted `EnergyDensity`, `EnergyOutlierDetector` or `EnergyRegressor`.

    TypeError for one with a noise distribution or an objective given as an object, which JSON has no values for.
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


def load_estimator(folder: Path | str) -> Any:
    """The estimator that `save_estimator` wrote; ValueError for anything else found there."""
    from relaxon.neuromorphic.energy.estimators.density import EnergyDensity
    from relaxon.neuromorphic.energy.estimators.outliers import EnergyOutlierDetector
    from relaxon.neuromorphic.energy.estimators.regressor import EnergyRegressor

    kinds: dict[str, Any] = {made.__name__: made for made in (EnergyDensity, EnergyOutlierDetector, EnergyRegressor)}
    modules, card, tensors = load_modules(folder)
    try:
        parameters = {name: tuple(v) if isinstance(v, list) else v for name, v in card["parameters"].items()}
        estimator = kinds[card["estimator"]](**parameters)
        estimator.n_features_in_ = int(card["features"])
        if card["feature_names"] is not None:
            estimator.feature_names_in_ = np.array(card["feature_names"], dtype=object)
        estimator._restore(modules, card["fitted"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no complete estimator: {error!r}") from error
    return estimator


def encode_json(value: Any) -> Any:
    """JSON values with what is not finite as a string, which `from_json` turns back."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, dict):
        return {name: encode_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [encode_json(one) for one in value]
    return value


def decode_json(value: Any) -> Any:
    """What `json_safe` made, back."""
    if isinstance(value, dict):
        return (
            float(value["float"])
            if set(value) == {"float"}
            else {name: decode_json(one) for name, one in value.items()}
        )
    return [decode_json(one) for one in value] if isinstance(value, list) else value


def describe_training(training: Any) -> Description | None:
    """A `TrainingResult` as JSON values."""
    return None if training is None else asdict(training) | {"ended": training.ended.value}


def restore_training(card: Description | None) -> Any:
    """The `TrainingResult` of such values."""
    from relaxon.neuromorphic.energy.training.loop import Ended, Record, TrainingResult

    if card is None:
        return None
    records = tuple(Record(**record) for record in card["records"])
    return TrainingResult(**{**card, "ended": Ended(card["ended"]), "records": records})


def _encode_parameter(name: str, value: Any) -> Any:
    if isinstance(value, np.random.RandomState):
        return None  # a generator has no lasting state to write
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [_encode_parameter(name, one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{name} must be a name or a number to be stored, got {type(value).__name__}")
