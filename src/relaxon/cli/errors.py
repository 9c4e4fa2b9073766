"""What ends a command with a message instead of a traceback."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot go on; the message says why in one line, `status` is the exit status."""

    status = 1


class UsageError(CommandError):
    """A mistake in the arguments."""

    status = 2


EXTRAS = {
    "server": ("grpc_health", "grpc_reflection", "numba", "llvmlite", "pyamg", "safetensors", "scipy", "torch"),
    "neuromorphic": ("sklearn", "joblib"),
    "onnx": ("onnx",),
    "tables": ("pyarrow",),
    "metrics": ("grpc_channelz", "prometheus_client"),
    "telemetry": ("opentelemetry",),
    "dashboard": ("aiohttp",),
    "ray": ("ray",),
    "bench": ("matplotlib", "psutil"),
}
"""The import names that each extra of the package brings."""


def explain_missing_module(error: ModuleNotFoundError) -> str:
    """What to install for the missing module; a module that no extra brings is a fault and is raised again."""
    missing = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if missing in modules:
            return f"{missing} is not installed; install it with: pip install 'relaxon[{extra}]'"
    raise error
