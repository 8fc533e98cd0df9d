"""Rows to events: pure, row by row; the same row gives the same event wherever the file was cut.

Two exceptions, both named in docs/loading.md: ids by row ordinal (files without time), and the policy ``cadence`` in the
hour that a clock change repeats, which looks at the previous row of the same source.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote

from connectors.files import numbers
from connectors.files.mapping import Event, Interval, Member, Template
from connectors.files.mapping import Mapping as FileMapping
from connectors.files.readers import FileFault, Row
from connectors.files.times import EPOCH, TimeFault, Zone, read_stamp
from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event, iso_ms
from hengliu.events.family import EventData, Family, Text

__all__ = ["FAULTS", "Converter", "Fault", "Made", "Skipped", "places_of"]

HEAD_ROWS: Final = 16
"""Rows whose digest names a file without times: enough to tell two files, few enough that a grown file keeps its name."""

FAULTS: Final[Mapping[str, Text]] = {
    "row-width": Text("列数不对", "wrong number of cells"),
    "source-empty": Text("来源所用的列为空", "a column of the source is empty"),
    "id-empty": Text("编号列不是整数", "the id column is no whole number"),
    "number-form": Text("不是数", "not a number"),
    "not-exact": Text("位数超出且未指明舍入方式", "too many digits, and no rounding is named"),
    "value-unknown": Text("不在 values 列出的值中", "not among the values listed"),
    "time-form": Text("时间格式不对", "a time of another form"),
    "time-ambiguous": Text("时钟回拨重复的时刻", "a time that the clock change repeats"),
    "time-nonexistent": Text("时钟拨快跳过的时刻", "a time that the clock change leaves out"),
    "off-grid": Text("不在区间边界上", "not on a boundary of the interval"),
    "empty": Text("没有值", "no value"),
    "time-implausible": Text("时间不可信（设备时钟曾被重置）", "implausible time (the device's clock was reset)"),
    "filtered": Text("按映射不读取", "left out by the mapping"),
}
"""Why a row made no event. The last three are not faults: they are counted and told, and the load is still whole."""

_TIME_UNITS: Final = {"ms": 1, "s": 1000, "minute": 60_000, "hour": 3_600_000}
_NOT_SLUG: Final = re.compile(r"[^A-Za-z0-9._]+")
_SCALE: Final = re.compile(r"\{1,(\d+)\}\)\?\$")


@dataclass(frozen=True, slots=True)
class Made:
    """An event ready to be sent, and what its device is registered with: of a source's first event, else None."""

    line: int
    source: str
    id: str
    body: bytes
    device: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row, or one event of it, that holds nothing to tell. ``column`` says where."""

    line: int
    code: str
    column: str
    value: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that could not be read as the mapping says."""

    line: int
    code: str
    column: str
    value: str


class _NoEvent(Exception):
    def __init__(self, code: str, column: str, value: str = "") -> None:
        super().__init__(code)
        self.code, self.column, self.value = code, column, value


_EXPECTED: Final = frozenset({"empty", "time-implausible", "filtered"})
_Cells = Sequence[str]
_Fill = Callable[[_Cells], Any]
_ABSENT: Final = object()


@cache
def _properties(data: type[EventData]) -> Mapping[str, Any]:
    """Schemas of a payload's members; making them takes tens of milliseconds."""
    found: Mapping[str, Any] = data.model_json_schema()["properties"]
    return found


def places_of(family: Family, member: str) -> tuple[str, int]:
    """(``integer`` | ``decimal`` | ``boolean`` | ``time`` | ``text``, fractional digits) of a member, from its schema."""
    schema = _properties(family.data)[member]
    options = schema.get("anyOf", [schema])
    kinds = [o for o in options if o.get("type") != "null"]
    first = kinds[0] if kinds else {}
    if first.get("type") == "integer":
        return "integer", 0
    if first.get("type") == "boolean":
        return "boolean", 0
    if first.get("format") == "decimal" or "decimal" in str(first.get("pattern", "")):
        found = _SCALE.search(first.get("pattern", ""))
        return "decimal", int(found[1]) if found else 0
    if first.get("format") == "date-time":
        return "time", 0
    return "text", 0


class _Columns:
    """Where the mapping's columns stand in this file."""

    def __init__(self, names: Sequence[str], needed: set[str], nulls: Sequence[str]) -> None:
        self.at = {name: i for i, name in enumerate(names)}
        missing = sorted(needed - set(self.at))
        if missing:
            listed = ", ".join(missing)
            raise FileFault(
                Text(
                    f"文件没有这些列：{listed}；有：{', '.join(names)}",
                    f"the file has no column {listed}; it has {', '.join(names)}",
                )
            )
        self.count = len(names)
        self.nulls = frozenset(nulls)

    def template(self, text: str, *, uri: bool = False) -> Callable[[_Cells], str]:
        """Fills a template; raises _NoEvent when a column of it holds no value."""
        template = Template(text)
        if not template.columns:
            whole = "".join(literal for literal, _, _ in template.parts)
            return lambda _: whole
        parts = [(literal, name, self.at[name] if name is not None else -1, spec) for literal, name, spec in template.parts]
        nulls = self.nulls

        def fill(cells: _Cells) -> str:
            out = []
            for literal, name, at, spec in parts:
                out.append(literal)
                if at < 0:
                    continue
                cell = cells[at]
                if cell in nulls:
                    raise _NoEvent("empty", name or "")
                if spec == "slug":
                    cell = _NOT_SLUG.sub("-", cell).strip("-") or "-"
                elif spec:
                    cell = cell.lower() if spec == "lower" else cell.upper()
                out.append(quote(cell, safe="!$&'()*+,-./:;=@_~") if uri else cell)
            return "".join(out)

        return fill


class Converter:
    """Makes the events of one file.

    Raises:
        FileFault: the file lacks columns.
    """

    def __init__(self, mapping: FileMapping, columns: Sequence[str], catalog: Catalog | None = None) -> None:
        catalog = catalog or Catalog()
        self.mapping = mapping
        self._columns = _Columns(columns, mapping.columns(), mapping.file.nulls)
        form = mapping.time
        self._zone = Zone(form.zone or "UTC", form.ambiguous, form.nonexistent, form.cadence_minutes * 60_000)
        self._stamps = [self._columns.at[c] for c in ((form.column,) if form.column else form.columns)]
        self._constant = self._instant(form.constant) if form.constant else None
        self._from = self._instant(form.plausible_from) if form.plausible_from else None
        self._to = self._instant(form.plausible_to) if form.plausible_to else None
        self._keep = [(self._columns.at[c], c, frozenset(values)) for c, values in mapping.file.keep.items()]
        self._previous: dict[str, int] = {}
        self._head: list[Row] = []
        self._ordinal = 0
        self._digest = ""
        self._by_row = any(event.id.kind == "row" for event in mapping.event)
        self._events = [_EventMaker(event, self, catalog[event.type]) for event in mapping.event]

    def _instant(self, text: str) -> int:
        return self._zone.to_ms(read_stamp(text, "iso"))

    @property
    def columns(self) -> _Columns:
        return self._columns

    @property
    def zone(self) -> Zone:
        return self._zone

    def convert(self, rows: Iterator[Row]) -> Iterator[Made | Skipped | Fault]:
        """Events of rows, in their order. Every row gives at least one result, unless ``only_if`` leaves all its events out."""
        if self._by_row:
            head = [row for _, row in zip(range(HEAD_ROWS), rows, strict=False)]
            digest = blake2b("\n".join("\x1f".join(row.cells) for row in head).encode(), digest_size=4).hexdigest()
            self._digest = digest
            for row in head:
                yield from self._row(row)
        for row in rows:
            yield from self._row(row)

    def _row(self, row: Row) -> Iterator[Made | Skipped | Fault]:
        self._ordinal += 1
        cells = row.cells
        if len(cells) != self._columns.count:
            yield Fault(row.line, "row-width", "", f"{len(cells)} ≠ {self._columns.count}")
            return
        for at, column, values in self._keep:
            if cells[at] not in values:
                yield Skipped(row.line, "filtered", column, cells[at])
                return
        for event in self._events:
            try:
                made = event.make(row)
            except _NoEvent as no:
                kind = Skipped if no.code in _EXPECTED else Fault
                yield kind(row.line, no.code, no.column, no.value)
            except TimeFault as fault:
                yield Fault(row.line, fault.code, ",".join(self.mapping.time.columns) or self.mapping.time.column, fault.value)
            else:
                if made is not None:
                    yield made

    def stamp(self, cells: _Cells) -> datetime | int:
        """The stamp as written, moved where it is midnight at the end of its date.

        Raises:
            TimeFault: it is of another form.
        """
        if self._constant is not None:
            return self._constant
        text = cells[self._stamps[0]] if len(self._stamps) == 1 else " ".join(cells[at] for at in self._stamps)
        stamp = read_stamp(text, self.mapping.time.format)
        if (
            self.mapping.time.midnight_ends_day
            and isinstance(stamp, datetime)
            and not (stamp.hour or stamp.minute or stamp.second)
        ):
            stamp += timedelta(days=1)
        return stamp

    def instant(self, stamp: datetime | int, source: str) -> int:
        """Epoch ms of a stamp of a source.

        Raises:
            TimeFault: a policy refuses it.
            _NoEvent: it is implausible.
        """
        if self.mapping.time.ambiguous == "cadence":
            ms = self._zone.to_ms(stamp, self._previous.get(source))
            self._previous[source] = ms
        else:
            ms = self._zone.to_ms(stamp)
        if (self._from is not None and ms < self._from) or (self._to is not None and ms >= self._to):
            raise _NoEvent("time-implausible", self.mapping.time.column, iso_ms(ms))
        return ms

    def row_id(self) -> str:
        """Digest of the file's head and ordinal of the row."""
        return f"{self._digest}-{self._ordinal}"


def _constant(value: Any) -> _Fill:
    return lambda _: value


class _EventMaker:
    """Makes one event of a row."""

    def __init__(self, event: Event, owner: Converter, family: Family) -> None:
        self._event = event
        self._owner = owner
        columns = owner.columns
        self._source = columns.template(event.source, uri=True)
        self._interval = owner.mapping.interval
        self._spans = self._interval is not None and {"start", "end"} <= set(family.data.model_fields)
        self._only_if = columns.at[event.only_if] if event.only_if else -1
        self._distinct = [columns.at[c] for c in event.id.distinct]
        self._id_at = columns.at[event.id.column] if event.id.column else -1
        self._prefix = f"{event.id.prefix}-" if event.id.prefix else ""
        self._fills: list[tuple[str, _Fill]] = []
        for member, value in event.data.items():
            if isinstance(value, Member):
                self._fills.append((member, self._cell(value, *places_of(family, member))))
            elif isinstance(value, str):
                self._fills.append((member, columns.template(value)))
            else:
                self._fills.append((member, _constant(value)))
        self._device: list[tuple[str, _Fill]] = []
        self._known: set[str] = set()
        for member, constant in event.device.items():
            self._device.append((member, columns.template(constant) if isinstance(constant, str) else _constant(constant)))

    def make(self, row: Row) -> Made | None:
        """One event, or None when ``only_if`` leaves it out.

        Raises:
            _NoEvent, TimeFault: the row gives none.
        """
        event, owner, cells = self._event, self._owner, row.cells
        if self._only_if >= 0 and cells[self._only_if] in owner.columns.nulls:
            return None
        try:
            source = self._source(cells)
        except _NoEvent as no:
            raise _NoEvent("source-empty", no.column) from no
        # The values first: a row without one may have a stamp off the grid, and needs none.
        data = {member: value for member, fill in self._fills if (value := fill(cells)) is not _ABSENT}
        stamp = owner.stamp(cells)
        ms = owner.instant(stamp, source)
        number = 0
        if self._interval is not None:
            start, ms, number = self._span(self._interval, ms)
            if self._spans:
                data["start"], data["end"] = iso_ms(start), iso_ms(ms)
        id_ = self._prefix + self._natural_key(cells, ms, number)
        if self._distinct:
            text = "\x1f".join(cells[at] for at in self._distinct)
            id_ += "." + blake2b(text.encode(), digest_size=5).hexdigest()
        device = None
        if self._device and source not in self._known:
            device = {k: fill(cells) for k, fill in self._device}
            self._known.add(source)
        return Made(row.line, source, id_, encode_event(event.type, source, id_, ms, data), device)

    def _natural_key(self, cells: _Cells, ms: int, number: int) -> str:
        identity = self._event.id
        if identity.kind == "row":
            return self._owner.row_id()
        if identity.kind == "interval":
            return str(number)
        if identity.kind == "column":
            cell = cells[self._id_at]
            if not (cell.isascii() and cell.isdigit()):
                raise _NoEvent("id-empty", identity.column, cell)
            return cell
        if identity.unit in _TIME_UNITS:
            count, rest = divmod(ms, _TIME_UNITS[identity.unit])
            if rest and identity.unit != "s":
                raise _NoEvent("off-grid", self._owner.mapping.time.column, iso_ms(ms))
            return str(count) if not rest else f"{count}.{rest:03d}"
        local = self._owner.zone.local(ms)
        return str((local - EPOCH).days if identity.unit == "day" else local.year * 12 + local.month - 1)

    def _span(self, interval: Interval, ms: int) -> tuple[int, int, int]:
        """(start ms, end ms, number of the interval). Days and months are those of the file's zone.

        Raises:
            _NoEvent: the stamp is not on a boundary.
        """
        zone = self._owner.zone
        if interval.minutes:
            length = interval.minutes * 60_000
            start = ms if interval.stamped == "start" else ms - length
            if start % length:
                raise _NoEvent("off-grid", self._owner.mapping.time.column, iso_ms(ms))
            return start, start + length, start // length
        local = zone.local(ms)
        if local != local.replace(hour=0, minute=0, second=0, microsecond=0) or (interval.months and local.day != 1):
            raise _NoEvent("off-grid", self._owner.mapping.time.column, iso_ms(ms))
        back = interval.stamped == "end"
        if interval.days:
            first = local - timedelta(days=1) if back else local
            return zone.to_ms(first), zone.to_ms(first + timedelta(days=1)), (first - EPOCH).days
        month = local.year * 12 + local.month - 1 - back
        first, after = (datetime(m // 12, m % 12 + 1, 1) for m in (month, month + 1))  # noqa: DTZ001 (local by intent)
        return zone.to_ms(first), zone.to_ms(after), month

    def _cell(self, member: Member, kind: str, places: int) -> _Fill:
        """Reads one cell as what the family's member is."""
        column, nulls = member.column, self._owner.columns.nulls
        at = self._owner.columns.at[column]
        read = self._reader(member, kind, places)

        def fill(cells: _Cells) -> Any:
            cell = cells[at]
            if cell in nulls:
                if member.optional:
                    return _ABSENT
                raise _NoEvent("empty", column, cell)
            return read(cell)

        return fill

    def _reader(self, member: Member, kind: str, places: int) -> Callable[[str], Any]:
        column = member.column
        if member.values:
            values = member.values

            def choose(cell: str) -> Any:
                chosen = values.get(cell)
                if chosen is None:
                    raise _NoEvent("value-unknown", column, cell)
                return chosen == "true" if kind == "boolean" else chosen

            return choose
        if kind in ("integer", "decimal"):
            numerator, denominator = Decimal(1), Decimal(1)
            if member.unit is not None:
                numerator, denominator = numbers.factor(member.unit.from_, member.unit.to)
            if member.factor:
                numerator *= Decimal(member.factor)
            scale = member.scale if member.scale is not None else places
            return self._number(member, numerator, denominator, scale, whole=kind == "integer")
        if kind == "boolean":
            return self._boolean(column)
        if kind == "time":
            form, zone = self._owner.mapping.time.format, self._owner.zone
            return lambda cell: iso_ms(zone.to_ms(read_stamp(cell, form)))
        return lambda cell: cell

    @staticmethod
    def _number(member: Member, numerator: Decimal, denominator: Decimal, scale: int, *, whole: bool) -> Callable[[str], Any]:
        plain = numerator == denominator == 1
        allowed, rounding, column = member.exponent, member.rounding, member.column

        def read(cell: str) -> Any:
            try:
                value = numbers.parse(cell, exponent=allowed, decimal_mark=member.decimal_mark, group_mark=member.group_mark)
            except ValueError:
                raise _NoEvent("number-form", column, cell) from None
            try:
                if not plain or int(value.as_tuple().exponent) > 0 or -int(value.as_tuple().exponent) > scale:
                    value = numbers.to_places(value, numerator, denominator, scale, rounding)
                return int(value) if whole else format(value, "f")
            except ArithmeticError:
                raise _NoEvent("not-exact", column, cell) from None

        return read

    @staticmethod
    def _boolean(column: str) -> Callable[[str], Any]:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

        def read(cell: str) -> Any:
            value = words.get(cell.lower())
            if value is None:
                raise _NoEvent("value-unknown", column, cell)
            return value

        return read
