"""Data to train on: scikit-learn's digits, Fashion-MNIST as Debian ships it, or any folder of IDX files."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its files."""
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
DIGITS_TEST_SHARE = 5
"""One in so many of the digits is kept for testing."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images scaled to [0, 1] as `(samples, channels, height, width) float32` and class indices as int64."""

    name: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]
    classes: int

    @property
    def image(self) -> tuple[int, int, int]:
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    def flat(self) -> Dataset:
        """The same with each sample as a vector."""
        x, test_x = self.x.reshape(len(self.x), -1), self.test_x.reshape(len(self.test_x), -1)
        return Dataset(self.name, x, self.y, test_x, self.test_y, self.classes)


def load(name: str) -> Dataset:
    """ "digits", "fashion-mnist", or a folder that holds the four IDX files of MNIST's naming (also gzipped).

    FileNotFoundError where there are none, ValueError for a damaged one.
    """
    if name == "digits":
        return digits()
    if name == "fashion-mnist":
        if not FASHION_MNIST.is_dir():
            raise FileNotFoundError(
                f"data 'fashion-mnist' is looked for in {FASHION_MNIST}, which does not exist: install Debian's "
                "package dataset-fashion-mnist, or give the folder of the IDX files"
            )
        return idx_folder(FASHION_MNIST, "fashion-mnist")
    return idx_folder(Path(name), Path(name).name)


def digits(seed: int = 0) -> Dataset:
    """The 1797 digits of scikit-learn, 8×8, shuffled by `seed`; a fifth for testing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    x = (found.data[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = found.target[order].astype(np.int64)
    cut = len(y) // DIGITS_TEST_SHARE
    return Dataset("digits", x[cut:], y[cut:], x[:cut], y[:cut], 10)


def idx_folder(folder: Path, name: str) -> Dataset:
    """Training and test images and labels from a folder of IDX files."""
    if not folder.is_dir():
        raise FileNotFoundError(f"data must be 'digits', 'fashion-mnist' or a folder of IDX files, got {str(folder)!r}")
    arrays = []
    for stem in IDX_FILES:
        found = next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"data folder {str(folder)!r} must hold {stem} or {stem}.gz")
        arrays.append(read_idx(found))
    x, y, test_x, test_y = arrays
    for images, labels, part in ((x, y, "training"), (test_x, test_y, "test")):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not len(labels):
            raise ValueError(
                f"the {part} files must hold images (n, height, width) and labels (n,), "
                f"got {images.shape} and {labels.shape}"
            )
    if test_x.shape[1:] != x.shape[1:]:
        raise ValueError(f"test images must be {x.shape[1:]} as the training ones, got {test_x.shape[1:]}")
    classes = int(max(y.max(), test_y.max())) + 1
    return Dataset(name, _scaled(x), y.astype(np.int64), _scaled(test_x), test_y.astype(np.int64), classes)


def _scaled(images: NDArray[Any]) -> NDArray[np.float32]:
    return (images.astype(np.float32) / np.float32(255))[:, None]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in LeCun's IDX format, gzipped or not; ValueError where the file is not one."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        data = stream.read()
    unsigned_byte = 8
    if len(data) < 4 or data[:3] != bytes((0, 0, unsigned_byte)) or len(data) < 4 + 4 * data[3]:
        start = data[:4].hex() or "nothing"
        raise ValueError(f"{path.name} must be an IDX file of unsigned bytes, got {start} at its start")
    axes = data[3]
    shape = tuple(int(side) for side in np.frombuffer(data, ">u4", axes, 4))
    held, expected = len(data) - 4 - 4 * axes, int(np.prod(shape, dtype=np.int64))
    if held != expected:
        raise ValueError(f"{path.name} must hold {expected} bytes after its header, got {held}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
