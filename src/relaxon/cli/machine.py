"""The machine and the installed packages, described without a heavy import."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from relaxon.core.available_memory import find_machine_memory
from relaxon.server.config.threads import usable_cores

PACKAGES = {
    "client": ("numpy", "argcomplete", "grpcio", "grpcio-status", "protobuf", "rich"),
    "server": (
        "scipy",
        "numba",
        "llvmlite",
        "pyamg",
        "scikit-learn",
        "safetensors",
        "grpcio-health-checking",
        "grpcio-reflection",
    ),
    "neuromorphic": ("torch",),
    "plot": ("matplotlib", "psutil"),
}
"""The most important distributions, by the part of the package that needs them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of a computation; `cores` and `memory_bytes` are those that this process may use."""

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def describe_machine() -> Machine:
    """Describe the machine that this process runs on."""
    return Machine(
        cpu=_find_cpu_model(),
        cores=usable_cores(),
        memory_bytes=find_machine_memory() or 0,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def list_package_versions() -> dict[str, dict[str, str | None]]:
    """Return the versions of `PACKAGES`, None for those that are not installed."""
    return {part: {name: _find_version(name) for name in names} for part, names in PACKAGES.items()}


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _find_cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
