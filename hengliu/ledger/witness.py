"""What a witness decides: cosign a checkpoint that continues what it cosigned before, or refuse and say why.

The rules are those of ``add-checkpoint`` in C2SP tlog-witness, as a pure function: what was cosigned before goes in, what is to
be kept from now on comes out. Whoever calls it keeps one ``Seen`` an origin, stores the new one **before** the cosignature
leaves, and does both under one lock; two requests that pass each other could else roll the witness back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import Hash
from hengliu.ledger.keys import Signature, Signer, VerifierKey
from hengliu.ledger.merkle import verify_consistency

__all__ = ["Cosignature", "Reason", "Refusal", "Seen", "witness_checkpoint"]


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
