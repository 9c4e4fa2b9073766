"""The published method as a solver: conjugate directions from the trained network."""

# Imported on first use, for their weight: safetensors, torch, `network`.

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core.extras import require
from relaxon.solvers.dcdm.outer import WINDOW, ConjugateDirections, Direction
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Solver

if TYPE_CHECKING:
    import torch

    from relaxon.solvers.dcdm.network import DirectionNetwork

SLAB_CELLS = 4 * 2**20
"""Cells the network is applied to at once; larger grids go through in slabs, so that memory stays bounded."""
MAX_ITERATIONS = 5000
SAFEGUARD_STEPS = 8
"""The network alone may stall for good; the plain direction takes over sooner than for a direction that cannot."""


def shipped_weights(network: int = 64) -> Traversable:
    """Return the path of the weights in the package; FileNotFoundError where that network's are not shipped."""
    path = resources.files("relaxon.solvers.dcdm") / "weights" / f"cnn{network}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"network must be one with shipped weights (64), got {network}: no {path.name}")
    return path


def weights_metadata(network: int = 64) -> dict[str, Any]:
    """Return how the shipped weights were trained: data, steps, seconds, machine, loss curve."""
    path = resources.files("relaxon.solvers.dcdm") / "weights" / f"cnn{network}.json"
    metadata: dict[str, Any] = json.loads(path.read_text())
    return metadata


def load_network(weights: Path | Traversable, network: int = 64) -> DirectionNetwork:
    """Return the network with weights from a safetensors file; ValueError where they belong to another network.

    MissingPackageError where torch or safetensors is not installed.
    """
    require(("torch", "safetensors"), "DeepConjugateDirectionCNN")
    import torch
    from safetensors.torch import load

    from relaxon.solvers.dcdm.network import ARCHITECTURES, DirectionNetwork

    if network not in ARCHITECTURES:
        raise ValueError(f"network must be one of {sorted(ARCHITECTURES)}, got {network!r}")
    # Without memory or a start of its own, which would be drawn from the caller's global random stream.
    with torch.device("meta"):
        model = DirectionNetwork(ARCHITECTURES[network])
    try:
        model.load_state_dict(load(weights.read_bytes()), assign=True)
    except RuntimeError as error:
        raise ValueError(f"weights must be those of the {network}-network, got {weights}: {error}") from None
    return model.eval()


class NetworkDirection(Direction):
    """`f(r)` by the network, on a GPU where torch finds one, else in bfloat16 where the processor computes in it.

    The input is scaled to a root mean square of 1, whatever the grid's size: with the paper's ‖r‖ = 1 the biases
    would weigh more the larger the grid is.
    """

    def __init__(
        self, network: DirectionNetwork, shape: tuple[int, int, int], dtype: torch.dtype | None = None
    ) -> None:
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = dtype or preferred_dtype(self.device)
        self.halo = network.architecture.halo
        self.network = network.to(self.device, self.dtype, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._out = np.empty(shape, np.float32)

    def __call__(self, r: NDArray[np.float64]) -> NDArray[np.float32]:
        n0, n1, n2 = r.shape
        scale = np.float32(1.0 / max(float(np.sqrt(np.mean(np.square(r)))), 1e-300))
        # An even number of layers in a slab, so that pooling blocks are those of the whole grid.
        step = max(2, SLAB_CELLS // (n1 * n2) // 2 * 2)
        for start in range(0, n0, step):
            low, high = max(0, start - self.halo), min(n0, start + step + self.halo)
            whole = self._applied(r[low:high].astype(np.float32) * scale)
            self._out[start : start + step] = whole[start - low : start - low + step]
        return self._out

    def _applied(self, r: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            x = torch.from_numpy(r)[None, None].to(self.device, self.dtype)
            d = self.network(x.contiguous(memory_format=torch.channels_last_3d))
            array: NDArray[np.float32] = d[0, 0].float().cpu().numpy()
        return array


def preferred_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies in it (a direction needs no more), float32 elsewhere."""
    import torch

    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return torch.bfloat16 if fast else torch.float32


@dataclass(frozen=True, slots=True)
class DeepConjugateDirectionCNN(Solver):
    """Deep conjugate directions with the paper's network.

    Parameters
    ----------
    network : 64 or 128, the paper's name for its two networks.
    weights : a safetensors file from `relaxon train poisson`; None for the shipped ones.
    window : directions to orthogonalise against, ≥ 0.

    Source: Kaneda et al., ICML 2023.
    """

    network: int = 64
    weights: Path | None = None
    window: int = WINDOW
    name: ClassVar[str] = "dcdm-cnn"
    summary: ClassVar[str] = "deep conjugate directions, the published network (Kaneda et al. 2023)"

    def prepare(self, operator: PoissonOperator) -> ConjugateDirections:
        model = load_network(self.weights or shipped_weights(self.network), self.network)
        direction = NetworkDirection(model, operator.grid.shape3)
        prepared = ConjugateDirections(operator, direction, self.window, MAX_ITERATIONS, SAFEGUARD_STEPS)
        prepared.info["parameters"] = float(model.parameter_count)
        return prepared


@dataclass(frozen=True, slots=True)
class DeepConjugateDirection(Solver):
    """Conjugate directions from any direction of the caller's: `direction(r) → d`, see `outer.Direction`."""

    direction: Direction
    window: int = WINDOW
    name: ClassVar[str] = "dcdm-custom"
    summary: ClassVar[str] = "conjugate directions from a direction of the caller's"

    def prepare(self, operator: PoissonOperator) -> ConjugateDirections:
        return ConjugateDirections(operator, self.direction, self.window, MAX_ITERATIONS)
