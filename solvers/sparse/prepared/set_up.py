"""The set-up of a named method for a sparse matrix: whether it accepts the matrix's kind, elimination, `M`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from relaxon.solvers.interface.elimination import DECIDED, WEAK, MatrixElimination
from relaxon.solvers.precompile import compiling
from relaxon.solvers.sparse.choice.automatic import MATRIX_SOLVERS, find_solver
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.conjugate_directions import ConjugateDirectionsWith
from relaxon.solvers.sparse.krylov.gmres import MatrixGMRES
from relaxon.solvers.sparse.krylov.minres import MatrixMINRES
from relaxon.solvers.sparse.system.matrix_kinds import NAMES
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem, real_form
from relaxon.solvers.sparse.system.properties import MatrixProperties


class RowElimination(MatrixElimination):
    """The elimination of unknowns with `|a_ii| ≥ 10⁴ Σ_{j≠i}|a_ij|` whose couplings, there and back, are as weak.

    Rows with only a diagonal entry are among them whatever their columns hold, so that the rest may be symmetric.
    """

    @classmethod
    def of(cls, system: MatrixSystem) -> RowElimination | None:
        """Return the elimination for a system, None where no unknown is decided."""
        a = abs(system.matrix)
        diagonal = np.abs(system.diagonal)
        decided = (diagonal > 0) & (diagonal >= DECIDED * (np.asarray(a.sum(axis=1)).ravel() - diagonal))
        if not decided.any():
            return None
        inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        shares = a.multiply(a.T).tocsr() @ inverse * inverse - (inverse > 0)
        decided &= shares * DECIDED <= 1.0 + WEAK
        return cls(system, decided) if decided.any() else None

    def __init__(self, system: MatrixSystem, decided: np.ndarray) -> None:
        super().__init__(system, decided)
        self._symmetric = False if system.symmetric is False else None

    def system(self) -> MatrixSystem:
        """Return the system of the other unknowns, of which there must be some; its kind is determined anew."""
        left = self._system.matrix[self.index][:, self.index]
        rest = MatrixSystem.of(left, MatrixProperties(symmetric=self._symmetric))
        return replace(rest, kept=self.index, whole=len(self.decided))


DEFAULT_SOLVER = "auto"
TAKE_MAPS = ("gmres", "bicgstab", "minres")
"""Solvers that accept a caller's preconditioner, besides "auto"."""


def resolve_solver(solver: Any) -> MatrixSolver:
    """Return the solver of that name, "auto" for None; TypeError for neither a name nor a `MatrixSolver`."""
    if solver is None:
        solver = DEFAULT_SOLVER
    chosen = find_solver(solver, peers=True) if isinstance(solver, str) else solver
    if not isinstance(chosen, MatrixSolver):
        raise TypeError(f"solver must be a name or a MatrixSolver for a sparse matrix, got {type(solver).__name__}")
    return chosen


def find_elimination(system: MatrixSystem) -> MatrixElimination | None:
    """Return the elimination of unknowns that their own diagonal decides; None where there are none."""
    if system.kind == "spd":
        return MatrixElimination.of(system)
    if system.is_complex:
        return None
    return RowElimination.of(system)


def set_up(solver: MatrixSolver, system: MatrixSystem, M: Any) -> MatrixEngine:
    """Set up a solver for what elimination leaves of a system; ValueError where the solver does not accept its kind."""
    if M is not None:
        method = use_map(solver, M, system)
        engine = method.prepare_matrix(system)
        if solver.name == "auto":
            engine.reason = f"auto chose {method.name}: with the preconditioner given, for {NAMES[system.kind]} matrix"
        return engine
    if system.kind == "hermitian" and "hermitian" not in solver.kinds and "spd" in solver.kinds:
        form = real_form(system)
        if form.kind == "spd":
            return solver.prepare_matrix(form)
    refuse_kind(solver, system)
    if system.kind == "nonsymmetric" and solver.name == "auto" and not system.is_complex:
        compiling.compile_kind(compiling.kind_of("gmres", system.matrix))
    return solver.prepare_matrix(system)


def refuse_kind(solver: MatrixSolver, system: MatrixSystem) -> None:
    """Raise ValueError where a solver does not accept matrices of the system's kind."""
    if system.kind not in solver.kinds:
        fit = [name for name, one in MATRIX_SOLVERS.items() if system.kind in one.kinds]
        negative = system.kind == "symmetric-indefinite" and (system.diagonal < 0).all()
        hint = "; its negative may be definite: pass -A and -b, or leave the choice to auto" if negative else ""
        raise ValueError(
            f"solver {solver.name!r} is for {' or '.join(NAMES[kind] for kind in solver.kinds)} matrix, got "
            f"{NAMES[system.kind]} one: {system.why}; for that there are {', '.join(fit)}{hint}"
        )


def use_map(solver: MatrixSolver, M: Any, system: MatrixSystem) -> MatrixSolver:
    """Return the solver with `M` as its preconditioner; for "auto", the method that suits the system's kind.

    ValueError where the solver accepts no caller's preconditioner.
    """
    if solver.name == "auto":
        by_kind: dict[str, MatrixSolver] = {
            "spd": ConjugateDirectionsWith(M),
            "symmetric-indefinite": MatrixMINRES(M),
            "hermitian": MatrixMINRES(M),
        }
        return by_kind.get(system.kind, MatrixGMRES(M))
    refuse_kind(solver, system)
    if solver.name not in TAKE_MAPS:
        raise ValueError(
            f"M must be None with solver {solver.name!r}, which has a preconditioner of its own or none; "
            f"{', '.join(TAKE_MAPS)} and auto take one"
        )
    return replace(solver, preconditioner=M)  # type: ignore[type-var]
