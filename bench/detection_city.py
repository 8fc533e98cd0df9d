"""Precision and recall of every warning, over a simulated city in which fraud, faults and their honest doubles are planted.

The city (``simulator``) shares no code with the operators and writes down what it planted. Its events go straight to ``step``
of every group of ``streams.operators.catalog``, in the order in which devices sent them, an hour a batch; what people register
meanwhile is there from the hour on in which they do. A few days run first, so that baselines have something to stand on; then
a fortnight is counted::

    python -m bench.detection_city                 the table
    python -m bench.detection_city --write         ... into docs/detection.md
    python -m bench.detection_city --list CODE     every wrong one of a code
    python -m bench.detection_city --only meter --rule anomaly --set sides=1     one group alone, by other parameters
"""

import argparse
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.report import machine
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import derived_id, encode_event, iso_ms, ms_of
from hengliu.events.family import Writer
from simulator.almanac import DAY_MS, HOUR_MS, MINUTE_MS
from simulator.city import City, registry
from simulator.world import World
from streams.kernel.operator import Batch
from streams.kernel.reference import KEYS, REFERENCE_TABLES, Reference, Versions
from streams.kernel.state import State, StateStore
from streams.operators.catalog import GROUPS, Group
from streams.rules.catalog import RULES, RULES_BY_NAME

__all__ = ["Outcome", "Raised", "Score", "Truth", "judge", "run", "write_section"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "detection.md"
CATALOG = Catalog()
FIRST_COUNTED = ms_of(datetime(2026, 3, 27, 16, tzinfo=UTC))
"""28 March 2026, midnight in Asia/Shanghai: the public holiday of 4 to 6 April lies in the fortnight."""
GRACE_MS: Mapping[str, int] = {
    "shipment-missing": 4 * DAY_MS, "sales-abnormal": 2 * DAY_MS, "series-anomaly": 6 * HOUR_MS, "tare-drift": 6 * HOUR_MS,
}  # fmt: skip
"""How long after its cause has ended a warning still counts as of it; elsewhere two hours."""
SEEN_BY_OTHERS = frozenset({"stop", "starved", "busy"})
"""Honest things that the meters of a works rightly notice: it stands still, has run out of coal, or works for three."""

Row = tuple[str, int, str, bytes, tuple[str, str, str], str, int]


@dataclass(slots=True)
class Raised:
    """One warning's life, as read from the events."""

    code: str
    subject: str
    site: str
    severity: str
    since: int
    at: int
    parameters: Mapping[str, str]
    cleared: int | None = None

    @property
    def names(self) -> set[str]:
        """What it is about: its subject, and identifiers among its parameters."""
        return {self.subject, *re.split(r"[/|\x1f]", self.subject), *(v for v in self.parameters.values() if not v.isdigit())}


@dataclass(frozen=True, slots=True)
class Truth:
    """Something that a warning of ``code`` is due for; ``near``: one that it must not be raised for."""

    code: str
    kind: str
    names: frozenset[str]
    start: int
    end: int
    near: bool = False
    note: str = ""

    def __str__(self) -> str:
        return f"{min(self.names, key=len)} {iso_ms(self.start)[:16]}" + (f" ({self.note})" if self.note else "")

    def explains(self, warning: Raised) -> bool:
        """Whether the warning may be about this."""
        late = self.end + GRACE_MS.get(self.code, 2 * HOUR_MS)
        return bool(self.names & warning.names) and self.start - MINUTE_MS <= warning.at <= late


@dataclass(slots=True)
class Outcome:
    """A run: what was raised, what was true, and from when to when it counts."""

    raised: list[Raised]
    truths: list[Truth]
    begin: int
    end: int
    events: int
    seconds: float
    city: str
    codes: frozenset[str] = frozenset()


@dataclass(slots=True)
class Score:
    """One code. ``elsewhere``: raised for something else that was planted on the same subject at that time; ``hints``: of low
    severity, at an honest double."""

    code: str
    due: int = 0
    found: int = 0
    right: int = 0
    doubles: int = 0
    hints: int = 0
    elsewhere: int = 0
    delays: list[int] = field(default_factory=list)
    missed: list[Truth] = field(default_factory=list)
    false: list[tuple[Raised, str]] = field(default_factory=list)

    @property
    def precision(self) -> float | None:
        told = self.right + len(self.false)
        return self.right / told if told else None

    @property
    def recall(self) -> float | None:
        return self.found / self.due if self.due else None


# ---- the run


class _Tasks:
    """Every group as one task over one partition, in an order in which each comes after those that it reads."""

    def __init__(self, city: City, groups: Sequence[Group] = GROUPS) -> None:
        self._versions: dict[str, dict[str, Versions]] = {name: {} for name in REFERENCE_TABLES}
        for type_, data in registry(city):
            self.register(type_, data)
        self.groups = _ordered(groups)
        self.stores = {
            g.name: StateStore({(o.name, name): row for o in g.operators for name, row in o.tables.items()})
            for g in self.groups
        }
        self.reads = {
            g.name: {t for t, f in CATALOG.families.items() if set(g.inputs) & {f.topic, *f.routes}
                     and (f.topic in g.inputs or f.writer is not Writer.OPERATOR)}
            for g in self.groups
        }  # fmt: skip

    def register(self, type_: str, data: Mapping[str, Any]) -> None:
        table, model, member = KEYS[type_]
        payload = model.model_validate_json(msgspec.json.encode(data))
        since = 0 if getattr(payload, "valid_from", None) is None else ms_of(payload.valid_from)  # type: ignore[attr-defined]
        known = self._versions[table].get(str(data[member]), Versions([], []))
        encoded = payload.model_dump_json(exclude_none=True).encode()
        self._versions[table][str(data[member])] = known.with_version(since, encoded)

    def step(self, rows: Sequence[Row], clock: int) -> Iterator[tuple[str, int, bytes]]:
        """Feed every group; yields (type, at, value) of what was derived."""
        reference = Reference(self._versions)
        everything = list(rows)
        for group in self.groups:
            mine = [r for r in everything if r[0] in self.reads[group.name]]
            for operator in group.operators:
                batch = sorted((r for r in mine if r[0] in operator.inputs), key=lambda r: r[1])
                columns: Sequence[Sequence[Any]] = list(zip(*batch, strict=True)) if batch else [()] * 7
                store = self.stores[group.name]
                effects = operator.step(State(operator.name, store, reference), Batch(clock, *columns))
                store.apply(effects.changes)
                for emit in effects.events:
                    id_ = derived_id(operator.name, operator.version, *emit.identity)
                    value = encode_event(emit.type, f"/streams/{operator.name}", id_, emit.time, emit.data)
                    row = (emit.type, emit.at, "", value, emit.scope, id_, emit.known_at)
                    mine.append(row)
                    everything.append(row)
                    yield emit.type, emit.at, value


def _ordered(groups: Sequence[Group]) -> list[Group]:
    """Groups so that each comes after the writers of what it reads."""
    writes = {g.name: {CATALOG[t].topic for o in g.operators for t in o.emits} for g in groups}
    left, found = list(groups), list[Group]()
    while left:
        ready = [g for g in left if not any(set(g.inputs) & writes[o.name] for o in left if o is not g)]
        if not ready:
            raise ValueError(f"groups read each other in a circle: {', '.join(g.name for g in left)}")
        found += ready
        left = [g for g in left if g not in ready]
    return found


class _Warning(msgspec.Struct):
    warning: str
    code: str
    severity: str
    subject: str
    site: str
    parameters: dict[str, str]
    since: datetime


class _Event(msgspec.Struct):
    data: _Warning


def run(
    seed: int = 1,
    *,
    warm_up_days: int = 10,
    days: int = 14,
    size: str = "measure",
    progress: Progress | None = None,
    only: Sequence[str] = (),
    published: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Outcome:
    """Run a city through every group. The last two days only let warnings come that are due.

    Args:
        only: names of groups, of which none reads what another one writes; empty: all.
        published: parameters of rules that are other than their defaults, from the beginning.
    """
    city = City(seed, size, "all")
    begin = FIRST_COUNTED
    start, end = begin - warm_up_days * DAY_MS, begin + days * DAY_MS
    until = end + 2 * DAY_MS
    groups = [g for g in GROUPS if not only or g.name in only]
    world, tasks = World(city, start), _Tasks(city, groups)
    for rule, parameters in published.items():
        number = RULES_BY_NAME[rule].version + 1
        tasks.register("rule.published", {"rule": rule, "version": number, "parameters": dict(parameters)})
    scope = {d.id: (d.site, d.site, city.sites[d.site].division) for d in city.devices()}
    decode = msgspec.json.Decoder(_Event).decode
    lives: dict[str, Raised] = {}
    registered = number = 0
    before = time.process_time()
    task = progress.add_task(f"seed {seed}", total=(until - start) // HOUR_MS) if progress else None
    for clock in range(start + HOUR_MS, until + HOUR_MS, HOUR_MS):
        rows: list[Row] = []
        for s in world.advance(clock - 1):
            if s.expect == "accepted":
                number += 1
                rows.append((s.type, s.at, "", s.body, scope[s.device], f"c/0/{number}", s.at))
        for _, type_, data in world.registrations[registered:]:
            tasks.register(type_, data)
        registered = len(world.registrations)
        for type_, at, value in tasks.step(rows, clock):
            if type_.startswith("warning."):
                w = decode(value).data
                if type_ == "warning.raised":
                    lives[w.warning] = Raised(w.code, w.subject, w.site, w.severity, ms_of(w.since), at, w.parameters)
                elif type_ == "warning.cleared":
                    lives[w.warning].cleared = at
                else:
                    lives[w.warning].parameters = {**w.parameters, **lives[w.warning].parameters}
        if progress and task is not None:
            progress.advance(task)
    spent = time.process_time() - before
    return Outcome(
        list(lives.values()), list(_truths(world, until)), begin, end, number, spent,
        f"seed {seed}, size {size}, {warm_up_days} days of warm-up, {days} days counted", _codes(groups),
    )  # fmt: skip


def _codes(groups: Sequence[Group] = GROUPS) -> frozenset[str]:
    """Codes that some rule of the groups' operators names, so that a planted one without an operator shows as such."""
    names = {operator.name for group in groups for operator in group.operators}
    return frozenset(code for rule in RULES for code in rule.codes if names & {*rule.operators})


def _truths(world: World, until: int) -> Iterator[Truth]:
    """What the ledger says, one entry a thing that a warning is due for."""
    for p in world.ledger.planted:
        if p.code or p.near:
            yield Truth(p.code or p.near, p.kind, frozenset({p.subject, *p.aliases}), p.start, p.end, bool(p.near),
                        " ".join(f"{name} {value}" for name, value in p.parameters.items()))  # fmt: skip
        elif p.kind in SEEN_BY_OTHERS:
            yield Truth("", p.kind, frozenset({p.subject, *p.aliases}), p.start, p.end, near=True)
        elif p.kind == "swap":
            yield Truth("meter-replaced", p.kind, frozenset({p.subject}), p.start, p.end + DAY_MS)
        elif p.kind == "repeated-gross":
            yield Truth("repeated-weighing", p.kind, frozenset({p.subject}), p.start, p.end, near=True)
    balance = world.ledger.as_of(until)
    for o in balance.overloads:
        yield Truth("overload", "overload", frozenset({o.plate}), o.time, o.known_at)
    for t in balance.time_outs:
        # A second weighing of one load, or a breakdown: either way one crossing has no tare.
        yield Truth("tare-missing", "no tare", frozenset({t.plate}), t.time, t.due, near=t.tare_usable)
    for silence in balance.silences:
        yield Truth("device-silent", "silence", frozenset({silence.source}), silence.last, silence.next or until)
    for supply in balance.supplies:
        yield Truth(f"{supply.kind}-lost", "supply", frozenset({supply.source}), supply.since, supply.until or until)


# ---- judging


def judge(outcome: Outcome) -> dict[str, Score]:
    """A score per code; what neither began nor ended within the counted days counts for nobody."""
    begin, end = outcome.begin, outcome.end
    by_code: dict[str, list[Truth]] = defaultdict(list)
    by_name: dict[str, list[Truth]] = defaultdict(list)
    for truth in outcome.truths:
        by_code[truth.code].append(truth)
        for name in truth.names:
            by_name[name].append(truth)
    scores = {code: Score(code) for code in sorted({*by_code, *(w.code for w in outcome.raised)} - {""})}
    found: dict[int, int] = {}
    for w in outcome.raised:
        score = scores[w.code]
        mine = [t for t in by_code[w.code] if t.explains(w)]
        true = [t for t in mine if not t.near]
        for t in true:
            found[id(t)] = min(found.get(id(t), w.at), w.at)
        if not begin <= w.at < end:
            continue
        if true:
            score.right += 1
        elif any((not t.near or t.kind in SEEN_BY_OTHERS) and t.code != w.code and t.explains(w)
                 for name in w.names for t in by_name[name]):  # fmt: skip
            score.elsewhere += 1
        elif mine and w.severity == "low":
            score.hints += 1
        else:
            score.false.append((w, f"honest double: {mine[0].kind}" if mine else "nothing was planted"))
    for code, score in scores.items():
        truths = by_code[code]
        score.doubles = sum(begin <= t.start < end for t in truths if t.near)
        for t in truths:
            if t.near or not begin <= t.start < end:
                continue
            score.due += 1
            if id(t) in found:
                score.found += 1
                score.delays.append(found[id(t)] - t.start)
            else:
                score.missed.append(t)
    return scores


# ---- telling


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _delay(delays: Sequence[int]) -> str:
    if not delays:
        return ""
    minutes = median(delays) / MINUTE_MS
    return f"{minutes:.0f} min" if minutes < 180 else f"{minutes / 60:.1f} h"


def table(scores: Mapping[str, Score], codes: frozenset[str]) -> str:
    """Rows of one code each, those with a ground truth; the rest is named below."""
    heads = ("code", "planted", "found", "recall", "raised right", "false", "precision", "doubles", "low hints",
             "of another cause", "median delay")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for code, s in sorted(scores.items()):
        if not s.due and not s.doubles:
            continue
        if code not in codes and not s.right and not s.false:
            lines.append(f"| `{code}` | {s.due} | no operator yet | | | | | {s.doubles} | | | |")
            continue
        lines.append(
            f"| `{code}` | {s.due} | {s.found} | {_percent(s.recall)} | {s.right} | {len(s.false)} | {_percent(s.precision)} | "
            f"{s.doubles} | {s.hints} | {s.elsewhere} | {_delay(s.delays)} |"
        )
    return "\n".join(lines)


def wrong(scores: Mapping[str, Score], most: int = 6) -> str:
    """What was missed and what was raised for nothing, by kind, with a few of each."""
    lines = []
    for code, s in sorted(scores.items()):
        if not s.due and not s.doubles:
            continue
        for what, kinds, some in (
            ("missed", Counter(t.kind for t in s.missed), [str(t) for t in s.missed]),
            ("false", Counter(why for _, why in s.false), [f"{w.subject} {iso_ms(w.at)[:16]}" for w, _ in s.false]),
        ):
            if kinds:
                counts = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
                lines.append(f"- `{code}` {what}: {counts}; {', '.join(some[:most])}")
    return "\n".join(lines) or "Nothing was missed and nothing was false."


def section(outcome: Outcome, scores: Mapping[str, Score], command: str) -> str:
    """The part of docs/detection.md between the markers."""
    others = sorted(
        (s.code, s.right + len(s.false) + s.elsewhere + s.hints) for s in scores.values() if not s.due and not s.doubles
    )
    here = machine()
    return f"""
`{command}`: {outcome.city}; {outcome.events:,} events through every operator in {outcome.seconds:.0f} s of processor time
({here.processor}, {here.cores} cores). One run of one seed: another seed gives other counts.

{table(scores, outcome.codes)}

*Planted* are what the code is due for, *doubles* the honest things that look like it and must not raise it. *Recall* is the
share of the planted that some warning of the code was raised for, *precision* that of the warnings which were of something
planted. A warning of something else that was planted on the same subject at that time counts in neither (*of another cause*: a
truck that carries ballast at one end only has a wrong net mass, too); nor does one of low severity at a double (*low hints*:
a person is asked to look). *Delay* is from the cause to the warning.

What was wrong:

{wrong(scores)}

Raised without a ground truth here: {", ".join(f"`{code}` {n}" for code, n in others if n) or "nothing"}.
"""


def write_section(page: Path, text: str, marker: str = "city") -> None:
    """Put a text between ``<!-- marker -->`` and ``<!-- /marker -->``.

    Raises:
        ValueError: the page has no such markers.
    """
    whole = page.read_text("utf-8")
    first, last = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if first not in whole or last not in whole:
        raise ValueError(f"{page} has no {first} ... {last}")
    head, rest = whole.split(first, 1)
    page.write_text(f"{head}{first}\n{text.strip()}\n{last}{rest.split(last, 1)[1]}", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Precision and recall of every warning over a simulated city.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=14, help="days that are counted")
    parser.add_argument("--warm-up", type=int, default=10, help="days that run before them")
    parser.add_argument("--size", default="measure", help="size of the city")
    parser.add_argument("--list", metavar="CODE", help="every wrong one of a code")
    parser.add_argument("--only", nargs="*", default=[], choices=[g.name for g in GROUPS], help="groups that run alone")
    parser.add_argument("--rule", choices=list(RULES_BY_NAME), help="of which --set says other parameters")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--write", action="store_true", help="write the section of docs/detection.md")
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        outcome = run(
            given.seed, warm_up_days=given.warm_up, days=given.days, size=given.size, progress=progress, only=given.only,
            published={given.rule: dict(pair.split("=", 1) for pair in given.set)} if given.rule else {},
        )  # fmt: skip
    scores = judge(outcome)
    if given.list:
        for truth in scores[given.list].missed:
            print("missed", truth.kind, iso_ms(truth.start), iso_ms(truth.end), *sorted(truth.names))
        for warning, why in scores[given.list].false:
            print("false", why, iso_ms(warning.at), warning.severity, warning.subject, warning.site, dict(warning.parameters))
        return 0
    if given.only:
        print(table({code: score for code, score in scores.items() if code in outcome.codes}, outcome.codes))
        return 0
    usual = {"--seed": (given.seed, 1), "--days": (given.days, 14), "--warm-up": (given.warm_up, 10),
             "--size": (given.size, "measure")}  # fmt: skip
    told = "".join(f" {name} {value}" for name, (value, default) in usual.items() if value != default)
    command = f"python -m bench.detection_city{told}"
    text = section(outcome, scores, command)
    print(text)
    if given.write:
        write_section(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
