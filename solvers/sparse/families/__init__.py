"""Families of sparse matrices for `gallery.matrix`, each assembled from a number of unknowns and a seed."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np
from scipy import sparse

from relaxon.core import validation
from relaxon.solvers.sparse.families.convection import CONVECTION
from relaxon.solvers.sparse.families.elements import ELEMENTS
from relaxon.solvers.sparse.families.graphs import GRAPHS
from relaxon.solvers.sparse.families.stencils import STENCILS

KINDS = {"spd": {**STENCILS, **ELEMENTS, **GRAPHS}, "nonsymmetric": CONVECTION}
"""The families by the kind of their matrices."""
FAMILIES = {name: family for families in KINDS.values() for name, family in families.items()}
LEAST = 64
"""Least number of unknowns: with fewer some of the meshes degenerate."""


def names(kind: str) -> tuple[str, ...]:
    """Return the names of the families of a kind, as `gallery.matrix_names` does."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return tuple(KINDS[kind])


def make(name: str, n: int, seed: int) -> Any:
    """Make the matrix of a family, as `gallery.matrix` does."""
    if name not in FAMILIES:
        near = get_close_matches(str(name), FAMILIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name must be one of {', '.join(FAMILIES)}, got {name!r}{hint}")
    n = validation.positive_int("n", n)
    if n < LEAST:
        raise ValueError(f"n must be at least {LEAST}, got {n}")
    matrix = sparse.csr_array(FAMILIES[name](n, np.random.default_rng(seed)))
    matrix.sort_indices()
    return matrix
