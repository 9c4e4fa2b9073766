"""Which solver for which sparse matrix: the names, and the automatic choice with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from relaxon.solvers.sparse.amg import AlgebraicMultigrid
from relaxon.solvers.sparse.choice.costs import load_costs
from relaxon.solvers.sparse.choice.estimates import Estimate, Estimates, seconds_said
from relaxon.solvers.sparse.choice.indefinite import NOT_DEFINITE, OrIndefinite, prepare_indefinite
from relaxon.solvers.sparse.choice.other_kinds import GENERAL_SOLVERS, prepare_kind
from relaxon.solvers.sparse.choice.watch import Watched
from relaxon.solvers.sparse.direct import DirectFactorisation, FactorTooLargeError, MatrixDirect
from relaxon.solvers.sparse.engine import ALL_KINDS, MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.conjugate_gradients import MatrixCG, MatrixJacobiCG
from relaxon.solvers.sparse.krylov.incomplete_cholesky import MatrixIncompleteCholeskyCG
from relaxon.solvers.sparse.krylov.pyamg_cycle import AlgebraicMultigridCG
from relaxon.solvers.sparse.learned import DeepConjugateDirectionMultigrid
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

SMALL = 1_000
"""Unknowns up to which a factor takes milliseconds, were it full."""
TRIAL = 0.25
"""A method may be tried where its set-up and ten iterations cost at most this part of what is expected without it."""
WORTH_COUNTING = 2.0
"""A factor whose operations, counted, take more than so many times the next solver's seconds is not begun."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A solver, in a sentence why it, and the estimates that it was chosen by, cheapest first, where there were any."""

    solver: MatrixSolver
    reason: str
    estimates: Estimates | None = None
    ranked: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True)
class Automatic(MatrixSolver):
    """What is expected to be quickest, by a cost model of the solvers; where it turns out slow, another goes on.

    The estimates are seconds by constants that `bench/sparse_choice.py` has fitted, from the size of the matrix, a
    sample of its rows and the levels of its graph. An iterative method is watched: when what it still needs, at the
    rate so far, is more than another would take from the start, that one is set up. Clocks are not looked at, so that
    the same matrix is solved by the same steps. `Solution.message` has the choice and the reason.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "chooses by the matrix, and says why"
    kinds: ClassVar[tuple[str, ...]] = ALL_KINDS

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        if system.kind != "spd":
            return prepare_kind(system)
        try:
            return OrIndefinite(system, self._definite(system))
        except ValueError as error:
            if not str(error).startswith(NOT_DEFINITE):
                raise
            return prepare_indefinite(system, str(error))

    def _definite(self, system: MatrixSystem) -> MatrixEngine:
        """Set up what suits a positive definite matrix; ValueError where a factor finds that it is none."""
        choice = choose(system)
        name, reason = _name(choice.solver), choice.reason
        if choice.estimates is not None and name == "amg":
            near_null = choice.estimates.nodal.near_null
            if near_null is not None:
                reason = f"{reason}, in blocks of {near_null.block_size} by its pattern"
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
    """What is set up for a matrix, one after the other where a method turns out slow."""

    def __init__(self, estimates: Estimates) -> None:
        self.estimates = estimates
        self.tried: set[str] = set()
        self.refused: dict[str, Estimate] = {}
        """Factors that took too much, counted, when they were thought of, with what they take."""
        self._others: list[Estimate] | None = None

    def begin(self, ranked: Sequence[Estimate]) -> tuple[Estimate, MatrixEngine]:
        """Set up the first; where that is a factor that takes twice what the next one does, or is too large, that."""
        for one, following in pairwise(ranked):
            engine = self.set_up(one, WORTH_COUNTING * following.seconds)
            if engine is not None:
                return one, engine
        solver = MATRIX_SOLVERS[ranked[-1].solver]
        self.tried.add(ranked[-1].solver)
        return ranked[-1], solver.prepare_matrix(self.estimates.system_of(ranked[-1].solver))

    def follow(self, system: MatrixSystem, begun: str) -> Successors:
        """Return those for new values on the same pattern, where a solver of that name has begun."""
        made = Successors(self.estimates.follow(system))
        made.tried.add(begun)
        return made

    def cheapest(self, seconds: float) -> Estimate | None:
        """Return what may take less than so many seconds, and least; None where nothing does.

        Iterations are foretold badly: a method of which ten cost little beside these seconds is tried where it might
        be as good as few are.
        """
        # Not before any could be: it takes as long as some iterations to count the graph's levels.
        if self._others is None and seconds > self.estimates.least_seconds:
            self._others = self.estimates.others(self.tried)
        found = [one if one.trial_seconds > TRIAL * seconds else one.at_best() for one in self._others or []]
        best = min([*found, *self.refused.values()], key=lambda one: one.seconds, default=None)
        return best if best is not None and best.seconds < seconds else None

    def set_up(self, chosen: Estimate, seconds: float) -> MatrixEngine | None:
        """Set up what was chosen; None where it is a factor that, counted, takes more than so many seconds, which may
        be asked for again when more are left to be saved, or does not fit into memory. ValueError where it finds that
        the matrix is not positive definite."""
        self.tried.add(chosen.solver)
        if self._others is not None:
            self._others = [one for one in self._others if one.solver != chosen.solver]
        solver, system = MATRIX_SOLVERS[chosen.solver], self.estimates.system_of(chosen.solver)
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


def choose(system: MatrixSystem) -> Choice:
    """The solver that is expected to answer one right-hand side soonest, set-up included."""
    n = system.unknowns
    if system.near_null is not None:
        return Choice(MATRIX_SOLVERS["amg"], system.near_null.said)
    if n <= SMALL:
        return Choice(MATRIX_SOLVERS["scipy-direct"], f"{n} unknowns are few enough to factor, whatever the pattern")
    if _is_tridiagonal(system.matrix):
        return Choice(MATRIX_SOLVERS["ic-cg"], "tridiagonal, so that an incomplete factor is complete")
    estimates = Estimates.of(system, load_costs())
    ranked = estimates.first()
    first = ranked[0]
    count = f", {first.iterations:.0f} iterations" if first.iteration_seconds > 0 else ""
    reason = f"about {seconds_said(first.seconds)} expected{count}"
    if len(ranked) > 1:
        reason = f"{reason}; {', '.join(map(str, ranked[1:3]))}"
    if estimates.trial > 0:
        reason = f"{reason}; on a piece of the matrix multigrid converged slowly"
    return Choice(MATRIX_SOLVERS[first.solver], reason, estimates, tuple(ranked))


def _is_tridiagonal(matrix: Any) -> bool:
    n = matrix.shape[0]
    if matrix.nnz > 3 * n:
        return False
    rows = np.flatnonzero(np.diff(matrix.indptr))
    first, last = matrix.indices[matrix.indptr[rows]], matrix.indices[matrix.indptr[rows + 1] - 1]
    return bool((first >= rows - 1).all() and (last <= rows + 1).all())


def named(name: str, peers: bool = False) -> MatrixSolver:
    """The matrix solver of that name; ValueError for one that is unknown or needs a grid.

    With `peers`, those of other libraries in `relaxon.solvers.sparse.peers` too.
    """
    if name in MATRIX_SOLVERS:
        return MATRIX_SOLVERS[name]
    if peers:
        from relaxon.solvers.sparse.peers import PEERS

        if name in PEERS:
            return PEERS[name]
    from relaxon.solvers.driver.registry import list_solvers

    hint = ""
    if name in {entry.name for entry in list_solvers()}:
        hint = ", which needs a grid"
    elif near := get_close_matches(name, MATRIX_SOLVERS, 1):
        hint = f"; did you mean {near[0]!r}?"
    raise ValueError(f"solver must be one of {', '.join(MATRIX_SOLVERS)} for a sparse matrix, got {name!r}{hint}")


def _name(solver: MatrixSolver) -> str:
    return next((name for name, known in MATRIX_SOLVERS.items() if known == solver), solver.name)
