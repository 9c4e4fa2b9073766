"""The Radon transform in parallel-beam geometry, as a sparse matrix of strip integrals."""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.neuromorphic.proximal.forward.operators import Array, ForwardOperator, check_shape

NARROW = 1e-9
"""Width below which a pixel's shadow along an axis counts as a point."""


class RadonOperator(ForwardOperator):
    """Integrals of an image over strips: one row of `output_shape = (angles, detectors)` for each angle.

    Pixels and detectors have width 1; the image's centre is projected to the middle of the row of detectors. At an
    angle θ the pixel at (row r, column c), centred, lies at `t = c cos θ + r sin θ`. An entry of the matrix is the area
    of the pixel inside the detector's strip, exactly (the strip model; Kak, Slaney 1988, chapter 7).

    Parameters
    ----------
    shape : `(height, width)` of the image.
    angles : one or more angles in degrees.
    detectors : number of strips; None for enough to cover the image's diagonal.

    Raises `TypeError` or `ValueError` naming the argument.

    >>> import numpy as np
    >>> RadonOperator((2, 2), [0.0], 2).apply(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[4.0, 6.0]]
    """

    name = "radon"

    def __init__(self, shape: Sequence[int], angles: ArrayLike, detectors: int | None = None) -> None:
        self.input_shape = check_shape("shape", shape)
        if len(self.input_shape) != 2:
            raise ValueError(f"shape must have 2 axes, got {self.input_shape}")
        self.angles: Array = np.array(validation.real_array("angles", angles), np.float64)
        if self.angles.ndim != 1 or not len(self.angles):
            raise ValueError(f"angles must have one axis with at least one entry, got shape {self.angles.shape}")
        whole = math.ceil(math.hypot(*self.input_shape)) + 1
        self.detectors = whole if detectors is None else validation.positive_int("detectors", detectors)
        self.output_shape = (len(self.angles), self.detectors)

    @cached_property
    def matrix(self) -> Any:
        """The operator between flat arrays, as a SciPy CSR matrix."""
        from scipy.sparse import coo_matrix

        height, width = self.input_shape
        rows = (np.arange(height) - (height - 1) / 2)[:, None]
        columns = (np.arange(width) - (width - 1) / 2)[None, :]
        pixels = np.arange(height * width)
        places: list[NDArray[np.int64]] = []
        sources: list[NDArray[np.int64]] = []
        areas: list[Array] = []
        for index, angle in enumerate(np.deg2rad(self.angles)):
            cosine, sine = math.cos(angle), math.sin(angle)
            centres = (columns * cosine + rows * sine).ravel() + self.detectors / 2
            reach = (abs(cosine) + abs(sine)) / 2
            first = np.floor(centres - reach).astype(np.int64)
            for offset in range(math.ceil(2 * reach) + 1):
                strip = first + offset
                area = _integrate_shadow(strip + 1 - centres, cosine, sine) - _integrate_shadow(
                    strip - centres, cosine, sine
                )
                inside = (strip >= 0) & (strip < self.detectors) & (area > 0)
                places.append(index * self.detectors + strip[inside])
                sources.append(pixels[inside])
                areas.append(area[inside])
        entries = (np.concatenate(areas), (np.concatenate(places), np.concatenate(sources)))
        return coo_matrix(entries, shape=(math.prod(self.output_shape), height * width)).tocsr()

    def _apply(self, x: Array) -> Array:
        return np.asarray((self.matrix @ x.ravel()).reshape(self.output_shape))

    def _adjoint(self, y: Array) -> Array:
        return np.asarray((self._transposed @ y.ravel()).reshape(self.input_shape))

    @cached_property
    def _transposed(self) -> Any:
        return self.matrix.T.tocsr()


def _integrate_shadow(t: Array, cosine: float, sine: float) -> Array:
    """Return the part of a unit pixel's area that is projected below t; the shadow is a trapezoid around 0."""
    wide, narrow = sorted((abs(cosine), abs(sine)), reverse=True)
    if narrow < NARROW:
        return np.asarray(np.clip(t / wide + 0.5, 0.0, 1.0))
    a, b = (wide + narrow) / 2, (wide - narrow) / 2
    total = sum(sign * np.maximum(t + edge, 0.0) ** 2 for sign, edge in ((1, a), (-1, b), (-1, -b), (1, -a)))
    return np.asarray(total) / (2 * wide * narrow)
