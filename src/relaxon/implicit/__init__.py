"""Derivatives of any solver's result by the implicit function theorem, each with a verdict.

`implicit(solver, F)`, `custom_root(F)` and `custom_fixed_point(T)` make a solver, whatever it is written in, a function
that torch differentiates: in reverse and forward mode, any number of times, and under `torch.func`.
"""

try:
    import torch as _torch  # noqa: F401  first, so that its absence is what the error names
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        'relaxon.implicit needs torch, which is not installed; install it with: pip install "relaxon[neuromorphic]"',
        name="torch",
    ) from error

from relaxon.implicit.options import ImplicitOptions
from relaxon.implicit.solvers import ImplicitSolver, custom_fixed_point, custom_root, implicit
from relaxon.implicit.verdict import (
    DerivativeError,
    DerivativeOutcome,
    DerivativeVerdict,
    UnconvergedDerivativeWarning,
    record_verdicts,
)

__all__ = [
    "DerivativeError",
    "DerivativeOutcome",
    "DerivativeVerdict",
    "ImplicitOptions",
    "ImplicitSolver",
    "UnconvergedDerivativeWarning",
    "custom_fixed_point",
    "custom_root",
    "implicit",
    "record_verdicts",
]
