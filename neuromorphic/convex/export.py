"""Export of the network as a torch module.

Imported on first use, for its weight: torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import require
from relaxon.neuromorphic.convex.network import ConvexNetwork

if TYPE_CHECKING:
    import torch


def to_torch(network: ConvexNetwork) -> torch.nn.Module:
    """Return a module from inputs `(n, d)` float64 to outputs `(n, K)`, whose parameters can be trained further."""
    require(("torch",), "to_torch()")
    import torch

    class TwoLayer(torch.nn.Module):
        shift: torch.Tensor
        scale: torch.Tensor
        target_shift: torch.Tensor
        target_unit: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            for name in ("shift", "scale", "target_shift", "target_unit"):
                self.register_buffer(name, torch.tensor(getattr(network, name)))
            self.hidden = torch.nn.Parameter(torch.tensor(network.hidden))
            self.output = torch.nn.Parameter(torch.tensor(network.output))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = (x - self.shift) * self.scale
            activations = torch.relu(z @ self.hidden[:, :-1].T + self.hidden[:, -1])
            raw: torch.Tensor = self.target_shift + self.target_unit * (activations @ self.output)
            return raw

    return TwoLayer()
