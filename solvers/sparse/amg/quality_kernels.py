"""The kernel with which `quality` relaxes errors on some of a level's rows."""

from __future__ import annotations

from relaxon.solvers.sparse.amg.levels_kernels import ONE, rows_kernel


@rows_kernel
def relax(lo, hi, sweeps, first, inner, last, c, v, inverse, excess, sums, x):  # type: ignore[no-untyped-def]
    """Relax the error `x` of the rows `lo … hi − 1`, zero elsewhere, by backward sweeps; return its energy `xᵀAx`.

    `x[i − lo]` is the error of row `i`.
    """
    for _ in range(sweeps):
        i = hi
        while i > lo:
            i -= ONE
            total = excess[i] * x[i - lo]
            for k in range(first[i], inner[i]):
                total -= v[k] * x[c[k] - lo]
            x[i - lo] = total * inverse[i]
    energy = 0.0
    for i in range(lo, hi):
        own = x[i - lo]
        total = sums[i] * own
        for k in range(first[i], inner[i]):
            total += v[k] * (x[c[k] - lo] - own)
        for k in range(inner[i], last[i]):
            total -= v[k] * own
        energy += total * own
    return energy
