"""Residual convolutional Hopfield networks: their coupling, their bound, their gradients, and how they are kept."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    Anderson,
    Cauchy,
    Centred,
    FixedStep,
    Phases,
    ResidualNetwork,
    TrainingSettings,
    Verdict,
    compare_gradients,
    gradient,
    load_network,
    save_network,
    train,
)
from relaxon.neuromorphic.equilibrium.networks.contraction import Contraction  # noqa: E402
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import _mix as mix_moves  # noqa: E402
from relaxon.neuromorphic.equilibrium.training.loop import shift_randomly  # noqa: E402


def made(loss="squared", activation="relu6", image=(2, 7, 5), **options):
    network = ResidualNetwork(
        image, (3, 4), 3, loss=loss, activation=activation, seed=1, dtype=torch.float64, **options
    )
    Contraction(network, 0.9, 4.0).apply(100)
    return network


def batch(image=(2, 7, 5), count=6):
    x = torch.rand(count, *image, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(count) % 3


@pytest.mark.parametrize("loss", ["squared", "cross-entropy"])
def test_the_coupling_is_symmetric_and_below_its_bound(loss):
    network = made(loss, gain=5.0)
    unit = torch.eye(network.units, dtype=torch.float64)
    matrix = network._couple(unit).detach()
    assert torch.allclose(matrix, matrix.T, atol=1e-12)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert 0.4 < norm <= 0.9 * (1 + 1e-6)
    # The skip: the second layer of the second block hears the second of the first.
    starts = [0, *torch.tensor(network.sizes).cumsum(0).tolist()]
    assert float(matrix[starts[3] : starts[4], starts[1] : starts[2]].norm()) > 0.01


def test_a_complex_contour_closes_where_rates_are_not_clipped():
    network, (x, y) = made("cross-entropy", "sigmoid"), batch()
    phases = Phases(FixedStep(400, tolerance=1e-11))
    rows = compare_gradients(network, (x, y), [Cauchy(2, 0.2), Cauchy(8, 0.2)], phases=phases).rows
    assert rows[1].relative_error < 1e-5 < rows[0].relative_error < 0.1
    assert rows[1].verdict is Verdict.OK


def test_clipped_rates_take_two_nudges_and_refuse_more():
    network, (x, y) = made(), batch()
    phases = Phases(FixedStep(400, tolerance=1e-11))
    assert compare_gradients(network, (x, y), [Centred(1e-4)], phases=phases).rows[0].relative_error < 1e-3
    with pytest.raises(ValueError, match="not holomorphic"):
        gradient(network, x, y, Cauchy(4, 0.1), phases)
    state = gradient(network, x, y, Centred(0.01), phases).free.state
    rates = network.activation(state)
    assert rates[:, :-3].min() >= 0
    assert rates[:, :-3].max() <= 6
    assert torch.equal(rates[:, -3:], state[:, -3:])  # the output is linear


def test_moves_that_are_parallel_to_rounding_do_not_stop_a_relaxation():
    generator = torch.Generator().manual_seed(0)
    move, factor = torch.rand(100_000, 8, generator=generator), torch.rand(100_000, 1, generator=generator) + 0.5
    moves = torch.stack([move, move * factor])
    assert bool(torch.isfinite(mix_moves(moves, moves, move)).all())  # some of the systems have a pivot of 0


def test_training_learns_and_the_network_is_kept(tmp_path):
    image = (1, 4, 4)
    x, _ = batch(image, 80)
    y = torch.arange(80) % 2
    x[y == 1, 0, :2] += 1.0
    network = ResidualNetwork(image, (4,), 2, loss="cross-entropy", seed=0, dtype=torch.float64)
    settings = TrainingSettings(
        epochs=5, batch=20, rate=0.2, nesterov=True, weight_decay=1e-4, estimator=Centred(0.1), shift=1,
        phases=Phases(Anderson(100, tolerance=1e-6, history=2)), contraction=0.9, readout_bound=8.0, probe=False,
    )  # fmt: skip
    report = train(network, (x - 0.5, y), settings, test=(x - 0.5, y))
    assert report.epochs[-1].test_accuracy > 0.85
    assert report.epochs[-1].verdicts == {"ok": 4}
    save_network(network, tmp_path)
    again, _ = load_network(tmp_path)
    assert isinstance(again, ResidualNetwork)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_shifts_move_whole_images_and_repeat_their_edges():
    x = torch.arange(12.0).reshape(1, 1, 3, 4).expand(50, 2, 3, 4)
    found = shift_randomly(x, 1, torch.Generator().manual_seed(0))
    assert torch.equal(found[:, 0], found[:, 1])
    inner = {tuple(row) for row in found[:, 0, 1, 1:3].tolist()}
    assert inner == {(4 * r + c, 4 * r + c + 1) for r in range(3) for c in range(3)}
    assert set(found.unique().tolist()) <= set(range(12))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": (1, 4)}, r"image must be \(channels"),
        ({"channels": ()}, "channels must name"),
        ({"activation": "relu7"}, "activation must be one of"),
        ({"gain": 0.0}, "gain must"),
    ],
)
def test_a_network_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ResidualNetwork(**{"image": (1, 4, 4), "channels": (2,), "classes": 3, **options})


def test_training_settings_that_go_with_nothing_are_refused():
    with pytest.raises(ValueError, match="nesterov must"):
        TrainingSettings(nesterov=True, momentum=0.0)
    with pytest.raises(ValueError, match="weight_decay must"):
        TrainingSettings(weight_decay=0.1, optimiser="diffgrad")
    with pytest.raises(ValueError, match="shift must"):
        TrainingSettings(shift=-1)
