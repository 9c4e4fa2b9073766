"""Samples of priors: Laplacian numbers, scikit-learn's digits, sources made of blocks, and files."""

# Imported on first use, for its weight: scikit-learn.

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation

Array = NDArray[np.float64]
DIGIT_SIDE = 8
BRIGHTEST = 16.0
HELD_DIGITS = 297
"""Number of held-out digits, of 1797."""
FEWEST_BLOCKS, MOST_BLOCKS = 2, 4
SMALLEST_BLOCK, LARGEST_BLOCK = 3, 10
ENDINGS = (".npz", ".npy", ".csv")


def draw_laplace(count: int, seed: int = 0) -> Array:
    """Draw numbers with density `½ e^{−|x|}`, `(count, 1)`."""
    return np.random.default_rng(seed).laplace(size=(validation.positive_int("count", count), 1))


def list_laplace_quantiles(count: int) -> Array:
    """Return the quantiles `(i + ½)/count` of the density `½ e^{−|x|}`, `(count, 1)`: samples without noise."""
    levels = (np.arange(validation.positive_int("count", count)) + 0.5) / count
    return np.asarray(np.where(levels < 0.5, np.log(2 * levels), -np.log(2 * (1 - levels)))[:, None])


def load_digit_images(side: int = DIGIT_SIDE) -> tuple[Array, Array]:
    """Return scikit-learn's digits with values in [0, 1]: `(1500, side, side)` for training and 297 held out.

    Images with a side other than 8 are interpolated linearly between the pixels' centres.
    """
    from sklearn.datasets import load_digits

    validation.positive_int("side", side)
    images = load_digits().images / BRIGHTEST
    if side != DIGIT_SIDE:
        line = _build_interpolation(DIGIT_SIDE, side)
        images = line @ images @ line.T
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[HELD_DIGITS:]], images[order[:HELD_DIGITS]]


def draw_blocks(count: int, side: int, seed: int = 0) -> Array:
    """Draw sources `(count, side, side)` of 2 to 4 rectangles of strength 1, 3 to 10 cells long, inside the border.

    Where rectangles overlap the strength stays 1.
    """
    validation.positive_int("count", count)
    if validation.positive_int("side", side) < LARGEST_BLOCK + 2:
        raise ValueError(f"side must be at least {LARGEST_BLOCK + 2}, got {side}")
    generator = np.random.default_rng(seed)
    sources = np.zeros((count, side, side))
    for source in sources:
        for _ in range(generator.integers(FEWEST_BLOCKS, MOST_BLOCKS + 1)):
            height, width = generator.integers(SMALLEST_BLOCK, LARGEST_BLOCK + 1, 2)
            row, column = generator.integers(1, side - height), generator.integers(1, side - width)
            source[row : row + height, column : column + width] = 1.0
    return sources


def cut_patches(images: Array, side: int, seed: int = 0) -> Array:
    """Cut a square of `side` pixels out of each image `(n, height, width)`, at a random position."""
    generator = np.random.default_rng(seed)
    count, height, width = images.shape
    if side > min(height, width):
        raise ValueError(f"side must be at most {min(height, width)}, got {side}")
    rows = generator.integers(0, height - side + 1, count)
    columns = generator.integers(0, width - side + 1, count)
    return np.stack([image[r : r + side, c : c + side] for image, r, c in zip(images, rows, columns, strict=True)])


def read_samples(path: Path) -> Array:
    """Return samples `(n, *shape)` from an .npy file, an .npz file with one array, or a .csv file of numbers.

    A .csv file has one sample in each line, and optionally a header, which is skipped. ValueError for anything else.
    """
    if path.suffix not in ENDINGS:
        raise ValueError(f"data must be a file that ends in {', '.join(ENDINGS)}, got {path.name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"data must be a file that exists, got {str(path)!r}")
    if path.suffix == ".csv":
        found = _read_csv(path)
    elif path.suffix == ".npy":
        found = np.load(path, allow_pickle=False)
    else:
        with np.load(path, allow_pickle=False) as archive:
            if len(archive.files) != 1:
                raise ValueError(f"data must hold one array where it is an .npz file, got {len(archive.files)}")
            found = archive[archive.files[0]]
    array = validation.real_array("data", found).astype(np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if not array.size:
        raise ValueError(f"data must hold samples, got shape {array.shape}")
    return array


def _read_csv(path: Path) -> Array:
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        np.array(lines[:1] and lines[0].split(","), np.float64)
        skipped = 0
    except ValueError:
        skipped = 1
    try:
        return np.loadtxt(lines[skipped:], delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"data must hold numbers only, got {path.name}: {error}") from None


def _build_interpolation(before: int, after: int) -> Array:
    """Return the linear interpolation from the centres of `before` to those of `after` pixels, `(after, before)`."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.minimum(places.astype(int), max(before - 2, 0))
    matrix = np.zeros((after, before))
    matrix[np.arange(after), low] = 1 - (places - low)
    matrix[np.arange(after), np.minimum(low + 1, before - 1)] += places - low
    return matrix
