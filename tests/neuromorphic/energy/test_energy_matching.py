"""Energies that carry noise to the data do so; chains in a metric that changes with the place keep the density."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import (  # noqa: E402
    EnergyMatching,
    EquilibriumMatching,
    ExponentialFamilyEnergy,
    MLPEnergy,
    PolynomialStatistics,
    RiemannianHMC,
    TrainingSettings,
    train,
)
from relaxon.neuromorphic.energy.energies.derivatives import energy_gradient  # noqa: E402
from relaxon.neuromorphic.energy.objectives.matching import pair_by_transport  # noqa: E402

DOUBLE = torch.float64
CENTRES = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def islands(count=900):
    generator = seeded(3)
    which = torch.randint(3, (count,), generator=generator)
    return CENTRES[which] + 0.1 * torch.randn(count, 2, generator=generator)


def carried(objective, rate, moves, batch=256):
    """Median distances to the nearest centre before and after descent, and how many centres were reached."""
    energy = MLPEnergy(2, (64, 64), confinement=0.0, seed=1)
    settings = TrainingSettings(steps=400, batch=batch, rate=1e-2)
    assert train(energy, islands(), None, objective, settings).ended.value == "finished"
    x = torch.randn(200, 2, generator=seeded(5))
    before = torch.cdist(x, CENTRES).amin(1).median()
    for _ in range(moves):
        x = x - rate * energy_gradient(energy, x)
    distances = torch.cdist(x, CENTRES)
    return float(before), float(distances.amin(1).median()), distances.argmin(1).unique().numel()


def test_descent_on_an_energy_of_equilibrium_matching_comes_to_rest_at_the_data():
    before, after, reached = carried(EquilibriumMatching(), 0.02, 150)
    assert after < 0.15 < before
    assert reached == 3


def test_the_potential_of_energy_matching_carries_noise_to_the_data_in_unit_time():
    objective = EnergyMatching(warm_up=380, moves=10, dt=0.1)
    before, after, reached = carried(objective, 0.02 * objective.temperature, 50, batch=100)
    assert after < 0.4 * before
    assert reached == 3


def test_equilibrium_matching_has_the_slope_that_its_source_gives():
    # All data at one point m: E[c (ε − m) | x_γ = y] needs no model, and for fall = 0 it is linear in y − m.
    energy = ExponentialFamilyEnergy(PolynomialStatistics(2, 2), 2, dtype=DOUBLE)
    data = torch.full((4000, 2), 0.5, dtype=DOUBLE)
    objective = EquilibriumMatching(scale=1.0, fall=0.0)
    train(energy, data, None, objective, TrainingSettings(steps=300, batch=500, rate=0.08, average=0.95))
    y = torch.tensor([[0.5, 0.5], [1.5, 0.5], [0.5, -0.5]], dtype=DOUBLE)
    # y − m = (1−γ)(ε − m) and c = 1 − γ: the target is y − m itself.
    torch.testing.assert_close(energy_gradient(energy, y), y - 0.5, atol=0.05, rtol=0)


def test_pairs_are_those_of_least_distance():
    x = torch.randn(40, 3, generator=seeded(0))
    order = torch.randperm(40, generator=seeded(1))
    assert torch.equal(pair_by_transport(x[order] + 1e-3, x), order)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: EquilibriumMatching(scale=0.0), "scale"),
        (lambda: EquilibriumMatching(fall=1.0), "fall"),
        (lambda: EnergyMatching(temperature=-1.0), "temperature"),
        (lambda: EnergyMatching(moves=0), "moves"),
        (lambda: EnergyMatching(trim=1.0), "trim"),
        (lambda: EnergyMatching(floor=math.nan), "floor"),
        (lambda: RiemannianHMC(3), "metric"),
        (lambda: RiemannianHMC(torch.diag_embed, step_size=0.0), "step_size"),
        (lambda: RiemannianHMC(torch.diag_embed, target_acceptance=1.0), "target_acceptance"),
    ],
)
def test_bad_settings_are_refused_by_name(make, name):
    with pytest.raises((ValueError, TypeError), match=name):
        make()


# ---- a metric


def funnel(x):
    """Neal's: `x₀ ~ N(0, 1.5²)`, the others `N(0, e^{x₀})`."""
    return (
        x[:, 0].square() / 4.5 + 0.5 * x[:, 1:].square().sum(1) * torch.exp(-x[:, 0]) + 0.5 * x[:, 0] * (x.shape[1] - 1)
    )


def funnel_metric(x):
    wide = torch.exp(-x[:, :1]).expand(-1, x.shape[1] - 1)
    first = 1 / 2.25 + 0.5 * torch.ones_like(x[:, :1]) * (x.shape[1] - 1)
    return torch.diag_embed(torch.cat([first, wide], 1))


def test_draws_of_the_funnel_that_are_moved_in_its_metric_are_still_its_draws():
    first = 1.5 * torch.randn(1000, 1, generator=seeded(7), dtype=DOUBLE)
    start = torch.cat([first, torch.exp(0.5 * first) * torch.randn(1000, 2, generator=seeded(8), dtype=DOUBLE)], 1)
    sampler = RiemannianHMC(funnel_metric, 0.5, leapfrog_steps=3)
    chains = sampler.run(funnel, start, 8, seeded(0), thin=8)
    ends = chains.samples[-1]
    assert 0.6 < chains.acceptance < 0.999
    assert float((ends - start).abs().mean()) > 0.8  # far from where they were
    assert float(ends[:, 0].mean()) == pytest.approx(0.0, abs=0.15)
    assert float(ends[:, 0].std()) == pytest.approx(1.5, rel=0.08)
    assert float((ends[:, 1:] * torch.exp(-0.5 * ends[:, :1])).std()) == pytest.approx(1.0, rel=0.06)
    assert torch.equal(ends, sampler.run(funnel, start, 8, seeded(0), thin=8).samples[-1])


def test_the_warm_up_finds_a_step_size():
    chains = RiemannianHMC(funnel_metric, 5.0, leapfrog_steps=2).run(
        funnel, torch.zeros(30, 3, dtype=DOUBLE), 8, seeded(0), warm_up=25
    )
    assert chains.acceptance > 0.6
    assert chains.step_size < 5.0


def test_a_path_leads_back_to_where_it_began_and_keeps_the_energy_to_second_order():
    from relaxon.neuromorphic.energy.samplers.transitions import Target

    sampler = RiemannianHMC(funnel_metric, iterations=60, tolerance=1e-12)
    target, x = Target(funnel), torch.randn(30, 3, generator=seeded(1), dtype=DOUBLE)
    p = torch.randn(30, 3, generator=seeded(2), dtype=DOUBLE)
    errors = []
    for leaps in (10, 20):
        there, ends, settled = sampler._path(target, target.at(x), p, 0.4 / leaps, leaps)
        assert bool(settled.all())
        back, returned, _ = sampler._path(target, there, -ends, 0.4 / leaps, leaps)
        torch.testing.assert_close(back.position, x, atol=1e-8, rtol=0)
        torch.testing.assert_close(returned, -p, atol=1e-8, rtol=0)
        total = [s.energy + sampler._kinetic(s.position, q) for s, q in ((target.at(x), p), (there, ends))]
        errors.append(float((total[1] - total[0]).abs().mean()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.4)


@pytest.mark.parametrize(
    ("metric", "start", "named"),
    [
        (lambda x: x, torch.zeros(3, 2), "metric"),
        (lambda x: -torch.eye(2).expand(len(x), 2, 2), torch.zeros(3, 2), "metric"),
        (lambda x: torch.eye(2).expand(len(x), 2, 2), torch.zeros(3, 2, 2), "start"),
    ],
)
def test_a_metric_that_is_none_is_refused(metric, start, named):
    with pytest.raises(ValueError, match=named):
        RiemannianHMC(metric).run(lambda x: x.square().flatten(1).sum(1), start, 1, seeded(0))
