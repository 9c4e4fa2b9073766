"""Random sparse systems, each generated from a seed and a number alone: families of the gallery with modifications.

By construction, each is symmetric and positive definite, or semidefinite with constants on whole parts as null vectors,
and `b` is in the range: a valid system for `relaxon.solvers.solve`.
"""

# Imported on first use, for its weight: `solvers.gallery`.

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components

from relaxon.core import validation

Array = NDArray[np.float64]
LEAST = 64
"""Unknowns of the smallest case, and of the smallest budget."""
LARGE_SHARE = 0.05
"""Fraction of the cases with at least a tenth of the budget's unknowns; the others have fewer."""
SMALLER = 10
MAX_CONTRAST = 1e8
UNITS = 200.0
"""Largest distance of a system's entries from 1, in decades."""
PARTS = 4
"""Largest number of families that are combined as unconnected parts."""
SINGULAR_ROUNDINGS = 64.0
"""A row sums to zero where its sum is below this many roundings of its sum of magnitudes, for each of its entries."""
SINGLE_ROUNDINGS = float(np.finfo(np.float32).eps)
"""The same for entries of float32, times the root of their number."""
RIGHT_SIDES = ("noise", "image", "smooth", "points", "point pair")


@dataclass(frozen=True, slots=True)
class MatrixCase:
    """A system: `matrix` as given to a solver (CSR, CSC or COO, possibly with duplicates), `b` `(n,) float64`.

    `judged` is the matrix by which solutions are judged: the same in float64, except that float32 rows that sum to zero
    in that precision have the diagonal with which they sum to zero exactly.
    """

    seed: int
    number: int
    matrix: Any
    b: Array
    judged: Any
    singular_parts: int
    summary: str


@dataclass(slots=True)
class _Draft:
    """A matrix in the making: canonical CSR float64, with its history in words, and properties that still hold."""

    matrix: Any
    words: list[str] = field(default_factory=list)
    regular: bool = True
    """Whether there is no part whose row sums all vanish."""
    laplacian: bool = True
    """Whether it is a diagonally dominant M-matrix, which stays definite when its entries are rounded to float32."""


def make_matrix_case(seed: int, number: int, max_unknowns: int = 60_000) -> MatrixCase:
    """Make case `number` of the sequence of `seed`; its bits are always the same for equal `max_unknowns`.

    >>> from relaxon.solvers.stress import make_matrix_case
    >>> one, again = make_matrix_case(7, 3), make_matrix_case(7, 3)
    >>> one.summary == again.summary and bool((one.b == again.b).all())
    True
    """
    if validation.positive_int("max_unknowns", max_unknowns) < LEAST:
        raise ValueError(f"max_unknowns must be at least {LEAST}, got {max_unknowns}")
    rng = np.random.default_rng([seed, number])
    draft = _put_together(rng, max_unknowns)
    for change, chance in CHANGES:
        if rng.random() < chance:
            change(rng, draft)
    singular = _find_singular_parts(draft.matrix, single=False)
    side, b = _right_hand_side(rng, draft.matrix, singular)
    matrix, judged, b, singular = _choose_form(rng, draft, b, singular)
    parts = len(np.unique(singular[singular > 0]))
    n, entries = judged.shape[0], judged.nnz
    kind = f", singular in {parts} part{'s' * (parts != 1)}" if parts else ""
    summary = f"{n} unknowns, {entries} entries: {', '.join(draft.words)}{kind}, b {side}"
    return MatrixCase(seed, number, matrix, b, judged, parts, summary)


# --- families of the gallery -----------------------------------------------------------------------------------------


def _put_together(rng: np.random.Generator, most: int) -> _Draft:
    tenth = max(LEAST, most // SMALLER)
    least, largest = (tenth, most) if rng.random() < LARGE_SHARE else (LEAST, tenth)
    count = 1 if rng.random() < 0.85 else int(rng.integers(2, PARTS + 1))
    drafts = [_family(rng, max(LEAST, least // count), max(LEAST, largest // count)) for _ in range(count)]
    if count == 1:
        return drafts[0]
    words = [f"parts that do not touch ({'; '.join(' '.join(draft.words) for draft in drafts)})"]
    matrix = csr_array(block_diag([draft.matrix for draft in drafts], format="csr"))
    regular, laplacian = all(one.regular for one in drafts), all(one.laplacian for one in drafts)
    return _Draft(matrix, words, regular, laplacian)


def _family(rng: np.random.Generator, least: int, largest: int) -> _Draft:
    from relaxon.solvers import gallery

    name = str(rng.choice(list(gallery.matrix_names())))
    n = int(least * (largest / least) ** rng.random())
    matrix = gallery.matrix(name, n, seed=int(rng.integers(1 << 30)))
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    laplacian = not (matrix.data[rows != matrix.indices] > 0).any() and _is_dominant(matrix)
    regular = not _find_singular_parts(matrix, single=False).any()
    return _Draft(matrix, [name], regular, laplacian)


def _is_dominant(matrix: Any) -> bool:
    diagonal = matrix.diagonal()
    return bool((2 * diagonal >= np.asarray(abs(matrix).sum(axis=1)).ravel() * (1 - 1e-12)).all())


# --- modifications ---------------------------------------------------------------------------------------------------


def _reweight(rng: np.random.Generator, draft: _Draft) -> None:
    """Multiply couplings by factors of up to 10⁸, and set the diagonal so that row sums are kept."""
    if not draft.laplacian:
        return
    entries = draft.matrix.tocoo()
    surplus = np.maximum(np.asarray(draft.matrix.sum(axis=1)).ravel(), 0.0)
    if not draft.regular or _find_singular_parts(draft.matrix, single=False).any():
        surplus[_find_singular_parts(draft.matrix, single=False) > 0] = 0.0
    low = entries.row > entries.col
    contrast = float(10.0 ** rng.uniform(1, math.log10(MAX_CONTRAST)))
    share = float(rng.choice([0.02, 0.3, 1.0]))
    power = np.where(rng.random(int(low.sum())) < share, rng.choice([0.0, 1.0], int(low.sum())), 0.0)
    if share == 1.0:
        power = rng.random(int(low.sum()))
    weights = -entries.data[low] * contrast**power
    ends = entries.row[low], entries.col[low]
    half = coo_array((-weights, ends), shape=draft.matrix.shape).tocsr()
    off = csr_array(half + half.T)
    draft.matrix = csr_array(off + diags_array(surplus - np.asarray(off.sum(axis=1)).ravel()))
    draft.words.append(f"couplings times up to {contrast:.0e} on {share:.0%}")


def _close(rng: np.random.Generator, draft: _Draft) -> None:
    """Make all row sums zero, so that constants on every part are null vectors."""
    if not draft.laplacian:
        return
    off = draft.matrix - diags_array(draft.matrix.diagonal())
    draft.matrix = csr_array(off + diags_array(-np.asarray(off.sum(axis=1)).ravel()))
    draft.matrix.eliminate_zeros()
    draft.regular = False
    draft.words.append("closed")


def _penalise(rng: np.random.Generator, draft: _Draft) -> None:
    """Fix some unknowns by a penalty on the diagonal."""
    n = draft.matrix.shape[0]
    held = np.zeros(n)
    index = rng.choice(n, max(1, int(n * rng.choice([0.005, 0.1]))), replace=False)
    factor = float(10.0 ** rng.uniform(2, 10))
    held[index] = factor * float(draft.matrix.diagonal().max())
    draft.matrix = csr_array(draft.matrix + diags_array(held))
    draft.words.append(f"{len(index)} held by {factor:.0e}")


def _spread(rng: np.random.Generator, draft: _Draft) -> None:
    """Scale rows and columns by individual units, to a contrast of up to 10⁸ between entries."""
    if not draft.regular:
        return  # the null vectors would no longer be constants
    decades = float(rng.uniform(0.5, math.log10(MAX_CONTRAST) / 4))
    units = diags_array(10.0 ** rng.uniform(-decades, decades, draft.matrix.shape[0]))
    draft.matrix = csr_array(units @ draft.matrix @ units)
    draft.laplacian = False
    draft.words.append(f"units of rows over {2 * decades:.1f} decades")


def _flip(rng: np.random.Generator, draft: _Draft) -> None:
    """Flip the signs of some unknowns, so that half of the couplings become positive."""
    if not draft.regular:
        return
    signs = diags_array(rng.choice([-1.0, 1.0], draft.matrix.shape[0]))
    draft.matrix = csr_array(signs @ draft.matrix @ signs)
    draft.laplacian = False
    draft.words.append("signs turned")


def _append_diagonal(rng: np.random.Generator, draft: _Draft) -> None:
    """Append rows with only a diagonal entry, of various sizes, and sometimes rows without any entry."""
    count = int(rng.integers(1, max(2, draft.matrix.shape[0] // 4)))
    sizes = float(np.abs(draft.matrix.data).max()) * 10.0 ** rng.uniform(-4, 4, count)
    empty = rng.random(count) < rng.choice([0.0, 0.1])
    sizes[empty] = 0.0
    alone = csr_array(diags_array(sizes))
    alone.eliminate_zeros()
    draft.matrix = csr_array(block_diag([draft.matrix, alone], format="csr"))
    draft.regular = draft.regular and not empty.any()
    draft.words.append(f"{count} rows of a diagonal alone ({int(empty.sum())} empty)")


def _permute(rng: np.random.Generator, draft: _Draft) -> None:
    """Permute the unknowns at random."""
    order = rng.permutation(draft.matrix.shape[0])
    draft.matrix = draft.matrix[order][:, order]
    draft.words.append("numbered at random")


def _scale(rng: np.random.Generator, draft: _Draft) -> None:
    """Scale the whole system far from 1, by a power of two, which changes no digit."""
    exponent = round(float(rng.uniform(-UNITS, UNITS)) / math.log10(2.0))
    draft.matrix = draft.matrix * 2.0**exponent
    draft.laplacian = False  # no longer within float32
    draft.words.append(f"units of 1e{round(exponent * math.log10(2.0)):+d}")


CHANGES = (
    (_reweight, 0.35),
    (_close, 0.2),
    (_penalise, 0.1),
    (_spread, 0.25),
    (_flip, 0.15),
    (_append_diagonal, 0.15),
    (_permute, 0.4),
    (_scale, 0.25),
)
"""The modifications in order, each with its probability; those that would make the system invalid leave it
unchanged."""


# --- right-hand sides, and the form in which a system is passed to a solver ------------------------------------------


def _find_singular_parts(matrix: Any, single: bool) -> NDArray[np.int64]:
    """Return, for each unknown, 1 + the number of its part where all of the part's rows sum to zero; else 0."""
    counts = np.diff(matrix.indptr)
    magnitude = np.asarray(abs(matrix).sum(axis=1)).ravel()
    allowed = SINGULAR_ROUNDINGS * float(np.finfo(np.float64).eps) * counts * magnitude
    if single:
        allowed = np.maximum(allowed, SINGLE_ROUNDINGS * np.sqrt(counts) * magnitude)
    open_row = np.abs(np.asarray(matrix.sum(axis=1)).ravel()) > allowed
    count, part = connected_components(abs(matrix) > 0, directed=False)
    held = np.zeros(count, bool)
    held[part[open_row]] = True
    found: NDArray[np.int64] = np.where(held[part], 0, part + 1)
    return found


def _right_hand_side(rng: np.random.Generator, matrix: Any, singular: NDArray[np.int64]) -> tuple[str, Array]:
    n = matrix.shape[0]
    kind = str(rng.choice(RIGHT_SIDES))
    if kind == "image":
        b: Array = matrix @ rng.standard_normal(n)
    elif kind == "noise":
        b = rng.standard_normal(n)
    elif kind == "smooth":
        b = np.cos(np.linspace(0.0, float(rng.uniform(1, 20)), n) + float(rng.uniform(0, 6)))
    else:
        b = np.zeros(n)
        b[rng.integers(n, size=1 if kind == "points" else 2)] = (1.0,) if kind == "points" else (1.0, -1.0)
    if kind != "image":
        exponent = round(float(rng.uniform(-UNITS, UNITS)) / math.log10(2.0)) if rng.random() < 0.2 else 0
        b = _remove_means(b, singular) * 2.0**exponent
        kind += f" of 1e{round(exponent * math.log10(2.0)):+d}" if exponent else ""
    return kind, b


def _remove_means(b: Array, singular: NDArray[np.int64]) -> Array:
    """Return `b` without the mean of each singular part; the rounding that a constant leaves becomes 0."""
    sizes = np.maximum(np.bincount(singular), 1)
    means = np.bincount(singular, b) / sizes
    means[0] = 0.0
    found: Array = b - means[singular]
    peaks, before = np.zeros(len(sizes)), np.zeros(len(sizes))
    np.maximum.at(peaks, singular, np.abs(found))
    np.maximum.at(before, singular, np.abs(b))
    residue = peaks < 1e-12 * before
    residue[0] = False
    found[residue[singular]] = 0.0
    return found


def _round_to_single(matrix: Any, singular: NDArray[np.int64]) -> Any:
    """Return a matrix in float32 whose diagonal still dominates, rounded up where rounding would lose that."""
    off = csr_array(matrix - diags_array(matrix.diagonal())).astype(np.float32)
    least = np.asarray(abs(off.astype(np.float64)).sum(axis=1)).ravel()
    diagonal = matrix.diagonal().astype(np.float32)
    lost = (diagonal.astype(np.float64) < least) & (singular == 0)
    diagonal[lost] = np.nextafter(least[lost].astype(np.float32), np.float32(np.inf))
    found = csr_array(off + diags_array(diagonal))
    found.eliminate_zeros()
    return found


def _choose_form(
    rng: np.random.Generator, draft: _Draft, b: Array, singular: NDArray[np.int64]
) -> tuple[Any, Any, Array, NDArray[np.int64]]:
    """Return the matrix in the form that a solver gets, the one for judging, `b`, and the singular parts."""
    matrix = judged = csr_array(draft.matrix)
    if draft.laplacian and rng.random() < 0.25:
        matrix = _round_to_single(matrix, singular)
        judged = matrix.astype(np.float64)
        singular = _find_singular_parts(judged, single=True)
        off = judged - diags_array(judged.diagonal())
        closed = np.where(singular > 0, -np.asarray(off.sum(axis=1)).ravel(), judged.diagonal())
        judged = csr_array(off + diags_array(closed))
        b = _remove_means(b, singular)
        draft.words.append("float32")
    form = str(rng.choice(["csr", "csr", "csc", "coo", "duplicates", "int64"]))
    if form == "duplicates":
        # Halves add up without rounding; zeros are stored beside them.
        entries = matrix.tocoo()
        order = rng.permutation(2 * entries.nnz)
        values = np.concatenate([entries.data / 2, entries.data / 2])[order].astype(matrix.dtype)
        rows, columns = (np.concatenate([index, index])[order] for index in (entries.row, entries.col))
        matrix = coo_array((values, (rows, columns)), shape=matrix.shape)
    elif form == "int64":
        wide = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
        matrix = csr_array((matrix.data, *wide), shape=matrix.shape)
    else:
        matrix = matrix.asformat(form)
    draft.words.append(form)
    return matrix, judged, b, singular
