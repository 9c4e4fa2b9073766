"""The section `torchopt` of bench/implicit.py: TorchOpt's custom_root and ours, side by side in one process.

TorchOpt is not among the development packages: install it into this environment or into any other that has torch, and
name that one's interpreter:

    python -m venv peer && peer/bin/pip install torch==2.13.0 torchopt==0.7.3
    RELAXON_TORCHOPT_PYTHON=peer/bin/python python bench/implicit.py --only torchopt

Both libraries are imported by that interpreter, and measured in turn: CPU time, one thread, the same tolerance. Solvers
cost nothing here (they return a stored solution), so what is timed is the derivative.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RTOL = 1e-8
MAX_ITERATIONS = 5000
REPEATS, QUICK_REPEATS = 15, 5
CHILD_SECONDS = 300
FLOAT = torch.float64


def run(console: Any, quick: bool) -> dict[str, Any]:
    """Print and return the rows."""
    from measuring.tables import terminal_table

    python = os.environ.get("RELAXON_TORCHOPT_PYTHON") or (sys.executable if find_spec("torchopt") else None)
    if python is None:
        console.print("TorchOpt is not installed here and RELAXON_TORCHOPT_PYTHON is not set: nothing is compared")
        return {"skipped": "TorchOpt is not installed"}
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, __file__, str(QUICK_REPEATS if quick else REPEATS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"the comparison failed in {python}:\n{done.stderr}")
    record: dict[str, Any] = json.loads(done.stdout)
    console.print(
        f"TorchOpt {record['torchopt']} with torch {record['torch']}: {record['warnings']} warnings a gradient"
    )
    names = ("system", "unknowns", "library", "milliseconds", "error", "ratio")
    headings = ("system", "unknowns", "library", "CPU ms", "relative error", "of TorchOpt's time")
    console.print(terminal_table(headings, [[row[name] for name in names] for row in record["speed"]]))
    names = ("case", "right", "torchopt", "relaxon")
    console.print(
        terminal_table(("case", "right", "TorchOpt", "relaxon"), [[r[n] for n in names] for r in record["behaviour"]])
    )
    return record


def _ridge(count: int = 400) -> tuple[Callable[..., Tensor], Tensor, Tensor, Tensor, bool]:
    """Return F, θ, x⋆, the gradient of Σ x⋆ in θ and whether ∂₁F is symmetric: ridge regression, θ its targets."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2 * count, count, generator=generator, dtype=FLOAT) / count**0.5
    theta = torch.randn(2 * count, generator=generator, dtype=FLOAT)
    matrix = a.T @ a + 0.1 * torch.eye(count, dtype=FLOAT)
    exact = a @ torch.linalg.solve(matrix, torch.ones(count, dtype=FLOAT))
    return lambda x, b: a.T @ (a @ x - b) + 0.1 * x, theta, torch.linalg.solve(matrix, a.T @ theta), exact, True


def _wind(side: int = 50) -> tuple[Callable[..., Tensor], Tensor, Tensor, Tensor, bool]:
    """Return the same of diffusion with a wind on a square, `−Δx + w ∂x = θ`, zero outside: not symmetric."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(side * side, generator=generator, dtype=FLOAT)

    def operator(x: Tensor) -> Tensor:
        grid = x.reshape(side, side)
        padded = torch.nn.functional.pad(grid[None, None], (1, 1, 1, 1))[0, 0]
        west, east, north, south = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
        return (4 * grid - west - east - north - south + 0.5 * (grid - west)).reshape(-1)

    matrix = torch.func.jacrev(operator)(torch.zeros_like(theta))
    exact = torch.linalg.solve(matrix.T, torch.ones_like(theta))
    return lambda x, t: operator(x) - t, theta, torch.linalg.solve(matrix, theta), exact, False


SYSTEMS = {
    "ridge regression": _ridge,
    "ridge regression, more features": lambda: _ridge(1500),
    "diffusion with wind": _wind,
}


def _speed(repeats: int) -> list[dict[str, Any]]:
    import torchopt
    from torchopt.diff.implicit import custom_root as their_root

    from relaxon.implicit import ImplicitOptions, implicit

    rows = []
    for name, make in SYSTEMS.items():
        residual, theta, solution, exact, symmetric = make()
        theirs = torchopt.linear_solve.solve_cg if symmetric else torchopt.linear_solve.solve_normal_cg
        their_name = "solve_cg" if symmetric else "solve_normal_cg"
        solve = theirs(rtol=RTOL, atol=0.0, maxiter=MAX_ITERATIONS)
        start = torch.zeros_like(solution)
        ways = {f"TorchOpt, {their_name}": their_root(residual, argnums=1, solve=solve)(_returning(solution))}
        methods = ("cg",) if symmetric else ("gmres", "bicgstab")
        for method in methods:
            options = ImplicitOptions(method=method, symmetric=symmetric, rtol=RTOL, max_iterations=MAX_ITERATIONS)
            ways[f"relaxon, {method}"] = implicit(_returning(solution), residual, options=options)
            bare = replace(options, error_estimate="none")
            ways[f"relaxon, {method}, no estimate"] = implicit(_returning(solution), residual, options=bare)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        errors = {}
        for turn in range(repeats + 1):
            for way, solver in ways.items():
                value = theta.clone().requires_grad_()
                begin = time.process_time()
                solver(start, value).sum().backward()
                if turn:
                    seconds[way].append(time.process_time() - begin)
                errors[way] = float((value.grad - exact).norm() / exact.norm())
        first = next(iter(ways))
        for way in ways:
            ratio = statistics.median(a / b for a, b in zip(seconds[way], seconds[first], strict=True))
            milliseconds = 1e3 * statistics.median(seconds[way])
            rows.append(
                {
                    "system": name,
                    "unknowns": len(solution),
                    "library": way,
                    "milliseconds": milliseconds,
                    "error": errors[way],
                    "ratio": ratio,
                }
            )
    return rows


def _returning(solution: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a solver that costs nothing."""
    return lambda init, theta: solution.clone()


Case = tuple[str, str, Callable[[Callable[..., Any]], str]]
"""A name, what is right, and what a library's `root(F, solver)` makes of it, in words."""


def _second_derivative(root: Callable[..., Any]) -> str:
    theta = torch.tensor([4.0], dtype=FLOAT, requires_grad=True)
    x = root(lambda x, t: x * x - t, lambda init, t: t.sqrt())(torch.zeros(1, dtype=FLOAT), theta)
    (first,) = torch.autograd.grad(x.sum(), theta, create_graph=True)
    return f"{torch.autograd.grad(first.sum(), theta)[0].item():+.6f}"


def _not_a_root(root: Callable[..., Any]) -> str:
    theta = torch.tensor([4.0], dtype=FLOAT, requires_grad=True)
    root(lambda x, t: x * x - t, lambda init, t: t.sqrt() + 0.5)(torch.zeros(1, dtype=FLOAT), theta).sum().backward()
    return f"{theta.grad.item():.6f}"


def _singular(root: Callable[..., Any]) -> str:
    theta = torch.ones(1, dtype=FLOAT, requires_grad=True)
    both = torch.tensor([1.0, 2.0], dtype=FLOAT)
    x = root(lambda x, t: both * (x.sum() - t), lambda init, t: t.repeat(2) / 2)(torch.zeros(2, dtype=FLOAT), theta)
    (x[0] - x[1]).backward()
    return f"{theta.grad.item():.6f}"


def _not_finite(root: Callable[..., Any]) -> str:
    theta = torch.ones(1, dtype=FLOAT, requires_grad=True)
    root(lambda x, t: x - t, lambda init, t: t * float("nan"))(torch.zeros(1, dtype=FLOAT), theta).sum().backward()
    return f"{theta.grad.item():.6f}"


def _forward_mode(root: Callable[..., Any]) -> str:
    solve = root(lambda x, t: x * x - t, lambda init, t: t.sqrt())
    one = torch.ones(1, dtype=FLOAT)
    return f"{torch.func.jvp(lambda t: solve(0 * one, t), (4 * one,), (one,))[1].item():.6f}"


def _pytree(root: Callable[..., Any]) -> str:
    theta = torch.ones(1, dtype=FLOAT, requires_grad=True)
    solve = root(lambda x, t: {"a": x["a"] - 3 * t}, lambda init, t: {"a": 3 * t})
    solve({"a": torch.zeros(1, dtype=FLOAT)}, theta)["a"].sum().backward()
    return f"{theta.grad.item():.6f}"


def _complex(root: Callable[..., Any]) -> str:
    theta = torch.tensor([3.0 + 4.0j], dtype=torch.complex128, requires_grad=True)
    solve = root(lambda x, t: x * x - t, lambda init, t: t.sqrt())
    (solve(torch.zeros(1, dtype=torch.complex128), theta).abs() ** 2).sum().backward()
    return f"{theta.grad.item():.4f}"  # |√t|² = |t|, whose gradient by torch's convention is t/|t|


CASES: tuple[Case, ...] = (
    ("second derivative of √θ at 4", "-0.031250", _second_derivative),
    ("gradient at √θ + ½, no root", "a refusal", _not_a_root),
    ("singular ∂₁F, gradient without one", "a refusal", _singular),
    ("the solver returned NaN", "a refusal", _not_finite),
    ("torch.func.jvp of √θ at 4", "0.250000", _forward_mode),
    ("a dictionary as the unknown", "3.000000", _pytree),
    ("gradient of |√θ|² at 3 + 4i", "0.6000+0.8000j", _complex),
)


def _behaviour() -> list[dict[str, str]]:
    from torchopt.diff.implicit import custom_root as their_root

    from relaxon.implicit import implicit

    libraries = {
        "torchopt": lambda residual, solver: their_root(residual, argnums=1)(solver),
        "relaxon": lambda residual, solver: implicit(solver, residual),
    }
    return [
        {"case": name, "right": right, **{library: _told(case, root) for library, root in libraries.items()}}
        for name, right, case in CASES
    ]


def _told(case: Callable[[Callable[..., Any]], str], root: Callable[..., Any]) -> str:
    try:
        return case(root)
    except Exception as error:  # whatever a library raises is what is compared
        verdict = getattr(error, "verdict", None)
        return f"refused: {verdict.outcome.value}" if verdict else f"{type(error).__name__}: {str(error)[:60]}"


def _count_warnings() -> int:
    """Return how many warnings one gradient of TorchOpt gives where every one is shown."""
    from torchopt.diff.implicit import custom_root as their_root

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        theta = torch.tensor([4.0], dtype=FLOAT, requires_grad=True)
        their_root(lambda x, t: x * x - t, argnums=1)(lambda x, t: t.sqrt())(theta.detach(), theta).sum().backward()
    return len(caught)


def _child(repeats: int) -> None:
    from importlib.metadata import version

    torch.set_num_threads(1)
    counted = _count_warnings()
    warnings.simplefilter("ignore")
    print(
        json.dumps(
            {
                "torchopt": version("torchopt"),
                "torch": torch.__version__,
                "warnings": counted,
                "behaviour": _behaviour(),
                "speed": _speed(repeats),
            }
        )
    )


if __name__ == "__main__":
    _child(int(sys.argv[1]))
