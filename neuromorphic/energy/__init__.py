"""Energy-based models: unnormalised densities, trained by compositional optimisation and its rivals, with a log-density
that says how far it can be trusted.

Importing this package loads nothing heavy; torch comes with the first name that is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.conditional import EnergyRegressor
    from relaxon.neuromorphic.energy.datasets import PlanarDensity, planar
    from relaxon.neuromorphic.energy.density import EnergyDensity, UntrustedDensityWarning
    from relaxon.neuromorphic.energy.distribution import EnergyDistribution
    from relaxon.neuromorphic.energy.energies import (
        ConvolutionalEnergy,
        ExponentialFamilyEnergy,
        MLPEnergy,
        PolynomialStatistics,
        QuadraticEnergy,
        TiltedEnergy,
    )
    from relaxon.neuromorphic.energy.exact import ExactMLE
    from relaxon.neuromorphic.energy.meco import MECO
    from relaxon.neuromorphic.energy.noise import GaussianNoise, Noise, StudentNoise, UniformNoise
    from relaxon.neuromorphic.energy.noise_adaptive import AdaptiveNoise, DefensiveNoise
    from relaxon.neuromorphic.energy.noise_fitted import KernelDensityNoise, MixtureNoise
    from relaxon.neuromorphic.energy.noise_flow import FlowNoise
    from relaxon.neuromorphic.energy.objectives import ENCE, NCE, SNL, Objective
    from relaxon.neuromorphic.energy.outliers import EnergyOutlierDetector
    from relaxon.neuromorphic.energy.quadrature import Quadrature
    from relaxon.neuromorphic.energy.score_matching import ScoreMatching
    from relaxon.neuromorphic.energy.store import load_energy, load_estimator, save_energy
    from relaxon.neuromorphic.energy.training import Ended, Progress, Record, TrainingResult, TrainingSettings, train

_HOME = {
    "AdaptiveNoise": "noise_adaptive",
    "ConvolutionalEnergy": "energies",
    "DefensiveNoise": "noise_adaptive",
    "ENCE": "objectives",
    "Ended": "training",
    "EnergyDensity": "density",
    "EnergyDistribution": "distribution",
    "EnergyOutlierDetector": "outliers",
    "EnergyRegressor": "conditional",
    "ExactMLE": "exact",
    "ExponentialFamilyEnergy": "energies",
    "FlowNoise": "noise_flow",
    "GaussianNoise": "noise",
    "KernelDensityNoise": "noise_fitted",
    "MECO": "meco",
    "MLPEnergy": "energies",
    "MixtureNoise": "noise_fitted",
    "NCE": "objectives",
    "Noise": "noise",
    "Objective": "objectives",
    "PlanarDensity": "datasets",
    "PolynomialStatistics": "energies",
    "Progress": "training",
    "QuadraticEnergy": "energies",
    "Quadrature": "quadrature",
    "Record": "training",
    "SNL": "objectives",
    "ScoreMatching": "score_matching",
    "StudentNoise": "noise",
    "TiltedEnergy": "energies",
    "TrainingResult": "training",
    "TrainingSettings": "training",
    "UniformNoise": "noise",
    "UntrustedDensityWarning": "density",
    "load_energy": "store",
    "load_estimator": "store",
    "planar": "datasets",
    "save_energy": "store",
    "train": "training",
}

__all__ = [
    "ENCE",
    "MECO",
    "NCE",
    "SNL",
    "AdaptiveNoise",
    "ConvolutionalEnergy",
    "DefensiveNoise",
    "Ended",
    "EnergyDensity",
    "EnergyDistribution",
    "EnergyOutlierDetector",
    "EnergyRegressor",
    "ExactMLE",
    "ExponentialFamilyEnergy",
    "FlowNoise",
    "GaussianNoise",
    "KernelDensityNoise",
    "MLPEnergy",
    "MixtureNoise",
    "Noise",
    "Objective",
    "PlanarDensity",
    "PolynomialStatistics",
    "Progress",
    "QuadraticEnergy",
    "Quadrature",
    "Record",
    "ScoreMatching",
    "StudentNoise",
    "TiltedEnergy",
    "TrainingResult",
    "TrainingSettings",
    "UniformNoise",
    "UntrustedDensityWarning",
    "load_energy",
    "load_estimator",
    "planar",
    "save_energy",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
