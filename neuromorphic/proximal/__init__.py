"""Learned proximal networks: priors learned from samples, as exact proximal operators, for inverse problems.

`train_proximal(data, NetworkSettings, MatchingSettings)` trains `f = ∇ψ` with ψ convex, which is the proximal
operator of a regulariser R, by proximal matching (Fang, Buchanan, Sulam 2024), and returns a `ProximalModel`:
`denoise(y)` is f, `prior(x)` evaluates R, and `solve(observation, operator, data_weight=…)` minimises
`data_weight ½‖A x − b‖² + R(x)` and returns a `Reconstruction`. `polish_proximal` refines a model for signals of few
entries. `save` writes a folder that `ProximalModel.load` and `load_proximal` read; `pretrained(name)` loads weights
that are part of the package. The forward operators A, each with its adjoint, are `IdentityOperator`, `MaskOperator`,
`BlurOperator`, `RadonOperator`, `PoissonMap` and their `CompositeOperator`; `OPERATORS` lists them by name.

Importing this package is cheap; torch is loaded with the first name that requires it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.forward.operators import (
        OPERATORS,
        BlurOperator,
        CompositeOperator,
        ForwardOperator,
        IdentityOperator,
        MaskOperator,
    )
    from relaxon.neuromorphic.proximal.forward.poisson_map import PoissonMap
    from relaxon.neuromorphic.proximal.forward.radon import RadonOperator
    from relaxon.neuromorphic.proximal.inversion import Preimage
    from relaxon.neuromorphic.proximal.model import PriorEvaluation, ProximalModel
    from relaxon.neuromorphic.proximal.plug_and_play import PlugAndPlayProgress, Reconstruction
    from relaxon.neuromorphic.proximal.potentials import ConvolutionalPotential, DensePotential, NetworkSettings
    from relaxon.neuromorphic.proximal.shipped import list_pretrained, pretrained
    from relaxon.neuromorphic.proximal.storage import load_proximal, save_proximal
    from relaxon.neuromorphic.proximal.training.matching import (
        MatchingOutcome,
        MatchingProgress,
        MatchingRecord,
        MatchingResult,
        MatchingSettings,
        train_proximal,
    )
    from relaxon.neuromorphic.proximal.training.polishing import PolishProgress, PolishSettings, polish_proximal

_NAMES = {
    "forward.operators": (
        "BlurOperator",
        "CompositeOperator",
        "ForwardOperator",
        "IdentityOperator",
        "MaskOperator",
        "OPERATORS",
    ),
    "forward.poisson_map": ("PoissonMap",),
    "forward.radon": ("RadonOperator",),
    "inversion": ("Preimage",),
    "model": ("PriorEvaluation", "ProximalModel"),
    "plug_and_play": ("PlugAndPlayProgress", "Reconstruction"),
    "potentials": ("ConvolutionalPotential", "DensePotential", "NetworkSettings"),
    "shipped": ("list_pretrained", "pretrained"),
    "storage": ("load_proximal", "save_proximal"),
    "training.matching": (
        "MatchingOutcome",
        "MatchingProgress",
        "MatchingRecord",
        "MatchingResult",
        "MatchingSettings",
        "train_proximal",
    ),
    "training.polishing": ("PolishProgress", "PolishSettings", "polish_proximal"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

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
