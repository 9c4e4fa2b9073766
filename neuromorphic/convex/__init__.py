"""Two-layer ReLU networks trained to the global optimum of a convex program, with a certificate of it.

Importing this package loads nothing; scikit-learn and Numba come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.convex.admm import ConvexHistory, ConvexOutcome, ConvexProgress
    from relaxon.neuromorphic.convex.certificate import ConvexCertificate
    from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier
    from relaxon.neuromorphic.convex.network import ConvexNetwork
    from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor
    from relaxon.neuromorphic.convex.storage import load

_HOME = {
    "ConvexCertificate": "certificate",
    "ConvexHistory": "admm",
    "ConvexNetwork": "network",
    "ConvexNetworkClassifier": "classifier",
    "ConvexNetworkRegressor": "regressor",
    "ConvexOutcome": "admm",
    "ConvexProgress": "admm",
    "load": "storage",
}

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
