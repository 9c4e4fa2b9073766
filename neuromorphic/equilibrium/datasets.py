"""Data to train on: scikit-learn's digits, Fashion-MNIST as Debian ships it, or IDX and NPZ files by path."""

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
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
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
    """ "digits", "fashion-mnist", a folder that holds the four IDX files of MNIST's naming (also gzipped), or an NPZ
    file (or a folder with one) of the arrays `x_train`, `y_train`, `x_test` and `y_test`.

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
    path = Path(name)
    archives = [path] if path.is_file() and path.suffix == ".npz" else sorted(path.glob("*.npz"))
    if len(archives) > 1:
        raise ValueError(f"data folder {name!r} must hold one NPZ file, got {', '.join(one.name for one in archives)}")
    return npz_file(archives[0]) if archives else idx_folder(path, path.name)


def digits(seed: int = 0) -> Dataset:
    """The 1797 digits of scikit-learn, 8×8, shuffled by `seed`; a fifth for testing."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    x = (found.data[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = found.target[order].astype(np.int64)
    cut = len(y) // DIGITS_TEST_SHARE
    return Dataset("digits", x[cut:], y[cut:], x[:cut], y[:cut], 10)


def npz_file(path: Path) -> Dataset:
    """Training and test images, `(n, height, width)` or `(n, height, width, channels)`, and labels, from an NPZ file.

    Images of bytes are divided by 255; others must be within [0, 1]. ValueError for anything else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[name] for name in NPZ_ARRAYS]
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{path.name} must hold the arrays {', '.join(NPZ_ARRAYS)}: {error}") from None
    x, y, test_x, test_y = arrays
    for images, labels, part in ((x, y, "training"), (test_x, test_y, "test")):
        if images.ndim not in (3, 4) or not images.size or labels.shape[:1] != images.shape[:1]:
            raise ValueError(f"the {part} images and labels must belong together, got {images.shape}, {labels.shape}")
        if labels.size != len(images) or labels.dtype.kind not in "iu" or labels.min() < 0:
            raise ValueError(f"the {part} labels must be integers (n,), at least 0, got {labels.dtype} {labels.shape}")
    if test_x.shape[1:] != x.shape[1:]:
        raise ValueError(f"test images must be {x.shape[1:]} as the training ones, got {test_x.shape[1:]}")
    labels, test_labels = (part.astype(np.int64).reshape(-1) for part in (y, test_y))
    classes = int(max(labels.max(), test_labels.max())) + 1
    return Dataset(path.stem, _channels_first(x), labels, _channels_first(test_x), test_labels, classes)


def _channels_first(images: NDArray[Any]) -> NDArray[np.float32]:
    if images.dtype == np.uint8:
        scaled = images.astype(np.float32) / np.float32(255)
    else:
        scaled = images.astype(np.float32)
        if not (np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1):
            raise ValueError(f"images that are not bytes must be within [0, 1], got dtype {images.dtype}")
    return scaled[:, None] if images.ndim == len("nhw") else np.ascontiguousarray(np.moveaxis(scaled, -1, 1))


def idx_folder(folder: Path, name: str) -> Dataset:
    """Training and test images and labels from a folder of IDX files."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data must be 'digits', 'fashion-mnist', a folder of IDX files or an NPZ file, got {str(folder)!r}"
        )
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
