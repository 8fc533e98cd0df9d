"""JSON as this API writes it: times RFC 3339 in UTC with milliseconds, decimals as strings, missing as null."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
from starlette.responses import Response

__all__ = ["dumps", "json_response", "rfc3339"]


def rfc3339(value: datetime) -> str:
    """``2026-03-01T02:10:00.000Z``. Raises ValueError for a naive time: a time without a zone is nobody's."""
    if value.tzinfo is None:
        raise ValueError(f"naive time {value!r}")
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _default(value: object) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def dumps(value: object) -> bytes:
    """Encode. Raises orjson.JSONEncodeError for a type without a declared JSON form."""
    return orjson.dumps(value, default=_default, option=orjson.OPT_PASSTHROUGH_DATETIME)


def json_response(value: object, status: int = 200, **headers: str) -> Response:
    """A JSON answer that no cache keeps, unless ``headers`` (with _ for -) say otherwise."""
    out = {"Cache-Control": "no-store", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return Response(dumps(value), status, out, "application/json")
