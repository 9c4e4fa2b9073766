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

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.forward.operators import OPERATORS as OPERATORS
    from relaxon.neuromorphic.proximal.forward.operators import BlurOperator as BlurOperator
    from relaxon.neuromorphic.proximal.forward.operators import CompositeOperator as CompositeOperator
    from relaxon.neuromorphic.proximal.forward.operators import ForwardOperator as ForwardOperator
    from relaxon.neuromorphic.proximal.forward.operators import IdentityOperator as IdentityOperator
    from relaxon.neuromorphic.proximal.forward.operators import MaskOperator as MaskOperator
    from relaxon.neuromorphic.proximal.forward.poisson_map import PoissonMap as PoissonMap
    from relaxon.neuromorphic.proximal.forward.radon import RadonOperator as RadonOperator
    from relaxon.neuromorphic.proximal.inversion import Preimage as Preimage
    from relaxon.neuromorphic.proximal.model import MatchingOutcome as MatchingOutcome
    from relaxon.neuromorphic.proximal.model import MatchingRecord as MatchingRecord
    from relaxon.neuromorphic.proximal.model import MatchingResult as MatchingResult
    from relaxon.neuromorphic.proximal.model import PriorEvaluation as PriorEvaluation
    from relaxon.neuromorphic.proximal.model import ProximalModel as ProximalModel
    from relaxon.neuromorphic.proximal.model import load_proximal as load_proximal
    from relaxon.neuromorphic.proximal.model import save_proximal as save_proximal
    from relaxon.neuromorphic.proximal.plug_and_play import PlugAndPlayProgress as PlugAndPlayProgress
    from relaxon.neuromorphic.proximal.plug_and_play import Reconstruction as Reconstruction
    from relaxon.neuromorphic.proximal.potentials import ConvolutionalPotential as ConvolutionalPotential
    from relaxon.neuromorphic.proximal.potentials import DensePotential as DensePotential
    from relaxon.neuromorphic.proximal.potentials import NetworkSettings as NetworkSettings
    from relaxon.neuromorphic.proximal.shipped import list_pretrained as list_pretrained
    from relaxon.neuromorphic.proximal.shipped import pretrained as pretrained
    from relaxon.neuromorphic.proximal.training.matching import MatchingProgress as MatchingProgress
    from relaxon.neuromorphic.proximal.training.matching import MatchingSettings as MatchingSettings
    from relaxon.neuromorphic.proximal.training.matching import train_proximal as train_proximal
    from relaxon.neuromorphic.proximal.training.polishing import PolishProgress as PolishProgress
    from relaxon.neuromorphic.proximal.training.polishing import PolishSettings as PolishSettings
    from relaxon.neuromorphic.proximal.training.polishing import polish_proximal as polish_proximal

__getattr__, __dir__ = offer_imports(__name__)
