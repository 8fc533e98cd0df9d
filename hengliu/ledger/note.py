"""Signed notes of C2SP: a text, a blank line, signature lines. Strict: one way to write, everything else refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.keys import Signature, VerifierKey, checked_name, strict_base64

__all__ = ["MAX_NOTE", "MAX_SIGNATURES", "Note", "Opened", "open_note", "parse_note"]

MAX_SIGNATURES = 32
"""Signatures that are looked at. The specification asks for at least 16; each costs tens of milliseconds with SM2."""
MAX_NOTE = 262_144
"""Bytes of a note: 32 signatures of 5 kB (post-quantum ones of others) and a text."""
_ID_BYTES = 4
_LEAST = 5
_DASH = "— "


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends with a newline, and its signatures in the order in which they stand."""

    text: bytes
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """Raises LedgerError where the result would be no note."""
        if not self.text.endswith(b"\n"):
            raise LedgerError("note-text")
        for signature in self.signatures:
            checked_name(signature.name)
        made = self.text + b"\n" + "".join(s.line for s in self.signatures).encode()
        parse_note(made)
        return made

    def signed(self, *signatures: Signature) -> "Note":
        """With further signatures; a new one of the same key takes the place of the old one."""
        new = {(s.name, s.key_id) for s in signatures}
        kept = [s for s in self.signatures if (s.name, s.key_id) not in new]
        return Note(self.text, (*kept, *signatures))


def parse_note(data: bytes) -> Note:
    """Take a note apart without believing it. Raises LedgerError for whatever ``to_bytes`` never writes."""
    if len(data) > MAX_NOTE:
        raise LedgerError("note-size", length=len(data), limit=MAX_NOTE)
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise LedgerError("note-bytes") from None
    if any(c < " " and c != "\n" for c in whole):
        raise LedgerError("note-bytes")
    text, gap, block = whole.rpartition("\n\n")
    if not gap or not block.endswith("\n"):
        raise LedgerError("note-form")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise LedgerError("signatures-many", count=len(lines), limit=MAX_SIGNATURES)
    return Note(f"{text}\n".encode(), tuple(_signature(number, line) for number, line in enumerate(lines, 1)))


def _signature(number: int, line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    raw = strict_base64(encoded)
    if not line.startswith(_DASH) or raw is None or len(raw) < _LEAST:
        raise LedgerError("signature-line", line=number)
    try:
        checked_name(name)
    except LedgerError:
        raise LedgerError("signature-line", line=number) from None
    return Signature(name, raw[:_ID_BYTES], raw[_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Opened:
    """A note of which at least one signature verifies; signatures of unknown keys are in ``note`` alone."""

    note: Note
    verified: tuple[tuple[VerifierKey, Signature], ...]


def open_note(data: bytes, keys: Sequence[VerifierKey]) -> Opened:
    """Verify a note.

    Every signature of a key in ``keys`` has to hold, and there has to be one; those of other keys are left alone, even where
    they share a name or an id with a known one. Raises LedgerError.
    """
    known = {(key.name, key.key_id): key for key in keys}
    if len(known) != len(keys):
        raise LedgerError("keys-ambiguous")
    note = parse_note(data)
    verified: dict[Signature, VerifierKey] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None or signature in verified:
            continue
        if not key.verifies(note.text, signature.value):
            raise LedgerError("signature-bad", name=key.name)
        verified[signature] = key
    if not verified:
        raise LedgerError("signature-none")
    return Opened(note, tuple((key, signature) for signature, key in verified.items()))
