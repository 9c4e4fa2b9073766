"""What a server can be asked for, the packages that each part needs, and the extra that brings them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relaxon.core.extras import find_missing, install_command
from relaxon.server.training.registry import ENGINES
from relaxon.solvers.interface.registry import DEVICE_NEEDS


@dataclass(frozen=True, slots=True)
class Capability:
    """A part of the service that can be asked for by itself."""

    name: str
    needs: tuple[str, ...]
    """Python modules, by their import names."""
    extra: str
    """The extra of relaxon that brings all of them."""

    def find_missing(self) -> tuple[str, ...]:
        """Return the modules that are not installed, in the order of `needs`; none of them is imported."""
        return find_missing(self.needs)


SOLVING = (
    Capability("poisson", ("numba", "scipy"), "server"),
    Capability("linear", ("numba", "scipy"), "server"),
    Capability("pyamg", ("pyamg",), "server"),
)
FURTHER = (
    Capability("dcdm-cnn", ("torch", "safetensors"), "neuromorphic"),
    Capability("dcdm@device", DEVICE_NEEDS, "neuromorphic"),
    Capability("onnx", ("onnx",), "onnx"),
)
"""`dcdm@device` stands for the solver `dcdm` on any device of torch, `onnx` for the export of stored models."""


def list_capabilities() -> tuple[Capability, ...]:
    """Return the parts of the service: solvers, training engines, and what they can do with further packages."""
    training = (Capability(engine.kind, engine.needs, engine.extra) for engine in ENGINES.values())
    return (*SOLVING, *training, *FURTHER)


def describe_missing() -> Iterator[str]:
    """Yield a line for each part that cannot be used here: what it needs, and what to install."""
    for part in list_capabilities():
        if missing := part.find_missing():
            yield f"{part.name} needs {', '.join(missing)}: {install_command(part.extra)}"
