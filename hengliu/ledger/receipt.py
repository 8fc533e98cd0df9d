"""Receipts: one JSON document that shows offline that an event stands in the log, unaltered, where its log and witnesses say.

It holds the record's fields, its rank, the inclusion proof and the signed checkpoint with its cosignatures. It holds the public
keys too, for a person who reads it, but they prove nothing: a receipt is verified against keys that the verifier already has.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from hengliu.events.family import Text
from hengliu.ledger.checkpoint import Checkpoint, Cosigned, SignedCheckpoint, open_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.keys import SUITES, Suite, VerifierKey, strict_base64
from hengliu.ledger.leaf import LoggedRecord, leaf_bytes
from hengliu.ledger.merkle import sides, verify_inclusion
from hengliu.ledger.note import MAX_NOTE, parse_note
from hengliu.ports.log import MAX_RECORD_BYTES, Headers

__all__ = ["MAX_RECEIPT", "Policy", "Receipt", "Verified", "by_hand", "make_receipt", "read_receipt", "verify_receipt"]

FORMAT = "hengliu-receipt-v1"
MAX_RECEIPT = 8 * MAX_RECORD_BYTES
"""Bytes of a receipt: a record of the largest size in Base64, headers escaped, proof and checkpoint."""
_MAX_PROOF = 63

_Text = Annotated[str, msgspec.Meta(max_length=MAX_RECORD_BYTES)]
_Long = Annotated[str, msgspec.Meta(max_length=2 * MAX_RECORD_BYTES)]
_Integer = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class _Headers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All fields of ``Headers``, none of them left out: what is not written cannot be covered."""

    received: _Integer
    type: _Text
    principal: _Text
    enterprise: _Text
    site: _Text
    division: _Text
    known_at: _Integer
    upstream: _Text
    origin: _Text
    raw: _Text


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topic: _Text
    partition: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
    key: _Long
    """Base64."""
    value: _Long
    """Base64: the sender's bytes."""
    headers: _Headers


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document as it is written; hashes and bytes in Base64."""

    format: str
    suite: str
    record: _Record
    rank: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    proof: Annotated[list[Annotated[str, msgspec.Meta(max_length=44)]], msgspec.Meta(max_length=_MAX_PROOF)]
    """From the leaf's sibling to the root's child."""
    checkpoint: Annotated[str, msgspec.Meta(max_length=MAX_NOTE)]
    """The signed note, line for line."""
    keys: Annotated[list[Annotated[str, msgspec.Meta(max_length=1024)]], msgspec.Meta(max_length=64)]
    """Public keys in text form, for reading only."""

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @property
    def logged(self) -> LoggedRecord:
        """The record. Raises LedgerError for bytes that are not Base64."""
        r = self.record
        headers = Headers(**{name: getattr(r.headers, name) for name in _Headers.__struct_fields__})
        return LoggedRecord(r.topic, r.partition, _bytes("key", r.key), _bytes("value", r.value), headers)


def _bytes(name: str, text: str) -> bytes:
    data = strict_base64(text)
    if data is None:
        raise LedgerError("receipt-form", detail=f"{name}: Base64")
    return data


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom the verifier believes: the log's key, witnesses, and how many of them have to have cosigned."""

    log: VerifierKey
    witnesses: tuple[VerifierKey, ...] = ()
    least: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.least <= len(self.witnesses):
            raise LedgerError("policy", least=self.least, witnesses=len(self.witnesses))


@dataclass(frozen=True, slots=True)
class Verified:
    """What a receipt proves: this record stands at this rank of the log, and these witnesses saw the log that size."""

    record: LoggedRecord
    rank: int
    checkpoint: SignedCheckpoint

    @property
    def cosigned(self) -> tuple[Cosigned, ...]:
        return self.checkpoint.cosigned


def make_receipt(suite: Suite, record: LoggedRecord, rank: int, proof: Sequence[bytes], note: bytes, policy: Policy) -> Receipt:
    """A receipt, verified before it is handed out, so that a damaged tile never becomes a receipt.

    Args:
        suite: suite of the log.
        record: the record as it stands in the log.
        rank: its index in the tree.
        proof: ``prove_inclusion`` in the tree of the checkpoint's size.
        note: the signed checkpoint with the cosignatures that are there.
        policy: keys of the log and its witnesses; ``least`` cosignatures have to be there.
    """
    headers = _Headers(**{name: getattr(record.headers, name) for name in _Headers.__struct_fields__})
    receipt = Receipt(
        format=FORMAT,
        suite=suite.name,
        record=_Record(record.topic, record.partition, _text(record.key), _text(record.value), headers),
        rank=rank,
        proof=[_text(each) for each in proof],
        checkpoint=note.decode(errors="replace"),
        keys=[key.text for key in (policy.log, *policy.witnesses)],
    )
    verify_receipt(receipt, policy)
    return receipt


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _once(members: list[tuple[str, object]]) -> None:
    names = [name for name, _ in members]
    for name in names:
        if names.count(name) > 1:
            raise LedgerError("receipt-form", detail=f"{name} stands twice")


def read_receipt(data: bytes) -> Receipt:
    """The receipt of a file. Raises LedgerError for anything else, unknown and missing members included."""
    if len(data) > MAX_RECEIPT:
        raise LedgerError("receipt-size", length=len(data), limit=MAX_RECEIPT)
    try:
        receipt = msgspec.json.decode(data, type=Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerError("receipt-form", detail=str(error)) from None
    # msgspec takes the last of two members of one name. Its types have bounded the depth by now, so this one may recurse.
    json.loads(data, object_pairs_hook=_once)
    if receipt.format != FORMAT or receipt.suite not in SUITES:
        raise LedgerError("receipt-form", detail=f"{receipt.format[:40]} {receipt.suite[:40]}")
    return receipt


def verify_receipt(receipt: Receipt, policy: Policy) -> Verified:
    """Check a receipt offline, against keys that the verifier has from elsewhere.

    Raises LedgerError for the first thing that does not fit: the leaf made of the record, the proof from it to the checkpoint's
    root, the log's signature, a cosignature of a known witness, or too few of them.
    """
    suite = SUITES[receipt.suite]
    if (policy.log.kind, *(w.kind for w in policy.witnesses)) != (suite.log, *(suite.cosigner for _ in policy.witnesses)):
        raise LedgerError("receipt-suite", suite=suite.name)
    signed = open_checkpoint(receipt.checkpoint.encode(), policy.log, policy.witnesses)
    record = receipt.logged
    proof = [_bytes("proof", each) for each in receipt.proof]
    checkpoint = signed.checkpoint
    leaf = suite.hash.leaf(leaf_bytes(suite.hash, record))
    verify_inclusion(suite.hash, leaf, receipt.rank, checkpoint.size, proof, checkpoint.root)
    if len(signed.cosigned) < policy.least:
        raise LedgerError("witnesses-few", count=len(signed.cosigned), least=policy.least)
    return Verified(record, receipt.rank, signed)


_INTRODUCTION = Text(
    "手工核对（在 sh 中，需要 perl、base64 和 {command}）。每一步都用上一步的结果。",
    "To check by hand (in sh, with perl, base64 and {command}). Each step uses the result of the one before.",
)
_BYTES = """bytes() { perl -e 'print pack "H*", <STDIN>'; }"""
_LEAF = Text(
    "叶：0x00 和记录各字段的散列，应为 {hash}", "Leaf: the hash of 0x00 and the fields of the record; it has to be {hash}"
)
_LEFT = Text(
    "第 {level} 层：0x01、左兄弟、上一步的散列，应为 {hash}",
    "Level {level}: 0x01, the sibling on the left, the last hash; {hash}",
)
_RIGHT = Text(
    "第 {level} 层：0x01、上一步的散列、右兄弟，应为 {hash}",
    "Level {level}: 0x01, the last hash, the sibling on the right; {hash}",
)
_END = Text(
    "最后一个散列的 Base64 是 {root}，即检查点第三行；检查点第二行是 {size}，大于序号 {rank}。签名核对的是空行之前的文本。",
    "The last hash in Base64 is {root}: the checkpoint's third line; its second is {size}, above the rank {rank}. "
    "Signatures are over the text before the blank line.",
)


def by_hand(receipt: Receipt) -> Text:
    """The formula, with this receipt's figures, as commands that a person can type; in both languages.

    Only for a receipt that verifies: what it prints is what it computes, and the person compares.
    """
    h = SUITES[receipt.suite].hash
    checkpoint = Checkpoint.parse(parse_note(receipt.checkpoint.encode()).text)
    entry = leaf_bytes(h, receipt.logged)
    top = h.leaf(entry)
    command = f"| bytes | {h.command}"
    steps: list[tuple[str, Text]] = [(f"printf %s 00{entry.hex()} {command}", _filled(_LEAF, hash=top.hex()))]
    for level, (sibling, left) in enumerate(zip(receipt.proof, sides(receipt.rank, checkpoint.size), strict=True), 1):
        other = _bytes("proof", sibling)
        pair = other + top if left else top + other
        top = h.digest(b"\x01" + pair)
        words = _filled(_LEFT if left else _RIGHT, level=level, hash=top.hex())
        steps.append((f"printf %s 01{pair.hex()} {command}", words))
    first = _filled(_INTRODUCTION, command=h.command)
    end = _filled(_END, root=_text(top), size=checkpoint.size, rank=receipt.rank)
    return Text(
        "\n".join([f"# {first.zh}", _BYTES, *(f"# {words.zh}\n{typed}" for typed, words in steps), f"# {end.zh}"]) + "\n",
        "\n".join([f"# {first.en}", _BYTES, *(f"# {words.en}\n{typed}" for typed, words in steps), f"# {end.en}"]) + "\n",
    )


def _filled(text: Text, **parameters: object) -> Text:
    return Text(text.zh.format(**parameters), text.en.format(**parameters))
