"""The control groups of this process (a container's, say), as folders of files that hold their limits. Linux only."""

from __future__ import annotations


def find_folders(controller: str, root: str = "") -> list[tuple[str, bool]]:
    """Return the folders of the process's groups for a controller ("cpu", "memory"), outermost first.

    Each comes with a flag that is True for groups of version 2, which has one tree for all controllers. `root` is
    prepended to the paths of `proc` and `sys`. In a container, the path of a group may be one of the host, of which
    only the root is mounted: the folders need not exist.
    """
    try:
        with open(f"{root}/proc/self/cgroup") as file:
            lines = [line.strip().split(":", 2) for line in file]
    except OSError:
        return []
    found: list[tuple[str, bool]] = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        unified = controllers == ""
        if not unified and controller not in controllers.split(","):
            continue
        top = f"{root}/sys/fs/cgroup" if unified else f"{root}/sys/fs/cgroup/{controller}"
        parts = [part for part in path.split("/") if part and part != ".."]
        found += [("/".join([top, *parts[:depth]]), unified) for depth in range(len(parts) + 1)]
    return found
