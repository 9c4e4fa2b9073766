"""Potentials are convex, their gradients conservative and monotone, and what does not fit is refused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.proximal import NetworkSettings, ProximalModel  # noqa: E402
from relaxon.neuromorphic.proximal.evaluation import measure_asymmetry  # noqa: E402
from relaxon.neuromorphic.proximal.potentials import build_potential  # noqa: E402

FORMS = {
    "dense": NetworkSettings((4,), hidden=(9, 7, 5), alpha=0.05, seed=3),
    "dense images": NetworkSettings((2, 3), hidden=(6,), alpha=0.05, seed=4),
    "convolutional": NetworkSettings((5, 4), "convolutional", hidden=(4, 3), alpha=0.05, scale=0.7, offset=0.2),
    "channels": NetworkSettings((2, 4, 4), "convolutional", hidden=(3, 3), kernel=1, alpha=0.05),
}


@pytest.fixture(params=FORMS)
def model(request):
    return ProximalModel(build_potential(FORMS[request.param]), 0.1)


def signals(model, count=6, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *model.shape))


def test_the_jacobian_is_symmetric_and_at_least_two_alpha(model):
    for y in signals(model, 2):
        assert measure_asymmetry(model, y) < 1e-6
        flat = torch.from_numpy(y).ravel()
        jacobian = torch.autograd.functional.jacobian(
            lambda row: model.potential.proximal(row.reshape(1, *model.shape), differentiable=True).ravel(), flat
        )
        assert float(torch.linalg.eigvalsh(jacobian).min()) >= 2 * model.settings.alpha * (1 - 1e-9)


def test_the_potential_lies_below_its_chords(model):
    a, b = signals(model, 20), signals(model, 20, seed=1)
    value = lambda x: model.potential(torch.from_numpy(x)).numpy()  # noqa: E731
    assert (value((a + b) / 2) < (value(a) + value(b)) / 2).all()


def test_a_negative_weight_between_layers_breaks_convexity_and_projection_mends_it():
    potential = build_potential(NetworkSettings((2,), hidden=(5, 4), alpha=0.001)).double()
    with torch.no_grad():
        potential.last.weight.neg_()
    rows = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def above_chords():
        with torch.no_grad():
            middle = potential((rows[:25] + rows[25:]) / 2)
            return int((middle > (potential(rows[:25]) + potential(rows[25:])) / 2 + 1e-12).sum())

    assert above_chords() > 0
    potential.project()
    assert above_chords() == 0


def test_f_is_the_gradient_of_the_potential(model):
    y, step = signals(model, 1)[0], 1e-6
    direction = signals(model, 1, seed=7)[0]
    value = lambda x: float(model.potential(torch.from_numpy(x)[None]))  # noqa: E731
    slope = (value(y + step * direction) - value(y - step * direction)) / (2 * step)
    assert slope == pytest.approx(float((model.denoise(y) * direction).sum()), rel=1e-6)


def test_scale_and_offset_are_a_change_of_units():
    plain = ProximalModel(build_potential(NetworkSettings((3,), hidden=(5,), seed=1)), 0.1)
    other = ProximalModel(build_potential(NetworkSettings((3,), hidden=(5,), seed=1, scale=2.0, offset=0.5)), 0.2)
    y = signals(plain)
    np.testing.assert_allclose(other.denoise(0.5 + 2 * y), 0.5 + 2 * plain.denoise(y), rtol=1e-12, atol=1e-12)


def test_a_convolutional_model_takes_other_sizes_and_is_the_same_everywhere():
    model = ProximalModel(build_potential(FORMS["convolutional"]), 0.1)
    image = np.random.default_rng(0).standard_normal((16, 18))
    moved = np.roll(image, (2, 3), (0, 1))
    inside = slice(7, 11)  # f looks 4 pixels far
    np.testing.assert_allclose(
        np.roll(model.denoise(image), (2, 3), (0, 1))[inside, inside], model.denoise(moved)[inside, inside], atol=1e-12
    )


def test_one_signal_and_many_give_the_same(model):
    y = signals(model)
    np.testing.assert_allclose(model.denoise(y)[2], model.denoise(y[2]), rtol=1e-12, atol=1e-14)
    kept = y.copy()
    model.denoise(y)
    np.testing.assert_array_equal(y, kept)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shape": ()}, "shape"),
        ({"shape": (0,)}, "shape must be at least 1"),
        ({"shape": "ab"}, "shape must be integers"),
        ({"kind": "recurrent"}, "kind must be 'dense' or 'convolutional'"),
        ({"kind": "convolutional"}, "shape must have 2 or 3 axes"),
        ({"hidden": ()}, "hidden must have at least one"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"alpha": 0.0}, "alpha must be greater than 0"),
        ({"alpha": 0.6}, "alpha must be at most"),
        ({"beta": float("nan")}, "beta must be finite"),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        NetworkSettings(**{"shape": (3,), **options})


def test_signals_that_do_not_fit_are_refused():
    model = ProximalModel(build_potential(FORMS["dense"]), 0.1)
    with pytest.raises(ValueError, match=r"y must have shape \(4\) or \(n, 4\), got \(3,\)"):
        model.denoise(np.zeros(3))
    with pytest.raises(ValueError, match="y must be finite"):
        model.denoise(np.array([0.0, np.nan, 0.0, 0.0]))
    with pytest.raises(ValueError, match="noise must be greater than 0"):
        ProximalModel(build_potential(FORMS["dense"]), 0.0)
