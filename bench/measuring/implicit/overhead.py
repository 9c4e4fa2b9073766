"""The section `overhead` of bench/implicit.py: a gradient's time beside the bare adjoint solve, memory, reuse."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from measuring.tables import terminal_table
from relaxon.implicit import ImplicitOptions, custom_fixed_point, implicit, krylov, record_verdicts

SIDE, QUICK_SIDE = 100, 100
REPEATS, QUICK_REPEATS = 15, 5
ITERATIONS = (10, 100, 1000)
RTOL, MOST = 1e-8, 3000


@dataclass(frozen=True)
class Field:
    """Diffusion, wind and a reaction on a square: `−Δx + w ∂x + h² (c x + x³) = h² θ`, 0 outside.

    A strong reaction c makes the system easy (tens of products), none makes it that of a Poisson equation.
    """

    side: int
    wind: float
    reaction: float

    def residual(self, x: Tensor, theta: Tensor) -> Tensor:
        """The equation's residual at `(side, side)` values."""
        padded = torch.nn.functional.pad(x[None, None], (1, 1, 1, 1))[0, 0]
        west, east, north, south = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
        h2 = 1 / self.side**2
        return 4 * x - west - east - north - south + self.wind * (x - west) + h2 * (self.reaction * x + x**3 - theta)

    def solve(self, init: Tensor, theta: Tensor) -> Tensor:
        """Newton's method, its steps by GMRES."""
        x = init
        for _ in range(30):
            value = self.residual(x, theta)
            if float(value.norm()) <= 1e-13 * float(theta.norm()) / self.side**2:
                break
            apply = partial(self._tangent, x, theta)
            x = x - krylov.gmres(apply, value.reshape(1, -1), None, None, 1e-3, 2000, 100).x.reshape(x.shape)
        return x

    def _tangent(self, x: Tensor, theta: Tensor, v: Tensor) -> Tensor:
        image: Tensor = torch.func.jvp(lambda x: self.residual(x, theta), (x,), (v.reshape(x.shape),))[1]
        return image.reshape(1, -1)


def run(console: Console, quick: bool) -> dict[str, Any]:
    """Print and return the rows."""
    side, repeats = (QUICK_SIDE, QUICK_REPEATS) if quick else (SIDE, REPEATS)
    rows = [_against_bare_solve(Field(side, wind, reaction), method, repeats) for wind, reaction, method in CASES]
    cells = [
        [
            f"{side}², {'wind' if row['wind'] else 'no wind'}, {'strong' if row['reaction'] else 'weak'} reaction",
            row["method"],
            row["products"],
            f"{1e3 * row['bare_seconds']:.1f}",
            f"{1e3 * row['gradient_seconds']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['error_estimate']:.1e}",
        ]
        for row in rows
    ]
    headings = ("system", "method", "products", "bare ms", "gradient ms", "ratio", "error estimate")
    console.print(terminal_table(headings, cells))
    memory = [_saved_bytes(iterations) for iterations in ITERATIONS]
    for row in memory:
        console.print(
            f"{row['iterations']} iterations: {row['implicit'] / 2**20:.2f} MiB saved for the backward pass, "
            f"{row['unrolled'] / 2**20:.2f} MiB by unrolling"
        )
    return {"rows": rows, "memory": memory}


CASES = (
    (0.0, 5000.0, "cg"),
    (0.0, 0.0, "cg"),
    (0.5, 5000.0, "gmres"),
    (0.5, 0.0, "gmres"),
    (0.5, 0.0, "bicgstab"),
)
"""Wind, reaction, method."""


def _against_bare_solve(field: Field, method: str, repeats: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(field.side, field.side, generator=generator, dtype=torch.float64).requires_grad_()
    g = torch.randn(field.side, field.side, generator=generator, dtype=torch.float64)
    options = ImplicitOptions(method=method, symmetric=method == "cg", rtol=RTOL, max_iterations=MOST)  # type: ignore[arg-type]
    solver = implicit(field.solve, field.residual, options=options)
    with record_verdicts() as verdicts:
        x = solver(torch.zeros_like(g), theta)

    def gradient() -> Tensor:
        return torch.autograd.grad(x, theta, g, retain_graph=True)[0]

    def bare() -> Tensor:
        at = x.detach().requires_grad_()
        with torch.enable_grad():
            value = field.residual(at, theta.detach())

        def product(v: Tensor) -> Tensor:
            return torch.autograd.grad(value, at, v.reshape(x.shape), retain_graph=True)[0].reshape(1, -1)

        solve = {"cg": krylov.cg, "gmres": krylov.gmres, "bicgstab": krylov.bicgstab}[method]
        last = (50,) if method == "gmres" else ()
        with torch.no_grad():
            return solve(product, g.reshape(1, -1), None, None, RTOL, MOST, *last).x.reshape(x.shape)

    pairs = [(_seconds(bare), _seconds(gradient)) for _ in range(repeats + 1)][1:]
    verdict = verdicts[-1]
    return {
        "unknowns": field.side**2,
        "wind": field.wind,
        "reaction": field.reaction,
        "method": method,
        "products": verdict.products,
        "bare_seconds": statistics.median(pair[0] for pair in pairs),
        "gradient_seconds": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
        "error_estimate": verdict.error_estimate,
        "difference": float((field.side**2 * gradient() - bare()).norm() / bare().norm()),  # ∂F/∂θ = −h²
    }


def _seconds(function: Callable[[], Tensor]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def _saved_bytes(iterations: int) -> dict[str, Any]:
    """Bytes of distinct storages that autograd keeps for the backward pass of a fixed-point iteration."""
    generator = torch.Generator().manual_seed(0)
    weight = (
        0.5 * torch.linalg.qr(torch.randn(200, 200, generator=generator, dtype=torch.float64))[0]
    ).requires_grad_()
    b = torch.randn(64, 200, generator=generator, dtype=torch.float64)

    def T(x: Tensor, weight: Tensor) -> Tensor:
        return torch.tanh(x @ weight + b)

    def iterate(init: Tensor, weight: Tensor) -> Tensor:
        x = init
        for _ in range(iterations):
            x = T(x, weight)
        return x

    found = {"iterations": iterations}
    for name, function in (("implicit", custom_fixed_point(T, batch_dims=1)(iterate)), ("unrolled", iterate)):
        storages: dict[int, Tensor] = {}

        def keep(tensor: Tensor, storages: dict[int, Tensor] = storages) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            function(torch.zeros_like(b), weight)
        found[name] = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    return found
