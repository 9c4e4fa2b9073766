"""A page on what the server does, for a browser on this machine: read-only, off unless it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relaxon.server.config.settings import ServerSettings
from relaxon.server.jobs.records import JobStore
from relaxon.server.solving.background_compiler import BackgroundCompiler
from relaxon.server.solving.observations import Observations
from relaxon.server.solving.sessions import SessionStore


@asynccontextmanager
async def show(
    settings: ServerSettings,
    target: str,
    observations: Observations | None,
    sessions: SessionStore,
    jobs: JobStore,
    compiler: BackgroundCompiler,
) -> AsyncIterator[None]:
    """The page while the block runs; nothing where `observations` is None. OSError where its port cannot be had."""
    if observations is None:
        yield
        return
    # aiohttp comes with the extra `dashboard` only.
    from relaxon.server.watching.dashboard.page import serve_page
    from relaxon.server.watching.dashboard.view import View

    async with serve_page(settings.dashboard_port, View(target, settings, observations, sessions, jobs, compiler)):
        yield
