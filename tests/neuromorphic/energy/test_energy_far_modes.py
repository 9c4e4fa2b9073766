"""Modes that no draw of the noise has met are found in any direction; those that weigh little or are met are not."""

import math

import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import GaussianNoise, ImportanceSampling, log_partition  # noqa: E402

DOUBLE = torch.float64


def planted(features, distance, share, seed=0):
    """A standard normal density and another of that share of the mass; rows of the first."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(features, generator=generator, dtype=DOUBLE)
    centre = distance * direction / direction.norm()

    def energy(x):
        near = math.log1p(-share) - 0.5 * x.square().sum(1)
        return -torch.logaddexp(near, math.log(share) - 0.5 * (x - centre).square().sum(1))

    return energy, torch.randn(1000, features, generator=generator, dtype=DOUBLE)


def found(energy, x, noise=None, **options):
    noise = noise or GaussianNoise.fit(x, widen=1.2)
    return log_partition(energy, ImportanceSampling(noise, 5000, reference=x, **options), 1)


@pytest.mark.parametrize(("features", "distance", "share"), [(2, 10, 0.5), (2, 30, 0.1), (5, 20, 0.3), (10, 30, 0.1)])
def test_a_planted_mode_is_found_and_its_share_told(features, distance, share):
    for seed in range(2):
        energy, x = planted(features, distance, share, seed)
        judged = found(energy, x)
        assert not judged.trusted
        told = float(judged.reason.partition("holds about ")[2].split()[0])
        assert told == pytest.approx(share, rel=0.25)
        # It is the search that finds it, and it changes the verdict alone.
        blind = found(energy, x, far_modes=False)
        assert blind.trusted
        assert (blind.value, blind.interval) == (judged.value, judged.interval)


def test_the_units_and_a_correlation_of_the_data_make_no_difference():
    energy, x = planted(3, 15, 0.3)
    mix = torch.tensor([[100.0, 0.0, 0.0], [99.0, 3.0, 0.0], [1.0, 0.0, 1e-3]], dtype=DOUBLE)
    back = torch.linalg.inv(mix).T
    judged = found(lambda y: energy(y @ back), x @ mix.T)
    assert not judged.trusted
    assert float(judged.reason.partition("holds about ")[2].split()[0]) == pytest.approx(0.3, rel=0.25)


def test_no_mode_a_mode_of_little_mass_and_one_that_the_noise_has_met_are_no_reason():
    _, x = planted(3, 15, 0.3)
    assert found(lambda y: 0.5 * y.square().sum(1), x).trusted
    assert found(planted(3, 15, 1e-3)[0], x).trusted
    near, x = planted(2, 5, 0.3)
    wide = GaussianNoise(torch.zeros(2, dtype=DOUBLE), 25 * torch.eye(2, dtype=DOUBLE))
    assert found(near, x, wide).trusted


def test_an_energy_that_falls_without_bound_far_away_is_not_trusted():
    _, x = planted(2, 10, 0.3)

    def energy(y):
        square = y.square().sum(1)
        return 0.5 * square - torch.relu(square - 100.0)

    assert not found(energy, x).trusted


def test_the_search_is_the_same_from_the_same_seed_and_leaves_its_reference_alone():
    energy, x = planted(2, 12, 0.2)
    kept = x.clone()
    assert found(energy, x) == found(energy, x)
    assert torch.equal(x, kept)
