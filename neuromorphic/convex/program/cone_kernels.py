"""Compiled projections onto the cones of activation patterns, by non-negative least squares on few active rows.

The cone of pattern `D` is `K = {v : (2D − I) X v ≥ 0}`, and under an l∞ box of half-widths `ε` in each row
`{v : (2D − I) X v ≥ Σ_j ε_j |v_j|}`. Both are intersections of half-spaces `aᵀv ≥ 0`; in the second case a row `x` with
sign `s` stands for all `a = s x − ε ∘ σ`, `σ ∈ {−1, 1}^d`, of which `σ = sign(v)` is the one violated most. By Moreau's
decomposition `v + Σ λ_k a_k`, `λ ≥ 0`, of least norm is the projection of `v`. Lawson & Hanson's active set (1974,
ch. 23) finds it; the rows in the set are kept from call to call, and an orthogonal factor of them makes the projection
accurate where they are nearly parallel.

Any `λ ≥ 0` makes `‖v + Σ λ_k a_k‖` an upper bound of the norm of the projection, however early the search ends: that is
what the dual bound of the program rests on.
"""

from __future__ import annotations

from relaxon.solvers.kernels.compiled import kernel, part

BLOCK = 256
"""Rows priced together: their products stay in the first-level cache."""
FEASIBLE = 1e-12
"""A row is violated where its product is below minus this share of the vector's norm; rows have norm 1."""
PARALLEL = 1e-11
"""A row whose part outside the span of the active ones is shorter adds nothing that float64 can tell."""
PASSES = 20
"""Rows taken in for each dimension at most."""


@part
def norm_of(a, d):  # type: ignore[no-untyped-def]
    """Return `‖a‖` of the first `d` entries."""
    total = 0.0
    for j in range(d):
        total += a[j] * a[j]
    return total**0.5


@part
def orthogonalise(columns, q, r, at, d):  # type: ignore[no-untyped-def]
    """Write row `at` of the orthonormal `q` and column `at` of `r`, twice as is enough; return the remaining length."""
    for j in range(d):
        q[at, j] = columns[at, j]
    for i in range(at):
        r[i, at] = 0.0
    for _ in range(2):
        for i in range(at):
            product = 0.0
            for j in range(d):
                product += q[i, j] * q[at, j]
            r[i, at] += product
            for j in range(d):
                q[at, j] -= product * q[i, j]
    length = norm_of(q[at], d)
    r[at, at] = length
    if length > 0.0:
        for j in range(d):
            q[at, j] /= length
    return length


@part
def solve_active(q, r, v, count, d, trial):  # type: ignore[no-untyped-def]
    """Write the weights that make the active rows' products zero: `R λ = −Q v`."""
    for i in range(count - 1, -1, -1):
        total = 0.0
        for j in range(d):
            total -= q[i, j] * v[j]
        for k in range(i + 1, count):
            total -= r[i, k] * trial[k]
        trial[i] = total / r[i, i]


@part
def drop_row(columns, weights, at, count, d):  # type: ignore[no-untyped-def]
    """Take a row out of the active ones, keeping the order of the others."""
    for i in range(at, count - 1):
        weights[i] = weights[i + 1]
        for j in range(d):
            columns[i, j] = columns[i + 1, j]


@part
def price(xt, signs, inverse_norms, box, p, block):  # type: ignore[no-untyped-def]
    """Return the most violated row and its product with `p`: `min_k s_k x_kᵀp − ε_k Σ box_j |p_j|`."""
    d, n = xt.shape
    budget = 0.0
    for j in range(d):
        budget += box[j] * abs(p[j])
    best, at = 0.0, -1
    for begin in range(0, n, BLOCK):
        size = min(BLOCK, n - begin)
        for k in range(size):
            block[k] = 0.0
        for j in range(d):
            factor = p[j]
            for k in range(size):
                block[k] += factor * xt[j, begin + k]
        for k in range(size):
            value = signs[begin + k] * block[k] - inverse_norms[begin + k] * budget
            if value < best:
                best, at = value, begin + k
    return at, best


@part
def residual(v, q, count, p):  # type: ignore[no-untyped-def]
    """Write the part of `v` outside the span of the active rows to `p`; return its norm."""
    d = v.size
    for j in range(d):
        p[j] = v[j]
    for _ in range(2):
        for i in range(count):
            product = 0.0
            for j in range(d):
                product += q[i, j] * p[j]
            for j in range(d):
                p[j] -= product * q[i, j]
    return norm_of(p, d)


@part
def blocking_row(weights, trial, count):  # type: ignore[no-untyped-def]
    """Return the active row whose weight reaches 0 first on the way to `trial`, or −1, and the share of the way."""
    step, at = 1.0, -1
    for k in range(count):
        if trial[k] <= 0.0:
            reach = weights[k] / (weights[k] - trial[k]) if weights[k] > 0.0 else 0.0
            if reach < step or at < 0:
                step, at = reach, k
    return at, step


@part
def project(xt, signs, inverse_norms, box, v, floor, columns, weights, count, p, block, q, r, trial):  # type: ignore[no-untyped-def]
    """Write the projection of `v` onto the cone to `p`; return the number of active rows.

    It starts from the rows and weights given. The search ends early where the norm is down to `floor`, below which the
    caller needs no projection.
    """
    d = v.size
    size = norm_of(v, d)
    # The weights of the last call bound the projection's norm: often that is enough.
    for j in range(d):
        p[j] = v[j]
    for i in range(count):
        for j in range(d):
            p[j] += weights[i] * columns[i, j]
    if norm_of(p, d) <= floor:
        return count
    factored, newest = 0, -1
    for _ in range(PASSES * d):
        # (1) Orthonormalise the rows that are new or have moved up.
        while factored < count:
            if orthogonalise(columns, q, r, factored, d) > PARALLEL:
                factored += 1
            else:
                drop_row(columns, weights, factored, count, d)
                count -= 1
                if factored == newest:
                    return count
        # (2) Go towards the weights at which all active rows' products are 0, as far as none gets negative.
        solve_active(q, r, v, count, d, trial)
        at, step = blocking_row(weights, trial, count)
        if at >= 0:
            for k in range(count):
                weights[k] += step * (trial[k] - weights[k])
            drop_row(columns, weights, at, count, d)
            count -= 1
            factored = at
            if at == newest and step == 0.0:
                return count
            newest = -1
            continue
        for k in range(count):
            weights[k] = trial[k]
        # (3) The point reached is the projection where no row is violated; else take the worst one in.
        if count == d:
            for j in range(d):
                p[j] = 0.0
            return count
        if residual(v, q, count, p) <= floor:
            return count
        at, value = price(xt, signs, inverse_norms, box, p, block)
        if at < 0 or value >= -FEASIBLE * size:
            return count
        for j in range(d):
            turn = 1.0 if p[j] > 0.0 else (-1.0 if p[j] < 0.0 else 0.0)
            columns[count, j] = signs[at] * xt[j, at] - inverse_norms[at] * box[j] * turn
        weights[count] = 0.0
        newest = count
        count += 1
    return count


@kernel(error_model="numpy", counted=False)
def project_groups(  # type: ignore[no-untyped-def]
    start, stop, xt, signs, inverse_norms, box, inputs, floor, columns, weights, counts, out, block, q, r, trial
):
    """Project rows `start … stop − 1` of `inputs` onto the cones of their patterns: `out`.

    Parameters
    ----------
    xt : (d, n) float64, the rows of the data, each of norm 1, feature by feature.
    signs : (P, n) int8, 1 where a pattern is active and −1 elsewhere; group `g` has pattern `g mod P`.
    inverse_norms : (n,) float64, 1 / ‖x_k‖: by what a row was divided.
    box : (d,) float64, half-widths of the box in each column; zeros where there is none.
    inputs, out : (G, d) float64.
    floor : norm at which a search may end.
    columns (G, d, d), weights (G, d), counts (G,) : active rows and weights, kept from call to call.
    block (BLOCK,), q (d, d), r (d, d), trial (d,) : work space of a thread.
    """
    patterns = signs.shape[0]
    for g in range(start, stop):
        counts[g] = project(
            xt,
            signs[g % patterns],
            inverse_norms,
            box,
            inputs[g],
            floor,
            columns[g],
            weights[g],
            counts[g],
            out[g],
            block,
            q,
            r,
            trial,
        )
