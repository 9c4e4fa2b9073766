"""R-hat, effective sample sizes and the Pareto index: known values, invariances, and what they must notice."""

import math

import numpy as np
import pytest

from relaxon.neuromorphic.energy.partition.importance_weights import (
    pareto_k,
    resample_systematically,
    weight_statistics,
)
from relaxon.neuromorphic.energy.samplers.convergence import (
    bulk_effective_sample_size,
    mean_effective_sample_size,
    r_hat,
)


def autoregressive(phi, draws, chains, seed):
    """`x_t = φ x_{t−1} + ξ_t` from its stationary distribution."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(draws, chains))
    x[0] /= np.sqrt(1 - phi**2)
    for t in range(1, draws):
        x[t] += phi * x[t - 1]
    return x


@pytest.mark.parametrize("size", [bulk_effective_sample_size, mean_effective_sample_size])
@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.9])
def test_the_effective_size_of_an_autoregressive_chain_is_the_one_that_its_formula_gives(size, phi):
    exact = 16_000 * (1 - phi) / (1 + phi)
    assert size(autoregressive(phi, 4000, 4, 0)) == pytest.approx(exact, rel=0.12)


def test_the_numbers_are_those_of_arviz():
    """`az.rhat`, `az.ess` (bulk, mean) and `az.psislw` of ArviZ 0.23 for the same draws."""
    rng = np.random.default_rng(11)
    x, steps = np.zeros((500, 4)), rng.normal(size=(500, 4))
    for t in range(1, 500):
        x[t] = 0.8 * x[t - 1] + steps[t]
    x += np.array([0, 0.2, 0, -0.1])
    assert r_hat(x) == pytest.approx(1.0088686579032202, rel=1e-12)
    assert bulk_effective_sample_size(x) == pytest.approx(217.35408794305238, rel=1e-9)
    assert mean_effective_sample_size(x) == pytest.approx(216.41108395464357, rel=1e-9)
    found = [pareto_k(spread * np.random.default_rng(5).normal(size=3000)) for spread in (0.5, 1.0, 2.0)]
    assert found == pytest.approx([0.09813240011343631, 0.2680175242024753, 0.60193298989598], rel=1e-9)


def test_r_hat_notices_chains_of_another_place_and_of_another_width():
    x = np.random.default_rng(0).normal(size=(1000, 4))
    assert r_hat(x) < 1.01
    assert r_hat(x + np.array([0, 0, 0, 1.0])) > 1.1
    assert r_hat(x * np.array([1, 1, 1, 4.0])) > 1.1


def test_r_hat_notices_a_drift_within_chains():
    drift = np.linspace(0, 2, 1000)[:, None]
    assert r_hat(np.random.default_rng(0).normal(size=(1000, 4)) + drift) > 1.1


def test_the_bulk_size_does_not_change_with_a_monotone_map_of_the_draws():
    x = autoregressive(0.7, 500, 3, 1)
    assert bulk_effective_sample_size(np.exp(3 * x)) == bulk_effective_sample_size(x)


def test_each_coordinate_has_its_own_number():
    x = np.stack([autoregressive(0.9, 1000, 4, 2), autoregressive(0.0, 1000, 4, 3)], axis=-1)[:, :, :, None]
    sizes = bulk_effective_sample_size(x)
    assert sizes.shape == (2, 1)
    assert sizes[1, 0] > 5 * sizes[0, 0]


@pytest.mark.parametrize("bad", [np.ones((50, 2)), np.ones((7, 2)), np.full((50, 2), np.nan)])
def test_chains_that_say_nothing_have_no_number(bad):
    assert np.isnan(r_hat(bad))
    assert np.isnan(bulk_effective_sample_size(bad))


def test_draws_without_an_axis_for_chains_are_refused():
    with pytest.raises(ValueError, match="draws must have axes"):
        r_hat(np.ones(5))


@pytest.mark.parametrize("index", [0.2, 0.5, 0.8, 1.2])
def test_the_index_of_an_exact_pareto_tail_is_found_whatever_the_scale(index):
    logs = -index * np.log(np.random.default_rng(3).random(50_000))
    assert pareto_k(logs) == pytest.approx(index, abs=0.12)
    assert pareto_k(logs + 3000) == pytest.approx(pareto_k(logs), abs=1e-9)


def test_weights_of_infinite_variance_have_an_index_above_one_half():
    """exp(c z²) of normal z has moments below order 1/(2c) only."""
    z = np.random.default_rng(0).normal(size=100_000)
    assert pareto_k(0.125 * z**2) < 0.35
    assert pareto_k(0.4 * z**2) > 0.6


def test_weights_without_a_tail_have_none():
    assert pareto_k(np.full(1000, -7.0)) == -math.inf
    assert pareto_k(np.log(np.random.default_rng(0).uniform(1, 2, 5000))) < 0


def test_statistics_of_weights_beyond_the_range_of_doubles():
    found = weight_statistics(np.array([5000.0, 5000.0, -math.inf, -math.inf]))
    assert found.log_mean == pytest.approx(5000 + math.log(0.5))
    assert found.effective_sample_size == pytest.approx(2)
    assert found.relative_error == pytest.approx(math.sqrt(1 / 3))
    assert pareto_k(np.r_[np.full(99, -math.inf), 0.0]) == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_no_number_makes_the_statistics_say_so(bad):
    found = weight_statistics(np.array([0.0, bad, 0.0]))
    assert not found.finite
    assert math.isnan(found.pareto_k)
    assert found.effective_sample_size == 0


def test_weights_that_are_all_zero_have_a_mean_of_zero():
    found = weight_statistics(np.full(5, -math.inf))
    assert found.log_mean == -math.inf
    assert not found.finite


@pytest.mark.parametrize("bad", [np.empty(0), np.ones((2, 2))])
def test_weights_of_another_shape_are_refused(bad):
    with pytest.raises(ValueError, match="log_weights must have one axis"):
        weight_statistics(bad)


def test_systematic_resampling_takes_each_as_often_as_its_weight_says():
    places = resample_systematically(np.log(np.array([0.5, 0.25, 0.0 + 1e-300, 0.25])), 1000, 0.5)
    assert np.bincount(places, minlength=4).tolist() == [500, 250, 0, 250]
