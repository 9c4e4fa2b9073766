"""PyAMG's smoothed aggregation without NumPy's global random numbers.

PyAMG 5.4.1 estimates the spectral radius of `D⁻¹A` by Arnoldi steps from a start that `numpy.random.rand` draws
(`pyamg/util/linalg.py`, `approximate_spectral_radius`). Two set-ups then differ in their bits, and a simulation that
the caller has seeded goes on with other numbers. The estimate takes a start of the caller's own, but smoothed
aggregation hands none on; so the two modules between them are loaded once more, as private copies, with an estimate
that starts from a fixed stream. The `pyamg` that others import is left as it is.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import numpy as np

SEED = 0x5EED
"""Of the starts. Each estimate draws from a generator of its own, so that no thread sees another's numbers."""
CHANGED = "this PyAMG has no {name} in {module}: its random numbers cannot be kept apart"


def smoothed_aggregation_solver(matrix: Any, **options: Any) -> Any:
    """Build PyAMG's smoothed-aggregation hierarchy of `matrix`, the same bits for the same matrix, in any thread.

    Takes the arguments of `pyamg.smoothed_aggregation_solver`. NumPy's global random state is neither read nor written.
    ImportError where PyAMG is not installed, or is one whose modules have other names.
    """
    return _private_solver()(matrix, **options)


@cache
def _private_solver() -> Any:
    """Return the solver's function from a private copy of its module."""
    smooth = _load_again("pyamg.aggregation.smooth")
    estimate = _own(smooth, "approximate_spectral_radius")
    smooth.approximate_spectral_radius = _with_start(estimate)  # type: ignore[attr-defined]
    aggregation = _load_again("pyamg.aggregation.aggregation")
    for name in ("jacobi_prolongation_smoother", "richardson_prolongation_smoother", "energy_prolongation_smoother"):
        _own(aggregation, name)
        setattr(aggregation, name, _own(smooth, name))
    return _own(aggregation, "smoothed_aggregation_solver")


def _with_start(estimate: Any) -> Any:
    def estimate_from_own_stream(matrix: Any, *args: Any, **options: Any) -> Any:
        if len(args) < 4 and options.get("initial_guess") is None:
            options["initial_guess"] = np.random.default_rng(SEED).random((matrix.shape[1], 1))
        return estimate(matrix, *args, **options)

    return estimate_from_own_stream


def _load_again(name: str) -> ModuleType:
    """Return a second instance of a module, which `sys.modules` does not know."""
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(CHANGED.format(name=name, module="its package"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _own(module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        raise ImportError(CHANGED.format(name=name, module=module.__name__)) from None
