"""The size limit of records, the same on every log, so that what one takes the other takes."""

from collections.abc import Sequence

from hengliu.ports.log import Record, RecordTooLarge

__all__ = ["MAX_RECORD_BYTES", "check_sizes", "record_size"]

MAX_RECORD_BYTES = 1_048_576
"""Unless a log is opened with another limit."""


def record_size(record: Record) -> int:
    """Bytes that count against the log's record limit: key, value and header text (characters, integers as 8)."""
    headers = record.headers
    return (
        len(record.key)
        + len(record.value)
        + 16
        + len(headers.type)
        + len(headers.principal)
        + len(headers.enterprise)
        + len(headers.site)
        + len(headers.division)
        + len(headers.upstream)
        + len(headers.origin)
        + len(headers.raw)
    )


def check_sizes(records: Sequence[Record], limit: int) -> None:
    """Raise RecordTooLarge if any record is larger than ``limit`` bytes."""
    for record in records:
        size = record_size(record)
        if size > limit:
            raise RecordTooLarge(f"a record of {size} bytes exceeds {limit}")
