"""A second process that compiles: it reads the numbers of tasks, a line each, and answers when their code is kept."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def answer_tasks(folder: str) -> None:
    """Compile what standard input names into that folder until it ends; `done` or `failed` for each."""
    # What the imports or Numba print is none of the parent's lines.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from relaxon.solvers.kernels.cache_folder import use_folder
    from relaxon.solvers.kernels.key import kernel_key
    from relaxon.solvers.precompile.table import load_table

    if kernel_key() != Path(folder).name:
        return  # the sources have changed since the parent read them
    use_folder(Path(folder))
    tasks = load_table().tasks
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for line in sys.stdin:
            task = tasks[int(line)]
            try:
                task.kernel().compile(task.signature())
                reply = "done"
            except Exception:  # the parent compiles it itself, where it is called, and shows what is wrong
                reply = "failed"
            print(reply, file=replies, flush=True)
