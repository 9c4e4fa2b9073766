"""Equilibrium propagation: gradients measured from nudged equilibria, for symmetric and asymmetric networks.

Importing this package is cheap; torch is loaded with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium.classifier.estimator import EquilibriumClassifier as EquilibriumClassifier
    from relaxon.neuromorphic.equilibrium.estimators.comparison import Comparison as Comparison
    from relaxon.neuromorphic.equilibrium.estimators.comparison import compare_gradients as compare_gradients
    from relaxon.neuromorphic.equilibrium.estimators.differentiable import equilibrium_state as equilibrium_state
    from relaxon.neuromorphic.equilibrium.estimators.exact import Implicit as Implicit
    from relaxon.neuromorphic.equilibrium.estimators.exact import RecurrentBackprop as RecurrentBackprop
    from relaxon.neuromorphic.equilibrium.estimators.exact import Unrolled as Unrolled
    from relaxon.neuromorphic.equilibrium.estimators.gradients import gradient as gradient
    from relaxon.neuromorphic.equilibrium.estimators.gradients import predict as predict
    from relaxon.neuromorphic.equilibrium.estimators.nudged import AsymmetricCauchy as AsymmetricCauchy
    from relaxon.neuromorphic.equilibrium.estimators.nudged import Cauchy as Cauchy
    from relaxon.neuromorphic.equilibrium.estimators.nudged import Centred as Centred
    from relaxon.neuromorphic.equilibrium.estimators.nudged import ContinuousOscillation as ContinuousOscillation
    from relaxon.neuromorphic.equilibrium.estimators.nudged import Estimator as Estimator
    from relaxon.neuromorphic.equilibrium.estimators.nudged import OneSided as OneSided
    from relaxon.neuromorphic.equilibrium.estimators.result import Gradient as Gradient
    from relaxon.neuromorphic.equilibrium.estimators.result import Verdict as Verdict
    from relaxon.neuromorphic.equilibrium.hardware.circuit import Circuit as Circuit
    from relaxon.neuromorphic.equilibrium.hardware.circuit import OperatingPoint as OperatingPoint
    from relaxon.neuromorphic.equilibrium.hardware.circuit import operating_point as operating_point
    from relaxon.neuromorphic.equilibrium.hardware.circuit import read_netlist as read_netlist
    from relaxon.neuromorphic.equilibrium.hardware.limits import Hardware as Hardware
    from relaxon.neuromorphic.equilibrium.hardware.limits import HardwareReport as HardwareReport
    from relaxon.neuromorphic.equilibrium.hardware.limits import hardware_costs as hardware_costs
    from relaxon.neuromorphic.equilibrium.hardware.limits import hardware_gradient as hardware_gradient
    from relaxon.neuromorphic.equilibrium.hardware.limits import program as program
    from relaxon.neuromorphic.equilibrium.hardware.netlists import write_netlist as write_netlist
    from relaxon.neuromorphic.equilibrium.networks.activations import ACTIVATIONS as ACTIVATIONS
    from relaxon.neuromorphic.equilibrium.networks.activations import Activation as Activation
    from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork as ConvolutionalNetwork
    from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork as LayeredNetwork
    from relaxon.neuromorphic.equilibrium.networks.network import EnergyNetwork as EnergyNetwork
    from relaxon.neuromorphic.equilibrium.networks.network import HopfieldPotential as HopfieldPotential
    from relaxon.neuromorphic.equilibrium.networks.network import Network as Network
    from relaxon.neuromorphic.equilibrium.networks.network import VectorField as VectorField
    from relaxon.neuromorphic.equilibrium.networks.residual import ResidualNetwork as ResidualNetwork
    from relaxon.neuromorphic.equilibrium.networks.storage import load_network as load_network
    from relaxon.neuromorphic.equilibrium.networks.storage import save_network as save_network
    from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases as Phases
    from relaxon.neuromorphic.equilibrium.relaxation.readout import Readout as Readout
    from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Alternating as Alternating
    from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Anderson as Anderson
    from relaxon.neuromorphic.equilibrium.relaxation.relaxers import FixedStep as FixedStep
    from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Outcome as Outcome
    from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Relaxation as Relaxation
    from relaxon.neuromorphic.equilibrium.training.homeostasis import JacobianHomeostasis as JacobianHomeostasis
    from relaxon.neuromorphic.equilibrium.training.homeostasis import antisymmetry as antisymmetry
    from relaxon.neuromorphic.equilibrium.training.loop import train as train
    from relaxon.neuromorphic.equilibrium.training.presets import hopfield_resnet13 as hopfield_resnet13
    from relaxon.neuromorphic.equilibrium.training.presets import (
        hopfield_resnet13_settings as hopfield_resnet13_settings,
    )
    from relaxon.neuromorphic.equilibrium.training.report import TrainingReport as TrainingReport
    from relaxon.neuromorphic.equilibrium.training.settings import TrainingSettings as TrainingSettings

__getattr__, __dir__ = offer_imports(__name__)
