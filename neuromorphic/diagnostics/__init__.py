"""Diagnostics of training data and networks, for any torch module and for the project's networks.

They are scores of rows, coherence of gradients, groups of rows with opposing signals, a test of input gradients, and
the geometry of hidden layers. Importing this package is cheap; torch is loaded with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.neuromorphic.diagnostics.agreement import GradientCoherence as GradientCoherence
    from relaxon.neuromorphic.diagnostics.agreement import coherence as coherence
    from relaxon.neuromorphic.diagnostics.blocks import BlockDigits as BlockDigits
    from relaxon.neuromorphic.diagnostics.blocks import block_digits as block_digits
    from relaxon.neuromorphic.diagnostics.geometry import RepresentationGeometry as RepresentationGeometry
    from relaxon.neuromorphic.diagnostics.geometry import representation_geometry as representation_geometry
    from relaxon.neuromorphic.diagnostics.gradients import GradientChunk as GradientChunk
    from relaxon.neuromorphic.diagnostics.gradients import per_sample_gradients as per_sample_gradients
    from relaxon.neuromorphic.diagnostics.opposing import OpposingSignals as OpposingSignals
    from relaxon.neuromorphic.diagnostics.opposing import opposing_signals as opposing_signals
    from relaxon.neuromorphic.diagnostics.roar import InputGradientRoar as InputGradientRoar
    from relaxon.neuromorphic.diagnostics.roar import input_gradient_roar as input_gradient_roar
    from relaxon.neuromorphic.diagnostics.roar import input_gradients as input_gradients
    from relaxon.neuromorphic.diagnostics.scores import RowScores as RowScores
    from relaxon.neuromorphic.diagnostics.scores import el2n as el2n
    from relaxon.neuromorphic.diagnostics.scores import grand as grand
    from relaxon.neuromorphic.diagnostics.snapshots import Snapshots as Snapshots
    from relaxon.neuromorphic.diagnostics.snapshots import SnapshotSettings as SnapshotSettings
    from relaxon.neuromorphic.diagnostics.snapshots import train_snapshots as train_snapshots
    from relaxon.neuromorphic.diagnostics.snapshots import train_starts as train_starts
    from relaxon.neuromorphic.diagnostics.subjects import TorchExportable as TorchExportable

__getattr__, __dir__ = offer_imports(__name__)
