"""A second process that compiles: it reads the numbers of tasks, a line each, and replies when their code is cached."""

# Imported on first use, for their weight: `solvers.kernels.cache_folder`, `solvers.kernels.key`, `table`.

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def answer_tasks(folder: str) -> None:
    """Compile the tasks numbered on standard input into that folder, and reply `done` or `failed` for each."""
    # Output of imports or of Numba must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from relaxon.solvers.kernels.cache_folder import use_folder
    from relaxon.solvers.kernels.key import kernel_key
    from relaxon.solvers.precompile.table import load_table

    if kernel_key() != Path(folder).name:
        return  # the sources have changed since the parent process read them
    use_folder(Path(folder))
    tasks = load_table().tasks
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for line in sys.stdin:
            task = tasks[int(line)]
            try:
                task.kernel().compile(task.signature())
                reply = "done"
            except Exception:  # the parent compiles it when it is called, and shows the error
                reply = "failed"
            print(reply, file=replies, flush=True)
