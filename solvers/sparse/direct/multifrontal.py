"""A multifrontal Cholesky factor, compiled here, in an order of approximate minimum degree."""

from __future__ import annotations

import heapq
import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.team_kernels import run_team
from relaxon.solvers.kernels.threads import get_num_threads
from relaxon.solvers.sparse.direct import cholesky_kernels as numeric
from relaxon.solvers.sparse.direct import ordering_kernels as ordering
from relaxon.solvers.sparse.direct import supernode_kernels as supernodes
from relaxon.solvers.sparse.direct.factoriser import DEFINITE, FactorError, Factoriser, NumericFactor, indefinite_error
from relaxon.solvers.sparse.direct.symbolic import (
    FactorSize,
    Order,
    count_operations,
    eliminate_in_postorder,
    symmetric_pattern,
)

DENSE = 10.0
"""Rows with more entries than this many times `√n` are eliminated last: they would be in every list."""
ROOM = 2.0
"""Room for the lists of the elimination order, in entries of the matrix; where it is too short, it is doubled."""
FEW_OPERATIONS = 2e7
"""Operations up to which another thread gains nothing."""
MOST_TASKS = 100
"""Subtrees among which the threads' work is divided."""
LOW_ORDER_BYTES = 40.0
"""Bytes for an unknown: permutations, and work space of one thread."""


def order_by_minimum_degree(matrix: Any, most_operations: float = math.inf) -> Order:
    """Return an elimination order for a CSR matrix with a symmetric pattern, `(n,)`: row `order[i]` is the `i`-th.

    `FactorError` where the factor in this order takes more operations.

    Examples
    --------
    >>> from relaxon.solvers import gallery
    >>> from relaxon.solvers.sparse.direct.symbolic import column_counts
    >>> a = gallery.matrix("laplacian-2d", 2_500)
    >>> int(column_counts(a, order_by_minimum_degree(a)).sum()) < 40_000         # 125,049 row by row
    True
    """
    n = matrix.shape[0]
    indptr, indices = _find_pattern(matrix)
    most, room = int(max(16.0, DENSE * n**0.5)), ROOM
    begin, stamp, ints, names = np.empty(n, np.int64), np.empty(n, np.int64), *_work(n)
    length, elements, size, degree = ints
    owner, head, after, before, bucket, pivots = names
    count = -1
    while count == -1:
        lists = np.empty(n + int(room * matrix.nnz), np.uint32)
        used = ordering.build_lists(indptr, indices, most, begin, length, lists)
        count = ordering.order_by_degree(
            begin, length, lists, used, elements, size, degree, owner, stamp, head, after, before, bucket, pivots,
            most_operations,
        )  # fmt: skip
        room *= 2
    if count < 0:
        raise FactorError(f"its factor takes more than {most_operations:.2g} operations")
    order = np.empty(n, np.uint32)
    ordering.list_unknowns(pivots[:count], size, owner, head, order)
    dense = np.diff(matrix.indptr)[order] > most
    return np.concatenate([order[~dense], order[dense]])


def _find_pattern(matrix: Any) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    return np.ascontiguousarray(matrix.indptr, np.uint32), np.ascontiguousarray(matrix.indices, np.uint32)


def _work(n: int) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
    return np.empty((4, n), np.int32), np.empty((6, n), np.uint32)


Division = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int]


class MultifrontalFactoriser(Factoriser):
    """The elimination order and the supernodes of a pattern.

    The factor has the same bits at any number of threads.
    """

    library: ClassVar[str] = "multifrontal"
    size: FactorSize

    def __init__(self, matrix: Any, most_operations: float = math.inf) -> None:
        """Analyse the pattern of a CSR matrix of the kind "spd", float64; `FactorError` as by
        `order_by_minimum_degree`."""
        self.kind, n = DEFINITE, matrix.shape[0]
        self._divided: dict[int, Division] = {}
        self._place = np.empty(n, np.uint32)
        if not ordering.has_mirrors(*_find_pattern(matrix), self._place):  # entries of the size of rounding errors
            matrix = symmetric_pattern(matrix)
        self.order, parent, counts = eliminate_in_postorder(matrix, order_by_minimum_degree(matrix, most_operations))
        self._place[self.order] = np.arange(n, dtype=np.uint32)
        first, height, zeros = np.empty((3, n + 1), np.int64)
        count = supernodes.find_supernodes(parent, counts, first, height, zeros)
        self.first = first[: count + 1].copy()
        own = np.diff(self.first)
        self.begin = np.concatenate([[0], np.cumsum(height[:count] - own)])
        self.places = np.concatenate([[0], np.cumsum(own * height[:count])])
        self.rows = np.empty(self.begin[-1], np.uint32)
        self.above, self.child, self.sibling, seen = np.empty((4, count), np.uint32)
        member, fill, self.work = np.empty(n, np.uint32), np.empty(count, np.int64), np.empty(count)
        pattern = *_find_pattern(matrix), self.order, self._place
        supernodes.list_rows(*pattern, parent, self.first, count, member, self.above, seen, fill, self.begin, self.rows)
        supernodes.link_supernodes(self.first, self.begin, self.above, self.child, self.sibling, self.work)
        bytes_ = 8.0 * (self.places[-1] + self.divide(get_num_threads())[-1])
        bytes_ += 4.0 * (len(self.rows) + 2 * matrix.nnz) + LOW_ORDER_BYTES * n
        self.size = FactorSize(float(counts.sum()), count_operations(counts), float(bytes_))

    def divide(self, threads: int) -> Division:
        """Divide the supernodes into a list for each thread and one of those above; return where each list begins, all
        lists, where contributions are kept and built, `(2, count)`, and how many entries these take."""
        if threads in self._divided:
            return self._divided[threads]
        count = len(self.above)
        lists = self._list_subtrees(threads) if self.work[self.above == ordering.NONE].sum() > FEW_OPERATIONS else []
        lists = lists if threads > 1 and lists else [np.arange(count)]
        bins = np.concatenate([[0], np.cumsum([len(one) for one in lists])])
        listed, places = np.concatenate(lists), np.empty((2, count), np.int64)
        member = np.empty(count, np.uint32)
        taken = supernodes.place_contributions(bins, listed, self.begin, self.child, self.sibling, member, *places)
        self._divided[threads] = bins, listed, places, taken
        return self._divided[threads]

    def _list_subtrees(self, threads: int) -> list[NDArray[np.int64]]:
        """Return the supernodes of each thread, whole subtrees, and at last the others, with the least expected time.

        The heaviest subtree is replaced by its root's children again and again.
        """
        heap = [(-self.work[s], int(s)) for s in np.flatnonzero(self.above == ordering.NONE)]
        heapq.heapify(heap)
        above: list[int] = []
        best, serial = np.inf, 0.0
        mine: list[list[int]] = []
        last: list[int] = []
        while True:
            loads: list[tuple[float, int, list[int]]] = [(0.0, t, []) for t in range(threads)]
            for work, s in sorted(heap):
                load, t, roots = loads[0]
                roots.append(s)
                heapq.heapreplace(loads, (load - work, t, roots))
            longest = serial + max(load for load, _, _ in loads)
            if longest < best:
                best, last, mine = longest, sorted(above), [roots for _, _, roots in loads]
            if not 0 < len(heap) < MOST_TASKS:
                break
            work, s = heapq.heappop(heap)
            serial -= work
            above.append(s)
            below = self.child[s]
            while below != ordering.NONE:
                heapq.heappush(heap, (-self.work[below], int(below)))
                serial -= self.work[below]
                below = self.sibling[below]
        ranges = [[np.arange(self._first_below(s), s + 1) for s in sorted(roots)] for roots in mine if roots]
        return [*(np.concatenate(one) for one in ranges), np.array(last, np.int64)]

    def _first_below(self, s: int) -> int:
        """Return the first supernode of a subtree: in a postorder it is a range that ends with its root."""
        while self.child[s] != ordering.NONE:
            s = int(self.child[s])
        return s

    def factor(self, matrix: Any) -> NumericFactor:
        bins, listed, (positions, building), taken = self.divide(get_num_threads())
        lists, n = len(bins) - 1, len(self.order)
        panel, fronts = np.empty(self.places[-1]), np.empty(taken)
        wrong = np.zeros(lists, np.int64)
        local, to = np.empty((2, lists, n), np.uint32)
        tiles, scales = (
            np.empty((lists + get_num_threads(), numeric.BLOCK, numeric.TILE)),
            np.empty((lists, numeric.BLOCK)),
        )
        shape = self.first, self.begin, self.rows, self.places, self.child, self.sibling, positions, building
        entries = *_find_pattern(matrix), matrix.data, self.order, self._place, matrix.diagonal()[self.order]
        work = panel, fronts, wrong, local, to, tiles, scales
        run_team(
            numeric.factor_supernodes,
            bins,
            listed,
            *shape,
            *entries,
            *work,
            members=None if lists > 1 else 1,
            seldom=True,
        )
        if wrong.any():
            raise indefinite_error(int(wrong.sum()), n)
        return MultifrontalFactor(self, panel)


class MultifrontalFactor(NumericFactor):
    """The rows of `U` by supernodes, with the analysis they belong to."""

    def __init__(self, analysis: MultifrontalFactoriser, panel: NDArray[np.float64]) -> None:
        self._analysis, self._panel = analysis, panel
        self.entries = float(len(panel))

    def solve(self, b: NDArray[Any]) -> NDArray[Any]:
        one = self._analysis
        right = np.ascontiguousarray(b.T, np.float64).reshape(-1, len(one.order))
        found, y, sums = np.empty_like(right), np.empty_like(right), np.empty((len(right), len(one.rows)))
        bins, listed = one.divide(threads := get_num_threads())[:2]
        run_team(
            numeric.solve_columns, bins, listed, one.first, one.begin, one.rows, one.places, one.child, one.sibling,
            self._panel, one.order, right, found, y, sums, np.empty((threads, len(one.order)), np.uint32),
            members=threads if len(right) > 1 or len(bins) > 2 else 1, seldom=True,
        )  # fmt: skip
        return found.reshape(b.T.shape).T
