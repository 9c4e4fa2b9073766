"""Two-layer ReLU networks trained to the global optimum of a convex program, with a certificate of it.

Importing this package loads nothing; scikit-learn and Numba come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier as ConvexNetworkClassifier
    from relaxon.neuromorphic.convex.network import ConvexNetwork as ConvexNetwork
    from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor as ConvexNetworkRegressor
    from relaxon.neuromorphic.convex.solving.admm import ConvexHistory as ConvexHistory
    from relaxon.neuromorphic.convex.solving.admm import ConvexOutcome as ConvexOutcome
    from relaxon.neuromorphic.convex.solving.admm import ConvexProgress as ConvexProgress
    from relaxon.neuromorphic.convex.solving.certificate import ConvexCertificate as ConvexCertificate
    from relaxon.neuromorphic.convex.storage import load as load

__getattr__, __dir__ = offer_imports(__name__)
