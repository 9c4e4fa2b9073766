"""Derivatives of a perceptron's energy by hand are those of autograd, and objectives that use them keep their bits."""

import pytest

torch = pytest.importorskip("torch")

from relaxon.neuromorphic.energy import PCD, ULA, MLPEnergy, ScoreMatching  # noqa: E402
from relaxon.neuromorphic.energy.energies.derivatives import has_hand_gradient, input_gradient  # noqa: E402
from relaxon.neuromorphic.energy.energies.families import ACTIVATIONS  # noqa: E402
from relaxon.neuromorphic.energy.energies.jets import gradient_and_laplacian  # noqa: E402
from relaxon.neuromorphic.energy.objectives.contrastive_divergence import run_langevin  # noqa: E402

DOUBLE = torch.float64
KINDS = [{"activation": name} for name in ACTIVATIONS]
KINDS += [{"fourier": 2, "confinement": 0.3}, {"bound": 0.05}, {"hidden": (7,)}, {"features": 20}]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def made(options):
    energy = MLPEnergy(**({"features": 3, "hidden": (9, 8, 7), "seed": 2, "dtype": DOUBLE} | options))
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(3.0)
    return energy, torch.randn(30, energy.features, generator=seeded(0), dtype=DOUBLE)


def by_autograd(energy, x):
    """Gradient `(d, n)` and Laplacian, each differentiable in the parameters."""
    x = x.clone().requires_grad_()
    slope = torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]
    each = [torch.autograd.grad(slope[:, k].sum(), x, create_graph=True)[0][:, k] for k in range(x.shape[1])]
    return slope.T, sum(each)


def gradients(energy, values):
    """In the parameters, zero where the last bias has no part in it."""
    found = torch.autograd.grad(
        values.sum(), list(energy.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.ravel() for gradient in found])


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_gradient_and_laplacian_are_those_of_autograd_in_x_and_in_the_parameters(options):
    energy, x = made(options)
    expected, found = by_autograd(energy, x), gradient_and_laplacian(energy, x)
    torch.testing.assert_close(input_gradient(energy, x), expected[0].T.detach(), rtol=1e-10, atol=1e-10)
    pull = torch.linspace(-1, 2, len(x), dtype=DOUBLE)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(
            gradients(energy, ours * pull), gradients(energy, theirs * pull), rtol=1e-8, atol=1e-9
        )


def test_chains_end_where_those_of_the_sampler_do():
    energy, x = made({})
    ends = run_langevin(energy, x, 7, 0.2, seeded(5))
    chains = ULA(0.2).run(energy, x, 7, seeded(5), thin=7)
    torch.testing.assert_close(ends, chains.samples[-1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("change", ["subclass", "hook", "layer"])
def test_an_energy_that_the_caller_has_changed_goes_through_autograd(change):
    energy, x = made({})
    if change == "subclass":
        energy.__class__ = type("Own", (MLPEnergy,), {"forward": lambda self, x: x.square().sum(1)})
    elif change == "hook":
        energy.register_forward_hook(lambda module, inputs, output: 2 * output)
    else:
        energy.net[1] = torch.nn.ReLU()
    assert not has_hand_gradient(energy)
    reading = ScoreMatching().begin(energy, None, x, 30, 0).read(x, seeded(0))
    slope, curve = by_autograd(energy, x)
    assert reading.value == pytest.approx((0.5 * slope.square().sum(0) - curve).mean().item(), rel=1e-9)


def test_a_chain_that_runs_away_is_begun_anew():
    energy, x = made({"hidden": (4,)})
    with torch.no_grad():
        list(energy.parameters())[-2].fill_(float("inf"))
    working = PCD(ULA(0.1), moves=2).begin(energy, None, x, 8, 0)
    working.read(x, seeded(0))
    assert torch.isfinite(working.places).all()
