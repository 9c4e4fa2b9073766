"""Energy-based models: unnormalised densities, trained by compositional optimisation and its rivals, with a log-density
that says how far it can be trusted.

Importing this package loads nothing heavy; torch comes with the first name that is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.energies import (
        ConvolutionalEnergy,
        ExponentialFamilyEnergy,
        MLPEnergy,
        PolynomialStatistics,
        QuadraticEnergy,
        TiltedEnergy,
    )
    from relaxon.neuromorphic.energy.noise import GaussianNoise, Noise, StudentNoise, UniformNoise
    from relaxon.neuromorphic.energy.noise_adaptive import AdaptiveNoise, DefensiveNoise
    from relaxon.neuromorphic.energy.noise_fitted import KernelDensityNoise, MixtureNoise
    from relaxon.neuromorphic.energy.noise_flow import FlowNoise

_HOME = {
    "AdaptiveNoise": "noise_adaptive",
    "ConvolutionalEnergy": "energies",
    "DefensiveNoise": "noise_adaptive",
    "ExponentialFamilyEnergy": "energies",
    "FlowNoise": "noise_flow",
    "GaussianNoise": "noise",
    "KernelDensityNoise": "noise_fitted",
    "MLPEnergy": "energies",
    "MixtureNoise": "noise_fitted",
    "Noise": "noise",
    "PolynomialStatistics": "energies",
    "QuadraticEnergy": "energies",
    "StudentNoise": "noise",
    "TiltedEnergy": "energies",
    "UniformNoise": "noise",
}

__all__ = [
    "AdaptiveNoise",
    "ConvolutionalEnergy",
    "DefensiveNoise",
    "ExponentialFamilyEnergy",
    "FlowNoise",
    "GaussianNoise",
    "KernelDensityNoise",
    "MLPEnergy",
    "MixtureNoise",
    "Noise",
    "PolynomialStatistics",
    "QuadraticEnergy",
    "StudentNoise",
    "TiltedEnergy",
    "UniformNoise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
