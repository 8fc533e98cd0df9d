"""The size limit of records as every log applies it (``hengliu.ports.log.record_size``)."""

from collections.abc import Sequence

from hengliu.ports.log import MAX_RECORD_BYTES, Record, RecordTooLarge, record_size

__all__ = ["MAX_RECORD_BYTES", "check_sizes", "record_size"]


def check_sizes(records: Sequence[Record], limit: int) -> None:
    """Raise RecordTooLarge if any record is larger than ``limit`` bytes."""
    last = None
    headers_size = 0
    for record in records:
        if record.headers is not last:  # neighbours often share one
            last = record.headers
            headers_size = record_size(Record(b"", b"", last))
        size = headers_size + len(record.key) + len(record.value)
        if size > limit:
            raise RecordTooLarge(f"a record of {size} bytes exceeds {limit}")
