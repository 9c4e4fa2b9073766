"""Energies are trained to what is known of them, objective by objective; runs resume, and say when they went wrong."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import (  # noqa: E402
    ENCE,
    HMC,
    MECO,
    NCE,
    PCD,
    SNL,
    ULA,
    AdaptiveNoise,
    ConvolutionalEnergy,
    Ended,
    ExactMLE,
    ExponentialFamilyEnergy,
    GaussianNoise,
    MLPEnergy,
    PolynomialStatistics,
    QuadraticEnergy,
    Quadrature,
    ScoreMatching,
    TiltedEnergy,
    TrainingSettings,
    UniformNoise,
    train,
)

DOUBLE = torch.float64


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(count, d, seed=0, dtype=DOUBLE):
    return torch.randn(count, d, generator=seeded(seed), dtype=dtype)


def gradient_of(energy, loss):
    energy.zero_grad()
    loss.backward()
    return torch.cat([p.grad.ravel() for p in energy.parameters()])


def likelihood_gradient(energy, x):
    """Of −mean log p(x), by quadrature."""
    nodes = torch.linspace(-9, 9, 6001, dtype=DOUBLE)[:, None]
    log_z = torch.logsumexp(-energy(nodes), 0) + math.log(18 / 6000)
    return gradient_of(energy, energy(x).mean() + log_z)


def hidden(seed=3):
    return MLPEnergy(1, (6,), activation="tanh", confinement=0.4, seed=seed, dtype=DOUBLE)


# ---- gradients


@pytest.mark.parametrize(
    ("objective", "tolerance"),
    [
        (MECO(), 0.05),
        (MECO(0.05), 0.05),
        (MECO(0.05, drift=False), 0.05),
        (MECO(0.05, centred=False), 0.05),
        (MECO.published(0.05), 0.05),
        (ExactMLE(Quadrature((-9.0,), (9.0,), 400)), 1e-6),
    ],
    ids=str,
)
def test_the_gradient_is_that_of_the_likelihood(objective, tolerance):
    energy, x = hidden(), 0.7 + 0.5 * normal(400, 1)
    noise = GaussianNoise(torch.zeros(1, dtype=DOUBLE), 2 * torch.eye(1, dtype=DOUBLE))
    exact = likelihood_gradient(energy, x)
    working = objective.begin(energy, noise, x, 256, 0)
    total = torch.zeros_like(exact)
    for step in range(300):
        found = gradient_of(energy, working.read(x, seeded(step)).loss)
        total += found / 200 if step >= 100 else 0
    assert (total - exact).norm() <= tolerance * exact.norm()


def test_the_tracker_follows_log_z_and_a_jump_of_the_parameters():
    energy = ExponentialFamilyEnergy(PolynomialStatistics(1), 1, confinement=0.5, dtype=DOUBLE)
    noise = GaussianNoise(torch.zeros(1, dtype=DOUBLE), 2 * torch.eye(1, dtype=DOUBLE))
    x = normal(50, 1)
    for objective, close in ((MECO(0.02), 0.1), (MECO(0.02, drift=False), None)):
        with torch.no_grad():
            energy.theta.zero_()
        working = objective.begin(energy, noise, x, 512, 0)
        for step in range(100):
            working.read(x, seeded(step))
        with torch.no_grad():
            energy.theta.fill_(1.5)
        found = working.read(x, seeded(1000)).log_partition
        true = 0.5 * 1.5**2 + 0.5 * math.log(2 * math.pi)
        if close is None:
            assert abs(found - true) > 0.5  # it still is where it was
        else:
            assert abs(found - true) < close


@pytest.mark.parametrize("objective", [NCE(), ENCE(), SNL()], ids=str)
def test_the_true_model_and_its_log_z_are_where_the_gradient_vanishes(objective):
    # Data, noise and model all known: at the truth the expected gradient is 0, and beside it it is not.
    energy = ExponentialFamilyEnergy(PolynomialStatistics(1), 1, start=[0.5], confinement=0.5, dtype=DOUBLE)
    noise = GaussianNoise(torch.zeros(1, dtype=DOUBLE), 2 * torch.eye(1, dtype=DOUBLE))
    x = 0.5 + normal(200_000, 1)
    working = objective.begin(energy, noise, x, 200_000, 0)
    with torch.no_grad():
        working.log_z.fill_(0.125 + 0.5 * math.log(2 * math.pi))

    def gradient():
        working.zero_grad()
        found = gradient_of(energy, working.read(x, seeded(1)).loss)
        return torch.cat([found, working.log_z.grad.reshape(1)])

    at_truth = gradient()
    with torch.no_grad():
        energy.theta.add_(0.3)
    assert at_truth.norm() < 0.02 < 0.05 < gradient().norm()


@pytest.mark.parametrize("form", ["exact", "sliced", "denoising"])
def test_score_matching_finds_a_gaussian(form):
    energy = QuadraticEnergy(2)
    x = (normal(4000, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.6]], dtype=DOUBLE) + 1).float()
    settings = TrainingSettings(steps=600, batch=512, rate=0.02, average=0.98)
    result = train(energy, x, None, ScoreMatching(form, sigma=0.1), settings)
    assert result.ended is Ended.FINISHED
    assert (energy.mean - x.mean(0)).abs().max() < 0.06
    factor = energy.lower.tril(-1) + torch.diag(energy.log_diagonal.exp())
    covariance = torch.linalg.inv(factor @ factor.T)
    assert (covariance - torch.cov(x.T)).abs().max() < 0.15


def test_persistent_chains_find_a_gaussian():
    energy = ExponentialFamilyEnergy(PolynomialStatistics(2), 2, confinement=0.5)
    x = normal(3000, 2, dtype=torch.float32) + torch.tensor([1.0, -2.0])
    settings = TrainingSettings(steps=400, batch=256, rate=0.05, optimiser="adam", average=0.95)
    result = train(energy, x, None, PCD(ULA(0.3), moves=5), settings)
    assert result.ended is Ended.FINISHED
    assert (energy.theta.detach() - x.mean(0)).abs().max() < 0.15


# ---- the mean of 16


def to_sixteen(objective, seed, adaptive, **settings):
    data = 16 + normal(20_000, 1, 1000 + seed)
    energy = ExponentialFamilyEnergy(PolynomialStatistics(1), 1, confinement=0.5, dtype=DOUBLE)
    start = GaussianNoise(torch.zeros(1, dtype=DOUBLE), torch.eye(1, dtype=DOUBLE))
    noise = AdaptiveNoise.from_gaussian(start) if adaptive else start
    options = {"steps": 600, "batch": 256, "rate": 0.1, "optimiser": "sgd", "seed": seed} | settings
    result = train(energy, data, noise, objective, TrainingSettings(**options))
    return abs(float(energy.theta[0]) - float(data.mean())), result


@pytest.mark.parametrize("seed", range(10))
def test_meco_goes_from_0_to_16(seed):
    error, result = to_sixteen(MECO(), seed, True)
    assert error < 0.02
    assert result.trusted
    assert result.log_partition == pytest.approx(128 + 0.5 * math.log(2 * math.pi), abs=0.5)


def test_nce_does_not_get_there_and_says_so():
    error, result = to_sixteen(NCE(), 0, False, optimiser="adam")
    assert error > 3
    assert not result.trusted
    assert "noise hardly meets the data" in result.reason


# ---- runs


def small_run(out=None, steps=40, objective=None, watcher=None, **settings):
    energy = MLPEnergy(2, (8,), confinement=0.2, seed=1)
    x = normal(300, 2, dtype=torch.float32)
    noise = GaussianNoise.fit(x, widen=1.5)
    options = {"steps": steps, "batch": 32, "noise_batch": 64, "average": 0.9, "checkpoint_every": 7} | settings
    result = train(energy, x, noise, objective or MECO(), TrainingSettings(out=out, **options), watcher=watcher)
    return energy, result


def bits(energy):
    return [p.detach().numpy().tobytes() for p in energy.parameters()]


@pytest.mark.parametrize("objective", [MECO(), MECO.published(), NCE(), PCD(ULA(0.1), moves=2)], ids=str)
def test_a_run_that_was_stopped_ends_with_the_same_bits(objective, tmp_path):
    whole, told = small_run(objective=objective)
    again, _ = small_run(objective=objective)
    assert bits(whole) == bits(again)
    _, stopped = small_run(tmp_path, objective=objective, watcher=lambda p: p.step == 17)
    assert (stopped.ended, stopped.steps) == (Ended.CANCELLED, 17)
    resumed, result = small_run(tmp_path, objective=objective)
    assert bits(resumed) == bits(whole)
    assert [r.log_partition for r in result.records] == pytest.approx(
        [r.log_partition for r in told.records], nan_ok=True, abs=0
    )


def test_another_seed_is_another_run_and_a_checkpoint_of_another_is_refused(tmp_path):
    one, _ = small_run(tmp_path)
    other, _ = small_run(seed=1)
    assert bits(one) != bits(other)
    with pytest.raises(ValueError, match="seed"):
        small_run(tmp_path, seed=1)


class Runaway(torch.nn.Module):
    """Its energy falls without bound where a parameter grows."""

    def __init__(self, bad=False):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(1))
        self.bad = bad

    def forward(self, x):
        out = -1e9 * self.a * x[:, 0]
        return out * math.nan if self.bad else out


def test_runs_that_go_wrong_end_with_why():
    x = 1 + normal(100, 1, dtype=torch.float32).abs()
    noise = GaussianNoise.fit(x)
    settings = TrainingSettings(steps=500, batch=50, rate=1.0, schedule="constant", optimiser="adam")
    found = train(Runaway(), x, noise, NCE(), settings)
    assert found.ended in (Ended.DIVERGED, Ended.NON_FINITE)
    assert not found.trusted
    lost = Runaway(bad=True)
    found = train(lost, x, noise, MECO(), settings)
    assert found.ended is Ended.NON_FINITE
    assert found.steps == 20
    assert float(lost.a) == 0.0  # a step without a gradient changes nothing


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"steps": 0}, ValueError, "steps"),
        ({"batch": 1.5}, TypeError, "batch"),
        ({"rate": 0.0}, ValueError, "rate"),
        ({"rate": math.nan}, ValueError, "rate"),
        ({"optimiser": "lion"}, ValueError, "optimiser"),
        ({"schedule": "step"}, ValueError, "schedule"),
        ({"average": 1.0}, ValueError, "average"),
        ({"clip": -1.0}, ValueError, "clip"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": True}, ValueError, "seed"),
        ({"device": "toaster"}, ValueError, "device"),
    ],
)
def test_bad_settings_are_refused(change, error, match):
    with pytest.raises(error, match=match):
        TrainingSettings(**change)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (torch.full((5, 2), math.nan), "data"),
        (torch.tensor([[math.inf, 0.0]]), "data"),
        (torch.zeros(0, 2), "data"),
        (torch.zeros(3, 2, dtype=torch.int64), "data"),
        (torch.zeros(3, 3), "energy"),
        (np.zeros((3, 2), np.float32), "data"),
        (torch.tensor(1.0), "data"),
    ],
)
def test_bad_data_are_refused(data, match):
    noise = GaussianNoise(torch.zeros(2), torch.eye(2))
    with pytest.raises((ValueError, TypeError), match=match):
        train(MLPEnergy(2), data, noise, MECO(), TrainingSettings(steps=1))


def test_noise_of_another_shape_an_energy_without_parameters_and_no_objective_are_refused():
    x = normal(10, 2, dtype=torch.float32)
    with pytest.raises(ValueError, match="noise"):
        train(MLPEnergy(2), x, GaussianNoise(torch.zeros(3), torch.eye(3)), MECO())
    with pytest.raises(TypeError, match="noise"):
        train(MLPEnergy(2), x, None, MECO())
    fixed = QuadraticEnergy(2).requires_grad_(False)
    with pytest.raises(ValueError, match="energy"):
        train(fixed, x, GaussianNoise.fit(x), MECO())
    with pytest.raises(TypeError, match="objective"):
        train(MLPEnergy(2), x, GaussianNoise.fit(x), "meco")


@pytest.mark.parametrize("bad", [{"gamma": 0.0}, {"gamma": 1.5}, {"gamma": math.nan}, {"warm_up": 0}])
def test_bad_settings_of_meco_are_refused(bad):
    with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
        MECO(**bad)


# ---- energies


def test_a_user_s_module_and_a_tilted_base_are_trained_and_data_are_left_alone():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return 0.5 * (x - self.shift).square().sum(1)

    x = normal(2000, 2, dtype=torch.float32) + 0.5
    kept = x.clone()
    own = Own()
    train(own, x, GaussianNoise.fit(x, widen=1.5), MECO(), TrainingSettings(steps=300, rate=0.02))
    assert (own.shift.detach() - x.mean(0)).abs().max() < 0.05
    base = GaussianNoise(torch.zeros(2), torch.eye(2))
    tilted = TiltedEnergy(base, MLPEnergy(2, (16,), confinement=0.0))
    train(tilted, x, base, MECO(), TrainingSettings(steps=200, rate=0.01))
    assert torch.equal(base.mean, torch.zeros(2))
    assert torch.equal(x, kept)
    better = (-tilted(x) - base.log_prob(x)).mean()
    assert better > 0.1  # the tilt has learnt the shift


def test_a_convolutional_energy_takes_images_of_odd_sides():
    energy = ConvolutionalEnergy((2, 7, 5), (4, 6))
    x = torch.randn(12, 2, 7, 5, generator=seeded(0))
    assert energy(x).shape == (12,)
    noise = GaussianNoise.fit(x.repeat(20, 1, 1, 1) + 0.1 * torch.randn(240, 2, 7, 5, generator=seeded(1)))
    assert noise.sample(3, seeded(0)).shape == (3, 2, 7, 5)
    result = train(energy, x, noise, MECO(), TrainingSettings(steps=3, batch=8))
    assert result.steps == 3
    chains = HMC(0.1, 2).run(energy, x[:4], 2, seeded(2))
    assert chains.samples.shape == (2, 4, 2, 7, 5)


def test_the_quadratic_energy_knows_its_log_z():
    energy = QuadraticEnergy(2, dtype=DOUBLE)
    with torch.no_grad():
        energy.mean.copy_(torch.tensor([0.3, -0.2]))
        energy.log_diagonal.copy_(torch.tensor([0.4, -0.1]))
        energy.lower[1, 0] = 0.7
    found = Quadrature((-12.0, -12.0), (12.0, 12.0), 200).log_partition(energy)
    assert float(found) == pytest.approx(float(energy.exact_log_partition()), abs=1e-8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLPEnergy(0),
        lambda: MLPEnergy(2, (0,)),
        lambda: MLPEnergy(2, activation="relu"),
        lambda: ConvolutionalEnergy((8, 8)),
        lambda: ConvolutionalEnergy((1, 8, 8), ()),
        lambda: ExponentialFamilyEnergy(lambda x: x[:, 0], 2),
        lambda: ExponentialFamilyEnergy(PolynomialStatistics(2), 2, start=[1.0]),
        lambda: ExponentialFamilyEnergy(3, 2),
    ],
)
def test_bad_energies_are_refused(make):
    with pytest.raises((ValueError, TypeError)):
        make()


def test_uniform_noise_that_does_not_cover_the_data_is_no_silent_error():
    x = normal(200, 1, dtype=torch.float32)
    narrow = UniformNoise(torch.tensor([5.0]), torch.tensor([6.0]))
    result = train(
        ExponentialFamilyEnergy(PolynomialStatistics(1), 1, confinement=0.5),
        x,
        narrow,
        MECO(),
        TrainingSettings(steps=50),
    )
    # Its own weights are all alike: they say nothing of where the data are.
    assert not result.trusted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_on_cuda_it_goes_as_on_the_cpu():
    here, _ = small_run()
    there, _ = small_run(device="cuda")
    for a, b in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-2, atol=1e-3)
