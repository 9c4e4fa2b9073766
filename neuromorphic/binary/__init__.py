"""Binary networks: activations for training them, weights packed into bits, and prediction by counting bits.

Importing this package loads nothing heavy; torch and Numba are imported with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.binary.activations import BiPer, ReSTE
    from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
    from relaxon.neuromorphic.binary.packed import PackedEquilibrium, pack_network
    from relaxon.neuromorphic.binary.packing import SignMatrix, pack_signs

_HOME = {
    "BiPer": "activations",
    "BinaryLayeredNetwork": "layered",
    "PackedEquilibrium": "packed",
    "ReSTE": "activations",
    "SignMatrix": "packing",
    "pack_network": "packed",
    "pack_signs": "packing",
}

__all__ = [
    "BiPer",
    "BinaryLayeredNetwork",
    "PackedEquilibrium",
    "ReSTE",
    "SignMatrix",
    "pack_network",
    "pack_signs",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
