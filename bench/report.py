"""What a measurement is, how each bench's output becomes some, and how they are shown.

Rates are events (rows, for tables) per second of wall-clock time unless a result says otherwise. Processor time is of the
measured process alone, all threads, in seconds per million events: on a busy machine it is the steadier of the two.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

__all__ = [
    "BUSY_LOAD",
    "NOTES",
    "Machine",
    "Note",
    "Result",
    "grid",
    "machine",
    "of_ingest",
    "of_intake",
    "of_log_append",
    "of_results",
    "of_warehouse_insert",
    "page",
    "write_page",
]

BUSY_LOAD = 1.0
"""Load average of the last minute above which rates say more of the other programs than of this one."""

ENVELOPE = "envelope"
FLAT = "flat 113 B"


@dataclass(frozen=True, slots=True)
class Result:
    """One measured rate beside its limit.

    Attributes:
        stage: key of ``NOTES``.
        deployment: ``local`` or ``kafka``.
        record: what an event is: ``flat 113 B`` or ``envelope``.
        case: batch, writers, or what else tells results of one stage apart.
        events: how many were measured; 0: as many as fitted in the time.
        rate: events/s.
        limit: events/s of the limit.
        limit_is: what the limit is, where a stage has several.
        cpu_s_per_million: processor seconds per million events; None: not measured.
        limit_cpu_s_per_million: of the limit.
        detail: further figures in words.
    """

    stage: str
    deployment: str
    record: str
    case: str
    events: int
    rate: float
    limit: float
    limit_is: str = ""
    cpu_s_per_million: float | None = None
    limit_cpu_s_per_million: float | None = None
    detail: str = ""

    @property
    def share(self) -> float:
        return self.rate / self.limit if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """How a stage is measured, what its limit is, and what its numbers do not prove."""

    title: str
    how: str
    limit: str
    not_proved: str


NOTES: Mapping[str, Note] = {
    "log-append": Note(
        "Log append",
        "`bench.log_append`: writers that append or commit a batch, wait for the answer, and go on. `commit` has a "
        "position and a state entry of 4 KB with it.",
        "Local: the same values joined into one row a transaction on a bare SQLite connection with the same settings "
        "(`synchronous=FULL`). Kafka: the bare client's `send_batch`, acks=all, idempotent, no headers, no transaction.",
        "A disk whose sync is slow (here a virtual one), a broker that syncs or replicates (one node answers from its page "
        "cache), reading.",
    ),
    "parse": Note(
        "Parse and validate",
        "`bench.intake`: the catalogue's example events through `parse`, processor time of one core, best of three.",
        "`orjson.loads` of the same bytes, which validates nothing.",
        "Refused events, which cost a quarantine record each; events of strangers' sizes.",
    ),
    "intake": Note(
        "Intake",
        "`bench.intake`: `Intake.submit` in this process by concurrent callers: parse, scope, deduplicate, one commit a batch.",
        "The log's `append` alone with the same bytes, keys and header sizes in the same batches.",
        "HTTP; many more sources than the thousand here; a deduplication window filled by months.",
    ),
    "ingest": Note(
        "Ingest API",
        "`bench.ingest`: `POST /v1/events` over loopback to the real server in a process of its own, 8 keep-alive connections, "
        "one request at a time on each. Processor time is of the server.",
        "The same bytes and connections to an application on the same server that answers a constant (HTTP alone), and "
        "`Intake.submit` in the server's process (intake alone). The lower of the two is the limit.",
        "TLS, a real network, a machine with a free core for the client (it shares these), streams and tables at work beside "
        "it.",
    ),
    "exchange": Note(
        "Exchange",
        "`bench.stages`: a simulated city's accepted records stand in the canonical topics; the exchange tasks of all "
        "partitions run bare in one process from the start until their committed clock has passed the last record.",
        "The same records read through the port and decoded with msgspec, in the same process, without merge, output, commit.",
        "Tasks in several processes, Faust around them, a live stream (there latency is what counts), months of state.",
    ),
    "vehicle": Note(
        "Operators: vehicle",
        "As exchange, over what the exchange wrote, all rules on: `tickets`, `overload`, `flows`, `legs`, `positions`, "
        "`repeated-weighing`, `tare-drift`. Events are input records.",
        "As exchange.",
        "As exchange; a city of another mix (most of the input are pairs of weighings and plate captures).",
    ),
    "meter": Note(
        "Operators: meter",
        "As exchange, all rules on: `meters` (registers and intervals to consumption: nearly every input gives an output) and "
        "`anomaly`, whose detector judges every interval.",
        "As exchange, which writes nothing.",
        "As exchange; thousands of meters on one partition.",
    ),
    "device": Note(
        "Operators: device",
        "As exchange, all rules on: `silence` (with power and network), `idle-zero`, `calibration`, `weight-curve`.",
        "As exchange.",
        "As exchange; mass outages.",
    ),
    "site": Note(
        "Operators: site",
        "As exchange, all rules on: `stock` from tickets, belts and surveys, `shipments`, `supply-cut`, `plate-match`; waits "
        "for the clocks of two groups.",
        "As exchange.",
        "As exchange.",
    ),
    "enterprise": Note(
        "Operators: enterprise",
        "As exchange, all rules on: `sales` over the flows of tickets.",
        "As exchange.",
        "As exchange. In a week no baseline of sales is complete.",
    ),
    "market": Note(
        "Operators: market",
        "As exchange, all rules on: `prices`. There are so few quotes that opening, registry and last commit are most of the "
        "figure.",
        "As exchange.",
        "As exchange; many quotes.",
    ),
    "operators": Note(
        "Operators: all groups",
        "Sums of the groups above: what all rules and tables together cost an accepted event.",
        "As exchange, the groups' limits added up.",
        "As exchange; the groups side by side in one process, which share its collector and caches.",
    ),
    "projector": Note(
        "Projection",
        "`bench.stages`: the projector with its default policy over every topic that the stages before have left, into all "
        "tables, until the last row is readable. Its budget of 10 inserts a second is part of the figure.",
        "A bare `warehouse.insert` of the very same blocks, one after the other, into the emptied tables.",
        "Readers beside it, a network to the server, merges of months of parts, a disk that is slow to sync.",
    ),
    "flat": Note(
        "Window over the flat record",
        "`bench.flat`: one-minute event-time sums, counts, minima and maxima per device (1,000 devices, 0.6 ms a record), "
        "every window compared with a recomputation. As an operator on the kernel: merge of four upstreams, state, outputs and "
        "positions in one commit.",
        "The same reduction in a bare loop with a dict: on Kafka a bare confluent-kafka consumer, on the local log its reader. "
        "It keeps no state and writes nothing.",
        "How anything scales over cores; several groups at once; records out of order.",
    ),
    "warehouse": Note(
        "Warehouse insert",
        "`bench.warehouse_insert`: rows of 8 columns that are there already as Arrow, one block an insert, best of the rounds.",
        "`INSERT ... SELECT FROM numbers()` into the same columns: the engine alone, no client, no conversion.",
        "Views behind the table, concurrent readers, a network, a disk that is slow to sync.",
    ),
}
"""By stage, in the order of the report."""


# ---- what each bench prints, as results ---------------------------------------------------------------------------------


def of_results(data: Mapping[str, Any], deployment: str) -> list[Result]:
    """Of a bench that prints results as they are."""
    return [Result(**row) for row in data["results"]]


def of_log_append(data: Mapping[str, Any], deployment: str) -> list[Result]:
    return [
        Result(
            "log-append",
            row["log"],
            row["record"],
            f"{row['what']}, {row['batch']} a batch, {row['writers']} writers",
            0,
            row["rate"],
            row["limit"],
            "",
            row["cpu_s_per_million"],
            None,
            f"p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms",
        )
        for row in data["rows"]
    ]


def of_intake(data: Mapping[str, Any], deployment: str) -> list[Result]:
    found = []
    if deployment == "local":  # parsing does not know the deployment
        found = [
            Result(
                "parse", "both", ENVELOPE, f"{type_}, {row['bytes']} B", 20_000, row["parse_and_validate_per_s"],
                row["limit_orjson_loads_per_s"], "", 1e6 / row["parse_and_validate_per_s"],
                1e6 / row["limit_orjson_loads_per_s"],
                f"pydantic alone {row['limit_pydantic_per_s']:,}/s",
            )
            for type_, row in data["parse"].items()
        ]  # fmt: skip
    return found + [
        Result(
            "intake", deployment, ENVELOPE, f"{row['batch']} a batch, {row['clients']} callers", row["events"],
            row["submit_per_s"], row["limit_append_per_s"], "", row["cpu_us_per_event"], None,
            f"p50 {row['answer_p50_ms']} ms, p99 {row['answer_p99_ms']} ms; duplicates {row['duplicates_per_s']:,}/s",
        )
        for row in data["submit"]
    ]  # fmt: skip


def of_ingest(data: Mapping[str, Any], deployment: str) -> list[Result]:
    found = []
    for row in data["rows"]:
        http, intake = row["limit_http_alone_events_per_s"], row["limit_intake_alone_events_per_s"]
        found.append(
            Result(
                "ingest",
                deployment,
                ENVELOPE,
                f"{row['events_per_request']} a request",
                row["events"],
                row["events_per_s"],
                min(http, intake),
                "HTTP alone" if http < intake else "intake alone",
                row["server_cpu_us_per_event"],
                None,
                f"p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms; HTTP alone {http:,}/s with "
                f"{row['http_alone_cpu_us_per_request'] / row['events_per_request']:,.1f} CPU s/M, intake alone {intake:,}/s",
            )
        )
    return found


def of_warehouse_insert(data: Mapping[str, Any], deployment: str) -> list[Result]:
    return [
        Result(
            "warehouse", deployment, "8 columns", f"{row['rows']:,} rows an insert", row["rows"], row["insert_rows_s"],
            row["engine_rows_s"], "", None, None, f"raw client {row['raw_rows_s']:,}/s",
        )
        for row in data["figures"]
    ]  # fmt: skip


OfOutput = Callable[[Mapping[str, Any], str], list[Result]]


# ---- the machine ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when a run took place; without it a rate means nothing."""

    at: str
    cores: int
    processor: str
    memory_gb: int
    kernel: str
    python: str
    load_1min: float
    commit: str

    @property
    def busy(self) -> bool:
        return self.load_1min > BUSY_LOAD


def machine() -> Machine:
    """This machine, now: call it before the first bench."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0] if names else processor
    try:
        git = ["git", "describe", "--always", "--dirty", "--abbrev=9"]
        commit = subprocess.run(git, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except OSError:
        commit = ""
    return Machine(
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        os.cpu_count() or 0,
        processor or platform.machine(),
        round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        platform.release(),
        platform.python_version(),
        round(os.getloadavg()[0], 2),
        commit or "unknown",
    )


# ---- showing ----------------------------------------------------------------------------------------------------------------

HEADINGS = ("stage", "record", "case", "events/s", "limit/s", "of limit", "CPU s/M (limit)", "beside it")


def _cells(result: Result) -> tuple[str, ...]:
    cpu = "" if result.cpu_s_per_million is None else f"{result.cpu_s_per_million:,.1f}"
    if result.limit_cpu_s_per_million is not None:
        cpu += f" ({result.limit_cpu_s_per_million:,.1f})"
    return (
        NOTES[result.stage].title,
        result.record,
        result.case,
        f"{result.rate:,.0f}",
        f"{result.limit:,.0f}" + (f" ({result.limit_is})" if result.limit_is else ""),
        f"{result.share:.0%}",
        cpu,
        result.detail,
    )


def _in_order(results: Iterable[Result]) -> list[Result]:
    places = list(NOTES)
    return sorted(results, key=lambda r: places.index(r.stage))


def grid(results: Sequence[Result], title: str) -> Table:
    """For a terminal."""
    table = Table(title=title)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in {"events/s", "of limit", "CPU s/M (limit)"} else "left")
    for result in _in_order(results):
        table.add_row(*_cells(result))
    return table


BUSY = (
    "**The machine was busy with other programs: rates are too low by an unknown factor, and since a rate and its limit were "
    "not taken in the same second, neither is their share good for anything (some limits lie below the rate). Only CPU seconds "
    "carry over, and even they are too high.**"
)
SMALL = (
    "opening sessions and consumers, reading the registry and waiting for the last commit, which a long run would hide, weigh "
    "more in rates and CPU seconds the smaller the scale."
)


def page(
    results: Sequence[Result],
    where: Machine,
    command: str,
    failed: Sequence[str] = (),
    load_at_end: float | None = None,
    scale: float = 1.0,
) -> str:
    """The part of ``docs/benchmarks.md`` that belongs to one deployment, without its markers."""
    lines = [
        f"- {where.at}, commit `{where.commit}`, `{command}`",
        f"- {where.cores} cores of {where.processor}, {where.memory_gb} GB, kernel {where.kernel}, Python {where.python}",
        f"- load average at the start: {where.load_1min}"
        + ("" if load_at_end is None else f", at the end: {load_at_end:.2f} (the benches' own included)")
        + (f". {BUSY}" if where.busy else ""),
    ]
    if scale < 1:
        lines.append(f"- scale {scale}: {SMALL}")
    if failed:
        lines.append(f"- **did not finish: {', '.join(failed)}**")
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|---|---|---|--:|--:|--:|--:|---|"]
    lines += ["| " + " | ".join(_cells(r)) + " |" for r in _in_order(results)]
    lines += ["", "How each was measured, and what it does not prove:", ""]
    stages = {r.stage for r in results}
    for stage, note in NOTES.items():
        if stage in stages:
            lines.append(f"- **{note.title}.** {note.how} *Limit:* {note.limit} *Not proved:* {note.not_proved}")
    return "\n".join(lines)


def write_page(path: Path, engine: str, body: str) -> None:
    """Replace what stands between the deployment's markers.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- bench:{engine} -->", f"<!-- /bench:{engine} -->"
    text = path.read_text(encoding="utf-8")
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no markers {begin} ... {end}")
    path.write_text(f"{head}{begin}\n{body}\n{end}{tail}", encoding="utf-8")


def print_results(results: Iterable[Result]) -> None:
    """What a bench that makes results itself prints."""
    import json

    sys.stdout.write(json.dumps({"results": [asdict(r) for r in results]}, ensure_ascii=False) + "\n")
