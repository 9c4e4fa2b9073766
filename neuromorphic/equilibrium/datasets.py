"""Training data: scikit-learn's digits, Fashion-MNIST as packaged by Debian, and IDX and NPZ files."""

# Imported on first use, for its weight: scikit-learn.

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""The folder into which Debian's package `dataset-fashion-mnist` installs its files."""
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
DIGITS_TEST_SHARE = 5
"""One in five digits is kept for testing."""


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
        """Return the same data with each sample as a vector."""
        x, test_x = self.x.reshape(len(self.x), -1), self.test_x.reshape(len(self.test_x), -1)
        return Dataset(self.name, x, self.y, test_x, self.test_y, self.classes)


def load(name: str) -> Dataset:
    """Load "digits", "fashion-mnist", a folder of IDX files, or an NPZ file.

    A folder contains either the four IDX files of MNIST's naming (gzipped or not) or one NPZ file. An NPZ file contains
    the arrays `x_train`, `y_train`, `x_test` and `y_test`.

    Raises
    ------
    FileNotFoundError : where there are no such data.
    ValueError : for a damaged file.
    """
    if name == "digits":
        return digits()
    if name == "fashion-mnist":
        if not FASHION_MNIST.is_dir():
            raise FileNotFoundError(
                f"data 'fashion-mnist' must be in {FASHION_MNIST}, which does not exist: install Debian's package "
                "dataset-fashion-mnist, or give the folder of the IDX files"
            )
        return load_idx(FASHION_MNIST, "fashion-mnist")
    path = Path(name)
    archives = [path] if path.is_file() and path.suffix == ".npz" else sorted(path.glob("*.npz"))
    if len(archives) > 1:
        names = ", ".join(archive.name for archive in archives)
        raise ValueError(f"data folder {name!r} must contain a single NPZ file, got {names}")
    return load_npz(archives[0]) if archives else load_idx(path, path.name)


def digits(seed: int = 0) -> Dataset:
    """Return the 1797 digits of scikit-learn, 8×8, shuffled by `seed`; a fifth of them is for testing."""
    from sklearn import datasets

    found = datasets.load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    x = (found.data[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = found.target[order].astype(np.int64)
    cut = len(y) // DIGITS_TEST_SHARE
    return Dataset("digits", x[cut:], y[cut:], x[:cut], y[:cut], 10)


def load_npz(path: Path) -> Dataset:
    """Return the images, `(n, height, width)` or `(n, height, width, channels)`, and labels of an NPZ file.

    Images of bytes are divided by 255; other images must have values in [0, 1]. ValueError for anything else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[name] for name in NPZ_ARRAYS]
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path.name} must contain the arrays {', '.join(NPZ_ARRAYS)}: {error}") from None
    return _build_dataset(path.stem, arrays)


def load_idx(folder: Path, name: str) -> Dataset:
    """Return the training and test images and labels of a folder of IDX files."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data must be 'digits', 'fashion-mnist', a folder of IDX files or an NPZ file, got {str(folder)!r}"
        )
    arrays = []
    for stem in IDX_FILES:
        found = next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"data folder {str(folder)!r} must contain {stem} or {stem}.gz")
        arrays.append(read_idx(found))
    return _build_dataset(name, arrays)


def _build_dataset(name: str, arrays: list[NDArray[Any]]) -> Dataset:
    """Return the data set of training images and labels, test images and labels; ValueError where they do not match."""
    x, y, test_x, test_y = arrays
    for images, labels, part in ((x, y, "training"), (test_x, test_y, "test")):
        if images.ndim not in (3, 4) or not images.size or labels.shape[:1] != images.shape[:1]:
            raise ValueError(
                f"the {part} data must have one label for each image, got images {images.shape}, labels {labels.shape}"
            )
        if labels.size != len(images) or labels.dtype.kind not in "iu" or labels.min() < 0:
            raise ValueError(f"the {part} labels must be integers (n,), at least 0, got {labels.dtype} {labels.shape}")
    if test_x.shape[1:] != x.shape[1:]:
        raise ValueError(f"test images must have the training images' shape {x.shape[1:]}, got {test_x.shape[1:]}")
    labels, test_labels = (part.astype(np.int64).reshape(-1) for part in (y, test_y))
    classes = int(max(labels.max(), test_labels.max())) + 1
    return Dataset(name, _move_channels_first(x), labels, _move_channels_first(test_x), test_labels, classes)


def _move_channels_first(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return images scaled to [0, 1] as `(n, channels, height, width)`."""
    if images.dtype == np.uint8:
        scaled = images.astype(np.float32) / np.float32(255)
    else:
        scaled = images.astype(np.float32)
        if not (np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1):
            raise ValueError(f"images that are not bytes must have values in [0, 1], got dtype {images.dtype}")
    return scaled[:, None] if images.ndim == len("nhw") else np.ascontiguousarray(np.moveaxis(scaled, -1, 1))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return an array of bytes from a file in LeCun's IDX format, gzipped or not; ValueError for any other file."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        data = stream.read()
    unsigned_byte = 8
    if len(data) < 4 or data[:3] != bytes((0, 0, unsigned_byte)) or len(data) < 4 + 4 * data[3]:
        start = data[:4].hex() or "nothing"
        raise ValueError(f"{path.name} must be an IDX file of unsigned bytes, got a file that begins with {start}")
    axes = data[3]
    shape = tuple(int(side) for side in np.frombuffer(data, ">u4", axes, 4))
    held, expected = len(data) - 4 - 4 * axes, int(np.prod(shape, dtype=np.int64))
    if held != expected:
        raise ValueError(f"{path.name} must have {expected} bytes after its header, got {held}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
