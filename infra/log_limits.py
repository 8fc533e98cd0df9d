"""The size limit of records as every log applies it (``hengliu.ports.log.record_size``)."""

from collections.abc import Sequence

from hengliu.ports.log import MAX_RECORD_BYTES, Record, RecordTooLarge, record_size

__all__ = ["MAX_RECORD_BYTES", "check_sizes", "record_size"]


def check_sizes(records: Sequence[Record], limit: int) -> None:
    """Raise RecordTooLarge if any record is larger than ``limit`` bytes."""
    for record in records:
        size = record_size(record)
        if size > limit:
            raise RecordTooLarge(f"a record of {size} bytes exceeds {limit}")
