"""Metrics for Prometheus: calls, bytes, solves, and what the server keeps, served to this machine only.

Imported on first use, for their weight: prometheus_client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from relaxon.server.gate.interceptor import Call
from relaxon.server.watching.status_service import Busy, read_memory
from relaxon.wire.conversions.solution import find_solution

HOST = "127.0.0.1"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
ITERATIONS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 4096, 16384)


class Metrics:
    """An observer of calls with an endpoint for Prometheus."""

    def __init__(self) -> None:
        """ImportError where prometheus-client is missing."""
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        own = self.registry = CollectorRegistry()
        self._calls = Counter("relaxon_calls", "Calls that have ended.", ("method", "code"), registry=own)
        self._running = Gauge("relaxon_calls_running", "Calls that are handled now.", registry=own)
        self._seconds = Histogram(
            "relaxon_call_seconds", "From a call's beginning to its end.", ("method",), registry=own, buckets=SECONDS
        )
        self._received = Counter("relaxon_received_bytes", "Bytes of requests.", ("method",), registry=own)
        self._sent = Counter("relaxon_sent_bytes", "Bytes of replies.", ("method",), registry=own)
        self._solves = Counter("relaxon_solves", "Solves that have answered.", ("solver", "result"), registry=own)
        self._iterations = Histogram(
            "relaxon_solve_iterations",
            "Iterations of a solve.",
            ("solver", "result"),
            registry=own,
            buckets=ITERATIONS,
        )
        self._solve_seconds = Histogram(
            "relaxon_solve_seconds", "A solve's own time.", ("solver", "result"), registry=own, buckets=SECONDS
        )
        self._setup_seconds = Counter("relaxon_setup_seconds", "Time of solvers' set-ups.", ("solver",), registry=own)

    @contextmanager
    def observe(self, call: Call) -> Iterator[None]:
        """Observe a call."""
        call.replied.append(self._record_solution)
        self._running.inc()
        try:
            yield
        finally:
            self._running.dec()
            self._calls.labels(call.method, call.code.name).inc()
            self._seconds.labels(call.method).observe(call.seconds)
            self._received.labels(call.method).inc(call.received)
            self._sent.labels(call.method).inc(call.sent)

    def _record_solution(self, reply: Any) -> None:
        found = find_solution(reply)
        if found is None:
            return
        result, solution = found
        self._solves.labels(solution.solver, result).inc()
        self._iterations.labels(solution.solver, result).observe(solution.iterations)
        self._solve_seconds.labels(solution.solver, result).observe(solution.solve_seconds)
        self._setup_seconds.labels(solution.solver).inc(solution.setup_seconds)

    def watch(self, busy: Busy) -> None:
        """Report, at each reading, what the server keeps and does."""
        self.registry.register(_Kept(busy))

    def serve(self, port: int) -> Callable[[], None]:
        """Serve on a port of this machine, 0 for a free one, and return what stops it; OSError if it is taken."""
        from prometheus_client import start_http_server

        server, thread = start_http_server(port, HOST, self.registry)
        self.port = int(server.server_port)

        def end() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return end


class _Kept:
    """A collector of plain numbers, called in a thread of Prometheus."""

    def __init__(self, busy: Busy) -> None:
        self._busy = busy

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import GaugeMetricFamily

        busy = self._busy
        for name, text, value in (
            ("relaxon_sessions", "Grids that are kept.", busy.sessions()),
            ("relaxon_cells", "Cells of the kept grids.", busy.cells()),
            ("relaxon_solves_pending", "Solves that wait, run or send their answer.", busy.solves()),
            ("relaxon_memory_bytes", "Memory of this process.", read_memory()[0]),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        for name, text, label, counts in (
            ("relaxon_jobs", "Jobs, by state.", "state", busy.jobs()),
            ("relaxon_models", "Stored models, by kind.", "kind", busy.model_counts()),
        ):
            family = GaugeMetricFamily(name, text, labels=(label,))
            for of, count in counts.items():
                family.add_metric((of,), count)
            yield family
