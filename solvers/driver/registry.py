"""The solvers by name, each imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from relaxon.core.extras import require
from relaxon.core.naming import split_device
from relaxon.solvers.interface.engine import Solver


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a named solver lives; `needs` are the modules that must be installed for it."""

    name: str
    summary: str
    module: str
    factory: str
    arguments: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ("numba", "scipy")

    def make(self) -> Solver:
        """Return the solver with its default options; MissingPackageError where a package that it needs is missing."""
        require(self.needs, f"solver {self.name!r}")
        factory: Callable[..., Solver] = getattr(import_module(self.module), self.factory)
        return factory(**dict(self.arguments))


_NETWORK = ("numba", "scipy", "torch", "safetensors")
_HERE = "relaxon.solvers."
DEVICE_NEEDS = ("numba", "scipy", "torch")
"""The modules that a solver on a device (`dcdm@DEVICE`) needs."""
ENTRIES = (
    Entry(
        "dcdm",
        "deep conjugate directions, a multigrid cycle with learned constants",
        _HERE + "dcdm",
        "DeepConjugateDirectionCycle",
    ),
    Entry("auto", "chooses by the grid, and says why", _HERE + "driver.choice", "AutomaticGridSolver"),
    Entry(
        "fast-diagonalisation",
        "direct, for boxes: transforms along two axes, tridiagonal systems along the third",
        _HERE + "separable",
        "FastDiagonalisation",
    ),
    Entry(
        "dcdm-cnn",
        "deep conjugate directions, the published network (Kaneda et al. 2023)",
        _HERE + "dcdm",
        "DeepConjugateDirectionCNN",
        needs=_NETWORK,
    ),
    Entry(
        "mg-cg",
        "geometric multigrid, damped Jacobi, as preconditioner of CG",
        _HERE + "multigrid",
        "MultigridCG",
    ),
    Entry(
        "mg-rbgs-cg",
        "geometric multigrid, red-black Gauss-Seidel, as preconditioner of CG",
        _HERE + "multigrid",
        "MultigridCG",
        (("smoother", "red-black"),),
    ),
    Entry(
        "ic-cg",
        "CG with a modified incomplete Cholesky preconditioner",
        _HERE + "krylov.incomplete_cholesky",
        "IncompleteCholeskyCG",
    ),
    Entry("jacobi-cg", "CG with a diagonal preconditioner", _HERE + "krylov.conjugate_gradients", "JacobiCG"),
    Entry("cg", "conjugate gradients", _HERE + "krylov.conjugate_gradients", "ConjugateGradient"),
    Entry(
        "pyamg-sa",
        "PyAMG smoothed aggregation, CG-accelerated",
        _HERE + "external.adapters",
        "PyAMG",
        (("method", "sa"),),
        ("scipy", "numba", "pyamg"),
    ),
    Entry(
        "pyamg-rs",
        "PyAMG Ruge-Stüben, CG-accelerated",
        _HERE + "external.adapters",
        "PyAMG",
        (("method", "rs"),),
        ("scipy", "numba", "pyamg"),
    ),
    Entry("scipy-cg", "SciPy's conjugate gradients on the CSR matrix", _HERE + "external.adapters", "SciPyCG"),
    Entry("scipy-direct", "SciPy's sparse LU; for small grids", _HERE + "external.adapters", "SciPyDirect"),
)
_BY_NAME = {entry.name: entry for entry in ENTRIES}


def list_solvers() -> tuple[Entry, ...]:
    """Every named solver with a line on what it is."""
    return ENTRIES


def get(name: str) -> Solver:
    """The solver of that name with its default options; ValueError for an unknown one.

    `dcdm@DEVICE` is "dcdm" on a device of torch; DeviceUnavailableError (a RuntimeError) where that is not here.
    MissingPackageError (an ImportError) where a package that the solver needs is not installed.
    """
    name, device = split_device(name)
    if name not in _BY_NAME:
        near = get_close_matches(name, _BY_NAME, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"solver must be one of {', '.join(sorted(_BY_NAME))}, got {name!r}{hint}")
    if device is None:
        return _BY_NAME[name].make()
    if name != "dcdm":
        raise ValueError(f"device: only 'dcdm' runs on a device, got {name!r} for {device!r}")
    require(DEVICE_NEEDS, f"solver 'dcdm@{device}'")
    from relaxon.solvers.dcdm.device import DeviceConjugateDirections

    return DeviceConjugateDirections(device)
