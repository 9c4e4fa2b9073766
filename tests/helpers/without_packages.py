"""Processes in which packages that are installed cannot be found, nor in the processes that they start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""
"""As `sitecustomize`, which an interpreter imports as it starts. A None in `sys.modules` would not do: SciPy asks what
is there for `torch.Tensor`."""


def run_without(hidden: tuple[str, ...], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the arguments, and without the packages; `folder` is for what that needs."""
    (folder / "sitecustomize.py").write_text(HIDE.format(hidden=hidden))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(SOURCE)]), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=500, env=environment, cwd=folder
    )
