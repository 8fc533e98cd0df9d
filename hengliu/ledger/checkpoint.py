"""Checkpoints of C2SP tlog-checkpoint: what a log says of itself in a signed note, and what witnesses say of it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import HASH_BYTES
from hengliu.ledger.keys import Signer, VerifierKey, strict_base64
from hengliu.ledger.merkle import MAX_SIZE, checked_hash, checked_size
from hengliu.ledger.note import Note, open_note

__all__ = ["Checkpoint", "Cosigned", "SignedCheckpoint", "is_decimal", "open_checkpoint", "sign_checkpoint"]

_LEAST_LINES = 3


def is_decimal(text: str) -> bool:
    """Whether this is how a size is written: ASCII digits, no leading zero, no more of them than the largest has."""
    return len(text) <= len(str(MAX_SIZE)) and text.isascii() and text.isdecimal() and str(int(text)) == text


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Origin (the log's name), number of leaves, root, and lines of which nobody promises anything."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The note's text. Raises LedgerError where it would be no checkpoint."""
        checked_size(self.size)
        lines = (self.origin, str(self.size), base64.b64encode(checked_hash(self.root)).decode(), *self.extensions)
        if not all(lines) or any("\n" in line for line in lines):
            raise LedgerError("checkpoint-lines")
        return "".join(f"{line}\n" for line in lines).encode()

    @classmethod
    def parse(cls, text: bytes) -> "Checkpoint":
        """Of a note's text. Raises LedgerError for whatever ``to_bytes`` never writes."""
        lines = text.decode(errors="replace").split("\n")
        if lines.pop() or len(lines) < _LEAST_LINES or not all(lines):
            raise LedgerError("checkpoint-lines")
        origin, size, encoded, *extensions = lines
        if not is_decimal(size):
            raise LedgerError("checkpoint-size")
        root = strict_base64(encoded)
        if root is None or len(root) != HASH_BYTES:
            raise LedgerError("checkpoint-root", expected=HASH_BYTES)
        return cls(origin, checked_size(int(size)), root, tuple(extensions))


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A witness has seen this checkpoint as the largest consistent one; time in seconds since the epoch."""

    witness: VerifierKey
    time: int


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose log's signature verifies, with those cosignatures that are of known witnesses, each once."""

    checkpoint: Checkpoint
    note: Note
    cosigned: tuple[Cosigned, ...]


def sign_checkpoint(checkpoint: Checkpoint, *signers: Signer) -> Note:
    """The note of a checkpoint, signed by the log's keys. Raises LedgerError where a key has another name than the origin."""
    text = checkpoint.to_bytes()
    for signer in signers:
        if signer.verifier.name != checkpoint.origin:
            raise LedgerError("checkpoint-origin", origin=checkpoint.origin, expected=signer.verifier.name)
    return Note(text, tuple(signer.sign(text) for signer in signers))


def open_checkpoint(
    data: bytes, log: VerifierKey, witnesses: Sequence[VerifierKey] = (), *, origin: str | None = None
) -> SignedCheckpoint:
    """Verify a checkpoint of the log that this key stands for.

    ``origin`` is for logs of others that sign under another name than their origin line. Raises LedgerError: the log has to
    have signed, no signature of a known witness may be wrong, and the origin has to be the log's.
    """
    opened = open_note(data, (log, *witnesses))
    if not any(key == log for key, _ in opened.verified):
        raise LedgerError("signature-none")
    checkpoint = Checkpoint.parse(opened.note.text)
    expected = log.name if origin is None else origin
    if checkpoint.origin != expected:
        raise LedgerError("checkpoint-origin", origin=checkpoint.origin, expected=expected)
    times: dict[VerifierKey, int] = {}
    for key, signature in opened.verified:
        if key.kind.timestamped:
            times[key] = max(times.get(key, 0), int.from_bytes(signature.value[:8], "big"))
    return SignedCheckpoint(checkpoint, opened.note, tuple(Cosigned(key, time) for key, time in times.items()))
