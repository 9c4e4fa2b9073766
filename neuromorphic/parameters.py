"""The parameters of estimators: stored by the constructor and checked by `fit`.

Each check names the parameter, the expectation and the value that was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np


def store_arguments(estimator: object, arguments: Mapping[str, object]) -> None:
    """Set each constructor argument as the attribute of its name, untouched, as scikit-learn requires.

    `arguments` is what `locals()` returns at the start of the constructor.
    """
    for name, value in arguments.items():
        if name != "self":
            setattr(estimator, name, value)


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise `TypeError` if `value` is not an integer, and `ValueError` if it is below `least`."""
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
    """Raise `TypeError` if `value` is not a real number, and `ValueError` if it is not finite or out of bounds."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    if not (np.isfinite(number) and above < number and least <= number <= up_to and number < below):
        bounds = [("greater than", above), ("at least", least), ("at most", up_to), ("below", below)]
        said = " and ".join(f"{words} {bound:g}" for words, bound in bounds if np.isfinite(bound))
        raise ValueError(f"{name} must be {said or 'finite'}, got {value!r}")


def check_widths(name: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` if `value` is not a sequence of integers of at least 1; it may be empty."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a tuple of integers, such as (64,), got {value!r}")
    for width in value:
        if isinstance(width, bool | np.bool_) or not isinstance(width, Integral) or width < 1:
            raise ValueError(f"{name} must hold integers of at least 1, got {value!r}")


def check_methods(name: str, value: object, methods: tuple[str, ...]) -> None:
    """Raise `TypeError` if `value` is a class, or an object that lacks one of the methods."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name} must be an object with {' and '.join(methods)}, got {got}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `ValueError` if `value` is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
