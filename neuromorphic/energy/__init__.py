"""Energy-based models: unnormalised densities, trained by compositional optimisation and other objectives, with
log-densities whose reliability is assessed.

Importing this package loads nothing heavy; torch is imported with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.core.unseen_categories import UnseenCategoryWarning as UnseenCategoryWarning
    from relaxon.neuromorphic.energy.datasets import PlanarDensity as PlanarDensity
    from relaxon.neuromorphic.energy.datasets import planar as planar
    from relaxon.neuromorphic.energy.energies.families import ConvolutionalEnergy as ConvolutionalEnergy
    from relaxon.neuromorphic.energy.energies.families import ExponentialFamilyEnergy as ExponentialFamilyEnergy
    from relaxon.neuromorphic.energy.energies.families import MLPEnergy as MLPEnergy
    from relaxon.neuromorphic.energy.energies.families import PolynomialStatistics as PolynomialStatistics
    from relaxon.neuromorphic.energy.energies.families import QuadraticEnergy as QuadraticEnergy
    from relaxon.neuromorphic.energy.energies.families import TiltedEnergy as TiltedEnergy
    from relaxon.neuromorphic.energy.estimators.density import EnergyDensity as EnergyDensity
    from relaxon.neuromorphic.energy.estimators.density import UntrustedDensityWarning as UntrustedDensityWarning
    from relaxon.neuromorphic.energy.estimators.distribution import EnergyDistribution as EnergyDistribution
    from relaxon.neuromorphic.energy.estimators.loading import load_estimator as load_estimator
    from relaxon.neuromorphic.energy.estimators.outliers import EnergyOutlierDetector as EnergyOutlierDetector
    from relaxon.neuromorphic.energy.estimators.regressor import EnergyRegressor as EnergyRegressor
    from relaxon.neuromorphic.energy.noise.adaptive import AdaptiveNoise as AdaptiveNoise
    from relaxon.neuromorphic.energy.noise.adaptive import DefensiveNoise as DefensiveNoise
    from relaxon.neuromorphic.energy.noise.distributions import GaussianNoise as GaussianNoise
    from relaxon.neuromorphic.energy.noise.distributions import Noise as Noise
    from relaxon.neuromorphic.energy.noise.distributions import StudentNoise as StudentNoise
    from relaxon.neuromorphic.energy.noise.distributions import UniformNoise as UniformNoise
    from relaxon.neuromorphic.energy.noise.fitted import KernelDensityNoise as KernelDensityNoise
    from relaxon.neuromorphic.energy.noise.fitted import MixtureNoise as MixtureNoise
    from relaxon.neuromorphic.energy.noise.flow import FlowNoise as FlowNoise
    from relaxon.neuromorphic.energy.objectives.contrastive_divergence import PCD as PCD
    from relaxon.neuromorphic.energy.objectives.exact import ExactMLE as ExactMLE
    from relaxon.neuromorphic.energy.objectives.matching import EnergyMatching as EnergyMatching
    from relaxon.neuromorphic.energy.objectives.matching import EquilibriumMatching as EquilibriumMatching
    from relaxon.neuromorphic.energy.objectives.meco import MECO as MECO
    from relaxon.neuromorphic.energy.objectives.noise_contrastive import ENCE as ENCE
    from relaxon.neuromorphic.energy.objectives.noise_contrastive import NCE as NCE
    from relaxon.neuromorphic.energy.objectives.noise_contrastive import SNL as SNL
    from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective as Objective
    from relaxon.neuromorphic.energy.objectives.score_matching import ScoreMatching as ScoreMatching
    from relaxon.neuromorphic.energy.partition.annealing import AIS as AIS
    from relaxon.neuromorphic.energy.partition.bridge import Bridge as Bridge
    from relaxon.neuromorphic.energy.partition.importance_sampling import ImportanceSampling as ImportanceSampling
    from relaxon.neuromorphic.energy.partition.importance_weights import WeightStatistics as WeightStatistics
    from relaxon.neuromorphic.energy.partition.importance_weights import pareto_k as pareto_k
    from relaxon.neuromorphic.energy.partition.importance_weights import weight_statistics as weight_statistics
    from relaxon.neuromorphic.energy.partition.log_partition import LogPartition as LogPartition
    from relaxon.neuromorphic.energy.partition.log_partition import log_partition as log_partition
    from relaxon.neuromorphic.energy.partition.quadrature import Quadrature as Quadrature
    from relaxon.neuromorphic.energy.samplers.chains import Chains as Chains
    from relaxon.neuromorphic.energy.samplers.chains import Mixing as Mixing
    from relaxon.neuromorphic.energy.samplers.convergence import (
        bulk_effective_sample_size as bulk_effective_sample_size,
    )
    from relaxon.neuromorphic.energy.samplers.convergence import r_hat as r_hat
    from relaxon.neuromorphic.energy.samplers.euclidean import HMC as HMC
    from relaxon.neuromorphic.energy.samplers.euclidean import MALA as MALA
    from relaxon.neuromorphic.energy.samplers.euclidean import ULA as ULA
    from relaxon.neuromorphic.energy.samplers.riemannian import RiemannianHMC as RiemannianHMC
    from relaxon.neuromorphic.energy.samplers.transitions import Box as Box
    from relaxon.neuromorphic.energy.storage import load_energy as load_energy
    from relaxon.neuromorphic.energy.storage import save_energy as save_energy
    from relaxon.neuromorphic.energy.training.loop import Ended as Ended
    from relaxon.neuromorphic.energy.training.loop import Progress as Progress
    from relaxon.neuromorphic.energy.training.loop import Record as Record
    from relaxon.neuromorphic.energy.training.loop import TrainingResult as TrainingResult
    from relaxon.neuromorphic.energy.training.loop import train as train
    from relaxon.neuromorphic.energy.training.settings import TrainingSettings as TrainingSettings

__getattr__, __dir__ = offer_imports(__name__)
