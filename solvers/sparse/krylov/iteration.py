"""What the Krylov methods share: the loop of all iterative methods, and products with matrix and preconditioner."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.krylov.iteration import Steps, iterate
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.krylov.vectors import as_field, norm_of
from relaxon.solvers.sparse.system.caller_maps import Map, Vector
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem


class SteppedEngine(MatrixEngine):
    """An engine whose `run` is the loop `iterate` over the method that a subclass gives as `steps`."""

    patience: ClassVar[int]
    """Steps without a new least residual after which a run ends as stagnated."""

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        return iterate(self.steps(b, x, monitor), monitor, max_iterations, self.patience)

    @abstractmethod
    def steps(self, b: Array, x: Array, monitor: Monitor) -> Steps:
        """Yield the residual norm of `x`, then the norm after each step, which improves `x` in place."""


class KrylovEngine(MatrixEngine):
    """A method that knows the matrix and the preconditioner by their products alone, real or complex."""

    def __init__(self, system: MatrixSystem, precondition: Map | None, info: dict[str, float]) -> None:
        self.system, self.precondition = system, precondition
        self.info = info | ({} if system.matrix is None else {"nonzeros": float(system.matrix.nnz)})

    def _residual(self, b: Array, x: Array) -> tuple[Vector, float]:
        """Return `b − A x` and its norm."""
        r = np.empty_like(b)
        norm = self.system.residual(b, x, r)
        return as_field(r, self.system.is_complex), norm

    def _apply_preconditioner(self, r: Vector) -> Vector:
        """Return `M r` in a new array; the preconditioner is applied to a vector of norm 1."""
        if self.precondition is None:
            return r.copy()
        size = norm_of(r)
        if not 0 < size < math.inf:
            return r.copy()
        return np.asarray(np.asarray(self.precondition(r / size)) * size, r.dtype)

    def _image(self, z: Vector) -> Vector:
        """Return `A z`, in double precision."""
        wide = np.complex128 if self.system.is_complex else np.float64
        real = np.ascontiguousarray(z, wide).view(np.float64)
        return as_field(self.system.apply(real, np.empty_like(real)), self.system.is_complex)
