"""One row of table ``batch``: records of one append as two blobs.

``val`` is the values joined by newline, so that a reader of a plain batch can hand the blob to an NDJSON parser as it is.
``meta`` is a msgpack array ``[lengths, keys, columns]``:

lengths
    little-endian uint32 of every value; the truth where a value holds a newline itself (the row is then not ``plain``).
keys
    one bytes when all are equal, else an array.
columns
    one item a field of ``HEADER_FIELDS``: the value itself when equal in all records, else an array. Trailing columns
    that hold nothing but the default are left out, so a field may be added at the end without touching stored rows.
"""

import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate, repeat
from typing import Any

import msgspec
from msgspec.structs import astuple, fields

from hengliu.ports.log import Headers, Record

__all__ = ["HEADER_FIELDS", "MAX_ROW_BYTES", "MAX_ROW_RECORDS", "Row", "decode", "encode"]

HEADER_FIELDS = ("received", "type", "principal", "enterprise", "site", "division", "known_at", "upstream", "origin", "raw")
"""Order of the stored columns: append only. A test holds it equal to the fields of ``Headers``."""

MAX_ROW_RECORDS = 8192
MAX_ROW_BYTES = 4 << 20
"""Longer appends become several rows, so that a reader's slice stays bounded (docs/decisions/009: 5,000 in 0.5 ms)."""

_DEFAULTS: tuple[Any, ...] = tuple(None if f.required else f.default for f in fields(Headers))
_encode_meta: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_decode_meta: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A batch row without its place."""

    count: int
    received: int
    """Receive time (ms) of the last record, the greatest of the row."""
    plain: bool
    meta: bytes
    val: bytes


def _collapse(column: Sequence[Any]) -> Any:
    first = column[0]
    return first if column.count(first) == len(column) else column


def encode(records: Sequence[Record]) -> Row:
    """A row of ``records`` (at least one)."""
    values = [r.value for r in records]
    headers = [r.headers for r in records]
    count = len(values)
    lengths = array("I", map(len, values))
    if sys.byteorder == "big":
        lengths.byteswap()
    val = b"\n".join(values)
    first = headers[0]
    columns: list[Any]
    if headers.count(first) == count:
        columns = list(astuple(first))
    else:
        columns = [_collapse(column) for column in zip(*map(astuple, headers), strict=True)]
    while columns[-1] == _DEFAULTS[len(columns) - 1]:
        columns.pop()
    meta = _encode_meta([lengths.tobytes(), _collapse([r.key for r in records]), columns])
    return Row(count, headers[-1].received, val.count(b"\n") == count - 1, meta, val)


def decode(count: int, plain: bool, meta: bytes, val: bytes) -> tuple[list[bytes], list[bytes], list[Headers]]:
    """Keys, values and headers of a row."""
    packed, keys, columns = _decode_meta(meta)
    values: list[bytes]
    if plain:
        values = val.split(b"\n")
    else:
        lengths = array("I", packed)
        if sys.byteorder == "big":
            lengths.byteswap()
        starts = accumulate(lengths, lambda at, length: at + length + 1, initial=0)
        values = [val[at : at + length] for at, length in zip(starts, lengths, strict=False)]
    if not isinstance(keys, list):
        keys = [keys] * count
    if any(isinstance(column, list) for column in columns):
        spread = [column if isinstance(column, list) else repeat(column, count) for column in columns]
        headers = list(map(Headers, *spread))
    else:
        headers = [Headers(*columns)] * count
    return keys, values, headers
