"""Networks as a device would run them: what is held, what is read, and what it costs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    Cauchy,
    FixedStep,
    Hardware,
    Implicit,
    LayeredNetwork,
    Phases,
    Readout,
    TrainingSettings,
    Verdict,
    gradient,
    hardware_costs,
    hardware_gradient,
    program,
    train,
)

PHASES = Phases(FixedStep(400, tolerance=1e-12))


@pytest.fixture(scope="module")
def case():
    network = LayeredNetwork((6, 10, 8, 3), gain=1.0, seed=2, dtype=torch.float64)
    x = torch.rand(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return network, x, torch.arange(12) % 3


def test_a_device_holds_weights_on_its_levels_and_leaves_the_network_alone(case):
    network = case[0]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    held = program(network, Hardware(weight_bound=0.5, weight_bits=4))
    for name, value in held.named_parameters():
        if value.ndim == 2:
            places = value / (0.5 / 7)
            assert torch.allclose(places, places.round(), atol=1e-9)
            assert ((value - before[name].clamp(-0.5, 0.5)).abs() <= 0.25 / 7 + 1e-12).all()
        else:
            assert torch.equal(value, before[name])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_reading_clips_then_rounds_complex_rates_in_both_parts():
    rates = torch.complex(torch.tensor([0.26, -3.0]), torch.tensor([1.4, 0.1]))
    found = Readout(bound=1.0, bits=3).read(rates, None)
    assert torch.allclose(torch.view_as_real(found), torch.tensor([[1 / 3, 1.0], [-1.0, 0.0]]))


def test_limits_wide_enough_change_no_more_than_their_rounding(case):
    network, x, y = case
    exact = gradient(network, x, y, Cauchy(2, 0.2), PHASES)
    fine = hardware_gradient(network, x, y, Cauchy(2, 0.2), Hardware(8.0, 24, rate_bound=1.0, rate_bits=24), PHASES)
    assert exact.verdict is Verdict.OK
    assert fine.verdict is Verdict.NOISY
    for name, value in exact.gradients.items():
        assert (fine.gradients[name] - value).norm() < 1e-4 * value.norm()


def test_a_bit_less_costs_more_and_all_limits_cost_most(case):
    network, x, y = case
    angles = [
        hardware_costs(network, (x, y), Cauchy(2, 0.2), Hardware(weight_bound=2.0, weight_bits=bits), phases=PHASES)
        .rows[2]
        .angle
        for bits in (3, 5, 8)
    ]
    assert angles[0] > 2 * angles[1] > 4 * angles[2]
    device = Hardware(2.0, 5, 0.02, 1.0, 8, 0.001, free_steps=6, nudged_steps=3)
    rows = hardware_costs(network, (x, y), Cauchy(2, 0.2), device, phases=PHASES, draws=3).rows
    assert [row.draws for row in rows] == [1, 1, 1, 3, 1, 1, 3, 1, 1, 3]
    assert rows[-1].angle > max(row.angle for row in rows[:-1])
    assert rows[0].verdict is Verdict.OK
    assert rows[-3].verdict is Verdict.FREE_PHASE_UNCONVERGED  # read before it was at rest, and said so


def test_noise_of_the_weights_is_one_device_for_all_phases(case):
    """The gradient of a device with wrong weights is exact for those weights: its contour still closes."""
    network, x, y = case
    device = Hardware(weight_noise=0.1)
    found = hardware_gradient(network, x, y, Cauchy(8, 0.2), device, PHASES, torch.Generator().manual_seed(3))
    held = program(network, device, torch.Generator().manual_seed(3))
    exact = gradient(held, x, y, Implicit(), PHASES)
    for name, value in exact.gradients.items():
        assert (found.gradients[name] - value).norm() < 1e-5 * value.norm()
    assert found.verdict is Verdict.NOISY


def test_training_on_a_device_learns_and_goes_on_to_the_same_bits(tmp_path):
    x = torch.rand(120, 4, generator=torch.Generator().manual_seed(0))
    data = (x, (x[:, 0] > 0.5).long())
    device = Hardware(weight_bound=2.0, weight_bits=6, weight_noise=0.02, rate_bound=1.0, rate_bits=10, free_steps=20)

    def settings(out):
        return TrainingSettings(
            epochs=4, batch=20, rate=0.3, estimator=Cauchy(2, 0.3), hardware=device, probe=False, out=out,
            contraction=0.9, phases=Phases(FixedStep(100, tolerance=1e-4)),
        )  # fmt: skip

    whole = LayeredNetwork((4, 10, 2), gain=1.0)
    report = train(whole, data, settings(None), test=data)
    assert report.epochs[-1].test_accuracy > 0.85
    cut = LayeredNetwork((4, 10, 2), gain=1.0)
    train(cut, data, settings(tmp_path), test=data, watcher=lambda step: step.step == 9)
    train(cut, data, settings(tmp_path), test=data)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight_bits": 4}, "weight_bits must be None where weight_bound is"),
        ({"rate_bound": 1.0, "rate_bits": 1}, "rate_bits must be from 2 to 24"),
        ({"weight_bound": 0.0}, "weight_bound must"),
        ({"free_steps": 0}, "free_steps must"),
        ({"rate_noise": -1.0}, "rate_noise must"),
    ],
)
def test_a_device_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Hardware(**options)


def test_noise_without_a_generator_is_refused(case):
    with pytest.raises(ValueError, match="generator must be given where the readout has noise"):
        hardware_gradient(*case, Cauchy(2, 0.2), Hardware(rate_noise=0.1))
    with pytest.raises(ValueError, match="generator must be given where hardware has weight_noise"):
        program(case[0], Hardware(weight_noise=0.1))
