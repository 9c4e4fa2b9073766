"""The Jacobian `J = ∂₁F` at a point as a linear map of packed vectors, and its linear systems."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vjp

from relaxon.implicit import krylov
from relaxon.implicit.calls import SolverCall
from relaxon.implicit.options import LINEAR_RTOL
from relaxon.implicit.packing import Packing
from relaxon.implicit.products import linearised

LARGEST_DENSE = 2**22
"""Entries of all samples' Jacobians up to which "auto" builds them."""


@dataclass(frozen=True, slots=True)
class Solved:
    """A linear solve: `u` and the relative residuals, `(right-hand sides × samples, …)`, and how it went."""

    u: Tensor
    relative_residuals: Tensor
    products: int
    method: str
    note: str = ""


class Jacobian:
    """J at `(x, θ)`; vectors are `(k·samples, n)` with k right-hand sides for each sample.

    F runs once for all products with Jᵀ, once more for all with J.
    """

    def __init__(self, call: SolverCall, x: Sequence[Tensor], theta: Sequence[Tensor]) -> None:
        self.call, self.options = call, call.options
        self.x, self.theta = [one.detach() for one in x], [one.detach() for one in theta]
        self.packing = Packing.of(self.x, call.batch_dims)
        with torch.enable_grad():  # so that a tensor that F has captured shows
            self.values, self._pull = vjp(self.at_theta, *self.x)
        if any(value.requires_grad for value in self.values):
            raise ValueError(
                "F must not use tensors that require grad and are not among its arguments, whose gradient would be "
                "lost: pass them (or the module that holds them) as part of θ"
            )
        self._push: Callable[..., tuple[Tensor, ...]] | None = None
        narrow = any(one.dtype.to_real() != torch.float64 for one in self.x)
        self.single = torch.float32 if narrow else torch.float64
        self.rtol = self.options.rtol or LINEAR_RTOL[self.single]
        self.max_products = self.options.max_iterations or min(10 * self.packing.unknowns, 1000)

    def at_theta(self, *x: Tensor) -> tuple[Tensor, ...]:
        """F as a function of x alone."""
        return self.call.residual(x, self.theta)

    def product(self, v: Tensor, transposed: bool) -> Tensor:
        """Return J v, or Jᵀ v."""
        if not transposed and self._push is None:
            self._push = linearised(self.at_theta, self.x)
        apply = (lambda *t: self._pull(t)) if transposed else self._push
        assert apply is not None
        several = len(v) // max(self.packing.samples, 1)
        if several == 1:
            return self.packing.pack(apply(*self.packing.unpack(v)))
        stacked = v.reshape(several, self.packing.samples, -1)
        return torch.vmap(lambda one: self.packing.pack(apply(*self.packing.unpack(one))))(stacked).reshape(v.shape)

    def solve(self, right: Tensor, transposed: bool) -> Solved:
        """Solve `J u = right`, or `Jᵀ u = right`, by what the options ask for."""
        options, packing = self.options, self.packing
        if options.linear_solver is not None:
            return self._solve_by_user(right, transposed)
        if self.is_dense:
            return self._solve_densely(right, transposed)
        apply = self._counted(transposed)
        key = (transposed, tuple(right.shape), right.dtype, packing.shapes)
        start = self.call.starts.get(key) if options.warm_start else None
        arguments = (apply, right, start, self._preconditioner(transposed), self.rtol, self.max_products)
        method = options.method
        if method == "auto":
            method = "cg" if options.symmetric else "gmres"
        if method == "cg":
            found = krylov.cg(*arguments)
            if found.note == "indefinite":
                rest = krylov.gmres(
                    apply,
                    right,
                    found.x,
                    self._preconditioner(transposed),
                    self.rtol,
                    self.max_products,
                    options.restart,
                )
                found, method = rest, "cg+gmres"
        elif method == "gmres":
            found = krylov.gmres(*arguments, options.restart)
        else:
            found = krylov.bicgstab(*arguments)
        if options.warm_start and bool(torch.isfinite(found.x).all()):
            self.call.starts.put(key, found.x)
        return Solved(found.x, found.relative_residuals, apply.count, method)

    @property
    def is_dense(self) -> bool:
        """Whether systems are solved by factors of J itself."""
        if self.options.linear_solver is not None:
            return False
        n = self.packing.unknowns
        small = n <= self.options.dense_limit and self.packing.samples * n * n <= LARGEST_DENSE
        return self.options.method == "direct" or (self.options.method == "auto" and small)

    def asymmetry(self) -> float:
        """Return `‖Jᵀp − Jp‖ / ‖Jᵀp‖` for a random p, the same at each call with one seed."""
        p = self.probe()
        image = self.product(p, transposed=True)
        return float(krylov.relative(image - self.product(p, transposed=False), krylov.norms(image)).max())

    def probe(self) -> Tensor:
        """Return normal random numbers like x, from the options' seed."""
        generator = torch.Generator().manual_seed(self.options.seed)
        shape = (self.packing.samples, self.packing.unknowns)
        return torch.randn(shape, generator=generator, dtype=self.packing.dtype).to(self.packing.device)

    def _counted(self, transposed: bool) -> _Counted:
        return _Counted(lambda v: self.product(v, transposed))

    def _preconditioner(self, transposed: bool) -> krylov.Map | None:
        options = self.options
        function = (options.adjoint_preconditioner if transposed else None) or options.preconditioner
        if function is None:
            return None
        samples, packing = max(self.packing.samples, 1), self.packing

        def apply(v: Tensor) -> Tensor:
            parts = [packing.pack(self.call.structured(packing.unpack(part), function)) for part in v.split(samples)]
            return torch.cat(parts)

        return apply

    def _solve_by_user(self, right: Tensor, transposed: bool) -> Solved:
        solver, packing = self.options.linear_solver, self.packing
        assert solver is not None
        apply = self._counted(transposed)

        def product(tree: object) -> object:
            raise NotImplementedError

        parts = [
            packing.pack(self.call.structured(packing.unpack(part), lambda b: solver(product, b, transposed)))
            for part in right.split(max(packing.samples, 1))
        ]
        u = torch.cat(parts)
        left = krylov.relative(right - apply(u), krylov.norms(right))[:, 0]
        return Solved(u, left, apply.count, "linear_solver")

    def _solve_densely(self, right: Tensor, transposed: bool) -> Solved:
        factors, pivots, singular, products = self._factors()
        samples, n = self.packing.samples, self.packing.unknowns
        columns = right.reshape(-1, samples, n).permute(1, 2, 0)
        found = torch.linalg.lu_solve(factors, pivots, columns.contiguous(), adjoint=transposed)
        u = found.permute(2, 0, 1).reshape(right.shape)
        left = krylov.relative(right - self.product(u, transposed), krylov.norms(right))[:, 0]
        return Solved(u, left, products + 1, "direct", "singular" if singular else "")

    def _factors(self) -> tuple[Tensor, Tensor, bool, int]:
        """LU factors of every sample's J, whether one is singular to rounding, and the products that they took."""
        key = tuple((t.data_ptr(), t._version, t.shape, t.stride()) for t in (*self.x, *self.theta))
        with _FACTORING:
            kept = self.call.factors.get("factors")
            if kept is not None and kept[0] == key:
                return (*kept[2], 0)
        samples, n = self.packing.samples, self.packing.unknowns
        rows = torch.eye(n, dtype=self.packing.dtype, device=self.packing.device)
        ones = rows[:, None, :].expand(n, samples, n).reshape(n * samples, n)
        matrix = self.product(ones, transposed=True).reshape(n, samples, n).permute(1, 0, 2)
        factors, pivots = torch.linalg.lu_factor(matrix.contiguous(), pivot=True)
        diagonal = torch.diagonal(factors, dim1=-2, dim2=-1).abs()
        largest = diagonal.amax(-1)
        singular = bool((diagonal.amin(-1) <= n * torch.finfo(matrix.dtype).eps * largest).any())
        found = (factors, pivots, singular)
        # The tensors are kept too: while they live, no others have their addresses.
        self.call.factors.put("factors", (key, (self.x, self.theta), found))
        return (*found, n)


_FACTORING = threading.Lock()


class _Counted:
    """A map that counts how often it is used."""

    def __init__(self, apply: krylov.Map) -> None:
        self._apply, self.count = apply, 0

    def __call__(self, v: Tensor) -> Tensor:
        self.count += 1
        return self._apply(v)
