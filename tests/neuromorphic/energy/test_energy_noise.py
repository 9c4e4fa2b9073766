"""Noise distributions: samples and densities that agree, and seeds; what has no density is refused."""

import math
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import (  # noqa: E402
    AdaptiveNoise,
    DefensiveNoise,
    FlowNoise,
    GaussianNoise,
    KernelDensityNoise,
    MixtureNoise,
    StudentNoise,
    UniformNoise,
    planar,
)

DOUBLE = torch.float64


def data(count=400, seed=0):
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    x[: count // 3] = 0.4 * x[: count // 3] + torch.tensor([2.0, -1.0], dtype=DOUBLE)
    return x


def adaptive():
    noise = AdaptiveNoise.from_gaussian(GaussianNoise(torch.zeros(2, dtype=DOUBLE), torch.eye(2, dtype=DOUBLE)))
    x = data()
    for _ in range(5):
        noise.observe(x, torch.zeros(len(x), dtype=DOUBLE), x)
    return noise


@cache
def flow():
    pytest.importorskip("zuko", reason="zuko is not installed (extra: flows)")
    return FlowNoise.fit(data().float(), steps=200, seed=0).double()


KINDS = {
    "gaussian": lambda: GaussianNoise.fit(data(), widen=1.3),
    "student": lambda: StudentNoise.fit(data(), freedom=4.0),
    "uniform": lambda: UniformNoise(torch.tensor([-3.0, -2.0], dtype=DOUBLE), torch.tensor([2.0, 4.0], dtype=DOUBLE)),
    "mixture": lambda: MixtureNoise.fit(data(), seed=0),
    "kernel": lambda: KernelDensityNoise.fit(data()),
    "defensive": lambda: DefensiveNoise.around(KernelDensityNoise.fit(data()), data()),
    "adaptive": adaptive,
    "flow": flow,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_integrates_to_one_and_is_that_of_the_samples(kind):
    noise = KINDS[kind]()
    n, half = 180 if kind == "flow" else 400, 30.0 if kind == "student" else 14.0
    axis = torch.linspace(-half, half, n, dtype=DOUBLE)
    nodes = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        p = noise.log_prob(nodes).exp()
        cell = (2 * half / (n - 1)) ** 2
        assert float(p.sum() * cell) == pytest.approx(1, abs=0.02)
        x = noise.sample(20_000, torch.Generator().manual_seed(1)).double()
    for k in range(2):
        near = nodes[:, k].abs() < half
        mean = float((p * nodes[:, k])[near].sum() * cell)
        spread = float((p * nodes[:, k] ** 2)[near].sum() * cell) - mean**2
        assert float(x[:, k].mean()) == pytest.approx(mean, abs=6 * math.sqrt(spread / len(x)) + 0.03)
        assert float((x[:, k] < mean).double().mean()) == pytest.approx(
            float(p[nodes[:, k] < mean].sum() * cell), abs=0.03
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_alone_decides(kind):
    noise = KINDS[kind]()
    torch.manual_seed(3)
    one = noise.sample(7, torch.Generator().manual_seed(5))
    torch.manual_seed(4)
    assert torch.equal(one, noise.sample(7, torch.Generator().manual_seed(5)))
    assert not torch.equal(one, noise.sample(7, torch.Generator().manual_seed(6)))


def test_the_adaptive_noise_walks_to_the_weighted_samples():
    noise = AdaptiveNoise.from_gaussian(GaussianNoise(torch.zeros(1, dtype=DOUBLE), torch.eye(1, dtype=DOUBLE)))
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):  # a model at 6, of deviation ½
        z = noise.sample(256, generator)
        log_p = -0.5 * ((z[:, 0] - 6) / 0.5) ** 2
        noise.observe(z, log_p - noise.log_prob(z), z)
    assert float(noise.mean) == pytest.approx(6, abs=0.1)
    assert float(noise.covariance) == pytest.approx(0.25, rel=0.3)


@pytest.mark.parametrize("bad", [torch.ones(5, 2), torch.tensor([[1.0, 2.0]]), torch.full((5, 2), math.nan)])
@pytest.mark.parametrize("kind", [GaussianNoise, StudentNoise, MixtureNoise, KernelDensityNoise])
def test_data_without_a_density_are_refused(kind, bad):
    with pytest.raises(ValueError, match="data"):
        kind.fit(bad)


def test_bad_parameters_are_refused():
    for make in (
        lambda: GaussianNoise(torch.zeros(2), -torch.eye(2)),
        lambda: GaussianNoise(torch.zeros(2), torch.eye(3)),
        lambda: StudentNoise(torch.zeros(2), torch.eye(2), 0.0),
        lambda: UniformNoise(torch.ones(2), torch.zeros(2)),
        lambda: DefensiveNoise(KINDS["gaussian"](), KINDS["gaussian"](), 1.0),
        lambda: KINDS["gaussian"]().sample(0, torch.Generator()),
    ):
        with pytest.raises((ValueError, TypeError)):
            make()


@pytest.mark.parametrize("name", ["eight-gaussians", "rings", "two-moons", "checkerboard"])
def test_a_planar_density_is_that_of_its_samples(name):
    density = planar(name)
    nodes, cell = density.nodes(300)
    p = np.exp(density.log_density(nodes))
    assert p.sum() * cell == pytest.approx(1, abs=2e-3)
    x = density.sample(10_000, 3)
    # Samples' own mean log-density is minus the entropy, to sampling error.
    own = density.log_density(x)
    assert own.mean() == pytest.approx(-density.entropy(), abs=5 * own.std() / 100 + 1e-3)
    assert np.abs(x).max() < density.half_width
    np.testing.assert_array_equal(x, density.sample(10_000, 3))
    with pytest.raises(ValueError, match="name"):
        planar("spiral")
