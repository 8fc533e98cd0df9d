"""A mapping: how one kind of file becomes events, declared in TOML. docs/loading.md explains every key.

A mapping is checked whole before a row is read: unknown keys, members that the event family does not have, members that it
needs and that nobody fills, units that do not convert, zones that do not exist.
"""

import re
import tomllib
from collections.abc import Mapping as Map
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from connectors.files import numbers
from connectors.files.times import Ambiguous, Nonexistent
from hengliu.events.catalog import Catalog
from hengliu.events.family import Family, Text, Writer

__all__ = [
    "BUNDLED",
    "Event",
    "FileForm",
    "Interval",
    "Mapping",
    "MappingFault",
    "Member",
    "Template",
    "bundled",
    "find_mapping",
    "read_mapping",
]

BUNDLED = Path(__file__).parent / "mappings"
NULLS = ("", "Null", "NULL", "null", "NA", "N/A", "NaN", "nan")


class MappingFault(Exception):
    """What is wrong with a mapping, every fault with its place."""

    def __init__(self, name: str, faults: list[tuple[str, Text]]) -> None:
        self.name = name
        self.faults = faults
        super().__init__(f"{name}: " + "; ".join(f"{place}: {text.zh} / {text.en}" for place, text in faults))


class Template:
    """Text with columns in it: ``lcl-{LCLid}``. ``{Name:slug}`` turns what no identifier may hold into ``-``.

    ``{{`` and ``}}`` are braces.
    """

    __slots__ = ("columns", "parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        parts: list[tuple[str, str | None, str]] = []
        try:
            for literal, name, spec, conversion in Formatter().parse(text):
                if conversion or (spec or "") not in ("", "slug", "lower", "upper") or name == "":
                    raise ValueError(text)
                parts.append((literal, name, spec or ""))
        except ValueError as error:
            raise ValueError(f"not a template: {text}") from error
        self.parts = tuple(parts)
        self.columns = tuple(name for _, name, _ in parts if name is not None)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Title(_Part):
    zh: str
    en: str


class FileForm(_Part):
    """[file]: how rows are read. gz and zip are seen from the file itself."""

    format: Literal["csv", "xlsx", "jsonl"] = "csv"
    delimiter: str = Field(",", min_length=1, max_length=1)
    quote: str = Field('"', max_length=1)
    encoding: str = "utf-8"
    header: bool = True
    columns: tuple[str, ...] = ()
    """Names in the file's order; needed where there is no header, and used instead of one."""
    skip_lines: int = Field(0, ge=0)
    member: str = "*"
    """Pattern of the one zip member."""
    sheet: str = ""
    nulls: tuple[str, ...] = NULLS
    """Cells that hold no value: missing is not zero."""
    keep: dict[str, tuple[str, ...]] = {}
    """Column to the values whose rows are read; others are counted as filtered."""

    @model_validator(mode="after")
    def _named(self) -> "FileForm":
        if not self.columns and (not self.header or self.format == "jsonl"):
            raise ValueError("columns-needed")
        return self

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError as error:
            raise ValueError("encoding") from error
        return value


class TimeForm(_Part):
    """[time]: which columns hold the stamp, how it is written and in which zone."""

    column: str = ""
    columns: tuple[str, ...] = ()
    """Several columns, joined by a space before reading."""
    constant: str = ""
    """For files whose rows have no time: one RFC 3339 instant for all of them."""
    format: str = "iso"
    zone: str = ""
    """IANA name; may be empty only where every stamp has its own offset or is an epoch number."""
    ambiguous: Ambiguous = "refuse"
    nonexistent: Nonexistent = "refuse"
    cadence_minutes: int = Field(0, ge=0)
    midnight_ends_day: bool = False
    """A stamp of 00:00 carries the date of the day that it ends: it is 24:00 of that date."""
    plausible_from: str = ""
    plausible_to: str = ""
    """RFC 3339 instants; rows outside are counted and told, and make no event: a device's clock was reset."""

    @model_validator(mode="after")
    def _coherent(self) -> "TimeForm":
        if sum(map(bool, (self.column, self.columns, self.constant))) != 1:
            raise ValueError("time-columns")
        if self.ambiguous == "cadence" and not self.cadence_minutes:
            raise ValueError("cadence-needed")
        if self.zone:
            try:
                ZoneInfo(self.zone)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError("zone") from error
        elif not self.constant and self.format not in ("iso", "epoch-s", "epoch-ms") and "%z" not in self.format:
            raise ValueError("zone-needed")
        return self


class Interval(_Part):
    """[interval]: the value was counted over a span of time, and the stamp is one end of it."""

    minutes: int = Field(0, ge=0)
    days: int = Field(0, ge=0, le=1)
    months: int = Field(0, ge=0, le=1)
    stamped: Literal["start", "end"]

    @model_validator(mode="after")
    def _one(self) -> "Interval":
        if sum(map(bool, (self.minutes, self.days, self.months))) != 1 or (self.minutes and 1440 % self.minutes):
            raise ValueError("interval-length")
        return self


class Identity(_Part):
    """[event.id]: the row's natural key, as an integer where it can be.

    ``interval``: the number of the interval. ``time``: the stamp in ``unit``. ``column``: a number that the sender gave.
    ``row``: the row's ordinal, for files without time; such ids begin with a digest of the file's first rows.
    """

    kind: Literal["interval", "time", "column", "row"] = Field(alias="from")
    unit: Literal["ms", "s", "minute", "hour", "day", "month"] = "s"
    column: str = ""
    prefix: str = Field("", pattern=r"^[A-Za-z0-9._]*$")
    distinct: tuple[str, ...] = ()
    """Columns that tell rows with one natural key apart; a digest of them is appended."""

    @model_validator(mode="after")
    def _coherent(self) -> "Identity":
        if (self.kind == "column") != bool(self.column):
            raise ValueError("id-column")
        return self


class Unit(_Part):
    from_: str = Field(alias="from")
    to: str


class Member(_Part):
    """One member of an event's data, out of one column. Its type is the event family's."""

    column: str
    unit: Unit | None = None
    factor: str = ""
    """Exact decimal, beside or instead of ``unit``."""
    scale: int | None = Field(None, ge=0, le=12)
    """Fractional digits; those of the family unless given."""
    rounding: numbers.Rounding | None = None
    """Needed where a converted value may have more digits than ``scale``."""
    exponent: bool = False
    decimal_mark: Literal[".", ","] = "."
    group_mark: Literal["", ",", ".", " ", "'"] = ""
    values: dict[str, str] = {}
    """Cell to member, for members with a closed list; a cell that is not named is a fault of the row."""
    optional: bool = False
    """Without a value the member is left out; else the row makes no event."""

    @field_validator("unit")
    @classmethod
    def _converts(cls, unit: Unit | None) -> Unit | None:
        if unit is not None:
            try:
                numbers.factor(unit.from_, unit.to)
            except (KeyError, ValueError) as error:
                raise ValueError("unit") from error
        return unit

    @field_validator("factor")
    @classmethod
    def _number(cls, value: str) -> str:
        if value:
            try:
                numbers.parse(value)
            except ValueError as error:
                raise ValueError("factor") from error
        return value


def _template(text: str) -> str:
    try:
        Template(text)
    except ValueError as error:
        raise ValueError("template") from error
    return text


TemplateText = Annotated[str, Field(min_length=1)]
Constant = str | bool | int


class Event(_Part):
    """[event], or [[event]] where one row holds several: what is made of a row."""

    type: str
    source: TemplateText
    id: Identity
    data: dict[str, Member | Constant]
    device: dict[str, Constant] = {}
    """What the device is registered with; ``source`` is the event's. None registered: it must be known already."""
    only_if: str = ""
    """Column that must hold a value; else this event is not made and nothing is counted."""


class Registration(_Part):
    """[registration]: what devices belong to, registered before the first event; valid since always."""

    districts: tuple[dict[str, Constant], ...] = ()
    enterprises: tuple[dict[str, Constant], ...] = ()
    sites: tuple[dict[str, Constant], ...] = ()


class Mapping(_Part):
    """A whole mapping."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: Title
    example: str = ""
    file: FileForm = FileForm()
    time: TimeForm
    interval: Interval | None = None
    registration: Registration = Registration()
    event: tuple[Event, ...] = Field(min_length=1)

    def columns(self) -> set[str]:
        """Every column that the mapping reads."""
        found = {self.time.column, *self.time.columns, *self.file.keep}
        for group in (self.registration.districts, self.registration.enterprises, self.registration.sites):
            for item in group:
                found.update(c for v in item.values() if isinstance(v, str) for c in Template(v).columns)
        for event in self.event:
            found |= {event.id.column, event.only_if, *event.id.distinct, *Template(event.source).columns}
            for value in (*event.data.values(), *event.device.values()):
                if isinstance(value, Member):
                    found.add(value.column)
                elif isinstance(value, str):
                    found.update(Template(value).columns)
        return found - {""}


_WORDS: Map[str, Text] = {
    "extra_forbidden": Text("没有这个键", "unknown key"),
    "missing": Text("缺少这个键", "this key is missing"),
    "columns-needed": Text("没有表头时须用 columns 列出列名", "without a header, columns names the columns"),
    "encoding": Text("没有这种编码", "unknown encoding"),
    "time-columns": Text("column、columns、constant 须恰有一个", "exactly one of column, columns and constant is given"),
    "cadence-needed": Text("ambiguous 为 cadence 时须有 cadence_minutes", "ambiguous = cadence needs cadence_minutes"),
    "zone": Text("不是 IANA 时区", "no IANA time zone"),
    "zone-needed": Text("时间没有自带时差，须写 zone", "the stamps have no offset, so zone is needed"),
    "interval-length": Text(
        "minutes（须整除一天）、days、months 须恰有一个",
        "exactly one of minutes (a divisor of a day), days and months is given",
    ),
    "id-column": Text("from 为 column 时（且仅此时）须有 column", "column is given if, and only if, from is column"),
    "unit": Text("单位未知或不能换算", "unknown units, or units that do not convert"),
    "factor": Text("不是十进制数", "no decimal number"),
    "template": Text("模板写法不对，应如 meter-{列名}", "not a template such as meter-{column}"),
    "type": Text("没有这种设备事件", "no such event type of devices"),
    "member-unknown": Text("此类事件没有这个成员", "this event type has no such member"),
    "member-missing": Text("此类事件必须有这个成员", "this event type needs this member"),
    "interval-needed": Text("id 取自 interval，须有 [interval]", "the id is the interval's, so [interval] is needed"),
    "interval-unused": Text("此类事件没有 start 和 end", "this event type has no start and end"),
    "device-unknown": Text("设备登记没有这个成员", "a device's registration has no such member"),
    "time-constant": Text("不是带时差的 RFC 3339 时刻", "no RFC 3339 instant with an offset"),
    "toml": Text("不是 TOML", "not TOML"),
}


def _instant(text: str) -> bool:
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)", text) is not None


def _against_family(mapping: Mapping, catalog: Catalog) -> list[tuple[str, Text]]:
    """Faults that only the catalogue of event families can tell."""
    faults: list[tuple[str, Text]] = []
    device = catalog["device.registered"].data.model_fields
    stamps = ((name, getattr(mapping.time, name)) for name in ("constant", "plausible_from", "plausible_to"))
    faults += [(f"time.{name}", _WORDS["time-constant"]) for name, text in stamps if text and not _instant(text)]
    for number, event in enumerate(mapping.event, 1):
        place = f"event {number}"
        faults += [(f"{place}.device.{k}", _WORDS["device-unknown"]) for k in event.device if k not in device]
        texts = {"source": event.source}
        texts |= {f"data.{k}": v for k, v in event.data.items() if isinstance(v, str)}
        texts |= {f"device.{k}": v for k, v in event.device.items() if isinstance(v, str)}
        for where, text in texts.items():
            try:
                Template(text)
            except ValueError:
                faults.append((f"{place}.{where}", _WORDS["template"]))
        family = _family(event.type, catalog)
        if family is None:
            faults.append((f"{place}.type", _WORDS["type"]))
            continue
        fields = family.data.model_fields
        if event.id.kind == "interval" and mapping.interval is None:
            faults.append((f"{place}.id.from", _WORDS["interval-needed"]))
        given = set(event.data)
        if mapping.interval is not None:
            if {"start", "end"} <= set(fields):
                given |= {"start", "end"}
            elif event.id.kind != "interval":
                faults.append(("interval", _WORDS["interval-unused"]))
        faults += [(f"{place}.data.{k}", _WORDS["member-unknown"]) for k in event.data if k not in fields]
        needed = (k for k, f in fields.items() if f.is_required() and k not in given)
        faults += [(f"{place}.data.{k}", _WORDS["member-missing"]) for k in needed]
    return faults


def _family(type_: str, catalog: Catalog) -> Family | None:
    family = catalog.families.get(type_)
    return family if family is not None and family.writer is Writer.DEVICE else None


def read_mapping(text: str, name: str, catalog: Catalog | None = None) -> Mapping:
    """A mapping out of its TOML text.

    Raises:
        MappingFault: everything that is wrong with it.
    """
    try:
        declared: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        words = _WORDS["toml"]
        raise MappingFault(name, [("", Text(f"{words.zh}：{error}", f"{words.en}: {error}"))]) from error
    if isinstance(declared.get("event"), dict):
        declared["event"] = [declared["event"]]
    try:
        # Not strict at the top: TOML has arrays where the model has tuples.
        mapping = Mapping.model_validate(_tuples(declared))
    except ValidationError as error:
        raise MappingFault(name, [_words(e) for e in error.errors(include_url=False)]) from error
    faults = _against_family(mapping, catalog or Catalog())
    if faults:
        raise MappingFault(name, faults)
    return mapping


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _words(error: Any) -> tuple[str, Text]:
    """pydantic's error in both languages; of a member that may be a table or a constant only the table's part is told."""
    place = ".".join(
        str(part + 1) if isinstance(part, int) else str(part)
        for part in error["loc"]
        if part not in ("Member", "str", "bool", "int")
    )
    code = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["type"]
    known = _WORDS.get(code)
    if known is not None:
        return place, known
    return place, Text(f"值不合适：{error['msg']}", f"not acceptable: {error['msg']}")


def bundled() -> list[Mapping]:
    """The mappings that come with the package, by name."""
    return [read_mapping(path.read_text("utf-8"), path.name) for path in sorted(BUNDLED.glob("*.toml"))]


def find_mapping(name_or_file: str, catalog: Catalog | None = None) -> Mapping:
    """A bundled mapping by name, or one in a file.

    Raises:
        FileNotFoundError: neither is there.
        MappingFault: it is not a mapping.
    """
    path = BUNDLED / f"{name_or_file}.toml"
    if "/" in name_or_file or name_or_file.endswith(".toml") or not path.is_file():
        path = Path(name_or_file)
    if not path.is_file():
        raise FileNotFoundError(name_or_file)
    return read_mapping(path.read_text("utf-8"), path.name, catalog)
