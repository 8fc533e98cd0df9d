"""``hengliu backtest``: what a rule would have raised with other parameters, beside what it raised. Reads the log only.

Exit codes: 0 compared; 1 the log does not answer or holds nothing of the rule's inputs; 2 what was asked for cannot be done.
"""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from api.i18n import warning_text
from hengliu.compose.adapters import catalog_of, open_log_for_reading
from hengliu.events.envelope import iso_ms, ms_of
from hengliu.events.family import Text
from hengliu.reference.problems import fill
from hengliu.reference.rules import FAULT_TEXTS, RuleDeclaration
from hengliu.settings import Settings
from streams.backtest import Backtest, Comparison, Raised
from streams.backtest import Progress as Replayed
from streams.rules.catalog import RULES_BY_NAME

__all__ = ["Wrong", "backtest", "duration_of", "pairs_of", "settings_of", "time_of"]

CITY_TIME: Final = timezone(timedelta(hours=8))
SHOWN: Final = 20
"""Warnings of each kind in the table; ``--json`` has all."""

_LOCAL: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?")
_SPAN: Final = re.compile(r"([0-9]{1,6})(s|min|h|d|w)")
_SECONDS: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Wrong(Exception):
    """What was asked for cannot be done; the text says why."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(f"{zh} / {en}")
        self.text = Text(zh, en)


def duration_of(text: str) -> int:
    """``90s``, ``30min``, ``12h``, ``7d`` or ``2w`` in ms. Raises Wrong."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise Wrong(f"“{text}”不是时长（如 12h、7d）", f"{text!r} is no duration (12h, 7d)")
    return int(match[1]) * _SECONDS[match[2]] * 1_000


def time_of(text: str, now_ms: int) -> int:
    """Epoch ms of a time as people write it.

    RFC 3339 with an offset; without one (``2026-03-01``, ``2026-03-01T08:00``) it is Beijing time; ``now``; ``36h`` is that
    long ago. Raises Wrong.
    """
    if text == "now":
        return now_ms
    if _SPAN.fullmatch(text):
        return now_ms - duration_of(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is not None and (found.tzinfo is not None or _LOCAL.fullmatch(text)):
        return ms_of((found if found.tzinfo is not None else found.replace(tzinfo=CITY_TIME)).astimezone(UTC))
    raise Wrong(
        f"“{text}”不是时间（如 2026-03-01、2026-03-01T08:00、2026-03-01T00:00:00Z、36h、now）",
        f"{text!r} is no time (2026-03-01, 2026-03-01T08:00, 2026-03-01T00:00:00Z, 36h, now)",
    )


def pairs_of(given: Sequence[str]) -> dict[str, str]:
    """Parameters of ``name=value`` pairs. Raises Wrong: a pair that is none, a name twice."""
    found: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Wrong(f"“{pair}”应为 名称=值", f"{pair!r} is not name=value")
        if name in found:
            raise Wrong(f"参数“{name}”给出两次", f"parameter {name!r} is given twice")
        found[name] = value
    return found


def settings_of(declared: RuleDeclaration, given: Sequence[str]) -> dict[str, str]:
    """``pairs_of``, as the rule declares them. Raises Wrong."""
    found = pairs_of(given)
    for fault in declared.faults(found):
        text = FAULT_TEXTS[fault.code]
        raise Wrong(fill(text.zh, fault.parameters), fill(text.en, fault.parameters))
    return found


async def backtest(
    settings: Settings,
    rule: str,
    from_: str,
    to: str,
    given: Sequence[str],
    *,
    active: bool,
    warm_up: str,
    received_until: str,
    as_json: bool,
    now_ms: int,
) -> int:
    """Run the command."""
    out, err = Console(highlight=False), Console(stderr=True, highlight=False)
    try:
        declared = RULES_BY_NAME.get(rule)
        if declared is None:
            known = ", ".join(RULES_BY_NAME)
            raise Wrong(f"没有规则“{rule}”，可用：{known}", f"there is no rule {rule!r}; there are: {known}")
        parameters = settings_of(declared, given)
        start, end = time_of(from_, now_ms), time_of(to, now_ms)
        if end <= start:
            raise Wrong("--to 应晚于 --from", "--to comes after --from")
        spent = None if warm_up == "all" else duration_of(warm_up) if warm_up else declared.warm_up_s * 1_000
        until = time_of(received_until, now_ms) if received_until else None
    except Wrong as wrong:
        err.print(f"[red]{escape(wrong.text.zh)}[/red]", soft_wrap=True)
        err.print(wrong.text.en, markup=False, soft_wrap=True)
        return 2
    async with open_log_for_reading(settings) as log:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True, disable=not sys.stderr.isatty()) as bar:
            shown = bar.add_task("重放 / replaying", total=None)

            def told(progress: Replayed) -> None:
                until_ = iso_ms(progress.clock)[:16] if progress.clock else ""
                bar.update(
                    shown,
                    completed=progress.done,
                    total=progress.total,
                    description=f"重放 / replaying {until_} {progress.records:,}",
                )

            test = Backtest(
                log, catalog_of(settings), declared, start, end, parameters, active, spent, until, told=told,
            )  # fmt: skip
            found = await test.run()
    url = f"http://{settings.host}:{settings.port}"
    if as_json:
        out.print(msgspec.json.encode(_document(test, found, url)).decode(), markup=False, soft_wrap=True)
    else:
        _print(out, test, found, url)
    if not test.progress.records:
        err.print(
            "日志中没有可重放的记录：检查 HENGLIU_DATA_DIR 与时间范围 / "
            "the log holds nothing to replay: look at HENGLIU_DATA_DIR and the times",
            style="red",
            soft_wrap=True,
        )
        return 1
    return 0


def _link(url: str, raised: Raised) -> str:
    """Where a running platform tells the whole life of a warning."""
    return f"{url}/v1/warnings?warning={raised.warning}"


def _document(test: Backtest, found: Comparison, url: str) -> dict[str, Any]:
    def row(raised: Raised) -> dict[str, Any]:
        return {
            "warning": raised.warning, "code": raised.code, "subject": raised.subject, "severity": raised.severity,
            "time": iso_ms(raised.time), "since": raised.since, "enterprise": raised.enterprise, "site": raised.site,
            "parameters": raised.parameters, "rule_version": raised.rule_version,
        }  # fmt: skip

    return {
        "rule": test.rule.rule,
        "from": iso_ms(test.from_ms),
        "to": iso_ms(test.to_ms),
        "parameters": test.parameters,
        "active": test.active,
        "warm_up_s": None if test.warm_up_ms is None else test.warm_up_ms // 1_000,
        "replayed_until": iso_ms(min(test.clocks.values(), default=0)),
        "counts": {
            "now": len(found.only_now) + len(found.both),
            "then": len(found.only_then) + len(found.both),
            "both": len(found.both),
            "changed": len(found.changed),
            "only_now": len(found.only_now),
            "only_then": len(found.only_then),
        },
        "only_now": [row(r) for r in found.only_now],
        "only_then": [{**row(r), "link": _link(url, r)} for r in found.only_then],
        "both": [{"now": row(now), "then": {**row(then), "link": _link(url, then)}} for now, then in found.both],
        "beyond": test.beyond,
        "other_version": test.other_version,
        "records": test.progress.records,
        "seconds": round(test.seconds, 3),
        "seconds_per_million": round(test.seconds / test.progress.records * 1e6, 1) if test.progress.records else None,
    }


def _sentence(raised: Raised, language: str) -> str:
    """What the warnings page says of it, with the subject's own identifier for its name."""
    about = {"subject": raised.subject, "since": raised.since, "place": raised.site or raised.enterprise}
    name, sentence = warning_text(raised.code, raised.parameters, language, about)
    return sentence or f"{name}: {raised.subject}"


def _print(out: Console, test: Backtest, found: Comparison, url: str) -> None:
    local = [datetime.fromtimestamp(ms / 1_000, CITY_TIME).strftime("%Y-%m-%d %H:%M") for ms in (test.from_ms, test.to_ms)]
    given = ", ".join(f"{name}={value}" for name, value in test.parameters.items()) or "不变 / unchanged"
    out.print(f"{test.rule.rule} {test.rule.title.both()}", style="bold", markup=False)
    out.print(f"{local[0]} – {local[1]} (+08:00)   参数 / parameters: {given}", markup=False, soft_wrap=True)
    counts = Table("", "条数 count")
    for zh, en, number in (
        ("当时发布", "raised then", len(found.only_then) + len(found.both)),
        ("现在会发布", "raised now", len(found.only_now) + len(found.both)),
        ("两者都有", "both", len(found.both)),
        ("其中级别或参数不同", "of them with another severity or parameters", len(found.changed)),
        ("仅现在", "only now", len(found.only_now)),
        ("仅当时", "only then", len(found.only_then)),
    ):
        counts.add_row(f"{zh} {en}", f"{number:,}")
    out.print(counts)
    for zh, en, rows in (("仅现在会发布", "only now", found.only_now), ("仅当时发布", "only then", found.only_then)):
        if not rows:
            continue
        table = Table("时间 time", "级别 severity", "说明 what", "编号 id", title=f"{zh} / {en}")
        for raised in rows[:SHOWN]:
            table.add_row(
                datetime.fromtimestamp(raised.time / 1_000, CITY_TIME).strftime("%Y-%m-%d %H:%M"),
                raised.severity,
                escape("\n".join(_sentence(raised, language) for language in ("zh", "en"))),
                raised.warning,
            )
        out.print(table)
        if len(rows) > SHOWN:
            out.print(f"另有 {len(rows) - SHOWN} 条，见 --json / {len(rows) - SHOWN} more, see --json", style="dim")
    if found.only_then or found.both:
        listed = f"{url}/warnings?code={','.join(test.rule.codes)}"
        out.print(f"当时发布的 / what was raised: {listed}   {url}/v1/warnings?warning=ID", style="dim", soft_wrap=True)
    if test.beyond:
        out.print(
            f"{test.beyond} 条在重放所及之后，未比较 / {test.beyond} lie behind what could be replayed and are not compared",
            style="yellow",
        )
    if test.other_version:
        out.print(
            f"{test.other_version} 条由算子的其他版本发布，按类型、对象与起始时间对照 / "
            f"{test.other_version} were raised by another version of the operator; matched by code, subject and beginning",
            style="yellow",
        )
    warm = "全部历史 / all history" if test.warm_up_ms is None else f"{test.warm_up_ms / 86_400_000:g} d"
    per = test.seconds / test.progress.records * 1e6 if test.progress.records else 0.0
    out.print(
        f"预热 / warm-up {warm}   记录 / records {test.progress.records:,}   {test.seconds:.1f} s   {per:.0f} s/M",
        style="dim",
    )
