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

DEFAULT_NEEDS = ("numba", "scipy")


@dataclass(frozen=True, slots=True)
class SolverEntry:
    """Where a named solver is defined; `needs` are the modules that must be installed for it."""

    name: str
    summary: str
    module: str
    factory: str
    arguments: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = DEFAULT_NEEDS

    def make(self) -> Solver:
        """Return the solver with its default options; MissingPackageError if a package that it needs is missing."""
        require(self.needs, f"solver {self.name!r}")
        factory: Callable[..., Solver] = getattr(import_module(self.module), self.factory)
        return factory(**dict(self.arguments))


_HERE = "relaxon.solvers."
DEVICE_MODULE = _HERE + "dcdm.device"
DEVICE_NEEDS = ("numba", "scipy", "torch")
"""The modules that a solver on a device of torch (`dcdm@DEVICE`) needs."""
_GRID_SOLVERS: tuple[tuple[str, str, str, str], ...] = (
    (
        "dcdm", "deep conjugate directions, a multigrid cycle with learned constants",
        "dcdm", "DeepConjugateDirectionCycle",
    ),
    ("auto", "chooses by the grid, and says why", "driver.choice", "AutomaticGridSolver"),
    (
        "fast-diagonalisation", "direct, for boxes: transforms along two axes, tridiagonal systems along the third",
        "separable", "FastDiagonalisation",
    ),
    (
        "dcdm-cnn", "deep conjugate directions, the published network (Kaneda et al. 2023)",
        "dcdm", "DeepConjugateDirectionCNN",
    ),
    ("mg-cg", "geometric multigrid, damped Jacobi, as preconditioner of CG", "multigrid", "MultigridCG"),
    ("mg-rbgs-cg", "geometric multigrid, red-black Gauss-Seidel, as preconditioner of CG", "multigrid", "MultigridCG"),
    (
        "ic-cg", "CG with a modified incomplete Cholesky preconditioner",
        "krylov.conjugate_gradients", "IncompleteCholeskyCG",
    ),
    ("jacobi-cg", "CG with a diagonal preconditioner", "krylov.conjugate_gradients", "JacobiCG"),
    ("cg", "conjugate gradients", "krylov.conjugate_gradients", "ConjugateGradient"),
    ("amg", "algebraic multigrid on the grid's matrix", "sparse.on_grid", "GridAlgebraicMultigrid"),
    ("pyamg-sa", "PyAMG smoothed aggregation, CG-accelerated", "external.adapters", "PyAMG"),
    ("pyamg-rs", "PyAMG Ruge-Stüben, CG-accelerated", "external.adapters", "PyAMG"),
    ("scipy-cg", "SciPy's conjugate gradients on the CSR matrix", "external.adapters", "SciPyCG"),
    ("scipy-direct", "SciPy's sparse LU; for small grids", "external.adapters", "SciPyDirect"),
)  # fmt: skip
"""Name, summary, module and class."""
_ARGUMENTS = {
    "mg-rbgs-cg": (("smoother", "red-black"),),
    "pyamg-sa": (("method", "sa"),),
    "pyamg-rs": (("method", "rs"),),
}
_NEEDS = {
    "dcdm-cnn": ("numba", "scipy", "torch", "safetensors"),
    "pyamg-sa": ("scipy", "numba", "pyamg"),
    "pyamg-rs": ("scipy", "numba", "pyamg"),
}
ENTRIES = tuple(
    SolverEntry(name, summary, _HERE + module, factory, _ARGUMENTS.get(name, ()), _NEEDS.get(name, DEFAULT_NEEDS))
    for name, summary, module, factory in _GRID_SOLVERS
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
