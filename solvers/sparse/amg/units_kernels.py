"""The kernel that tells from a sample of rows whether constants suit a matrix."""

from __future__ import annotations

from relaxon.solvers.sparse.amg.levels_kernels import brief_kernel


@brief_kernel
def mean_unevenness(step, indptr, data, diagonal):  # type: ignore[no-untyped-def]
    """Return the mean that `units.unevenness` defines over every `step`-th row that has a positive diagonal."""
    total, count = 0.0, 0
    for i in range(0, len(diagonal), step):
        own = diagonal[i]
        if own > 0.0:
            sums = size = 0.0
            for k in range(indptr[i], indptr[i + 1]):
                sums += data[k]
                size += abs(data[k])
            apart = -sums if sums < 0.0 else min(sums, sums - (2.0 * own - size))
            total += min(apart / own, 1.0)
            count += 1
    return total / count if count > 0 else 0.0
