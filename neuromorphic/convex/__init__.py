"""Two-layer ReLU networks trained to the global optimum of a convex program, with a certificate of it.

Importing this package loads nothing; scikit-learn and Numba come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier
    from relaxon.neuromorphic.convex.network import ConvexNetwork
    from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor
    from relaxon.neuromorphic.convex.solving.admm import ConvexHistory, ConvexOutcome, ConvexProgress
    from relaxon.neuromorphic.convex.solving.certificate import ConvexCertificate
    from relaxon.neuromorphic.convex.storage import load

_NAMES = {
    "classifier": ("ConvexNetworkClassifier",),
    "network": ("ConvexNetwork",),
    "regressor": ("ConvexNetworkRegressor",),
    "solving.admm": ("ConvexHistory", "ConvexOutcome", "ConvexProgress"),
    "solving.certificate": ("ConvexCertificate",),
    "storage": ("load",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ConvexCertificate",
    "ConvexHistory",
    "ConvexNetwork",
    "ConvexNetworkClassifier",
    "ConvexNetworkRegressor",
    "ConvexOutcome",
    "ConvexProgress",
    "load",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
