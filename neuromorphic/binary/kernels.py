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
def add_product(words, ones, planes, weight, counts, state):  # type: ignore[no-untyped-def]
    """`state[i] += weight · Σ_j s_ij q_j` for levels of four planes."""
    for i in range(counts.size):
        counts[i] = ZERO
    add_counts(words, planes, 0, counts)
    for i in range(state.size):
        state[i] += weight * np.float64(HIGHEST * ones[i] - np.int64(counts[i]))


@COUNTED
def relax_signs(  # type: ignore[no-untyped-def]
    start, stop, inputs, words, ones, sizes, weights, biases, thresholds, first_level, offset, most, scores, out, sweeps
):  # fmt: skip
    """Relax rows `start … stop − 1` of `inputs (rows, columns) uint64` level by level until nothing changes.

    `sizes` are the columns, the relaxing layers' units and the classes. `words` and `ones` hold the matrices one behind
    another: that from the input, then for each pair of layers up and down, then the readout. `weights` are what their
    sums are multiplied by, `offset` what every input's level lies above 0. `out (rows, units)` are the levels.
    """
    layers = sizes.size - 2
    units, widest = out.shape[1], sizes.max()
    across = (widest + WORD - 1) // WORD
    counts, planes = np.empty(widest, np.uint64), np.empty((layers + 1, PLANES, across), np.uint64)
    levels = np.empty(max(units, sizes[0]), np.uint64)
    real = np.empty(units + widest, np.float64)
    drive, state = real[:units], real[units:]
    input_across = (sizes[0] + WORD - 1) // WORD
    for row in range(start, stop):
        # The input's part, which stays.
        h = sizes[1]
        matrix = words[: input_across * h].reshape((input_across, h))
        for i in range(h):
            counts[i] = ZERO
        whole = np.int64(0)
        for chunk in range(0, 12, PLANES):
            for j in range(sizes[0]):
                levels[j] = (inputs[row, j] >> np.uint64(chunk)) & np.uint64(HIGHEST)
            set_planes(levels[: sizes[0]], planes[layers, :, :input_across])
            add_counts(matrix, planes[layers, :, :input_across], chunk, counts[:h])
            whole += np.int64(HIGHEST) << np.int64(chunk)
        for i in range(units):
            drive[i] = biases[i]
        for i in range(h):
            total = whole * ones[i] - np.int64(counts[i]) - offset * (2 * ones[i] - sizes[0])
            drive[i] += weights[0] * np.float64(total)
        for i in range(units):
            levels[i] = first_level
        low = 0
        for n in range(layers):
            set_planes(levels[low : low + sizes[n + 1]], planes[n, :, : (sizes[n + 1] + WORD - 1) // WORD])
            low += sizes[n + 1]
        taken, changed = 0, 1
        while changed > 0 and taken < most:
            changed, low = 0, 0
            word_at, one_at = input_across * h, h
            down_word, down_one = 0, 0
            for n in range(layers):
                size = sizes[n + 1]
                own = state[:size]
                for i in range(size):
                    own[i] = drive[low + i]
                if n > 0:
                    # The matrix from below, then the place of the one that leads back, which the layer below has used.
                    below = (sizes[n] + WORD - 1) // WORD
                    up = words[word_at : word_at + below * size].reshape((below, size))
                    add_product(
                        up, ones[one_at : one_at + size], planes[n - 1, :, :below], weights[n], counts[:size], own
                    )
                    back = (size + WORD - 1) // WORD * sizes[n]
                    word_at += below * size + back
                    one_at += size + sizes[n]
                if n + 1 < layers:
                    above = sizes[n + 2]
                    across_here = (size + WORD - 1) // WORD
                    across_above = (above + WORD - 1) // WORD
                    down_word = word_at + across_here * above
                    down_one = one_at + above
                    down = words[down_word : down_word + across_above * size].reshape((across_above, size))
                    add_product(
                        down, ones[down_one : down_one + size], planes[n + 1, :, :across_above], weights[n + 1],
                        counts[:size], own,
                    )  # fmt: skip
                part = levels[low : low + size]
                moved = set_levels(own, thresholds, part)
                if moved > 0:
                    set_planes(part, planes[n, :, : (size + WORD - 1) // WORD])
                changed += moved
                low += size
            taken += 1
        last, classes = sizes[layers], sizes[layers + 1]
        across_last = (last + WORD - 1) // WORD
        readout = words[word_at : word_at + across_last * classes].reshape((across_last, classes))
        for k in range(classes):
            scores[row, k] = biases[units + k]
        add_product(
            readout, ones[one_at : one_at + classes], planes[layers - 1, :, :across_last], weights[layers],
            counts[:classes], scores[row],
        )  # fmt: skip
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
