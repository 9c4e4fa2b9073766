"""Trained proximal operators, which denoise, evaluate their prior and solve inverse problems."""

# Imported on first use, for weight or because it imports this module in turn: `plug_and_play`, `storage`.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.proximal.inversion import InversionCallback, Preimage, solve_shifted
from relaxon.neuromorphic.proximal.potentials import NetworkSettings, Potential

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.forward.operators import ForwardOperator
    from relaxon.neuromorphic.proximal.plug_and_play import Method, PlugAndPlayCallback, Reconstruction
    from relaxon.neuromorphic.proximal.training.matching import MatchingResult

Array = NDArray[np.float64]
ENTRIES_AT_ONCE = 1 << 22
"""Largest number of entries of a layer for signals processed together, which bounds the memory."""


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

    Examples
    --------
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

    def solve(
        self,
        observation: ArrayLike,
        operator: ForwardOperator,
        *,
        data_weight: float | None = None,
        observation_noise: float | None = None,
        method: Method = "pgd",
        penalty: float | None = None,
        tolerance: float = 1e-6,
        max_iterations: int = 5000,
        x0: ArrayLike | None = None,
        callback: PlugAndPlayCallback | None = None,
    ) -> Reconstruction:
        """Find a stationary point of `data_weight ½‖A x − b‖² + R(x)` by plug-and-play iterations.

        See `relaxon.neuromorphic.proximal.plug_and_play.reconstruct` for the arguments.
        """
        from relaxon.neuromorphic.proximal.plug_and_play import reconstruct

        return reconstruct(
            self,
            observation,
            operator,
            data_weight=data_weight,
            observation_noise=observation_noise,
            method=method,
            penalty=penalty,
            tolerance=tolerance,
            max_iterations=max_iterations,
            x0=x0,
            callback=callback,
        )

    def save(self, folder: Path | str, card: dict[str, Any] | None = None) -> None:
        """Write the model to a folder, which is created where missing, as safetensors and JSON."""
        from relaxon.neuromorphic.proximal.storage import save_proximal

        save_proximal(self, folder, card)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Return the model that `save` wrote; FileNotFoundError where there is none, ValueError for a damaged one."""
        from relaxon.neuromorphic.proximal.storage import load_proximal

        found: Any = load_proximal(folder)
        return found  # type: ignore[no-any-return]

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
