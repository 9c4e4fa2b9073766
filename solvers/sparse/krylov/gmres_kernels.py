"""Kernels of GMRES on a basis in float32, in blocks of entries so that results do not depend on the threads."""

from __future__ import annotations

from relaxon.solvers.kernels.lean import lean

BLOCK = 4096
"""Entries of a block, which has a partial sum of its own."""


@lean
def project_onto(start, stop, basis, count, w, parts):  # type: ignore[no-untyped-def]
    """Write `parts[block, j] ← ⟨basis[j], w⟩` over each block, `j < count`."""
    for block in range(start, stop):
        end = len(w) if block == len(parts) - 1 else (block + 1) * BLOCK
        for j in range(count):
            total = 0.0
            for i in range(block * BLOCK, end):
                total += basis[j, i] * w[i]
            parts[block, j] = total


@lean
def subtract_projection(start, stop, basis, count, h, w, parts):  # type: ignore[no-untyped-def]
    """Write `w ← w − Σ h_j basis[j]`; `parts[block, 0]` gets `⟨w, w⟩`."""
    for block in range(start, stop):
        end = len(w) if block == len(parts) - 1 else (block + 1) * BLOCK
        for j in range(count):
            factor = h[j]
            for i in range(block * BLOCK, end):
                w[i] -= factor * basis[j, i]
        total = 0.0
        for i in range(block * BLOCK, end):
            total += w[i] * w[i]
        parts[block, 0] = total
