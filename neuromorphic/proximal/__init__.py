"""Learned proximal networks: priors learned from samples, as exact proximal operators, for inverse problems.

`train_proximal(data, NetworkSettings, MatchingSettings)` trains `f = ∇ψ` with ψ convex, which is the proximal
operator of some regulariser R, by proximal matching (Fang, Buchanan, Sulam 2024), and gives a `ProximalModel`:
`denoise(y)` is f, `prior(x)` evaluates R, `solve(observation, operator, data_weight=…)` minimises `data_weight ½‖A x
− b‖² + R(x)` and gives a `Reconstruction`. `polish_proximal` fits a model of few entries further. `save` writes a
folder that `ProximalModel.load` or `load_proximal` reads; `pretrained(name)` loads weights that are shipped. Forward
operators A, each with its adjoint: `IdentityOperator`, `MaskOperator`, `BlurOperator`, `RadonOperator`, `PoissonMap`
and their `CompositeOperator`; `OPERATORS` has them by name.

Importing this package loads nothing heavy; torch comes with the first name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.inversion import Preimage
    from relaxon.neuromorphic.proximal.model import PriorEvaluation, ProximalModel
    from relaxon.neuromorphic.proximal.operators import (
        OPERATORS,
        BlurOperator,
        CompositeOperator,
        ForwardOperator,
        IdentityOperator,
        MaskOperator,
    )
    from relaxon.neuromorphic.proximal.plug_and_play import PlugAndPlayProgress, Reconstruction
    from relaxon.neuromorphic.proximal.poisson_map import PoissonMap
    from relaxon.neuromorphic.proximal.polishing import PolishProgress, PolishSettings, polish_proximal
    from relaxon.neuromorphic.proximal.potentials import ConvolutionalPotential, DensePotential, NetworkSettings
    from relaxon.neuromorphic.proximal.radon import RadonOperator
    from relaxon.neuromorphic.proximal.shipped import list_pretrained, pretrained
    from relaxon.neuromorphic.proximal.store import load_proximal, save_proximal
    from relaxon.neuromorphic.proximal.training import (
        MatchingOutcome,
        MatchingProgress,
        MatchingRecord,
        MatchingResult,
        MatchingSettings,
        train_proximal,
    )

_HOME = {
    "BlurOperator": "operators",
    "CompositeOperator": "operators",
    "ConvolutionalPotential": "potentials",
    "DensePotential": "potentials",
    "ForwardOperator": "operators",
    "IdentityOperator": "operators",
    "MaskOperator": "operators",
    "MatchingOutcome": "training",
    "MatchingProgress": "training",
    "MatchingRecord": "training",
    "MatchingResult": "training",
    "MatchingSettings": "training",
    "NetworkSettings": "potentials",
    "OPERATORS": "operators",
    "PlugAndPlayProgress": "plug_and_play",
    "PoissonMap": "poisson_map",
    "PolishProgress": "polishing",
    "PolishSettings": "polishing",
    "Preimage": "inversion",
    "PriorEvaluation": "model",
    "ProximalModel": "model",
    "RadonOperator": "radon",
    "Reconstruction": "plug_and_play",
    "list_pretrained": "shipped",
    "load_proximal": "store",
    "polish_proximal": "polishing",
    "pretrained": "shipped",
    "save_proximal": "store",
    "train_proximal": "training",
}

__all__ = [
    "OPERATORS",
    "BlurOperator",
    "CompositeOperator",
    "ConvolutionalPotential",
    "DensePotential",
    "ForwardOperator",
    "IdentityOperator",
    "MaskOperator",
    "MatchingOutcome",
    "MatchingProgress",
    "MatchingRecord",
    "MatchingResult",
    "MatchingSettings",
    "NetworkSettings",
    "PlugAndPlayProgress",
    "PoissonMap",
    "PolishProgress",
    "PolishSettings",
    "Preimage",
    "PriorEvaluation",
    "ProximalModel",
    "RadonOperator",
    "Reconstruction",
    "list_pretrained",
    "load_proximal",
    "polish_proximal",
    "pretrained",
    "save_proximal",
    "train_proximal",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
