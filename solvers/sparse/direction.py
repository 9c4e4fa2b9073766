"""A search direction of the methods of conjugate directions."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray


class ConjugateDirection(NamedTuple):
    """A direction `d`, its image `A d`, its curvature `dᵀAd` and its projection `dᵀr`; arrays for several columns."""

    d: NDArray[Any]
    image: NDArray[Any]
    curvature: Any
    projection: Any
