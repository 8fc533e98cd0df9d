"""Strict reading of what strangers send: the bytes of one element become an event, or a refusal that says why.

One parser validates here and others (msgspec, polars, pyarrow, the engines) decode later from the same bytes, so whatever
two JSON parsers read differently is refused: duplicate member names, invalid UTF-8, NaN and Infinity, lone surrogates,
integers beyond 64 bits, numbers beyond a double, deep nesting.

The element's bytes are kept verbatim. Nothing here raises for what a sender can send, except ``split_batch`` with its typed
errors for the whole body.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, NoReturn

import msgspec
import orjson
from pydantic import ValidationError

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import RFC3339, SPEC_VERSION, iso_ms, ms_of
from hengliu.events.family import Family, Writer

__all__ = [
    "Accepted",
    "Envelope",
    "FieldFault",
    "NotABatch",
    "NotJson",
    "ParsePolicy",
    "Refusal",
    "TooManyEvents",
    "encode_envelope",
    "field_fault",
    "parse",
    "parse_envelope",
    "pointer_of",
    "split_batch",
]


@dataclass(frozen=True, slots=True)
class ParsePolicy:
    """Limits of what is taken."""

    max_event_bytes: int = 65_536
    """Bytes of one element as sent."""
    max_depth: int = 32
    """Nested objects and arrays, the event itself counted."""
    max_extensions: int = 32
    max_name: int = 64
    """Characters of an extension's name. CloudEvents 1.0.2 asks for 20 and does not enforce it."""
    max_text: int = 512
    """Characters of ``subject``, ``dataschema`` and of an extension's value."""
    max_id: int = 256
    max_source: int = 256
    max_type: int = 128
    earliest_ms: int = 631_152_000_000
    """1990-01-01T00:00:00Z: older than any digitally stamped reading that could be loaded."""
    future_ms: int = 24 * 3_600_000
    """How far a device's clock may run ahead of receipt. Twelve hours of zone confusion and as much again."""
    max_faults: int = 5
    """Faults of one payload that are reported."""


class NotJson(Exception):
    """The whole body is not JSON (400)."""


class NotABatch(Exception):
    """The body is JSON but no array: one refused result."""


class TooManyEvents(Exception):
    """More elements than the limit (413)."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} events")
        self.limit = limit


class FieldFault(msgspec.Struct, frozen=True):
    """One fault inside ``data``: JSON pointer, code of ``reference.problems.FIELD_FAULTS``, parameters."""

    pointer: str
    code: str
    parameters: Mapping[str, str] = {}


class Refusal(msgspec.Struct, frozen=True):
    """Why one element was refused. ``id``, ``source`` and ``type`` are given where they could be read."""

    code: str
    pointer: str = ""
    parameters: Mapping[str, str] = {}
    errors: tuple[FieldFault, ...] = ()
    id: str | None = None
    source: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A CloudEvent in structured JSON mode, as read.

    ``value`` is the sender's bytes. ``digest`` is four bytes over the parsed JSON (members sorted, spacing gone), which
    tells other content under the same id; four bytes miss one real difference in 4 * 10**9. ``data_base64`` stays as sent:
    no family takes it, so it is not decoded.
    """

    value: bytes
    id: str
    source: str
    type: str
    digest: bytes
    time_ms: int | None = None
    subject: str | None = None
    dataschema: str | None = None
    datacontenttype: str | None = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)
    has_data: bool = False
    data: Any = None
    data_base64: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event of a known family whose payload is valid: what intake goes on with, and no more, since many may wait.

    ``data`` is kept for families that the platform writes, whose scope is in their data; else None.
    """

    value: bytes
    id: str
    source: str
    digest: bytes
    time_ms: int
    family: Family
    extensions: Mapping[str, str | int | bool]
    data: Any = None


class _Sliced(msgspec.Struct):
    data: msgspec.Raw


_slicer = msgspec.json.Decoder(_Sliced)
_splitter = msgspec.json.Decoder(list[msgspec.Raw])

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_NAME = re.compile(r"[a-z0-9]+")
# CloudEvents 1.0.2, type system: no control characters, no surrogates (refused as JSON already), no noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]|["
    + "".join(f"{chr(p * 65536 + 65534)}{chr(p * 65536 + 65535)}" for p in range(1, 17))
    + "]"
)
_URI_REFERENCE = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")
_JSON_TYPE = re.compile(r"application/json\s*(?:;.*)?", re.IGNORECASE)

_KNOWN = frozenset({
    "specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype", "data", "data_base64",
})  # fmt: skip
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class _Fault(Exception):
    """A refusal on its way out of a nested check."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


def _refuse(code: str, pointer: str = "", **parameters: str) -> NoReturn:
    raise _Fault(Refusal(code, pointer, parameters))


# ---- bytes to JSON ---------------------------------------------------------------------------------------------------


def _why_not_json(error: orjson.JSONDecodeError, limit: int) -> Refusal:
    """Tell what is not JSON at all from JSON that we refuse."""
    message = str(error)
    if "UTF-8" in message and "BOM" not in message:
        return Refusal("not-utf8")
    if "surrogate" in message:
        return Refusal("lone-surrogate")
    if "depth" in message:
        return Refusal("too-deep", parameters={"limit": str(limit)})
    if "infinity" in message:
        return Refusal("number-out-of-range", parameters={"value": ""})
    return Refusal("not-json")


def _too_deep(value: bytes, parsed: object, limit: int) -> bool:
    # Counting brackets bounds the depth from above in one pass; only what has many of them is walked.
    if value.count(b"{") + value.count(b"[") <= limit:
        return False
    level: list[object] = [parsed]
    for _ in range(limit):
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        if not below:
            return False
        level = below
    return any(isinstance(node, dict | list) for node in level)


def _check_names_and_integers(value: bytes) -> None:
    """Walk every object with all its members, and every integer as written. Exact and slow: for suspects only."""

    def members(pairs: list[tuple[str, object]]) -> None:
        seen = set()
        for name, _ in pairs:
            if name in seen:
                _refuse("duplicate-member", name=name[:64])
            seen.add(name)

    def integer(text: str) -> None:
        # Never int(text) of a long text: that is quadratic, and refused by Python beyond 4300 digits.
        if len(text) > 20 or not _INT64_MIN <= int(text) <= _INT64_MAX:
            _refuse("number-out-of-range", value=text[:64])

    json.loads(value, object_pairs_hook=members, parse_int=integer, parse_float=len, parse_constant=len)


def _load(value: bytes, policy: ParsePolicy) -> tuple[Any, bytes]:
    """Parsed JSON and its canonical form (sorted, no spacing).

    How duplicate names are found without a second parser: a duplicate vanishes in parsing, and with it at least the two
    quotes of its name. Without backslashes a string is written back exactly as it came (a quote cannot stand inside), so
    the canonical form has fewer quotes exactly when a member was lost. With backslashes the slow walk decides.
    """
    if len(value) > policy.max_event_bytes:
        _refuse("too-large", size=str(len(value)), limit=str(policy.max_event_bytes))
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _Fault(_why_not_json(error, policy.max_depth)) from None
    if _too_deep(value, parsed, policy.max_depth):
        _refuse("too-deep", limit=str(policy.max_depth))
    canonical = orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS)
    if b"\\" in value or _LONG_NUMBER.search(value) is not None or value.count(b'"') != canonical.count(b'"'):
        _check_names_and_integers(value)
    return parsed, canonical


# ---- JSON to CloudEvent ----------------------------------------------------------------------------------------------


def _text(event: Mapping[str, Any], name: str, limit: int, *, required: bool) -> str | None:
    text = event.get(name)
    if text is None:  # CloudEvents JSON format 1.0.2, 2.2: null is the same as absent
        if required:
            _refuse("attribute-missing", "/" + name, name=name)
        return None
    if not isinstance(text, str):
        _refuse("attribute-type", "/" + name, name=name, expected="string")
    if not text or len(text) > limit:
        _refuse("attribute-length", "/" + name, name=name, limit=str(limit))
    if not text.isascii() or not text.isprintable():
        bad = _FORBIDDEN.search(text)
        if bad is not None:
            _refuse("attribute-form", "/" + name, name=name, expected="text without control characters")
    return text


def _time_ms(text: str) -> int:
    if RFC3339.fullmatch(text) is None:
        _refuse("attribute-form", "/time", name="time", expected="RFC 3339, 2026-03-01T10:10:00+08:00")
    try:
        return ms_of(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        _refuse("attribute-form", "/time", name="time", expected="RFC 3339, 2026-03-01T10:10:00+08:00")


def _extensions(event: Mapping[str, Any], policy: ParsePolicy) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for name, content in event.items():
        if name in _KNOWN or content is None:
            continue
        pointer = "/" + _escape(name[:64])
        if len(name) > policy.max_name or _NAME.fullmatch(name) is None:
            _refuse("attribute-name", pointer, name=name[:64], limit=str(policy.max_name))
        if isinstance(content, str):
            if len(content) > policy.max_text:
                _refuse("attribute-length", pointer, name=name, limit=str(policy.max_text))
            if _FORBIDDEN.search(content) is not None:
                _refuse("attribute-form", pointer, name=name, expected="text without control characters")
        elif isinstance(content, bool):
            pass
        elif not isinstance(content, int) or not -(2**31) <= content < 2**31:
            _refuse("attribute-type", pointer, name=name, expected="string, boolean or 32-bit integer")
        found[name] = content
    if len(found) > policy.max_extensions:
        _refuse("too-many-attributes", limit=str(policy.max_extensions))
    return found


def _envelope(value: bytes, policy: ParsePolicy) -> Envelope:
    event, canonical = _load(value, policy)
    if not isinstance(event, dict):
        _refuse("not-an-object")
    version = event.get("specversion")
    if version != SPEC_VERSION:
        if version is None:
            _refuse("attribute-missing", "/specversion", name="specversion")
        if not isinstance(version, str):
            _refuse("attribute-type", "/specversion", name="specversion", expected="string")
        _refuse("specversion-unsupported", "/specversion", value=version[:64])
    id_ = _text(event, "id", policy.max_id, required=True)
    source = _text(event, "source", policy.max_source, required=True)
    type_ = _text(event, "type", policy.max_type, required=True)
    assert id_ is not None
    assert source is not None
    assert type_ is not None
    if _URI_REFERENCE.fullmatch(source) is None:
        _refuse("attribute-form", "/source", name="source", expected="URI reference")
    time = _text(event, "time", 64, required=False)
    base64 = event.get("data_base64")
    data = event.get("data")
    if base64 is not None:
        if not isinstance(base64, str):
            _refuse("attribute-type", "/data_base64", name="data_base64", expected="string")
        if data is not None:
            _refuse("data-twice", "/data_base64")
    return Envelope(
        value=value,
        id=id_,
        source=source,
        type=type_,
        digest=sha256(canonical).digest()[:4],
        time_ms=None if time is None else _time_ms(time),
        subject=_text(event, "subject", policy.max_text, required=False) if "subject" in event else None,
        dataschema=_text(event, "dataschema", policy.max_text, required=False) if "dataschema" in event else None,
        datacontenttype=_text(event, "datacontenttype", policy.max_text, required=False),
        extensions={} if event.keys() <= _KNOWN else _extensions(event, policy),
        has_data="data" in event,
        data=data,
        data_base64=base64,
        time=time,
    )


def _named(value: bytes, refusal: Refusal, policy: ParsePolicy) -> Refusal:
    """The refusal with the identity of the event, where that much can be read."""
    if refusal.code in ("too-large", "too-deep", "not-json", "not-utf8"):
        return refusal
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return refusal
    if not isinstance(event, dict):
        return refusal

    def text(name: str, limit: int) -> str | None:
        found = event.get(name)
        return found if isinstance(found, str) and 0 < len(found) <= limit else None

    return msgspec.structs.replace(
        refusal, id=text("id", policy.max_id), source=text("source", policy.max_source), type=text("type", policy.max_type)
    )


def parse_envelope(value: bytes, policy: ParsePolicy) -> Envelope | Refusal:
    """Any CloudEvent 1.0 in structured JSON mode, of whatever type and data."""
    try:
        return _envelope(value, policy)
    except _Fault as fault:
        return _named(value, fault.refusal, policy)


def encode_envelope(envelope: Envelope) -> bytes:
    """The event written anew: equal content, our spelling. Stored events are never rewritten; this is for round trips."""
    body: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "time": envelope.time,
        "subject": envelope.subject,
        "dataschema": envelope.dataschema,
        "datacontenttype": envelope.datacontenttype,
        **envelope.extensions,
    }
    body = {name: content for name, content in body.items() if content is not None}
    if envelope.data_base64 is not None:
        body["data_base64"] = envelope.data_base64
    elif envelope.has_data:
        body["data"] = envelope.data
    return orjson.dumps(body)


# ---- CloudEvent to a valid event of a family -------------------------------------------------------------------------


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def pointer_of(member: Iterable[str | int]) -> str:
    """JSON pointer (RFC 6901) of a member of ``data``."""
    return "/data" + "".join("/" + _escape(str(step))[:64] for step in member)


_RANGE = {"greater_than": ">", "greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤"}


def field_fault(error: Mapping[str, Any]) -> FieldFault:
    """One of pydantic's errors in our codes; never its sentence, and never the input it saw."""
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    pointer = pointer_of(error["loc"])
    if kind == "missing":
        return FieldFault(pointer, "field-missing")
    if kind == "extra_forbidden":
        return FieldFault(pointer, "field-unexpected")
    if kind in ("literal_error", "enum"):
        return FieldFault(pointer, "field-value", {"expected": str(context.get("expected", ""))[:256]})
    if kind in _RANGE:
        return FieldFault(pointer, "field-range", {"expected": f"{_RANGE[kind]} {next(iter(context.values()), '')}"})
    if kind in ("string_too_short", "string_too_long", "too_short", "too_long"):
        bound = context.get("min_length", context.get("max_length", ""))
        return FieldFault(pointer, "field-length", {"expected": f"{'≥' if 'min_length' in context else '≤'} {bound}"})
    if kind == "string_pattern_mismatch":
        return FieldFault(pointer, "field-form", {"expected": str(context.get("pattern", ""))})
    if kind in ("decimal_max_digits", "decimal_max_places", "decimal_whole_digits"):
        return FieldFault(pointer, "field-digits", {"expected": f"≤ {next(iter(context.values()), '')}"})
    if kind.startswith(("datetime_", "timezone_", "date_")):
        return FieldFault(pointer, "field-time")
    if kind.endswith(("_type", "_parsing")) or kind == "int_from_float":
        expected = {"model": "object", "dict": "object", "model_attributes": "object", "bool": "boolean"}.get(
            found := kind.removesuffix("_type").removesuffix("_parsing"), found
        )
        return FieldFault(pointer, "field-type", {"expected": "int" if kind == "int_from_float" else expected})
    if "-" in kind:  # a family's own code, raised with PydanticCustomError
        return FieldFault(pointer, kind, {name: str(content)[:256] for name, content in context.items()})
    return FieldFault(pointer, "field-incoherent")


def _accept(value: bytes, catalog: Catalog, policy: ParsePolicy, received_ms: int) -> Accepted:
    envelope = _envelope(value, policy)
    if envelope.type not in catalog:
        _refuse("unknown-type", "/type", type=envelope.type)
    family = catalog[envelope.type]
    if family.writer is Writer.OPERATOR:
        _refuse("type-not-writable", "/type", type=envelope.type)
    if envelope.data_base64 is not None:
        _refuse("data-base64", "/data_base64")
    content_type = envelope.datacontenttype
    if content_type is not None and content_type != "application/json" and _JSON_TYPE.fullmatch(content_type) is None:
        _refuse("content-type", "/datacontenttype", value=content_type[:64])
    if not envelope.has_data:
        _refuse("data-missing", "/data")
    time_ms = envelope.time_ms
    if time_ms is None:
        _refuse("attribute-missing", "/time", name="time")
    if time_ms < policy.earliest_ms:
        _refuse("time-too-early", "/time", value=envelope.time or "", limit=iso_ms(policy.earliest_ms))
    if time_ms > received_ms + policy.future_ms:
        _refuse("time-too-late", "/time", value=envelope.time or "", limit=str(policy.future_ms // 3_600_000))
    try:
        family.data.__pydantic_validator__.validate_json(bytes(_slicer.decode(value).data))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise _Fault(
            Refusal(
                "data-invalid",
                field_fault(faults[0]).pointer,
                {"count": str(len(faults))},
                errors=tuple(field_fault(fault) for fault in faults[: policy.max_faults]),
            )
        ) from None
    data = envelope.data if family.writer is Writer.PLATFORM else None
    return Accepted(value, envelope.id, envelope.source, envelope.digest, time_ms, family, envelope.extensions, data)


def parse(value: bytes, catalog: Catalog, policy: ParsePolicy, received_ms: int) -> Accepted | Refusal:
    """One element: a valid event of a family that may come from outside, or a refusal.

    Args:
        value: the element's bytes, verbatim.
        received_ms: receive time, the bound of times in the future.
    """
    try:
        return _accept(value, catalog, policy, received_ms)
    except _Fault as fault:
        return _named(value, fault.refusal, policy)


# ---- a body to elements ----------------------------------------------------------------------------------------------

# A string without its end is a token to the end of the body: left unmatched, each quote after it would be tried anew,
# which is quadratic.
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+"?|[\[\]{},]', re.DOTALL)
_SPACE = b" \t\r\n"


def _scan(body: bytes, limit: int) -> list[bytes]:
    """Elements of an array by brackets and strings alone: linear, no recursion, stops at the limit."""
    start = len(body) - len(body.lstrip(_SPACE)) + 1
    depth = 0
    elements: list[bytes] = []
    end = -1
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                end = token.end()
                break
        elif mark == b"," and depth == 1:
            elements.append(body[start : token.start()].strip(_SPACE))
            start = token.end()
            if len(elements) >= limit:
                raise TooManyEvents(limit)
    if end < 0 or body[end - 1 : end] != b"]" or body[end:].strip(_SPACE):
        raise NotJson
    last = body[start : end - 1].strip(_SPACE)
    if last or elements:
        elements.append(last)
    return elements


def split_batch(body: bytes, limit: int = 5_000) -> list[bytes]:
    """Elements of a batch, each verbatim.

    Raises:
        NotJson: the body is not JSON.
        NotABatch: it is JSON, but no array.
        TooManyEvents: it has more elements than ``limit``.
    """
    if not body.lstrip(_SPACE).startswith(b"["):
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError as error:
            if _why_not_json(error, 0).code in ("not-json", "not-utf8"):
                raise NotJson from None
        raise NotABatch
    # A body of nothing but commas would make millions of slices before they can be counted; an event has dozens of bytes.
    if body.count(b",") <= 16 * limit + len(body) // 16:
        try:
            raws = _splitter.decode(body)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            if len(raws) > limit:
                raise TooManyEvents(limit)
            return [bytes(raw) for raw in raws]
    # Either not JSON, or JSON that msgspec does not read: deep nesting, lone surrogates. The other elements still count.
    elements = _scan(body, limit)
    for element in elements:
        try:
            orjson.loads(element)
        except orjson.JSONDecodeError as error:
            if _why_not_json(error, 0).code in ("not-json", "not-utf8"):
                raise NotJson from None
    return elements
