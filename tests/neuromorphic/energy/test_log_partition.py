"""log Z: known values, intervals that cover, and noise, chains and energies after which nothing is trusted."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import (  # noqa: E402
    AIS,
    HMC,
    MALA,
    Bridge,
    GaussianNoise,
    ImportanceSampling,
    MixtureNoise,
    StudentNoise,
    UniformNoise,
    log_partition,
)
from relaxon.neuromorphic.energy.partition.log_partition import estimate_from_weights  # noqa: E402

F64 = torch.float64


def gaussian(deviation=1.0, features=1, centre=0.0):
    mean = torch.full((features,), centre, dtype=F64)
    return GaussianNoise(mean, torch.eye(features, dtype=F64) * deviation**2)


def normal(deviation=1.0, centre=0.0):
    return lambda x: ((x - centre) / deviation).square().flatten(1).sum(1) / 2


def log_z(deviation, features=1):
    return features * (math.log(deviation) + 0.5 * math.log(2 * math.pi))


def two_modes(x):
    """At ±3, weights 0.3 and 0.7 of √(2π)."""
    return -torch.logaddexp(-normal(centre=-3)(x) + math.log(0.3), -normal(centre=3)(x) + math.log(0.7))


def double_well(x):
    return (x**4 / 4 - x**2).sum(1)


def banana(x):
    return x[:, 0] ** 2 / 8 + (x[:, 1] - 0.5 * x[:, 0] ** 2) ** 2 / 2


def funnel(x):
    """Neal's, with deviations from e^{−1} to e: log Z is that of its first coordinate and of a standard normal."""
    return x[:, 0] ** 2 / 2 + (x[:, 1] * torch.exp(-x[:, 0] / 2)) ** 2 / 2 + x[:, 0] / 2


def quadrature(energy, half_width, nodes=20_001):
    x = torch.linspace(-half_width, half_width, nodes, dtype=F64)[:, None]
    return float(torch.logsumexp(-energy(x), 0)) + math.log(2 * half_width / (nodes - 1))


def spread_out(features, deviation):
    return GaussianNoise(torch.zeros(features, dtype=F64), torch.eye(features, dtype=F64) * deviation**2)


BANANA_NOISE = GaussianNoise(torch.tensor([0.0, 2.0], dtype=F64), torch.diag(torch.tensor([6.0, 16.0], dtype=F64)))
FUNNEL_NOISE = StudentNoise(torch.zeros(2, dtype=F64), torch.diag(torch.tensor([1.2, 2.0], dtype=F64)), 3.0)
METHODS = {
    "importance": lambda noise: ImportanceSampling(noise, 4000, probe=None),
    "annealed": lambda noise: AIS(noise, 600, conditional_size=0.97),
    "bridge": lambda noise: Bridge(noise, 2000, draws=150, warm_up=100),
}
KNOWN = {
    "one dimension": (normal(0.7), gaussian(1.0), log_z(0.7)),
    "ten dimensions": (normal(0.8), gaussian(1.0, 10), log_z(0.8, 10)),
    "shifted": (normal(1.0, 0.8), gaussian(1.0), log_z(1.0)),
    "double well": (double_well, gaussian(1.5), quadrature(double_well, 8)),
    "banana": (banana, BANANA_NOISE, log_z(2.0) + log_z(1.0)),
    "funnel": (funnel, FUNNEL_NOISE, log_z(1.0, 2)),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", KNOWN)
def test_the_value_is_within_four_standard_errors_of_the_known_one(case, method):
    energy, noise, exact = KNOWN[case]
    found = log_partition(energy, METHODS[method](noise), seed=1)
    assert abs(found.value - exact) < 4 * found.standard_error < 0.4
    assert found.interval[0] < found.value < found.interval[1]
    # Curved densities need longer chains than these for a bridge that is trusted.
    assert found.trusted or (method == "bridge" and case in ("banana", "funnel")), found.reason


def covering(energy, method, exact, repeats=100):
    """How many intervals hold the exact value, and how many were trusted."""
    found = [log_partition(energy, method(), seed=seed) for seed in range(repeats)]
    return sum(one.interval[0] <= exact <= one.interval[1] for one in found), sum(one.trusted for one in found)


@pytest.mark.parametrize(
    ("energy", "noise", "exact"),
    [
        (two_modes, gaussian(4.0), quadrature(two_modes, 14)),
        (normal(1.0, 1.0), gaussian(1.0), log_z(1.0)),
        (normal(1.2), gaussian(1.0), log_z(1.2)),
        (banana, BANANA_NOISE, log_z(2.0) + log_z(1.0)),
        (funnel, FUNNEL_NOISE, log_z(1.0, 2)),
    ],
    ids=["two modes", "shifted", "tails lighter", "banana", "funnel"],
)
def test_importance_samplings_interval_covers_in_ninety_of_a_hundred_repeats(energy, noise, exact):
    covered, trusted = covering(energy, lambda: ImportanceSampling(noise, 2000, probe=None, far_modes=False), exact)
    assert covered >= 90
    assert trusted >= 90
    # The search for far modes, of which there are none, finds none.
    assert covering(energy, lambda: ImportanceSampling(noise, 2000, probe=None), exact, repeats=6)[1] >= 5


def annealed(noise):
    return lambda: AIS(noise, 500, conditional_size=0.9, pilot=100, transition=HMC(leapfrog_steps=3))


def test_annealed_importance_samplings_interval_covers_in_ninety_of_a_hundred_repeats():
    covered, trusted = covering(two_modes, annealed(gaussian(4.0)), quadrature(two_modes, 14))
    assert covered >= 90
    assert trusted >= 90


@pytest.mark.slow
def test_annealed_importance_samplings_interval_covers_on_the_plane():
    def method():
        return AIS(BANANA_NOISE, 500, conditional_size=0.98)

    covered, trusted = covering(banana, method, log_z(2.0) + log_z(1.0))
    assert covered >= 90
    assert trusted >= 90


def test_the_bridges_interval_covers_in_ninety_of_a_hundred_repeats_with_independent_draws():
    covered = 0
    for seed in range(100):
        draws = 1 + torch.randn(400, 1, dtype=F64, generator=torch.Generator().manual_seed(1000 + seed))
        found = log_partition(normal(1.0, 1.0), Bridge(gaussian(1.5), 600, samples=draws), seed=seed)
        assert found.trusted
        covered += found.interval[0] <= log_z(1.0) <= found.interval[1]
    assert covered >= 90


def test_the_bridges_interval_covers_with_chains_whose_draws_depend_on_each_other():
    """Short steps, so that an interval that took the draws for independent would be several times too narrow."""
    covered = trusted = 0
    for seed in range(40):
        method = Bridge(gaussian(1.5), 20_000, sampler=MALA(0.3, target_acceptance=0.9), chains=32, draws=150)
        chains = method.sampler.run(
            normal(),
            torch.randn(32, 1, dtype=F64, generator=torch.Generator().manual_seed(seed)),
            150,
            torch.Generator().manual_seed(seed),
        )
        found = log_partition(normal(), Bridge(gaussian(1.5), 20_000, samples=chains), seed=seed)
        covered += found.interval[0] <= log_z(1.0) <= found.interval[1]
        trusted += found.trusted
    assert covered >= 35


def test_the_bridge_of_equal_densities_is_exact():
    draws = torch.randn(500, 2, dtype=F64, generator=torch.Generator().manual_seed(3))
    found = log_partition(normal(), Bridge(gaussian(1.0, 2), 500, samples=draws))
    assert found.value == pytest.approx(log_z(1.0, 2), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_added_to_the_energy_is_taken_off_log_z_and_a_seed_gives_the_same_bits(method):
    energy, noise, _ = KNOWN["double well"]
    one, two = (log_partition(energy, METHODS[method](noise), seed=4) for _ in range(2))
    moved = log_partition(lambda x: energy(x) + 1234.5, METHODS[method](noise), seed=torch.Generator().manual_seed(4))
    assert (one.value, one.interval) == (two.value, two.interval)
    # Chains go other ways by and by, for energies that are rounded otherwise.
    close = 1e-6 if method == "importance" else 4 * one.standard_error
    assert moved.value == pytest.approx(one.value - 1234.5, abs=close)


def test_the_value_makes_up_for_the_logarithms_bias():
    """The logarithm of a mean of 20 exponential weights is 0.024 too small in the mean."""
    weights = np.log(np.random.default_rng(0).exponential(size=(4000, 20)))
    values = np.array([estimate_from_weights(row, "test").value for row in weights])
    raw = np.array([math.log(np.exp(row).mean()) for row in weights])
    error = values.std() / math.sqrt(len(values))
    assert raw.mean() < -4 * error
    assert abs(values.mean()) < 2.5 * error


LIGHT = {
    "three times as narrow": (normal(3.0), gaussian(1.0)),
    "twice as narrow": (normal(2.0), gaussian(1.0)),
    "in five dimensions": (normal(1.6), gaussian(1.0, 5)),
    "Student's tails": (lambda x: 2 * torch.log1p(x.square().sum(1) / 3), gaussian(1.0)),
    "a box": (normal(1.0), UniformNoise(torch.tensor([-1.5], dtype=F64), torch.tensor([1.5], dtype=F64))),
}


@pytest.mark.parametrize("case", LIGHT)
def test_noise_with_lighter_tails_than_the_model_is_not_trusted(case):
    energy, noise = LIGHT[case]
    for seed in range(5):
        found = log_partition(energy, ImportanceSampling(noise), seed=seed)
        assert not found.trusted, found
        assert "noise" in found.reason


@pytest.mark.parametrize("distance", [4.0, 8.0, 50.0, 1e4])
def test_noise_that_is_far_off_is_not_trusted(distance):
    for seed in range(5):
        for method in (ImportanceSampling(gaussian()), Bridge(gaussian(), 2000, draws=100, warm_up=50)):
            found = log_partition(normal(1.0, distance), method, seed=seed)
            off = abs(found.value - log_z(1.0)) > 4 * found.standard_error
            assert not found.trusted or not (off or isinstance(method, ImportanceSampling)), found


def test_annealing_reaches_a_model_that_is_far_off():
    found = log_partition(normal(0.5, 8.0), AIS(gaussian(1.0, 2), 600))
    assert found.trusted, found.reason
    assert abs(found.value - log_z(0.5, 2)) < 4 * found.standard_error


def far_modes(x):
    return -torch.logaddexp(-normal()(x), -normal(centre=25.0)(x))


def drawn_from_far_modes(count):
    x = torch.randn(count, 1, dtype=F64, generator=torch.Generator().manual_seed(9))
    x[::2] += 25
    return x


@pytest.mark.parametrize("method", [ImportanceSampling, AIS])
def test_a_reference_tells_of_a_mode_that_the_noise_never_meets(method):
    """Without one the weights look perfect, and the value is log 2 too small."""
    noise = gaussian(1.2)
    blind = log_partition(far_modes, method(noise))
    assert abs(blind.value - (log_z(1.0))) < 0.1
    found = log_partition(far_modes, method(noise, reference=drawn_from_far_modes(200)))
    assert not found.trusted
    assert "a part of" in found.reason


@pytest.mark.parametrize("method", [ImportanceSampling, AIS])
def test_a_reference_that_is_met_changes_nothing(method):
    noise = gaussian(1.4)
    reference = torch.randn(300, 1, dtype=F64, generator=torch.Generator().manual_seed(2))
    for seed in range(3):
        found = log_partition(normal(), method(noise, reference=reference), seed=seed)
        assert found.trusted, found.reason
        assert found.interval[0] - 0.05 < log_z(1.0) < found.interval[1] + 0.05


def test_the_way_back_gives_log_z_too():
    reference = torch.randn(2000, 2, dtype=F64, generator=torch.Generator().manual_seed(2)) * 0.5 + 2
    found = log_partition(normal(0.5, 2.0), AIS(gaussian(1.0, 2), reference=reference))
    assert found.trusted, found.reason
    assert found.opposite == pytest.approx(log_z(0.5, 2), abs=0.1)


def test_chains_that_stay_in_one_of_two_modes_are_found_out_by_the_noise():
    noise = MixtureNoise(
        torch.tensor([0.8, 0.2], dtype=F64),
        torch.tensor([[0.0], [25.0]], dtype=F64),
        torch.ones(2, 1, 1, dtype=F64) * 1.2,
    )
    found = log_partition(far_modes, Bridge(noise, 2000, start=torch.zeros(4, 1, dtype=F64), draws=200))
    assert not found.trusted
    assert "miss" in found.reason


def test_chains_that_have_not_mixed_are_not_trusted():
    found = log_partition(far_modes, Bridge(gaussian(12.0), start=drawn_from_far_modes(50), draws=100, warm_up=50))
    assert not found.trusted
    assert "R-hat" in found.reason


def test_the_box_of_a_bounded_model_is_trusted():
    """Where the model ends with the noise, nothing is missed."""
    noise = UniformNoise(torch.tensor([-1.5, 0.0], dtype=F64), torch.tensor([1.5, 2.0], dtype=F64))

    def bounded(x):
        return torch.where(torch.isinf(noise.log_prob(x)), torch.inf, normal()(x))

    x = torch.linspace(0, 1, 2001, dtype=F64)
    exact = sum(
        math.log(float(torch.trapezoid(torch.exp(-((a + (b - a) * x) ** 2) / 2), x)) * (b - a))
        for a, b in ((-1.5, 1.5), (0.0, 2.0))
    )
    for method in (ImportanceSampling(noise), AIS(noise)):
        found = log_partition(bounded, method)
        assert found.trusted, found.reason
        assert abs(found.value - exact) < 4 * found.standard_error


def test_annealing_from_a_box_into_a_model_beyond_it_is_not_trusted():
    noise = UniformNoise(torch.tensor([-1.0], dtype=F64), torch.tensor([1.0], dtype=F64))
    found = log_partition(normal(), AIS(noise))
    assert not found.trusted
    assert "misses a part" in found.reason


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_an_energy_that_is_somewhere_no_number_is_not_trusted(method, value):
    def broken(x):
        return torch.where(x[:, 0] > 1, value, normal()(x))

    found = log_partition(broken, METHODS[method](gaussian(1.5)))
    assert not found.trusted
    assert found.reason
    assert found.interval == (-math.inf, math.inf)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_without_any_density_is_not_trusted(method):
    found = log_partition(lambda x: normal()(x) + torch.inf, METHODS[method](gaussian()))
    assert not found.trusted
    assert found.reason


@pytest.mark.parametrize("count", [1, 2, 30])
def test_few_draws_are_not_trusted(count):
    found = log_partition(normal(), ImportanceSampling(gaussian(1.1), count))
    assert not found.trusted
    assert found.draws == count


def test_images_are_events_too():
    noise = GaussianNoise(torch.zeros(1, 2, 2, dtype=F64), torch.eye(4, dtype=F64))
    for method in (ImportanceSampling(noise), AIS(noise, 500), Bridge(noise, 1000, draws=100)):
        found = log_partition(normal(0.9), method)
        assert abs(found.value - log_z(0.9, 4)) < 4 * found.standard_error


NAN = torch.full((3, 1), math.nan, dtype=F64)


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("count must be at least 1", lambda: ImportanceSampling(gaussian(), 0)),
        ("reference must be of shape", lambda: ImportanceSampling(gaussian(), reference=torch.zeros(3, 2, dtype=F64))),
        ("reference must be finite", lambda: AIS(gaussian(), reference=NAN)),
        ("probe must be HMC", lambda: ImportanceSampling(gaussian(), probe="hmc")),
        ("conditional_size must be above 0", lambda: AIS(gaussian(), conditional_size=1.0)),
        ("transition must be HMC", lambda: AIS(gaussian(), transition=None)),
        ("agreement must be at least 0", lambda: AIS(gaussian(), agreement=-1.0)),
        ("samples must be a tensor", lambda: Bridge(gaussian(), samples=[1.0])),
        ("start must be of shape", lambda: Bridge(gaussian(), start=torch.zeros(1, dtype=F64))),
        ("draws must be at least 8", lambda: Bridge(gaussian(), draws=7)),
        ("seed must be an integer", lambda: log_partition(normal(), ImportanceSampling(gaussian()), seed=0.5)),
        ("energy must give one number", lambda: log_partition(lambda x: x, ImportanceSampling(gaussian()))),
    ],
)
def test_a_mistake_is_refused_by_name(match, call):
    with pytest.raises((TypeError, ValueError), match=match):
        call()
