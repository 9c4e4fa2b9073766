"""Sparse direct solvers: by the fastest library that is installed, and by SciPy's SuperLU."""

# Imported on first use, for their weight: `multifrontal`, `pivoted`, `superlu`, `supernodal`.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from relaxon.core.available_memory import find_available_memory
from relaxon.core.extras import find_missing, install_command, require
from relaxon.solvers.sparse.direct.engine import DirectEngine
from relaxon.solvers.sparse.direct.factoriser import DEFINITE, FactorError, Factoriser
from relaxon.solvers.sparse.direct.symbolic import FactorSize
from relaxon.solvers.sparse.engine import ALL_KINDS, MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

DIRECT_LIMIT = 300_000
"""Unknowns up to which `scipy-direct` computes a factor: in three dimensions it then takes some gigabytes."""
NEEDS = ("rslab",)
"""The modules of the extra `direct`."""
WITHOUT = f"a sparse factor, own or by SuperLU; by rslab, which is faster, after: {install_command('direct')}"
"""The summary where rslab is not installed."""
OWN = "multifrontal"
OWN_FROM = 10_000
"""Unknowns from which the own factor is worth loading its kernels, or compiling them on a new machine."""
OWN_WORK = 5e4
"""Operations a row up to which the own factor is faster than rslab's, which dissects large ones (`bench/direct.py`)."""


class FactorTooLargeError(ValueError):
    """A factor would take more memory than is available; `size` is its predicted size."""

    def __init__(self, size: FactorSize, available: int) -> None:
        super().__init__(
            f"operator's factor must fit into memory: its {size.entries:.3g} entries would take about "
            f"{size.memory_bytes / 1e9:.3g} GB, {available / 1e9:.3g} GB are available; an iterative solver, such as "
            "'amg', needs little more than the matrix"
        )
        self.size = size


@dataclass(frozen=True, slots=True)
class DirectFactorisation(MatrixSolver):
    """A sparse factor with iterative refinement, compiled here or by a library.

    Parameters
    ----------
    library : "multifrontal", compiled here, for symmetric positive definite matrices; "rslab" (extra: direct);
        "superlu"; or "auto": the first one for at least 10,000 unknowns and moderate fill, otherwise rslab, or where
        that is not installed, the first one for large matrices and SuperLU for small or other ones.

    Before the factorisation, its entries, operations and memory are counted from the pattern; `FactorTooLargeError`, a
    ValueError, where the memory is not available. ValueError, too, where a matrix of the kind "spd" is not positive
    definite. `Solution.info` has `factor_nonzeros`, `factor_flops` and `factor_bytes`.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import gallery, solve
    >>> a = gallery.matrix("elasticity-2d", 2_000)
    >>> solution = solve(a, np.ones(a.shape[0]), solver="direct", rtol=1e-12)
    >>> solution.result.name, solution.iterations <= 2
    ('CONVERGED', True)
    """

    library: Literal["auto", "multifrontal", "rslab", "superlu"] = "auto"
    name: ClassVar[str] = "direct"
    kinds: ClassVar[tuple[str, ...]] = ALL_KINDS
    summary: ClassVar[str] = "a sparse factor, own or by rslab" if not find_missing(NEEDS) else WITHOUT

    def __post_init__(self) -> None:
        if self.library not in ("auto", "multifrontal", "rslab", "superlu"):
            raise ValueError(f"library must be 'auto', 'multifrontal', 'rslab' or 'superlu', got {self.library!r}")

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        factoriser = self.analyse(system)
        engine = self.factor(system, factoriser)
        if self.library == "auto" and factoriser.library == "SuperLU":
            engine.reason = (
                f"factored by SuperLU, as rslab is not installed, which is faster: {install_command('direct')}"
            )
        return engine

    def factor(self, system: MatrixSystem, factoriser: Factoriser) -> DirectEngine:
        """Factor a system with an analysed pattern; the errors are those of `prepare_matrix`."""
        size, available = factoriser.size, find_available_memory()
        if size is not None and available is not None and size.memory_bytes > available:
            raise FactorTooLargeError(size, available)
        try:
            return DirectEngine.of(system, factoriser)
        except ValueError:
            if self.library != "auto" or factoriser.library != OWN:
                raise
        # Where a matrix is singular by more than constants, libraries still solve for loads in its range.
        return self.factor(system, self._analyse_by_library(system))

    def analyse(self, system: MatrixSystem) -> Factoriser:
        """Return the analysis of the system's pattern, whose `size` is that of the factor to come."""
        if self.library == "rslab":
            require(NEEDS, "solver 'direct' with library 'rslab'")
        return self._analyse_own(system) or self._analyse_by_library(system)

    def _analyse_by_library(self, system: MatrixSystem) -> Factoriser:
        if self.library == "superlu" or find_missing(NEEDS):
            from relaxon.solvers.sparse.direct.superlu import SuperLUFactoriser

            return SuperLUFactoriser(system.regular(), system.kind)
        from relaxon.solvers.sparse.direct.supernodal import SupernodalFactoriser

        return SupernodalFactoriser(system.regular(), system.kind)

    def _analyse_own(self, system: MatrixSystem) -> Factoriser | None:
        """Return the analysis for the own factor; None where another library is to be used."""
        if self.library == OWN and system.kind != DEFINITE:
            raise ValueError(
                f"library 'multifrontal' is for a symmetric positive definite matrix, got a {system.kind} one"
            )
        large = system.kind == DEFINITE and system.unknowns >= OWN_FROM
        if self.library != OWN and not (self.library == "auto" and large):
            return None
        from relaxon.solvers.sparse.direct.multifrontal import MultifrontalFactoriser

        unlimited = self.library == OWN or find_missing(NEEDS)
        try:
            return MultifrontalFactoriser(system.regular(), math.inf if unlimited else OWN_WORK * system.unknowns)
        except FactorError:
            return None


@dataclass(frozen=True, slots=True)
class MatrixDirect(MatrixSolver):
    """A sparse factor by SciPy.

    ValueError where the matrix is too large, or where it is of the kind "spd" and not positive definite. Matrices of
    other kinds are factored with pivoting, ValueError where they are singular.
    """

    name: ClassVar[str] = "scipy-direct"
    summary: ClassVar[str] = "SciPy's sparse LU; for small matrices"
    kinds: ClassVar[tuple[str, ...]] = ALL_KINDS

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        if system.unknowns > DIRECT_LIMIT:
            raise ValueError(f"solver 'scipy-direct' takes at most {DIRECT_LIMIT} unknowns, got {system.unknowns}")
        if system.kind != DEFINITE:
            from relaxon.solvers.sparse.direct.pivoted import PivotedFactor

            return PivotedFactor(system)
        from relaxon.solvers.sparse.direct.superlu import SciPyFactoriser

        return DirectEngine.of(system, SciPyFactoriser())
