"""Trained proximal operators, which denoise, evaluate their prior and solve inverse problems."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.described_tensors import read_described, write_described
from relaxon.neuromorphic.proximal.inversion import InversionCallback, Preimage, solve_shifted
from relaxon.neuromorphic.proximal.plug_and_play import reconstruct
from relaxon.neuromorphic.proximal.potentials import NetworkSettings, Potential, build_potential
from relaxon.neuromorphic.torch_runs import Ended

Array = NDArray[np.float64]
FORMAT = 1
KIND = "proximal"
WEIGHTS = "model.safetensors"
ENTRIES_AT_ONCE = 1 << 22
"""Largest number of entries of a layer for signals processed together, which bounds the memory."""


MatchingOutcome = Ended


@dataclass(frozen=True, slots=True)
class MatchingRecord:
    """The record of a step, measured before it changes the weights."""

    step: int
    stage: int
    """0 for the phase with the mean absolute error, then 1, 2, … for each of `gammas`."""
    loss: float
    mean_square: float
    """Mean square of `f(y) − x` over the samples and their entries."""
    gradient_norm: float
    seconds: float


@dataclass(frozen=True, slots=True)
class MatchingResult:
    """The outcome of a training; `records` are those of every `record_every`-th step and of the last."""

    ended: MatchingOutcome
    steps: int
    records: tuple[MatchingRecord, ...]
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PriorEvaluation:
    """Values of a learned regulariser R, and their accuracy."""

    values: Array
    """R(x) up to a constant common to all signals, `(n,)`."""
    preimage: Preimage
    """The y with `f(y) = x`, with residuals and convergence."""


class ProximalModel:
    """A learned proximal operator `f = prox_R` of a regulariser `R ≈ −noise² log p`, in double precision.

    Parameters
    ----------
    potential : ψ, the convex potential whose gradient is f. It is converted to float64.
    noise : standard deviation of the noise in training.
    training : the outcome of the training; None where unknown.
    card : further information on the model, as JSON values.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.proximal import NetworkSettings, ProximalModel
    >>> from relaxon.neuromorphic.proximal.potentials import build_potential
    >>> model = ProximalModel(build_potential(NetworkSettings((2,), hidden=(8,))), noise=0.1)
    >>> x = model.denoise(np.array([[0.3, -0.2]]))
    >>> found = model.prior(x).preimage
    >>> bool(np.allclose(found.y, [[0.3, -0.2]]))
    True
    """

    def __init__(
        self,
        potential: Potential,
        noise: float,
        training: MatchingResult | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(potential, Potential):
            raise TypeError(f"potential must be a Potential, got {type(potential).__name__}")
        self.potential = potential.double().requires_grad_(False)
        self.noise = validation.positive_float("noise", noise)
        self.training = training
        self.card = card or {}

    @property
    def settings(self) -> NetworkSettings:
        return self.potential.settings

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a training signal; a convolutional model also accepts images of other sizes."""
        return self.settings.shape

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Return whether the model accepts signals of this shape."""
        if self.settings.kind == "dense":
            return shape == self.shape
        return len(shape) == len(self.shape) and shape[:-2] == self.shape[:-2]

    def denoise(self, y: ArrayLike) -> Array:
        """Return `f(y) = prox_R(y)` for one signal or signals `(n, *shape)`, in the shape of `y`, float64."""
        rows, single = self.read_signals("y", y)
        found = np.concatenate([self.potential.proximal(part).numpy() for part in self._parts(rows)])
        return found[0] if single else found

    def prior(
        self,
        x: ArrayLike,
        *,
        rtol: float = 1e-10,
        max_iterations: int = 200,
        callback: InversionCallback | None = None,
    ) -> PriorEvaluation:
        """Evaluate the learned regulariser: `R(f(y)) = ⟨y, f(y)⟩ − ½‖f(y)‖² − ψ(y)` at the y with `f(y) = x`.

        Source: Fang, Buchanan and Sulam (2024). Newton's method on the convex `ψ(y) − ⟨x, y⟩` finds y. R is known up to
        a constant. `preimage.converged` is False for rows whose residual is above `rtol`. `callback` is called after
        each Newton step of rows that are processed together; returning True ends their run.
        """
        rows, single = self.read_signals("x", x)
        rtol = validation.positive_float("rtol", rtol)
        max_iterations = validation.positive_int("max_iterations", max_iterations)
        found = [
            solve_shifted(
                self.potential,
                part,
                0.0,
                1.0,
                start=part,
                rtol=rtol,
                max_iterations=max_iterations,
                callback=callback,
            )
            for part in self._parts(rows)
        ]
        y, residuals = torch.cat([one.y for one in found]), torch.cat([one.residuals for one in found])
        fy, psi = torch.cat([one.proximal for one in found]), torch.cat([one.value for one in found])
        values = regulariser(y, fy, psi).numpy()
        preimage = Preimage(
            y[0].numpy() if single else y.numpy(),
            residuals.numpy(),
            torch.cat([one.converged for one in found]).numpy(),
            max(one.iterations for one in found),
        )
        return PriorEvaluation(values, preimage)

    solve = reconstruct

    def save(self, folder: Path | str, card: dict[str, Any] | None = None) -> None:
        """Write `model.safetensors` and `model.json` to a folder, which is created where missing.

        `card` is further information on the model (data, command, results) as JSON values; None for its own `card`.
        Weights are stored in float32, in which they were trained.
        """
        description = {
            "format": FORMAT,
            "kind": KIND,
            "network": self.settings.describe(),
            "noise": self.noise,
            "training": _describe_training(self.training),
            "card": json.loads(json.dumps(self.card if card is None else card, allow_nan=False)),
        }
        state = {name: tensor.float() for name, tensor in self.potential.state_dict().items()}
        write_described(Path(folder), "model", state, description)

    @classmethod
    def load(cls, folder: Path | str) -> ProximalModel:
        """Return the model of a folder that `save` wrote.

        FileNotFoundError where there is none; ValueError for a damaged model, one of another version, or weights that
        do not belong to a convex potential.
        """
        path = Path(folder) / WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(f"folder must contain {WEIGHTS}, got {str(folder)!r}")
        return read_model(path)

    def read_signals(self, name: str, value: ArrayLike) -> tuple[Tensor, bool]:
        """Return a copy of signals as `(n, *shape)` float64, and whether `value` was a single signal."""
        array = validation.real_array(name, value)
        single = array.ndim == len(self.shape)
        shape = array.shape if single else array.shape[1:]
        if array.ndim not in (len(self.shape), len(self.shape) + 1) or not self.accepts(shape) or array.size == 0:
            expected = ", ".join(map(str, self.shape))
            raise ValueError(f"{name} must have shape ({expected}) or (n, {expected}), got {array.shape}")
        return torch.from_numpy(np.array(array, np.float64).reshape(-1, *shape)), single

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        places = 1 if self.settings.kind == "dense" else rows.shape[-2] * rows.shape[-1]
        widest = max(rows[0].numel(), places * max(self.settings.hidden))
        return torch.split(rows, max(1, ENTRIES_AT_ONCE // widest))


def regulariser(y: Tensor, proximal: Tensor, value: Tensor) -> Tensor:
    """Return `R(f(y))` for rows, `(n,)`, given y, f(y) and ψ(y)."""
    y, x = y.flatten(1), proximal.flatten(1)
    return (y * x).sum(1) - 0.5 * x.square().sum(1) - value


def save_proximal(model: ProximalModel, folder: Path | str, card: dict[str, Any] | None = None) -> None:
    """Write a model as `ProximalModel.save` does."""
    model.save(folder, card)


def load_proximal(folder: Path | str) -> ProximalModel:
    """Return the model of a folder, as `ProximalModel.load` does."""
    return ProximalModel.load(folder)


def read_model(path: Path) -> ProximalModel:
    """Return the model of a weights file, which contains its description."""
    try:
        state, description = read_described(path)
        if description["format"] != FORMAT or description["kind"] != KIND:
            raise ValueError(f"format must be {FORMAT} and kind {KIND!r}, got {description['format']!r}")
        potential = build_potential(NetworkSettings(**description["network"]))
        potential.load_state_dict(state)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise ValueError("weights must be finite, got NaN or infinite ones")
        if any(bool((weight < 0).any()) for weight in potential.positive_weights()):
            raise ValueError("weights between hidden layers must be at least 0, got negative ones")
        training = _restore_training(description["training"])
        return ProximalModel(potential, description["noise"], training, description["card"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} contains no proximal model of this version: {error}") from error


def _describe_training(training: MatchingResult | None) -> dict[str, Any] | None:
    """Return a `MatchingResult` as JSON values, with None for values that are not finite."""
    if training is None:
        return None
    card = asdict(training) | {"ended": training.ended.value}
    card["records"] = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in one.items()}
        for one in card["records"]
    ]
    return card


def _restore_training(card: dict[str, Any] | None) -> MatchingResult | None:
    if card is None:
        return None
    values: list[dict[str, Any]] = [
        {name: math.nan if value is None else value for name, value in one.items()} for one in card["records"]
    ]
    records = tuple(MatchingRecord(**one) for one in values)
    return MatchingResult(**{**card, "ended": MatchingOutcome(card["ended"]), "records": records})
