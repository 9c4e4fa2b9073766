"""The kernel of a verdict on `x` for a CSR matrix."""

from __future__ import annotations

from relaxon.solvers.kernels.compiled import plain


@plain
def sum_figures(start, stop, bounds, indptr, indices, data, b, x, weights, r, parts):  # type: ignore[no-untyped-def]
    """Write `r ← b − A x`; `parts[run]` gets `⟨r, r⟩`, `⟨r, W r⟩`, `⟨b, W b⟩`, `⟨b, b⟩`, and the largest
    `|r|ᵢ / (|A||x| + |b|)ᵢ`."""
    for run in range(start, stop):
        square, scaled, scaled_side, side, worst = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(bounds[run], bounds[run + 1]):
            own = b[i]
            left, size = own, abs(own)
            for k in range(indptr[i], indptr[i + 1]):
                value = data[k] * x[indices[k]]
                left -= value
                size += abs(value)
            r[i] = left
            square += left * left
            scaled += weights[i] * left * left
            scaled_side += weights[i] * own * own
            side += own * own
            if size > 0.0:
                worst = max(worst, abs(left) / size)
        parts[run, 0], parts[run, 1], parts[run, 2], parts[run, 3], parts[run, 4] = (
            square, scaled, scaled_side, side, worst,
        )  # fmt: skip
