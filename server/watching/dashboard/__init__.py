"""A page that shows what the server does, to a browser on this machine: read-only, and off by default.

Imported on first use, for their weight: aiohttp, and the modules that need it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relaxon.server.config.settings import ServerSettings
from relaxon.server.jobs.database import SqliteJobStore
from relaxon.server.solving.background_compiler import BackgroundCompiler
from relaxon.server.solving.observations import Observations
from relaxon.server.solving.sessions import SessionStore


@asynccontextmanager
async def show(
    settings: ServerSettings,
    target: str,
    observations: Observations | None,
    sessions: SessionStore,
    jobs: SqliteJobStore,
    compiler: BackgroundCompiler,
) -> AsyncIterator[None]:
    """Serve the page while the block runs, unless `observations` is None; OSError for a port that is taken."""
    if observations is None:
        yield
        return
    # aiohttp, which the page needs, comes with the extra `dashboard`.
    from relaxon.server.watching.dashboard.page import serve_page
    from relaxon.server.watching.dashboard.view import View

    async with serve_page(settings.dashboard_port, View(target, settings, observations, sessions, jobs, compiler)):
        yield
