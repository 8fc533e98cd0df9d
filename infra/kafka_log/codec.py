"""How headers and task state are laid out in Kafka records.

State topic of a group, partition p = task p, compacted, so its keys are what must stay unique:

``p``
    all positions of the task, JSON ``[[topic, partition, position], ...]``.
``e`` + chunk number (uint32, big-endian) + entry key
    one chunk of an entry's value. Chunk 0 begins with ``HEADER``: the number of chunks, the value's length and a digest.
    Compaction keeps the old higher chunks of a value that shrank, so only chunk 0 says how many count.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from hengliu.ports.log import Headers, LogError, TaskState, TopicPartition

__all__ = [
    "CHUNK_BYTES",
    "POSITIONS_KEY",
    "StateReader",
    "decode_headers",
    "encode_entry",
    "encode_headers",
    "encode_positions",
]

CHUNK_BYTES = 900_000
"""Below Kafka's usual 1 MB record limit."""
POSITIONS_KEY = b"p"
HEADER = struct.Struct(">BIQ16s")
VERSION = 1
_NAMES = frozenset(Headers.__struct_fields__)

_encode = msgspec.json.Encoder().encode
_decode_positions = msgspec.json.Decoder(list[tuple[str, int, int]]).decode


def encode_headers(headers: Headers) -> list[tuple[str, bytes]]:
    """Record headers: every field that is not its default, text as UTF-8, integers in decimal."""
    pairs = [("received", b"%d" % headers.received), ("type", headers.type.encode())]
    if headers.principal:
        pairs.append(("principal", headers.principal.encode()))
    if headers.enterprise:
        pairs.append(("enterprise", headers.enterprise.encode()))
    if headers.site:
        pairs.append(("site", headers.site.encode()))
    if headers.division:
        pairs.append(("division", headers.division.encode()))
    if headers.known_at:
        pairs.append(("known_at", b"%d" % headers.known_at))
    if headers.upstream:
        pairs.append(("upstream", headers.upstream.encode()))
    if headers.origin:
        pairs.append(("origin", headers.origin.encode()))
    if headers.raw:
        pairs.append(("raw", headers.raw.encode()))
    return pairs


def decode_headers(pairs: Iterable[tuple[str, bytes]], topic: str, offset: int) -> Headers:
    """The port's headers of a record. Names that are not ours are left alone.

    Raises:
        LogError: the record has no receive time or type, so nobody of this project wrote it.
    """
    try:
        known: dict[str, Any] = {name: raw.decode() for name, raw in pairs if name in _NAMES}
        known["received"] = int(known["received"])
        if "known_at" in known:
            known["known_at"] = int(known["known_at"])
        return Headers(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(f"{topic} offset {offset}: foreign record headers ({error!r})") from error


def encode_positions(positions: Mapping[TopicPartition, int]) -> bytes:
    """Value of the positions record."""
    return _encode([[tp.topic, tp.partition, position] for tp, position in sorted(positions.items())])


def _chunk_key(key: bytes, number: int) -> bytes:
    return b"e" + number.to_bytes(4, "big") + key


def encode_entry(key: bytes, value: bytes | None, chunks_before: int) -> tuple[list[tuple[bytes, bytes | None]], int]:
    """Records that set an entry (or, with None, delete it), and how many chunks it has now.

    ``chunks_before`` is how many it had: what is beyond the new count gets tombstones, which only save space.
    """
    records: list[tuple[bytes, bytes | None]] = []
    count = 0
    if value is not None:
        count = max(1, -(-len(value) // CHUNK_BYTES))
        digest = blake2b(value, digest_size=16).digest()
        for number in range(count):
            part = value[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
            if number == 0:
                part = HEADER.pack(VERSION, count, len(value), digest) + part
            records.append((_chunk_key(key, number), part))
    records.extend((_chunk_key(key, number), None) for number in range(count, max(chunks_before, 1 if value is None else 0)))
    return records, count


class StateReader:
    """Puts a task's state together from the records of its state partition, in offset order."""

    def __init__(self) -> None:
        self._latest: dict[bytes, bytes] = {}

    def add(self, key: bytes, value: bytes | None) -> None:
        """One record."""
        if value is None:
            self._latest.pop(key, None)
        else:
            self._latest[key] = value

    def result(self) -> tuple[TaskState, dict[bytes, int]]:
        """The state, and the number of chunks of each entry.

        Raises:
            LogError: an entry does not have the chunks that it says, or its digest differs.
        """
        positions: dict[TopicPartition, int] = {}
        entries: dict[bytes, bytes] = {}
        chunks: dict[bytes, int] = {}
        for key, value in self._latest.items():
            if key == POSITIONS_KEY:
                positions = {
                    TopicPartition(topic, partition): position for topic, partition, position in _decode_positions(value)
                }
            elif key[:5] == b"e\0\0\0\0":
                name = key[5:]
                version, count, length, digest = HEADER.unpack_from(value)
                if version != VERSION:
                    raise LogError(f"state entry {name!r} has format {version}, wanted {VERSION}")
                parts: Sequence[bytes] = [
                    value[HEADER.size :],
                    *(self._latest.get(_chunk_key(name, number), b"") for number in range(1, count)),
                ]
                whole = b"".join(parts)
                if len(whole) != length or blake2b(whole, digest_size=16).digest() != digest:
                    raise LogError(f"state entry {name!r} is damaged: {len(whole)} of {length} bytes, or another digest")
                entries[name] = whole
                chunks[name] = count
        return TaskState(positions, entries), chunks
