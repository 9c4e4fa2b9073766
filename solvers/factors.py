"""Sparse LU factors by SuperLU that are freed in the thread that made them.

SciPy keeps SuperLU's memory by thread: a factor that goes in another thread than it came from is never freed
(measured with SciPy 1.17: 100 MB for each factor of 20,000 rows). A server makes factors in one worker thread and lets
them go in another.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

OWNERS = 4
"""Threads that make factors, and so as many as are made at a time."""


class Factor:
    """`scipy.sparse.linalg.splu(matrix, **options)`, whose errors it raises; to be solved with in any thread."""

    __slots__ = ("__weakref__", "_box")

    def __init__(self, matrix: Any, **options: Any) -> None:
        owner = next(_owners())
        self._box: list[Any] = owner.submit(_made, matrix, options).result()
        weakref.finalize(self, _released, owner, self._box).atexit = False

    @property
    def superlu(self) -> Any:
        """SciPy's object; not to be kept."""
        return self._box[0]

    def solve(self, b: NDArray[np.float64]) -> NDArray[np.float64]:
        """`x` with `matrix @ x = b`."""
        found: NDArray[np.float64] = self._box[0].solve(b)
        return found


def _made(matrix: Any, options: dict[str, Any]) -> list[Any]:
    from scipy.sparse.linalg import splu

    return [splu(matrix, **options)]


def _released(owner: ThreadPoolExecutor, box: list[Any]) -> None:
    with suppress(RuntimeError):  # at the interpreter's end nothing is taken on any more, nor needed
        owner.submit(box.clear)


@cache
def _owners() -> Iterator[ThreadPoolExecutor]:
    """Threads, each in its turn, without an end."""
    return itertools.cycle(
        [ThreadPoolExecutor(1, thread_name_prefix=f"relaxon-factors-{number}") for number in range(OWNERS)]
    )
