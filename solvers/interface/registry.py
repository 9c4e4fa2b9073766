"""The solvers for grids by name, each imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from relaxon.core.extras import require
from relaxon.core.naming import split_device
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.engine import Solver


@dataclass(frozen=True, slots=True)
class SolverEntry:
    """Where a named solver is defined; `needs` are the modules that must be installed for it."""

    name: str
    summary: str
    module: str
    factory: str
    arguments: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ("numba", "scipy")

    def make(self) -> Solver:
        """Return the solver with its default options; MissingPackageError if a package that it needs is missing."""
        require(self.needs, f"solver {self.name!r}")
        factory: Callable[..., Solver] = getattr(import_module(self.module), self.factory)
        return factory(**dict(self.arguments))


_NETWORK = ("numba", "scipy", "torch", "safetensors")
_HERE = "relaxon.solvers."
DEVICE_MODULE = _HERE + "dcdm.device"
DEVICE_NEEDS = ("numba", "scipy", "torch")
"""The modules that a solver on a device of torch (`dcdm@DEVICE`) needs."""
ENTRIES = (
    SolverEntry(
        "dcdm",
        "deep conjugate directions, a multigrid cycle with learned constants",
        _HERE + "dcdm",
        "DeepConjugateDirectionCycle",
    ),
    SolverEntry("auto", "chooses by the grid, and says why", _HERE + "driver.choice", "AutomaticGridSolver"),
    SolverEntry(
        "fast-diagonalisation",
        "direct, for boxes: transforms along two axes, tridiagonal systems along the third",
        _HERE + "separable",
        "FastDiagonalisation",
    ),
    SolverEntry(
        "dcdm-cnn",
        "deep conjugate directions, the published network (Kaneda et al. 2023)",
        _HERE + "dcdm",
        "DeepConjugateDirectionCNN",
        needs=_NETWORK,
    ),
    SolverEntry(
        "mg-cg",
        "geometric multigrid, damped Jacobi, as preconditioner of CG",
        _HERE + "multigrid",
        "MultigridCG",
    ),
    SolverEntry(
        "mg-rbgs-cg",
        "geometric multigrid, red-black Gauss-Seidel, as preconditioner of CG",
        _HERE + "multigrid",
        "MultigridCG",
        (("smoother", "red-black"),),
    ),
    SolverEntry(
        "ic-cg",
        "CG with a modified incomplete Cholesky preconditioner",
        _HERE + "krylov.incomplete_cholesky",
        "IncompleteCholeskyCG",
    ),
    SolverEntry("jacobi-cg", "CG with a diagonal preconditioner", _HERE + "krylov.conjugate_gradients", "JacobiCG"),
    SolverEntry("cg", "conjugate gradients", _HERE + "krylov.conjugate_gradients", "ConjugateGradient"),
    SolverEntry(
        "pyamg-sa",
        "PyAMG smoothed aggregation, CG-accelerated",
        _HERE + "external.adapters",
        "PyAMG",
        (("method", "sa"),),
        ("scipy", "numba", "pyamg"),
    ),
    SolverEntry(
        "pyamg-rs",
        "PyAMG Ruge-Stüben, CG-accelerated",
        _HERE + "external.adapters",
        "PyAMG",
        (("method", "rs"),),
        ("scipy", "numba", "pyamg"),
    ),
    SolverEntry("scipy-cg", "SciPy's conjugate gradients on the CSR matrix", _HERE + "external.adapters", "SciPyCG"),
    SolverEntry("scipy-direct", "SciPy's sparse LU; for small grids", _HERE + "external.adapters", "SciPyDirect"),
)
_BY_NAME = {entry.name: entry for entry in ENTRIES}


def list_solvers() -> tuple[SolverEntry, ...]:
    """Return every named solver, with one line on what it is."""
    return ENTRIES


def find_solver(name: str) -> Solver:
    """Return the solver of a name with its default options. `dcdm@DEVICE` is "dcdm" on a device of torch.

    Raises
    ------
    ValueError : if the name is unknown.
    DeviceUnavailableError (a RuntimeError) : if this machine does not have the device.
    MissingPackageError (an ImportError) : if a package that the solver needs is not installed.
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
    factory: Callable[..., Solver] = getattr(import_module(DEVICE_MODULE), "DeviceConjugateDirections")  # noqa: B009
    return factory(device)


def likely_solver(grid: PoissonGrid) -> str:
    """Return the likely choice of "auto" for a grid, without computing anything, so that it is compiled ahead."""
    box = grid.unknowns == grid.cells.size and grid.operator().constant
    return "fast-diagonalisation" if box else "dcdm"
