"""The learned regulariser is the one whose proximal operator the network is."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.proximal import NetworkSettings, ProximalModel  # noqa: E402
from relaxon.neuromorphic.proximal.inversion import solve_shifted  # noqa: E402
from relaxon.neuromorphic.proximal.potentials import build_potential  # noqa: E402


@pytest.fixture(scope="module")
def model():
    settings = NetworkSettings((3,), hidden=(8, 6), alpha=0.1, scale=1.3, offset=0.1, seed=5)
    return ProximalModel(build_potential(settings), 0.1)


def rows(count=8, seed=0):
    return 2 * np.random.default_rng(seed).standard_normal((count, 3))


def test_the_preimage_is_found_to_its_tolerance(model):
    y = rows()
    found = model.prior(model.denoise(y)).preimage
    assert found.converged.all()
    assert (found.residuals <= 1e-10).all()
    np.testing.assert_allclose(found.y, y, atol=1e-7)


def test_the_prior_s_slope_is_y_minus_x(model):
    y, direction, step = rows(1)[0], rows(1, seed=3)[0], 1e-4
    x = model.denoise(y)
    ahead, behind = model.prior(np.array([x + step * direction, x - step * direction])).values
    assert (ahead - behind) / (2 * step) == pytest.approx(float((y - x) @ direction), rel=1e-5)


def test_f_minimises_the_prior_plus_half_the_squared_distance(model):
    y = rows(1)[0]
    x = model.denoise(y)
    points = np.vstack([x, x + 0.3 * rows(40, seed=1), rows(40, seed=2)])
    objective = model.prior(points).values + 0.5 * ((points - y) ** 2).sum(1)
    assert objective.argmin() == 0


@pytest.mark.parametrize("tau", [0.2, 0.9])
def test_the_shifted_equation_gives_the_proximal_operator_of_a_weaker_prior(model, tau):
    v = rows(4)
    right = torch.from_numpy(v)
    found = solve_shifted(model.potential, right, tau, 1 - tau, start=right, rtol=1e-12, max_iterations=100)
    assert bool(found.converged.all())
    x = found.proximal.numpy()
    points = x[:, None] + np.concatenate([np.zeros((1, 3)), 0.1 * rows(10, seed=4)])
    objective = tau * model.prior(points.reshape(-1, 3)).values.reshape(4, 11) + 0.5 * ((points - v[:, None]) ** 2).sum(
        2
    )
    assert (objective.argmin(1) == 0).all()


def test_too_few_steps_are_said(model):
    found = model.prior(rows(), max_iterations=1).preimage
    assert not found.converged.all()
    assert found.iterations == 1
    assert (found.residuals[~found.converged] > 1e-10).all()


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match="x must be finite"):
        model.prior(np.full(3, np.inf))
    with pytest.raises(ValueError, match="rtol must be greater than 0"):
        model.prior(rows(), rtol=0.0)
