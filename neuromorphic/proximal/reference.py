"""Reference of learned proximal operators without torch: compiled kernels, and the same in plain NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.proximal import kernels
from relaxon.solvers.kernels.threads import divide

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.model import ProximalModel

Array = NDArray[np.float64]
Backend = Literal["numba", "numpy"]


@dataclass(frozen=True, slots=True)
class ProximalReference:
    """The form and the flat parameters of a dense potential, in the order of `kernels`."""

    features: int
    widths: NDArray[np.int64]
    constants: Array
    """β, α, scale and offset."""
    theta: Array

    @classmethod
    def of(cls, model: ProximalModel) -> Self:
        """Return the reference of a model; ValueError for one whose network is not dense."""
        settings = model.settings
        if settings.kind != "dense":
            raise ValueError(f"model must have a dense network, got kind {settings.kind!r}")
        state = {name: tensor.numpy() for name, tensor in model.potential.state_dict().items()}
        layers = range(len(settings.hidden))
        names = [f"reads.{k}.weight" for k in layers] + [f"reads.{k}.bias" for k in layers]
        names += [f"carries.{k}.weight" for k in layers[:-1]] + ["last.weight", "slope.weight"]
        constants = np.array([settings.beta, settings.alpha, settings.scale, settings.offset])
        theta = np.concatenate([state[name].ravel() for name in names])
        return cls(math.prod(settings.shape), np.array(settings.hidden), constants, theta)

    def evaluate(self, y: Array, backend: Backend = "numba") -> tuple[Array, Array]:
        """Return ψ and f of rows `y (n, features)`: `(n,)` and `(n, features)`."""
        if backend == "numpy":
            return self._evaluate_slowly(y)
        y = np.ascontiguousarray(y, np.float64)
        values, proximal = np.empty(len(y)), np.empty_like(y)
        work = np.empty((len(y), 2, len(self.widths), int(self.widths.max())))
        divide(kernels.potential_run, len(y), y, self.theta, self.widths, self.constants, work, values, proximal)
        return values, proximal

    def descend(
        self,
        matrix: Array,
        observation: Array,
        weight: float,
        iterations: int,
        start: Array,
        backend: Backend = "numba",
    ) -> Array:
        """Return x after that many steps of `y ← x − weight Aᵀ(A x − b)`, `x ← f(y)`, from y = `start (features,)`."""
        y = np.array(start, np.float64)
        matrix = np.ascontiguousarray(matrix, np.float64)
        misfit = np.empty(len(matrix))
        for _ in range(iterations):
            x = self.evaluate(y[None], backend)[1][0]
            if backend == "numpy":
                y = x - weight * (matrix.T @ (matrix @ x - observation))
            else:
                kernels.gradient_step(matrix, x, observation, weight, misfit, y)
        return np.asarray(self.evaluate(y[None], backend)[1][0])

    def _evaluate_slowly(self, y: Array) -> tuple[Array, Array]:
        beta, alpha, scale, offset = self.constants
        reads, biases, carries, last, slope = self._parts()
        z = (y - offset) / scale
        arguments: list[Array] = []
        hidden = np.zeros((len(y), 0))
        for k, (read, bias) in enumerate(zip(reads, biases, strict=True)):
            arguments.append(z @ read.T + bias + (hidden @ carries[k - 1].T if k else 0.0))
            hidden = np.logaddexp(0.0, beta * arguments[-1]) / beta
        value = hidden @ last + z @ slope + alpha * (z**2).sum(1)
        gradient, pulled = slope + 2 * alpha * z, np.broadcast_to(last, hidden.shape)
        for k in reversed(range(len(reads))):
            pulled = pulled * 0.5 * (1 + np.tanh(0.5 * beta * arguments[k]))
            gradient = gradient + pulled @ reads[k]
            pulled = pulled @ carries[k - 1] if k else pulled
        return scale**2 * value + offset * y.sum(1), scale * gradient + offset

    def _parts(self) -> tuple[list[Array], list[Array], list[Array], Array, Array]:
        d, widths = self.features, [int(width) for width in self.widths]
        shapes = [(h, d) for h in widths] + [(h,) for h in widths]
        shapes += [(after, before) for before, after in pairwise(widths)]
        shapes += [(widths[-1],), (d,)]
        places = np.cumsum([math.prod(shape) for shape in shapes])
        parts = [part.reshape(shape) for part, shape in zip(np.split(self.theta, places[:-1]), shapes, strict=True)]
        count = len(widths)
        return parts[:count], parts[count : 2 * count], parts[2 * count : -2], parts[-2], parts[-1]
