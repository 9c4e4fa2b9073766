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

from relaxon.implicit.conditions import (
    block_proximal_gradient,
    karush_kuhn_tucker,
    mirror_descent,
    newton,
    projected_gradient,
    proximal_gradient,
    quadratic_program,
    stationary,
)
from relaxon.implicit.conic import ConeSolution, conic_residual, read_cone_solution, self_dual_residual
from relaxon.implicit.options import ImplicitOptions
from relaxon.implicit.projections import (
    project_affine_set,
    project_box,
    project_halfspace,
    project_hyperplane,
    project_l1_ball,
    project_l2_ball,
    project_nonnegative,
    project_positive_semidefinite,
    project_second_order_cone,
    project_simplex,
    project_simplex_entropic,
)
from relaxon.implicit.proximal_operators import group_soft_threshold, prox_elastic_net, prox_squared_l2, soft_threshold
from relaxon.implicit.solvers import ImplicitSolver, custom_fixed_point, custom_root, implicit
from relaxon.implicit.verdict import (
    DerivativeError,
    DerivativeOutcome,
    DerivativeVerdict,
    UnconvergedDerivativeWarning,
    record_verdicts,
)

__all__ = [
    "ConeSolution",
    "DerivativeError",
    "DerivativeOutcome",
    "DerivativeVerdict",
    "ImplicitOptions",
    "ImplicitSolver",
    "UnconvergedDerivativeWarning",
    "block_proximal_gradient",
    "conic_residual",
    "custom_fixed_point",
    "custom_root",
    "group_soft_threshold",
    "implicit",
    "karush_kuhn_tucker",
    "mirror_descent",
    "newton",
    "project_affine_set",
    "project_box",
    "project_halfspace",
    "project_hyperplane",
    "project_l1_ball",
    "project_l2_ball",
    "project_nonnegative",
    "project_positive_semidefinite",
    "project_second_order_cone",
    "project_simplex",
    "project_simplex_entropic",
    "projected_gradient",
    "prox_elastic_net",
    "prox_squared_l2",
    "proximal_gradient",
    "quadratic_program",
    "read_cone_solution",
    "record_verdicts",
    "self_dual_residual",
    "soft_threshold",
    "stationary",
]
