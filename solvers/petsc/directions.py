"""PETSc's Krylov method of type python: the outer iteration of deep conjugate directions, with any preconditioner."""

# Imported on first use, for its weight: petsc4py.

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from relaxon.solvers.dcdm.outer import NEGLIGIBLE
from relaxon.solvers.petsc.layout import end_before_python

WINDOW = 1


class DeepConjugateDirections:
    """`-ksp_type python -ksp_python_type relaxon.solvers.petsc.DeepConjugateDirections`.

    `d = M r`, made A-orthogonal to the last directions `p` by `d ← d − p (pᵀAd)/(pᵀAp)`; `α = dᵀr / dᵀAd`;
    `x ← x + αd`. `M` is the KSP's preconditioner, which need be neither symmetric nor linear; `A` is symmetric and
    positive definite, or semi-definite with `MatSetNullSpace`. Where `M r` gives no descent, the step is taken along
    `r`. Tolerances, monitors and the convergence test are PETSc's, on the unpreconditioned norm of the residual; once
    it says yes the residual is computed anew, and the iteration goes on from that where it does not meet the test.

    Source: Kaneda, Akar, Chen, Kala, Hyde, Teran, ICML 2023, algorithm 1.

    Options, with the solver's prefix: `-ksp_relaxon_window <1>`: directions to orthogonalise against, from 1 on.
    """

    def __init__(self) -> None:
        self.window = WINDOW
        self.fallbacks = 0
        """Steps of the last solve that were taken along the residual."""
        self._vectors: list[Any] = []
        end_before_python()

    def setFromOptions(self, ksp: Any) -> None:
        """Read `-ksp_relaxon_window`."""
        from petsc4py import PETSc

        window = PETSc.Options(ksp.getOptionsPrefix() or "").getInt("ksp_relaxon_window", WINDOW)
        if window < 1:
            raise ValueError(f"ksp_relaxon_window must be at least 1, got {window}")
        self.window = window

    def setUp(self, ksp: Any) -> None:
        """Make the work vectors."""
        matrix, _ = ksp.getOperators()
        self._release()
        self._vectors = [matrix.createVecRight() for _ in range(2 + 2 * (self.window + 1))]

    def solve(self, ksp: Any, b: Any, x: Any) -> None:
        """Iterate until PETSc's convergence test says stop."""
        from petsc4py import PETSc

        matrix, _ = ksp.getOperators()
        null = matrix.getNullSpace()
        null = null if null.handle else None
        r, z = self._vectors[:2]
        directions, images = self._vectors[2 : 3 + self.window], self._vectors[3 + self.window :]
        search = _Search(ksp.getPC(), matrix, null, r, z, directions, images)

        def renew() -> float:
            matrix.mult(x, r)
            r.aypx(-1.0, b)
            return float(r.norm())

        self.fallbacks = 0
        if not ksp.getInitialGuessNonzero():
            x.set(0.0)
        norm = renew()
        recomputed = True
        step = 0
        while True:
            if self._ask_to_stop(ksp, norm):
                if recomputed or ksp.getConvergedReason() <= 0:
                    return
                norm, recomputed = renew(), True
                if ksp.callConvergenceTest(ksp.getIterationNumber(), norm) > 0:
                    ksp.setResidualNorm(norm)
                    return
                ksp.setConvergedReason(PETSc.KSP.ConvergedReason.ITERATING)
                search.past = []
            slot = step % (self.window + 1)
            curvature, projection = search.find(slot, norm)
            self.fallbacks = search.fallbacks
            if not curvature > 0:
                broken = PETSc.KSP.ConvergedReason
                reason = broken.DIVERGED_NANORINF if not math.isfinite(curvature) else broken.DIVERGED_INDEFINITE_MAT
                ksp.setConvergedReason(reason)
                return
            alpha = projection / curvature
            x.axpy(alpha, directions[slot])
            r.axpy(-alpha, images[slot])
            search.past = [(slot, curvature), *search.past][: self.window]
            norm, recomputed = float(r.norm()), False
            step += 1
            ksp.setIterationNumber(ksp.getIterationNumber() + 1)

    def view(self, ksp: Any, viewer: Any) -> None:
        """Print what it is, for `-ksp_view`."""
        viewer.printfASCII(f"  relaxon: deep conjugate directions, window {self.window}\n")

    def destroy(self, ksp: Any) -> None:
        """Give the work vectors back."""
        self._release()

    def _release(self) -> None:
        for vector in self._vectors:
            vector.destroy()
        self._vectors = []

    @staticmethod
    def _ask_to_stop(ksp: Any, norm: float) -> bool:
        """Tell PETSc of a residual's norm and ask whether to stop."""
        steps = ksp.getIterationNumber()
        ksp.setResidualNorm(norm)
        ksp.logConvergenceHistory(norm)
        ksp.monitor(steps, norm)
        reason = ksp.callConvergenceTest(steps, norm)
        if reason:
            ksp.setConvergedReason(reason)
        elif steps >= ksp.getTolerances()[3]:
            ksp.setConvergedReason(-3)  # KSP_DIVERGED_ITS
            return True
        return bool(reason)


@dataclass(slots=True)
class _Search:
    """The search for directions of one solve: PETSc's objects, and slots for the last directions and their images."""

    pc: Any
    matrix: Any
    null: Any
    r: Any
    z: Any
    directions: list[Any]
    images: list[Any]
    past: list[tuple[int, float]] = field(default_factory=list)
    """The slot and the curvature of earlier directions, the last one first."""
    fallbacks: int = 0

    def find(self, slot: int, norm: float) -> tuple[float, float]:
        """Put the next direction and its image into `slot`; return its curvature `dᵀAd` and projection `dᵀr`."""
        self.pc.apply(self.r, self.z)
        found = self._make_conjugate(slot, self.past)
        if found[0] > 0 and abs(found[1]) > NEGLIGIBLE * norm * math.sqrt(found[0]):
            return found
        self.fallbacks += 1
        self.r.copy(self.z)
        found = self._make_conjugate(slot, self.past)
        return found if found[0] > 0 else self._make_conjugate(slot, [])

    def _make_conjugate(self, slot: int, past: list[tuple[int, float]]) -> tuple[float, float]:
        d, image = self.directions[slot], self.images[slot]
        self.z.copy(d)
        if self.null is not None:
            self.null.remove(d)
        if past:
            products = _products(d, [self.images[other] for other, _ in past])
            factors = [-p / c for p, (_, c) in zip(products, past, strict=True)]
            d.maxpy(factors, [self.directions[other] for other, _ in past])
        self.matrix.mult(d, image)
        curvature, projection = _products(d, [image, self.r])
        return curvature, projection


def _products(d: Any, others: list[Any]) -> list[float]:
    """Return inner products with `d`, in one exchange between processes (not every petsc4py has `Vec.mDot`)."""
    for other in others:
        d.dotBegin(other)
    return [float(d.dotEnd(other).real) for other in others]
