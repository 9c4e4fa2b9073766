"""Compiled semi-Lagrangian advection on a staggered grid; lengths are in cells, so spacing does not enter."""

from __future__ import annotations

from relaxon.solvers.kernels.lean import inlined, lean_shared


@inlined
def sample(field, x, y, z):  # type: ignore[no-untyped-def]
    """Return the trilinear interpolation at index coordinates, held constant beyond the array's ends."""
    n0, n1, n2 = field.shape
    x = min(max(x, 0.0), n0 - 1.0)
    y = min(max(y, 0.0), n1 - 1.0)
    z = min(max(z, 0.0), n2 - 1.0)
    i, j, k = int(x), int(y), int(z)
    i1, j1, k1 = min(i + 1, n0 - 1), min(j + 1, n1 - 1), min(k + 1, n2 - 1)
    a, b, c = x - i, y - j, z - k
    low = (1 - b) * ((1 - c) * field[i, j, k] + c * field[i, j, k1]) + b * (
        (1 - c) * field[i, j1, k] + c * field[i, j1, k1]
    )
    high = (1 - b) * ((1 - c) * field[i1, j, k] + c * field[i1, j, k1]) + b * (
        (1 - c) * field[i1, j1, k] + c * field[i1, j1, k1]
    )
    return (1 - a) * low + a * high


@lean_shared("rows", of="field")
def advect(start, stop, field, o0, o1, o2, u, v, w, time, out):  # type: ignore[no-untyped-def]
    """`out(x) ← field(x − time · velocity)` by a midpoint step back.

    `field` has its first sample at `(o0, o1, o2)` cells from the corner of the domain (½ for cell centres); `u`, `v`,
    `w` live on the faces across their axes; `time · velocity` is in cells.
    """
    _, n1, n2 = field.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        for k in range(n2):
            x, y, z = i + o0, j + o1, k + o2
            a = sample(u, x, y - 0.5, z - 0.5)
            b = sample(v, x - 0.5, y, z - 0.5)
            c = sample(w, x - 0.5, y - 0.5, z)
            p, q, s = x - 0.5 * time * a, y - 0.5 * time * b, z - 0.5 * time * c
            a = sample(u, p, q - 0.5, s - 0.5)
            b = sample(v, p - 0.5, q, s - 0.5)
            c = sample(w, p - 0.5, q - 0.5, s)
            out[i, j, k] = sample(field, x - time * a - o0, y - time * b - o1, z - time * c - o2)
