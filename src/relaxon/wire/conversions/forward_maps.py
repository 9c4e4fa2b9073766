"""Forward maps of inverse problems: the descriptions from which the server builds operators, and their arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.masked import plain_array
from relaxon.proto import proximal_pb2 as pb
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.wire import tensors
from relaxon.wire.conversions.fields import check_text
from relaxon.wire.conversions.grid import arrays_of, grid_header

Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class IdentityMap:
    """The signal itself: denoising."""

    def describe(self, _: str) -> tuple[pb.ForwardMap, Arrays]:
        """Return the message that describes the map and the arrays that follow."""
        return pb.ForwardMap(identity=pb.IdentityMap()), ()


@dataclass(frozen=True, slots=True, eq=False)
class MaskMap:
    """The observed entries of a signal, as a vector in C order: `observed` is boolean, True where there is a value."""

    observed: ArrayLike

    def describe(self, name: str) -> tuple[pb.ForwardMap, Arrays]:
        """Return the message that describes the map and the arrays that follow; refusals call it `name`."""
        array = plain_array(f"{name}.observed", self.observed)
        if array.dtype != np.bool_:
            raise TypeError(f"{name}.observed must be boolean, got dtype {array.dtype}")
        octets = np.ascontiguousarray(array, np.uint8)
        return pb.ForwardMap(mask=pb.MaskMap(observed=_header(f"{name}.observed", octets))), (octets,)


@dataclass(frozen=True, slots=True, eq=False)
class BlurMap:
    """Correlation with a kernel over the last axes: `(A x)_i = Σ_j k_j x_{i + j − centre}`.

    Give either `kernel`, an array of odd sides, or `width`, the standard deviation of a Gaussian in pixels.
    `boundary` "zero" extends the signal by 0, "periodic" continues it at the opposite side.
    """

    kernel: ArrayLike | None = None
    width: float | None = None
    boundary: Literal["zero", "periodic"] = "zero"

    def describe(self, name: str) -> tuple[pb.ForwardMap, Arrays]:
        """Return the message that describes the map and the arrays that follow; refusals call it `name`."""
        if (self.kernel is None) == (self.width is None):
            given = "neither" if self.kernel is None else "both"
            raise ValueError(f"{name}.kernel must be given where {name}.width is not, got {given}")
        blur = pb.BlurMap(boundary=check_text(f"{name}.boundary", self.boundary))
        if self.kernel is None:
            blur.width = validation.positive_float(f"{name}.width", self.width)
            return pb.ForwardMap(blur=blur), ()
        kernel = validation.real_array(f"{name}.kernel", self.kernel)
        blur.kernel.CopyFrom(_header(f"{name}.kernel", kernel))
        return pb.ForwardMap(blur=blur), (kernel,)


@dataclass(frozen=True, slots=True, eq=False)
class RadonMap:
    """Integrals of an image over strips of width 1, `(angles, detectors)`; angles in degrees.

    `detectors` is the number of strips; None for as many as the diagonal of the image needs.
    """

    angles: ArrayLike
    detectors: int | None = None

    def describe(self, name: str) -> tuple[pb.ForwardMap, Arrays]:
        """Return the message that describes the map and the arrays that follow; refusals call it `name`."""
        angles = validation.real_array(f"{name}.angles", self.angles)
        if angles.ndim != 1:
            raise ValueError(f"{name}.angles must have one axis, got shape {angles.shape}")
        radon = pb.RadonMap(angles=angles.tolist())
        if self.detectors is not None:
            radon.detectors = validation.positive_int(f"{name}.detectors", self.detectors)
        return pb.ForwardMap(radon=radon), ()


@dataclass(frozen=True, slots=True, eq=False)
class FieldMap:
    """The field of a source on a Poisson grid, `−∇·(κ∇x) = b`: b in, x out, both of `grid.shape`.

    `solver` is the name of one of the server's, `rtol` the relative residual of each of its solves.
    """

    grid: PoissonGrid
    solver: str = "scipy-direct"
    rtol: float = 1e-12

    def describe(self, name: str) -> tuple[pb.ForwardMap, Arrays]:
        """Return the message that describes the map and the arrays that follow; refusals call it `name`."""
        if not isinstance(self.grid, PoissonGrid):
            raise TypeError(f"{name}.grid must be a PoissonGrid, got {type(self.grid).__name__}")
        if self.grid.row_weights is not None:
            raise ValueError(f"{name}.grid must have whole cells of equal widths, got {self.grid}")
        field = pb.FieldMap(
            grid=grid_header(self.grid),
            solver=check_text(f"{name}.solver", self.solver),
            rtol=validation.positive_float(f"{name}.rtol", self.rtol),
        )
        return pb.ForwardMap(poisson=field), tuple(array for _, array in arrays_of(self.grid).parts)


ForwardMap = IdentityMap | MaskMap | BlurMap | RadonMap | FieldMap


def describe_maps(operator: ForwardMap | Sequence[ForwardMap]) -> tuple[list[pb.ForwardMap], list[NDArray[Any]]]:
    """Return the messages that describe one map or several, the first applied first, and all their arrays."""
    maps = [operator] if isinstance(operator, ForwardMap) else operator
    if isinstance(maps, str) or not isinstance(maps, Sequence) or not maps:
        raise TypeError(f"operator must be a forward map such as MaskMap, or several, got {type(operator).__name__}")
    messages, arrays = list[pb.ForwardMap](), list[NDArray[Any]]()
    for name, one in _name_maps(maps):
        if not isinstance(one, ForwardMap):
            raise TypeError(f"{name} must be a forward map such as MaskMap, got {type(one).__name__}")
        message, own = one.describe(name)
        messages.append(message)
        arrays.extend(own)
    return messages, arrays


def _name_maps(maps: Sequence[ForwardMap]) -> Iterator[tuple[str, ForwardMap]]:
    for place, one in enumerate(maps):
        yield "operator" if len(maps) == 1 else f"operator[{place}]", one


def _header(name: str, array: NDArray[Any]) -> Any:
    if not 1 <= array.ndim <= 3 or not array.size:
        raise ValueError(f"{name} must have 1 to 3 axes and at least one entry, got shape {array.shape}")
    return tensors.describe_array(array)
