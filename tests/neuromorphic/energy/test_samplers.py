"""Samplers: exact moments, the known bias of the one that is biased, bounded domains, and ends that are told of."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import HMC, MALA, ULA, Box, Mixing  # noqa: E402

F64 = torch.float64
COVARIANCE = torch.tensor([[2.0, 0.9], [0.9, 0.5]], dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(x):
    return x.square().flatten(1).sum(1) / 2


def correlated(x):
    return 0.5 * ((x @ torch.linalg.inv(COVARIANCE)) * x).sum(1)


def double_well(x):
    """Modes at ±√2, between which the chains go to and fro."""
    return (x**4 / 4 - x**2).sum(1)


def moment(power):
    """Of the double well, by quadrature."""
    x = np.linspace(-6, 6, 20_001)
    weight = np.exp(-(x**4) / 4 + x**2)
    return float((weight * x**power).sum() / weight.sum())


def within(values, exact, errors=4.0):
    """Whether the mean of draws `(draws, chains)` is the exact one up to so many standard errors."""
    from relaxon.neuromorphic.energy.samplers.convergence import mean_effective_sample_size

    values = np.asarray(values)
    error = values.std() / math.sqrt(float(mean_effective_sample_size(values)))
    return abs(values.mean() - exact) < errors * error


@pytest.mark.parametrize("sampler", [MALA(), HMC(), HMC(leapfrog_steps=1)])
def test_draws_have_the_mean_and_the_covariance_of_a_gaussian(sampler):
    chains = sampler.run(correlated, torch.zeros(64, 2, dtype=F64), 500, seeded(), warm_up=200)
    for i in range(2):
        assert within(chains.samples[:, :, i], 0)
        for j in range(2):
            assert within(chains.samples[:, :, i] * chains.samples[:, :, j], float(COVARIANCE[i, j]))


@pytest.mark.parametrize("sampler", [MALA(step_size=1.2), HMC(step_size=0.6)])
def test_draws_have_the_moments_of_a_double_well_at_a_step_that_rejects(sampler):
    """Without the rejection the large step's own bias shows."""
    chains = sampler.run(double_well, torch.randn(128, 1, dtype=F64, generator=seeded(1)), 750, seeded())
    assert chains.acceptance < 0.9
    assert within(chains.samples[:, :, 0] ** 2, moment(2))
    assert within(chains.samples[:, :, 0] ** 4, moment(4))


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_unadjusted_chains_have_the_variance_that_their_bias_gives(step):
    """On a standard Gaussian x ← (1 − ε²/2) x + ε ξ has the variance 1/(1 − ε²/4)."""
    chains = ULA(step).run(normal, torch.zeros(64, 1, dtype=F64), 3000, seeded(), warm_up=200)
    assert within(chains.samples[:, :, 0] ** 2, 1 / (1 - step**2 / 4))
    assert chains.acceptance == 1


@pytest.mark.parametrize("sampler", [MALA(), HMC(step_size=30.0), HMC(step_size=1e-6)])
def test_the_warm_up_finds_the_acceptance_and_the_scales(sampler):
    deviations = torch.tensor([0.03, 1.0, 30.0], dtype=F64)
    chains = sampler.run(lambda x: normal(x / deviations), torch.zeros(16, 3, dtype=F64), 400, seeded(), warm_up=800)
    assert abs(chains.acceptance - sampler.target_acceptance) < 0.08
    assert torch.allclose(chains.scale, deviations, rtol=0.3)
    assert chains.effective_sample_size.min() > 400


@pytest.mark.parametrize("sampler", [ULA(0.1), MALA(), HMC()])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_same_seed_gives_the_same_bits_and_leaves_the_start_alone(sampler, dtype):
    start = torch.ones(4, 2, dtype=dtype)
    one, two, other = (sampler.run(normal, start, 50, seeded(seed), warm_up=30) for seed in (5, 5, 6))
    assert one.samples.dtype is dtype
    assert torch.equal(one.samples, two.samples)
    assert torch.equal(one.energies, two.energies)
    assert not torch.equal(one.samples, other.samples)
    assert torch.equal(start, torch.ones(4, 2, dtype=dtype))
    assert not start.requires_grad


def test_a_chain_does_not_depend_on_those_beside_it():
    """Each has its own rejection: one that starts far off leaves the others where they were."""
    start = torch.zeros(3, 1, dtype=F64)
    far = start.clone()
    far[2] = 50.0
    near, moved = (MALA(0.5).run(normal, x, 40, seeded()) for x in (start, far))
    assert torch.equal(near.samples[:, :2], moved.samples[:, :2])
    assert not torch.equal(near.samples[:, 2], moved.samples[:, 2])


def test_energies_are_those_of_the_draws_and_thinning_takes_every_third():
    chains = HMC().run(double_well, torch.zeros(4, 2, dtype=F64), 30, seeded())
    thinned = HMC().run(double_well, torch.zeros(4, 2, dtype=F64), 30, seeded(), thin=3)
    assert torch.allclose(chains.energies, double_well(chains.flat).reshape(30, 4))
    assert torch.equal(thinned.samples, chains.samples[2::3])


def test_images_are_events_too():
    chains = HMC().run(normal, torch.zeros(8, 1, 3, 3), 400, seeded(), warm_up=100)
    assert chains.samples.shape == (400, 8, 1, 3, 3)
    assert chains.r_hat.shape == chains.effective_sample_size.shape == (1, 3, 3)
    assert chains.flat.shape == (3200, 1, 3, 3)
    assert chains.outcome is Mixing.MIXED
    assert chains.message == ""


@pytest.mark.parametrize("sampler", [ULA(0.05), MALA(), HMC()])
def test_a_box_holds_the_chains_and_the_draws_are_those_of_the_cut_gaussian(sampler):
    """Of N(0, 1) on [0.5, 2], by quadrature."""
    x = np.linspace(0.5, 2, 10_001)
    exact = float((x * np.exp(-(x**2) / 2)).sum() / np.exp(-(x**2) / 2).sum())
    chains = sampler.run(
        normal, torch.ones(64, 1, dtype=F64), 2000, seeded(), warm_up=200, bounds=Box(0.5, torch.tensor([2.0]))
    )
    assert chains.samples.min() >= 0.5
    assert chains.samples.max() <= 2
    assert within(chains.samples[:, :, 0], exact)
    assert chains.divergences == 0


def test_reflection_brings_any_point_inside():
    box = Box(-1.0, 2.0)
    x = torch.tensor([[-1.5], [2.5], [0.3], [-4.2], [8.1]], dtype=F64)
    assert torch.allclose(box.reflected(x), torch.tensor([[-0.5], [1.5], [0.3], [1.8], [2.0 - 0.1]], dtype=F64))


@pytest.mark.parametrize("sampler", [ULA(0.5), MALA(), HMC()])
def test_no_chain_goes_where_the_energy_is_no_number(sampler):
    def half(x):
        return torch.where(x[:, 0] > 1, torch.nan, normal(x))

    chains = sampler.run(half, torch.zeros(16, 1, dtype=F64), 500, seeded(), warm_up=100)
    assert chains.samples.max() <= 1
    assert torch.isfinite(chains.energies).all()
    assert chains.divergences > 0


@pytest.mark.parametrize("sampler", [ULA(), MALA(), HMC()])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_energy_without_a_finite_value_is_told_of(sampler, value):
    chains = sampler.run(lambda x: normal(x) * 0 + value, torch.zeros(3, 1), 20, seeded(), warm_up=30)
    assert chains.outcome is Mixing.NON_FINITE
    assert chains.non_finite == 3
    assert "3 of 3" in chains.message
    assert torch.isfinite(chains.samples).all()


def test_chains_from_a_place_without_density_find_one_that_has_it():
    def half(x):
        return torch.where(x[:, 0] < 0, torch.inf, normal(x))

    chains = MALA(1.0).run(half, torch.full((8, 1), -0.5, dtype=F64), 200, seeded())
    assert chains.non_finite == 0
    assert chains.samples[-1].min() > 0


def test_chains_in_modes_apart_are_not_called_mixed():
    def apart(x):
        return -torch.logaddexp(-normal(x - 10), -normal(x + 10))

    start = torch.tensor([[-10.0], [10.0]], dtype=F64).repeat(4, 1)
    chains = HMC().run(apart, start, 500, seeded(), warm_up=200)
    assert chains.outcome is Mixing.NOT_MIXED
    assert chains.r_hat.max() > 1.5
    assert "R-hat" in chains.message


def test_few_draws_are_not_called_mixed():
    start = torch.randn(4, 1, dtype=F64, generator=seeded(1))
    assert HMC(0.5).run(normal, start, 5, seeded()).outcome is Mixing.TOO_FEW_DRAWS
    assert HMC(0.5, 3).run(normal, start, 40, seeded()).outcome in (Mixing.TOO_FEW_DRAWS, Mixing.NOT_MIXED)


def test_a_step_that_is_too_large_is_told_of_as_divergent():
    chains = HMC(step_size=2.5).run(double_well, torch.randn(8, 4, dtype=F64, generator=seeded(1)), 200, seeded())
    assert chains.outcome is Mixing.DIVERGENT
    assert 0 < chains.divergences <= chains.moves == 1600


def test_the_watcher_sees_every_move_and_can_stop():
    seen = []

    def watcher(step, steps):
        seen.append((step, steps))
        return step == 7

    chains = HMC().run(normal, torch.zeros(4, 1), 10, seeded(), warm_up=5, watcher=watcher)
    assert seen == [(step, 15) for step in range(1, 8)]
    assert chains.outcome is Mixing.STOPPED
    assert len(chains.samples) == 2


ZEROS = torch.zeros(2, 1)


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("start must be a tensor", lambda: HMC().run(normal, [[0.0]], 5, seeded())),
        ("start must be float32", lambda: HMC().run(normal, torch.zeros(2, 1, dtype=torch.int64), 5, seeded())),
        ("start must be of shape", lambda: HMC().run(normal, torch.zeros(2), 5, seeded())),
        ("start must have at least 1", lambda: HMC().run(normal, torch.zeros(0, 1), 5, seeded())),
        ("start must be finite", lambda: HMC().run(normal, ZEROS * math.nan, 5, seeded())),
        ("start must lie inside", lambda: HMC().run(normal, ZEROS, 5, seeded(), bounds=Box(1.0, 2.0))),
        ("lower must be below upper", lambda: Box(1.0, 1.0)),
        ("steps must be at least 1", lambda: MALA().run(normal, ZEROS, 0, seeded())),
        ("warm_up must be at least 1", lambda: MALA().run(normal, ZEROS, 5, seeded(), warm_up=-1)),
        ("thin must be at most steps", lambda: ULA().run(normal, ZEROS, 5, seeded(), thin=6)),
        ("generator must be a torch.Generator", lambda: HMC().run(normal, ZEROS, 5, 0)),
        ("energy must give one number", lambda: HMC().run(lambda x: x, ZEROS, 5, seeded())),
        ("energy must give one number", lambda: HMC().run(lambda x: 0.0, ZEROS, 5, seeded())),
        ("energy must be differentiable", lambda: HMC().run(lambda x: normal(x).detach(), ZEROS, 5, seeded())),
        ("step_size must be greater than 0", lambda: ULA(0.0)),
        ("leapfrog_steps must be an integer", lambda: HMC(leapfrog_steps=2.5)),
        ("target_acceptance must be greater than 0 and below 1", lambda: MALA(target_acceptance=1.0)),
    ],
)
def test_a_mistake_is_refused_by_name(match, call):
    with pytest.raises((TypeError, ValueError), match=match):
        call()
