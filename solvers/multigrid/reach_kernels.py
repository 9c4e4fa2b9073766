"""A compiled pass of the V-cycle's set-up: what the correction of a coarse cell costs in cells that are not its own.

A cell between the centres of coarse cells takes a part from each of the four (eight) around it, even from one that no
open face joins to it. Where such a coarse cell has no couplings, its correction would be large and wrong. So its
diagonal is at least `Σ p² (1 − p)² d` over the cells beyond its own that take `p` from it, with `d` their couplings.
That is a part of its diagonal wherever faces are open, and nothing for a cell that takes all from it.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from functools import partial

import numpy as np

from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.lean import inlined, lean
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.plane_passes import F0
from relaxon.solvers.multigrid.variable_kernels import CouplingTransfer, collect, make_lines


@inlined
def _part(own, other, fine, place):  # type: ignore[no-untyped-def]
    """Return `a₀` and `a₁` of the part `a₀ + a₁ far` that `fine` takes of coarse cell `place` along an axis."""
    if own[fine] == place:
        return np.float32(1), F0 if other[fine] == place else np.float32(-1)
    return F0, np.float32(1) if other[fine] == place else F0


def least_diagonal(couplings: Single, transfer: CouplingTransfer, least: Single) -> None:
    """`least` (coarse) ← `Σ p² (1 − p)² d` over fine cells of other coarse cells; `couplings` (fine) holds `d`."""
    work = partial(make_lines, couplings.shape[2])
    divide(
        _least_diagonal,
        least[..., 0].size,
        couplings,
        tuple(transfer),
        least,
        chunks=threads_for(least.size),
        work=work,
    )


@lean
def _least_diagonal(start, stop, couplings, transfer, least, lines):  # type: ignore[no-untyped-def]
    transfer = CouplingTransfer(*transfer)
    own0, other0, own1, other1 = transfer.own0, transfer.other0, transfer.own1, transfer.other1
    steps, wrap, near, away = transfer.steps, transfer.wrap, lines[0], lines[1]
    n0, n1, n2 = couplings.shape
    _, m1, m2 = least.shape
    alone = wrap[2] and m2 == 1  # around such an axis a cell's own and its other coarse cell are the same
    for row in range(start, stop):
        i, j = row // m1, row % m1
        p0, p1 = (2 * i - 1, 2 * i + 3) if steps[0] == 2 else (i, i + 1)
        q0, q1 = (2 * j - 1, 2 * j + 3) if steps[1] == 2 else (j, j + 1)
        near[:] = F0
        away[:] = F0
        for p in range(p0, p1):
            if not (0 <= p < n0 or (wrap[0] and p - p0 < n0)):
                continue
            a = p % n0
            for q in range(q0, q1):
                if not (0 <= q < n1 or (wrap[1] and q - q0 < n1)):
                    continue
                b = q % n1
                a0, a1 = _part(own0, other0, a, i)
                b0, b1 = _part(own1, other1, b, j)
                other = F0 if own0[a] == i and own1[b] == j else np.float32(1)
                d, f0, f1, f2 = couplings[a, b], transfer.far0[a, b], transfer.far1[a, b], transfer.far2[a, b]
                for cell in range(n2):
                    k = np.uint64(cell)
                    part = (a0 + a1 * f0[k]) * (b0 + b1 * f1[k])
                    far = F0 if alone else f2[k]
                    one, two = part - part * far, part * far
                    one -= one * one
                    two -= two * two
                    near[k] += other * one * one * d[k]
                    away[k] += two * two * d[k]
        collect(near, away, transfer, least[i, j])
