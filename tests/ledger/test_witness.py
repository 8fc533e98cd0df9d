"""A witness cosigns one history, and says why it does not cosign another."""

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import SHA256
from hengliu.ledger.keys import ED25519, ED25519_COSIGNER, SUITES, SigningKey, Suite
from hengliu.ledger.merkle import MAX_SIZE, prove_consistency, root
from hengliu.ledger.note import Note
from hengliu.ledger.witness import Cosignature, Reason, Refusal, Request, Seen, witness_checkpoint
from tests.ledger.trees import HASH_OF, nodes_of

LOG = SigningKey.generate("hengliu.example/log", ED25519)
WITNESS = SigningKey.generate("hengliu.example/witness", ED25519_COSIGNER)
OTHER = [SHA256.leaf(b"another history %d" % n) for n in range(60)]


def note(leaves: Sequence[bytes], log: SigningKey = LOG, origin: str = "") -> Note:
    checkpoint = Checkpoint(origin or log.name, len(leaves), root(SHA256, leaves))
    return Note(checkpoint.to_bytes(), (log.sign(checkpoint.to_bytes()),))


def ask(
    seen: Seen | None, leaves: Sequence[bytes], old: int, proof: Sequence[bytes] | None = None, *, data: bytes | None = None
) -> Cosignature | Refusal:
    made = prove_consistency(SHA256, old, len(leaves), nodes_of(SHA256, leaves)) if proof is None else proof
    return witness_checkpoint(
        SHA256, LOG.verifier, WITNESS, seen, note(leaves).to_bytes() if data is None else data, old, made, 1_700_000_000
    )


def cosigned(answer: Cosignature | Refusal) -> Cosignature:
    assert isinstance(answer, Cosignature), answer
    return answer


def refused(answer: Cosignature | Refusal) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=6))
def test_a_log_that_only_grows_is_cosigned_at_every_step(sizes: list[int]) -> None:
    seen: Seen | None = None
    for size in sorted(sizes):
        leaves = HASH_OF[:size]
        answer = cosigned(ask(seen, leaves, seen.size if seen else 0))
        signed = note(leaves).signed(answer.signature).to_bytes()
        opened = open_checkpoint(signed, LOG.verifier, [WITNESS.verifier])
        assert [(c.witness, c.time) for c in opened.cosigned] == [(WITNESS.verifier, 1_700_000_000)]
        seen = answer.seen
        assert seen == Seen(size, root(SHA256, leaves))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 50), st.integers(1, 10), st.data())
def test_a_forked_log_is_never_cosigned(size: int, more: int, data: st.DataObject) -> None:
    """One leaf of what was cosigned is another one in the new tree, whose proof is made in good faith over the new tree."""
    seen = cosigned(ask(None, HASH_OF[:size], 0)).seen
    at = data.draw(st.integers(0, size - 1))
    forked = [*HASH_OF[:at], OTHER[at], *HASH_OF[at + 1 : size + more]]
    answer = refused(ask(seen, forked, size))
    assert answer.reason is Reason.BAD_PROOF
    assert answer.fault is not None
    assert answer.fault.fault.startswith("consistency-")
    assert answer.checkpoint is not None, "the log's signature held: this is evidence"


def test_two_roots_of_one_size_are_a_fork() -> None:
    seen = cosigned(ask(None, HASH_OF[:20], 0)).seen
    answer = refused(ask(seen, OTHER[:20], 20))
    assert (answer.reason, answer.seen_size) == (Reason.FORK, 20)
    assert answer.fault is not None
    assert str(answer.fault) == "Two trees of 20 leaves have different roots."
    cosigned(ask(seen, HASH_OF[:20], 20))


def test_a_smaller_tree_is_not_cosigned_again() -> None:
    seen = cosigned(ask(None, HASH_OF[:20], 0)).seen
    for old in (0, 7, 19):
        answer = refused(ask(seen, HASH_OF[:19], old))
        assert (answer.reason, answer.reason.status, answer.seen_size) == (Reason.ROLLBACK, 409, 20)


def test_a_proof_from_another_size_is_told_which_one_is_asked_for() -> None:
    seen = cosigned(ask(None, HASH_OF[:20], 0)).seen
    for old in (0, 19, 21):
        answer = refused(ask(seen, HASH_OF[:25], old))
        assert (answer.reason.code, answer.reason.status, answer.seen_size, answer.fault) == ("stale", 409, 20, None)
    forked = refused(ask(seen, OTHER[:20], 5))
    assert forked.reason is Reason.STALE, "tlog-witness: 409 before roots are looked at"
    assert forked.fault is not None
    assert forked.fault.fault == "roots-differ"
    assert refused(ask(None, HASH_OF[:20], 7)).reason is Reason.STALE


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 5000))
def test_a_changed_proof_is_not_cosigned(size: int, more: int, bit: int) -> None:
    seen = Seen(size, root(SHA256, HASH_OF[:size]))
    leaves = HASH_OF[: size + more]
    proof = list(prove_consistency(SHA256, size, len(leaves), nodes_of(SHA256, leaves)))
    for other in (proof[1:], [*proof, proof[-1]], [bytes(32), *proof[1:]], [proof[0][:31], *proof[1:]]):
        answer = refused(ask(seen, leaves, size, other))
        assert (answer.reason, answer.reason.status) == (Reason.BAD_PROOF, 422)
    changed = bytearray(proof[bit % len(proof)])
    changed[bit % 32] ^= 1 << bit % 8
    proof[bit % len(proof)] = bytes(changed)
    assert refused(ask(seen, leaves, size, proof)).reason is Reason.BAD_PROOF


def test_the_first_checkpoint_takes_no_proof() -> None:
    assert refused(ask(None, HASH_OF[:5], 0, [bytes(32)])).reason is Reason.BAD_PROOF
    assert cosigned(ask(None, (), 0)).seen == Seen(0, SHA256.empty)
    text = Checkpoint(LOG.name, 0, bytes(32)).to_bytes()
    wrong = refused(ask(None, (), 0, data=Note(text, (LOG.sign(text),)).to_bytes()))
    assert (wrong.reason.status, wrong.reason) == (422, Reason.FORK)


def test_who_signed_what_comes_first() -> None:
    stranger = SigningKey.generate(LOG.name, ED25519)
    leaves = HASH_OF[:5]
    for data, reason, status in (
        (b"no note", Reason.MALFORMED, 400),
        (note(leaves, stranger).to_bytes(), Reason.UNSIGNED, 403),
        (note(leaves).to_bytes().replace(b"\n5\n", b"\n6\n"), Reason.UNSIGNED, 403),
        (note(leaves, origin="hengliu.example/other").to_bytes(), Reason.OTHER_LOG, 404),
        (Note(b"a text\n", (LOG.sign(b"a text\n"),)).to_bytes(), Reason.MALFORMED, 400),
    ):
        answer = refused(ask(None, leaves, 0, data=data))
        assert (answer.reason, answer.reason.status, answer.checkpoint) == (reason, status, None)
    for old in (6, -1, MAX_SIZE):
        assert refused(ask(None, leaves, old, ())).reason is Reason.MALFORMED


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_either_suite_is_witnessed(suite: Suite) -> None:
    log, witness = SigningKey.generate("log", suite.log), SigningKey.generate("w", suite.cosigner)
    leaves = [suite.hash.leaf(b"%d" % n) for n in range(9)]
    seen = Seen(4, root(suite.hash, leaves[:4]))
    proof = prove_consistency(suite.hash, 4, 9, nodes_of(suite.hash, leaves))
    signed = sign_checkpoint(Checkpoint("log", 9, root(suite.hash, leaves)), log)
    answer = cosigned(witness_checkpoint(suite.hash, log.verifier, witness, seen, signed.to_bytes(), 4, proof, 5))
    assert open_checkpoint(signed.signed(answer.signature).to_bytes(), log.verifier, [witness.verifier]).cosigned[0].time == 5


def test_a_witness_needs_a_key_with_a_time() -> None:
    with pytest.raises(LedgerError, match="out of range"):
        witness_checkpoint(SHA256, LOG.verifier, LOG, None, note(HASH_OF[:3]).to_bytes(), 0, (), 5)


LINE = base64.b64encode(bytes(32)).decode()


def test_a_request_may_have_sixty_three_hashes() -> None:
    request = Request(7, (bytes(32),) * 63, b"note")
    assert Request.parse(request.to_bytes()) == request
    with pytest.raises(LedgerError, match="Line 65"):
        Request(7, (bytes(32),) * 64, b"note").to_bytes()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("", 1), ("\n\nnote", 1), ("old\n\nnote", 1), ("old \n\nnote", 1), ("old  7\n\nnote", 1), ("old 07\n\nnote", 1),
        ("old -1\n\nnote", 1), ("old +1\n\nnote", 1), ("old ٧\n\nnote", 1), ("new 7\n\nnote", 1), ("old 7\r\n\nnote", 1),
        (" old 7\n\nnote", 1), ("Old 7\n\nnote", 1), (f"old {'9' * 5000}\n\nnote", 1), ("7\n\nnote", 1), ("old 7", 2),
        ("old 7\n\n", 2), ("old 7\nnote", 2), (f"old 7\n{LINE[:-4]}\n\nnote", 2), (f"old 7\n{LINE} \n\nnote", 2),
        (f"old 7\n{LINE}\n{LINE[:-1]}\n\nnote", 3), (f"old 7\n{LINE}\n{LINE}\n\n", 4), (f"old 7\n{LINE[:42]}B=\n\nnote", 2),
        ("old 7\n" + f"{LINE}\n" * 5000 + "\nnote", 65),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: str, line: int) -> None:
    with pytest.raises(LedgerError, match=f"Line {line} of"):
        Request.parse(body.encode())
