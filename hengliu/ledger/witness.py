"""What a witness decides: cosign a checkpoint that continues what it cosigned before, or refuse and say why.

The rules are those of ``add-checkpoint`` in C2SP tlog-witness, as a pure function: what was cosigned before goes in, what is to
be kept from now on comes out. Whoever calls it keeps one ``Seen`` an origin, stores the new one **before** the cosignature
leaves, and does both under one lock; two requests that pass each other could else roll the witness back.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hengliu.ledger.checkpoint import Checkpoint, is_decimal, open_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import HASH_BYTES, Hash
from hengliu.ledger.keys import Signature, Signer, VerifierKey, strict_base64
from hengliu.ledger.merkle import checked_size, verify_consistency
from hengliu.ledger.note import MAX_NOTE

__all__ = ["Cosignature", "Reason", "Refusal", "Request", "Seen", "witness_checkpoint"]

MAX_PROOF = 63
"""Hashes of a consistency proof, and lines of it that a request may have."""
MAX_REQUEST = MAX_NOTE + 64 * 64
"""Bytes of a request: a note, 63 lines of 45 bytes, and the first line."""


class Reason(Enum):
    """Why a checkpoint is not cosigned. The value is the HTTP status that tlog-witness gives it."""

    MALFORMED = ("malformed", 400)
    """No note, no checkpoint, or an old size above the new one."""
    UNSIGNED = ("unsigned", 403)
    """The log's signature is missing or wrong."""
    OTHER_LOG = ("other-log", 404)
    """Signed by the log's key, but under another origin."""
    STALE = ("stale", 409)
    """The proof starts from another size than the one that was cosigned last; the answer tells which."""
    ROLLBACK = ("rollback", 409)
    """Smaller than what was cosigned: nothing is said of a log's past twice."""
    FORK = ("fork", 422)
    """The same size with another root: two histories, proven by the two signatures of the log."""
    BAD_PROOF = ("bad-proof", 422)
    """No proof that the tree only grew: a fork, or a damaged proof. A log that is honest can send a right one."""

    @property
    def code(self) -> str:
        return self.value[0]

    @property
    def status(self) -> int:
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Seen:
    """The largest tree of a log that was cosigned."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Cosignature:
    """Store ``seen``, then send ``signature``."""

    signature: Signature
    seen: Seen


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing is stored. ``seen_size`` is what was cosigned last; ``fault`` is what did not fit, where there is more to say."""

    reason: Reason
    seen_size: int
    fault: LedgerError | None = None
    checkpoint: Checkpoint | None = None
    """The checkpoint, once the log's signature on it is known to hold: evidence, to be kept, of a fork."""


@dataclass(frozen=True, slots=True)
class Request:
    """Body of ``add-checkpoint``: ``old`` and a size, the proof in Base64, one hash a line, an empty line, the note."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def to_bytes(self) -> bytes:
        """Raises LedgerError where the result would be no request."""
        lines = [f"old {self.old_size}", *(base64.b64encode(each).decode() for each in self.proof), ""]
        made = "".join(f"{line}\n" for line in lines).encode() + self.note
        self.parse(made)
        return made

    @classmethod
    def parse(cls, data: bytes) -> "Request":
        """Take a request apart; the note in it is not looked at yet. Raises LedgerError naming the line."""
        if len(data) > MAX_REQUEST:
            raise LedgerError("request-size", length=len(data), limit=MAX_REQUEST)
        head, _, note = data.partition(b"\n\n")
        first, *rest = head.split(b"\n", MAX_PROOF + 1)
        size = first.removeprefix(b"old ").decode(errors="replace")
        if not first.startswith(b"old ") or not is_decimal(size):
            raise LedgerError("request-line", line=1)
        proof = []
        for line, text in enumerate(rest, 2):
            decoded = strict_base64(text.decode(errors="replace"))
            if decoded is None or len(decoded) != HASH_BYTES or line > MAX_PROOF + 1:
                raise LedgerError("request-line", line=line)
            proof.append(decoded)
        if not note:
            raise LedgerError("request-line", line=len(proof) + 2)
        return cls(checked_size(int(size)), tuple(proof), note)


def witness_checkpoint(
    h: Hash, log: VerifierKey, signer: Signer, seen: Seen | None, note: bytes, old_size: int, proof: Sequence[bytes], time: int
) -> Cosignature | Refusal:
    """Cosign or refuse.

    Args:
        h: hash of the log's suite.
        log: key of the log; its name is the origin.
        signer: the witness's own key, a timestamped one.
        seen: what this witness cosigned last of this origin, or None.
        note: the signed checkpoint, as it came.
        old_size: size from which the proof starts, by whoever asks.
        proof: consistency proof from there.
        time: now, in seconds since the epoch.
    """
    last = seen or Seen(0, h.empty)
    try:
        opened = open_checkpoint(note, log)
    except LedgerError as fault:
        reason = {
            "signature-bad": Reason.UNSIGNED, "signature-none": Reason.UNSIGNED, "checkpoint-origin": Reason.OTHER_LOG,
        }.get(fault.fault, Reason.MALFORMED)  # fmt: skip
        return Refusal(reason, last.size, fault)
    checkpoint = opened.checkpoint

    def refused(reason: Reason, fault: LedgerError | None = None) -> Refusal:
        return Refusal(reason, last.size, fault, checkpoint)

    if not 0 <= old_size <= checkpoint.size:
        return refused(Reason.MALFORMED, LedgerError("sizes-order", old=old_size, new=checkpoint.size))
    forked = checkpoint.size == last.size and checkpoint.root != last.root
    fork = LedgerError("roots-differ", size=last.size) if forked else None
    if checkpoint.size < last.size:
        return refused(Reason.ROLLBACK, LedgerError("sizes-order", old=last.size, new=checkpoint.size))
    if old_size != last.size:
        # The specification answers 409 before it looks at roots; that there are two of one size is told all the same.
        return refused(Reason.STALE, fork)
    if fork is not None:
        return refused(Reason.FORK, fork)
    try:
        verify_consistency(h, last.size, last.root, checkpoint.size, checkpoint.root, proof)
    except LedgerError as fault:
        return refused(Reason.BAD_PROOF, fault)
    return Cosignature(signer.sign(opened.note.text, time), Seen(checkpoint.size, checkpoint.root))
