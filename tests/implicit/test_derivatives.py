"""Derivatives by the implicit function theorem against finite differences, unrolling and dense linear algebra."""

import numpy as np
import pytest
import torch
from implicit_problems import cubic, drawn, newton, unrolled, well_posed
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils import _pytree as pytree

from relaxon.implicit import ImplicitOptions, custom_fixed_point, custom_root, implicit, record_verdicts

METHODS = {
    "direct": ImplicitOptions(method="direct"),
    "gmres": ImplicitOptions(method="gmres", rtol=1e-13),
    "bicgstab": ImplicitOptions(method="bicgstab", rtol=1e-13),
}


def root(options=None):
    solver = implicit(newton, cubic, options=options)
    return lambda A, b: solver(None, A, b)


def close(found, expected, **tolerance):
    for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(one, other, **({"rtol": 1e-7, "atol": 1e-9} | tolerance))


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_derivatives_are_those_of_finite_differences_in_all_modes(options):
    A, b = well_posed(3)
    inputs = (A.requires_grad_(), b.requires_grad_())
    assert gradcheck(root(options), inputs, check_forward_ad=True)
    assert gradgradcheck(root(options), inputs, check_fwd_over_rev=True)


def test_a_symmetric_system_by_cg_has_the_same_derivatives():
    M, b = drawn(3, 3), drawn(3, seed=1)
    options = ImplicitOptions(method="cg", symmetric=True, rtol=1e-13)

    def function(M, b):
        return root(options)(M @ M.T + 3 * torch.eye(3, dtype=M.dtype), b)

    assert gradcheck(function, (M.requires_grad_(), b.requires_grad_()), check_forward_ad=True)
    assert gradgradcheck(function, (M, b))


def cube(function):
    return lambda A, b: (function(A, b) ** 3).sum()


TRANSFORMS = {
    "grad": lambda f: grad(cube(f), (0, 1)),
    "grad of grad": lambda f: grad(lambda A, b: grad(cube(f))(A, b).square().sum(), (0, 1)),
    "jacrev": lambda f: jacrev(f, (0, 1)),
    "jacfwd": lambda f: jacfwd(f, (0, 1)),
    "hessian": lambda f: hessian(cube(f), (0, 1)),
    "forward over forward": lambda f: jacfwd(jacfwd(f, 1), 1),
    "reverse over forward": lambda f: jacrev(jacfwd(f, 1), 0),
    "reverse over reverse": lambda f: jacrev(jacrev(f, 1), 1),
    "jvp": lambda f: lambda A, b: jvp(f, (A, b), (b[:, None] * A, A[0])),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_the_transforms_of_torch_func_go_through(transform):
    A, b = well_posed(3)
    close(transform(root())(A, b), transform(unrolled)(A, b))


@pytest.mark.parametrize("transform", [jacrev, jacfwd, lambda f: jacrev(jacrev(f)), lambda f: vmap(jacrev(f))])
def test_F_may_take_derivatives_by_torch_func_itself(transform):
    def slope(x, a):  # of x³/3 − a x
        _, pull = torch.func.vjp(lambda x: (x**3 / 3 - a * x).sum(), x)
        return pull(torch.ones((), dtype=x.dtype))[0]

    a = torch.tensor([[4.0, 9.0], [1.0, 2.0]], dtype=torch.float64)
    close(transform(lambda a: implicit(lambda _, a: a.sqrt(), slope)(None, a))(a), transform(torch.sqrt)(a))


def test_forward_mode_over_forward_mode_is_not_silently_zero():
    # torch's own rule for a custom function loses the inner tangent (issue 197867 of pytorch).
    square_root = implicit(lambda _, a: a.sqrt(), lambda x, a: x * x - a)
    four, one = torch.tensor(4.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)

    def slope(f):
        return lambda a: jvp(f, (a,), (one,))[1]

    third = slope(slope(slope(lambda a: square_root(None, a))))
    assert third(four).item() == pytest.approx(3 / 8 * 4**-2.5)


MAPPED = {
    "all": (lambda f: vmap(f), (2,), (2,)),
    "b only": (lambda f: vmap(f, (None, 0)), (), (2,)),
    "A only": (lambda f: vmap(f, (0, None)), (2,), ()),
    "last axis": (lambda f: lambda A, b: vmap(f, (0, -1), out_dims=-1)(A, b.mT), (2,), (2,)),
    "grad inside": (lambda f: vmap(grad(cube(f), (0, 1))), (2,), (2,)),
    "grad outside": (lambda f: grad(cube(vmap(f, (None, 0))), (0, 1)), (), (2,)),
    "jacobian inside": (lambda f: vmap(jacrev(f, 1)), (2,), (2,)),
    "hessian inside": (lambda f: vmap(hessian(cube(f), 1)), (2,), (2,)),
    "twice": (lambda f: vmap(vmap(f, (None, 0)), (0, None)), (2,), (3,)),
    "tangents": (lambda f: lambda A, b: vmap(lambda t: jvp(lambda b: f(A, b), (b,), (t,))[1])(A), (), ()),
}


@pytest.mark.parametrize("name", MAPPED)
def test_vmap_goes_through_inside_and_outside(name):
    transform, of_A, of_b = MAPPED[name]
    A, b = well_posed(3, of_A)[0], well_posed(3, of_b)[1]
    close(transform(root())(A, b), transform(unrolled)(A, b))


def test_the_solver_runs_for_each_sample_of_a_vmap_by_itself():
    shapes = []

    @custom_root(lambda x, a: x * x - a)
    def square_root(init, a):
        assert not torch._C._functorch.is_functorch_wrapped_tensor(a)
        shapes.append(a.shape)
        return a.sqrt()

    vmap(grad(lambda a: square_root(None, a).sum()))(torch.rand(5, 2) + 1)
    assert shapes == [(2,)] * 5


def test_plain_forward_mode_gives_the_tangent():
    A, b = well_posed()
    direction = drawn(4, seed=5)
    with forward_ad.dual_level():
        x, tangent = forward_ad.unpack_dual(root()(A, forward_ad.make_dual(b, direction)))
    step = 1e-6 * direction
    close(tangent, (unrolled(A, b + step) - unrolled(A, b - step)) / 2e-6)
    close(x, unrolled(A, b))


def test_the_taylor_remainders_fall_with_the_square_and_the_cube_of_the_step():
    A, b = well_posed(6)
    weight, direction = drawn(6, seed=2), drawn(6, seed=3)

    def loss(b):
        return (weight * root()(A, b) ** 2).sum()

    at = b.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient @ direction, at)
    steps = [2.0**-k for k in range(2, 7)]
    with torch.no_grad():
        change = [float(loss(b + h * direction) - loss(b)) for h in steps]
        first = [c - h * float(gradient @ direction) for c, h in zip(change, steps, strict=True)]
        second = [r - h * h / 2 * float(curvature @ direction) for r, h in zip(first, steps, strict=True)]
    for remainders, order in ((first, 2.0), (second, 3.0)):
        slopes = np.diff(np.log(np.abs(remainders))) / np.diff(np.log(steps))
        assert slopes[-1] == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("seed", range(12))
def test_random_problems_have_the_derivative_of_dense_linear_algebra(seed):
    rng = np.random.default_rng(seed)
    n, m, samples = rng.integers(1, 9), rng.integers(1, 6), rng.integers(1, 4)
    dtype = torch.float64
    P, Q = drawn(n, n, seed=seed).to(dtype) / 2 + 4 * torch.eye(n, dtype=dtype), drawn(n, m, seed=seed + 50)

    def F(x, theta, scale):
        return x @ P.mT + scale * torch.sin(x) - torch.tanh(theta @ Q.mT)

    def solver(init, theta, scale):
        x = torch.zeros(samples, n, dtype=dtype)
        for _ in range(40):
            J = P + scale * torch.diag_embed(torch.cos(x))
            x = x - torch.linalg.solve(J, F(x, theta, scale))
        return x

    theta, scale = drawn(samples, m, seed=seed + 99), torch.tensor(0.5, dtype=dtype)
    method = ("auto", "direct", "gmres", "bicgstab")[seed % 4]
    options = ImplicitOptions(method=method, rtol=1e-12)
    derive = implicit(solver, F, options=options, batch_dims=seed % 2)
    x = derive(None, theta.requires_grad_(), scale.requires_grad_())
    g = drawn(samples, n, seed=seed + 7)
    found = torch.autograd.grad(x, (theta, scale), g)
    J = torch.autograd.functional.jacobian(lambda x: F(x, theta, scale), x.detach()).reshape(x.numel(), -1)
    B = torch.autograd.functional.jacobian(lambda t, s: F(x.detach(), t, s), (theta, scale))
    u = torch.linalg.solve(J.T, g.reshape(-1))
    expected = [
        -(part.reshape(x.numel(), -1).T @ u).reshape(like.shape) for part, like in zip(B, (theta, scale), strict=True)
    ]
    close(found, expected)


def test_a_fixed_point_has_the_derivative_of_its_root():
    A, b = 0.2 * drawn(4, 4), drawn(4, seed=1)

    def T(x, A, b):
        return torch.tanh(A @ x + b)

    def iterate(init, A, b):
        x = torch.zeros_like(b)
        for _ in range(100):
            x = T(x, A, b)
        return x

    inputs = (A.requires_grad_(), b.requires_grad_())
    as_point = torch.autograd.grad(custom_fixed_point(T)(iterate)(None, A, b).square().sum(), inputs)
    as_root = torch.autograd.grad(implicit(iterate, lambda x, A, b: T(x, A, b) - x)(None, A, b).square().sum(), inputs)
    close(as_point, as_root)
    close(as_point, torch.autograd.grad(iterate(None, A, b).square().sum(), inputs))


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_complex_states_follow_torch_s_convention_holomorphic_or_not(options):
    A = drawn(3, 3, dtype=torch.complex128) / 3 + 2 * torch.eye(3)
    b = drawn(3, seed=1, dtype=torch.complex128)

    def F(x, A, b):
        return A @ x + 0.2 * x.conj() + 0.1 * x * x.abs() ** 2 - b

    def solver(init, A, b):
        x = torch.zeros_like(b)
        for _ in range(80):
            x = x - torch.linalg.solve(A, F(x, A, b))
        return x

    derive = implicit(solver, F, options=options)
    inputs = (A.requires_grad_(), b.requires_grad_())
    assert gradcheck(lambda A, b: derive(None, A, b), inputs, check_forward_ad=True)
    of_b = torch.autograd.grad(derive(None, A, b).abs().square().sum(), b)[0]
    step = 1e-6
    with torch.no_grad():

        def loss(change):
            return solver(None, A, b + change).abs().square().sum()

        bump = torch.zeros(3, dtype=torch.complex128)
        bump[0] = step
        slope = (loss(bump) - loss(-bump)) / (2 * step) + 1j * (loss(1j * bump) - loss(-1j * bump)) / (2 * step)
    assert of_b[0].item() == pytest.approx(complex(slope), rel=1e-6)  # ∂L/∂Re + i ∂L/∂Im


def test_a_hermitian_system_goes_by_cg():
    M = drawn(4, 4, dtype=torch.complex128)
    H = (M @ M.mH + 2 * torch.eye(4)).requires_grad_()
    b = drawn(4, seed=1, dtype=torch.complex128).requires_grad_()
    options = ImplicitOptions(method="cg", symmetric=True, rtol=1e-13)
    derive = implicit(lambda _, H, b: torch.linalg.solve(H, b), lambda x, H, b: H @ x - b, options=options)
    with record_verdicts() as verdicts:
        found = torch.autograd.grad(derive(None, H, b).abs().sum(), (H, b))
    assert verdicts[0].method == "cg"
    close(found, torch.autograd.grad(torch.linalg.solve(H, b).abs().sum(), (H, b)))


def test_real_and_complex_leaves_of_different_precision_go_together():
    def F(x, a):
        return {"z": x["z"] ** 2 - torch.complex(a, a), "r": [x["r"][0].double() ** 2 - a.double() * x["z"].abs()]}

    def solver(init, a):
        z = torch.complex(a, a).sqrt()
        return {"z": z, "r": [(a.double() * z.abs()).sqrt()]}

    a = torch.tensor([2.0, 3.0], requires_grad=True)
    x = implicit(solver, F)(None, a)
    assert (x["z"].dtype, x["r"][0].dtype) == (torch.complex64, torch.float64)
    (found,) = torch.autograd.grad(x["r"][0].sum() + x["z"].real.double().sum(), a)
    plain = solver(None, a)
    close(found, torch.autograd.grad(plain["r"][0].sum() + plain["z"].real.double().sum(), a)[0], rtol=1e-4, atol=1e-5)
    assert found.dtype == torch.float32


def test_memory_for_the_backward_pass_does_not_grow_with_the_solver_s_iterations():
    sizes = []
    for steps in (5, 200):
        derive = implicit(lambda init, A, b, steps=steps: newton(init, A, b, steps), cubic)
        kept = {}
        A, b = well_posed()
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.setdefault(id(t), t), lambda t: t):
            derive(None, A.requires_grad_(), b)
        sizes.append(sum(t.numel() for t in kept.values()))
    assert sizes[0] == sizes[1] == 4 + 16 + 4
