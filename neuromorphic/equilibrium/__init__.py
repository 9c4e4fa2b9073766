"""Equilibrium propagation: gradients measured from nudged equilibria, for symmetric and asymmetric networks.

Importing this package is cheap; torch is loaded with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium.classifier.estimator import EquilibriumClassifier
    from relaxon.neuromorphic.equilibrium.estimators.comparison import Comparison, compare_gradients
    from relaxon.neuromorphic.equilibrium.estimators.differentiable import equilibrium_state
    from relaxon.neuromorphic.equilibrium.estimators.exact import Implicit, RecurrentBackprop, Unrolled
    from relaxon.neuromorphic.equilibrium.estimators.gradients import gradient, predict
    from relaxon.neuromorphic.equilibrium.estimators.nudged import (
        AsymmetricCauchy,
        Cauchy,
        Centred,
        ContinuousOscillation,
        Estimator,
        OneSided,
    )
    from relaxon.neuromorphic.equilibrium.estimators.result import Gradient, Verdict
    from relaxon.neuromorphic.equilibrium.estimators.trajectories import TrajectoryGradient, TrajectoryProblem
    from relaxon.neuromorphic.equilibrium.hardware.circuit import Circuit, OperatingPoint, operating_point, read_netlist
    from relaxon.neuromorphic.equilibrium.hardware.limits import (
        Hardware,
        HardwareReport,
        hardware_costs,
        hardware_gradient,
        program,
    )
    from relaxon.neuromorphic.equilibrium.hardware.netlists import write_netlist
    from relaxon.neuromorphic.equilibrium.networks.activations import ACTIVATIONS, Activation
    from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork
    from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
    from relaxon.neuromorphic.equilibrium.networks.network import EnergyNetwork, HopfieldPotential, Network, VectorField
    from relaxon.neuromorphic.equilibrium.networks.residual import ResidualNetwork
    from relaxon.neuromorphic.equilibrium.networks.storage import load_network, save_network
    from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
    from relaxon.neuromorphic.equilibrium.relaxation.readout import Readout
    from relaxon.neuromorphic.equilibrium.relaxation.relaxers import (
        Alternating,
        Anderson,
        FixedStep,
        Outcome,
        Relaxation,
    )
    from relaxon.neuromorphic.equilibrium.training.homeostasis import JacobianHomeostasis, antisymmetry
    from relaxon.neuromorphic.equilibrium.training.loop import train
    from relaxon.neuromorphic.equilibrium.training.presets import hopfield_resnet13, hopfield_resnet13_settings
    from relaxon.neuromorphic.equilibrium.training.report import TrainingReport
    from relaxon.neuromorphic.equilibrium.training.settings import TrainingSettings

_NAMES = {
    "classifier.estimator": ("EquilibriumClassifier",),
    "estimators.comparison": ("Comparison", "compare_gradients"),
    "estimators.differentiable": ("equilibrium_state",),
    "estimators.exact": ("Implicit", "RecurrentBackprop", "Unrolled"),
    "estimators.gradients": ("gradient", "predict"),
    "estimators.nudged": ("AsymmetricCauchy", "Cauchy", "Centred", "ContinuousOscillation", "Estimator", "OneSided"),
    "estimators.result": ("Gradient", "Verdict"),
    "estimators.trajectories": ("TrajectoryGradient", "TrajectoryProblem"),
    "hardware.circuit": ("Circuit", "OperatingPoint", "operating_point", "read_netlist"),
    "hardware.limits": ("Hardware", "HardwareReport", "hardware_costs", "hardware_gradient", "program"),
    "hardware.netlists": ("write_netlist",),
    "networks.activations": ("ACTIVATIONS", "Activation"),
    "networks.convolutional": ("ConvolutionalNetwork",),
    "networks.layered": ("LayeredNetwork",),
    "networks.network": ("EnergyNetwork", "HopfieldPotential", "Network", "VectorField"),
    "networks.residual": ("ResidualNetwork",),
    "networks.storage": ("load_network", "save_network"),
    "relaxation.phases": ("Phases",),
    "relaxation.readout": ("Readout",),
    "relaxation.relaxers": ("Alternating", "Anderson", "FixedStep", "Outcome", "Relaxation"),
    "training.homeostasis": ("JacobianHomeostasis", "antisymmetry"),
    "training.loop": ("train",),
    "training.presets": ("hopfield_resnet13", "hopfield_resnet13_settings"),
    "training.report": ("TrainingReport",),
    "training.settings": ("TrainingSettings",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Alternating",
    "Anderson",
    "AsymmetricCauchy",
    "Cauchy",
    "Centred",
    "Circuit",
    "Comparison",
    "ContinuousOscillation",
    "ConvolutionalNetwork",
    "EnergyNetwork",
    "EquilibriumClassifier",
    "Estimator",
    "FixedStep",
    "Gradient",
    "Hardware",
    "HardwareReport",
    "HopfieldPotential",
    "Implicit",
    "JacobianHomeostasis",
    "LayeredNetwork",
    "Network",
    "OneSided",
    "OperatingPoint",
    "Outcome",
    "Phases",
    "Readout",
    "RecurrentBackprop",
    "Relaxation",
    "ResidualNetwork",
    "TrainingReport",
    "TrainingSettings",
    "TrajectoryGradient",
    "TrajectoryProblem",
    "Unrolled",
    "VectorField",
    "Verdict",
    "antisymmetry",
    "compare_gradients",
    "equilibrium_state",
    "gradient",
    "hardware_costs",
    "hardware_gradient",
    "hopfield_resnet13",
    "hopfield_resnet13_settings",
    "load_network",
    "operating_point",
    "predict",
    "program",
    "read_netlist",
    "save_network",
    "train",
    "write_netlist",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
