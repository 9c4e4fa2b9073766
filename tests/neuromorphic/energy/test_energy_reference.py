"""The compiled MECO against torch and against its NumPy twin."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import (  # noqa: E402
    MECO,
    ExponentialFamilyEnergy,
    GaussianNoise,
    MLPEnergy,
    PolynomialStatistics,
    kernels,
)
from relaxon.neuromorphic.energy.reference import FamilyReference, HiddenReference, MECOReference  # noqa: E402

DOUBLE = torch.float64


def energies():
    start = [0.3, -0.2, 0.1, 0.05, -0.1]
    family = ExponentialFamilyEnergy(PolynomialStatistics(2, 2), 2, start=start, confinement=0.5, dtype=DOUBLE)
    line = ExponentialFamilyEnergy(PolynomialStatistics(1, 2), 1, start=[0.3, -0.1], confinement=0.5, dtype=DOUBLE)
    hidden = MLPEnergy(2, (7,), activation="tanh", confinement=0.3, seed=3, dtype=DOUBLE)
    return [(family, FamilyReference), (line, FamilyReference), (hidden, HiddenReference)]


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("settings", [MECO(0.1), MECO(0.2, drift=False), MECO(0.1, centred=False)])
def test_steps_equal_torch_to_rounding(which, settings):
    energy, kind = energies()[which]
    reference, theta = kind.of(energy)
    noise = GaussianNoise(torch.zeros(energy.features, dtype=DOUBLE), torch.eye(energy.features, dtype=DOUBLE))
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + torch.randn(33, energy.features, generator=generator, dtype=DOUBLE)
    settings = MECO(settings.gamma, drift=settings.drift, centred=settings.centred, warm_up=1)
    tracker = settings.begin(energy, noise, x, 21, 0)
    rate, momentum = 0.1, 0.8
    optimiser = torch.optim.SGD(energy.parameters(), rate, momentum=momentum, dampening=momentum)
    options = {"gamma": settings.gamma, "momentum": momentum, "drift": settings.drift, "centred": settings.centred}
    runs = [MECOReference(reference, theta, rate, backend=backend, **options) for backend in ("numba", "numpy")]
    for step in range(25):
        reading = tracker.read(x, torch.Generator().manual_seed(step))
        if step == 0:
            # The reference begins at its first batch; torch's tracker draws one before that.
            z = noise.sample(21, torch.Generator().manual_seed(step))
            with torch.no_grad():
                log_g = torch.logsumexp(-energy(z) - noise.log_prob(z), 0) - np.log(21)
            tracker.log_u.copy_(log_g)
            draw = torch.Generator().manual_seed(step)
            noise.sample(21, draw)
            continue
        z = noise.sample(21, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        reading.loss.backward()
        optimiser.step()
        for run in runs:
            if run.before is None:
                run.before, run.log_u = run.theta, float(log_g)
            found = run.step(x.numpy(), z.numpy(), noise.log_prob(z).numpy())
            assert found == pytest.approx(reading.log_partition, abs=1e-12)
    flat = torch.cat([parameter.detach().ravel() for parameter in energy.parameters()]).numpy()
    assert np.abs(flat - theta).max() > 0.1
    for run in runs:
        np.testing.assert_allclose(run.theta, flat, rtol=1e-10, atol=1e-12)


def test_plain_python_kernels_equal_the_compiled_ones():
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((19, 2)), rng.standard_normal(19)
    for energy, kind in (energies()[0], energies()[2]):
        reference, theta = kind.of(energy)
        if kind is FamilyReference:
            arguments = (reference.powers,)
            dense, slow = (theta, reference.powers, reference.confinement), np.zeros(len(theta))
            kernels.family_gradient.py_func(x, c, *arguments, slow)
        else:
            dense, slow = (theta, reference.hidden, reference.confinement), np.zeros(len(theta))
            parts = np.zeros((kernels.CHUNKS, len(theta)))
            kernels.hidden_gradient_parts.py_func(0, kernels.CHUNKS, x, c, theta, reference.hidden, parts)
            slow += parts.sum(0)
        np.testing.assert_allclose(reference.gradient(x, c, theta), slow, rtol=1e-12, atol=1e-13)
        out = np.empty(len(x))
        if kind is FamilyReference:
            kernels.family_log_density.py_func(x, *dense, out)
        else:
            kernels.hidden_log_density_run.py_func(0, len(x), x, *dense, out)
        np.testing.assert_allclose(reference.log_density(x, theta), out, rtol=1e-12)
        twin = reference.gradient(x, c, theta, "numpy")
        np.testing.assert_allclose(twin, slow, rtol=1e-11, atol=1e-12)


def test_gradients_are_those_of_the_log_density():
    rng = np.random.default_rng(1)
    x, c, step = rng.standard_normal((9, 2)), rng.standard_normal(9), 1e-6
    for energy, kind in energies()[::2]:
        reference, theta = kind.of(energy)
        found = reference.gradient(x, c, theta)
        for k in range(len(theta)):
            up, down = theta.copy(), theta.copy()
            up[k] += step
            down[k] -= step
            slope = c @ (reference.log_density(x, up) - reference.log_density(x, down)) / (2 * step)
            assert found[k] == pytest.approx(slope, rel=1e-6, abs=1e-7)
