"""The server as a process (`serve`) or as a thread of this one (`EmbeddedServer`)."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from relaxon.proto import (
    boosting_pb2,
    boosting_pb2_grpc,
    equilibrium_pb2,
    equilibrium_pb2_grpc,
    linear_pb2,
    linear_pb2_grpc,
    poisson_pb2,
    poisson_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)
from relaxon.server import boosting_service, equilibrium_service
from relaxon.server.attendance import AttendanceList
from relaxon.server.boosting_service import BoostingServicer
from relaxon.server.boosting_task import KIND as BOOSTING
from relaxon.server.equilibrium_service import EquilibriumServicer
from relaxon.server.equilibrium_task import KIND as EQUILIBRIUM
from relaxon.server.job_runner import JobRunner
from relaxon.server.jobs import MemoryJobStore
from relaxon.server.linear_service import LinearServicer
from relaxon.server.models import ModelStore
from relaxon.server.operations_service import OperationsServicer
from relaxon.server.poisson_service import PoissonServicer
from relaxon.server.session_service import SessionServicer
from relaxon.server.sessions import SessionStore
from relaxon.server.settings import ServerSettings
from relaxon.server.solve_service import SolveRuntime

logger = logging.getLogger("relaxon.server")
SERVICES = (
    poisson_pb2.DESCRIPTOR.services_by_name["PoissonService"].full_name,
    linear_pb2.DESCRIPTOR.services_by_name["LinearSystemService"].full_name,
    session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    boosting_pb2.DESCRIPTOR.services_by_name["BoostingService"].full_name,
    equilibrium_pb2.DESCRIPTOR.services_by_name["EquilibriumService"].full_name,
    operations_pb2.DESCRIPTOR.services_by_name["Operations"].full_name,
)
SERVED = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
OPTIONS = (
    # Two servers on one port would share its connections without anybody noticing.
    ("grpc.so_reuseport", 0),
)
SWEEP_SECONDS = 30.0
CHECK_THREADS = 2


def serve(settings: ServerSettings, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain: refuse new calls, let running ones finish for the grace time.

    Call it in the main thread. `on_ready` is given the address once calls are taken. OSError where the port
    cannot be had.
    """
    asyncio.run(_serve_until_signal(settings, on_ready))


class EmbeddedServer:
    """A server in a thread of this process, for tests, notebooks and the command line.

    Examples
    --------
    >>> import relaxon
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     client.health()
    'SERVING'
    """

    def __init__(self, settings: ServerSettings | None = None) -> None:
        """`settings` as for `serve`; where None, the defaults on a free port."""
        self._settings = settings or replace(ServerSettings(), port=0)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="relaxon-server", daemon=True)
        self.target = ""
        """The address to connect to."""
        self.sessions = SessionStore(self._settings)

    def __enter__(self) -> EmbeddedServer:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drains as `serve` does."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:  # handed to the thread that waits in __enter__
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        async with _running(self._settings, self.sessions) as target:
            self.target = target
            self._ready.set()
            await self._stop.wait()


async def _serve_until_signal(settings: ServerSettings, on_ready: Callable[[str], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _running(settings, SessionStore(settings)) as target:
        logger.info("serving on %s", target)
        if on_ready is not None:
            on_ready(target)
        await stop.wait()
        logger.info("draining for at most %g s", settings.grace_seconds)


@asynccontextmanager
async def _running(settings: ServerSettings, sessions: SessionStore) -> AsyncIterator[str]:
    """A started server's address; drains at the end of the block."""
    engines = ThreadPoolExecutor(settings.workers, "relaxon-solve")
    checks = ThreadPoolExecutor(CHECK_THREADS, "relaxon-check")
    if settings.workers > 1:
        _demand_threadsafe_kernels()
    models = ModelStore(settings.model_folder, settings.max_models)
    runner = JobRunner(MemoryJobStore(settings.max_ended_jobs), models.jobs, settings)
    operations = OperationsServicer(
        runner,
        {
            BOOSTING: boosting_service.presentation(models),
            EQUILIBRIUM: equilibrium_service.presentation(models),
        },
    )
    boosting = BoostingServicer(settings, runner, models, operations, checks, engines)
    equilibrium = EquilibriumServicer(settings, runner, models, operations, checks, engines)
    server = grpc.aio.server(options=OPTIONS)
    operations_pb2_grpc.add_OperationsServicer_to_server(operations, server)
    equilibrium_pb2_grpc.add_EquilibriumServiceServicer_to_server(equilibrium, server)
    boosting_pb2_grpc.add_BoostingServiceServicer_to_server(boosting, server)
    attendances = AttendanceList(settings.max_attendances, settings.lease_seconds, sessions.leave)
    attending = SessionServicer(attendances)
    runtime = SolveRuntime(settings, sessions, attendances, engines, checks)
    session_pb2_grpc.add_SessionServiceServicer_to_server(attending, server)
    poisson_pb2_grpc.add_PoissonServiceServicer_to_server(PoissonServicer(runtime), server)
    linear_pb2_grpc.add_LinearSystemServiceServicer_to_server(LinearServicer(runtime), server)
    condition = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(condition, server)
    reflection.enable_server_reflection(SERVED, server)
    host = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.port}")
    except RuntimeError as error:
        models.close()
        raise OSError(f"port {settings.port} on {settings.host} cannot be listened on: {error}") from error
    await server.start()
    for name in ("", *SERVICES):
        await condition.set(name, health_pb2.HealthCheckResponse.SERVING)
    sweep = asyncio.create_task(_sweep(sessions))
    try:
        yield f"{host}:{port}"
    finally:
        sweep.cancel()
        await condition.enter_graceful_shutdown()
        attending.close()
        # Calls that wait for a job end as it does.
        await asyncio.gather(runner.close(settings.grace_seconds), server.stop(settings.grace_seconds))
        # Cut-off solves end at their next iteration; their threads must be gone before the loop is.
        await asyncio.get_running_loop().run_in_executor(None, _shut_down, engines, checks)
        models.close()


def _shut_down(*executors: ThreadPoolExecutor) -> None:
    for executor in executors:
        executor.shutdown(wait=True, cancel_futures=True)


async def _sweep(sessions: SessionStore) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        sessions.drop_expired()


def _demand_threadsafe_kernels() -> None:
    """Numba's own thread pool may be entered by one thread at a time; with OpenMP or TBB several may."""
    import numba

    numba.config.THREADING_LAYER = "threadsafe"  # type: ignore[attr-defined]
