"""Something that is opened by awaiting it, and closed by itself where it is used in an `async with` statement."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar


class Closing(Protocol):
    """What an `async with` statement closes."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


Opened = TypeVar("Opened", bound=Closing)


class Opening(Generic[Opened]):
    """`await` it for what it opens, or use it in `async with`; once, either way. Nothing is done before."""

    def __init__(self, opened: Callable[[], Coroutine[Any, Any, Opened]]) -> None:
        self._open = opened
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, None, Opened]:
        return self._open().__await__()

    async def __aenter__(self) -> Opened:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        await self._opened.__aexit__(kind, error, trace)
