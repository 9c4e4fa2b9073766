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

from relaxon.solvers.kernels.compiled import kernel, kernel_part
from relaxon.solvers.kernels.threads import divide

PLANES = 4
"""Bit planes that a pass over the words takes together: levels from 0 to 15."""
HIGHEST = 15
ZERO, ONE, TWO, THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
WORD = 64
INPUT_CHUNKS = 3
"""Of four planes each: inputs have twelve bits."""
OUTPUT_BITS = 12
"""Of the outputs of sign units, which are whole multiples of a step."""
COUNTED = kernel(error_model="numpy")
"""Sums stay in their order, and products apart: a packed prediction is that of the unpacked twin to the last bit."""
COUNTED_PART = kernel_part(error_model="numpy")
"""The same for what only these kernels call."""


@intrinsic
def _popcount(typing: Any, word: Any) -> Any:
    """Count the ones of an integer: LLVM's `ctpop`, which Numba has no name for."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return (word(word), build) if isinstance(word, types.Integer) else None


popcount: Any = _popcount
"""As kernels call it: with the word alone."""


@COUNTED_PART
def add_counts(words, planes, first, counts):  # type: ignore[no-untyped-def]
    """Add `counts[i] += Σ_p 2^{first+p} pop(words[:, i] ⊕ planes[p])` for four planes `(4, words)`."""
    low = np.uint64(first)
    for w in range(words.shape[0]):
        row = words[w]
        a, b, c, d = planes[0, w], planes[1, w], planes[2, w], planes[3, w]
        for i in range(row.size):
            s = row[i]
            total = popcount(s ^ a) + (popcount(s ^ b) << ONE) + (popcount(s ^ c) << TWO) + (popcount(s ^ d) << THREE)
            counts[i] += total << low


@COUNTED_PART
def set_planes(levels, planes):  # type: ignore[no-untyped-def]
    """Set `planes[p, w]` to the bits `p` of 64 levels from `64 w` on, for four planes; `levels` fill whole words."""
    for w in range(planes.shape[1]):
        a, b, c, d = ZERO, ZERO, ZERO, ZERO
        own = levels[w * WORD : (w + 1) * WORD]
        for j in range(WORD):
            q, at = own[j], np.uint64(j)
            a |= (q & ONE) << at
            b |= ((q >> ONE) & ONE) << at
            c |= ((q >> TWO) & ONE) << at
            d |= ((q >> THREE) & ONE) << at
        planes[0, w], planes[1, w], planes[2, w], planes[3, w] = a, b, c, d


@COUNTED_PART
def set_levels(state, thresholds, levels):  # type: ignore[no-untyped-def]
    """Set `levels[i]` to the number of the 15 thresholds that `state[i]` reaches; return how many levels changed."""
    changed = ZERO
    for i in range(state.size):
        u, level = state[i], ZERO
        for k in range(HIGHEST):
            level += ONE if u >= thresholds[k] else ZERO
        changed += ONE if level != levels[i] else ZERO
        levels[i] = level
    return changed


@COUNTED_PART
def add_product(words, ones, planes, offset, columns, weight, counts, state):  # type: ignore[no-untyped-def]
    """Add `state[i] += weight · Σ_j s_ij (q_j − offset)` for levels of `planes (chunks, 4, words)`, lowest first."""
    highest = np.int64(0)
    for i in range(state.size):
        counts[i] = ZERO
    for chunk in range(planes.shape[0]):
        add_counts(words, planes[chunk], PLANES * chunk, counts)
        highest += np.int64(HIGHEST) << np.int64(PLANES * chunk)
    for i in range(state.size):
        total = highest * ones[i] - np.int64(counts[i]) - offset * (2 * ones[i] - columns)
        state[i] += weight * np.float64(total)


@COUNTED_PART
def add_terms(n, terms, weights, words, ones, planes, counts, state):  # type: ignore[no-untyped-def]
    """Add to `state` the input of layer `n` from its one or two matrices; `terms (layers, 2, 8)` locates them."""
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
    across = (widest + WORD - 1) // WORD
    planes = np.empty((layers + INPUT_CHUNKS, PLANES, across), np.uint64)
    # Levels by layer, each with room for whole words, and 0 behind its units.
    whole = np.zeros((layers + 2, across * WORD), np.uint64)
    levels, counts, spare = whole[:layers], whole[layers], whole[layers + 1]
    drive, state = np.empty(units), np.empty(widest)
    for row in range(start, stop):
        for chunk in range(INPUT_CHUNKS):
            for j in range(sizes[0]):
                spare[j] = (inputs[row, j] >> np.uint64(PLANES * chunk)) & np.uint64(HIGHEST)
            set_planes(spare, planes[layers + chunk, :, : (sizes[0] + WORD - 1) // WORD])
        for i in range(units):
            drive[i] = biases[i]
        add_terms(0, terms, weights, words, ones, planes, counts, drive[: sizes[1]])
        for n in range(layers):
            for i in range(sizes[n + 1]):
                levels[n, i] = first_level
            set_planes(levels[n], planes[n, :, : (sizes[n + 1] + WORD - 1) // WORD])
        taken, changed = 0, ONE
        while changed > ZERO and taken < most:
            changed, low = ZERO, 0
            for n in range(layers):
                size = sizes[n + 1]
                own = state[:size]
                for i in range(size):
                    own[i] = drive[low + i]
                add_terms(n + 1, terms, weights, words, ones, planes, counts, own)
                moved = set_levels(own, thresholds, levels[n])
                if moved > ZERO:
                    set_planes(levels[n], planes[n, :, : (size + WORD - 1) // WORD])
                changed += moved
                low += size
            taken += 1
        for k in range(scores.shape[1]):
            scores[row, k] = biases[units + k]
        add_terms(layers + 1, terms, weights, words, ones, planes, counts, scores[row])
        low = 0
        for n in range(layers):
            for i in range(sizes[n + 1]):
                out[row, low + i] = levels[n, i]
            low += sizes[n + 1]
        sweeps[row] = taken if changed == ZERO else -taken


def relax_packed(inputs: NDArray[np.uint64], *args: Any) -> None:
    """Relax all rows, shared among threads; arguments as those of `relax_signs` behind `inputs`."""
    divide(relax_signs, len(inputs), inputs, *args)


@COUNTED_PART
def count_bits(words, code, counts):  # type: ignore[no-untyped-def]
    """Set `counts[i]` to `Σ_w pop(words[w, i] ⊕ code[w])`."""
    w = 0
    while w + 4 <= code.size:
        a, b, c, d = code[w], code[w + 1], code[w + 2], code[w + 3]
        first, second, third, fourth = words[w], words[w + 1], words[w + 2], words[w + 3]
        for i in range(counts.size):
            pair = popcount(first[i] ^ a) + popcount(second[i] ^ b)
            pair += popcount(third[i] ^ c) + popcount(fourth[i] ^ d)
            counts[i] = pair if w == 0 else counts[i] + pair
        w += 4
    if w + 2 <= code.size:
        a, b, first, second = code[w], code[w + 1], words[w], words[w + 1]
        for i in range(counts.size):
            pair = popcount(first[i] ^ a) + popcount(second[i] ^ b)
            counts[i] = pair if w == 0 else counts[i] + pair
        w += 2
    if w < code.size:
        a, first = code[w], words[w]
        for i in range(counts.size):
            one = popcount(first[i] ^ a)
            counts[i] = one if w == 0 else counts[i] + one


@COUNTED
def predict_signs(  # type: ignore[no-untyped-def]
    start, stop, x, missing, thresholds, words, limits, planes, within, steps, bias, out
):  # fmt: skip
    """Compute `out[row] ← bias + steps · Σ_u h_u n_u` for rows `start … stop − 1` of `x (n, d)`.

    `thresholds (64 ⌈bits/64⌉,)` end with infinities; `words (⌈bits/64⌉, units)` and `limits (units,)` have whole words
    of units, the last ones 0. A unit's `h` is 1 where fewer than its limit of the row's bits differ from its own, else
    −1. `planes (units/64, 12 K)` hold for each output and each bit of `n_u + 2¹¹` the units' bits; `within` are the
    units without those that fill the last word.
    """
    d, outputs, units = x.shape[1], out.shape[1], limits.size
    both, counts = np.zeros(thresholds.size + d), np.empty(units, np.uint64)
    real, base = both[: thresholds.size], both[thresholds.size :]
    spare = np.empty(words.shape[0] + planes.shape[0] + planes.shape[1], np.uint64)
    code, rest = spare[: words.shape[0]], spare[words.shape[0] :]
    signs, sums = rest[: planes.shape[0]], rest[planes.shape[0] :]
    for i in range(start, stop):
        for j in range(d):
            value = x[i, j]
            base[j] = value if value == value else missing[j]
        for low in range(0, real.size - d + 1, d):
            own = real[low : low + d]
            for j in range(d):
                own[j] = base[j]
        for w in range(code.size):
            word, own, limit = ZERO, real[w * WORD : (w + 1) * WORD], thresholds[w * WORD : (w + 1) * WORD]
            for j in range(WORD):
                word |= (ONE if own[j] > limit[j] else ZERO) << np.uint64(j)
            code[w] = word
        count_bits(words, code, counts)
        ones = ZERO
        for w in range(signs.size):
            word, found, most = ZERO, counts[w * WORD : (w + 1) * WORD], limits[w * WORD : (w + 1) * WORD]
            for j in range(WORD):
                word |= (ONE if found[j] < most[j] else ZERO) << np.uint64(j)
            signs[w] = word
            ones += popcount(word)
        count_bits(planes, signs, sums)
        above = (np.int64(within) - 2 * np.int64(ones)) << np.int64(OUTPUT_BITS - 1)
        for k in range(outputs):
            total, part = ZERO, sums[k * OUTPUT_BITS : (k + 1) * OUTPUT_BITS]
            for p in range(OUTPUT_BITS):
                total += (ones - part[p]) << np.uint64(p)
            out[i, k] = bias[k] + steps[k] * np.float64(np.int64(total) + above)


def predict_packed(x: NDArray[np.float64], *args: Any) -> None:
    """Predict all rows, shared among threads; arguments as those of `predict_signs` behind `x`."""
    divide(predict_signs, len(x), x, *args)
