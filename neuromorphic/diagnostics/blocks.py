"""Images of a digit and an empty frame, in which the relevant pixels are known by construction."""

# Imported on first use, for its weight: scikit-learn.

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.neuromorphic.parameters import check_real

SIDE = 8
TEST_SHARE = 4
"""One image in four is kept for testing."""


@dataclass(frozen=True, slots=True)
class BlockDigits:
    """Training and test images `(rows, 16, 8)` in [0, 1] with their digits; `signal` marks the digit's half."""

    x: NDArray[np.float64] = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)
    signal: NDArray[np.bool_] = field(repr=False)
    test_x: NDArray[np.float64] = field(repr=False)
    test_y: NDArray[np.int64] = field(repr=False)
    test_signal: NDArray[np.bool_] = field(repr=False)


def block_digits(seed: int = 0, *, null_on_top: float = 0.5) -> BlockDigits:
    """Return scikit-learn's 1797 digits, each in one half of an image with an empty frame in the other half.

    The frame is above the digit with probability `null_on_top`, drawn for each image. Neither the frame nor the
    position of the digit is informative: an attribution that ranks pixels of the frame highly is wrong.

    Source: BlockMNIST of Shah, Jain and Netrapalli, "Do Input Gradients Highlight Discriminative Features?", NeurIPS
    2021, with 8×8 digits in place of MNIST's.

    >>> from relaxon.neuromorphic.diagnostics import block_digits
    >>> found = block_digits()
    >>> found.x.shape, found.test_x.shape, bool(found.signal.reshape(len(found.x), -1).sum(1).min() == 64)
    ((1348, 16, 8), (449, 16, 8), True)
    """
    from sklearn.datasets import load_digits

    check_real("null_on_top", null_on_top, least=0.0, up_to=1.0)
    generator = np.random.default_rng(validation.whole_number("seed", seed))
    digits = load_digits()
    order = generator.permutation(len(digits.target))
    images, labels = digits.images[order] / 16.0, digits.target[order].astype(np.int64)
    below = generator.random(len(images)) < null_on_top
    frame = np.zeros((SIDE, SIDE))
    frame[1:-1, 1:-1] = 1.0
    frame[2:-2, 2:-2] = 0.0
    frames = np.broadcast_to(frame, images.shape)
    halves = np.where(below[:, None, None, None], np.stack([frames, images], 1), np.stack([images, frames], 1))
    x = halves.reshape(len(images), 2 * SIDE, SIDE)
    signal = np.repeat(np.stack([~below, below], 1), SIDE, axis=1)[:, :, None] & np.ones((1, 1, SIDE), bool)
    cut = len(x) // TEST_SHARE
    return BlockDigits(x[cut:], labels[cut:], signal[cut:], x[:cut], labels[:cut], signal[:cut])
