"""What a server can be asked for, the packages that each part needs, and the extra that brings those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relaxon.core.extras import find_missing, install_command
from relaxon.solvers.interface.registry import DEVICE_NEEDS

LEARNING = ("numba", "sklearn", "safetensors")


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """A part of the service that can be asked for by itself."""

    name: str
    needs: tuple[str, ...]
    """Python modules, by their import names."""
    extra: str
    """The extra of relaxon that brings all of them."""

    def find_missing(self) -> tuple[str, ...]:
        """Return the modules that are not installed, in the order of `needs`; none of them is imported."""
        return find_missing(self.needs)


ENGINES = (
    ServedEngine("poisson", ("numba", "scipy"), "server"),
    ServedEngine("linear", ("numba", "scipy"), "server"),
    ServedEngine("pyamg", ("pyamg",), "server"),
    ServedEngine("boosting", LEARNING, "server"),
    ServedEngine("convex", ("scipy", *LEARNING), "server"),
    ServedEngine("energy", ("torch", *LEARNING), "neuromorphic"),
    ServedEngine("equilibrium", ("torch", *LEARNING), "neuromorphic"),
    ServedEngine("proximal", ("torch", "numba", "scipy", "safetensors"), "neuromorphic"),
    ServedEngine("dcdm-cnn", ("torch", "safetensors"), "neuromorphic"),
    ServedEngine("dcdm@device", DEVICE_NEEDS, "neuromorphic"),
    ServedEngine("onnx", ("onnx",), "onnx"),
)
"""`dcdm@device` stands for the solver `dcdm` on any device of torch, `onnx` for the export of stored models."""


def describe_missing() -> Iterator[str]:
    """Say of each engine that cannot be used here what it needs and what to install, in a line each."""
    for engine in ENGINES:
        if missing := engine.find_missing():
            yield f"{engine.name} needs {', '.join(missing)}: {install_command(engine.extra)}"
