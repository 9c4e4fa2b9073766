"""A compiled pass of the V-cycle's set-up: what the correction of a coarse cell costs in cells that are not its own.

A cell between the centres of coarse cells takes a part from each of the four (eight) around it, even from one that no
open face joins to it. Where such a coarse cell has no couplings, its correction would be large and wrong. So its
diagonal is at least `Σ p² (1 − p)² d` over the cells beyond its own that take `p` from it, with `d` their couplings.
That is a part of its diagonal wherever faces are open, and nothing for a cell that takes all from it.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.lean import inlined, lean_shared
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.plane_passes import F0
from relaxon.solvers.multigrid.variable_kernels import CouplingTransfer


@inlined
def _part(own, other, far, fine, place):  # type: ignore[no-untyped-def]
    """Return what `fine` takes of coarse cell `place` along an axis; `far` is its far weight."""
    part = np.float32(1) - far if own[fine] == place else F0
    return part + far if other[fine] == place else part


def least_diagonal(couplings: Single, transfer: CouplingTransfer, least: Single) -> None:
    """`least` (coarse) ← `Σ p² (1 − p)² d` over fine cells of other coarse cells; `couplings` (fine) holds `d`."""
    _least_diagonal(couplings, tuple(transfer), least)


@lean_shared("rows", of="least")
def _least_diagonal(start, stop, couplings, transfer, least):  # type: ignore[no-untyped-def]
    transfer = CouplingTransfer(*transfer)
    own0, other0, own1, other1 = transfer.own0, transfer.other0, transfer.own1, transfer.other1
    own2, other2, steps, wrap = transfer.own2, transfer.other2, transfer.steps, transfer.wrap
    far0, far1, far2 = transfer.far0, transfer.far1, transfer.far2
    n0, n1, n2 = couplings.shape
    _, m1, m2 = least.shape
    for row in range(start, stop):
        i, j = row // m1, row % m1
        p0, p1 = (2 * i - 1, 2 * i + 3) if steps[0] == 2 else (i, i + 1)
        q0, q1 = (2 * j - 1, 2 * j + 3) if steps[1] == 2 else (j, j + 1)
        for k in range(m2):
            r0, r1 = (2 * k - 1, 2 * k + 3) if steps[2] == 2 else (k, k + 1)
            total = F0
            for p in range(p0, p1):
                if not (0 <= p < n0 or (wrap[0] and p - p0 < n0)):
                    continue
                a = p % n0
                for q in range(q0, q1):
                    if not (0 <= q < n1 or (wrap[1] and q - q0 < n1)):
                        continue
                    b = q % n1
                    for r in range(r0, r1):
                        if not (0 <= r < n2 or (wrap[2] and r - r0 < n2)):
                            continue
                        c = r % n2
                        if own0[a] == i and own1[b] == j and own2[c] == k:
                            continue
                        part = _part(own0, other0, far0[a, b, c], a, i) * _part(own1, other1, far1[a, b, c], b, j)
                        part *= _part(own2, other2, far2[a, b, c], c, k)
                        part -= part * part
                        total += part * part * couplings[a, b, c]
            least[i, j, k] = total
