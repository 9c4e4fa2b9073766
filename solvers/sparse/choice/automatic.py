"""The solvers of sparse matrices by name, and the automatic choice among them with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import ClassVar

import numpy as np

from relaxon.solvers.interface.registry import list_solvers
from relaxon.solvers.sparse.amg import AlgebraicMultigrid
from relaxon.solvers.sparse.choice.costs import load_costs
from relaxon.solvers.sparse.choice.estimates import Estimate, Estimates, format_seconds
from relaxon.solvers.sparse.choice.indefinite import NOT_DEFINITE, Negated, OrIndefinite, negate, prepare_indefinite
from relaxon.solvers.sparse.choice.other_kinds import GENERAL_SOLVERS, prepare_kind
from relaxon.solvers.sparse.choice.watch import Watched
from relaxon.solvers.sparse.direct import DirectFactorisation, FactorTooLargeError, MatrixDirect
from relaxon.solvers.sparse.engine import ALL_KINDS, MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.conjugate_gradients import (
    MatrixCG,
    MatrixIncompleteCholeskyCG,
    MatrixJacobiCG,
    is_tridiagonal,
)
from relaxon.solvers.sparse.krylov.pyamg_cycle import AlgebraicMultigridCG
from relaxon.solvers.sparse.learned import DeepConjugateDirectionMultigrid
from relaxon.solvers.sparse.peers import PEERS
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem, real_form

SMALL = 1_000
"""Unknowns up to which even a full factor takes milliseconds."""
TRIAL = 0.25
"""A method may be tried where its set-up and ten iterations cost at most this fraction of what is expected without."""
HARD = ("ic-cg", "jacobi-cg")
"""Solvers that take more iterations wherever another one does."""
SHORT = 2.0
"""Factor by which a method falls short of expectations from which no luck is expected of these."""
WORTH_COUNTING = 2.0
"""A factor is not begun where its operations, once counted, take more than this many times the next solver's
seconds."""


@dataclass(frozen=True, slots=True)
class MatrixChoice:
    """A solver, the reason in a sentence, and the estimates it was chosen by, cheapest first, where there were any."""

    solver: MatrixSolver
    reason: str
    estimates: Estimates | None = None
    ranked: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True)
class Automatic(MatrixSolver):
    """The solver that is expected to be fastest by a cost model; where it turns out slow, another one takes over.

    Seconds are estimated by constants fitted by `bench/sparse_choice.py`, from the size of the matrix, a sample of its
    rows and the levels of its graph. An iterative method is monitored: when what it still needs, at its rate so far, is
    more than another method would take from the start, that one is set up. No clock is read, so that the same matrix is
    solved by the same steps. `Solution.message` has the choice and the reason.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "chooses by the matrix, and says why"
    kinds: ClassVar[tuple[str, ...]] = ALL_KINDS

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        if system.kind == "hermitian" and (form := real_form(system)).kind == "spd":
            engine = self.prepare_matrix(form)
            engine.reason = engine.reason.replace(": ", ": a Hermitian matrix as a real one of twice its size, ", 1)
            return engine
        if (negated := negate(system)) is not None:
            return Negated(system, self.prepare_matrix(negated))
        if system.kind != "spd":
            return prepare_kind(system)
        try:
            return OrIndefinite(system, self._definite(system))
        except ValueError as error:
            if not str(error).startswith(NOT_DEFINITE):
                raise
            return prepare_indefinite(system, str(error))

    def _definite(self, system: MatrixSystem) -> MatrixEngine:
        """Set up what suits a positive definite matrix; ValueError where a factor finds that it is not definite."""
        choice = choose(system)
        name, reason = _find_name(choice.solver), choice.reason
        if choice.estimates is None:
            engine = choice.solver.prepare_matrix(system)
        else:
            successors = Successors(choice.estimates)
            first, engine = successors.begin(choice.ranked)
            if first is not choice.ranked[0]:
                reason = f"{reason}; its factor takes more than was expected: {first.solver} began"
            if first.iteration_seconds > 0:
                engine = Watched(system, engine, first, successors)
        engine.reason = "; ".join(part for part in (f"auto chose {name}: {reason}", engine.reason) if part)
        return engine


class Successors:
    """The methods set up for a matrix, one after the other as each turns out slow."""

    def __init__(self, estimates: Estimates) -> None:
        self.estimates = estimates
        self.tried: set[str] = set()
        self.refused: dict[str, Estimate] = {}
        """Factors that were too expensive, by their counted operations, with what they take."""
        self.shortfall = 1.0
        """How many times more iterations than expected a method took, at most: the matrix is harder than it looks."""
        self._others: list[Estimate] | None = None

    def begin(self, ranked: Sequence[Estimate]) -> tuple[Estimate, MatrixEngine]:
        """Set up the first; where that is a factor that is too large or takes twice what the next one does, the
        next."""
        for one, following in pairwise(ranked):
            engine = self.set_up(one, WORTH_COUNTING * following.seconds)
            if engine is not None:
                return one, engine
        solver = _solver_of(ranked[-1])
        self.tried.add(ranked[-1].solver)
        return ranked[-1], solver.prepare_matrix(self.estimates.system_of(ranked[-1].solver))

    def follow(self, system: MatrixSystem, begun: str) -> Successors:
        """Return the successors for new values on the same pattern, where the solver of that name has begun."""
        successors = Successors(self.estimates.follow(system))
        successors.tried.add(begun)
        return successors

    def cheapest(self, seconds: float, shortfall: float = 1.0) -> Estimate | None:
        """Return the cheapest method that may take less than that many seconds; None where none does.

        As iteration counts are predicted badly, a method of which ten iterations cost little beside these seconds is
        judged by the fewest it might take. Where the one that runs falls short of expectations by some factor, so do
        conjugate gradients without multigrid.
        """
        self.shortfall = max(self.shortfall, shortfall)
        # Only once one could be cheaper: counting the levels of the graph takes as long as some iterations.
        if self._others is None and seconds > self.estimates.least_seconds:
            self._others = self.estimates.others(self.tried)
        others = [one.times(self.shortfall if one.solver in HARD else 1.0) for one in self._others or []]
        hopeful = () if self.shortfall >= SHORT else HARD
        lucky = [one.solver in (*hopeful, "amg") and one.trial_seconds <= TRIAL * seconds for one in others]
        found = [one.at_best() if luck else one for one, luck in zip(others, lucky, strict=True)]
        best = min([*found, *self.refused.values()], key=lambda one: one.seconds, default=None)
        return best if best is not None and best.seconds < seconds else None

    def set_up(self, chosen: Estimate, seconds: float) -> MatrixEngine | None:
        """Set up the chosen method; None where it is a factor that takes more than that many seconds, by its counted
        operations, or that does not fit into memory. The first may be chosen again when more seconds are at stake.

        ValueError where it finds that the matrix is not positive definite.
        """
        self.tried.add(chosen.solver)
        if self._others is not None:
            self._others = [one for one in self._others if one.solver != chosen.solver]
        solver, system = _solver_of(chosen), self.estimates.system_of(chosen.solver)
        if not isinstance(solver, DirectFactorisation | MatrixDirect):
            return solver.prepare_matrix(system)
        factors = solver if isinstance(solver, DirectFactorisation) else DirectFactorisation("superlu")
        factoriser = factors.analyse(system)
        size = factoriser.size
        counted = 0.0 if size is None else self.estimates.factored(chosen.solver, size.flops)
        self.refused.pop(chosen.solver, None)
        if counted > seconds:
            self.refused[chosen.solver] = replace(chosen, seconds=counted)
            return None
        try:
            return factors.factor(system, factoriser)
        except FactorTooLargeError:
            return None


MATRIX_SOLVERS: dict[str, MatrixSolver] = {
    "auto": Automatic(),
    "amg": AlgebraicMultigrid(),
    "dcdm": DeepConjugateDirectionMultigrid(),
    "pyamg-sa": AlgebraicMultigridCG("sa"),
    "pyamg-rs": AlgebraicMultigridCG("rs"),
    "ic-cg": MatrixIncompleteCholeskyCG(),
    "jacobi-cg": MatrixJacobiCG(),
    "cg": MatrixCG(),
    "direct": DirectFactorisation(),
    "scipy-direct": MatrixDirect(),
    **GENERAL_SOLVERS,
}


def choose(system: MatrixSystem) -> MatrixChoice:
    """Choose the solver that is expected to be fastest for one right-hand side, set-up included."""
    n = system.unknowns
    if system.near_null is not None:
        said, estimates = system.near_null.said, Estimates.of(system, load_costs())
        if n <= SMALL or system.null_vectors or system.null.dimension:  # which others do not solve
            return MatrixChoice(MATRIX_SOLVERS["amg"], said)
        return MatrixChoice(MATRIX_SOLVERS["amg"], said, estimates, (estimates.of_nodes(),))
    if n <= SMALL:
        return MatrixChoice(
            MATRIX_SOLVERS["scipy-direct"], f"{n} unknowns are few enough to factor, whatever the pattern"
        )
    if is_tridiagonal(system.matrix) and not _closes_a_part(system):
        return MatrixChoice(MATRIX_SOLVERS["ic-cg"], "tridiagonal, so that an incomplete factor is complete")
    estimates = Estimates.of(system, load_costs())
    ranked = estimates.first()
    first = ranked[0]
    count = f", {first.iterations:.0f} iterations" if first.iteration_seconds > 0 else ""
    reason = f"about {format_seconds(first.seconds)} expected{count}"
    if len(ranked) > 1:
        reason = f"{reason}; {', '.join(map(str, ranked[1:3]))}"
    if estimates.trial > 0:
        reason = f"{reason}; on a piece of the matrix multigrid converged slowly"
    return MatrixChoice(MATRIX_SOLVERS[first.solver], reason, estimates, tuple(ranked))


def _closes_a_part(system: MatrixSystem) -> bool:
    """Return whether null vectors are more than the empty rows: the last pivot of such a part's factor is rounding."""
    return bool(system.null.dimension > np.count_nonzero(system.diagonal == 0))


def all_matrix_solvers() -> dict[str, MatrixSolver]:
    """Return the solvers of sparse matrices by name, those of other libraries last, installed or not."""
    return {**MATRIX_SOLVERS, **PEERS}


def find_solver(name: str, peers: bool = False) -> MatrixSolver:
    """Return the matrix solver of that name; ValueError for one that is unknown or needs a grid.

    With `peers`, the solvers of other libraries in `relaxon.solvers.sparse.peers` are found too.
    """
    if name in MATRIX_SOLVERS:
        return MATRIX_SOLVERS[name]
    if peers and name in PEERS:
        return PEERS[name]
    hint = ""
    if name in {entry.name for entry in list_solvers()}:
        hint = ", which needs a grid"
    elif near := get_close_matches(name, MATRIX_SOLVERS, 1):
        hint = f"; did you mean {near[0]!r}?"
    raise ValueError(f"solver must be one of {', '.join(MATRIX_SOLVERS)} for a sparse matrix, got {name!r}{hint}")


def _solver_of(estimate: Estimate) -> MatrixSolver:
    return MATRIX_SOLVERS[estimate.solver.split()[0]]


def _find_name(solver: MatrixSolver) -> str:
    return next((name for name, known in MATRIX_SOLVERS.items() if known == solver), solver.name)
