"""Compiled products of packed signs with levels: exclusive or, population count, over many units at once.

The words of all units lie beside one another, so that the inner loop runs along units: where the processor counts the
bits of eight words in one instruction (AVX-512 VPOPCNTDQ), LLVM uses it; on others it counts by table look-ups in
vector registers (AVX2) or with the scalar instruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from relaxon.solvers.compiled import kernel
from relaxon.solvers.threads import divide

PLANES = 4
"""Bit planes that a pass over the words takes together: levels from 0 to 15."""
HIGHEST = 15
ZERO, ONE, TWO, THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
WORD = 64
INPUT_CHUNKS = 3
"""Of four planes each: inputs have twelve bits."""
GROUP = 4
"""Sign units whose outputs are looked up together."""
COUNTED = kernel(error_model="numpy")
"""Sums stay in their order, and products apart: a packed prediction is that of the unpacked twin to the last bit."""


@intrinsic
def _popcount(typing: Any, word: Any) -> Any:
    """Count the ones of an integer: LLVM's `ctpop`, which Numba has no name for."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return (word(word), build) if isinstance(word, types.Integer) else None


popcount: Any = _popcount
"""As kernels call it: with the word alone."""


@COUNTED
def add_counts(words, planes, first, counts):  # type: ignore[no-untyped-def]
    """`counts[i] += Σ_p 2^{first+p} pop(words[:, i] ⊕ planes[p])` for four planes `(4, words)`."""
    low = np.uint64(first)
    for w in range(words.shape[0]):
        row = words[w]
        a, b, c, d = planes[0, w], planes[1, w], planes[2, w], planes[3, w]
        for i in range(row.size):
            s = row[i]
            total = popcount(s ^ a) + (popcount(s ^ b) << ONE) + (popcount(s ^ c) << TWO) + (popcount(s ^ d) << THREE)
            counts[i] += total << low


@COUNTED
def set_planes(levels, planes):  # type: ignore[no-untyped-def]
    """`planes[p, w]` ← the bits `p` of 64 levels from `64 w` on, for four planes; the rest of the last word is 0."""
    count = levels.size
    for w in range(planes.shape[1]):
        a, b, c, d = ZERO, ZERO, ZERO, ZERO
        start = w * WORD
        for j in range(min(WORD, count - start)):
            q, at = levels[start + j], np.uint64(j)
            a |= (q & ONE) << at
            b |= ((q >> ONE) & ONE) << at
            c |= ((q >> TWO) & ONE) << at
            d |= ((q >> THREE) & ONE) << at
        planes[0, w], planes[1, w], planes[2, w], planes[3, w] = a, b, c, d


@COUNTED
def set_levels(state, thresholds, levels):  # type: ignore[no-untyped-def]
    """`levels[i]` ← how many thresholds `state[i]` has reached; returns how many levels changed."""
    changed = 0
    for i in range(state.size):
        u, level = state[i], ZERO
        for k in range(thresholds.size):
            level += ONE if u >= thresholds[k] else ZERO
        changed += 1 if level != levels[i] else 0
        levels[i] = level
    return changed


@COUNTED
def add_product(words, ones, planes, offset, columns, weight, counts, state):  # type: ignore[no-untyped-def]
    """`state[i] += weight · Σ_j s_ij (q_j − offset)` for levels of the `planes (chunks, 4, words)`, lowest first."""
    highest = np.int64(0)
    for i in range(state.size):
        counts[i] = ZERO
    for chunk in range(planes.shape[0]):
        add_counts(words, planes[chunk], PLANES * chunk, counts)
        highest += np.int64(HIGHEST) << np.int64(PLANES * chunk)
    for i in range(state.size):
        total = highest * ones[i] - np.int64(counts[i]) - offset * (2 * ones[i] - columns)
        state[i] += weight * np.float64(total)


@COUNTED
def add_terms(n, terms, weights, words, ones, planes, counts, state):  # type: ignore[no-untyped-def]
    """`state[i] +=` what reaches layer `n` by its one or two matrices; `terms (layers, 2, 8)` says where they are."""
    for side in range(2):
        at, one, across, source, chunks, offset, columns, weight = terms[n, side]
        if chunks > 0:
            size = state.size
            matrix = words[at : at + across * size].reshape((across, size))
            own = planes[source : source + chunks, :, :across]
            add_product(matrix, ones[one : one + size], own, offset, columns, weights[weight], counts, state)


@COUNTED
def relax_signs(  # type: ignore[no-untyped-def]
    start, stop, inputs, words, ones, sizes, terms, weights, biases, thresholds, first_level, most, scores, out, sweeps
):  # fmt: skip
    """Relax rows `start … stop − 1` of `inputs (rows, columns) uint64`, layer by layer, until no level changes.

    `sizes` are the columns, the relaxing layers' units and the classes. `terms` tell for the drive, for each relaxing
    layer and for the readout, in this order, which parts of `words` and `ones` are multiplied with which planes, and
    which of `weights` the whole-numbered sum is multiplied by. `out (rows, units)` are the levels, `sweeps (rows,)` the
    passes over all layers, negative where the last one still changed a level.
    """
    layers, units, widest = sizes.size - 2, out.shape[1], sizes.max()
    counts, levels = np.empty(widest, np.uint64), np.empty(max(units, sizes[0]), np.uint64)
    planes = np.empty((layers + INPUT_CHUNKS, PLANES, (widest + WORD - 1) // WORD), np.uint64)
    drive, state = np.empty(units), np.empty(widest)
    for row in range(start, stop):
        across = (sizes[0] + WORD - 1) // WORD
        for chunk in range(INPUT_CHUNKS):
            for j in range(sizes[0]):
                levels[j] = (inputs[row, j] >> np.uint64(PLANES * chunk)) & np.uint64(HIGHEST)
            set_planes(levels[: sizes[0]], planes[layers + chunk, :, :across])
        for i in range(units):
            drive[i] = biases[i]
        add_terms(0, terms, weights, words, ones, planes, counts, drive[: sizes[1]])
        low = 0
        for n in range(layers):
            for i in range(low, low + sizes[n + 1]):
                levels[i] = first_level
            set_planes(levels[low : low + sizes[n + 1]], planes[n, :, : (sizes[n + 1] + WORD - 1) // WORD])
            low += sizes[n + 1]
        taken, changed = 0, 1
        while changed > 0 and taken < most:
            changed, low = 0, 0
            for n in range(layers):
                size = sizes[n + 1]
                for i in range(size):
                    state[i] = drive[low + i]
                add_terms(n + 1, terms, weights, words, ones, planes, counts, state[:size])
                part = levels[low : low + size]
                changed += set_levels(state[:size], thresholds, part)
                set_planes(part, planes[n, :, : (size + WORD - 1) // WORD])
                low += size
            taken += 1
        for k in range(scores.shape[1]):
            scores[row, k] = biases[units + k]
        add_terms(layers + 1, terms, weights, words, ones, planes, counts, scores[row])
        for i in range(units):
            out[row, i] = levels[i]
        sweeps[row] = taken if changed == 0 else -taken


def relax_packed(inputs: NDArray[np.uint64], *args: Any) -> None:
    """Relax all rows, shared among threads; arguments as those of `relax_signs` behind `inputs`."""
    divide(relax_signs, len(inputs), inputs, *args)


@COUNTED
def predict_signs(start, stop, x, missing, thresholds, words, limits, tables, bias, out):  # type: ignore[no-untyped-def]
    """`out[row] ← bias + Σ_groups tables[group, signs of its units]` for rows `start … stop − 1` of `x (n, d)`.

    `thresholds` are those of all bits, `words (⌈bits/64⌉, units)` the units' signs; a unit is 1 where fewer than its
    limit of the row's bits differ from them.
    """
    d, bits, units = x.shape[1], thresholds.size, limits.size
    outputs, across = out.shape[1], (units + WORD - 1) // WORD
    row, counts = np.empty(bits), np.empty(units, np.uint64)
    code, signs = np.empty(words.shape[0], np.uint64), np.empty(across, np.uint64)
    for i in range(start, stop):
        for j in range(d):
            value = x[i, j]
            row[j] = value if value == value else missing[j]
        for j in range(d, bits):
            row[j] = row[j - d]
        for w in range(code.size):
            word, low = ZERO, w * WORD
            for j in range(min(WORD, bits - low)):
                word |= (ONE if row[low + j] > thresholds[low + j] else ZERO) << np.uint64(j)
            code[w] = word
        for u in range(units):
            counts[u] = ZERO
        for w in range(code.size):
            word, own = code[w], words[w]
            for u in range(units):
                counts[u] += popcount(own[u] ^ word)
        for w in range(across):
            word, low = ZERO, w * WORD
            for j in range(min(WORD, units - low)):
                word |= (ONE if counts[low + j] < limits[low + j] else ZERO) << np.uint64(j)
            signs[w] = word
        for k in range(outputs):
            out[i, k] = bias[k]
        for g in range(tables.shape[0]):
            place = g * GROUP
            at = (signs[place // WORD] >> np.uint64(place % WORD)) & np.uint64(HIGHEST)
            for k in range(outputs):
                out[i, k] += tables[g, at, k]


def predict_packed(x: NDArray[np.float64], *args: Any) -> None:
    """Predict all rows, shared among threads; arguments as those of `predict_signs` behind `x`."""
    divide(predict_signs, len(x), x, *args)
