"""Diagnostics of training data and networks, for any torch module and for the project's networks.

They are scores of rows, coherence of gradients, groups of rows with opposing signals, a test of input gradients, and
the geometry of hidden layers. Importing this package is cheap; torch is loaded with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.diagnostics.agreement import GradientCoherence, coherence
    from relaxon.neuromorphic.diagnostics.blocks import BlockDigits, block_digits
    from relaxon.neuromorphic.diagnostics.geometry import RepresentationGeometry, representation_geometry
    from relaxon.neuromorphic.diagnostics.gradients import GradientChunk, per_sample_gradients
    from relaxon.neuromorphic.diagnostics.opposing import OpposingSignals, opposing_signals
    from relaxon.neuromorphic.diagnostics.roar import InputGradientRoar, input_gradient_roar, input_gradients
    from relaxon.neuromorphic.diagnostics.scores import RowScores, el2n, grand
    from relaxon.neuromorphic.diagnostics.snapshots import Snapshots, SnapshotSettings, train_snapshots, train_starts
    from relaxon.neuromorphic.diagnostics.subjects import TorchExportable

_NAMES = {
    "agreement": ("GradientCoherence", "coherence"),
    "blocks": ("BlockDigits", "block_digits"),
    "geometry": ("RepresentationGeometry", "representation_geometry"),
    "gradients": ("GradientChunk", "per_sample_gradients"),
    "opposing": ("OpposingSignals", "opposing_signals"),
    "roar": ("InputGradientRoar", "input_gradient_roar", "input_gradients"),
    "scores": ("RowScores", "el2n", "grand"),
    "snapshots": ("SnapshotSettings", "Snapshots", "train_snapshots", "train_starts"),
    "subjects": ("TorchExportable",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "BlockDigits",
    "GradientChunk",
    "GradientCoherence",
    "InputGradientRoar",
    "OpposingSignals",
    "RepresentationGeometry",
    "RowScores",
    "SnapshotSettings",
    "Snapshots",
    "TorchExportable",
    "block_digits",
    "coherence",
    "el2n",
    "grand",
    "input_gradient_roar",
    "input_gradients",
    "opposing_signals",
    "per_sample_gradients",
    "representation_geometry",
    "train_snapshots",
    "train_starts",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
