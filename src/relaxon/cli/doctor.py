"""`relaxon doctor`: report what is installed, what the machine offers, and whether the solvers can run.

Imported on first use, for their weight: rich, llvmlite, torch, the solvers.
"""

from __future__ import annotations

import argparse
from typing import Any

from relaxon._version import __version__
from relaxon.cli.errors import describe_missing
from relaxon.cli.json_output import add_json, check_json, write_json
from relaxon.cli.machine import PACKAGES, describe_machine, list_package_versions
from relaxon.cli.weights import read_shipped_weights
from relaxon.core.extras import find_missing, install_command
from relaxon.server.watching.capabilities import list_capabilities

NEEDED = (*PACKAGES["client"], "scipy", "numba", "llvmlite", "grpcio-health-checking", "grpcio-reflection")
"""The distributions that `relaxon solve` needs for any solver; engines list the others that they need."""
SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vl", "neon", "sve")
"""The features named by LLVM that determine the width of the kernels' vectors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    """0 where `relaxon solve` can run here, 1 where not."""
    check_json(args.json)
    report = examine()
    if args.json is None:
        _print_report(report)
    write_json(args.json, report)
    return 0 if report["ready"] else 1


def examine() -> dict[str, Any]:
    """Return the report as JSON values.

    `ready` says whether `relaxon solve` can run here, and `problems` why not, or what makes it slow.
    """
    packages = list_package_versions()
    missing = [name for name in NEEDED if not (packages["client"] | packages["server"])[name]]
    problems = []
    if missing:
        problems.append(f"not installed: {', '.join(missing)}; install with: {install_command('server')}")
    weights = _examine_weights(problems)
    kernels = None if find_missing(("numba", "scipy")) else _examine_kernels(problems)
    slow: list[str] = []
    cache = _examine_cache(slow) if kernels else None
    return {
        "relaxon": __version__,
        "machine": describe_machine().as_dict(),
        "packages": packages,
        "engines": [
            {"name": engine.name, "missing": list(engine.find_missing()), "extra": engine.extra}
            for engine in list_capabilities()
        ],
        "kernels": kernels,
        "cache": cache,
        "gpu": None if find_missing(("torch",)) else _examine_gpu(),
        "weights": weights,
        "problems": [*problems, *slow],
        "ready": not problems,
    }


def _examine_kernels(problems: list[str]) -> dict[str, Any]:
    """Compile and run one solver on two kinds of grid, and return its threads and vectors."""
    import llvmlite.binding as llvm
    import numpy as np

    from relaxon.cli.residual import true_residual
    from relaxon.solvers import PoissonGrid, Robin, solve
    from relaxon.solvers.kernels.threads import get_num_threads

    cells, widths = np.zeros((8, 8, 8), np.uint8), np.geomspace(1, 2, 8)
    grids = [PoissonGrid(cells, boundary="dirichlet"), PoissonGrid(cells, (1.0, 1.0, widths), Robin(1.0), reaction=0.1)]
    b = np.random.default_rng(0).standard_normal(cells.shape)
    try:
        works = all(true_residual(grid, b, solve(grid, b, solver="cg").x).meets(1e-6) for grid in grids)
        if not works:
            problems.append("the compiled kernels run, but a test system is not solved")
    except Exception as error:  # the reader needs to see whatever a broken compiler raises
        works = False
        problems.append(f"the compiled kernels fail: {type(error).__name__}: {error}")
    features = llvm.get_host_cpu_features()
    return {
        "work": works,
        "threads": get_num_threads(),
        "cpu": llvm.get_host_cpu_name(),
        "simd": [name for name in SIMD if features.get(name)],
    }


def _examine_cache(problems: list[str]) -> dict[str, Any]:
    """Return where compiled kernels are kept and how many there are; note a problem where they cannot be kept."""
    from relaxon.solvers.kernels.cache_folder import REMEDY, folder_bytes, open_folder

    folder = open_folder()
    if not folder.writable or folder.temporary:
        problems.append(f"compiled kernels are not kept for later processes: {folder.problem}; {REMEDY}")
    kept = [] if folder.path is None else list(folder.path.glob("*.nbc"))
    return {
        "folder": None if folder.path is None else str(folder.path),
        "kept": folder.writable and not folder.temporary,
        "kernels": len(kept),
        "bytes": 0 if folder.path is None else folder_bytes(folder.path),
    }


def _examine_gpu() -> dict[str, Any]:
    import torch

    available = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if available else []
    return {
        "available": available,
        "devices": names,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }


def _examine_weights(problems: list[str]) -> list[dict[str, Any]]:
    try:
        found = read_shipped_weights()
    except (OSError, ValueError) as error:
        problems.append(str(error))
        return []
    if not found:
        problems.append("the package has no trained weights: reinstall it, or train with: relaxon train poisson")
    return [{"path": each.path, "parameters": each.parameters, "bytes": each.size} for each in found]


def _print_report(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    machine = report["machine"]
    table.add_row("relaxon", report["relaxon"])
    table.add_row("python", f"{machine['python']} on {machine['system']}")
    table.add_row("cpu", f"{machine['cpu']}, {machine['cores']} cores usable")
    table.add_row("memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB usable")
    for part, packages in report["packages"].items():
        versions = (f"{name} {version}" if version else f"[red]{name} –[/red]" for name, version in packages.items())
        table.add_row(part, ", ".join(versions))
    table.add_row("engines", ", ".join(one["name"] for one in report["engines"] if not one["missing"]) or "none")
    for one in report["engines"]:
        if one["missing"]:
            table.add_row("", Text(f"{one['name']} {describe_missing(one['missing'], one['extra'])}"))
    kernels = report["kernels"]
    if kernels:
        table.add_row(
            "kernels",
            f"{'compiled and checked' if kernels['work'] else 'failed'}; {kernels['threads']} threads (our own pool), "
            f"{kernels['cpu']}: {', '.join(kernels['simd']) or 'no known SIMD'}",
        )
    cache = report["cache"]
    if cache:
        table.add_row(
            "cache",
            f"{cache['folder'] or 'none'}: {cache['kernels']} compiled kernels, {cache['bytes'] / 2**20:.0f} MiB"
            f"{'' if cache['kept'] else ', not kept'}; `relaxon compile` fills it",
        )
    gpu = report["gpu"]
    if gpu:
        table.add_row("gpu", ", ".join(gpu["devices"]) or f"none (torch for {gpu['cuda'] or 'CPU'})")
    for weights in report["weights"]:
        table.add_row("weights", f"{weights['path']}: {weights['parameters']:,} parameters")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    for problem in report["problems"]:
        console.print("problem: " + problem, style="red", markup=False)
    console.print("ready: relaxon solve can run here" if report["ready"] else "not ready")
