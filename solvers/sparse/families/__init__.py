"""Families of sparse matrices for `gallery.matrix`, each assembled from a number of unknowns and a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from relaxon.solvers.sparse.families.bodies import ELEMENTS
from relaxon.solvers.sparse.families.convection import CONVECTION
from relaxon.solvers.sparse.families.graphs import GRAPHS
from relaxon.solvers.sparse.families.stencils import STENCILS, find_family

KINDS = {"spd": {**STENCILS, **ELEMENTS, **GRAPHS}, "nonsymmetric": CONVECTION}
"""The families by the kind of their matrices."""
FAMILIES = {name: family for families in KINDS.values() for name, family in families.items()}


def names(kind: str) -> tuple[str, ...]:
    """Return the names of the families of a kind, as `gallery.matrix_names` does."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return tuple(KINDS[kind])


def make(name: str, n: int, seed: int) -> Any:
    """Make the matrix of a family, as `gallery.matrix` does."""
    family, n = find_family(name, FAMILIES, n)
    matrix = sparse.csr_array(family(n, np.random.default_rng(seed)))
    matrix.sort_indices()
    return matrix
