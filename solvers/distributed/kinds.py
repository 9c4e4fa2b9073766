"""The kinds of grids that several processes serve: a refusal of the others, with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaxon.solvers.sides import Boundary, Robin


def refuse_kinds(spacing: Any, boundary: Any, coefficient: Any, reaction: Any, volume: Any) -> None:
    """Raise ValueError for what `PoissonGrid` takes and several processes do not."""
    why = "several processes run the learned cycle alone, which is that of κ = 1 on equal cells"
    for name, value in (("coefficient", coefficient), ("reaction", reaction), ("volume", volume)):
        if value is not None:
            raise ValueError(f"{name} must be None, as {why}; got {type(value).__name__}")
    for axis, width in enumerate(spacing if isinstance(spacing, list | tuple) else ()):
        if np.ndim(width):
            raise ValueError(f"spacing[{axis}] must be one number, as {why}; got the widths of {np.size(width)} cells")
    axes = [boundary] if isinstance(boundary, str | Robin) else list(boundary)
    for axis, entry in enumerate(axes):
        for side in [entry] if isinstance(entry, str | Robin) else entry:
            if isinstance(side, Robin) or side == Boundary.DIRICHLET_NODE:
                kinds = "'neumann', 'dirichlet' or 'periodic'"
                raise ValueError(f"boundary[{axis}] must be {kinds}, as {why}; got {str(side)!r}")
