"""Polishing fits f at evenly spread noisy signals, tails and middle alike, and it stays a proximal operator."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.proximal import (  # noqa: E402
    MatchingSettings,
    NetworkSettings,
    PolishSettings,
    ProximalModel,
    polish_proximal,
    train_proximal,
)
from relaxon.neuromorphic.proximal.datasets import list_laplace_quantiles  # noqa: E402
from relaxon.neuromorphic.proximal.evaluation import soft_threshold_error  # noqa: E402
from relaxon.neuromorphic.proximal.potentials import build_potential  # noqa: E402
from relaxon.neuromorphic.proximal.training.polishing import _PolishRun, spread_noisy_signals  # noqa: E402

QUANTILES = list_laplace_quantiles(400)
SETTINGS = PolishSettings((0.3, 0.15), iterations=40, points=60)


@pytest.fixture(scope="module")
def rough():
    matching = MatchingSettings(
        1.0, start_steps=150, gammas=(), rate=2e-2, batch=64, pairing="posterior", average=0.95, record_every=50
    )
    return train_proximal(QUANTILES, NetworkSettings((1,), hidden=(12,), beta=20.0, alpha=0.005), matching)


@pytest.fixture(scope="module")
def polished(rough):
    return polish_proximal(rough, QUANTILES, SETTINGS)


def weights(model):
    return {name: tensor.numpy() for name, tensor in model.potential.state_dict().items()}


def test_polishing_brings_kinks_and_tails_near_to_soft_thresholding(rough, polished):
    assert soft_threshold_error(rough) > 0.4
    assert soft_threshold_error(polished) < 0.2
    tails = np.array([[-4.5], [-3.0], [3.0], [4.5]])
    np.testing.assert_allclose(polished.denoise(tails), tails - np.sign(tails), atol=0.08)


def test_the_model_that_came_in_stays_and_weights_keep_their_sign_and_precision(rough, polished):
    assert soft_threshold_error(rough) > 0.4
    assert polished.training == rough.training
    assert all(bool((weight >= 0).all()) for weight in polished.potential.positive_weights())
    for array in weights(polished).values():
        np.testing.assert_array_equal(array, array.astype(np.float32))


def test_the_same_settings_give_the_same_bits_and_a_stored_model_is_the_one_in_memory(rough, polished, tmp_path):
    again = polish_proximal(rough, QUANTILES, SETTINGS)
    again.save(tmp_path)
    loaded = ProximalModel.load(tmp_path)
    for name, array in weights(polished).items():
        np.testing.assert_array_equal(array, weights(again)[name])
        np.testing.assert_array_equal(array, weights(loaded)[name])


def test_the_gradient_is_that_of_the_loss_and_the_loss_that_of_posterior_pairs():
    data = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    potential = build_potential(NetworkSettings((2,), hidden=(5, 4), seed=3)).double()
    run = _PolishRun(potential, data, 0.8, PolishSettings((0.5,), points=9), None)
    vector = torch.nn.utils.parameters_to_vector(run.parameters).detach().numpy().copy()
    loss, gradient = run.evaluate(vector, 0.5)
    found = potential.proximal(run.noisy).numpy()
    expected = 0.0
    for y, f in zip(run.noisy.numpy(), found, strict=True):
        odds = np.exp(-((y - data.numpy()) ** 2).sum(1) / (2 * 0.8**2))
        matched = 1 - np.exp(-((f - data.numpy()) ** 2).mean(1) / (0.5 * 0.8) ** 2)
        expected += float((odds / odds.sum() * matched).sum()) / 9 / 0.5
    assert loss == pytest.approx(expected, rel=1e-12)
    direction = np.random.default_rng(1).standard_normal(len(vector))
    ahead, behind = (run.evaluate(vector + step * direction, 0.5)[0] for step in (1e-6, -1e-6))
    assert (ahead - behind) / 2e-6 == pytest.approx(float(gradient @ direction), rel=1e-6)


def test_noisy_signals_are_spread_over_the_box_of_the_noisy_samples():
    line = spread_noisy_signals(torch.from_numpy(QUANTILES), 1.0, 50)[:, 0].numpy()
    assert np.ptp(np.diff(line)) < 1e-12
    assert line[0] == pytest.approx(-line[-1])
    assert line[-1] + np.diff(line)[0] / 2 == pytest.approx(np.quantile(QUANTILES, 0.99) + 1)
    square = spread_noisy_signals(torch.rand(500, 2, generator=torch.Generator().manual_seed(0)).double(), 0.5, 64)
    counts = np.histogram2d(*square.T.numpy(), bins=4, range=[[-0.5, 1.5]] * 2)[0]
    assert counts.sum() == 64
    assert (counts >= 2).all()


def test_a_watcher_sees_each_iteration_and_ends_the_run(rough):
    seen = []
    polish_proximal(rough, QUANTILES, replace(SETTINGS, iterations=3), watcher=seen.append)
    assert [(one.iteration, one.stage) for one in seen] == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert {one.iterations for one in seen} == {6}
    assert seen[2].loss < seen[0].loss
    stopped = []
    polish_proximal(rough, QUANTILES, SETTINGS, watcher=lambda one: stopped.append(one) or len(stopped) == 2)
    assert len(stopped) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gammas": ()}, "gammas must have at least one entry"),
        ({"gammas": (0.1, 0.2)}, "gammas must decrease"),
        ({"gammas": 0.1}, "gammas must be numbers"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"points": 1.5}, "points must be an integer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        PolishSettings(**options)


def test_arguments_that_do_not_fit_are_refused(rough):
    with pytest.raises(ValueError, match=r"data must have shape \(n, 1\) with n ≥ 1"):
        polish_proximal(rough, QUANTILES[:, 0], SETTINGS)
    with pytest.raises(ValueError, match="data must be finite"):
        polish_proximal(rough, np.full((3, 1), np.nan), SETTINGS)
    with pytest.raises(ValueError, match="settings must have few enough points"):
        polish_proximal(rough, np.zeros((2**20, 1)), SETTINGS)
    with pytest.raises(TypeError, match="model must be a ProximalModel"):
        polish_proximal(None, QUANTILES, SETTINGS)
    with pytest.raises(TypeError, match="settings must be PolishSettings"):
        polish_proximal(rough, QUANTILES, None)
