"""Null vectors among the linear combinations of given near-null vectors: found for each component, tested, projected.

The rigid motions of a body without supports are null vectors; a body that can turn about a pin has one combination of
them.
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.nullspace import NEXT_TO_NOTHING
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.system.near_null import NearNullSpace
from relaxon.solvers.sparse.system.null_vector_kernels import image_sums
from relaxon.solvers.sparse.system.row_runs import count_runs, count_threads, split_rows

Array = NDArray[np.float64]
ROUNDINGS = 16.0
"""A row of `A v` is zero where it is below this many roundings, for each entry, of the size of its terms."""
CANDIDATE = 1e-24
"""Largest `‖A v‖² / ‖v‖²` of a null vector, each row of `A v` being relative to the size of its terms."""
UNRESOLVED = 64 * np.finfo(np.float64).eps
"""Eigenvalues below this fraction of the largest one may be rounding."""
SPANNED = 1e-12
"""Eigenvalues of a correlation matrix below this mean linear dependence."""
OWN = 1e-8
"""A vector with at most this fraction of its norm outside a space lies in it."""
PASSES = 3
PARTS = 16
"""Number of partial sums of a pass, whatever the number of threads."""
MOST_COMPONENTS = 64
"""Number of components, the largest ones, that are examined."""


@dataclass(frozen=True, slots=True, eq=False)
class NullComponent:
    """Null vectors of one connected component.

    `index` holds its unknowns, None for all; `basis` is orthonormal, `(len(index), m)`; `tests` are null vectors that
    span the same space, with `names` for messages.
    """

    index: NDArray[np.int64] | None
    basis: Array
    tests: Array
    names: tuple[str, ...]

    def of(self, v: Array) -> Array:
        """Return the component's entries of a vector."""
        return v if self.index is None else np.asarray(v[self.index])

    def project(self, v: Array) -> None:
        """Project the null vectors out of `v`, in place."""
        own = self.of(v)
        own = own - np.einsum("ik,k->i", self.basis, np.einsum("ik,i->k", self.basis, own))
        if self.index is None:
            v[...] = own
        else:
            v[self.index] = own

    def defect(self, b: Array) -> tuple[float, int]:
        """Return the largest `|t·b| / Σ|t_i b_i|` of the tests, and the number of that test."""
        own = self.of(b)
        sums = np.abs(np.einsum("ik,i->k", self.tests, own))
        magnitudes = np.einsum("ik,i->k", np.abs(self.tests), np.abs(own))
        # A component with a negligible part of `b` has nothing but rounding.
        typical = NEXT_TO_NOTHING * float(np.abs(b).sum()) / len(b)
        floor = np.maximum(typical * np.abs(self.tests).sum(axis=0), np.finfo(np.float64).tiny)
        ratio = sums / np.maximum(magnitudes, floor)
        worst = int(ratio.argmax())
        return float(ratio[worst]), worst

    def describe_tests(self) -> list[str]:
        """Return the tests' names, with the component where there are others."""
        of = "" if self.index is None else f" of the {len(self.index)} unknowns connected with {self.index[0]}"
        return [name + of for name in self.names]

    def choose_pinned(self) -> NDArray[np.int64]:
        """Return as many of the component's unknowns as it has null vectors, on which these are independent."""
        from scipy.linalg import qr

        chosen: NDArray[np.int64] = qr(self.basis.T, mode="r", pivoting=True)[1][: self.basis.shape[1]]
        return chosen


def find_null_vectors(matrix: Any, near_null: NearNullSpace, constants: bool) -> tuple[NullComponent, ...]:
    """Return the components of a canonical CSR matrix with null vectors among the combinations of `near_null`.

    `constants` tells that constants are null vectors of some components: they then take part in the combinations.
    """
    vectors, names = near_null.vectors, near_null.names
    if constants:
        vectors, names = np.column_stack([vectors, np.ones(len(vectors))]), (*names, "the constant vector")
    size = np.abs(vectors).max(axis=0)
    vectors = np.ascontiguousarray(vectors / np.where(size > 0, size, 1.0))
    label, count = _label_components(matrix, near_null)
    width = vectors.shape[1]
    combinations = [np.eye(width) for _ in range(count)]
    for number in range(PASSES):
        live = [c for c in range(count) if combinations[c].shape[1] > 0]
        if not live:
            return ()
        before = [combinations[c].shape[1] for c in live]
        combined = vectors if number == 0 else _combine(vectors, label, combinations)
        sums = _image_sums(matrix, label, count, combined)
        for c in live:
            kept = combinations[c].shape[1]
            small = _null_combinations(sums[c, 0, :kept, :kept], sums[c, 1, :kept, :kept])
            combinations[c] = combinations[c] @ small
        if number > 0 and before == [combinations[c].shape[1] for c in live]:
            break
    return tuple(
        component
        for c in range(count)
        if combinations[c].shape[1] > 0
        if (component := _find_component(matrix, vectors, names, label, count, c, combinations[c])) is not None
    )


def _label_components(matrix: Any, near_null: NearNullSpace) -> tuple[NDArray[np.int32], int]:
    """Return the number of each unknown's connected component, −1 in small ones, and how many are numbered."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n, size = matrix.shape[0], near_null.block_size
    if near_null.slots is None and size > 1:
        # The rows of the nodes' first unknowns show which nodes are connected.
        rows = matrix[::size]
        graph = csr_array((np.ones(len(rows.indices), np.int8), rows.indices // size, rows.indptr), (n // size,) * 2)
        count, node = connected_components(graph, directed=True, connection="weak")
        component = np.repeat(node, size)
    else:
        count, component = connected_components(matrix, directed=False)
    if count == 1:
        return np.zeros(n, np.int32), 1
    sizes = np.bincount(component, minlength=count)
    order = np.argsort(-sizes, kind="stable")[:MOST_COMPONENTS]
    order = order[sizes[order] > 1]
    number = np.full(count, -1, np.int32)
    number[order] = np.arange(len(order))
    return number[component], len(order)


def _combine(vectors: Array, label: NDArray[np.int32], combinations: list[Array]) -> Array:
    """Return each component's own combinations of the vectors, padded with zeros."""
    out = np.zeros_like(vectors)
    for c, combination in enumerate(combinations):
        rows = slice(None) if len(combinations) == 1 else label == c
        out[rows, : combination.shape[1]] = np.einsum("ik,km->im", vectors[rows], combination)
    return out


def _image_sums(matrix: Any, label: NDArray[np.int32], count: int, vectors: Array) -> Array:
    n, width = vectors.shape
    parts = count_runs(n, PARTS)
    sums = np.zeros((parts, count, 2, width, width))
    divide(
        image_sums, parts, split_rows(n, parts), label, matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32),
        matrix.data, vectors, np.abs(vectors).max(axis=1), sums, chunks=count_threads(n),
        work=lambda: (np.empty(width),),
    )  # fmt: skip
    return np.asarray(sums.sum(axis=0))


def _null_combinations(images: Array, products: Array) -> Array:
    """Return the combinations that may be null vectors, `(k, m)`, from both kinds of sums."""
    norms = np.sqrt(products.diagonal())
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    values, spanning = np.linalg.eigh(products * scale * scale[:, None])
    spanning = spanning[:, values > SPANNED] / np.sqrt(values[values > SPANNED])
    spanning = np.asarray(scale[:, None] * spanning)  # orthonormal combinations
    if spanning.shape[1] == 0:
        return spanning
    sizes, turned = np.linalg.eigh(spanning.T @ images @ spanning)
    small = sizes <= max(CANDIDATE, UNRESOLVED * sizes[-1])
    return np.asarray(spanning @ turned[:, small])


def _find_component(
    matrix: Any,
    vectors: Array,
    names: tuple[str, ...],
    label: NDArray[np.int32],
    count: int,
    number: int,
    combination: Array,
) -> NullComponent | None:
    """Return the null vectors of a component, among its candidates, after a test of each row; None where none is."""
    index = None if count == 1 and (label == 0).all() else np.flatnonzero(label == number)
    rows = matrix if index is None else matrix[index]
    own = vectors if index is None else vectors[index]
    found, reach = np.zeros((matrix.shape[0], combination.shape[1])), np.zeros(matrix.shape[0])
    place = slice(None) if index is None else index
    found[place] = np.einsum("ik,km->im", own, combination)
    reach[place] = np.einsum("ik,km->im", np.abs(own), np.abs(combination)).max(axis=1)
    # Tested before QR, whose rounding in an entry is relative to a whole column.
    allowed = ROUNDINGS * np.finfo(np.float64).eps * np.diff(rows.indptr) * (abs(rows) @ reach)
    null = (np.abs(rows @ found) <= allowed[:, None]).all(axis=0)
    basis = np.linalg.qr(found[place][:, null])[0]
    if basis.shape[1] == 0:
        return None
    norms = np.sqrt(np.square(own).sum(axis=0))
    outside = own - np.einsum("im,mk->ik", basis, np.einsum("im,ik->mk", basis, own))
    lies = (norms > 0) & (np.sqrt(np.square(outside).sum(axis=0)) <= OWN * norms)
    chosen = _choose_independent(own, np.flatnonzero(lies))
    if len(chosen) == basis.shape[1]:
        return NullComponent(index, basis, own[:, chosen], tuple(names[k] for k in chosen))
    said = tuple(f"combination {k} of the near-null vectors" for k in range(basis.shape[1]))
    return NullComponent(index, basis, basis, said)


def _choose_independent(vectors: Array, columns: NDArray[np.int64]) -> list[int]:
    """Return those of the columns that do not lie in the span of the ones before."""
    chosen: list[int] = []
    basis: list[Array] = []
    for k in columns:
        rest = vectors[:, k] / np.sqrt(np.square(vectors[:, k]).sum())
        for one in basis:
            rest = rest - one * float((one * rest).sum())
        left = float(np.sqrt(np.square(rest).sum()))
        if left > OWN:
            chosen.append(int(k))
            basis.append(rest / left)
    return chosen
