"""The raw table of an event family, generated from its pydantic model: declaration and row mapping.

record bytes -> one msgspec struct (generated once a family) -> typed columns -> one Arrow table. pydantic has validated at
intake; here it only says what the columns are.

Envelope columns come first (id, source, time, known_at, enterprise, site, division; for derived families also cause,
corrects, operator, operator_version), then one column a data member, then the transport columns.

Scope: a family that the platform itself writes carries its scope in its data, so a member ``enterprise``, ``site`` or
``division`` **is** that column (an empty one falls back to the header). A device's data are the sender's claim, never a
right to see: there the columns come from the headers alone, and such a member gets the column ``data_<member>``. So does
any other member whose name the envelope has taken (``source`` of a device registration is ``data_source``).
"""

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from operator import attrgetter
from typing import Annotated, Any, Literal, Union, cast

import msgspec
import pyarrow as pa
from pydantic.fields import FieldInfo

from hengliu.events.envelope import ms_of
from hengliu.events.family import Family, Text, Writer
from hengliu.ports.log import Headers
from hengliu.ports.warehouse import Column, TableSchema
from projections.table import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    TEXT,
    TIME,
    TRANSPORT,
    Fault,
    Records,
    Rows,
    Table,
    time_column,
    transport_arrays,
    week,
)

__all__ = ["Member", "RowMapping", "column_name", "family_table", "member_column", "members", "table_name"]

SCOPE = ("enterprise", "site", "division")
RESERVED = frozenset(
    {"id", "source", "time", "known_at", *SCOPE, "cause", "corrects", "operator", "operator_version", "change"}
    | {c.name for c in TRANSPORT}
)

ORDER_BY: Mapping[str, tuple[str, ...]] = {
    "meter.read": (week("time"), "meter", "quantity", "time"),
    "consumption.recorded": (week("end"), "meter", "quantity", "start"),
    "flow.summed": ("start", "enterprise"),
    "shipment.weighed": (week("time"), "shipment", "time"),
    "stock.moved": ("site", "commodity", "time"),
    "vehicle.located": (week("time"), "plate", "time"),
    "event.refused": ("time",),
    "district.registered": ("division", "known_at"),
    "enterprise.registered": ("enterprise", "known_at"),
    "site.registered": ("site", "known_at"),
    "device.registered": ("device", "known_at"),
    "vehicle.registered": ("plate", "known_at"),
    "rule.published": ("rule", "known_at"),
}
"""Sorting keys that follow a family's own queries."""

DEFAULT_ORDER = (week("time"), "enterprise", "time")
"""Any other family."""


@dataclass(frozen=True, slots=True)
class Member:
    """One data member: its kind of column, and what JSON is read into."""

    name: str
    json_name: str
    kind: Literal["text", "code", "integer", "decimal", "time", "date", "bool", "float", "json"]
    json_type: Any
    nullable: bool
    default: Any
    """``msgspec.NODEFAULT``, None or the model's default: what an absent member means."""
    title: Text
    digits: int = 0
    scale: int = 0


def table_name(type_: str) -> str:
    """``weighing.measured`` -> ``weighing_measured``."""
    return type_.replace(".", "_").replace("-", "_")


def _unwrap(annotation: Any, notes: Sequence[Any]) -> tuple[Any, list[Any], bool]:
    """(bare type, every constraint on the way, whether None is allowed)."""
    found = list(notes)
    optional = False
    while True:
        origin = typing.get_origin(annotation)
        if origin is Annotated:
            annotation, *more = typing.get_args(annotation)
            for note in more:
                found.extend(note.metadata if isinstance(note, FieldInfo) else [note])
        elif origin in (Union, types.UnionType):
            rest = [a for a in typing.get_args(annotation) if a is not type(None)]
            optional |= len(rest) < len(typing.get_args(annotation))
            if len(rest) != 1:
                return Any, found, optional
            annotation = rest[0]
        else:
            return annotation, found, optional


def members(family: Family) -> tuple[Member, ...]:
    """The data members of a family, in the model's order."""
    out = []
    for name, info in family.data.model_fields.items():
        bare, notes, optional = _unwrap(info.annotation, info.metadata)
        kind, json_type, digits, scale = _kind(f"{family.type}: {name}", bare, notes)
        default = msgspec.NODEFAULT if info.is_required() else info.get_default(call_default_factory=False)
        nullable = optional or default is None
        if nullable and kind != "json":
            json_type |= None
        if isinstance(default, Enum):
            default = default.value
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        title = info.title or name
        label = Text(title, str(extra.get("x-title-en", title)))
        json_name = info.validation_alias if isinstance(info.validation_alias, str) else info.alias or name
        out.append(Member(name, json_name, kind, json_type, nullable, default, label, digits, scale))
    return tuple(out)


def _kind(where: str, bare: Any, notes: Sequence[Any]) -> tuple[Any, Any, int, int]:
    """(kind, type for msgspec, digits, scale). What has no column of its own is kept as its JSON text."""
    if typing.get_origin(bare) is Literal:
        values = typing.get_args(bare)
        if all(isinstance(v, str) for v in values):
            return "code", str, 0, 0
        if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            return "integer", int, 0, 0
        return "json", msgspec.Raw, 0, 0
    if isinstance(bare, type):
        if issubclass(bare, Enum):
            return ("code", str, 0, 0) if issubclass(bare, str) else ("json", msgspec.Raw, 0, 0)
        if issubclass(bare, bool):
            return "bool", bool, 0, 0
        if issubclass(bare, int):
            return "integer", int, 0, 0
        if issubclass(bare, str):
            return "text", str, 0, 0
        if issubclass(bare, Decimal):
            digits = next((n.max_digits for n in notes if getattr(n, "max_digits", None) is not None), None)
            scale = next((n.decimal_places for n in notes if getattr(n, "decimal_places", None) is not None), None)
            if digits is None or scale is None:
                raise ValueError(f"{where}: a decimal declares its digits and its scale (quantities.decimal_string)")
            return "decimal", Decimal, digits, scale
        if issubclass(bare, datetime):
            return "time", Annotated[datetime, msgspec.Meta(tz=True)], 0, 0
        if issubclass(bare, date):
            return "date", date, 0, 0
        if issubclass(bare, float):
            return "float", float, 0, 0
    # AwareDatetime is a class of pydantic's own at run time, not a datetime.
    if getattr(bare, "__name__", "") in ("AwareDatetime", "PastDatetime", "FutureDatetime"):
        return "time", Annotated[datetime, msgspec.Meta(tz=True)], 0, 0
    return "json", msgspec.Raw, 0, 0


def _clickhouse(member: Member) -> tuple[str, pa.DataType]:
    match member.kind:
        case "code":
            return "LowCardinality(String)", TEXT
        case "integer":
            return "Int64", pa.int64()
        case "decimal":
            return f"Decimal({member.digits}, {member.scale})", pa.decimal128(member.digits, member.scale)
        case "time":
            return "DateTime64(3, 'UTC')", TIME
        case "date":
            return "Date32", pa.date32()
        case "bool":
            return "Bool", pa.bool_()
        case "float":
            return "Float64", pa.float64()
        case _:
            return "String", TEXT


def member_column(member: Member, name: str) -> Column:
    """The column of a data member. Optional members are Nullable: missing is not zero."""
    type_, arrow = _clickhouse(member)
    if member.nullable:
        type_ = "LowCardinality(Nullable(String))" if member.kind == "code" else f"Nullable({type_})"
    return Column(name, type_, arrow, nullable=member.nullable)


def _literal(member: Member) -> str | None:
    """The model's default as a SQL literal, where it has one that is not None."""
    default = member.default
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, int):
        return str(default)
    if isinstance(default, str) and member.kind in ("text", "code"):
        return "'" + default.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return None


class _Event(msgspec.Struct):
    """The envelope members that become columns; ``data`` is added for each family."""

    id: str
    source: str
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """Optional in CloudEvents 1.0 (3.1); absent, the receive time stands for it."""
    cause: str = ""
    corrects: str = ""
    operator: str = ""
    operatorversion: int | str = 0


def _milliseconds(value: datetime | None) -> int | None:
    if value is None:
        return None
    ms = ms_of(value)
    if not MIN_TIME_MS <= ms <= MAX_TIME_MS:
        raise ValueError(f"{value.isoformat()} lies outside 1900 to 2299")
    return ms


_encode_sorted = msgspec.json.Encoder(decimal_format="string", order="sorted").encode


def _json_text(value: Any) -> str | None:
    """JSON text of a member without a column type of its own: as it was sent, so that no number meets a float."""
    if value is None:
        return None
    text = bytes(value).decode() if isinstance(value, msgspec.Raw) else _encode_sorted(value).decode()
    return None if text == "null" else text


_CONVERT: Mapping[str, Callable[[Any], Any]] = {"time": _milliseconds, "json": _json_text}


def column_name(family: Family, member: Member) -> str:
    """Name of the column that holds a member (see the module's docstring)."""
    if member.name not in RESERVED or (member.name in SCOPE and family.writer is not Writer.DEVICE):
        return member.name
    return f"data_{member.name}"


_UNFIT = (ValueError, OverflowError, TypeError, pa.ArrowInvalid)
"""What a value raises that decodes but does not fit its column."""


class RowMapping:
    """Row mapping of one family (or of several with the same members)."""

    def __init__(self, family: Family, constants: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """``constants``: column name to (event type to value), for columns that say which of several types a row is."""
        self.members = members(family)
        self._names = {m.name: column_name(family, m) for m in self.members}
        self._trusted = family.writer is not Writer.DEVICE
        self._derived = family.writer is Writer.OPERATOR
        self._constants = constants or {}
        data = msgspec.defstruct(
            f"{family.data.__name__}Data",
            [(m.name, m.json_type, msgspec.field(name=m.json_name, default=m.default)) for m in self.members],
            frozen=True,
            kw_only=True,
        )
        event = msgspec.defstruct(f"{family.data.__name__}Event", [("data", data)], bases=(_Event,), kw_only=True)
        self._decoder = msgspec.json.Decoder(event)
        self._scope_members = {m.name for m in self.members if self._trusted and m.name in SCOPE}
        self.columns = self._declare()
        self._schema = pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in self.columns])

    @property
    def defaults(self) -> dict[str, str]:
        """Column to the SQL literal that stands for an absent member."""
        literals = {self._names[m.name]: _literal(m) for m in self.members if not m.nullable}
        return {name: text for name, text in literals.items() if text is not None}

    def _declare(self) -> tuple[Column, ...]:
        columns = [
            Column("id", "String", TEXT),
            Column("source", "LowCardinality(String)", TEXT),
            time_column("time"),
            time_column("known_at"),
            *(Column(name, "LowCardinality(String)", TEXT) for name in SCOPE),
        ]
        if self._derived:
            columns += [
                Column("cause", "String", TEXT),
                Column("corrects", "String", TEXT),
                Column("operator", "LowCardinality(String)", TEXT),
                Column("operator_version", "Int64", pa.int64()),
            ]
        columns += [Column(name, "LowCardinality(String)", TEXT) for name in self._constants]
        columns += [member_column(m, self._names[m.name]) for m in self.members if m.name not in self._scope_members]
        return (*columns, *TRANSPORT)

    def __call__(self, records: Records) -> Rows:
        """Rows of the records, in their order; records that do not decode or do not fit are faults instead."""
        events: list[Any] = []
        good: list[int] = []
        faults: list[Fault] = []
        decode = self._decoder.decode
        for row, value in enumerate(records.values):
            try:
                events.append(decode(value))
                good.append(row)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                faults.append(Fault(row, "undecodable", {"error": str(error)[:200]}))
        kept = records if len(good) == len(records) else records.keep(good)
        try:
            return Rows(self._build(events, kept), faults)
        except _UNFIT:
            # One value in thousands does not fit its column: find it record by record, keep the rest.
            fitting: list[int] = []
            for i, row in enumerate(good):
                try:
                    self._build([events[i]], records.keep([row]))
                    fitting.append(i)
                except _UNFIT as error:
                    faults.append(Fault(row, "unfit-value", {"error": str(error)[:200]}))
            faults.sort(key=lambda fault: fault.row)
            rows = records.keep(good[i] for i in fitting)
            return Rows(self._build([events[i] for i in fitting], rows), faults)

    def _build(self, events: Sequence[Any], records: Records) -> pa.Table:
        headers = records.headers
        datas = [event.data for event in events]
        arrays = [
            pa.array([event.id for event in events], TEXT),
            pa.array([event.source for event in events], TEXT),
            pa.array([_event_time(e, h) for e, h in zip(events, headers, strict=True)], TIME),
            pa.array([h.known_at or h.received for h in headers], TIME),
        ]
        for name in SCOPE:
            stamped = [getattr(h, name) for h in headers]
            if name in self._scope_members:
                own = map(attrgetter(name), datas)
                arrays.append(pa.array([mine or theirs for mine, theirs in zip(own, stamped, strict=True)], TEXT))
            else:
                arrays.append(pa.array(stamped, TEXT))
        if self._derived:
            arrays += [
                pa.array([event.cause for event in events], TEXT),
                pa.array([event.corrects for event in events], TEXT),
                pa.array([event.operator for event in events], TEXT),
                pa.array([int(event.operatorversion) for event in events], pa.int64()),
            ]
        for by_type in self._constants.values():
            arrays.append(pa.array([by_type[h.type] for h in headers], TEXT))
        for member in self.members:
            if member.name in self._scope_members:
                continue
            values: Any = map(attrgetter(member.name), datas)
            convert = _CONVERT.get(member.kind)
            if convert is not None:
                values = map(convert, values)
            arrays.append(pa.array(list(values), _clickhouse(member)[1]))
        return pa.Table.from_arrays([*arrays, *transport_arrays(records)], schema=self._schema)


def _event_time(event: Any, headers: Headers) -> int:
    return cast("int", _milliseconds(event.time)) if event.time is not None else headers.received


def family_table(family: Family) -> Table:
    """The raw table of a family."""
    mapping = RowMapping(family)
    return Table(
        schema=TableSchema(
            name=table_name(family.type),
            columns=mapping.columns,
            order_by=ORDER_BY.get(family.type, DEFAULT_ORDER),
        ),
        types=frozenset({family.type}),
        topics=frozenset({family.topic}),
        rows=mapping,
        title=family.title,
        defaults=mapping.defaults,
    )
