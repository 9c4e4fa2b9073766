"""How rates are read from a device: within a range, in levels, and with noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.core import validation

FEWEST_BITS, MOST_BITS = 2, 24
"""One bit is the sign; a float32 holds no more than 24."""


@dataclass(frozen=True, slots=True)
class Readout:
    """Rates as a converter reads them: clipped to `±bound`, then with Gaussian noise, then rounded to `2^bits − 1`
    equal levels from `−bound` to `bound`, 0 among them. `None` leaves a step out; `bits` needs `bound`.

    Of complex rates the real and the imaginary part are read apart.
    """

    bound: float | None = None
    bits: int | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        check_range("bound", self.bound, "bits", self.bits)
        validation.non_negative_float("noise", self.noise)

    def read(self, rates: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the rates as read; `generator` is one of the CPU, needed where there is noise."""
        if rates.is_complex():
            return torch.complex(self.read(rates.real, generator), self.read(rates.imag, generator))
        if self.noise:
            drawn = torch.randn(rates.shape, generator=generator, dtype=rates.dtype)
            rates = rates + self.noise * drawn.to(rates.device)
        return in_levels(rates, self.bound, self.bits)


def in_levels(values: Tensor, bound: float | None, bits: int | None) -> Tensor:
    """Return `values` clipped to `±bound` and rounded to the nearest of `2^bits − 1` levels; None leaves a step out."""
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
    """Refuse a bound that is not above 0, and bits without a bound or out of range."""
    if bound is not None:
        validation.positive_float(bound_name, bound)
    if bits is None:
        return
    if validation.whole_number(bits_name, bits) < FEWEST_BITS or bits > MOST_BITS:
        raise ValueError(f"{bits_name} must be from {FEWEST_BITS} to {MOST_BITS}, got {bits}")
    if bound is None:
        raise ValueError(f"{bits_name} must be None where {bound_name} is: levels need a range")
