"""What a derivative says of itself, and the derivatives that are refused."""

import dataclasses
import threading
import warnings

import pytest
import torch
from implicit_problems import cubic, drawn, newton, unrolled, well_posed

from relaxon.implicit import (
    DerivativeError,
    DerivativeOutcome,
    ImplicitOptions,
    UnconvergedDerivativeWarning,
    custom_root,
    implicit,
    record_verdicts,
)

RECORD = ImplicitOptions(on_unconverged="record")
ITERATIVE = {"direct": "direct", "gmres": "gmres", "bicgstab": "bicgstab"}


def rough(steps, options=None, **more):
    """A root that Newton's method has not quite reached."""
    return implicit(lambda init, A, b: newton(init, A, b, steps), cubic, options=options, **more)


def test_a_verdict_tells_both_residuals_and_cannot_be_changed():
    A, b = well_posed()
    with record_verdicts() as verdicts:
        x = rough(14)(None, A, b.requires_grad_())
        assert not verdicts
        x.sum().backward()
    (verdict,) = verdicts
    assert (verdict.system, verdict.outcome, verdict.method) == ("adjoint", DerivativeOutcome.CONVERGED, "direct")
    assert verdict.converged
    assert verdict.root_residual < 1e-15
    assert verdict.linear_residual < 1e-15
    assert (verdict.root_tolerance, verdict.linear_tolerance) == (1e-6, 1e-10)
    assert verdict.root_residuals.shape == ()
    assert 0 <= verdict.error_estimate < 1e-13
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.products = 0


def test_forward_mode_and_second_derivatives_have_verdicts_too():
    A, b = well_posed()
    with record_verdicts() as verdicts:
        torch.func.jvp(lambda b: rough(14)(None, A, b), (b,), (b,))
    assert [v.system for v in verdicts] == ["tangent"]
    with record_verdicts() as verdicts:
        torch.func.grad(lambda b: torch.func.grad(lambda b: rough(14)(None, A, b).sum())(b).sum())(b)
    assert {v.system for v in verdicts} == {"adjoint", "tangent"}
    assert all(v.converged for v in verdicts)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_whether_a_point_is_a_root_does_not_depend_on_units(scale, unit):
    target = torch.tensor([2.0, 3.0], dtype=torch.float64) * unit

    def residual_of(error):
        with record_verdicts() as verdicts:
            solver = implicit(lambda _, a: a * (1 + error), lambda x, a: scale * (x - a), options=RECORD)
            solver(None, target.clone().requires_grad_()).sum().backward()
        return verdicts[0]

    verdict = residual_of(1e-4)
    assert verdict.outcome is DerivativeOutcome.NOT_A_ROOT
    assert verdict.root_residual == pytest.approx(1e-4 / 2, rel=0.8)
    assert residual_of(1e-8).converged


def test_a_gradient_at_a_point_that_is_no_root_is_refused():
    A, b = well_posed()
    x = rough(1)(None, A, b.requires_grad_())
    with pytest.raises(DerivativeError, match="not a root: its relative residual is .*, the derivative") as caught:
        x.sum().backward()
    assert caught.value.verdict.outcome is DerivativeOutcome.NOT_A_ROOT
    assert b.grad is None
    with pytest.raises(DerivativeError):
        torch.func.jvp(lambda b: rough(1)(None, A, b), (b.detach(),), (b.detach(),))


def test_what_is_let_through_is_recorded_or_warned_of():
    A, b = well_posed()
    b.requires_grad_()
    with pytest.warns(UnconvergedDerivativeWarning, match="not a root"):
        rough(1, RECORD)(None, A, b).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with record_verdicts() as verdicts:
            rough(1, RECORD)(None, A, b).sum().backward()
        told = []
        rough(1, RECORD, on_verdict=told.append)(None, A, b).sum().backward()
    assert [v.outcome for v in (*verdicts, *told)] == [DerivativeOutcome.NOT_A_ROOT] * 2
    assert not verdicts[0].converged


def test_looser_and_absolute_tolerances_of_the_root_are_kept_to():
    A, b = well_posed()
    with record_verdicts() as verdicts:
        rough(1, RECORD)(None, A, b.requires_grad_()).sum().backward()
    residual = verdicts[0].root_residual
    assert 1e-6 < residual < 1e-1
    size = float(cubic(newton(None, A, b.detach(), 1), A, b.detach()).norm())
    for options in (ImplicitOptions(root_rtol=1.01 * residual), ImplicitOptions(root_atol=1.01 * size)):
        rough(1, options)(None, A, b).sum().backward()
    for options in (ImplicitOptions(root_rtol=0.99 * residual), ImplicitOptions(root_atol=0.99 * size)):
        with pytest.raises(DerivativeError):
            rough(1, options)(None, A, b).sum().backward()


def test_a_root_at_zero_is_judged_by_what_the_parameters_do():
    shifted = implicit(lambda _, a: torch.sin(a) + 1e-12, lambda x, a: x - torch.sin(a))
    a = torch.tensor([torch.pi], dtype=torch.float64, requires_grad=True)
    shifted(None, a).sum().backward()
    assert a.grad.item() == pytest.approx(-1.0)


def true_error(steps, A, b, weight, transform):
    options = dataclasses.replace(RECORD, root_rtol=1.0)
    found, exact = (transform(f) for f in (lambda A, b: rough(steps, options)(None, A, b), unrolled))
    found, exact = found(A, b, weight), exact(A, b, weight)
    total = sum(float((f - e).square().sum()) for f, e in zip(found, exact, strict=True))
    return (total / sum(float(e.square().sum()) for e in exact)) ** 0.5


def reverse(f):
    def gradient(A, b, weight):
        inputs = (A.clone().requires_grad_(), b.clone().requires_grad_())
        return torch.autograd.grad((f(*inputs) * weight).sum(), inputs)

    return gradient


def forward(f):
    return lambda A, b, weight: (torch.func.jvp(f, (A, b), (A.mT, weight))[1],)


@pytest.mark.parametrize("mode", [reverse, forward])
@pytest.mark.parametrize("steps", [2, 3])
def test_the_estimate_of_the_error_is_right_to_first_order_and_quickly_to_its_size(mode, steps):
    A, b = well_posed(5)
    b, weight = 3 * b, drawn(5, seed=9)
    error = true_error(steps, A, b, weight, mode)
    assert error > 1e-9
    estimates = {}
    for name, options in {
        "direct": ImplicitOptions(method="direct"),
        "first-order": ImplicitOptions(method="gmres", error_estimate="first-order", rtol=1e-12),
        "quick": ImplicitOptions(method="gmres", rtol=1e-12),
        "none": ImplicitOptions(error_estimate="none"),
    }.items():
        options = dataclasses.replace(options, on_unconverged="record")
        with record_verdicts() as verdicts:
            mode(lambda A, b, options=options: rough(steps, options)(None, A, b))(A, b, weight)
        estimates[name] = verdicts[0].error_estimate
    assert estimates["direct"] == pytest.approx(error, rel=0.2)
    assert estimates["first-order"] == pytest.approx(estimates["direct"], rel=1e-6)
    assert error / 5 < estimates["quick"] < 20 * error
    assert estimates["none"] != estimates["none"]


def test_the_estimate_sees_a_linear_system_that_is_solved_roughly():
    A, b = well_posed(8)
    options = ImplicitOptions(method="gmres", rtol=1e-2)
    b.requires_grad_()
    with record_verdicts() as verdicts:
        (found,) = torch.autograd.grad(rough(14, options)(None, A, b).sum(), b)
    (exact,) = torch.autograd.grad(unrolled(A, b).sum(), b)
    error = float((found - exact).norm() / exact.norm())
    assert error > 1e-6
    assert error / 10 < verdicts[0].error_estimate < 10 * error


@pytest.mark.parametrize("method", ITERATIVE)
def test_a_singular_jacobian_is_refused(method):
    P = torch.diag(torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64))
    b = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    options = ImplicitOptions(method=method)
    x = implicit(lambda _, b: torch.tensor([1.0, 1.0, 5.0], dtype=b.dtype), lambda x, b: P @ x - b, options=options)(
        None, b
    )
    with pytest.raises(DerivativeError) as caught:
        x.sum().backward()
    outcome = caught.value.verdict.outcome
    if method == "direct":
        assert outcome is DerivativeOutcome.SINGULAR
    else:
        assert outcome in (DerivativeOutcome.STAGNATED, DerivativeOutcome.MAX_ITERATIONS, DerivativeOutcome.NON_FINITE)


def test_too_few_iterations_are_refused_and_named():
    A, b = well_posed(20)
    options = ImplicitOptions(method="gmres", max_iterations=3)
    with pytest.raises(
        DerivativeError, match=r"adjoint system .* MAX_ITERATIONS after \d+ products by gmres"
    ) as caught:
        rough(14, options)(None, A, b.requires_grad_()).sum().backward()
    assert caught.value.verdict.linear_residual > 1e-10


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused_where_it_comes_from(bad):
    a = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    spoilt = implicit(lambda _, a: a.sqrt() * bad, lambda x, a: x * x - a)
    with pytest.raises(DerivativeError, match="NON_FINITE .*F\\(x, θ\\)"):
        spoilt(None, a).sum().backward()
    right = implicit(lambda _, a: a.sqrt(), lambda x, a: x * x - a)
    with pytest.raises(DerivativeError, match="NON_FINITE .*the incoming derivative"):
        right(None, a).backward(torch.tensor([1.0, bad], dtype=torch.float64))
    recorded = implicit(lambda _, a: a.sqrt() * bad, lambda x, a: x * x - a, options=RECORD, on_verdict=lambda _: None)
    recorded(None, a).sum().backward()
    assert a.grad.isnan().all()  # never a number that looks right


def test_a_jacobian_that_is_not_symmetric_and_declared_so_is_refused():
    A, b = well_posed()
    with pytest.raises(ValueError, match="^symmetric must be False for this F: a probe of its Jacobian"):
        rough(14, ImplicitOptions(symmetric=True))(None, A, b.requires_grad_()).sum().backward()


def test_asymmetry_that_the_gradient_does_not_meet_is_refused_too():
    A = torch.block_diag(torch.eye(3), torch.tensor([[2.0, 1.0], [0.0, 2.0]])).double()
    b = drawn(5).requires_grad_()
    options = ImplicitOptions(method="cg", symmetric=True)
    x = implicit(lambda _, b: torch.linalg.solve(A, b), lambda x, b: A @ x - b, options=options)(None, b)
    with pytest.raises(ValueError, match="^symmetric must be False for this F"):
        x[:3].sum().backward()


def test_torch_s_older_vmap_is_refused_by_name():
    with pytest.raises(TypeError, match="^is_grads_batched .* must be False for an implicit derivative"):
        torch.autograd.functional.jacobian(lambda a: rough(14)(None, *well_posed(2)[:1], a), A_TENSOR, vectorize=True)


def test_each_thread_s_verdicts_are_its_own():
    A, b = well_posed()
    solver = rough(14)
    found = {}

    def work(name, count):
        with record_verdicts() as verdicts:
            for k in range(count):
                at = (b + k).requires_grad_()
                (gradient,) = torch.autograd.grad(solver(None, A, at).sum(), at)
                (exact,) = torch.autograd.grad(unrolled(A, at).sum(), at)
                torch.testing.assert_close(gradient, exact)
        found[name] = len(verdicts)

    threads = [threading.Thread(target=work, args=(n, n)) for n in (3, 5, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {3: 3, 5: 5, 8: 8}


def test_a_derivative_taken_later_or_elsewhere_is_told_to_who_recorded_the_solve():
    A, b = well_posed()
    with record_verdicts() as outer, record_verdicts() as inner:
        x = rough(14)(None, A, b.requires_grad_())
    thread = threading.Thread(target=lambda: x.sum().backward())
    thread.start()
    thread.join()
    assert len(outer) == len(inner) == 1
    with record_verdicts() as after:
        pass
    assert not after


A_TENSOR = torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("error", "match", "solver", "F"),
    [
        (ValueError, "F must return the structure of x", lambda _, a: a, lambda x, a: {"x": x - a}),
        (ValueError, "F must return the shape and kind of x", lambda _, a: a, lambda x, a: (x - a)[:1]),
        (ValueError, "F must return the shape and kind of x", lambda _, a: a, lambda x, a: (x - a) * (1 + 1j)),
        (TypeError, "F must return tensors", lambda _, a: a.sum(), lambda x, a: 0.0),
        (TypeError, "the solver's result must have tensors", lambda _, a: "x", lambda x, a: x),
        (TypeError, "the solver's result must have tensors", lambda _, a: [], lambda x, a: x),
        (TypeError, "the solver's result must have floating", lambda _, a: a.long(), lambda x, a: x),
        (ValueError, "x must have elements", lambda _, a: a[:0], lambda x, a: x),
    ],
)
def test_a_solver_or_an_F_that_does_not_fit_is_refused(error, match, solver, F):
    with pytest.raises(error, match=f"^{match}"):
        implicit(solver, F)(None, A_TENSOR.clone().requires_grad_()).sum().backward()


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (ValueError, "method", {"method": "lu"}),
        (ValueError, "method", {"method": "cg"}),
        (ValueError, "rtol", {"rtol": 0.0}),
        (ValueError, "rtol", {"rtol": float("nan")}),
        (ValueError, "rtol", {"rtol": float("inf")}),
        (TypeError, "root_rtol", {"root_rtol": "1e-3"}),
        (ValueError, "root_atol", {"root_atol": -1.0}),
        (ValueError, "max_iterations", {"max_iterations": 0}),
        (TypeError, "restart", {"restart": 2.5}),
        (TypeError, "symmetric", {"symmetric": 1}),
        (TypeError, "preconditioner", {"preconditioner": A_TENSOR}),
        (ValueError, "error_estimate", {"error_estimate": "rough"}),
        (ValueError, "on_unconverged", {"on_unconverged": "ignore"}),
        (ValueError, "method", {"method": "gmres", "linear_solver": print}),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(error, name, arguments):
    with pytest.raises(error, match=f"^{name} must"):
        ImplicitOptions(**arguments)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "solver", {"solver": 3}),
        (TypeError, "F", {"F": None}),
        (TypeError, "options", {"options": {"rtol": 1e-3}}),
        (ValueError, "batch_dims", {"batch_dims": -1}),
        (TypeError, "batch_dims", {"batch_dims": True}),
        (TypeError, "on_verdict", {"on_verdict": []}),
        (ValueError, "constants", {"constants": "c"}),
        (ValueError, "constants", {"constants": [-1]}),
        (TypeError, "constants", {"constants": [1.5]}),
    ],
)
def test_a_mistake_in_a_decorator_is_refused_by_name(error, name, arguments):
    with pytest.raises(error, match=f"^{name} must"):
        implicit(**({"solver": newton, "F": cubic} | arguments))


def test_a_mistake_in_a_call_is_refused_by_name():
    A, b = well_posed()
    with pytest.raises(ValueError, match="^start must not require grad"):
        implicit(newton, cubic)(None, A, b, start=b.requires_grad_())
    with pytest.raises(ValueError, match="^constants must be among the 2 arguments"):
        implicit(newton, cubic, constants=[2])(None, A, b)
    with pytest.raises(TypeError, match=r"^solver must return \(x, aux\)"):
        implicit(newton, cubic, has_aux=True)(None, A, b)
    with pytest.raises(ValueError, match="^batch_dims=2 must be axes that all leaves of x share"):
        implicit(newton, cubic, batch_dims=2)(None, A, b).sum().backward()


def test_what_F_has_captured_is_refused_and_not_forgotten():
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    a = A_TENSOR.clone().requires_grad_()
    direct = implicit(lambda _, a: a, lambda x, a: (x - a) * weight)
    through = implicit(lambda _, a: a, lambda x, a: (x - a) * (2 * weight).exp())
    for solver in (direct, through):
        with pytest.raises(ValueError, match="^F must not use tensors that require grad and are not among its"):
            solver(None, a).sum().backward()

    def captured(weight):
        def inner(x):
            return x - weight

        @custom_root(lambda x: inner(x))
        def solver(init):
            return weight.detach()

        return solver(None).sum()

    for transform in (torch.func.grad, torch.func.vmap):
        with pytest.raises(ValueError, match="^F must not use tensors that require grad and are not among its"):
            transform(captured)(weight.detach())
