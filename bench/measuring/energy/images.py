"""The parts of `bench/energy.py` on images: unknown classes after principal components, and digits that are drawn."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relaxon.neuromorphic.energy import (
    HMC,
    PCD,
    ULA,
    ConvolutionalEnergy,
    EnergyOutlierDetector,
    TrainingSettings,
    train,
)
from relaxon.neuromorphic.equilibrium.datasets import FASHION_MNIST, load_idx

Row = dict[str, Any]
Array = NDArray[np.float64]
SIDE = 8
BRIGHTEST = 16
DIGIT_COMPONENTS, FASHION_COMPONENTS = 16, 32
FASHION_ROWS, FASHION_JUDGED = 6000, 2000
NEIGHBOURS = 5
JITTER = 0.3
"""Deviation of what is added to pixels from 0 to 16, which stand on a lattice."""


def image_rows(quick: bool) -> Iterator[Row]:
    """AUROC of images of an unknown kind: each digit unknown in turn; digits, enlarged, to one who knows clothes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    for unknown in range(2 if quick else 10):
        known = np.random.default_rng(0).permutation(np.flatnonzero(y != unknown))
        half = len(known) // 2
        yield {"images": f"digits, {unknown} unknown"} | _aurocs(
            x[known[:half]], x[known[half:]], x[y == unknown], DIGIT_COMPONENTS
        )
    if not FASHION_MNIST.exists():
        print("fashion-mnist is not at hand (Debian's dataset-fashion-mnist): left out")
        return
    data = load_idx(FASHION_MNIST, "fashion-mnist")
    clothes, judged = np.asarray(data.x, np.float64), np.asarray(data.test_x, np.float64)
    rows = FASHION_ROWS // 4 if quick else FASHION_ROWS
    yield {"images": "Fashion-MNIST, digits unknown"} | _aurocs(
        clothes.reshape(len(clothes), -1)[:rows],
        judged.reshape(len(judged), -1)[:FASHION_JUDGED],
        _enlarged(x) * float(clothes.max()),
        FASHION_COMPONENTS,
    )


def _enlarged(x: Array) -> Array:
    """8 × 8 digits as 28 × 28, in a frame as MNIST's, from 0 to 1."""
    from scipy.ndimage import zoom

    large = zoom(x.reshape(-1, SIDE, SIDE) / BRIGHTEST, (1, 2.5, 2.5), order=1).clip(0, 1)
    return np.pad(large, ((0, 0), (4, 4), (4, 4))).reshape(len(x), -1)


def _aurocs(train_x: Array, known: Array, unknown: Array, components: int) -> Row:
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import KernelDensity, LocalOutlierFactor, NearestNeighbors

    pca = PCA(components, whiten=True, random_state=0).fit(train_x)
    fit, judged = pca.transform(train_x), pca.transform(np.concatenate([known, unknown]))
    odd = np.repeat([0, 1], [len(known), len(unknown)])
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = EnergyOutlierDetector(random_state=0).fit(fit)
    energy = detector.score_samples(judged)
    seconds = time.perf_counter() - began
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(fit).kneighbors(judged)[0][:, -1]
    found = {
        "energy": energy,
        "isolation forest": IsolationForest(random_state=0).fit(fit).score_samples(judged),
        "local outlier factor": LocalOutlierFactor(novelty=True).fit(fit).score_samples(judged),
        "kernel density": KernelDensity(bandwidth="scott").fit(fit).score_samples(judged),
        f"{NEIGHBOURS} neighbours": -near,
    }
    row: Row = {"rows": len(fit), "components": components, "trusted": detector.density_.verdict_.trusted}
    row |= {name: float(roc_auc_score(odd, -scores)) for name, scores in found.items()}
    return row | {"seconds": seconds}


def generation_rows(quick: bool) -> Iterator[Row]:
    """Digits drawn by HMC from a convolutional energy, judged by a classifier of real ones.

    "confident" is the share that the judge gives a class with over 0.9, "classes" the entropy of the classes that it
    gives, of at most log 10 = 2.303; "novelty" the median distance to the nearest training image, in units of that of
    real images held out. Beside them, the same of real images and of draws from a Gaussian of their moments.
    """
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    half = len(x) // 2
    fit, held = x[order[:half]], x[order[half:]]
    judge = SVC(probability=True, random_state=0).fit(held, y[order[half:]])
    count = 100 if quick else 400
    draws, seconds, outcome = drawn_digits(fit, count, 300 if quick else 6000)
    rng = np.random.default_rng(1)
    gauss = rng.multivariate_normal(fit.mean(0), np.cov(fit.T), count).clip(0, BRIGHTEST)
    unit = _nearest(held, fit)
    for name, images in (("convolutional energy", draws), ("Gaussian", gauss), ("real, not trained on", held[:count])):
        sure = judge.predict_proba(images)
        shares = np.bincount(sure.argmax(1), minlength=10) / len(images)
        own = name.startswith("conv")
        yield {
            "images": name,
            "count": len(images),
            "confident": float((sure.max(1) > 0.9).mean()),
            "classes": float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum()),
            "novelty": _nearest(images, fit) / unit,
            "training_seconds": seconds if own else math.nan,
            "ended": outcome if own else "",
        }


def drawn_digits(x: Array, count: int, steps: int) -> tuple[Array, float, str]:
    """Train on images `(n, 64)` from 0 to 16; images drawn, seconds, and how the training ended."""
    data = torch.from_numpy(x + JITTER * np.random.default_rng(0).standard_normal(x.shape)).float()
    data = (data / (BRIGHTEST / 2) - 1).reshape(-1, 1, SIDE, SIDE)
    energy = ConvolutionalEnergy((1, SIDE, SIDE), (32, 64, 64), confinement=0.05, seed=0)
    objective = PCD(ULA(0.1), moves=20, start="normal", restart=0.02, decay=1e-3)
    settings = TrainingSettings(steps=steps, batch=128, noise_batch=256, rate=5e-4, average=0.998, clip=1.0)
    began = time.perf_counter()
    result = train(energy, data, None, objective, settings)
    seconds = time.perf_counter() - began
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(count, 1, SIDE, SIDE, generator=generator) * data.std() + data.mean()
    # Annealed by heat: hot chains find the modes, cold ones their middle.
    for heat in (4.0, 2.0, 1.0):
        chains = HMC(0.05, 10).run(lambda z, heat=heat: energy(z) / heat, start, 1, generator, warm_up=100)
        start = chains.samples[-1]
    images = ((start + 1) * (BRIGHTEST / 2)).reshape(count, -1).clamp(0, BRIGHTEST)
    return images.double().numpy(), seconds, result.ended.value


def _nearest(images: Array, known: Array) -> float:
    from sklearn.neighbors import NearestNeighbors

    return float(np.median(NearestNeighbors(n_neighbors=1).fit(known).kneighbors(images)[0]))
