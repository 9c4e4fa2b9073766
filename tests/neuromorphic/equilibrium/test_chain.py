"""A chain's state in two halves, and where nudged states start: the same numbers as by the plain formulas."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.equilibrium import ACTIVATIONS, Alternating, LayeredNetwork, Outcome  # noqa: E402
from relaxon.neuromorphic.equilibrium.estimators.contour import on_polynomial  # noqa: E402
from relaxon.neuromorphic.equilibrium.networks.chain_kernels import sigmoid_planes, softmax_errors  # noqa: E402
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import largest  # noqa: E402


@pytest.mark.parametrize("loss", ["cross-entropy", "squared"])
@pytest.mark.parametrize("activation", [name for name, one in ACTIVATIONS.items() if one.holomorphic])
@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_the_residual_of_halves_is_that_of_the_whole_field(loss, activation, kind):
    network = LayeredNetwork((5, 6, 4, 3), activation=activation, loss=loss, gain=0.5, seed=1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(7, 5, generator=generator, dtype=torch.float64)
    target = torch.nn.functional.one_hot(torch.arange(7) % 3, 3).double()
    beta = torch.tensor(0.2 + 0.1j if kind.is_complex else 0.2, dtype=kind)
    start = torch.randn(7, network.units, generator=generator, dtype=torch.float64).to(kind)
    if kind.is_complex:
        start = start + 0.1j * torch.randn(7, network.units, generator=generator, dtype=torch.float64)
    given = start.clone()
    field = network.nudged_field(network.drive(x), target, beta, None)
    halves = field.halves(start)
    for mixed in (False, True, True):
        halves.follow()
        residual = halves.propose()
        assert residual == pytest.approx(largest(field(halves.state())), rel=1e-9)
        halves.accept(mixed)
    assert torch.equal(start, given)


def test_a_state_that_is_not_finite_ends_a_relaxation_as_such():
    network = LayeredNetwork((3, 4, 4, 2), dtype=torch.float64)
    drive = network.drive(torch.full((2, 3), math.nan, dtype=torch.float64))
    relaxed = Alternating(20).relax(network.free_field(drive), network.start(drive))
    assert relaxed.outcome is Outcome.NON_FINITE


def test_a_start_is_on_the_polynomial_through_states_and_their_conjugates():
    coefficients = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def state(beta):
        return sum(c * beta**k for k, c in enumerate(coefficients))

    nodes = [0.0, 0.5, -0.5, 0.25 + 0.4j]
    states = [state(node) for node in nodes]
    for beta in (-0.25 + 0.4j, 0.3):
        found = on_polynomial(beta, nodes, states)
        assert found.is_complex() == bool(beta.imag)
        assert torch.allclose(found, torch.as_tensor(state(beta)), atol=1e-12)


def test_compiled_sigmoids_and_softmax_errors_are_those_of_complex_arithmetic():
    generator = torch.Generator().manual_seed(0)
    planes = 12 * torch.randn(8, 33, generator=generator)
    planes[0, :3] = torch.tensor([-400.0, 400.0, 0.0])
    rates = torch.empty_like(planes)
    sigmoid_planes(0, 4, planes.numpy(), rates.numpy())
    z = torch.complex(*planes.double().chunk(2))
    e = torch.exp(-z.real.clamp(min=-40.0) - 1j * z.imag)
    # The condition of 1 + e^{−z} near its zeros is that of the function.
    bound = 2e-6 * (1 + e.abs()) / (1 + e).abs() ** 2
    assert bool(((torch.complex(*rates.double().chunk(2)) - 1 / (1 + e)).abs() <= bound).all())

    logits = torch.randn(8, 5, dtype=torch.float64, generator=generator)
    target, bias = torch.eye(5, dtype=torch.float64)[:4], torch.randn(5, dtype=torch.float64, generator=generator)
    whole = torch.complex(logits[:4] + bias, logits[4:].clone())
    beta = torch.tensor([[0.3, -0.4]], dtype=torch.float64).repeat(4, 1)
    powers = torch.exp(whole)
    expected = (0.3 - 0.4j) * (powers / powers.sum(-1, keepdim=True) - target)
    softmax_errors(0, 4, logits.numpy(), bias.numpy(), target.numpy(), beta.numpy())
    assert torch.allclose(torch.complex(*logits.chunk(2)), expected, atol=1e-13)
