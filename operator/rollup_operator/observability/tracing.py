"""Traces of stops, by OpenTelemetry. Imported only where tracing is on: its packages are an extra.

A call of the endpoint is a span, of the caller's trace where it sends `traceparent`. Its parts, the write to the API
server and the wait, are spans below it. What the write asks for is a stop of its own, whoever asked for it and
whichever replica acts: its trace is named after the job's uid and the generation, so that nothing needs to travel on
the job. The call's span links there, and the leader adds the stop's span, from when it learnt of the stop to `stopped`.
"""

import asyncio
import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rollup_operator import __version__
from rollup_operator.observability.transitions import Stop

EXPORT_SECONDS = 3.0
"""How long one attempt to send spans may take."""

GOODBYE_SECONDS = 2.0
"""How long the end of the process waits for the last of them."""


class Tracing:
    """Makes spans and sends them in the background; what cannot be sent is dropped."""

    def __init__(self, exporter: SpanExporter, *, cluster: str) -> None:
        self._ids = _Ids()
        names = {"service.name": "rollup-operator", "service.version": __version__, "k8s.cluster.name": cluster}
        self._provider = TracerProvider(resource=Resource.create(names), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("rollup_operator", __version__)
        # An unreachable collector is no error of ours, and the exporter logs each attempt.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    @classmethod
    def to(cls, endpoint: str, *, cluster: str) -> "Tracing":
        """Return one that sends to an OTLP collector over HTTP, such as http://collector:4318/v1/traces."""
        return cls(OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS), cluster=cluster)

    @contextlib.contextmanager
    def request(self, action: str, headers: Mapping[str, str]) -> Iterator[None]:
        """Surround a call of the endpoint. Reads are not traced."""
        if action == "get":
            yield
            return
        carrier = {name.lower(): value for name, value in headers.items() if name.lower() in _HEADERS}
        parent = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span(
            f"{action} job", context=parent, kind=trace.SpanKind.SERVER, attributes={"rollup.action": action}
        ):
            yield

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Surround a part of the current call."""
        with self._tracer.start_as_current_span(name):
            yield

    def asked(self, uid: str, generation: int) -> None:
        """Link the current call to the stop that it requested."""
        trace_id, span_id = names_of(uid, generation)
        span = trace.get_current_span()
        span.set_attributes({"rollup.job.uid": uid, "rollup.job.generation": generation})
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        span.add_link(trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags))

    def stopped(self, stop: Stop) -> None:
        """Send the span of a stop that is over."""
        with self._ids.being(*names_of(stop.uid, stop.generation)):
            span = self._tracer.start_span(
                "stop",
                context=trace.set_span_in_context(trace.INVALID_SPAN),
                start_time=_nanos(stop.asked_at),
                attributes={
                    "rollup.namespace": stop.namespace,
                    "rollup.job": stop.name,
                    "rollup.job.uid": stop.uid,
                    "rollup.job.generation": stop.generation,
                },
            )
        for state, at in stop.steps:
            span.add_event(state, timestamp=_nanos(at))
        span.end(_nanos(stop.steps[-1][1]))

    async def close(self) -> None:
        """Send what is left, for at most two seconds."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        await asyncio.to_thread(last.join, GOODBYE_SECONDS)


_HEADERS = frozenset({"traceparent", "tracestate"})


class _Ids(RandomIdGenerator):
    """Random ids, except for one span that must be found by its subject."""

    def __init__(self) -> None:
        self._next: tuple[int, int] | None = None

    @contextlib.contextmanager
    def being(self, trace_id: int, span_id: int) -> Iterator[None]:
        """Give these ids to the span that begins within."""
        self._next = trace_id, span_id
        try:
            yield
        finally:
            self._next = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self._next is None else self._next[0]

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self._next is None else self._next[1]


def names_of(uid: str, generation: int) -> tuple[int, int]:
    """Return the ids of trace and span for a generation of a job, the same in every replica."""
    digest = hashlib.sha256(f"{uid}/{generation}".encode()).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


def _nanos(seconds: float) -> int:
    return int(seconds * 1e9)
