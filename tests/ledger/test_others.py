"""Notes, proofs and keys that other programs wrote and published."""

import base64

from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint
from hengliu.ledger.hashes import SHA256
from hengliu.ledger.keys import (
    COSIGNATURE_HEADER,
    ED25519,
    ED25519_COSIGNER,
    MAX_TIME,
    SHA256_ED25519,
    SM3_SM2,
    SigningKey,
    VerifierKey,
    cosigned_message,
)
from hengliu.ledger.merkle import verify_consistency
from hengliu.ledger.note import parse_note
from hengliu.ledger.witness import Cosignature, Reason, Refusal, Request, Seen, witness_checkpoint
from tests.ledger.test_note import BEHIND_THE_SOFA
from tests.ledger.test_suites import SUM_GOLANG_ORG

# FiloSottile/torchwood, cmd/litewitness/testdata/sumdb.txt: a checkpoint of Go's checksum database.
GO_SUM = """go.sum database tree
35225469
vt5T6GaLCXvyHFl9VUvvItR43XZxfLgftEcTyO3eJCQ=

— sum.golang.org Az3grpukl5AXaVfYkLiDGORx/DN2nlcS5kZHR5uYOBV2KA2HgXpD+gu9HHONebHLAyaKbbTM75QTtPydhKCExixSfwQ=
"""
# The same, internal/witness/witness_test.go: three checkpoints of one log, with the proofs that were sent to a witness.
SIGSUM = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
SIGSUM_KEY = VerifierKey(SIGSUM, ED25519, bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f"))
ONE = f"""{SIGSUM}
1
KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=

— {SIGSUM} UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=
"""
THREE = f"""{SIGSUM}
3
RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=

— {SIGSUM} UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=
"""
ONE_TO_THREE = ["KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
FIVE = f"""{SIGSUM}
5
QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=

— {SIGSUM} UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=
"""
ONE_TO_FIVE = [
    "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=",
    "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
]
WITNESS = SigningKey.generate("hengliu.example/witness", ED25519_COSIGNER)


def test_a_checkpoint_of_gos_checksum_database_verifies() -> None:
    opened = open_checkpoint(GO_SUM.encode(), VerifierKey.parse(SUM_GOLANG_ORG), origin="go.sum database tree")
    assert (opened.checkpoint.size, opened.note.to_bytes().decode()) == (35_225_469, GO_SUM)


def ask(seen: Seen | None, note: str, old: int, proof: list[str]) -> Cosignature | Refusal:
    decoded = [base64.b64decode(each) for each in proof]
    return witness_checkpoint(SHA256, SIGSUM_KEY, WITNESS, seen, note.encode(), old, decoded, 1_700_000_000)


def test_a_log_of_others_is_witnessed() -> None:
    first = ask(None, ONE, 0, [])
    assert isinstance(first, Cosignature)
    third, fifth = ask(first.seen, THREE, 1, ONE_TO_THREE), ask(first.seen, FIVE, 1, ONE_TO_FIVE)
    assert isinstance(third, Cosignature)
    assert isinstance(fifth, Cosignature)
    assert (third.seen.size, fifth.seen.size) == (3, 5)
    # The request that was overtaken: the larger tree was cosigned in between.
    late = ask(fifth.seen, THREE, 1, ONE_TO_THREE)
    assert isinstance(late, Refusal)
    assert (late.reason, late.reason.status, late.seen_size) == (Reason.ROLLBACK, 409, 5)
    swapped = ask(first.seen, FIVE, 1, ONE_TO_FIVE[::-1])
    assert isinstance(swapped, Refusal)
    assert swapped.reason is Reason.BAD_PROOF


def test_a_request_to_a_witness_is_read_and_written() -> None:
    for old, proof, note in ((0, [], ONE), (1, ONE_TO_THREE, THREE), (1, ONE_TO_FIVE, FIVE)):
        body = "".join(f"{line}\n" for line in [f"old {old}", *proof, ""]) + note
        request = Request.parse(body.encode())
        assert (request.old_size, request.note.decode()) == (old, note)
        assert [base64.b64encode(each).decode() for each in request.proof] == proof
        assert request.to_bytes() == body.encode()


def test_their_consistency_proof_verifies_without_a_witness() -> None:
    was, now = (Checkpoint.parse(parse_note(note.encode()).text) for note in (ONE, FIVE))
    verify_consistency(SHA256, was.size, was.root, now.size, now.root, [base64.b64decode(each) for each in ONE_TO_FIVE])


def test_a_witness_key_of_others_is_read() -> None:
    # transparency-dev/formats, note/note_cosigv1_test.go
    text = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
    key = VerifierKey.parse(text)
    assert (key.kind, key.text) == (ED25519_COSIGNER, text)


def test_a_witness_signs_the_message_of_the_specification() -> None:
    # C2SP tlog-cosignature, Ed25519 signed message
    message = (
        b"cosignature/v1\n"
        b"time 1679315147\n"
        b"example.com/behind-the-sofa\n"
        b"20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )
    text = parse_note(BEHIND_THE_SOFA.encode()).text
    for suite in (SHA256_ED25519, SM3_SM2):
        key = SigningKey.generate("witness.example.com/w1", suite.cosigner)
        value = key.sign(text, 1_679_315_147).value
        assert value[:8] == (1_679_315_147).to_bytes(8, "big")
        assert key.kind.check(key.verifier.public, message, value[8:])


def test_a_cosignature_from_beyond_time_is_refused() -> None:
    for time, holds in ((MAX_TIME, True), (MAX_TIME + 1, False)):
        value = time.to_bytes(8, "big") + WITNESS.kind.sign(WITNESS.secret, cosigned_message(time, b"text\n"))
        assert WITNESS.verifier.verifies(b"text\n", value) is holds
    assert COSIGNATURE_HEADER == b"cosignature/v1\n"
