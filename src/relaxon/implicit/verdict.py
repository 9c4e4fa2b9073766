"""`DerivativeVerdict`: the checks of a derivative's linear system and of the point at which it was computed."""

from __future__ import annotations

import contextlib
import contextvars
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from torch import Tensor

Sink = Callable[["DerivativeVerdict"], object]


class DerivativeOutcome(Enum):
    """The outcome of a derivative."""

    CONVERGED = "converged"
    NOT_A_ROOT = "not a root"
    MAX_ITERATIONS = "maximum of iterations"
    STAGNATED = "stagnated"
    SINGULAR = "singular Jacobian"
    NON_FINITE = "not finite"


@dataclass(frozen=True, slots=True, eq=False)
class DerivativeVerdict:
    """The checks of one linear solve of a derivative.

    Attributes
    ----------
    system : "adjoint" (`Jᵀu = g`, reverse mode) or "tangent" (`J u = g`, forward mode). A second derivative solves more
        systems, each with its verdict.
    outcome : the first check that failed, or CONVERGED.
    method : what solved it: "direct", "cg", "gmres", "bicgstab", "cg+gmres" (CG met an indefinite Jacobian) or
        "linear_solver".
    root_residuals : `‖F(x, θ)‖` relative to the scale that `ImplicitOptions.root_rtol` describes; float64, one a sample
        (the shape of the batch, `()` without one).
    linear_residuals : `‖g − Ju‖ / ‖g‖`, recomputed; likewise.
    root_tolerance, linear_tolerance : what both were asked to meet.
    error_estimate : estimated norm of the derivative's error over the derivative's norm; NaN where not asked for, or
        where F could not be differentiated twice.
    products : products with J or Jᵀ that the linear solve took.
    message : what a reader should know; empty where nothing.
    """

    system: Literal["adjoint", "tangent"]
    outcome: DerivativeOutcome
    method: str
    root_residuals: Tensor
    linear_residuals: Tensor
    root_tolerance: float
    linear_tolerance: float
    error_estimate: float
    products: int
    message: str = ""

    @property
    def converged(self) -> bool:
        """Whether the point is a root and the linear system is solved, each to its tolerance."""
        return self.outcome is DerivativeOutcome.CONVERGED

    @property
    def root_residual(self) -> float:
        """The largest of `root_residuals`."""
        return float(self.root_residuals.max())

    @property
    def linear_residual(self) -> float:
        """The largest of `linear_residuals`."""
        return float(self.linear_residuals.max())


class DerivativeError(RuntimeError):
    """A rejected derivative: the point is not a root, or its linear system was not solved; see `verdict`."""

    def __init__(self, message: str, verdict: DerivativeVerdict) -> None:
        super().__init__(message)
        self.verdict = verdict


class UnconvergedDerivativeWarning(RuntimeWarning):
    """An unconverged derivative that `on_unconverged="record"` allowed while no verdicts were recorded."""


_RECORDERS: contextvars.ContextVar[tuple[list[DerivativeVerdict], ...]] = contextvars.ContextVar(
    "relaxon_implicit_recorders", default=()
)


@contextlib.contextmanager
def record_verdicts() -> Iterator[list[DerivativeVerdict]]:
    """Collect the verdicts of all derivatives of solves that are called inside, including derivatives taken later.

    The list belongs to the thread (or asyncio task) that entered; backward passes append to it wherever they run.

    >>> import torch
    >>> from relaxon.implicit import implicit, record_verdicts
    >>> root = implicit(lambda init, a: a.sqrt(), lambda x, a: x * x - a)
    >>> a = torch.tensor([4.0, 9.0], dtype=torch.float64, requires_grad=True)
    >>> with record_verdicts() as verdicts:
    ...     root(None, a).sum().backward()
    >>> a.grad.tolist(), verdicts[0].converged, verdicts[0].system
    ([0.25, 0.16666666666666666], True, 'adjoint')
    """
    verdicts: list[DerivativeVerdict] = []
    token = _RECORDERS.set((*_RECORDERS.get(), verdicts))
    try:
        yield verdicts
    finally:
        _RECORDERS.reset(token)


def active_sinks(on_verdict: Sink | None) -> tuple[Sink, ...]:
    """Return the sinks for the verdicts of a solve that is called now."""
    sinks = tuple(recorder.append for recorder in _RECORDERS.get())
    return sinks if on_verdict is None else (*sinks, on_verdict)


def deliver(verdict: DerivativeVerdict, sinks: tuple[Sink, ...], on_unconverged: str) -> None:
    """Pass a verdict to the sinks; where unconverged, raise `DerivativeError`, or warn where there are no sinks."""
    for sink in sinks:
        sink(verdict)
    if verdict.converged:
        return
    if on_unconverged == "error":
        raise DerivativeError(_explain(verdict), verdict)
    if not sinks:
        warnings.warn(_explain(verdict), UnconvergedDerivativeWarning, stacklevel=2)


def _explain(verdict: DerivativeVerdict) -> str:
    told = f" ({verdict.message})" if verdict.message else ""
    if verdict.outcome is DerivativeOutcome.NOT_A_ROOT:
        return (
            f"the solver's result is not a root: its relative residual is {verdict.root_residual:.2e}, the derivative "
            f"is for one of at most {verdict.root_tolerance:.2e}{told}; solve more tightly, or raise root_rtol"
        )
    return (
        f"the {verdict.system} system of the derivative ended as {verdict.outcome.name} after {verdict.products} "
        f"products by {verdict.method} with a relative residual of {verdict.linear_residual:.2e}, asked for "
        f"{verdict.linear_tolerance:.2e}{told}"
    )
