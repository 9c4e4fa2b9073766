"""The choice of a cycle for any couplings, by a small network that sees features of a grid's couplings.

There are two kinds of coarse space: transfers that follow the couplings (`VariableCycle`), and connected parts of
blocks (`PartedCycle`). Each has a number of sweeps and parameters of its own. Which of them takes the least work per
decade of the residual depends on how much κ jumps, how many faces are closed, how far cells are stretched, and how much
σ holds. A network of one hidden layer predicts the cost of each of a few candidates from eight such features.
Candidates and network were found by `relaxon train poisson-couplings`. Each candidate is a fixed cycle: linear,
symmetric and definite.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.deflation import DeflatedCycle, find_weak_components, variable_cycle
from relaxon.solvers.multigrid.parted import PartedCycle, Parting

Array = NDArray[np.float64]
FEATURES = 8
"""Seven shares of faces, axes and cells on a logarithmic scale from 0 to 1, and whether there are three dimensions."""
TIE = 0.05
"""How much more parts of blocks may be predicted to cost, as a logarithm, and yet be taken: training had grids of up to
64 cells a side, and the iterations of the other kind grow with the grid."""
LEAST_SHARE = 1e-4
SURVEYED = 500_000
"""On grids with more cells only every third row is measured."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One kind of cycle: by parts of blocks as `parting` says, or with transfers that follow the couplings if None."""

    sweeps: int
    parting: Parting | None = None

    def cycle(self, operator: PoissonOperator) -> SingleCycle:
        """Return the cycle, with loosely held constants apart."""
        if self.parting is None:
            return variable_cycle(operator, sweeps=self.sweeps)
        found = find_weak_components(operator)
        if found is None:
            return PartedCycle(operator, self.parting)
        return DeflatedCycle(PartedCycle(operator, self.parting, np.asarray(found[0].labels) != 0), *found)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, which `from_dict` takes."""
        return {"sweeps": self.sweeps, "parting": None if self.parting is None else asdict(self.parting)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Candidate:
        parting = values["parting"]
        return cls(int(values["sweeps"]), None if parting is None else Parting(**parting))


@dataclass(frozen=True, slots=True, eq=False)
class CouplingChoice:
    """Candidates and the network that predicts their costs, `w₂ relu(W₁ φ + b₁) + b₂`: the cheapest is taken."""

    candidates: tuple[Candidate, ...]
    hidden_weight: Array
    hidden_bias: Array
    output_weight: Array
    output_bias: Array

    def __post_init__(self) -> None:
        hidden, count = len(self.hidden_bias), len(self.candidates)
        shapes = {"hidden_weight": (hidden, FEATURES), "output_weight": (count, hidden), "output_bias": (count,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, got {getattr(self, name).shape}")

    @property
    def count(self) -> int:
        """The number of the network's parameters."""
        arrays = (self.hidden_weight, self.hidden_bias, self.output_weight, self.output_bias)
        return sum(array.size for array in arrays)

    def costs(self, features: Array) -> Array:
        """Return what each candidate is predicted to cost, relative to the others: `(…, 8) → (…, candidates)`."""
        hidden = np.maximum(features @ self.hidden_weight.T + self.hidden_bias, 0)
        found: Array = hidden @ self.output_weight.T + self.output_bias
        return found

    def chosen(self, operator: PoissonOperator) -> Candidate:
        """Return the candidate for a grid: the cheapest, or one by parts that is predicted to cost next to no more."""
        costs = self.costs(measure_couplings(operator))
        parts = np.array([candidate.parting is not None for candidate in self.candidates])
        return self.candidates[int(np.argmin(costs - TIE * parts))]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, which `from_dict` takes."""
        return {
            "candidates": [candidate.as_dict() for candidate in self.candidates],
            "hidden_weight": self.hidden_weight.tolist(),
            "hidden_bias": self.hidden_bias.tolist(),
            "output_weight": self.output_weight.tolist(),
            "output_bias": self.output_bias.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CouplingChoice:
        candidates = tuple(Candidate.from_dict(value) for value in values["candidates"])
        names = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")
        return cls(candidates, *(np.asarray(values[name], np.float64) for name in names))


def measure_couplings(operator: PoissonOperator) -> Array:
    """Return what the network sees of a grid: `(8,)` from 0 to 1; units and the order of axes do not matter."""
    from relaxon.solvers.multigrid.part_kernels import survey

    lower = tuple(np.asarray(face, np.float64) for face in operator.couplings)
    diagonal = np.asarray(operator.diagonal, np.float64).reshape(operator.grid.shape3)
    stride = 3 if diagonal.size > SURVEYED else 1
    found, *sums = survey(*lower, np.asarray(operator.wrap), stride, diagonal)
    axes = operator.grid.ndim
    per = np.array([2 * axes, 2 * axes, axes, axes, 1, 1, 1]) * max(found, 1.0)
    shares = np.array(sums) / per
    scaled = 1 - np.log10(np.clip(shares, LEAST_SHARE, 1)) / np.log10(LEAST_SHARE)
    return np.append(np.nan_to_num(scaled), float(axes == 3))


def make_coupling_cycle(operator: PoissonOperator, choice: CouplingChoice | None = None) -> SingleCycle:
    """Return the cycle that `dcdm` runs where κ, σ, widths or sides are not the plain ones."""
    return (choice or load_choice()).chosen(operator).cycle(operator)


def choice_record() -> dict[str, Any]:
    """Return the shipped choice with how it was trained."""
    path = resources.files("relaxon.solvers.dcdm") / "weights" / "couplings.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@lru_cache(maxsize=1)
def load_choice() -> CouplingChoice:
    """Return the shipped candidates and network."""
    return CouplingChoice.from_dict(choice_record()["choice"])
