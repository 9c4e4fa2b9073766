"""The dashboard over HTTP: on this machine only, read-only, and closed to the scripts of other sites."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files

from aiohttp import web

from relaxon.server.jobs.records import Json
from relaxon.server.watching.dashboard.view import View

logger = logging.getLogger("relaxon.server")
HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""The names by which a browser on this machine calls it. A request under another name comes from a foreign page, whose
scripts could otherwise read this one as their own (DNS rebinding)."""
METHODS = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC = {
    "/": ("index.html", "text/html"),
    "/dashboard.css": ("dashboard.css", "text/css"),
    "/dashboard.js": ("dashboard.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
LONGEST_NUMBER = 15
"""The most digits of a number in a request."""
CLOSING_SECONDS = 1.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve_page(port: int, view: View) -> AsyncIterator[str]:
    """Serve the page while the block runs and yield its address; port 0 takes a free one."""
    runner = web.AppRunner(_application(view), access_log=None, shutdown_timeout=CLOSING_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port, reuse_port=False).start()
        except OSError as error:
            raise OSError(f"dashboard_port {port} on {HOST} cannot be listened on: {error}") from error
        address = f"http://{HOST}:{runner.addresses[0][1]}/"
        logger.info("dashboard on %s", address)
        yield address
    finally:
        await runner.cleanup()


def _application(view: View) -> web.Application:
    application = web.Application(middlewares=[_guard])
    for path, (name, kind) in STATIC.items():
        application.router.add_get(path, _static(name, kind))

    async def state(request: web.Request) -> web.StreamResponse:
        return _json(view.state(_parse_whole(request.query.get("jobs", "0"))))

    async def solve(request: web.Request) -> web.StreamResponse:
        return _answer_found(view.solve(_parse_whole(request.match_info["number"])))

    async def job(request: web.Request) -> web.StreamResponse:
        return _answer_found(view.job(request.match_info["id"]))

    application.router.add_get("/api/state", state)
    application.router.add_get("/api/solves/{number}", solve)
    application.router.add_get("/api/jobs/{id}", job)
    return application


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what no reader of the page would send, and tell the browser what the page may do."""
    response: web.StreamResponse
    if request.method not in METHODS:
        response = web.Response(status=405, text="this page is read-only\n", headers={"Allow": ", ".join(METHODS)})
    elif request.host not in _hosts(request):
        response = web.Response(status=421, text="this page has another name\n")
    else:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=f"{error.reason}\n")
    response.headers.update(HEADERS)
    return response


def _hosts(request: web.Request) -> list[str]:
    """Return the names under which this port is reached."""
    assert request.transport is not None
    port = request.transport.get_extra_info("sockname")[1]
    return [f"{name}:{port}" for name in NAMES] + ([*NAMES] if port == 80 else [])


def _static(name: str, kind: str) -> Handler:
    text = (files(__package__) / "static" / name).read_text(encoding="utf-8")

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=kind, charset="utf-8")

    return answer


def _parse_whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise web.HTTPBadRequest
    return int(text)


def _answer_found(answer: Json | None) -> web.Response:
    if answer is None:
        raise web.HTTPNotFound
    return _json(answer)


def _json(answer: Json) -> web.Response:
    return web.Response(text=json.dumps(answer, allow_nan=False), content_type="application/json")
