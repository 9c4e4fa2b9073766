"""The readout of rates from a device: with a finite range, a finite number of levels, and noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.core import validation

FEWEST_BITS, MOST_BITS = 2, 24
"""One bit is the sign; a float32 has a precision of 24 bits."""


@dataclass(frozen=True, slots=True)
class Readout:
    """The readout of rates by a converter, which adds Gaussian noise, clips to `±bound` and rounds to equal levels.

    There are `2^bits − 1` levels from `−bound` to `bound`, including 0. None omits a step; `bits` requires `bound`. The
    real and the imaginary part of complex rates are read separately.
    """

    bound: float | None = None
    bits: int | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_range("bound", self.bound, "bits", self.bits)
        validation.non_negative_float("noise", self.noise)

    def read(self, rates: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the rates as read; a CPU `generator` is required where there is noise."""
        if rates.is_complex():
            return torch.complex(self.read(rates.real, generator), self.read(rates.imag, generator))
        if self.noise:
            drawn = torch.randn(rates.shape, generator=generator, dtype=rates.dtype)
            rates = rates + self.noise * drawn.to(rates.device)
        return in_levels(rates, self.bound, self.bits)


def in_levels(values: Tensor, bound: float | None, bits: int | None) -> Tensor:
    """Return `values` clipped to `±bound` and rounded to the nearest of `2^bits − 1` levels; None omits a step."""
    if bound is None:
        return values
    values = values.clamp(-bound, bound)
    if bits is None:
        return values
    steps = 2 ** (bits - 1) - 1
    # Without negative zeros.
    found: Tensor = torch.round(values * (steps / bound)) * (bound / steps) + 0.0
    return found


def check_range(bound_name: str, bound: float | None, bits_name: str, bits: int | None) -> None:
    """Raise `ValueError` or `TypeError` for a bound that is not positive, or bits out of range or without a bound."""
    if bound is not None:
        validation.positive_float(bound_name, bound)
    if bits is None:
        return
    if validation.whole_number(bits_name, bits) < FEWEST_BITS or bits > MOST_BITS:
        raise ValueError(f"{bits_name} must be from {FEWEST_BITS} to {MOST_BITS}, got {bits}")
    if bound is None:
        raise ValueError(f"{bits_name} must be None where {bound_name} is None: levels require a range")
