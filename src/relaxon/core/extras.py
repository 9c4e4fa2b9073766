"""The optional packages: the extra of relaxon that brings each, which are missing, and the error that says so."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_COMPILED = ("numba", "llvmlite", "scipy", "sklearn", "joblib", "safetensors")
EXTRAS: dict[str, tuple[str, ...]] = {
    "server": (*_COMPILED, "pyamg", "grpc_health", "grpc_reflection"),
    "neuromorphic": (*_COMPILED, "torch"),
    "onnx": ("onnx",),
    "tables": ("pyarrow",),
    "flows": ("zuko",),
    "metrics": ("grpc_channelz", "prometheus_client"),
    "telemetry": ("opentelemetry",),
    "dashboard": ("aiohttp",),
    "ray": ("ray",),
    "mpi": ("mpi4py",),
    "direct": ("rslab",),
    "plot": ("matplotlib", "psutil"),
    "bench": ("apxchol", "matplotlib", "polysolve", "psutil"),
    "pardiso": ("pypardiso",),
}
"""The import names that each extra brings; of two extras that bring the same package, the smaller one comes first."""


class MissingPackageError(ModuleNotFoundError):
    """A package of one of relaxon's extras is not installed; the message says what to install.

    `name` is the import name of the package, `extra` the extra that brings it, empty for a package of another project.
    """

    def __init__(self, name: str, extra: str, needed_by: str = "") -> None:
        """`needed_by` names what cannot be used without the package, for the message."""
        need = f"{needed_by} needs {name}, which is not installed" if needed_by else f"{name} is not installed"
        command = install_command(extra) if extra else f"pip install {name}"
        super().__init__(f"{need}; install it with: {command}", name=name)
        self.extra = extra


def install_command(extra: str) -> str:
    """Return the command that installs relaxon with an extra."""
    return f'pip install "relaxon[{extra}]"'


def find_extra(modules: Iterable[str]) -> str:
    """Return the extra that brings all of the modules, given by their import names; empty if none does."""
    wanted = {module.partition(".")[0] for module in modules}
    return next((extra for extra, packages in EXTRAS.items() if wanted and wanted.issubset(packages)), "")


def find_missing(modules: Iterable[str]) -> tuple[str, ...]:
    """Return the modules that are not installed, in their order, without importing any."""
    return tuple(name for name in modules if find_spec(name) is None)


def require(modules: Iterable[str], needed_by: str) -> None:
    """Raise `MissingPackageError` if one of the modules is not installed, without importing any.

    `needed_by` names what cannot be used without them, for the message.
    """
    if missing := find_missing(modules):
        raise MissingPackageError(missing[0], find_extra(missing), needed_by)


def load_attribute(module: str, name: str, needed_by: str) -> Any:
    """Import a module and return its attribute `name`, for a package that imports what it offers on first use.

    Raises
    ------
    MissingPackageError : if the module needs a package of an extra that is not installed.
    """
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise explain(error, needed_by) from error


def offer_imports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package that offers what its block `if TYPE_CHECKING:` imports.

    Each name is imported on first use, and `__all__` has all of them. The block is read from the package's own source.
    """

    @cache
    def find_homes() -> dict[str, str]:
        spec = sys.modules[package].__spec__
        source = spec.loader.get_source(package)  # type: ignore[union-attr]
        blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
        imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
        return {name.name: node.module or "" for node in imports for name in node.names}

    def load(name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = find_homes()
        if name != "__all__" and name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = sorted(home) if name == "__all__" else load_attribute(home[name], name, f"{package}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted(find_homes())


def explain(error: ModuleNotFoundError, needed_by: str = "") -> ModuleNotFoundError:
    """Return the error to raise for `error`: one that names the extra to install, or `error` if no extra helps."""
    extra = find_extra([error.name] if error.name else [])
    if isinstance(error, MissingPackageError) or not extra:
        return error
    return MissingPackageError((error.name or "").partition(".")[0], extra, needed_by)
