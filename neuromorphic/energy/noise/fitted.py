"""Nonparametric noise distributions fitted to data: Gaussian mixture and kernel density."""
# Imported on first use, for its weight: scikit-learn's mixture models.

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.events import flatten_events, parse_event_shape, validate_events
from relaxon.neuromorphic.energy.noise.distributions import NoiseModule, estimate_moments, standard_normal

CHUNK = 2**22
"""Maximum number of pairs of points and centres that a kernel density evaluates at once."""
FIT_ROWS = 20_000
"""Approximate maximum number of rows, evenly spaced, to which a mixture is fitted."""
RIDGE = 1e-6
"""Ridge on the covariances of a mixture, relative to the variance of a feature."""


class MixtureNoise(NoiseModule):
    """`Σ_k w_k N(m_k, L_k L_kᵀ)`: weights `(k,)`, means `(k, d)`, lower factors `(k, d, d)`."""

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, weights: Tensor, means: Tensor, factors: Tensor, shape: Any = None) -> None:
        super().__init__(means.shape[1:] if shape is None else shape)
        k, d = len(weights), self.features
        if tuple(means.shape) != (k, d) or tuple(factors.shape) != (k, d, d):
            expected = f"({k}, {d}) and ({k}, {d}, {d})"
            raise ValueError(
                f"means and factors must be of shapes {expected}, got {tuple(means.shape)} and {tuple(factors.shape)}"
            )
        if not bool((weights > 0).all()) or not bool((factors.diagonal(dim1=1, dim2=2) > 0).all()):
            raise ValueError("weights and the factors' diagonals must be greater than 0")
        self.register_buffer("log_weights", (weights / weights.sum()).log().detach().clone())
        self.register_buffer("means", means.detach().clone())
        self.register_buffer("factors", factors.detach().clone())

    @classmethod
    def fit(cls, data: Tensor, components: int | None = None, *, seed: int = 0, most: int = 16) -> Self:
        """Fit by scikit-learn's `GaussianMixture`.

        If `components` is None, the number among 1, 2, 4, …, `most` with the smallest BIC is used.
        """
        from sklearn.mixture import GaussianMixture

        data = validate_events("data", data, least=2)
        flat = flatten_events(data)
        mean, covariance = estimate_moments(flat)
        scale = covariance.diagonal().sqrt()
        x = ((flat - mean) / scale).double().cpu().numpy()
        x = x[:: max(1, len(x) // FIT_ROWS)]
        if components is None:
            counts = [2**i for i in range(most.bit_length()) if 2**i <= most and 2**i * (x.shape[1] + 1) <= len(x)]
        else:
            counts = [validation.positive_int("components", components)]
            if counts[0] > len(x):
                raise ValueError(f"components must be at most the {len(x)} rows, got {components}")
        best, found = math.inf, None
        for count in counts or [1]:
            mixture = GaussianMixture(count, reg_covar=RIDGE, random_state=seed, max_iter=200)
            with np.errstate(all="ignore"):
                mixture.fit(x)
            score = mixture.bic(x) if len(counts) > 1 else -math.inf
            if score < best:
                best, found = score, mixture
        assert found is not None
        factors = np.linalg.cholesky(found.covariances_)

        def like(array: Any) -> Tensor:
            return torch.as_tensor(array).to(flat)

        weights = like(found.weights_).clamp(min=torch.finfo(flat.dtype).tiny)
        return cls(weights, mean + scale * like(found.means_), scale[:, None] * like(factors), data.shape[1:])

    def config(self) -> dict[str, Any]:
        return super().config() | {"components": len(self.log_weights)}

    @classmethod
    def empty(cls, config: dict[str, Any]) -> Self:
        shape, k = parse_event_shape(config["event_shape"]), int(config["components"])
        d = math.prod(shape)
        return cls(torch.ones(k), torch.zeros(k, d), torch.eye(d).expand(k, d, d), shape)

    def flat_sample(self, count: int, generator: torch.Generator) -> Tensor:
        chosen = draw_indices(self.log_weights, count, generator)
        z = standard_normal((count, self.features), generator, self.means)
        return self.means[chosen] + torch.einsum("nij,nj->ni", self.factors[chosen], z)

    def flat_log_prob(self, x: Tensor) -> Tensor:
        centred = (x[None] - self.means[:, None]).transpose(1, 2)
        z = torch.linalg.solve_triangular(self.factors, centred, upper=False)
        size = self.factors.diagonal(dim1=1, dim2=2).log().sum(1) - self.log_weights
        each = -0.5 * z.square().sum(1) - size[:, None]
        return torch.logsumexp(each, 0) - self.features / 2 * math.log(2 * math.pi)


class KernelDensityNoise(NoiseModule):
    """Gaussian kernels with a common covariance `h² Σ` at the points `(n, d)`; `factor` is its Cholesky factor."""

    points: Tensor
    factor: Tensor
    white: Tensor

    def __init__(self, points: Tensor, factor: Tensor, shape: Any = None) -> None:
        super().__init__(points.shape[1:] if shape is None else shape)
        if tuple(factor.shape) != (self.features, self.features):
            raise ValueError(f"factor must be of shape {(self.features,) * 2}, got {tuple(factor.shape)}")
        self.register_buffer("points", points.detach().clone())
        self.register_buffer("factor", factor.detach().clone())

    @classmethod
    def fit(cls, data: Tensor, bandwidth: float | None = None, *, whiten: bool = False, most: int = 4000) -> Self:
        """Place kernels at the rows (at evenly spaced ones if there are more than `most`).

        `bandwidth` is in standard deviations of the features, or of whitened coordinates with `whiten`. If it is None,
        the one with the largest leave-one-out likelihood is chosen from a geometric grid around Scott's rule.
        """
        data = validate_events("data", data, least=2)
        flat = flatten_events(data)[:: max(1, -(-len(data) // most))]
        _, covariance = estimate_moments(flat)
        shape = torch.linalg.cholesky(covariance) if whiten else torch.diag(covariance.diagonal().sqrt())
        if bandwidth is None:
            bandwidth = choose_bandwidth(torch.linalg.solve_triangular(shape, flat.T, upper=False).T)
        return cls(flat, validation.positive_float("bandwidth", bandwidth) * shape, data.shape[1:])

    def config(self) -> dict[str, Any]:
        return super().config() | {"points": len(self.points)}

    @classmethod
    def empty(cls, config: dict[str, Any]) -> Self:
        shape = parse_event_shape(config["event_shape"])
        d = math.prod(shape)
        return cls(torch.zeros(int(config["points"]), d), torch.eye(d), shape)

    def flat_sample(self, count: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(self.points), (count,), generator=generator, device=generator.device)
        z = standard_normal((count, self.features), generator, self.points)
        return self.points[chosen.to(self.points.device)] + z @ self.factor.T

    def flat_log_prob(self, x: Tensor) -> Tensor:
        centres = torch.linalg.solve_triangular(self.factor, self.points.T, upper=False).T
        places = torch.linalg.solve_triangular(self.factor, x.T, upper=False).T
        part = max(1, CHUNK // len(centres))
        each = [torch.logsumexp(-0.5 * measure_squared_distances(p, centres), 1) for p in places.split(part)]
        constant = math.log(len(centres)) + self.features / 2 * math.log(2 * math.pi)
        return torch.cat(each) - constant - self.factor.diagonal().log().sum()


def measure_squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return `‖a_i − b_j‖²`, never negative; the points are centred first, so that an offset costs no accuracy."""
    centre = b.mean(0)
    a, b = a - centre, b - centre
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


GRID = tuple(2 ** (power / 2) for power in range(-8, 4))
"""Candidate bandwidths relative to Scott's rule."""
LEAVE_ONE_OUT_ROWS = 1500
"""Approximate maximum number of rows of the leave-one-out likelihood."""


def choose_bandwidth(places: Tensor) -> float:
    """Return the bandwidth with the largest leave-one-out likelihood on a grid around Scott's `n^(−1/(d+4))`."""
    n, d = places.shape
    few = places[:: max(1, -(-n // LEAVE_ONE_OUT_ROWS))]
    # Duplicate rows would drive the bandwidth to 0, as each is the other's nearest neighbour.
    distances = measure_squared_distances(few, few)
    distances = distances.masked_fill(
        distances <= torch.finfo(places.dtype).eps * places.square().sum(1).max(), math.inf
    )
    scott = n ** (-1 / (d + 4))
    best, found = -math.inf, float(scott)
    for factor in GRID:
        h = scott * factor
        value = float(torch.logsumexp(-0.5 * distances / h**2, 1).mean()) - d * math.log(h)
        if math.isfinite(value) and value > best:
            best, found = value, h
    return found


def draw_indices(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw indices with the given log-probabilities by inversion, with one uniform number each."""
    u = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    edges = log_weights.detach().double().exp().cumsum(0).to(u.device)
    found = torch.searchsorted(edges / edges[-1], u, right=True).clamp(max=len(edges) - 1)
    return found.to(log_weights.device)
