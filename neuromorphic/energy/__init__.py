"""Energy-based models: unnormalised densities, trained by compositional optimisation and its rivals, with a log-density
that says how far it can be trusted.

Importing this package loads nothing heavy; torch comes with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.datasets import PlanarDensity, planar
    from relaxon.neuromorphic.energy.energies.families import (
        ConvolutionalEnergy,
        ExponentialFamilyEnergy,
        MLPEnergy,
        PolynomialStatistics,
        QuadraticEnergy,
        TiltedEnergy,
    )
    from relaxon.neuromorphic.energy.estimators.density import EnergyDensity, UntrustedDensityWarning
    from relaxon.neuromorphic.energy.estimators.distribution import EnergyDistribution
    from relaxon.neuromorphic.energy.estimators.outliers import EnergyOutlierDetector
    from relaxon.neuromorphic.energy.estimators.regressor import EnergyRegressor
    from relaxon.neuromorphic.energy.noise.adaptive import AdaptiveNoise, DefensiveNoise
    from relaxon.neuromorphic.energy.noise.distributions import GaussianNoise, Noise, StudentNoise, UniformNoise
    from relaxon.neuromorphic.energy.noise.fitted import KernelDensityNoise, MixtureNoise
    from relaxon.neuromorphic.energy.noise.flow import FlowNoise
    from relaxon.neuromorphic.energy.objectives.contrastive_divergence import PCD
    from relaxon.neuromorphic.energy.objectives.exact import ExactMLE
    from relaxon.neuromorphic.energy.objectives.matching import EnergyMatching, EquilibriumMatching
    from relaxon.neuromorphic.energy.objectives.meco import MECO
    from relaxon.neuromorphic.energy.objectives.noise_contrastive import ENCE, NCE, SNL, Objective
    from relaxon.neuromorphic.energy.objectives.score_matching import ScoreMatching
    from relaxon.neuromorphic.energy.partition.annealing import AIS
    from relaxon.neuromorphic.energy.partition.bridge import Bridge
    from relaxon.neuromorphic.energy.partition.importance_sampling import ImportanceSampling
    from relaxon.neuromorphic.energy.partition.importance_weights import WeightStatistics, pareto_k, weight_statistics
    from relaxon.neuromorphic.energy.partition.log_partition import LogPartition, log_partition
    from relaxon.neuromorphic.energy.partition.quadrature import Quadrature
    from relaxon.neuromorphic.energy.samplers.chains import Chains, Mixing
    from relaxon.neuromorphic.energy.samplers.convergence import bulk_effective_sample_size, r_hat
    from relaxon.neuromorphic.energy.samplers.euclidean import HMC, MALA, ULA
    from relaxon.neuromorphic.energy.samplers.riemannian import RiemannianHMC
    from relaxon.neuromorphic.energy.samplers.transitions import Box
    from relaxon.neuromorphic.energy.storage import load_energy, load_estimator, save_energy
    from relaxon.neuromorphic.energy.training.loop import Ended, Progress, Record, TrainingResult, train
    from relaxon.neuromorphic.energy.training.settings import TrainingSettings

_HOME = {
    "AIS": "partition.annealing",
    "AdaptiveNoise": "noise.adaptive",
    "Box": "samplers.transitions",
    "Bridge": "partition.bridge",
    "Chains": "samplers.chains",
    "ConvolutionalEnergy": "energies.families",
    "DefensiveNoise": "noise.adaptive",
    "ENCE": "objectives.noise_contrastive",
    "Ended": "training.loop",
    "EnergyDensity": "estimators.density",
    "EnergyDistribution": "estimators.distribution",
    "EnergyMatching": "objectives.matching",
    "EnergyOutlierDetector": "estimators.outliers",
    "EnergyRegressor": "estimators.regressor",
    "EquilibriumMatching": "objectives.matching",
    "ExactMLE": "objectives.exact",
    "ExponentialFamilyEnergy": "energies.families",
    "FlowNoise": "noise.flow",
    "GaussianNoise": "noise.distributions",
    "HMC": "samplers.euclidean",
    "ImportanceSampling": "partition.importance_sampling",
    "KernelDensityNoise": "noise.fitted",
    "LogPartition": "partition.log_partition",
    "MALA": "samplers.euclidean",
    "MECO": "objectives.meco",
    "MLPEnergy": "energies.families",
    "Mixing": "samplers.chains",
    "MixtureNoise": "noise.fitted",
    "NCE": "objectives.noise_contrastive",
    "Noise": "noise.distributions",
    "Objective": "objectives.noise_contrastive",
    "PCD": "objectives.contrastive_divergence",
    "PlanarDensity": "datasets",
    "PolynomialStatistics": "energies.families",
    "Progress": "training.loop",
    "QuadraticEnergy": "energies.families",
    "Quadrature": "partition.quadrature",
    "Record": "training.loop",
    "RiemannianHMC": "samplers.riemannian",
    "SNL": "objectives.noise_contrastive",
    "ScoreMatching": "objectives.score_matching",
    "StudentNoise": "noise.distributions",
    "TiltedEnergy": "energies.families",
    "TrainingResult": "training.loop",
    "TrainingSettings": "training.settings",
    "ULA": "samplers.euclidean",
    "UniformNoise": "noise.distributions",
    "WeightStatistics": "partition.importance_weights",
    "bulk_effective_sample_size": "samplers.convergence",
    "UntrustedDensityWarning": "estimators.density",
    "load_energy": "storage",
    "load_estimator": "storage",
    "log_partition": "partition.log_partition",
    "pareto_k": "partition.importance_weights",
    "planar": "datasets",
    "r_hat": "samplers.convergence",
    "save_energy": "storage",
    "train": "training.loop",
    "weight_statistics": "partition.importance_weights",
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
