"""The Jacobian `J = ∂₁F` at a point, as a linear map of packed vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relaxon.implicit import krylov
from relaxon.implicit.calls import SolverCall
from relaxon.implicit.options import LINEAR_RTOL
from relaxon.implicit.packing import Packing
from relaxon.implicit.products import TensorMap, linearised, pullback, with_chosen

ASYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-8}
"""What a probe may find of a Jacobian that was declared symmetric, by dtype."""
MOST_PRODUCTS = 1000
"""Of a linear solve whose options set no limit."""


class StateJacobian:
    """J at `(x, θ)`; vectors are `(k·samples, n)`, k right-hand sides for each sample.

    F runs once for all products with Jᵀ, and once more for all with J.
    """

    def __init__(self, call: SolverCall, x: Sequence[Tensor], theta: Sequence[Tensor]) -> None:
        self.call, self.options = call, call.options
        self.x, self.theta = [one.detach() for one in x], [one.detach() for one in theta]
        self.packing = Packing.of(self.x, call.batch_dims)
        with torch.enable_grad():  # so that a tensor that F has captured shows
            self.values, self._pull = pullback(self._of_x, self.x)
        if any(value.requires_grad for value in self.values):
            raise ValueError(
                "F must not use tensors that require grad and are not among its arguments, whose gradient would be "
                "lost: pass them (or the module that holds them) as part of θ"
            )
        self._push: TensorMap | None = None
        self._joint_pull: TensorMap | None = None
        wide = all(one.dtype.to_real() == torch.float64 for one in self.x)
        self.precision = torch.float64 if wide else torch.float32
        self.rtol = self.options.rtol or LINEAR_RTOL[self.precision]
        self.max_products = self.options.max_iterations or min(10 * self.packing.unknowns, MOST_PRODUCTS)
        self.active = [index for index, one in enumerate(call.active) if one]

    def _of_x(self, *x: Tensor) -> tuple[Tensor, ...]:
        return self.call.residual(x, self.theta)

    def joint(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """F as a function of x and of the tensors of θ that may have a derivative."""
        count = len(self.x)
        theta = with_chosen(lambda *full: self.call.residual(tensors[:count], full), self.theta, self.active)
        return theta(*tensors[count:])

    def joint_pull(self, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return `(Jᵀv, Bᵀv)` for a vector like x, `Bᵀv` as the tensors of θ that may have a derivative."""
        if self._joint_pull is None:
            self._joint_pull = pullback(self.joint, [*self.x, *self.active_theta])[1]
        pulled = self._joint_pull(*self.packing.unpack(v))
        count = len(self.x)
        return self.packing.pack(pulled[:count]), list(pulled[count:])

    @property
    def active_theta(self) -> list[Tensor]:
        """The tensors of θ that may have a derivative."""
        return [self.theta[index] for index in self.active]

    def product(self, v: Tensor, transposed: bool) -> Tensor:
        """Return J v, or Jᵀ v."""
        if not transposed and self._push is None:
            self._push = linearised(self._of_x, self.x)
        apply = self._pull if transposed or self._push is None else self._push
        packing = self.packing
        if len(v) == packing.samples:
            return packing.pack(apply(*packing.unpack(v)))
        stacked = v.reshape(-1, packing.samples, packing.unknowns)
        return torch.vmap(lambda one: packing.pack(apply(*packing.unpack(one))))(stacked).reshape(v.shape)

    def probe(self) -> Tensor:
        """Return normal random numbers like x, from the options' seed."""
        generator = torch.Generator().manual_seed(self.options.seed)
        shape = (self.packing.samples, self.packing.unknowns)
        return torch.randn(shape, generator=generator, dtype=self.packing.dtype).to(self.packing.device)

    def refuse_asymmetric(self) -> None:
        """Raise ValueError where `Jᵀp` and `Jp` differ for a random p."""
        p = self.probe()
        image = self.product(p, transposed=True)
        found = float(krylov.relative(image - self.product(p, transposed=False), krylov.norms(image)).max())
        if not found <= ASYMMETRY[self.precision]:
            raise ValueError(
                f"symmetric must be False for this F: a probe of its Jacobian finds ‖Jᵀp − Jp‖/‖Jᵀp‖ = {found:.1e}, "
                f"more than {ASYMMETRY[self.precision]:.0e}"
            )
