"""OpenTelemetry spans: one for each call, with one for each of its solves.

Imported on first use, for their weight: OpenTelemetry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from relaxon._version import __version__
from relaxon.server.gate.interceptor import Call
from relaxon.wire.conversions.solution import find_solution

NAME = "relaxon"
ERRORS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""The codes that the conventions for RPC call errors of the server; the others are the caller's."""


class Tracing:
    """An observer that makes spans of calls, within the caller's own trace (`traceparent`) if there is one."""

    def __init__(self, provider: Any) -> None:
        """`provider` is an OpenTelemetry tracer provider; ImportError where OpenTelemetry is missing."""
        from opentelemetry import propagate, trace

        self._tracer = provider.get_tracer(NAME, __version__)
        self._trace = trace
        self._extract = propagate.extract

    @contextmanager
    def observe(self, call: Call) -> Iterator[None]:
        """Observe a call."""
        service, _, method = call.method.lstrip("/").rpartition("/")
        carrier = {key: value for key, value in call.metadata if isinstance(value, str)}
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "relaxon.request_id": call.request_id,
        }
        with self._tracer.start_as_current_span(
            call.method.lstrip("/"), self._extract(carrier), self._trace.SpanKind.SERVER, attributes
        ) as span:
            call.replied.append(self._record_solution)
            try:
                yield
            finally:
                span.set_attribute("rpc.grpc.status_code", call.code.value[0])
                span.set_attribute("relaxon.received_bytes", call.received)
                span.set_attribute("relaxon.sent_bytes", call.sent)
                if call.caller.name:
                    span.set_attribute("enduser.id", call.caller.name)
                if call.code in ERRORS:
                    span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.code.name))

    def _record_solution(self, reply: Any) -> None:
        found = find_solution(reply)
        if found is None:
            return
        result, solution = found
        # The solve has just ended; it ran in another thread, which has no spans.
        end = time.time_ns()
        start = end - int(1e9 * (solution.setup_seconds + solution.solve_seconds))
        span = self._tracer.start_span(
            "solve",
            start_time=start,
            attributes={
                "relaxon.solver": solution.solver,
                "relaxon.result": result,
                "relaxon.iterations": solution.iterations,
                "relaxon.setup_seconds": solution.setup_seconds,
                "relaxon.solve_seconds": solution.solve_seconds,
                "relaxon.relative_residual": solution.relative_residual,
                "relaxon.backward_error": solution.backward_error,
            },
        )
        span.end(end)


def build_exporter() -> tuple[Any, Callable[[], None]]:
    """Return a provider that exports by OTLP as the variables OTEL_… say, and the function that flushes and ends it.

    ImportError where the extra `telemetry` is missing.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": NAME, "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider, provider.shutdown
