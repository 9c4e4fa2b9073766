"""Equilibrium propagation: gradients measured from nudged equilibria, exact at finite nudges, symmetric or not.

Importing this package loads nothing heavy; torch comes with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium.activations import ACTIVATIONS, Activation
    from relaxon.neuromorphic.equilibrium.circuit import Circuit, OperatingPoint, operating_point, read_netlist
    from relaxon.neuromorphic.equilibrium.classifier import EquilibriumClassifier
    from relaxon.neuromorphic.equilibrium.comparison import Comparison, compare_gradients
    from relaxon.neuromorphic.equilibrium.convolutional import ConvolutionalNetwork
    from relaxon.neuromorphic.equilibrium.differentiable import equilibrium_state
    from relaxon.neuromorphic.equilibrium.estimators import (
        AsymmetricCauchy,
        Cauchy,
        Centred,
        ContinuousOscillation,
        Estimator,
        OneSided,
    )
    from relaxon.neuromorphic.equilibrium.exact_gradients import Implicit, RecurrentBackprop, Unrolled
    from relaxon.neuromorphic.equilibrium.gradients import gradient, predict
    from relaxon.neuromorphic.equilibrium.hardware import (
        Hardware,
        HardwareReport,
        hardware_costs,
        hardware_gradient,
        program,
    )
    from relaxon.neuromorphic.equilibrium.homeostasis import JacobianHomeostasis, antisymmetry
    from relaxon.neuromorphic.equilibrium.layered import LayeredNetwork
    from relaxon.neuromorphic.equilibrium.network import EnergyNetwork, HopfieldPotential, Network, VectorField
    from relaxon.neuromorphic.equilibrium.phases import Phases
    from relaxon.neuromorphic.equilibrium.presets import hopfield_resnet13, hopfield_resnet13_settings
    from relaxon.neuromorphic.equilibrium.readout import Readout
    from relaxon.neuromorphic.equilibrium.relaxation import Alternating, Anderson, FixedStep, Outcome, Relaxation
    from relaxon.neuromorphic.equilibrium.residual import ResidualNetwork
    from relaxon.neuromorphic.equilibrium.result import Gradient, Verdict
    from relaxon.neuromorphic.equilibrium.spice import write_netlist
    from relaxon.neuromorphic.equilibrium.store import load_network, save_network
    from relaxon.neuromorphic.equilibrium.training import train
    from relaxon.neuromorphic.equilibrium.training_report import TrainingReport
    from relaxon.neuromorphic.equilibrium.training_settings import TrainingSettings

_HOME = {
    "ACTIVATIONS": "activations",
    "Activation": "activations",
    "Alternating": "relaxation",
    "Anderson": "relaxation",
    "AsymmetricCauchy": "estimators",
    "Cauchy": "estimators",
    "Centred": "estimators",
    "Circuit": "circuit",
    "Comparison": "comparison",
    "ContinuousOscillation": "estimators",
    "ConvolutionalNetwork": "convolutional",
    "EnergyNetwork": "network",
    "EquilibriumClassifier": "classifier",
    "Estimator": "estimators",
    "FixedStep": "relaxation",
    "Gradient": "result",
    "Hardware": "hardware",
    "HardwareReport": "hardware",
    "HopfieldPotential": "network",
    "Implicit": "exact_gradients",
    "JacobianHomeostasis": "homeostasis",
    "LayeredNetwork": "layered",
    "Network": "network",
    "OneSided": "estimators",
    "OperatingPoint": "circuit",
    "Outcome": "relaxation",
    "Phases": "phases",
    "Readout": "readout",
    "RecurrentBackprop": "exact_gradients",
    "Relaxation": "relaxation",
    "ResidualNetwork": "residual",
    "TrainingReport": "training_report",
    "TrainingSettings": "training_settings",
    "Unrolled": "exact_gradients",
    "VectorField": "network",
    "Verdict": "result",
    "antisymmetry": "homeostasis",
    "compare_gradients": "comparison",
    "equilibrium_state": "differentiable",
    "gradient": "gradients",
    "hardware_costs": "hardware",
    "hardware_gradient": "hardware",
    "hopfield_resnet13": "presets",
    "hopfield_resnet13_settings": "presets",
    "load_network": "store",
    "operating_point": "circuit",
    "predict": "gradients",
    "program": "hardware",
    "read_netlist": "circuit",
    "save_network": "store",
    "train": "training",
    "write_netlist": "spice",
}

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
