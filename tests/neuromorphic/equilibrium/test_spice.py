"""A network as a circuit: its operating point is the free equilibrium, and its parts are what the page says."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    Alternating,
    ConvolutionalNetwork,
    LayeredNetwork,
    Phases,
    TrainingSettings,
    operating_point,
    read_netlist,
    train,
    write_netlist,
)
from relaxon.neuromorphic.equilibrium.estimators.gradients import free_phase  # noqa: E402

AT_REST = Phases(Alternating(2000, tolerance=1e-13))


def free_rates(network, x):
    """Rates layer by layer, and logits, at the free equilibrium of one input."""
    row = torch.as_tensor(x, dtype=torch.float64)[None]
    with torch.no_grad():
        rates = free_phase(network, row, torch.zeros(1, network.classes, dtype=torch.float64), AT_REST).rates
        return [part[0].numpy() for part in torch.split(rates, network.layers, -1)], network.scores(rates)[0].numpy()


@pytest.fixture(scope="module")
def trained():
    x = torch.rand(90, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = LayeredNetwork((5, 9, 7, 3), gain=1.0, seed=1, dtype=torch.float64)
    settings = TrainingSettings(epochs=1, batch=45, rate=0.3, contraction=0.9, readout_bound=4.0, probe=False)
    train(network, (x, (3 * x[:, 0]).long()), settings)
    return network, x[7].numpy()


def test_the_operating_point_is_the_free_equilibrium_of_a_trained_network(trained, tmp_path):
    network, x = trained
    write_netlist(network, x, tmp_path / "network.cir")
    found = operating_point(read_netlist(tmp_path / "network.cir"), tolerance=1e-12)
    assert found.converged
    assert found.residual <= 1e-12
    rates, logits = free_rates(network, x)
    for n, layer in enumerate(rates, 1):
        volts = [found.voltages[f"p{n}_{place}"] for place in range(len(layer))]
        np.testing.assert_allclose(volts, layer, atol=1e-10)
        mirrored = [found.voltages[f"n{n}_{place}"] for place in range(len(layer))]
        np.testing.assert_allclose(mirrored, -layer, atol=1e-10)
    np.testing.assert_allclose([found.voltages[f"z_{place}"] for place in range(3)], logits, atol=1e-9)


@pytest.mark.parametrize("activation", ["dsilu", "tanh", "identity", "hard-sigmoid", "relu"])
def test_every_activation_has_its_source(activation, tmp_path):
    network = LayeredNetwork((3, 5, 4, 2), activation=activation, gain=0.4, seed=3, loss="squared", dtype=torch.float64)
    x = np.array([0.3, -0.8, 1.1])
    write_netlist(network, x, tmp_path / "network.cir", unit_conductance=1e-3)
    found = operating_point(read_netlist(tmp_path / "network.cir"), tolerance=1e-12)
    assert found.converged
    for n, layer in enumerate(free_rates(network, x)[0], 1):
        np.testing.assert_allclose([found.voltages[f"p{n}_{i}"] for i in range(len(layer))], layer, atol=1e-10)


def test_a_tied_weight_is_the_same_resistor_in_both_directions(trained, tmp_path):
    network, x = trained
    write_netlist(network, x, tmp_path / "network.cir", unit_conductance=2e-5)
    cards = {line.split()[0]: line.split()[1:] for line in (tmp_path / "network.cir").read_text().splitlines()}
    weights = network.weights[1].detach().numpy()
    for row, column in ((0, 0), (3, 8), (6, 2)):
        sign = "p" if weights[row, column] > 0 else "n"
        ohms = 1 / (2e-5 * abs(weights[row, column]))
        for name, source, node in (
            (f"Rf2_{row}_{column}", f"{sign}1_{column}", f"u2_{row}"),
            (f"Rb1_{column}_{row}", f"{sign}2_{row}", f"u1_{column}"),
        ):
            assert cards[name][:2] == [source, node]
            assert float(cards[name][2]) == pytest.approx(ohms, rel=1e-12)
    # No resistance is negative, and none leads from unit to unit but from a source.
    assert all(float(words[2]) > 0 for name, words in cards.items() if name.startswith("R"))


def test_networks_that_are_no_such_circuit_are_refused(tmp_path):
    path = tmp_path / "network.cir"
    with pytest.raises(TypeError, match="network must be a LayeredNetwork"):
        write_netlist(ConvolutionalNetwork((1, 4, 4), (2,), 2), np.zeros(16), path)
    with pytest.raises(ValueError, match="network must have tied feedback"):
        write_netlist(LayeredNetwork((3, 4, 4, 2), feedback="independent"), np.zeros(3), path)
    with pytest.raises(ValueError, match=r"x must be \(3,\)"):
        write_netlist(LayeredNetwork((3, 4, 2)), np.zeros(4), path)
    with pytest.raises(ValueError, match="unit_conductance must"):
        write_netlist(LayeredNetwork((3, 4, 2)), np.zeros(3), path, unit_conductance=0.0)
    assert not path.exists()


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("C1 a 0 1e-9", "line 2 of"),
        ("R1 a 0 -5", "resistance must"),
        ("V1 a b DC 1", "line 2 of"),
        ("B1 a 0 V=1+", "line 2 of"),
        ("V1 a 0 DC 1\nV2 a 0 DC 2", "one source for each node"),
    ],
)
def test_a_card_that_is_not_known_is_refused_by_its_line(card, words, tmp_path):
    (tmp_path / "bad.cir").write_text(f"* title\n{card}\n.end\n")
    with pytest.raises(ValueError, match=words):
        read_netlist(tmp_path / "bad.cir")


def test_a_circuit_without_an_operating_point_is_a_value(tmp_path):
    (tmp_path / "runaway.cir").write_text("* v = 1 + v\nR1 p u 1000\nBp p 0 V=\n+ 1+V(u)\n.op\n.end\n")
    found = operating_point(read_netlist(tmp_path / "runaway.cir"), iterations=5)
    assert not found.converged
