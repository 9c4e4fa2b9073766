"""Two-layer ReLU networks trained to the global optimum of a convex program, with a certificate of it.

Importing this package loads nothing; scikit-learn and Numba come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relaxon.solvers.extras import load_attribute

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = load_attribute(f"{__name__}.{_HOME[name]}", name, f"{__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
