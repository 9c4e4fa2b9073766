"""The Jacobian `J = ∂₁F` at a point, as a linear map of packed vectors.

It works on plain tensors and with torch's plain autograd, which is cheaper than `torch.func` and lets F do what that
does not allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from relaxon.implicit import krylov
from relaxon.implicit.arguments import CAPTURED
from relaxon.implicit.calls import SolverCall
from relaxon.implicit.options import LINEAR_RTOL
from relaxon.implicit.packing import Packing

ASYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-8}
"""Largest relative asymmetry that a probe may find for a Jacobian declared symmetric, by dtype."""
MOST_PRODUCTS = 1000
"""Iteration limit of a linear solve whose options set none."""


class StateJacobian:
    """J at `(x, θ)`; vectors are `(k·samples, n)`, k right-hand sides for each sample. F runs once.

    Raises
    ------
    TypeError, ValueError : for an F that does not return what it must, or that has captured what it may not.
    """

    def __init__(self, call: SolverCall, x: Sequence[Tensor], theta: Sequence[Tensor]) -> None:
        self.call, self.options = call, call.options
        self.active = [index for index, one in enumerate(call.active) if one]
        # Of a linear solver that judges itself, nothing but Bᵀu is asked for here.
        unjudged = self.options.rtol == self.options.root_rtol == math.inf and self.options.error_estimate == "none"
        self.x = [one.detach().requires_grad_(not unjudged) for one in x]
        self.theta = [one.detach() for one in theta]
        for index in self.active:
            self.theta[index].requires_grad_()
        self.packing = Packing.of(self.x, call.batch_dims)
        with torch.enable_grad():
            self._values = call.residual(self.x, self.theta)
        _refuse_captured(self._values, [*self.x, *self.active_theta])
        self.value = self.packing.pack([one.detach() for one in self._values])
        self._dummies: list[Tensor] = []
        self._pulled: Sequence[Tensor] = ()
        self._last: tuple[Tensor, tuple[Tensor, list[Tensor]]] | None = None
        wide = all(one.dtype.to_real() == torch.float64 for one in self.x)
        self.precision = torch.float64 if wide else torch.float32
        self.rtol = self.options.rtol or LINEAR_RTOL[self.precision]
        self.max_products = self.options.max_iterations or min(10 * self.packing.unknowns, MOST_PRODUCTS)

    @property
    def active_theta(self) -> list[Tensor]:
        """The tensors of θ that may have a derivative."""
        return [self.theta[index] for index in self.active]

    def product(self, v: Tensor, transposed: bool) -> Tensor:
        """Return J v, or Jᵀ v."""
        packing = self.packing
        apply = self._apply_transposed if transposed else self._apply_plain
        if len(v) == packing.samples:
            return packing.pack(apply(packing.unpack(v)))
        stacked = v.reshape(-1, packing.samples, packing.unknowns)
        return torch.vmap(lambda one: packing.pack(apply(packing.unpack(one))))(stacked).reshape(v.shape)

    def _apply_transposed(self, v: Sequence[Tensor]) -> Sequence[Tensor]:
        return _grad(self._values, self.x, v)

    def _apply_plain(self, v: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return J v as the transpose of the transpose, which only requires that F is twice differentiable."""
        if not self._dummies:
            self._dummies = [torch.zeros_like(one, requires_grad=True) for one in self._values]
            with torch.enable_grad():
                self._pulled = _grad(self._values, self.x, self._dummies, create_graph=True)
        return _grad(self._pulled, self._dummies, v)

    @cached_property
    def probed(self) -> tuple[Tensor, list[Tensor]]:
        """Return `(Jᵀp, Bᵀp)` for `probe`; for a symmetric J, with the graph from which `J v` is computed."""
        if not self.options.symmetric or self._dummies:
            return self.joint_pull(self.probe)
        self._dummies = [one.clone().requires_grad_() for one in self.packing.unpack(self.probe)]
        with torch.enable_grad():
            pulled = _grad(self._values, [*self.x, *self.active_theta], self._dummies, create_graph=True)
        self._pulled = pulled[: len(self.x)]
        parts = [one.detach() for one in pulled]
        return self.packing.pack(parts[: len(self.x)]), parts[len(self.x) :]

    def joint_pull(self, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return `(Jᵀv, Bᵀv)` for a vector like x, `Bᵀv` as the tensors of θ that may have a derivative."""
        if self._last is None or self._last[0] is not v:
            pulled = _grad(self._values, [*self.x, *self.active_theta], self.packing.unpack(v))
            count = len(self.x)
            self._last = v, (self.packing.pack(pulled[:count]), list(pulled[count:]))
        return self._last[1]

    def theta_pull(self, v: Tensor) -> list[Tensor]:
        """Return `Bᵀv` as the tensors of θ that may have a derivative."""
        if self._last is not None and self._last[0] is v:
            return self._last[1][1]
        return list(_grad(self._values, self.active_theta, self.packing.unpack(v)))

    def joint_push(self, v: Tensor, motion: Sequence[Tensor]) -> Tensor:
        """Return `J v + B motion`."""
        dummies = [torch.zeros_like(one, requires_grad=True) for one in self._values]
        with torch.enable_grad():
            pulled = _grad(self._values, [*self.x, *self.active_theta], dummies, create_graph=True)
        return self.packing.pack(_grad(pulled, dummies, [*self.packing.unpack(v), *motion]))

    @cached_property
    def probe(self) -> Tensor:
        """Return normal random numbers like x, from the options' seed."""
        generator = torch.Generator().manual_seed(self.options.seed)
        shape = (self.packing.samples, self.packing.unknowns)
        return torch.randn(shape, generator=generator, dtype=self.packing.dtype).to(self.packing.device)

    def refuse_asymmetric(self) -> None:
        """Raise ValueError where `Jᵀp` and `Jp` differ for a random p."""
        p = self.probe
        image = self.probed[0]
        found = float(krylov.relative(image - self.product(p, transposed=False), krylov.norms(image)).max())
        if not found <= ASYMMETRY[self.precision]:
            raise ValueError(
                f"symmetric must be False for this F: a probe of its Jacobian finds ‖Jᵀp − Jp‖/‖Jᵀp‖ = {found:.1e}, "
                f"more than {ASYMMETRY[self.precision]:.0e}"
            )


def _grad(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], v: Sequence[Tensor], create_graph: bool = False
) -> Sequence[Tensor]:
    """Return the product of v with the transposed Jacobian; zeros where an output does not depend on an input."""
    if not all(one.requires_grad for one in outputs):
        pairs = [(one, part) for one, part in zip(outputs, v, strict=True) if one.requires_grad]
        if not pairs:
            return [torch.zeros_like(one) for one in inputs]
        outputs, v = zip(*pairs, strict=True)
    found = torch.autograd.grad(outputs, inputs, v, retain_graph=True, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(one) if part is None else part for one, part in zip(inputs, found, strict=True)]


def _refuse_captured(values: Sequence[Tensor], known: Sequence[Tensor]) -> None:
    """Raise ValueError where the graph of `values` has other leaves than `known`: their gradient would be lost."""
    mine = {id(one) for one in known}
    waiting = [value.grad_fn for value in values if value.grad_fn is not None]
    if any(value.requires_grad and value.grad_fn is None and id(value) not in mine for value in values):
        raise ValueError(CAPTURED)
    seen = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in mine:
            raise ValueError(CAPTURED)
        waiting += [following for following, _ in node.next_functions if following is not None]
