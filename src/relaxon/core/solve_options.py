"""The options of a solve that are neither arrays nor callbacks, validated in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from relaxon.core import validation

Inconsistent = Literal["error", "report", "project"]
"""What to do with a right-hand side that is not in the range of a singular operator."""
INCONSISTENT: tuple[Inconsistent, ...] = get_args(Inconsistent)


@dataclass(frozen=True, slots=True)
class SolveOptions:
    """When a solve stops, and what it does with a right-hand side outside the operator's range.

    Raises
    ------
    TypeError, ValueError : naming the option whose value is refused.

    Examples
    --------
    >>> SolveOptions(rtol=1e-8).max_iterations is None
    True
    >>> SolveOptions(rtol=0.0)
    Traceback (most recent call last):
    ValueError: rtol must be greater than 0, got 0.0
    """

    rtol: float = 1e-6
    """Tolerance relative to `‖b‖₂`, greater than 0."""
    atol: float = 0.0
    """Absolute tolerance on `‖b − A x‖₂`, at least 0."""
    max_iterations: int | None = None
    """Limit on the iterations, at least 1; None for the solver's own."""
    inconsistent: str = "error"
    """One of `INCONSISTENT`."""

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "rtol": validation.positive_float("rtol", self.rtol),
            "atol": validation.non_negative_float("atol", self.atol),
            "max_iterations": None,
        }
        if self.max_iterations is not None:
            checked["max_iterations"] = validation.positive_int("max_iterations", self.max_iterations)
        if self.inconsistent not in INCONSISTENT:
            raise ValueError(f"inconsistent must be 'error', 'report' or 'project', got {self.inconsistent!r}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
