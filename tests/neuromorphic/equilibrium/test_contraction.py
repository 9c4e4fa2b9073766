"""The bound under which relaxation must converge: of the pooling, of the coupling, and in training."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from scipy.optimize import minimize  # noqa: E402

from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    Cauchy,
    ConvolutionalNetwork,
    FixedStep,
    Phases,
    TrainingSettings,
    train,
)
from relaxon.neuromorphic.equilibrium.networks.contraction import (  # noqa: E402
    POOL_BEND,
    POOL_SLOPE,
    Contraction,
    coupling_bound,
    largest_convolution,
)


def softmax_mean(h):
    return (torch.softmax(h, -1) * h).sum(-1)


def slope(h):
    return torch.func.grad(softmax_mean)(torch.as_tensor(h)).norm()


def bend(h):
    return torch.linalg.matrix_norm(torch.func.hessian(softmax_mean)(torch.as_tensor(h)), 2)


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4))
@settings(max_examples=25, deadline=None)
def test_no_window_bends_the_softmax_mean_beyond_its_constants(h):
    window = torch.tensor(h, dtype=torch.float64)
    assert slope(window) <= POOL_SLOPE
    assert bend(window) <= POOL_BEND


@pytest.mark.parametrize(
    ("size", "constant", "start"), [(slope, POOL_SLOPE, [0, -3, -3, -3]), (bend, POOL_BEND, [0, -3, 0, -3])]
)
def test_the_constants_are_the_largest_values_rounded_up(size, constant, start):
    found = minimize(
        lambda h: -float(size(h)), np.array(start, dtype=float), method="Nelder-Mead", options={"xatol": 1e-6}
    )
    assert constant - 1e-4 < -found.fun <= constant


@pytest.mark.parametrize("feedback", ["tied", "independent"])
@pytest.mark.parametrize("channels", [(3, 4), (2, 3, 4)])
@pytest.mark.parametrize("activation", ["sigmoid", "dsilu"])
def test_a_projected_convolutional_network_couples_by_less_than_the_bound(feedback, channels, activation):
    network = ConvolutionalNetwork(
        (2, 8, 8), channels, 3, feedback=feedback, angle=60.0 if feedback == "independent" else 0.0,
        activation=activation, gain=5.0, seed=1, dtype=torch.float64,
    )  # fmt: skip
    Contraction(network, 0.9, None).apply(200)
    drive = network.drive(torch.zeros(1, 2, 8, 8, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        u = 3 * torch.randn(network.units, generator=generator, dtype=torch.float64)
        rates = network.activation(u)
        coupling = torch.func.jacrev(lambda r: network.pull(r[None], drive)[0])(rates)
        norm = float(torch.linalg.matrix_norm(coupling.detach(), 2))
        assert norm <= 0.9 * (1 + 1e-6)
    assert norm > 0.05  # the bound is not met by weights that vanished


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_the_largest_convolution_meets_the_bound(layers):
    norm = largest_convolution(0.9, layers, 1.0)
    assert coupling_bound(norm, layers, 1.0) == pytest.approx(0.9, rel=1e-9)
    assert largest_convolution(0.9, 1, 1.0) == float("inf")


def test_a_convolutional_network_without_bounded_rates_is_refused():
    network = ConvolutionalNetwork((1, 4, 4), (2, 2), 2, activation="identity")
    with pytest.raises(ValueError, match="contraction of a convolutional network needs an activation of"):
        Contraction(network, 0.9, None)


def test_two_convolutional_layers_come_to_rest_in_training():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rows = torch.tensor((x - x.mean()) / x.std(), dtype=torch.float32).reshape(-1, 1, 8, 8)[:480]
    network = ConvolutionalNetwork((1, 8, 8), (8, 12), 10, gain=1.0, input_gain=4.0, draw="orthogonal", seed=0)
    phases = Phases(FixedStep(100, tolerance=1e-4), FixedStep(60, tolerance=1e-3))
    report = train(
        network,
        (rows, torch.tensor(y[:480])),
        TrainingSettings(
            epochs=3, batch=32, rate=0.02, optimiser="adam", estimator=Cauchy(4, 0.1), phases=phases,
            contraction=3.0, readout_bound=4.0, probe=False,
        ),
    )  # fmt: skip
    counts = [epoch.verdicts for epoch in report.epochs]
    rested = sum(count.get("ok", 0) for count in counts)
    assert rested >= 0.95 * sum(sum(count.values()) for count in counts)
    assert report.epochs[-1].loss < 0.9 * report.epochs[0].loss
