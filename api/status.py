"""``/healthz``, ``/readyz``, ``/metrics``, ``/v1/stats`` and the live snapshot."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.access import deps_of, reading_scope, require_reader
from api.encode import json_response
from api.problems import Problem, Refusal
from api.progress import events_in_tables
from hengliu.events.envelope import iso_ms
from hengliu.intake.service import CLOCK_AHEAD_MS
from hengliu.metrics import CONTENT_TYPE
from hengliu.ports.log import LogError
from hengliu.ports.warehouse import WarehouseError

__all__ = ["get_healthz", "get_metrics", "get_readyz", "get_snapshot", "get_stats"]


async def get_healthz(request: Request) -> Response:
    """The process answers. Says nothing about progress: that is ``/readyz``."""
    return json_response({"status": "ok", "version": deps_of(request).version})


async def get_readyz(request: Request) -> Response:
    """Whether every stage commits what comes in; 503 with reasons when not.

    A machine's clock that was set back is a warning and no reason: events are taken and processed, and a restart helps nothing.
    """
    deps = deps_of(request)
    health = deps.monitor.health()
    ahead = deps.intake.clock_ahead_ms
    warnings = [{"code": "clock-set-back", "seconds": round(ahead / 1000, 1)}] if ahead >= CLOCK_AHEAD_MS else []
    told = {"reasons": list(health.reasons), "warnings": warnings}
    if health.ready:
        return json_response({"status": "ready", **told})
    return json_response({"status": "not ready", **told}, 503, Retry_After="5")


async def get_metrics(request: Request) -> Response:
    """Prometheus text. Open like ``/healthz``: it holds counts of closed label sets and no content."""
    deps = deps_of(request)
    deps.monitor.health()
    meters, counts = deps.meters, deps.intake.counts
    events, size = deps.intake.queue
    meters.set("intake_queue_events", events)
    meters.set("intake_queue_bytes", size)
    meters.set("intake_reopened", counts.reopened)
    meters.set("intake_clock_ahead_seconds", deps.intake.clock_ahead_ms / 1000)
    meters.set("quarantine_kept", counts.quarantined)
    meters.set("quarantine_over_quota", counts.unquarantined)
    return Response(meters.exposition(), headers={"Cache-Control": "no-store"}, media_type=CONTENT_TYPE)


async def get_stats(request: Request) -> Response:
    """Counts, and where every partition stands: its end, what each stage has committed, up to where it is in the tables.

    ``accepted``, ``duplicate`` and ``refused`` count since this process started; ``processed`` is all accepted events that are
    in the tables, ever.
    """
    require_reader(request)
    deps = deps_of(request)
    counts = deps.intake.counts
    tables = dict(deps.progress.positions())
    committed = {stage.name: dict(stage.positions()) for stage in deps.monitor.stages}
    # Ends after commits, so that nothing seems to be ahead of the log.
    topics = sorted({tp for positions in (tables, *committed.values()) for tp in positions})
    try:
        async with asyncio.timeout(5):
            ends = await deps.log.end_positions(topics)
            processed = await events_in_tables(deps.warehouse, deps.catalog)
    except (LogError, WarehouseError, TimeoutError) as error:
        raise Refusal(Problem("reading-unavailable", {"seconds": "2"}), retry_after_s=2) from error
    partitions: list[dict[str, Any]] = [
        {
            "topic": tp.topic,
            "partition": tp.partition,
            "end": end,
            "processed": {name: p for name, positions in committed.items() if (p := positions.get(tp)) is not None},
            "tables": tables.get(tp),
        }
        for tp, end in sorted(ends.items())
    ]
    return json_response(
        {
            "at": iso_ms(deps.clock.now_ms()),
            "events": {
                "accepted": counts.accepted,
                "duplicate": counts.duplicate,
                "refused": counts.refused.total(),
                "processed": processed,
            },
            "refused_by_reason": dict(counts.refused),
            "unauthenticated": counts.unauthenticated,
            "positions": partitions,
        }
    )


async def get_snapshot(request: Request) -> Response:
    """The newest live frame, for a first paint."""
    principal = require_reader(request)
    if not reading_scope(principal).everything:
        raise Refusal(Problem("whole-city-only"))
    frame = await deps_of(request).hub.frame()
    return Response(frame, headers={"Cache-Control": "no-store"}, media_type="application/json")
