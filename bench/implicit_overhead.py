"""The section `overhead` of bench/implicit.py: a gradient's time beside the bare adjoint solve, memory, reuse."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from relaxon.implicit import ImplicitOptions, custom_fixed_point, implicit, krylov, record_verdicts

SIDE, QUICK_SIDE = 100, 100
REPEATS, QUICK_REPEATS = 15, 5
ITERATIONS = (10, 100, 1000)
RTOL = 1e-8


@dataclass(frozen=True)
class Field:
    """A reaction, diffusion and wind on a square: `−Δx + w·∇x + x³ = θ`, unit grid spacing, 0 outside."""

    side: int
    wind: float

    def residual(self, x: Tensor, theta: Tensor) -> Tensor:
        """The equation's residual at `(side, side)` values."""
        padded = torch.nn.functional.pad(x[None, None], (1, 1, 1, 1))[0, 0]
        west, east, north, south = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
        return 4 * x - west - east - north - south + self.wind * (x - west) + x**3 + 0.05 * x - theta

    def solve(self, init: Tensor, theta: Tensor) -> Tensor:
        """Newton's method, its steps by GMRES."""
        x = init
        for _ in range(30):
            value, _ = torch.func.vjp(lambda x: self.residual(x, theta), x)
            if float(value.norm()) <= 1e-13 * float(theta.norm()):
                break
            step = krylov.gmres(self._tangent(x), value.reshape(1, -1), None, None, 1e-4, 400, 50).x
            x = x - step.reshape(x.shape)
        return x

    def _tangent(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        slope = 3 * x**2
        zero = torch.zeros_like(x)
        return lambda v: (
            self.residual(v.reshape(x.shape), zero) - v.reshape(x.shape) ** 3 + slope * v.reshape(x.shape)
        ).reshape(1, -1)


def run(console: Console, quick: bool) -> dict[str, Any]:
    """Print and return the rows."""
    side, repeats = (QUICK_SIDE, QUICK_REPEATS) if quick else (SIDE, REPEATS)
    rows = [_against_bare_solve(Field(side, wind), method, repeats) for wind, method in CASES]
    table = Table("system", "method", "products", "bare ms", "gradient ms", "ratio", "error estimate", box=None)
    for row in rows:
        table.add_row(
            f"{side}², {'symmetric' if row['symmetric'] else 'wind'}",
            row["method"],
            str(row["products"]),
            f"{1e3 * row['bare_seconds']:.1f}",
            f"{1e3 * row['gradient_seconds']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['error_estimate']:.1e}",
        )
    console.print(table)
    memory = [_saved_bytes(iterations) for iterations in ITERATIONS]
    for row in memory:
        console.print(
            f"{row['iterations']} iterations: {row['implicit'] / 2**20:.2f} MiB saved for the backward pass, "
            f"{row['unrolled'] / 2**20:.2f} MiB by unrolling"
        )
    return {"rows": rows, "memory": memory}


CASES = ((0.0, "cg"), (0.0, "gmres"), (0.5, "gmres"), (0.5, "bicgstab"))


def _against_bare_solve(field: Field, method: str, repeats: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(field.side, field.side, generator=generator, dtype=torch.float64).requires_grad_()
    g = torch.randn(field.side, field.side, generator=generator, dtype=torch.float64)
    options = ImplicitOptions(method=method, symmetric=method == "cg", rtol=RTOL)  # type: ignore[arg-type]
    solver = implicit(field.solve, field.residual, options=options)
    x = solver(torch.zeros_like(g), theta)
    with record_verdicts() as verdicts:
        x = solver(torch.zeros_like(g), theta)

    def gradient() -> Tensor:
        return torch.autograd.grad(x, theta, g, retain_graph=True)[0]

    def bare() -> Tensor:
        with torch.no_grad():
            _, pull = torch.func.vjp(lambda x: field.residual(x, theta.detach()), x.detach())
            solve = {"cg": krylov.cg, "gmres": krylov.gmres, "bicgstab": krylov.bicgstab}[method]
            last = (50,) if method == "gmres" else ()
            found = solve(
                lambda v: pull(v.reshape(x.shape))[0].reshape(1, -1), g.reshape(1, -1), None, None, RTOL, 1000, *last
            )
            return found.x.reshape(x.shape)

    pairs = [(_seconds(bare), _seconds(gradient)) for _ in range(repeats + 1)][1:]
    verdict = verdicts[-1]
    return {
        "unknowns": field.side**2,
        "symmetric": field.wind == 0,
        "method": method,
        "products": verdict.products,
        "bare_seconds": statistics.median(pair[0] for pair in pairs),
        "gradient_seconds": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
        "error_estimate": verdict.error_estimate,
        "difference": float((gradient() - bare()).norm() / bare().norm()),
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
