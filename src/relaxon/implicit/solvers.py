"""`implicit`, `custom_root` and `custom_fixed_point`: any solver as a function that torch can differentiate."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from relaxon.implicit.arguments import Arguments, constant_positions, refuse_captured_levels
from relaxon.implicit.calls import Memory, PlainCall
from relaxon.implicit.options import ImplicitOptions
from relaxon.implicit.rule import differentiable_root
from relaxon.implicit.verdict import Sink, active_sinks

Solver = Callable[..., Any]


class ImplicitSolver:
    """A solver with a differentiable result, returned by `implicit`, `custom_root` or `custom_fixed_point`.

    Called as `solver(init, *theta, **settings)`; see `implicit`. May be called from several threads at a time.
    """

    def __init__(
        self,
        solver: Solver,
        F: Callable[..., Any],
        *,
        fixed_point: bool = False,
        options: ImplicitOptions | None = None,
        has_aux: bool = False,
        constants: Sequence[str | int] = (),
        batch_dims: int = 0,
        numpy: bool = False,
        on_verdict: Sink | None = None,
    ) -> None:
        if not callable(solver):
            raise TypeError(f"solver must be callable, got {type(solver).__name__}")
        if not callable(F):
            raise TypeError(f"{'T' if fixed_point else 'F'} must be callable, got {type(F).__name__}")
        if options is not None and not isinstance(options, ImplicitOptions):
            raise TypeError(f"options must be an ImplicitOptions, got {type(options).__name__}")
        if isinstance(batch_dims, bool) or not isinstance(batch_dims, int):
            raise TypeError(f"batch_dims must be an int, got {batch_dims!r}")
        if batch_dims < 0:
            raise ValueError(f"batch_dims must be at least 0, got {batch_dims}")
        if on_verdict is not None and not callable(on_verdict):
            raise TypeError(f"on_verdict must be callable or None, got {type(on_verdict).__name__}")
        self.solver, self.F = solver, F
        self._owner, self._function = _find_owner(F)
        self._constants = constant_positions(F, constants)
        self._fixed_point, self._options = fixed_point, options or ImplicitOptions()
        self._has_aux, self._batch_dims, self._numpy, self._on_verdict = has_aux, batch_dims, numpy, on_verdict
        self._starts = Memory()
        if hasattr(solver, "__name__"):
            functools.update_wrapper(self, solver)

    def __call__(self, init: Any, *theta: Any, **settings: Any) -> Any:
        """Return `solver(init, *theta, **settings)`, differentiable in θ."""
        run = self._run
        if "torch._dynamo" in sys.modules:  # else there is no torch.compile that would follow the solver
            run = torch.compiler.disable(run)  # type: ignore[no-untyped-call]
        return run(init, *theta, **settings)

    # What torch.compiler.disable sets, which would import torch._dynamo for it: `torch.compile` breaks its graph here.
    __call__._torchdynamo_disable = True  # type: ignore[attr-defined]
    __call__._torchdynamo_disable_msg = "a solver with an implicit derivative"  # type: ignore[attr-defined]

    def _run(self, init: Any, *theta: Any, **settings: Any) -> Any:
        refuse_captured_levels(self.F)
        for name, value in settings.items():
            if any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(value)):
                raise ValueError(
                    f"{name} must not require grad: settings by name go to the solver alone; pass θ by position"
                )
        if any(position >= len(theta) for position in self._constants):
            raise ValueError(f"constants must be among the {len(theta)} arguments after init, got {self._constants}")
        owned = [] if self._owner is None else [self._owner]
        fixed = [index in self._constants for index in range(len(theta))]
        start = Arguments([init], [True])
        arguments = Arguments([*theta, *owned], [*fixed, *[False] * len(owned)])
        tensors = [*start.tensors, *arguments.tensors]
        call = PlainCall(
            solver=self.solver,
            function=self._function,
            fixed_point=self._fixed_point,
            owned=bool(owned),
            has_aux=self._has_aux,
            numpy=self._numpy,
            settings=settings,
            start=start,
            theta=arguments,
            options=self._options,
            sinks=active_sinks(self._on_verdict),
            batch_dims=self._batch_dims,
            starts=self._starts,
        )
        start.forget()
        arguments.forget()
        return call.result(differentiable_root(call, tensors))


def implicit(
    solver: Solver,
    F: Callable[..., Any],
    *,
    options: ImplicitOptions | None = None,
    has_aux: bool = False,
    constants: Sequence[str | int] = (),
    batch_dims: int = 0,
    numpy: bool = False,
    on_verdict: Sink | None = None,
) -> ImplicitSolver:
    """Return the solver as a function that torch can differentiate, given the function of which its result is a root.

    Parameters
    ----------
    solver : any function `solver(init, *theta, **settings) -> x`, in torch, NumPy, SciPy, or another process. It is
        called with detached tensors. `init` is the initial guess (None where there is none) and has no derivative.
    F : `F(x, *theta)` in torch, with the structure, shapes and kind of x, which is zero at the solution. It must be
        differentiable (twice for forward mode and second derivatives), and everything with a gradient must be among
        its arguments. The parameters of a module, or of a method of a module, are included.
    options : options for computing derivatives and checking them.
    has_aux : whether the solver returns `(x, aux)`; aux is passed through without derivatives.
    constants : arguments after init that have no derivative, by their names in F or by position from 0. Anything except
        floating or complex tensors and modules is a constant automatically.
    batch_dims : number of leading axes of all leaves of x that index samples: `F` of a sample must not depend on x of
        any other. The linear system of each sample then stops separately.
    numpy : whether to pass tensors to the solver as NumPy arrays (copies).
    on_verdict : called with each derivative's `DerivativeVerdict`; see also `record_verdicts`.

    Returns
    -------
    ImplicitSolver : called like the solver: θ by position, which may contain pytrees and modules; keyword arguments are
        settings that are passed to the solver only. NumPy arrays and numbers that the solver returns become tensors of
        the widest floating dtype of its arguments.

    Raises
    ------
    TypeError, ValueError : naming the argument.
    DerivativeError : by a derivative at a point that is not a root, or whose linear system could not be solved.

    Source: M. Blondel et al., "Efficient and modular implicit differentiation", NeurIPS 2022.

    >>> import scipy.optimize, torch
    >>> from relaxon.implicit import implicit
    >>> def F(x, a):
    ...     return x**3 + x - a
    >>> def solver(init, a):
    ...     return scipy.optimize.fsolve(lambda x: x**3 + x - a, init, xtol=1e-14)
    >>> root = implicit(solver, F, numpy=True)
    >>> a = torch.tensor([2.0, 10.0], dtype=torch.float64, requires_grad=True)
    >>> root(torch.zeros(2, dtype=torch.float64), a).sum().backward()     # dx/da = 1/(3x² + 1), x = (1, 2)
    >>> bool(torch.allclose(a.grad, torch.tensor([1 / 4, 1 / 13], dtype=torch.float64)))
    True
    """
    return ImplicitSolver(
        solver,
        F,
        options=options,
        has_aux=has_aux,
        constants=constants,
        batch_dims=batch_dims,
        numpy=numpy,
        on_verdict=on_verdict,
    )


def custom_root(
    F: Callable[..., Any],
    *,
    options: ImplicitOptions | None = None,
    has_aux: bool = False,
    constants: Sequence[str | int] = (),
    batch_dims: int = 0,
    numpy: bool = False,
    on_verdict: Sink | None = None,
) -> Callable[[Solver], ImplicitSolver]:
    """Decorate a solver whose result is a root of `F(x, *theta)`; the arguments are those of `implicit`.

    >>> import torch
    >>> from relaxon.implicit import custom_root
    >>> @custom_root(lambda x, a: x * x - a)
    ... def square_root(init, a):
    ...     x = init
    ...     for _ in range(60):
    ...         x = (x + a / x) / 2
    ...     return x
    >>> a = torch.tensor(16.0, dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.grad(square_root(torch.ones_like(a), a), a)[0].item()
    0.125
    """
    return lambda solver: ImplicitSolver(
        solver,
        F,
        options=options,
        has_aux=has_aux,
        constants=constants,
        batch_dims=batch_dims,
        numpy=numpy,
        on_verdict=on_verdict,
    )


def custom_fixed_point(
    T: Callable[..., Any],
    *,
    options: ImplicitOptions | None = None,
    has_aux: bool = False,
    constants: Sequence[str | int] = (),
    batch_dims: int = 0,
    numpy: bool = False,
    on_verdict: Sink | None = None,
) -> Callable[[Solver], ImplicitSolver]:
    """Decorate a solver whose result is a fixed point of `T(x, *theta)`; the arguments are those of `implicit`.

    >>> import torch
    >>> from relaxon.implicit import custom_fixed_point
    >>> @custom_fixed_point(lambda x, a: torch.cos(a * x))
    ... def fixed_point(init, a):
    ...     x = init
    ...     for _ in range(200):
    ...         x = torch.cos(a * x)
    ...     return x
    >>> a = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    >>> torch.autograd.gradcheck(lambda a: fixed_point(torch.zeros_like(a), a), a)
    True
    """
    return lambda solver: ImplicitSolver(
        solver,
        T,
        fixed_point=True,
        options=options,
        has_aux=has_aux,
        constants=constants,
        batch_dims=batch_dims,
        numpy=numpy,
        on_verdict=on_verdict,
    )


def _find_owner(F: Callable[..., Any]) -> tuple[nn.Module | None, Callable[..., Any]]:
    """Return the module whose parameters F has, and F as a function of that module; (None, F) without a module."""
    if isinstance(F, nn.Module):
        return F, lambda module, *arguments: module(*arguments)
    if inspect.ismethod(F) and isinstance(F.__self__, nn.Module):
        return F.__self__, F.__func__
    return None, F
