"""The deep conjugate direction method as published: outer iteration, networks, data and training."""

from relaxon.solvers.dcdm.cnn import DeepConjugateDirection, DeepConjugateDirectionCNN
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.dcdm.outer import ConjugateDirections, Direction

__all__ = [
    "ConjugateDirections",
    "DeepConjugateDirection",
    "DeepConjugateDirectionCNN",
    "DeepConjugateDirectionCycle",
    "Direction",
]
