"""Binary networks: activations for training them, weights packed into bits, and prediction by counting bits.

Importing this package loads nothing heavy; torch and Numba are imported with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.neuromorphic.binary.activations import BiPer as BiPer
    from relaxon.neuromorphic.binary.activations import ReSTE as ReSTE
    from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork as BinaryLayeredNetwork
    from relaxon.neuromorphic.binary.packed import PackedEquilibrium as PackedEquilibrium
    from relaxon.neuromorphic.binary.packed import pack_network as pack_network
    from relaxon.neuromorphic.binary.packing import SignMatrix as SignMatrix
    from relaxon.neuromorphic.binary.packing import pack_signs as pack_signs

__getattr__, __dir__ = offer_imports(__name__)
