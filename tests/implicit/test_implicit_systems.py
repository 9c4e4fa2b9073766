"""The linear systems of derivatives: methods, batches, preconditioners, warm starts, factors."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from implicit_problems import cubic, drawn, newton, well_posed

from relaxon.implicit import DerivativeOutcome, ImplicitOptions, implicit, krylov, record_verdicts


def matrices(samples, n, seed=0):
    return drawn(samples, n, n, seed=seed) / 3 + 3 * torch.eye(n, dtype=torch.float64)


def by(A):
    return lambda v: torch.einsum("bij,bj->bi", A, v)


def solve(name, A, b, x=None, precondition=None, rtol=1e-10, steps=500):
    last = (30,) if name == "gmres" else ()
    return getattr(krylov, name)(by(A), b, x, precondition, rtol, steps, *last)


@pytest.mark.parametrize("name", ["cg", "gmres", "bicgstab"])
@pytest.mark.parametrize("sign", [1, -1])
def test_krylov_methods_meet_their_tolerance_and_say_what_they_met(name, sign):
    A = sign * matrices(3, 40)
    A = A @ A.mT * sign if name == "cg" else A
    b = drawn(3, 40, seed=1)
    found = solve(name, A, b)
    true = (b - by(A)(found.x)).norm(dim=1) / b.norm(dim=1)
    assert (true <= 1e-10).all()
    torch.testing.assert_close(found.relative_residuals, true, rtol=1e-2, atol=1e-16)
    assert not found.indefinite


@pytest.mark.parametrize("name", ["cg", "gmres", "bicgstab"])
def test_every_sample_stops_by_itself(name):
    easy = torch.diag(torch.linspace(1, 1.5, 30, dtype=torch.float64))
    hard = torch.diag(torch.linspace(1, 900, 30, dtype=torch.float64))
    b = drawn(2, 30, seed=3)
    alone = solve(name, easy[None], b[:1], rtol=1e-3)
    together = solve(name, torch.stack([easy, hard]), b, rtol=1e-3)
    torch.testing.assert_close(together.x[:1], alone.x, rtol=1e-12, atol=1e-14)
    assert (together.relative_residuals <= 1e-3).all()
    assert together.products > alone.products
    nothing = solve(name, torch.stack([easy, easy]), torch.stack([b[0], torch.zeros_like(b[0])]))
    assert (nothing.x[1] == 0).all()
    assert nothing.relative_residuals[1] == 0


@pytest.mark.parametrize("name", ["cg", "bicgstab"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_maps_may_keep_and_return_what_they_are_given_and_the_last_check_is_of_x(name, preconditioned):
    A, b = torch.diag(torch.linspace(1, 900, 30, dtype=torch.float64))[None], drawn(1, 30)
    given, checked = [], []

    def kept(v):
        given.append((v, v.clone()))
        return v

    def apply(v):
        return by(A)(kept(v))

    def check(v):
        checked.append(v)
        return by(A)(kept(v))

    start = drawn(1, 30, seed=1)
    found = getattr(krylov, name)(apply, b, kept(start), kept if preconditioned else None, 1e-10, 500, check)
    assert found.x is checked[-1]
    assert all(torch.equal(v, copy) for v, copy in given)
    torch.testing.assert_close(found.x, solve(name, A, b, rtol=1e-12).x, rtol=1e-8, atol=1e-10)
    identity = torch.eye(30, dtype=torch.float64)[None]
    assert torch.equal(getattr(krylov, name)(lambda v: v, b, None, None, 1e-10, 9).x, solve(name, identity, b).x)


@pytest.mark.parametrize("sample", range(3))
def test_cg_for_one_sample_is_cg_for_several(sample):
    A, b = matrices(3, 25), drawn(3, 25, seed=2)
    A = torch.stack([A[0] @ A[0].mT, -A[1] @ A[1].mT, A[2] + A[2].mT - 6 * torch.eye(25, dtype=torch.float64)])
    b[0], several = 0, slice(sample, sample + 1)
    alone = solve("cg", A[several], b[several])
    pair = solve("cg", A[several].expand(2, -1, -1), b[several].expand(2, -1))
    assert alone.indefinite == pair.indefinite == (sample == 2)
    assert alone.products == pair.products
    torch.testing.assert_close(alone.x, pair.x[1:], rtol=1e-9, atol=1e-12)


def test_gmres_goes_on_after_a_restart_and_gives_up_where_nothing_helps():
    n = 60
    A = torch.diag(torch.linspace(1, 50, n, dtype=torch.float64))[None]
    b = drawn(1, n)
    assert krylov.gmres(by(A), b, None, None, 1e-10, 500, 12).relative_residuals.max() <= 1e-10
    cyclic = torch.roll(torch.eye(n, dtype=torch.float64), 1, 0)[None]  # nothing happens before n vectors
    first = torch.zeros(1, n, dtype=torch.float64)
    first[0, 0] = 1
    stuck = krylov.gmres(by(cyclic), first, None, None, 1e-10, 1000, 12)
    assert stuck.relative_residuals.item() == pytest.approx(1.0)
    assert stuck.products < 50
    assert krylov.gmres(by(cyclic), first, None, None, 1e-10, 1000, n).relative_residuals.max() <= 1e-10


def field(n=24):
    """`−x″ + x³ = a` on n points, n² times the grid's: ill-conditioned as such systems are."""
    h = 1 / (n + 1)

    def F(x, a):
        padded = torch.nn.functional.pad(x, (1, 1))
        return (2 * x - padded[:-2] - padded[2:]) / h**2 + x**3 - a

    def solver(init, a):
        x = torch.zeros_like(a)
        for _ in range(20):
            J = torch.autograd.functional.jacobian(lambda x: F(x, a), x)
            x = x - torch.linalg.solve(J, F(x, a))
        return x

    return F, solver, 3 * drawn(n) + 10


def taken(options, a, F, solver, repeats=1):
    derive = implicit(solver, F, options=options)
    with record_verdicts() as verdicts:
        for _ in range(repeats):
            at = a.clone().requires_grad_()
            (found,) = torch.autograd.grad(derive(None, at).square().sum(), at)
    return found, verdicts


def test_a_preconditioner_saves_products_and_changes_nothing_else():
    F, solver, a = field()
    n = len(a)
    laplacian = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)) * (n + 1) ** 2
    factors = scipy.sparse.linalg.splu(scipy.sparse.csc_array(laplacian))

    def precondition(r):
        return torch.from_numpy(factors.solve(r.numpy()))

    exact, _ = taken(ImplicitOptions(method="direct"), a, F, solver)
    for method in ("cg", "gmres", "bicgstab"):
        plain = ImplicitOptions(method=method, symmetric=method == "cg")
        better = ImplicitOptions(method=method, symmetric=method == "cg", preconditioner=precondition)
        (_, (slow,)), (found, (fast,)) = (taken(options, a, F, solver) for options in (plain, better))
        torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-10)
        assert fast.products < slow.products / 2


def test_the_adjoint_has_its_own_preconditioner_and_vmap_calls_it_sample_by_sample():
    A, b = well_posed(6)
    A = A + torch.triu(3 * drawn(6, 6, seed=4), 1)
    seen = []

    def inverse_of(matrix):
        def apply(r):
            assert r.shape == (6,)
            seen.append(matrix)
            return torch.linalg.solve(matrix, r)

        return apply

    options = ImplicitOptions(method="gmres", preconditioner=inverse_of(A), adjoint_preconditioner=inverse_of(A.mT))
    derive = implicit(newton, cubic, options=options)
    expected = torch.func.jacrev(lambda b: implicit(newton, cubic)(None, A, b))(b)
    torch.testing.assert_close(torch.func.jacrev(lambda b: derive(None, A, b))(b), expected)
    assert all(matrix is not A for matrix in seen)
    seen.clear()
    torch.testing.assert_close(torch.func.jacfwd(lambda b: derive(None, A, b))(b), expected)
    assert all(matrix is A for matrix in seen)
    torch.vmap(torch.func.grad(lambda b: derive(None, A, b).sum()))(torch.stack([b, 2 * b]))


def test_cg_that_meets_an_indefinite_jacobian_goes_on_by_gmres():
    D = torch.diag(torch.linspace(-3, 4, 12, dtype=torch.float64))
    D[0, 1] = D[1, 0] = 0.5
    b = drawn(12).requires_grad_()
    options = ImplicitOptions(method="cg", symmetric=True)
    derive = implicit(lambda _, b: torch.linalg.solve(D, b), lambda x, b: D @ x - b, options=options)
    with record_verdicts() as verdicts:
        (found,) = torch.autograd.grad(derive(None, b).sum(), b)
    assert verdicts[0].method == "cg+gmres"
    assert verdicts[0].converged
    torch.testing.assert_close(found, torch.linalg.solve(D, torch.ones(12, dtype=torch.float64)))


def test_what_one_product_tells_is_not_computed_again():
    A, b = torch.diag(torch.linspace(1, 4, 200, dtype=torch.float64)), drawn(200).requires_grad_()
    runs, products = [], []

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return A @ x

        @staticmethod
        def backward(ctx, g):
            products.append(1)
            return Product.apply(g)

    def F(x, b):
        runs.append(1)
        return Product.apply(x) - b

    options = ImplicitOptions(method="cg", symmetric=True)
    with record_verdicts() as verdicts:
        implicit(lambda _, b: torch.linalg.solve(A, b), F, options=options)(None, b).sum().backward()
    # Besides the system: Jᵀp for the root's scale, and J p for the probe of symmetry, which is its transpose.
    assert (len(runs), len(products)) == (1, verdicts[0].products + 2)


def test_a_warm_start_saves_products_and_only_where_asked_for():
    F, solver, a = field()
    for warm, fewer in ((True, True), (False, False)):
        found, verdicts = taken(ImplicitOptions(method="gmres", warm_start=warm), a, F, solver, repeats=2)
        assert (verdicts[1].products < verdicts[0].products) is fewer
        assert all(v.converged for v in verdicts)
        torch.testing.assert_close(found, taken(ImplicitOptions(method="direct"), a, F, solver)[0])


def test_small_systems_are_factored_once_for_all_derivatives_at_a_root():
    A, b = well_posed(5)
    derive = implicit(newton, cubic)
    with record_verdicts() as verdicts:
        x = derive(None, A, b.requires_grad_())
        for seed in range(3):
            torch.autograd.grad(x, b, drawn(5, seed=seed), retain_graph=True)
        derive(None, A, b).sum().backward()
    assert [v.products for v in verdicts] == [6, 1, 1, 6]
    with record_verdicts() as verdicts:
        torch.func.jacrev(lambda b: derive(None, A, b))(b.detach())
    assert len(verdicts) == 1  # one system with five right-hand sides
    assert verdicts[0].products == 6


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({}, "direct"),
        ({"dense_limit": 3}, "gmres"),
        ({"dense_limit": 3, "symmetric": True}, "cg"),
        ({"method": "bicgstab"}, "bicgstab"),
    ],
)
def test_the_method_is_chosen_by_size_and_symmetry(options, method):
    M, b = drawn(4, 4), drawn(4, seed=1).requires_grad_()
    A = M @ M.mT + 3 * torch.eye(4, dtype=torch.float64)
    with record_verdicts() as verdicts:
        implicit(newton, cubic, options=ImplicitOptions(**options))(None, A, b).sum().backward()
    assert verdicts[0].method == method


@pytest.mark.parametrize("options", [ImplicitOptions(), ImplicitOptions(method="gmres", rtol=1e-12)])
def test_samples_of_a_batch_have_their_own_systems_and_residuals(options):
    A, b = well_posed(4, (2, 3))
    derive = implicit(newton, cubic, options=options, batch_dims=2)
    with record_verdicts() as verdicts:
        x = derive(None, A.requires_grad_(), b.requires_grad_())
        found = torch.autograd.grad(x.square().sum(), (A, b))
    assert verdicts[0].root_residuals.shape == verdicts[0].linear_residuals.shape == (2, 3)
    one = implicit(newton, cubic)
    for i in range(2):
        for j in range(3):
            alone = torch.autograd.grad(one(None, A[i, j], b[i, j]).square().sum(), (A, b))
            torch.testing.assert_close(found[0][i, j], alone[0][i, j])
            torch.testing.assert_close(found[1][i, j], alone[1][i, j])


def test_samples_that_are_not_apart_are_found_out():
    mixing = matrices(1, 6)[0]
    b = drawn(3, 2).requires_grad_()
    derive = implicit(
        lambda _, b: torch.linalg.solve(mixing, b.flatten()).reshape(3, 2),
        lambda x, b: (mixing @ x.flatten()).reshape(3, 2) - b,
        options=ImplicitOptions(on_unconverged="record"),
        batch_dims=1,
    )
    with record_verdicts() as verdicts:
        derive(None, b).sum().backward()
    assert not verdicts[0].converged
    assert verdicts[0].linear_residual > 1e-3


def test_a_linear_solver_of_one_s_own_gets_the_point_and_is_judged():
    A, b = well_posed(4)
    calls = []

    def own(right, x, A, b, *, transposed):
        calls.append(transposed)
        J = A + torch.diag(0.3 * x**2)
        return torch.linalg.solve(J.mT if transposed else J, right)

    derive = implicit(newton, cubic, options=ImplicitOptions(linear_solver=own))
    assert torch.autograd.gradcheck(lambda b: derive(None, A, b), b.requires_grad_(), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda b: derive(None, A, b), b)
    assert set(calls) == {True, False}
    options = ImplicitOptions(linear_solver=lambda *a, transposed: own(*a, transposed=not transposed))
    with record_verdicts() as verdicts, pytest.raises(RuntimeError, match="adjoint system"):
        implicit(newton, cubic, options=options)(None, A, b).sum().backward()
    assert verdicts[0].outcome is DerivativeOutcome.MAX_ITERATIONS or not verdicts[0].converged
    shapeless = ImplicitOptions(linear_solver=lambda right, *_, transposed: right[:2])
    with pytest.raises(ValueError, match="^a preconditioner or linear_solver must return tensors like x"):
        implicit(newton, cubic, options=shapeless)(None, A, b).sum().backward()


def test_single_precision_is_judged_by_its_own_tolerances():
    A, b = (one.float() for one in well_posed(5))
    with record_verdicts() as verdicts:
        for options in (ImplicitOptions(), ImplicitOptions(method="gmres")):
            (found,) = torch.autograd.grad(
                implicit(newton, cubic, options=options)(None, A, b.requires_grad_()).sum(), b
            )
            assert found.dtype == torch.float32
    assert all(v.converged and v.linear_tolerance == 1e-5 and v.root_tolerance == 1e-3 for v in verdicts)


def test_the_same_seed_gives_the_same_bits():
    F, solver, a = field()
    first, second = (taken(ImplicitOptions(method="gmres", seed=3), a, F, solver) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert first[1][0].root_residual == second[1][0].root_residual
    other = taken(ImplicitOptions(method="gmres", seed=4), a, F, solver)
    assert other[1][0].root_residual != first[1][0].root_residual
    assert np.isfinite(other[1][0].error_estimate)
