"""Energy-based models: unnormalised densities, trained by compositional optimisation and its rivals, with a log-density
that says how far it can be trusted.

Importing this package loads nothing heavy; torch comes with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.annealing import AIS
    from relaxon.neuromorphic.energy.bridge import Bridge
    from relaxon.neuromorphic.energy.chains import Chains, Mixing
    from relaxon.neuromorphic.energy.conditional import EnergyRegressor
    from relaxon.neuromorphic.energy.contrastive_divergence import PCD
    from relaxon.neuromorphic.energy.datasets import PlanarDensity, planar
    from relaxon.neuromorphic.energy.density import EnergyDensity, UntrustedDensityWarning
    from relaxon.neuromorphic.energy.diagnostics import bulk_effective_sample_size, r_hat
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
    from relaxon.neuromorphic.energy.importance import WeightStatistics, pareto_k, weight_statistics
    from relaxon.neuromorphic.energy.importance_sampling import ImportanceSampling
    from relaxon.neuromorphic.energy.matching import EnergyMatching, EquilibriumMatching
    from relaxon.neuromorphic.energy.meco import MECO
    from relaxon.neuromorphic.energy.noise import GaussianNoise, Noise, StudentNoise, UniformNoise
    from relaxon.neuromorphic.energy.noise_adaptive import AdaptiveNoise, DefensiveNoise
    from relaxon.neuromorphic.energy.noise_fitted import KernelDensityNoise, MixtureNoise
    from relaxon.neuromorphic.energy.noise_flow import FlowNoise
    from relaxon.neuromorphic.energy.objectives import ENCE, NCE, SNL, Objective
    from relaxon.neuromorphic.energy.outliers import EnergyOutlierDetector
    from relaxon.neuromorphic.energy.partition import LogPartition, log_partition
    from relaxon.neuromorphic.energy.quadrature import Quadrature
    from relaxon.neuromorphic.energy.riemannian import RiemannianHMC
    from relaxon.neuromorphic.energy.samplers import HMC, MALA, ULA
    from relaxon.neuromorphic.energy.score_matching import ScoreMatching
    from relaxon.neuromorphic.energy.store import load_energy, load_estimator, save_energy
    from relaxon.neuromorphic.energy.training import Ended, Progress, Record, TrainingResult, train
    from relaxon.neuromorphic.energy.training_settings import TrainingSettings
    from relaxon.neuromorphic.energy.transitions import Box

_HOME = {
    "AIS": "annealing",
    "AdaptiveNoise": "noise_adaptive",
    "Box": "transitions",
    "Bridge": "bridge",
    "Chains": "chains",
    "ConvolutionalEnergy": "energies",
    "DefensiveNoise": "noise_adaptive",
    "ENCE": "objectives",
    "Ended": "training",
    "EnergyDensity": "density",
    "EnergyDistribution": "distribution",
    "EnergyMatching": "matching",
    "EnergyOutlierDetector": "outliers",
    "EnergyRegressor": "conditional",
    "EquilibriumMatching": "matching",
    "ExactMLE": "exact",
    "ExponentialFamilyEnergy": "energies",
    "FlowNoise": "noise_flow",
    "GaussianNoise": "noise",
    "HMC": "samplers",
    "ImportanceSampling": "importance_sampling",
    "KernelDensityNoise": "noise_fitted",
    "LogPartition": "partition",
    "MALA": "samplers",
    "MECO": "meco",
    "MLPEnergy": "energies",
    "Mixing": "chains",
    "MixtureNoise": "noise_fitted",
    "NCE": "objectives",
    "Noise": "noise",
    "Objective": "objectives",
    "PCD": "contrastive_divergence",
    "PlanarDensity": "datasets",
    "PolynomialStatistics": "energies",
    "Progress": "training",
    "QuadraticEnergy": "energies",
    "Quadrature": "quadrature",
    "Record": "training",
    "RiemannianHMC": "riemannian",
    "SNL": "objectives",
    "ScoreMatching": "score_matching",
    "StudentNoise": "noise",
    "TiltedEnergy": "energies",
    "TrainingResult": "training",
    "TrainingSettings": "training_settings",
    "ULA": "samplers",
    "UniformNoise": "noise",
    "WeightStatistics": "importance",
    "bulk_effective_sample_size": "diagnostics",
    "UntrustedDensityWarning": "density",
    "load_energy": "store",
    "load_estimator": "store",
    "log_partition": "partition",
    "pareto_k": "importance",
    "planar": "datasets",
    "r_hat": "diagnostics",
    "save_energy": "store",
    "train": "training",
    "weight_statistics": "importance",
}

__all__ = [
    "AIS",
    "ENCE",
    "HMC",
    "MALA",
    "MECO",
    "NCE",
    "PCD",
    "SNL",
    "ULA",
    "AdaptiveNoise",
    "Box",
    "Bridge",
    "Chains",
    "ConvolutionalEnergy",
    "DefensiveNoise",
    "Ended",
    "EnergyDensity",
    "EnergyDistribution",
    "EnergyMatching",
    "EnergyOutlierDetector",
    "EnergyRegressor",
    "EquilibriumMatching",
    "ExactMLE",
    "ExponentialFamilyEnergy",
    "FlowNoise",
    "GaussianNoise",
    "ImportanceSampling",
    "KernelDensityNoise",
    "LogPartition",
    "MLPEnergy",
    "Mixing",
    "MixtureNoise",
    "Noise",
    "Objective",
    "PlanarDensity",
    "PolynomialStatistics",
    "Progress",
    "QuadraticEnergy",
    "Quadrature",
    "Record",
    "RiemannianHMC",
    "ScoreMatching",
    "StudentNoise",
    "TiltedEnergy",
    "TrainingResult",
    "TrainingSettings",
    "UniformNoise",
    "UntrustedDensityWarning",
    "WeightStatistics",
    "bulk_effective_sample_size",
    "load_energy",
    "load_estimator",
    "log_partition",
    "pareto_k",
    "planar",
    "r_hat",
    "save_energy",
    "train",
    "weight_statistics",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
