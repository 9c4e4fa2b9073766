"""The server as a process (`serve`) or as a thread of this process (`EmbeddedServer`)."""

# Imported on first use, for its weight: grpc_channelz.

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from relaxon.core.extras import explain, find_missing, install_command
from relaxon.proto import (
    linear_pb2,
    linear_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    poisson_pb2,
    poisson_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    status_pb2,
    status_pb2_grpc,
)
from relaxon.server.config import threads
from relaxon.server.config.settings import ServerSettings, compile_kinds
from relaxon.server.gate.access import Gate
from relaxon.server.gate.attendance import AttendanceList
from relaxon.server.gate.drain import LONGEST_QUIET_SECONDS, Drain
from relaxon.server.gate.interceptor import CallInterceptor, Observer
from relaxon.server.gate.transport_security import Certificate
from relaxon.server.jobs.database import SqliteJobStore
from relaxon.server.jobs.folder import lock_folder
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import OperationsServicer
from relaxon.server.jobs.runner import JobRunner
from relaxon.server.solving.background_compiler import BackgroundCompiler
from relaxon.server.solving.linear_service import LinearServicer
from relaxon.server.solving.observations import Observations
from relaxon.server.solving.poisson_service import PoissonServicer
from relaxon.server.solving.runtime import SolveRuntime
from relaxon.server.solving.session_service import SessionServicer
from relaxon.server.solving.sessions import SessionStore
from relaxon.server.training.models_service import ModelsServicer
from relaxon.server.training.registry import BUILT_IN, ENGINES
from relaxon.server.training.service import TrainingService, present_jobs
from relaxon.server.watching import dashboard, logs, tracing
from relaxon.server.watching.capabilities import describe_missing
from relaxon.server.watching.metrics import Metrics
from relaxon.server.watching.status_service import Busy, StatusServicer

logger = logging.getLogger("relaxon.server")
SERVICES = (
    poisson_pb2.DESCRIPTOR.services_by_name["PoissonService"].full_name,
    linear_pb2.DESCRIPTOR.services_by_name["LinearSystemService"].full_name,
    session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    *(engine.wire.service.full_name for engine in BUILT_IN),
    models_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    status_pb2.DESCRIPTOR.services_by_name["StatusService"].full_name,
    operations_pb2.DESCRIPTOR.services_by_name["Operations"].full_name,
)
SERVED = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
CHANNELZ = "grpc.channelz.v1.Channelz"
OPTIONS = (
    ("grpc.server_handshake_timeout_ms", 10_000),
    # A connection without calls is closed; the caller's next call opens another.
    ("grpc.max_connection_idle_ms", 600_000),
    # A caller whose machine or network is gone is silent: its calls end within a minute and a half.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Calls of one connection; further ones wait for others to end.
    ("grpc.max_concurrent_streams", 256),
    # Two servers on one port would share its connections unnoticed.
    ("grpc.so_reuseport", 0),
)
SWEEP_SECONDS = 30.0
"""Seconds between two searches for expired sessions."""
CUT_SECONDS = 1.0
"""Seconds for calls that have been ended to report it."""
CHECK_THREADS = 2
"""Threads for checks that must not wait for a solve."""


def serve(settings: ServerSettings, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain: refuse new calls and let running ones finish within the grace period.

    Call it in the main thread. `on_ready` is called with the address once calls are accepted. OSError if the port is
    not available.
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
        """`settings` are as for `serve`; None for the defaults, on a free port, with nothing compiled ahead."""
        self._settings = settings or replace(ServerSettings(), port=0, compile="")
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

    def __exit__(self, *error: object) -> None:
        """Drain as `serve` does."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:  # passed to the thread that waits in __enter__
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        async with _run_server(self._settings, self.sessions) as target:
            self.target = target
            self._ready.set()
            await self._stop.wait()


async def _serve_until_signal(settings: ServerSettings, on_ready: Callable[[str], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _run_server(settings, SessionStore(settings)) as target:
        logger.info("serving on %s", target)
        if on_ready is not None:
            on_ready(target)
        await stop.wait()
        logger.info("draining for at most %g s", settings.grace_seconds)


@asynccontextmanager
async def _run_server(settings: ServerSettings, sessions: SessionStore) -> AsyncIterator[str]:
    """Start a server, give its address, and drain it at the end of the block. Whatever was opened is closed."""
    gate = Gate(settings)
    certificate = Certificate(settings) if settings.encrypted else None
    engines = ThreadPoolExecutor(settings.workers, "relaxon-solve", initializer=threads.bind)
    checks = ThreadPoolExecutor(CHECK_THREADS, "relaxon-check")
    if settings.training_backend == "ray" and find_missing(("ray",)):
        raise ValueError(f"training_backend 'ray' needs a package that is missing: {install_command('ray')}")
    async with AsyncExitStack() as opened:
        models = ModelStore(settings.model_folder, settings.max_models)
        opened.callback(models.close)
        kept = Path(settings.job_folder) if settings.job_folder else models.jobs
        opened.callback(lock_folder(kept, "job_folder").close)
        store = SqliteJobStore(kept, settings.max_ended_jobs)
        opened.callback(store.close)
        runner = JobRunner(store, kept, models, settings, lasting=bool(settings.model_folder))
        present = {kind: present_jobs(engine, models) for kind, engine in ENGINES.items()}
        operations = OperationsServicer(runner, present)
        observations = Observations() if settings.dashboard else None
        # Each holds a call open: the others must leave room for work.
        most = min(settings.max_attendances, max(1, settings.max_calls // 2))
        attendances = AttendanceList(most, settings.lease_seconds, sessions.leave)
        attending = SessionServicer(attendances)
        compiler = BackgroundCompiler()
        opened.push_async_callback(asyncio.to_thread, compiler.close)
        runtime = SolveRuntime(settings, sessions, attendances, engines, checks, compiler, observations)
        drain = Drain()
        busy = Busy(
            settings,
            drain,
            runner,
            models,
            lambda: len(sessions),
            lambda: sessions.cells,
            lambda: runtime.admission.taken,
            compiler,
        )
        interceptor = CallInterceptor(gate, drain, settings.idle_seconds, _make_observers(settings, busy, opened))
        options = (*OPTIONS, ("grpc.enable_channelz", int(settings.channelz)))
        server = grpc.aio.server(
            interceptors=(interceptor,), options=options, maximum_concurrent_rpcs=settings.max_calls
        )
        operations_pb2_grpc.add_OperationsServicer_to_server(operations, server)
        for engine in ENGINES.values():
            service = TrainingService(engine, settings, runner, models, operations, checks, engines, observations)
            service.register(server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(attending, server)
        poisson_pb2_grpc.add_PoissonServiceServicer_to_server(PoissonServicer(runtime), server)
        linear_pb2_grpc.add_LinearSystemServiceServicer_to_server(LinearServicer(runtime), server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(ModelsServicer(settings, models, checks), server)
        status_pb2_grpc.add_StatusServiceServicer_to_server(StatusServicer(busy), server)
        condition = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(condition, server)
        added = tuple(engine.wire.service.full_name for engine in ENGINES.values() if engine not in BUILT_IN)
        served: tuple[str, ...] = (*SERVED, *added)
        if settings.channelz:
            _add_channelz(server)
            served = (*served, CHANNELZ)
        if settings.reflection:
            reflection.enable_server_reflection(served, server)
        target = _listen(server, settings, certificate)
        runner.recover()
        await server.start()
        for line in describe_missing():
            logger.info("not served: %s", line)
        for name in ("", *SERVICES, *added):
            await condition.set(name, health_pb2.HealthCheckResponse.SERVING)
        readiness = asyncio.create_task(_compile_ahead(compile_kinds(settings.compile), compiler, condition))
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
            # The usual request to read files again; without a handler, the signal would end the process.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, gate.refresh)
        sweep = asyncio.create_task(_sweep(sessions))
        try:
            async with dashboard.show(settings, target, observations, sessions, store, compiler):
                yield target
        finally:
            sweep.cancel()
            readiness.cancel()
            await condition.enter_graceful_shutdown()
            attending.close()
            grace = settings.grace_seconds
            await drain.refuse(min(grace, LONGEST_QUIET_SECONDS))
            # Calls that wait for a job end with it.
            await asyncio.gather(runner.close(grace), drain.finish(grace), server.stop(grace + CUT_SECONDS))
            # Abandoned solves end at their next iteration; their threads must end before the loop does.
            await asyncio.get_running_loop().run_in_executor(None, _shut_down, engines, checks)


async def _compile_ahead(
    kinds: tuple[str, ...], compiler: BackgroundCompiler, condition: health.aio.HealthServicer
) -> None:
    """Compile what the settings name.

    Until that is done, the services that solve are NOT_SERVING, so that a load balancer prefers other servers; a solve
    that arrives nevertheless waits. The server as a whole is SERVING.
    """
    poisson, linear = SERVICES[:2]
    states = health_pb2.HealthCheckResponse
    waiting = {service: [kind for kind in kinds if kind.endswith(" matrix") == (service == linear)]
               for service in (poisson, linear)}  # fmt: skip
    for service, wanted in waiting.items():
        if wanted:
            await condition.set(service, states.NOT_SERVING)
    compiler.begin(kinds)
    for service, wanted in waiting.items():
        for kind in wanted:
            await compiler.compiled(kind)
        if wanted:
            await condition.set(service, states.SERVING)


def _listen(server: grpc.aio.Server, settings: ServerSettings, certificate: Certificate | None) -> str:
    """Listen, and return the address; OSError if it is not available."""
    host = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    address = f"{host}:{settings.port}"
    try:
        if certificate is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, certificate.credentials())
    except RuntimeError as error:
        raise OSError(f"port {settings.port} on {settings.host} cannot be used: {error}") from error
    return f"{host}:{port}"


def _make_observers(settings: ServerSettings, busy: Busy, opened: AsyncExitStack) -> list[Observer]:
    """Return the observers that the settings ask for; `opened` closes them. OSError if a port is not available."""
    observers: list[Observer] = []
    try:
        if settings.traces:
            provider, end = tracing.build_exporter()
            opened.push_async_callback(asyncio.to_thread, end)
            observers.append(tracing.Tracing(provider).observe)
        if settings.metrics_port:
            metrics = Metrics()
            metrics.watch(busy)
            opened.push_async_callback(asyncio.to_thread, metrics.serve(settings.metrics_port))
            observers.append(metrics.observe)
    except ModuleNotFoundError as error:
        raise ValueError(f"this setting needs a package that is missing: {explain(error)}") from error
    if settings.log_calls:
        observers.append(logs.log_call)
    return observers


def _add_channelz(server: grpc.aio.Server) -> None:
    try:
        from grpc_channelz.v1 import _async, channelz_pb2_grpc
    except ModuleNotFoundError as error:
        raise ValueError(f"channelz needs a package that is missing: {explain(error)}") from error
    channelz_pb2_grpc.add_ChannelzServicer_to_server(_async.ChannelzServicer(), server)


def _shut_down(*executors: ThreadPoolExecutor) -> None:
    for executor in executors:
        executor.shutdown(wait=True, cancel_futures=True)


async def _sweep(sessions: SessionStore) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        sessions.drop_expired()
