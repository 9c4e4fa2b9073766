"""What may be a solver, a state and a parameter."""

import copy
import pickle
import threading

import numpy as np
import pytest
import scipy.optimize
import torch
from implicit_problems import cubic, drawn, newton, unrolled, well_posed
from torch import nn

from relaxon.implicit import ImplicitOptions, custom_fixed_point, custom_root, implicit, record_verdicts

EXACT = {"rtol": 1e-7, "atol": 1e-9}


def test_pytrees_go_in_and_out_with_the_parameters_gradients():
    def F(x, theta, offset):
        u, (v,) = x["u"], x["v"]
        return {"u": u**3 + u - theta["a"] * v.sum(), "v": [2 * v + u.mean() - theta["b"][0] + offset]}

    def solver(init, theta, offset):
        u, v = torch.zeros(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        for _ in range(200):
            step = F({"u": u, "v": [v]}, theta, offset)
            u, v = u - 0.3 * step["u"], v - 0.3 * step["v"][0]
        return {"u": u, "v": [v]}

    theta = {"a": torch.tensor(0.2, dtype=torch.float64), "b": (drawn(3),), "name": "kept"}
    leaves = [theta["a"].requires_grad_(), theta["b"][0].requires_grad_()]
    x = implicit(solver, F)(None, theta, 0.5)
    assert sorted(x) == ["u", "v"]
    found = torch.autograd.grad(x["u"].sum() + x["v"][0].square().sum(), leaves)
    plain = solver(None, theta, 0.5)
    expected = torch.autograd.grad(plain["u"].sum() + plain["v"][0].square().sum(), leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


class Block(nn.Module):
    """A contraction with a layer that occurs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, dtype=torch.float64)
        self.again = self.first
        self.out = nn.Linear(3, 3, bias=False, dtype=torch.float64)
        self.register_buffer("shift", torch.tensor(0.1, dtype=torch.float64))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.3 * drawn(*parameter.shape, seed=parameter.numel()))

    def forward(self, x, y):
        return torch.tanh(self.out(self.first(x) + self.again(y)) + self.shift)


def iterate(T, *theta):
    x = torch.zeros(4, 3, dtype=torch.float64)
    for _ in range(120):
        x = T(x, *theta)
    return x


def reference(block, y):
    return torch.autograd.grad(iterate(block, y).square().sum(), [*block.parameters(), y])


@pytest.mark.parametrize("way", ["as F", "its method", "an argument", "in a pytree"])
def test_modules_bring_their_parameters(way):
    block, y = Block(), drawn(4, 3).requires_grad_()
    if way == "as F":
        x = custom_fixed_point(block, batch_dims=1)(lambda init, y: iterate(block, y))(None, y)
    elif way == "its method":
        x = custom_fixed_point(block.forward, batch_dims=1)(lambda init, y: iterate(block, y))(None, y)
    elif way == "an argument":
        x = custom_fixed_point(lambda x, block, y: block(x, y), batch_dims=1)(lambda _, block, y: iterate(block, y))(
            None, block, y
        )
    else:
        T = custom_fixed_point(lambda x, theta: theta["block"](x, theta["y"]), batch_dims=1)
        x = T(lambda _, theta: iterate(theta["block"], theta["y"]))(None, {"block": block, "y": y})
    for one, other in zip(
        torch.autograd.grad(x.square().sum(), [*block.parameters(), y]), reference(block, y), strict=True
    ):
        torch.testing.assert_close(one, other, **EXACT)


def test_a_module_is_not_changed_and_may_serve_several_threads():
    block, y = Block(), drawn(4, 3)
    before = copy.deepcopy(block.state_dict())
    expected = reference(block, y.clone().requires_grad_())[-1]
    solver = custom_fixed_point(lambda x, block, y: block(x, y))(lambda _, block, y: iterate(block, y))
    found = []

    def work():
        at = y.clone().requires_grad_()
        found.append(torch.autograd.grad(solver(None, block, at).square().sum(), at)[0])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        torch.testing.assert_close(one, expected, **EXACT)
    assert all(isinstance(p, nn.Parameter) for p in block.parameters())
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_a_recurrent_cell_keeps_its_list_of_weights():
    cell = nn.GRU(2, 2, dtype=torch.float64)
    y = drawn(3, 1, 2)

    def T(x, cell, y):
        return cell(y, 0.5 * x)[1]

    def solver(init, cell, y):
        x = torch.zeros(1, 1, 2, dtype=torch.float64)
        for _ in range(80):
            x = T(x, cell, y)
        return x

    found = torch.autograd.grad(custom_fixed_point(T)(solver)(None, cell, y).sum(), list(cell.parameters()))
    for one, other in zip(
        found, torch.autograd.grad(solver(None, cell, y).sum(), list(cell.parameters())), strict=True
    ):
        torch.testing.assert_close(one, other, **EXACT)


def test_constants_are_named_or_found_and_have_no_gradient():
    seen = []

    def F(x, a, c, k, mode):
        assert (k.dtype, mode) == (torch.int64, "double")
        seen.append(c.requires_grad)
        return x - a * c * k

    def solver(_, a, c, k, mode):
        return a * c * k

    a, c = (torch.full((2,), v, dtype=torch.float64, requires_grad=True) for v in (2.0, 3.0))
    k = torch.tensor([1, 2])
    for constants in ("c", ["c"], [1]):
        x = implicit(solver, F, constants=constants)(None, a, c, k, "double")
        assert x.requires_grad
        found = torch.autograd.grad(x.sum(), (a, c), allow_unused=True)
        assert found[0].tolist() == [3.0, 6.0]
        assert found[1] is None
    assert not any(seen)


def test_the_start_is_handed_on_and_has_no_gradient():
    start = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    starts = []

    def solver(init, A, b):
        starts.append(init)
        return newton(init, A, b)

    A, b = well_posed()
    implicit(solver, cubic)({"x": start}["x"], A, b.requires_grad_()).sum().backward()
    assert start.grad is None
    assert not starts[0].requires_grad
    assert torch.equal(starts[0], start)


def test_settings_by_name_go_to_the_solver_alone():
    A, b = well_posed()
    solver = implicit(newton, cubic)
    torch.testing.assert_close(solver(None, A, b, steps=1), newton(None, A, b, 1))
    assert not torch.allclose(solver(None, A, b, steps=1), solver(None, A, b), atol=1e-9)


def test_auxiliary_output_goes_through_without_derivatives():
    def solver(init, A, b):
        x = newton(init, A, b)
        return x, {"norm": x.norm(), "steps": 14, "trace": [A.trace()]}

    derive = implicit(solver, cubic, has_aux=True)
    A, b = well_posed()
    x, aux = derive(None, A.requires_grad_(), b)
    assert aux["steps"] == 14
    assert not aux["norm"].requires_grad
    torch.testing.assert_close(aux["norm"], x.norm().detach())
    torch.testing.assert_close(torch.autograd.grad(x.sum(), A)[0], torch.autograd.grad(unrolled(A, b).sum(), A)[0])
    b_many = torch.stack([b, 2 * b])

    def with_tensors(b):
        x, aux = derive(None, A.detach(), b)
        assert aux["steps"] == 14
        return x, aux["norm"], aux["trace"][0]

    found, norms, traces = torch.vmap(with_tensors)(b_many)
    torch.testing.assert_close(norms, found.norm(dim=1))
    assert traces.shape == (2,)


def test_auxiliary_output_of_samples_that_is_no_tensor_and_differs_is_refused():
    derive = implicit(lambda _, a: (a, {"n": float(a)}), lambda x, a: x - a, has_aux=True)
    with pytest.raises(ValueError, match="^aux must have only tensors as leaves that differ"):
        torch.vmap(lambda a: derive(None, a)[0])(torch.tensor([1.0, 2.0]))


def test_a_solver_may_give_back_what_it_was_given_and_nothing_is_modified():
    a = drawn(3).abs() + 1
    kept = a.clone()
    same = implicit(lambda init, a: a, lambda x, a: x - a)
    at = a.clone().requires_grad_()
    x = same(None, at)
    assert x.data_ptr() != at.data_ptr()
    assert torch.equal(torch.autograd.grad(x.sum(), at)[0], torch.ones_like(a))

    def spoiling(init, a):
        a *= 2  # NumPy copies: the caller's tensor stays
        return a / 2

    implicit(spoiling, lambda x, a: x - a, numpy=True)(None, at)
    assert torch.equal(at.detach(), kept)


def test_a_solver_in_torch_may_spoil_its_start_and_not_its_parameters():
    def in_place(init, a):
        return init.copy_(a)

    start, at = drawn(3), drawn(3, seed=1).requires_grad_()
    kept = start.clone()
    x = implicit(in_place, lambda x, a: x - a)(start, at)
    assert torch.equal(x, at)
    assert torch.equal(start, kept)
    with pytest.raises(ValueError, match="^solver must not change θ in place"):
        implicit(lambda init, a: a.mul_(2), lambda x, a: x - a)(None, at)
    with torch.inference_mode():  # whose tensors do not count changes
        assert torch.equal(implicit(lambda init, a: a, lambda x, a: x - a)(None, kept + 0), kept)


def test_a_sparse_result_is_refused():
    with pytest.raises(TypeError, match="^the solver's result must have dense leaves, got .* torch.sparse_coo"):
        implicit(lambda init, a: a.to_sparse(), lambda x, a: x - a)(None, drawn(3))


def square_root(init, a):
    return a.sqrt()


def square(x, a):
    return x * x - a


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_wrapped_solver_may_be_copied_and_pickled_with_the_module_that_holds_it(copied):
    module = nn.Linear(3, 3, dtype=torch.float64)
    module.root = implicit(square_root, square, options=ImplicitOptions(method="gmres", warm_start=True))
    a = drawn(3).abs().requires_grad_()
    module.root(None, a).sum().backward()
    twin = copied(module)
    assert torch.allclose(torch.autograd.grad(twin.root(None, a).sum(), a)[0], a.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_solver_in_scipy_takes_and_gives_arrays(dtype):
    @custom_root(lambda x, a: x**3 + x - a, numpy=True)
    def solver(init, a):
        assert isinstance(a, np.ndarray)
        assert a.dtype == init.dtype
        return scipy.optimize.root(lambda x: x**3 + x - a, init.astype(float), tol=1e-12).x

    a = torch.tensor([2.0, 10.0], dtype=dtype, requires_grad=True)
    x = solver(torch.zeros(2, dtype=dtype), a)
    assert x.dtype == dtype
    x.sum().backward()
    torch.testing.assert_close(a.grad, torch.tensor([1 / 4, 1 / 13], dtype=dtype))


def test_a_scalar_by_brentq_and_an_optimum_by_scikit_learn():
    from sklearn.linear_model import Ridge

    @custom_root(lambda x, a: torch.exp(-x) - a * x, numpy=True)
    def lambert(init, a):
        return scipy.optimize.brentq(lambda x: np.exp(-x) - float(a) * x, 0, 5, xtol=1e-15)

    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: lambert(None, a), a)

    X, y = drawn(20, 4), drawn(20, seed=1)

    def stationary(w, log_alpha, X, y):
        return X.T @ (X @ w - y) + log_alpha.exp() * w

    @custom_root(stationary, numpy=True, constants=["X", "y"], options=ImplicitOptions(symmetric=True))
    def ridge(init, log_alpha, X, y):
        return Ridge(alpha=float(np.exp(log_alpha)), fit_intercept=False, solver="cholesky").fit(X, y).coef_

    log_alpha = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: ridge(None, p, X, y), log_alpha)


def test_complex_arrays_keep_their_kind():
    root = implicit(lambda _, a: np.sqrt(a.astype(complex)), lambda x, a: x * x - a, numpy=True)
    a = torch.tensor([-4.0], dtype=torch.float32, requires_grad=True)
    x = root(None, a)
    assert x.dtype == torch.complex64
    (found,) = torch.autograd.grad(x.imag.sum(), a)  # √a = i √−a
    torch.testing.assert_close(found, torch.tensor([-0.25]))


def test_a_loop_that_needs_gradients_itself_may_turn_them_on():
    def descend(init, a):
        x = torch.zeros_like(a, requires_grad=True)
        optimiser = torch.optim.LBFGS([x], max_iter=50, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            loss = ((x - a) ** 2 + 0.1 * x**4).sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimiser.step(closure)
        return x

    a = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    with record_verdicts() as verdicts:
        x = implicit(descend, lambda x, a: 2 * (x - a) + 0.4 * x**3)(None, a)
        (found,) = torch.autograd.grad(x.sum(), a)
    torch.testing.assert_close(found, 2 / (2 + 1.2 * x.detach() ** 2), rtol=1e-5, atol=1e-5)
    assert verdicts[0].converged


def test_a_solution_may_be_part_of_another_F():
    inner = implicit(lambda _, a: a.sqrt(), lambda x, a: x * x - a)

    def F(x, a):
        return x - 0.5 * torch.cos(x) - inner(None, a)

    def solver(_, a):
        x = torch.zeros_like(a)
        for _ in range(120):
            x = 0.5 * torch.cos(x) + a.sqrt()
        return x

    outer = implicit(solver, F)
    a = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: outer(None, a), a)
    assert torch.autograd.gradgradcheck(lambda a: outer(None, a), a)


def test_three_solutions_may_be_nested_under_the_transforms_of_torch_func():
    inner = implicit(lambda _, a: a.sqrt(), lambda x, a: x * x - a)
    middle = implicit(lambda _, b: b ** (1 / 6), lambda y, b: y**3 - inner(None, b))
    outer = implicit(lambda _, c: c ** (1 / 3), lambda z, c: z - middle(None, c) ** 2)
    c = torch.tensor([8.0, 27.0], dtype=torch.float64)
    expected = c ** (-2 / 3) / 3
    torch.testing.assert_close(torch.func.grad(lambda c: outer(None, c).sum())(c), expected, **EXACT)
    found = torch.func.jvp(lambda c: outer(None, c), (c,), (torch.ones_like(c),))[1]
    torch.testing.assert_close(found, expected, **EXACT)
    second = torch.func.grad(lambda c: torch.func.grad(lambda c: outer(None, c).sum())(c).sum())(c)
    torch.testing.assert_close(second, -2 / 9 * c ** (-5 / 3), **EXACT)
