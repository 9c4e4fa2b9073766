"""The engines that take their derivatives by it: Poisson solves, equilibria, boosting; and torch.compile."""

import numpy as np
import pytest
import torch
from implicit_problems import drawn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

from relaxon.implicit import ImplicitOptions, implicit, record_verdicts
from relaxon.neuromorphic.boosting.stages import descent_kernels, kernels, projection_kernels, reference
from relaxon.neuromorphic.equilibrium import FixedStep, Implicit, LayeredNetwork, Phases, equilibrium_state, gradient
from relaxon.solvers import CellType, PoissonGrid, prepare
from relaxon.solvers.torch import poisson_solve

CELLS = np.zeros((4, 3), np.uint8)
CELLS[1, 1], CELLS[3, 0] = CellType.SOLID, CellType.AIR
GRID = PoissonGrid(CELLS, 0.7, ["dirichlet", ("neumann", "dirichlet")])


def poisson(b, kappa):
    return poisson_solve(GRID, b, coefficient=kappa, solver="scipy-direct", rtol=1e-12)


def cubed(function):
    return lambda *arguments: (function(*arguments) ** 3).sum()


def test_torch_func_goes_through_a_poisson_solve():
    b, kappa = drawn(4, 3), drawn(4, 3, seed=1).exp()
    inputs = (b.clone().requires_grad_(), kappa.clone().requires_grad_())
    expected = torch.autograd.grad(cubed(poisson)(*inputs), inputs)
    for one, other in zip(grad(cubed(poisson), (0, 1))(b, kappa), expected, strict=True):
        torch.testing.assert_close(one, other)
    db, dk, step = drawn(4, 3, seed=2), drawn(4, 3, seed=3), 1e-6
    change = poisson(b + step * db, kappa + step * dk) - poisson(b - step * db, kappa - step * dk)
    torch.testing.assert_close(jvp(poisson, (b, kappa), (db, dk))[1], change / (2 * step), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        jacrev(poisson)(b, kappa), torch.autograd.functional.jacobian(lambda b: poisson(b, kappa), b)
    )
    torch.testing.assert_close(
        hessian(lambda b: cubed(poisson)(b, kappa))(b),
        torch.autograd.functional.hessian(lambda b: cubed(poisson)(b, kappa), b),
    )


def test_vmap_goes_through_a_poisson_solve_of_many_sources_and_coefficients():
    b, kappa = drawn(3, 4, 3), drawn(3, 4, 3, seed=1).exp()
    torch.testing.assert_close(
        vmap(poisson)(b, kappa), torch.stack([poisson(*one) for one in zip(b, kappa, strict=True)])
    )
    found = vmap(grad(cubed(poisson), (0, 1)))(b, kappa)
    alone = [grad(cubed(poisson), (0, 1))(*one) for one in zip(b, kappa, strict=True)]
    for part, parts in zip(found, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(part, torch.stack(parts))
    with pytest.raises(ValueError, match="^coefficient must"):
        vmap(poisson)(b, kappa[:, :2])
    with pytest.raises(ValueError, match="^coefficient must"):
        vmap(poisson)(b, -kappa)


def test_one_coefficient_is_set_up_once_under_vmap(monkeypatch):
    from relaxon.solvers.torch import differentiable

    made = []
    monkeypatch.setattr(differentiable, "prepare", lambda *a, **k: made.append(1) or prepare(*a, **k))
    vmap(grad(cubed(poisson)), (0, None))(drawn(3, 4, 3), drawn(4, 3, seed=1).exp())
    assert made == [1]


def test_boundary_values_go_through_vmap():
    air = drawn(2, 4, 3)
    found = vmap(lambda air: poisson_solve(GRID, torch.zeros(4, 3), air_values=air, solver="scipy-direct"))(air)
    for one, values in zip(found, air, strict=True):
        torch.testing.assert_close(
            one, poisson_solve(GRID, torch.zeros(4, 3), air_values=values, solver="scipy-direct")
        )


PHASES = Phases(free=FixedStep(5000, tolerance=1e-14))


@pytest.mark.parametrize("options", [{}, {"feedback": "independent", "angle": 60.0}, {"loss": "squared"}])
def test_an_equilibrium_has_the_estimators_exact_gradient(options):
    network = LayeredNetwork((4, 8, 6, 3), dtype=torch.float64, **options)
    x, y = drawn(5, 4).abs(), torch.tensor([0, 1, 2, 0, 1])
    exact = gradient(network, x, y, Implicit(), PHASES).gradients
    target = torch.nn.functional.one_hot(y, 3).double()
    state = equilibrium_state(network, x, PHASES)
    found = torch.autograd.grad(
        network.loss(network.activation(state), target).mean(), list(network.parameters()), allow_unused=True
    )
    for (name, _), one in zip(network.named_parameters(), found, strict=True):
        torch.testing.assert_close(one, exact[name], rtol=1e-9, atol=1e-12)


def test_torch_func_goes_through_an_equilibrium():
    network = LayeredNetwork((3, 5, 4, 2), dtype=torch.float64)
    x = drawn(2, 3)
    named = {name: one.detach() for name, one in network.named_parameters()}

    def size(named, x):
        return equilibrium_state(network, x, PHASES, parameters=named).square().sum()

    reverse = grad(size)(named, x)
    name = "weights.1"
    bump = {key: drawn(*one.shape, seed=4) if key == name else torch.zeros_like(one) for key, one in named.items()}
    forward = jvp(lambda named: size(named, x), (named,), (bump,))[1]
    torch.testing.assert_close(forward, (reverse[name] * bump[name]).sum())
    moved = [size({key: one + s * 1e-5 * bump[key] for key, one in named.items()}, x) for s in (1, -1)]
    torch.testing.assert_close(forward, (moved[0] - moved[1]) / 2e-5, rtol=1e-6, atol=1e-9)
    many = torch.stack([x, 2 * x])
    torch.testing.assert_close(vmap(grad(size, 1), (None, 0))(named, many)[1], grad(size, 1)(named, 2 * x))
    with pytest.raises(ValueError, match="^parameters must have the names of the network's"):
        size({"weights.1": named["weights.1"]}, x)
    with pytest.raises(ValueError, match="^phases must have no noise"):
        equilibrium_state(network, x, Phases(noise=0.1))


def test_boosting_s_compiled_variable_projection_has_the_implicit_derivative():
    d, units, outputs, n, ridge = 3, 2, 2, 25, 0.05
    rng = np.random.default_rng(0)
    X, R = rng.standard_normal((d, n)), rng.standard_normal((outputs, n))
    w = np.full(n, 1 / n)
    hidden = units * (d + 1)
    theta = rng.standard_normal(hidden + (units + 1) * outputs)
    scratch = descent_kernels.buffers(d, n, units, outputs, 4)

    def compiled(hidden_weights):
        """The solved output weights, and the reduced objective with its gradient, as the kernel has them."""
        at = np.concatenate([hidden_weights, theta[hidden:]])
        kernels.weigh(R, w, n, *scratch[:2])
        args = (at, X, R, w, n, units, ridge, *scratch[:9], *scratch[-4:-1])
        value = projection_kernels.projected_objective(*args)
        return at[hidden:], value, scratch[8][:hidden].copy()

    X_, R_, w_ = (torch.from_numpy(one) for one in (X, R, w))

    def objective(outer, inner):
        W, b = inner[: units * d].reshape(units, d), inner[units * d :]
        C, c = outer[: units * outputs].reshape(units, outputs), outer[units * outputs :]
        error = torch.sigmoid(X_.T @ W.T + b) @ C + c - R_.T
        return 0.5 * (w_[:, None] * error**2).sum() + 0.5 * ridge * (W.square().sum() + C.square().sum())

    solved = implicit(
        lambda _, inner: compiled(inner)[0],
        torch.func.grad(objective),
        numpy=True,
        options=ImplicitOptions(symmetric=True),
    )
    inner = torch.from_numpy(theta[:hidden]).requires_grad_()
    with record_verdicts() as verdicts:
        outer = solved(None, inner)
        (reduced,) = torch.autograd.grad(objective(outer, inner), inner, retain_graph=True)
        # Not only where the derivative through the outputs vanishes, as it does for the objective itself:
        weight = drawn(*outer.shape)
        (through,) = torch.autograd.grad(outer @ weight, inner)
    assert all(v.converged for v in verdicts)
    _, value, slope = compiled(theta[:hidden])
    assert objective(outer, inner).item() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(reduced.numpy(), slope, rtol=1e-9, atol=1e-12)
    steps = 1e-6 * np.eye(hidden)
    difference = [(compiled(theta[:hidden] + e)[0] - compiled(theta[:hidden] - e)[0]) @ weight.numpy() for e in steps]
    np.testing.assert_allclose(through.numpy(), np.array(difference) / 2e-6, rtol=1e-5, atol=1e-8)
    plain = reference.project_outputs(theta, X.T, R.T, w, units, ridge)[hidden:]
    np.testing.assert_allclose(outer.detach().numpy(), plain, rtol=1e-9)


def test_torch_compile_breaks_its_graph_there_and_nowhere_else():
    followed = []

    def solver(init, a):
        followed.append(torch.compiler.is_compiling())
        return np.sqrt(a)

    square_root = implicit(solver, lambda x, a: x * x - a, numpy=True)

    def loss(a):
        return (square_root(None, torch.sin(a) + 2) ** 3).sum()

    a = drawn(3).requires_grad_()
    torch._dynamo.reset()
    explained = torch._dynamo.explain(loss)(a)
    assert (explained.graph_count, explained.graph_break_count) == (2, 1)
    assert "a solver with an implicit derivative" in str(explained.break_reasons[0].reason)
    (found,) = torch.autograd.grad(torch.compile(loss, backend="eager")(a), a)
    torch.testing.assert_close(found, torch.autograd.grad(loss(a), a)[0])
    assert not any(followed)


def test_functional_call_and_an_equilibrium_layer_train_together():
    block = torch.nn.Linear(3, 3, dtype=torch.float64)
    torch.nn.init.uniform_(block.weight, -0.3, 0.3)

    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = block

        def forward(self, y):
            def T(x, block, y):
                return torch.tanh(block(x) + y)

            def iterate(_, block, y):
                x = torch.zeros_like(y)
                for _ in range(100):
                    x = T(x, block, y)
                return x

            return implicit(iterate, lambda x, block, y: T(x, block, y) - x)(None, self.block, y)

    module, y = Deep(), drawn(2, 3)
    named = {name: one.detach() for name, one in module.named_parameters()}
    found = grad(lambda named: functional_call(module, named, (y,)).square().sum())(named)
    module(y).square().sum().backward()
    torch.testing.assert_close(found["block.weight"], block.weight.grad)
