"""`ImplicitOptions`: how the linear system of a derivative is solved, and when a derivative is rejected."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

Method = Literal["auto", "direct", "cg", "gmres", "bicgstab"]
Unconverged = Literal["error", "record"]
Estimate = Literal["quick", "first-order", "none"]
METHODS = ("auto", "direct", "cg", "gmres", "bicgstab")
ROOT_RTOL = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Relative residual up to which a point counts as a root, by dtype: what common solvers reach by default."""
LINEAR_RTOL = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Relative residual required of a linear solve, by dtype."""


@dataclass(frozen=True, slots=True)
class ImplicitOptions:
    """Options for computing derivatives and checking them.

    Parameters
    ----------
    method : how linear systems with `J = ∂₁F` are solved. "direct" builds J and factors it once for all derivatives of
        one call. "cg" requires `symmetric`. "auto" means "direct" up to `dense_limit` unknowns in a sample; above that,
        "cg" where `symmetric`, otherwise "gmres".
    symmetric : whether J is symmetric (Hermitian where complex), which a random probe checks in each derivative.
    rtol : tolerance for `‖g − Ju‖ / ‖g‖` of the linear solve, for each sample; None means 1e-10, or 1e-5 for float32.
        With `math.inf`, for a `linear_solver` that checks itself, the residual is neither computed nor checked.
    root_rtol : tolerance for `‖F(x, θ)‖` relative to `‖J‖‖x‖ + ‖∂₂F‖‖θ‖`, in mean-square norms, for each sample: the
        relative change of x or θ that corresponds to the residual. None means 1e-6, or 1e-3 for float32. With
        `math.inf`, for a solver that checks its result itself, it is neither computed nor checked.
    root_atol : absolute tolerance for `‖F(x, θ)‖`, for roots at which that scale is meaningless; either one suffices.
    max_iterations : maximum number of products with J in a linear solve; None means 10 for each unknown, at most 1000.
    restart : number of Krylov vectors that GMRES stores.
    dense_limit : see `method`.
    linear_solver : `(right, x, *theta, transposed=...) -> u`, in place of `method`: the solution of `J u = right`
        (`Jᵀ u = right` where transposed) for pytrees like x. Its residual is recomputed and checked as usual.
    preconditioner : an approximation of J⁻¹ as a map of pytrees like x; for CG it must be symmetric and definite.
    adjoint_preconditioner : the same for Jᵀ; `preconditioner` where None.
    warm_start : whether a linear solve starts at the last solution of the same kind and shape.
    error_estimate : estimate of the derivative's error from both residuals, by comparison with the derivative one step
        away. "quick" uses `‖u‖/‖g‖` for `‖J⁻¹‖` and costs an evaluation of F and a product, or nothing where the root
        is exact to rounding. "first-order" uses the Newton step and the change of u, each by another linear solve, and
        is exact to first order in the error of the root; "quick" does the same where factors exist ("direct"). "none"
        omits the estimate.
    on_unconverged : "error" raises `DerivativeError`; "record" continues and reports it in the verdict.
    seed : seed of the random probes.

    Raises
    ------
    TypeError, ValueError : naming the argument.
    """

    method: Method = "auto"
    symmetric: bool = False
    rtol: float | None = None
    root_rtol: float | None = None
    root_atol: float = 0.0
    max_iterations: int | None = None
    restart: int = 50
    dense_limit: int = 128
    linear_solver: Callable[..., Any] | None = None
    preconditioner: Callable[[Any], Any] | None = None
    adjoint_preconditioner: Callable[[Any], Any] | None = None
    warm_start: bool = False
    error_estimate: Estimate = "quick"
    on_unconverged: Unconverged = "error"
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("method", self.method, METHODS)
        _check_choice("error_estimate", self.error_estimate, ("quick", "first-order", "none"))
        _check_choice("on_unconverged", self.on_unconverged, ("error", "record"))
        for name in ("rtol", "root_rtol"):
            if getattr(self, name) not in (None, math.inf):
                _check_float(name, getattr(self, name), above=True)
        if self.rtol == math.inf and self.linear_solver is None:
            raise ValueError("rtol must be finite without a linear_solver that judges itself, got inf")
        _check_float("root_atol", self.root_atol, above=False)
        if self.max_iterations is not None:
            _check_int("max_iterations", self.max_iterations, 1)
        _check_int("restart", self.restart, 1)
        _check_int("dense_limit", self.dense_limit, 0)
        _check_int("seed", self.seed, 0)
        for name in ("symmetric", "warm_start"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, got {getattr(self, name)!r}")
        for name in ("linear_solver", "preconditioner", "adjoint_preconditioner"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise TypeError(f"{name} must be callable or None, got {type(getattr(self, name)).__name__}")
        if self.method == "cg" and not self.symmetric:
            raise ValueError("method must not be 'cg' unless symmetric=True: CG needs a symmetric Jacobian")
        if self.linear_solver is not None and self.method != "auto":
            raise ValueError(f"method must be left out beside a linear_solver, got {self.method!r}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _check_float(name: str, value: object, above: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value) or value < 0 or (above and value == 0):
        raise ValueError(f"{name} must be finite and {'> 0' if above else '≥ 0'}, got {value!r}")


def _check_int(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
