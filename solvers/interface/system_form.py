"""The form of a system: how a caller's right-hand sides become those of the engine, checked and scaled.

What differs between grids, matrices and distributed grids stands here as abstract methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from math import hypot
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import scaling, validation
from relaxon.core.masked import fill_unused
from relaxon.core.solve_options import SolveOptions
from relaxon.solvers.grid.nullspace import CONSISTENCY
from relaxon.solvers.interface.complex_parts import ComplexRequest, is_complex, split
from relaxon.solvers.interface.elimination import Elimination
from relaxon.solvers.interface.request import Request, RequestMemory
from relaxon.solvers.interface.verdict import Figures


class SingularSystemError(ValueError):
    """`b` is not in the range of a singular operator: a closed pocket of fluid has a net source."""


class NullVectors(Protocol):
    """The null vectors of an operator, a number for each."""

    def defect(self, b: NDArray[np.float64]) -> tuple[float, int]:
        """Return how far `b` is from the range, relative to its worst singular component's total, and which one."""

    def describe(self, number: int) -> str:
        """Return the description of a singular component, for people."""

    def project(self, v: NDArray[np.float64]) -> object:
        """Project the null vectors out of `v`, in place."""


class SystemForm(ABC):
    """A grid's or a matrix's system as it is solved; it makes requests of right-hand sides."""

    __slots__ = ()

    def request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None = None, name: str = "b"
    ) -> Request | ComplexRequest:
        """Check the arguments of a solve and convert its arrays to the engine's form; of a complex `b`, both parts."""
        validation.array_like(name, b)
        b, x0 = fill_unused(name, b, self._find_used), fill_unused("x0", x0, self._find_used)
        if not is_complex(b):
            return self._real_request(b, options, x0, name)
        b = validation.real_or_complex_array(name, b, finite=False)
        starts = (None, None) if x0 is None else split(validation.real_or_complex_array("x0", x0, finite=False))
        parts = split(b)
        # A part that is mere rounding beside the other need not sum to zero.
        sizes = [self._find_largest(self._side(name, part)) for part in parts]
        negligible = self._consistency(parts[0].dtype) * max(sizes)
        real, imaginary = (
            self._real_request(
                part,
                replace(options, inconsistent="project")
                if options.inconsistent == "error" and size <= negligible
                else options,
                start,
                name,
            )
            for part, size, start in zip(parts, sizes, starts, strict=True)
        )
        norm = hypot(*(scaling.scaled(part.b_norm, part.exponent) for part in (real, imaginary)))
        return ComplexRequest(real, imaginary, options.rtol * norm + options.atol, norm)

    def continued(self, last: Request, b: ArrayLike, options: SolveOptions) -> Request:
        """Return a request for a real `b` that starts where an earlier request of this set-up has ended, in its memory.

        The earlier request must not be used afterwards, unless `b` is refused for its form.
        """
        return self._real_request(b, options, None, "b", last)

    def _real_request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None, name: str, last: Request | None = None
    ) -> Request:
        side = validation.real_array(name, b, finite=False)
        right = self._side(name, side, self._spare("b") if last is None else last.b)
        start = self._start(right, x0) if last is None else last.x
        refusal = self._make_consistent(name, right, side.dtype, options.inconsistent)
        norm, exponent = self.norm(right), 0
        if not scaling.is_safe(norm):
            # The squares of very large and very small numbers are not representable: scale the right-hand side first.
            right = self._side(name, side, right)
            exponent = scaling.exponent_of(self._find_largest(right))
            scaling.scale(right, -exponent)
            refusal = self._make_consistent(name, right, side.dtype, options.inconsistent)
            norm = self.norm(right)
        scaling.scale(start, self.exponent - exponent)
        if exponent != self.exponent and not np.isfinite(start).all():
            start.fill(0.0)  # so much larger than the solution that float64 cannot represent both
        self._null.project(start)
        rtol, atol = options.rtol, scaling.scaled(options.atol, -exponent)
        tolerance, packed, warm = rtol * norm + atol, self._is_packed(side), x0 is not None or last is not None
        column = packed and side.ndim == 2
        return Request(
            right,
            start,
            packed,
            tolerance,
            norm,
            options.max_iterations,
            refusal,
            rtol,
            atol,
            exponent,
            warm,
            column=column,
        )

    def _make_consistent(self, name: str, right: NDArray[np.float64], dtype: np.dtype[Any], inconsistent: str) -> str:
        """Project the null vectors out of `right`, in place; return why there is no solution, empty if there is one.

        SingularSystemError if there is none and `inconsistent` is "error".
        """
        defect, component = self._null.defect(right)
        if defect > self._consistency(dtype) and inconsistent != "project":
            which = self._null.describe(component)
            refusal = (
                f"{name} is not in the range of the singular operator: {which} has a net source of {defect:.2e} of its "
                "total; remove it or pass inconsistent='project'"
            )
            if inconsistent == "error":
                raise SingularSystemError(refusal)
            return refusal
        self._null.project(right)
        return ""

    def _start(self, right: NDArray[np.float64], x0: ArrayLike | None) -> NDArray[np.float64]:
        spare = self._spare("x")
        if x0 is not None:
            return self._vector("x0", validation.real_array("x0", x0, finite=False), spare)
        if spare is None:
            return np.zeros_like(right)
        spare.fill(0.0)
        return spare

    @abstractmethod
    def _find_used(self) -> NDArray[np.bool_]:
        """Return where the entries of a whole array are used; masked entries elsewhere do not matter."""

    @property
    def exponent(self) -> int:
        """The exponent `e` such that the caller's operator is `2^e` times the engine's."""
        return 0

    @property
    def elimination(self) -> Elimination | None:
        """The elimination of the unknowns that their own diagonal decides; None if there are none."""
        return None

    @property
    def _remark(self) -> str:
        """What `Solution.message` says about the operator."""
        return ""

    @property
    def _more_info(self) -> dict[str, float]:
        """What `Solution.info` says about the operator."""
        return {} if self.elimination is None else {"eliminated": float(np.count_nonzero(self.elimination.decided))}

    def _consistency(self, dtype: np.dtype[Any]) -> float:
        """Return the largest net source of a component, relative to its total, that counts as rounding of the dtype."""
        return CONSISTENCY[dtype]

    def _find_largest(self, v: NDArray[np.float64]) -> float:
        """Return the largest magnitude in `v`."""
        return float(np.abs(v).max())

    @property
    def _memory(self) -> RequestMemory | None:
        """The memory of earlier requests; None if it is not reused."""
        return None

    def _spare(self, name: str) -> NDArray[np.float64] | None:
        memory = self._memory
        return None if memory is None else memory.take(name)

    @abstractmethod
    def _vector(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return a copy of the caller's array in the engine's form, in `out` if given, which is an earlier result.

        ValueError, naming the argument, for a wrong shape and for entries that are not finite.
        """

    def _side(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the right-hand side of the engine's system: the caller's as `_vector`, weighted as the rows are."""
        return self._vector(name, array, out)

    def copy_answer(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        """Copy a solution's `x` into an array of the same form."""
        out[...] = x

    @abstractmethod
    def _is_packed(self, side: NDArray[Any]) -> bool:
        """Return whether the caller's right-hand side is a vector of the unknowns."""

    @abstractmethod
    def _form_answer(self, x: NDArray[np.float64], packed: bool) -> NDArray[np.float64]:
        """Return the solution in the form of the right-hand side."""

    @property
    @abstractmethod
    def _null(self) -> NullVectors:
        """The operator's null vectors."""

    @abstractmethod
    def norm(self, v: NDArray[np.float64]) -> float:
        """Return `‖v‖₂`."""

    @abstractmethod
    def _figures(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> Figures:
        """Return the figures for the verdict, computed in float64 from `b` and `x` alone."""
