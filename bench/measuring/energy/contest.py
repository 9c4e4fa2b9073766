"""The parts of `bench/energy.py` on tables: density estimation and outlier detection against scikit-learn's methods."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from measuring.energy.tabular import MOST_SHARE, NAMES, OutlierSplit, Setting, split, whole
from relaxon.neuromorphic.energy import EnergyDensity, EnergyOutlierDetector, KernelDensityNoise
from relaxon.neuromorphic.energy.estimators.trimming import select_dense_rows
from relaxon.neuromorphic.energy.noise.choice import add_wide_component
from relaxon.neuromorphic.energy.noise.fitted import choose_bandwidth

Row = dict[str, Any]
Array = NDArray[np.float64]
BANDWIDTHS = np.geomspace(0.05, 2, 10)
COMPONENTS = (1, 2, 4, 8, 16)
DENSITY_SETS = ("abalone9-18", "ecoli4", "winequality-red-4", "yeast3", "page-blocks0", "penbased", "vowel0", "pima")
DENSITY_FOLDS = 3
LEAST_DEVIATION = 0.05


def best_kernel(x: Array) -> Any:
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KernelDensity

    return GridSearchCV(KernelDensity(), {"bandwidth": BANDWIDTHS}, cv=3).fit(x).best_estimator_


def best_mixture(x: Array, seed: int) -> Any:
    from sklearn.mixture import GaussianMixture
    from sklearn.model_selection import GridSearchCV

    mixture = GaussianMixture(random_state=seed, reg_covar=1e-4)
    counts = [count for count in COMPONENTS if count * (x.shape[1] + 1) <= len(x)]
    return GridSearchCV(mixture, {"n_components": counts or [1]}, cv=3).fit(x).best_estimator_


def density_rows(repeats: int) -> Iterator[Row]:
    """Mean log-density of rows not trained on (nats, standardised features): higher is better."""
    for name in DENSITY_SETS:
        x, _ = whole(name)
        found: dict[str, list[float]] = {}
        trusted = 0
        for seed in range(repeats):
            order = np.random.default_rng(seed).permutation(len(x))
            cut = len(x) // DENSITY_FOLDS
            test, train = x[order[:cut]], x[order[cut:]]
            varies = train.std(0) > 0
            train, test = train[:, varies], test[:, varies]
            mean, scale = train.mean(0), train.std(0)
            # Values on a lattice have no density: a little noise inside it makes one, the same for all methods.
            jitter = np.random.default_rng(seed + 1000)
            train = (train - mean) / scale + 0.05 * jitter.standard_normal(train.shape)
            test = (test - mean) / scale + 0.05 * jitter.standard_normal(test.shape)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = EnergyDensity(random_state=seed, weight_decay=0.01, learning_rate=1e-3).fit(train)
                scores = {
                    "energy": model.score(test),
                    "mixture": best_mixture(train, seed).score(test),
                    "kernel": best_kernel(train).score(test) / len(test),
                }
            trusted += model.verdict_.trusted
            for method, score in scores.items():
                found.setdefault(method, []).append(float(score))
        row: Row = {"set": name, "rows": len(x), "features": x.shape[1], "repeats": repeats}
        yield row | {method: float(np.mean(scores)) for method, scores in found.items()} | {"trusted": trusted}


def energy_scores(s: OutlierSplit, seed: int) -> Array:
    return np.asarray(EnergyOutlierDetector(random_state=seed).fit(s.train).score_samples(s.test))


def trimmed_scores(s: OutlierSplit, seed: int) -> Array:
    detector = EnergyOutlierDetector(random_state=seed, trim=2 * MOST_SHARE)
    return np.asarray(detector.fit(s.train).score_samples(s.test))


def noise_scores(s: OutlierSplit, seed: int, trim: float = 0.0) -> Array:
    """Of the kernels alone that the detector tilts."""
    x = torch.from_numpy(s.train[select_dense_rows(s.train, trim)])
    # A rare feature may hardly vary over the rows kept, and must not decide alone.
    factor = torch.diag(choose_bandwidth(x) * x.std(0).clamp(min=LEAST_DEVIATION))
    return np.asarray(add_wide_component(KernelDensityNoise(x, factor), x).log_prob(torch.from_numpy(s.test)))


def forest_scores(s: OutlierSplit, seed: int) -> Array:
    from sklearn.ensemble import IsolationForest

    return np.asarray(IsolationForest(random_state=seed).fit(s.train).score_samples(s.test))


def neighbour_scores(s: OutlierSplit, seed: int) -> Array:
    from sklearn.neighbors import LocalOutlierFactor

    return np.asarray(LocalOutlierFactor(novelty=True).fit(s.train).score_samples(s.test))


def kernel_scores(s: OutlierSplit, seed: int) -> Array:
    return np.asarray(best_kernel(s.train).score_samples(s.test))


DETECTORS: dict[str, Callable[[OutlierSplit, int], Array]] = {
    "energy": energy_scores,
    "isolation forest": forest_scores,
    "local outlier factor": neighbour_scores,
    "kernel density": kernel_scores,
}
FURTHER: dict[str, Callable[[OutlierSplit, int], Array]] = {
    "energy, trimmed": trimmed_scores,
    "kernels": noise_scores,
    "kernels, trimmed": partial(noise_scores, trim=2 * MOST_SHARE),
}
"""Those that run where they are asked for."""


def outlier_rows(
    setting: Setting, seeds: int, names: tuple[str, ...] = NAMES, chosen: Sequence[str] = tuple(DETECTORS)
) -> Iterator[Row]:
    """AUROC of each detector, the mean over the splits."""
    from sklearn.metrics import roc_auc_score

    detectors = {detector: (DETECTORS | FURTHER)[detector] for detector in chosen}
    for name in names:
        found: dict[str, list[float]] = {detector: [] for detector in detectors}
        began = time.perf_counter()
        for seed in range(seeds):
            s = split(name, seed, setting)
            for detector, scores in detectors.items():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[detector].append(float(roc_auc_score(s.anomaly, -scores(s, seed))))
        row: Row = {
            "set": name,
            "setting": setting,
            "rows": len(s.train),
            "features": s.train.shape[1],
            "splits": seeds,
        }
        row |= {detector: float(np.mean(values)) for detector, values in found.items()}
        yield row | {"seconds": time.perf_counter() - began}


def outlier_summary(rows: list[Row]) -> list[Row]:
    """Means over the sets, and on how many each detector is the best."""
    out = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        chosen = [row for row in rows if row["setting"] == setting]
        detectors = [detector for detector in (*DETECTORS, *FURTHER) if detector in chosen[0]]
        for detector in detectors:
            out.append(
                {
                    "setting": setting,
                    "detector": detector,
                    "mean_auroc": float(np.mean([row[detector] for row in chosen])),
                    "best_on": sum(row[detector] >= max(row[other] for other in detectors) for row in chosen),
                    "sets": len(chosen),
                }
            )
    return out
