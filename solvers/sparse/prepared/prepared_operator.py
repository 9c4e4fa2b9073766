"""Solvers for operators known by their products only: SciPy's `LinearOperator`, or any object with `matvec`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxon.solvers.interface.verdict import Figures
from relaxon.solvers.sparse.engine import MatrixSolver
from relaxon.solvers.sparse.krylov.gmres import MatrixGMRES
from relaxon.solvers.sparse.krylov.minres import MatrixMINRES
from relaxon.solvers.sparse.krylov.vectors import as_field, norm_of
from relaxon.solvers.sparse.prepared.figures import normwise_figures
from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix
from relaxon.solvers.sparse.prepared.set_up import resolve_solver, use_map
from relaxon.solvers.sparse.system.matrix_system import Array
from relaxon.solvers.sparse.system.properties import MatrixProperties

WITHOUT_ENTRIES = ("gmres", "bicgstab", "minres", "auto")


class OperatorSystem:
    """A stand-in for `MatrixSystem` around an operator, for the Krylov methods, which only apply it."""

    matrix = None
    near_null = None
    kept = None
    whole = 0
    exponent = 0
    single = suspected = False
    remark = "A is known by its products alone: the backward error is normwise, and there is no scaled test"

    def __init__(self, operator: Any, symmetric: bool) -> None:
        self._operator = operator
        self.unknowns = int(operator.shape[0])
        self.is_complex = np.dtype(operator.dtype).kind == "c"
        self.symmetric = symmetric
        self.kind = "nonsymmetric" if not symmetric else "hermitian" if self.is_complex else "symmetric-indefinite"
        self.why = f"symmetric={symmetric} was given"

    def apply(self, x: Array, out: Array) -> Array:
        """Write `out ← A x`, and return `out`; ValueError where the operator returns anything but such a vector."""
        image = np.asarray(self._operator.matvec(as_field(x, self.is_complex).copy()))
        kinds = "fciu" if self.is_complex else "fiu"
        if image.size != self.unknowns or image.dtype.kind not in kinds:
            raise ValueError(
                f"operator must give {'numbers' if self.is_complex else 'real numbers'} of shape ({self.unknowns},), "
                f"got {image.dtype} of shape {image.shape}"
            )
        as_field(out, self.is_complex)[...] = image.reshape(-1)
        return out

    def residual(self, b: Array, x: Array, out: Array) -> float:
        """Write `out ← b − A x`, and return its norm."""
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(b, self.apply(x, out), out=out)
            return norm_of(out)

    def project(self, v: Array) -> Array:
        """Return `v` unchanged: the null vectors of an operator are not known."""
        return v

    def defect(self, b: Array) -> tuple[float, int]:
        return 0.0, 0


def prepare_operator(operator: Any, solver: Any, properties: MatrixProperties) -> PreparedMatrix:
    """Check an operator and its properties, and set up a method; ValueError or TypeError naming the argument."""
    chosen = resolve_solver(solver)
    start = time.perf_counter()
    shape = tuple(operator.shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"operator must be square, with at least one row, got shape {shape}")
    dtype = np.dtype(operator.dtype) if operator.dtype is not None else None
    if dtype is None or dtype.kind not in "iufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise TypeError(
            f"operator must have dtype float32, float64, complex64, complex128 or integers, got dtype {dtype}"
        )
    if properties.symmetric is None:
        raise ValueError(
            "symmetric must be True (Hermitian, where it is complex) or False for an operator without stored entries, "
            "got None"
        )
    said = properties.validate(shape[0])
    for name in ("near_null", "coordinates", "block_size"):
        if getattr(said, name) is not None:
            raise ValueError(f"{name} must be None for an operator without stored entries, which has no set-up")
    system = OperatorSystem(operator, bool(said.symmetric))
    if chosen.name not in WITHOUT_ENTRIES:
        raise ValueError(
            f"solver must be one of {', '.join(WITHOUT_ENTRIES)} for an operator without stored entries, "
            f"got {chosen.name!r}"
        )
    reason = ""
    method: MatrixSolver = chosen
    if chosen.name == "auto":
        method = MatrixMINRES() if system.symmetric else MatrixGMRES()
        reason = f"auto chose {method.name}: an operator without stored entries, symmetric={system.symmetric}"
    elif system.kind not in chosen.kinds:
        raise ValueError(f"solver {chosen.name!r} is for symmetric operators, got symmetric=False")
    if said.M is not None:
        method = use_map(method, said.M, system)  # type: ignore[arg-type]
    engine = method.prepare_matrix(system)  # type: ignore[arg-type]
    engine.reason = reason
    return PreparedOperator(system, chosen, engine, time.perf_counter() - start)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class PreparedOperator(PreparedMatrix):
    """A method for one operator without stored entries, from `prepare`; there is no set-up."""

    def _figures(self, b: Array, x: Array) -> Figures:
        image = self.system.apply(x, np.empty_like(x))
        with np.errstate(over="ignore", invalid="ignore"):
            return normwise_figures(b - image, image, b)
