"""The bytes of a leaf: what the ledger says of one log record, so that every stored field of it is covered.

A leaf is a line and then fields in a fixed order, each of them a netstring: the length in decimal, a colon, the bytes, a comma.
A field of more than 1,024 bytes, and the value always, stands as ``#``, its length, a colon, the lower-case hexadecimal digest
by the suite's hash, a comma. So a leaf has at most about 15,000 bytes and fits a bundle whatever the record holds, and it is
printed and checked with ``printf`` and ``sha256sum``. Two different records never have the same leaf: a reader of the fields
never has a choice.

The offset is not in it: a log that is copied to another one keeps its roots. Offsets have an index of their own (``offsets``).
"""

from dataclasses import dataclass

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import HASH_BYTES, Hash
from hengliu.ports.log import Headers

__all__ = ["FIELDS", "LEAF_LINE", "MAX_VERBATIM", "LoggedRecord", "leaf_bytes", "leaf_fields", "leaf_hash"]

LEAF_LINE = b"hengliu-record-v1\n"
"""First line. A field more, or another order, is another version."""
FIELDS = (
    "topic", "partition", "key", "value", "received", "type", "principal", "enterprise", "site", "division", "known_at",
    "upstream", "origin", "raw",
)  # fmt: skip
"""Fields in their order: where the record is, its key and value, then all ``Headers`` in the order of their declaration."""
MAX_VERBATIM = 1024
"""Longest field that stands as it is, in bytes."""


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """All fields of a record of the log but its offset."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers


def _digested(h: Hash, field: bytes) -> bytes:
    return b"#%d:%s," % (len(field), h.digest(field).hex().encode())


def _written(h: Hash, field: bytes) -> bytes:
    return b"%d:%s," % (len(field), field) if len(field) <= MAX_VERBATIM else _digested(h, field)


def leaf_bytes(h: Hash, record: LoggedRecord) -> bytes:
    """The leaf of a record: an entry of the log's bundles. Numbers are decimal, texts UTF-8.

    Raises LedgerError for a text with half of a surrogate pair, which no log holds.
    """
    t = record.headers
    topic = _written(h, _utf8("topic", record.topic))
    front = b"%s%s%s%s" % (LEAF_LINE, topic, _written(h, b"%d" % record.partition), _written(h, record.key))
    texts = (
        str(t.received), t.type, t.principal, t.enterprise, t.site, t.division, str(t.known_at), t.upstream, t.origin, t.raw,
    )  # fmt: skip
    together = "".join(texts)
    if together.isascii() and len(together) <= MAX_VERBATIM:
        # Nearly every record: none is long, and a character is a byte, so all are encoded at once.
        back = "".join([f"{len(text)}:{text}," for text in texts]).encode()
    else:
        back = b"".join([_written(h, _utf8(name, text)) for name, text in zip(FIELDS[4:], texts, strict=True)])
    return front + _digested(h, record.value) + back


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise LedgerError("leaf-text", name=name) from None


def leaf_hash(h: Hash, record: LoggedRecord) -> bytes:
    """Hash of the leaf, as it stands in a tile of level 0."""
    return h.leaf(leaf_bytes(h, record))


def leaf_fields(entry: bytes) -> list[bytes]:
    """The fields of a leaf as they stand in it, digested ones with their ``#``: to say which of them differs.

    >>> leaf_fields(b"hengliu-record-v1\\n1:a,2:bc,")
    [b'1:a', b'2:bc']

    Raises LedgerError for what is no leaf.
    """
    if not entry.startswith(LEAF_LINE):
        raise LedgerError("leaf-form")
    fields, at = [], len(LEAF_LINE)
    while at < len(entry):
        colon = entry.find(b":", at, at + 24)
        digested = entry[at : at + 1] == b"#"
        number = entry[at + digested : max(colon, 0)]
        if colon < 0 or not number.isdigit():
            raise LedgerError("leaf-form")
        end = colon + 1 + (2 * HASH_BYTES if digested else int(number))
        if entry[end : end + 1] != b",":
            raise LedgerError("leaf-form")
        fields.append(entry[at:end])
        at = end + 1
    return fields
