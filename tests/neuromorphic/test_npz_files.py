"""Data sets from NPZ files: what is read, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from relaxon.neuromorphic.equilibrium import datasets


def test_npz_files_are_read_and_others_refused(tmp_path):
    images = np.arange(2 * 3 * 4 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
    arrays = {"x_train": images, "y_train": np.array([[0], [2]]), "x_test": images[:1], "y_test": np.array([1])}
    np.savez(tmp_path / "small.npz", **arrays)
    for name in (tmp_path / "small.npz", tmp_path):
        found = datasets.load(str(name))
        assert (found.name, found.classes, found.image) == ("small", 3, (2, 3, 4))
        assert found.y.tolist() == [0, 2]
        assert found.x[1, 1, 2, 3] == np.float32(images[1, 2, 3, 1] / 255)
    for change, words in (
        ({"x_test": images[:1, :2]}, "test images must have"),
        ({"y_train": np.array([0.0, 1.0])}, "labels must be integers"),
        ({"x_train": images.astype(float)}, r"values in \[0, 1\]"),
        ({"y_test": np.array([1, 1])}, "one label for each image"),
    ):
        np.savez(tmp_path / "small.npz", **{**arrays, **change})
        with pytest.raises(ValueError, match=words):
            datasets.load(str(tmp_path))
    np.savez(tmp_path / "small.npz", x_train=images)
    with pytest.raises(ValueError, match="must contain the arrays x_train"):
        datasets.load(str(tmp_path))
