"""Jacobian homeostasis: what the estimate converges to, its gradient, and what training with it does."""

import pytest

torch = pytest.importorskip("torch")

from digits_network import EXACT, asymmetric, network  # noqa: E402

from relaxon.neuromorphic.equilibrium import (  # noqa: E402
    ConvolutionalNetwork,
    Implicit,
    JacobianHomeostasis,
    antisymmetry,
    gradient,
)


def at_rest(net, digits):
    x, y = digits
    state = gradient(net, x, y, Implicit(), EXACT).free.state
    with torch.no_grad():
        return state, net.drive(x)


@pytest.mark.parametrize("form", ["product", "difference"])
@pytest.mark.parametrize("space", ["rate", "state"])
@pytest.mark.parametrize("angle", [20.0, 90.0])
def test_the_estimate_is_within_three_standard_errors_of_the_dense_norm(digits, form, space, angle):
    net = asymmetric(angle)
    state, drive = at_rest(net, digits)
    exact = float(antisymmetry(net, state, drive, space).mean())
    homeostasis = JacobianHomeostasis(form=form, space=space, vectors=200)
    found = homeostasis.estimate(net, state, drive, torch.Generator().manual_seed(4))
    assert abs(float(found.mean.detach()) - exact) < 3 * found.standard_error
    assert found.standard_error < 0.1 * exact or form == "product"


def test_the_dense_norm_is_that_of_the_weights(digits):
    """In the rates, 2‖A‖²_F of a layered network is Σ ‖W_n − B_n‖²_F."""
    net = asymmetric(60.0)
    state, drive = at_rest(net, digits)
    expected = float((net.weights[1] - net.backward_weights[0]).detach().square().sum())
    assert antisymmetry(net, state, drive).tolist() == pytest.approx([expected] * len(state))


def test_tied_weights_are_symmetric_in_the_rates_for_every_vector(digits):
    state, drive = at_rest(network(), digits)
    found = JacobianHomeostasis(form="difference").estimate(network(), state, drive, torch.Generator().manual_seed(0))
    assert float(found.mean.detach()) < 1e-25
    conv = ConvolutionalNetwork((1, 8, 8), (3, 4), 5, dtype=torch.float64)
    u = torch.rand(2, conv.units, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert float(antisymmetry(conv, u, conv.drive(torch.ones(2, 1, 8, 8, dtype=torch.float64))).max()) < 1e-25


def test_the_difference_form_varies_less_where_weights_are_nearly_symmetric(digits):
    net = asymmetric(10.0)
    state, drive = at_rest(net, digits)
    spread = {
        (form, space): JacobianHomeostasis(form=form, space=space, vectors=100)
        .estimate(net, state, drive, torch.Generator().manual_seed(7))
        .standard_error
        for form in ("product", "difference")
        for space in ("rate", "state")
    }
    assert spread["difference", "rate"] < spread["product", "rate"] / 2
    assert spread["difference", "state"] < spread["product", "state"] / 1.5


def test_a_jacobian_times_a_vector_is_the_derivative_of_the_field(digits):
    """The coupling and its transpose by hand against autograd through the pull."""
    from relaxon.neuromorphic.equilibrium import Network

    conv = ConvolutionalNetwork((1, 8, 8), (3, 4), 5, dtype=torch.float64, feedback="independent", angle=80.0)
    for net, x in ((asymmetric(), digits[0]), (conv, digits[0].reshape(-1, 1, 8, 8))):
        with torch.no_grad():
            drive = net.drive(x)
        generator = torch.Generator().manual_seed(2)
        r, v, w = (torch.rand(len(x), net.units, dtype=torch.float64, generator=generator) for _ in range(3))
        image, back = net.couple(v, r, drive), net.couple_transpose(w, r, drive)
        assert torch.allclose((w * image).sum(-1), (back * v).sum(-1))
        assert torch.allclose(image, Network.couple(net, v, r, drive))
        corrected = net.adjoint_pull(r, drive)
        for z in (r + v, torch.complex(r + v, w)):
            assert torch.allclose(corrected(z), Network.adjoint_pull(net, r, drive)(z))


def test_descending_the_penalty_aligns_the_weights_without_touching_the_input_weights(digits):
    net = asymmetric()
    state, drive = at_rest(net, digits)
    generator = torch.Generator().manual_seed(0)
    before = net.feedback_angles()[0]
    for _ in range(200):
        loss, _ = JacobianHomeostasis(weight=1.0).loss(net, state, drive, generator)
        net.zero_grad()
        loss.backward()
        assert net.weights[0].grad is None  # nothing flows through the relaxation
        with torch.no_grad():
            for p in (net.weights[1], net.backward_weights[0]):
                p -= 1.0 * p.grad
    assert net.feedback_angles()[0] < before / 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"form": "other"}, "form must be"),
        ({"vectors": 0}, "vectors must be at least 1"),
        ({"space": "x"}, "space must be"),
    ],
)
def test_settings_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        JacobianHomeostasis(**options)
