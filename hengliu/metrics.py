"""The closed vocabulary of metrics: one table, from which code, ``/metrics``, docs and dashboards are made.

A metric that is not in ``METRICS`` cannot be counted: ``Meters`` raises ``KeyError``. Label values must come from closed
sets too (route templates, topics, stages, reasons), never from what a sender wrote; ``Meters`` refuses a label name that
the table does not declare. Units follow the Prometheus convention: seconds and bytes, base units in the name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from hengliu.events.family import Text

__all__ = ["CONTENT_TYPE", "METRICS", "Kind", "Meters", "Metric"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus text exposition format 0.0.4."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the ``hengliu_`` prefix, kind, unit, labels and help in both languages."""

    name: str
    kind: Kind
    unit: str
    help: Text
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Histograms: upper bounds, in ``unit``."""


SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

METRICS: tuple[Metric, ...] = (
    Metric(
        "http_requests_total", Kind.COUNTER, "requests", Text("HTTP 请求数", "HTTP requests"), ("route", "method", "status")
    ),
    Metric("http_request_seconds", Kind.HISTOGRAM, "s", Text("HTTP 请求耗时", "HTTP request duration"), ("route",), SECONDS),
    Metric("http_connections", Kind.GAUGE, "connections", Text("打开的连接数", "Open connections")),
    Metric(
        "http_connections_refused_total",
        Kind.COUNTER,
        "connections",
        Text("因连接数、超时或协议错误而关闭的连接", "Connections closed for their number, a timeout or a protocol fault"),
        ("reason",),
    ),
    Metric("http_faults_total", Kind.COUNTER, "requests", Text("意外错误（已答 503）", "Unexpected faults (answered 503)")),
    Metric(
        "auth_refused_total", Kind.COUNTER, "requests", Text("身份验证被拒", "Requests refused by authentication"), ("reason",)
    ),
    Metric("body_bytes_total", Kind.COUNTER, "bytes", Text("已读请求体字节数", "Request body bytes read")),
    Metric(
        "bodies_oversized_total",
        Kind.COUNTER,
        "bodies",
        Text("超长请求体（未认证者只计数）", "Oversized bodies (of the unauthenticated: counted only)"),
        ("authenticated",),
    ),
    Metric("events_total", Kind.COUNTER, "events", Text("收到的事件", "Events received"), ("status",)),
    Metric("events_refused_total", Kind.COUNTER, "events", Text("拒收的事件", "Events refused"), ("reason",)),
    Metric("intake_queue_events", Kind.GAUGE, "events", Text("等待写入的事件", "Events waiting to be written")),
    Metric("intake_queue_bytes", Kind.GAUGE, "bytes", Text("等待写入的字节数", "Bytes waiting to be written")),
    Metric("intake_reopened", Kind.GAUGE, "sessions", Text("入口任务重开次数", "Times an intake task was opened anew")),
    Metric(
        "intake_clock_ahead_seconds",
        Kind.GAUGE,
        "s",
        Text("接收时刻超前于机器时钟（时钟被拨回）", "Receive times ahead of the machine's clock, which was set back"),
    ),
    Metric("quarantine_kept", Kind.GAUGE, "events", Text("已存入隔离区", "Refusals kept in quarantine since start")),
    Metric("quarantine_over_quota", Kind.GAUGE, "events", Text("超出配额未存", "Refusals beyond the quota, counted only")),
    Metric(
        "ingest_batch_events", Kind.HISTOGRAM, "events", Text("每批事件数", "Events per request"), (), (1, 10, 100, 500, 1000)
    ),
    Metric("ingest_pushback_total", Kind.COUNTER, "requests", Text("背压拒绝", "Requests pushed back"), ("status",)),
    Metric("queries_total", Kind.COUNTER, "queries", Text("命名查询次数", "Named queries run"), ("query", "result")),
    Metric("query_seconds", Kind.HISTOGRAM, "s", Text("命名查询耗时", "Named query duration"), ("query",), SECONDS),
    Metric("live_clients", Kind.GAUGE, "clients", Text("实时连接数", "Live clients")),
    Metric("live_frames_total", Kind.COUNTER, "frames", Text("实时帧", "Live frames"), ("result",)),
    Metric("live_frame_seconds", Kind.HISTOGRAM, "s", Text("一帧的生成耗时", "Time to make one live frame"), (), SECONDS),
    Metric("log_end_position", Kind.GAUGE, "position", Text("日志末端位置", "End position of the log"), ("topic", "partition")),
    Metric(
        "stage_position",
        Kind.GAUGE,
        "position",
        Text("已提交的输入位置", "Committed input position"),
        ("stage", "topic", "partition"),
    ),
    Metric("stage_stalled_seconds", Kind.GAUGE, "s", Text("落后且未推进的时长", "Time behind without progress"), ("stage",)),
    Metric("ready", Kind.GAUGE, "1", Text("是否就绪", "Whether the process is ready")),
)
"""Every metric of the platform."""


class Meters:
    """The metrics of one process, in a registry of its own (two platforms in one test process do not mix)."""

    def __init__(self, metrics: tuple[Metric, ...] = METRICS) -> None:
        self._registry = CollectorRegistry()
        self._meters: dict[str, Counter | Gauge | Histogram] = {}
        for metric in metrics:
            name, text = f"hengliu_{metric.name}", f"{metric.help.en} / {metric.help.zh} ({metric.unit})"
            if metric.kind is Kind.COUNTER:
                self._meters[metric.name] = Counter(name, text, metric.labels, registry=self._registry)
            elif metric.kind is Kind.GAUGE:
                self._meters[metric.name] = Gauge(name, text, metric.labels, registry=self._registry)
            else:
                self._meters[metric.name] = Histogram(
                    name, text, metric.labels, registry=self._registry, buckets=metric.buckets
                )

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter. Raises KeyError for an undeclared name, ValueError for undeclared labels."""
        meter = self._meters[name]
        assert isinstance(meter, Counter), name
        (meter.labels(**labels) if labels else meter).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        meter = self._meters[name]
        assert isinstance(meter, Gauge), name
        (meter.labels(**labels) if labels else meter).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram, in the metric's unit."""
        meter = self._meters[name]
        assert isinstance(meter, Histogram), name
        (meter.labels(**labels) if labels else meter).observe(value)

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """Current value of a counter or gauge, 0 when nothing was counted (for ``/v1/stats`` and tests)."""
        return self._registry.get_sample_value(f"hengliu_{name}", dict(labels or {})) or 0.0

    def exposition(self) -> bytes:
        """All metrics as Prometheus text."""
        return generate_latest(self._registry)
