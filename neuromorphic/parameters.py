"""Checks of an estimator's parameters: each refuses by the parameter's name what came in place of what is expected."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise `TypeError` for what is no integer, `ValueError` for one below `least`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")


def check_real(
    name: str,
    value: object,
    *,
    above: float = -np.inf,
    least: float = -np.inf,
    up_to: float = np.inf,
    below: float = np.inf,
) -> None:
    """Raise `TypeError` for what is no real number, `ValueError` for one that is not finite or out of the bounds."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not (np.isfinite(number) and above < number and least <= number <= up_to and number < below):
        bounds = [("greater than", above), ("at least", least), ("at most", up_to), ("less than", below)]
        said = " and ".join(f"{words} {bound:g}" for words, bound in bounds if np.isfinite(bound))
        raise ValueError(f"{name} must be {said or 'finite'}, got {value!r}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
