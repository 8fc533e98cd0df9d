"""Each code of a refusal can happen, says so in both languages, and is the one that is given."""

import base64
from collections.abc import Callable

import pytest

from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from hengliu.ledger.faults import FAULTS, LedgerError
from hengliu.ledger.hashes import SHA256
from hengliu.ledger.keys import ED25519, SHA256_ED25519, SM2_SM3, SigningKey, VerifierKey
from hengliu.ledger.leaf import LEAF_LINE, LoggedRecord, leaf_bytes, leaf_fields
from hengliu.ledger.merkle import Frontier, prove_consistency, prove_inclusion, root, verify_consistency, verify_inclusion
from hengliu.ledger.note import MAX_NOTE, MAX_SIGNATURES, Note, open_note, parse_note
from hengliu.ledger.offsets import Run, checked_runs
from hengliu.ledger.receipt import MAX_RECEIPT, Policy, read_receipt, verify_receipt
from hengliu.ledger.sealing import LedgerKeys, LogState, TreeState, check_start, seal
from hengliu.ledger.tiles import Bundle, Tile, bundle_bytes, bundle_entries, grow, nodes_of_tiles, parse_path
from hengliu.ledger.witness import MAX_REQUEST, Request
from hengliu.ports.log import Headers
from tests.ledger.test_note import PETER_LINE, TEXT
from tests.ledger.test_receipt import Case
from tests.ledger.test_suites import PETER, SM2_PUBLIC
from tests.ledger.trees import HASH_OF, nodes_of

CASE = Case(SHA256_ED25519)
A, B = HASH_OF[:2]
TWO = root(SHA256, HASH_OF[:2])
THREE = root(SHA256, HASH_OF[:3])
PROOF = prove_consistency(SHA256, 2, 3, nodes_of(SHA256, HASH_OF))
LOG = SigningKey.generate("log", ED25519)
KEY = LOG.verifier
RUN = Run(0, (1, 2)).to_bytes()


SEALING = LedgerKeys(SHA256_ED25519, "log", bytes(31) + b"1")
STATE = LogState("log/a-0", SHA256_ED25519.name)
SEALED = TreeState(
    Frontier().extended(SHA256, HASH_OF[:1]).to_bytes(),
    sign_checkpoint(Checkpoint("log/a-0", 1, A), SEALING.signer("log/a-0")).to_bytes(),
)
RECORD = LoggedRecord("a", 0, b"", b"", Headers(1, "t"))


def nothing(log: str, path: str) -> None:
    """No file is there."""


def frontier(size: int) -> Frontier:
    return Frontier().extended(SHA256, HASH_OF[:size])


def key(data: bytes, name: str = "name", number: str = "00000000") -> VerifierKey:
    return VerifierKey.parse(f"{name}+{number}+{base64.b64encode(data).decode()}")


HAPPENS: list[tuple[str, Callable[[], object]]] = [
    ("hash-length", lambda: verify_inclusion(SHA256, A[:31], 0, 1, (), A)),
    ("hash-length", lambda: verify_inclusion(SHA256, A, 0, 1, (), A + b"x")),
    ("hash-length", lambda: verify_inclusion(SHA256, A, 0, 2, [b""], TWO)),
    ("hash-length", lambda: verify_consistency(SHA256, 1, b"", 2, TWO, [B])),
    ("hash-length", lambda: grow(SHA256, Frontier(), [b"x"], lambda tile: b"")),
    ("hash-length", lambda: Frontier(1, (b"x",))),
    ("hash-length", lambda: Checkpoint("log", 1, b"x").to_bytes()),
    ("size-range", lambda: verify_inclusion(SHA256, A, 0, 1 << 63, (), A)),
    ("size-range", lambda: verify_consistency(SHA256, -1, A, 1, A, ())),
    ("size-range", lambda: Checkpoint("log", 1 << 63, A).to_bytes()),
    ("size-range", lambda: nodes_of_tiles(SHA256, 1 << 63, lambda tile: b"")),
    ("index-range", lambda: verify_inclusion(SHA256, A, 1, 1, (), A)),
    ("index-range", lambda: verify_inclusion(SHA256, A, -1, 1, (), A)),
    ("index-range", lambda: verify_inclusion(SHA256, A, 0, 0, (), A)),
    ("index-range", lambda: prove_inclusion(SHA256, 3, 3, nodes_of(SHA256, HASH_OF))),
    ("index-range", lambda: nodes_of_tiles(SHA256, 3, lambda tile: bytes(96))(1, 1)),
    ("sizes-order", lambda: verify_consistency(SHA256, 3, THREE, 2, TWO, PROOF)),
    ("sizes-order", lambda: prove_consistency(SHA256, 3, 2, nodes_of(SHA256, HASH_OF))),
    ("proof-length", lambda: verify_inclusion(SHA256, A, 0, 2, (), TWO)),
    ("proof-length", lambda: verify_consistency(SHA256, 2, TWO, 2, TWO, [A])),
    ("inclusion-root", lambda: verify_inclusion(SHA256, A, 0, 2, [A], TWO)),
    ("consistency-old-root", lambda: verify_consistency(
        SHA256, 3, A, 4, root(SHA256, HASH_OF[:4]), prove_consistency(SHA256, 3, 4, nodes_of(SHA256, HASH_OF)))),
    ("consistency-new-root", lambda: verify_consistency(SHA256, 2, TWO, 3, TWO, PROOF)),
    ("roots-differ", lambda: verify_consistency(SHA256, 2, TWO, 2, THREE, ())),
    ("empty-root", lambda: verify_consistency(SHA256, 0, A, 2, TWO, ())),
    ("frontier", lambda: Frontier.from_bytes(frontier(3).to_bytes()[:-1])),
    ("frontier", lambda: Frontier.from_bytes(b"")),
    ("frontier", lambda: Frontier(3, (A,))),
    ("tile-path", lambda: parse_path("tile/0/1")),
    ("tile-shape", lambda: Tile(0, -1)),
    ("tile-shape", lambda: Tile(-1, 0)),
    ("tile-shape", lambda: Tile(0, 0, 0)),
    ("tile-shape", lambda: Bundle(0, 257)),
    ("tile-length", lambda: grow(SHA256, frontier(3), [A], lambda tile: bytes(64))),
    ("tile-edge", lambda: grow(SHA256, frontier(3), [A], lambda tile: bytes(96))),
    ("entry-length", lambda: bundle_bytes([bytes(65_536)])),
    ("bundle-width", lambda: bundle_entries(Bundle(0, 2), bundle_bytes([b"a"]))),
    ("bundle-width", lambda: bundle_entries(Bundle(0, 2), bundle_bytes([b"a"] * 3))),
    ("bundle-end", lambda: bundle_entries(Bundle(0, 1), b"\0\3ab")),
    ("bundle-end", lambda: bundle_entries(Bundle(0, 2), b"\0\1a\0")),
    ("key-text", lambda: VerifierKey.parse("name")),
    ("key-text", lambda: VerifierKey.parse(PETER.replace("c74f20a3", "C74F20A3"))),
    ("key-text", lambda: VerifierKey.parse(PETER + "=")),
    ("key-text", lambda: VerifierKey.parse("name+00000000+")),
    ("key-text", lambda: SigningKey.parse(PETER)),
    ("key-kind", lambda: key(b"\x02" + bytes(32))),
    ("key-kind", lambda: key(b"\xffsomebody-elses" + bytes(32))),
    ("key-length", lambda: key(b"\x01" + bytes(31))),
    ("key-length", lambda: SigningKey("name", ED25519, bytes(31))),
    ("key-id", lambda: key(b"\x01" + bytes(32))),
    ("key-id", lambda: SigningKey.parse(LOG.text.replace("+log+", "+lag+"))),
    ("key-name", lambda: VerifierKey("a b", ED25519, bytes(32))),
    ("key-name", lambda: VerifierKey("a\u3000b", ED25519, bytes(32))),
    ("key-name", lambda: VerifierKey("a+b", ED25519, bytes(32))),
    ("key-name", lambda: VerifierKey("a\x01", ED25519, bytes(32))),
    ("key-name", lambda: VerifierKey("\ud800", ED25519, bytes(32))),
    ("key-name", lambda: key(b"\x01" + bytes(32), name="")),
    ("key-point", lambda: VerifierKey("name", SM2_SM3, bytes(65))),
    ("key-point", lambda: VerifierKey("name", SM2_SM3, b"\x02" + bytes.fromhex(SM2_PUBLIC)[1:])),
    ("key-range", lambda: SigningKey("name", SM2_SM3, bytes(32))),
    ("key-range", lambda: SigningKey("name", SM2_SM3, b"\xff" * 32)),
    ("keys-ambiguous", lambda: open_note(b"", [KEY, KEY])),
    ("note-bytes", lambda: parse_note(b"\xff\n\n")),
    ("note-bytes", lambda: parse_note(b"\0\n\n")),
    ("note-size", lambda: parse_note(bytes(MAX_NOTE + 1))),
    ("note-text", lambda: Note(b"a", ()).to_bytes()),
    ("note-form", lambda: parse_note(b"a\n")),
    ("signature-line", lambda: parse_note(b"a\n\nb\n")),
    ("signatures-many", lambda: parse_note(f"{TEXT}\n{PETER_LINE * (MAX_SIGNATURES + 1)}".encode())),
    ("signature-bad", lambda: open_note(f"a\n\n{PETER_LINE}".encode(), [VerifierKey.parse(PETER)])),
    ("signature-none", lambda: open_note(f"a\n\n{PETER_LINE}".encode(), [KEY])),
    ("signature-none", lambda: open_note(f"a\n\n{PETER_LINE}".encode(), [])),
    ("time-range", lambda: LOG.sign(b"a\n", 5)),
    ("checkpoint-lines", lambda: Checkpoint.parse(b"a\n")),
    ("checkpoint-size", lambda: Checkpoint.parse(b"a\nb\nc\n")),
    ("checkpoint-root", lambda: Checkpoint.parse(b"a\n5\nc\n")),
    ("checkpoint-origin", lambda: sign_checkpoint(Checkpoint("a", 1, A), LOG)),
    ("checkpoint-origin", lambda: open_checkpoint(sign_checkpoint(Checkpoint("log", 1, A), LOG).to_bytes(), KEY, origin="lag")),
    ("leaf-form", lambda: leaf_fields(b"")),
    ("leaf-form", lambda: leaf_fields(LEAF_LINE + b"x")),
    ("leaf-form", lambda: leaf_fields(LEAF_LINE + b"5:ab,")),
    ("sealing-empty", lambda: seal(SEALING, "a-0", STATE, [], [], nothing)),
    ("sealing-origin", lambda: check_start(LedgerKeys(SHA256_ED25519, "lag", bytes(32)), "a-0", STATE, 0, 0, nothing)),
    ("sealing-origin", lambda: check_start(SEALING, "a-1", STATE, 0, 0, nothing)),
    ("sealing-end", lambda: check_start(SEALING, "a-0", STATE, 5, 4, nothing)),
    ("sealing-behind", lambda: check_start(SEALING, "a-0", STATE, 0, 0, lambda log, path: SEALED.checkpoint)),
    ("tile-missing", lambda: seal(SEALING, "a-0", LogState("log/a-0", "sha256-ed25519", SEALED), [RECORD], [1], nothing)),
    ("request-size", lambda: Request.parse(bytes(MAX_REQUEST + 1))),
    ("request-line", lambda: Request.parse(b"old 5\n")),
    ("request-line", lambda: Request(-1, (), b"note").to_bytes()),
    ("size-range", lambda: Request.parse(b"old 9223372036854775808\n\nnote")),
    ("receipt-size", lambda: read_receipt(bytes(MAX_RECEIPT + 1))),
    ("receipt-form", lambda: read_receipt(b"{}")),
    ("receipt-suite", lambda: verify_receipt(CASE.receipt, Policy(CASE.policy.witnesses[0]))),
    ("policy", lambda: Policy(KEY, (), 1)),
    ("witnesses-few", lambda: verify_receipt(
        CASE.receipt, Policy(CASE.log.verifier, (SigningKey.generate("w", CASE.suite.cosigner).verifier,), 1))),
    ("leaf-text", lambda: leaf_bytes(SHA256, LoggedRecord("\ud800", 0, b"", b"", Headers(0, "")))),
    ("offsets-order", lambda: Run(0, (2, 2))),
    ("offsets-run", lambda: Run.from_bytes(RUN[:-1])),
    ("offsets-rank", lambda: list(checked_runs([RUN, RUN]))),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "happens"), HAPPENS, ids=[f"{fault}-{n}" for n, (fault, _) in enumerate(HAPPENS)])
def test_a_refusal_says_what_does_not_fit(fault: str, happens: Callable[[], object]) -> None:
    with pytest.raises(LedgerError) as told:
        happens()
    assert told.value.fault == fault
    words = told.value.words
    assert str(told.value) == words.en
    assert words.zh != words.en
    assert "{" not in words.zh + words.en


def test_every_code_happens() -> None:
    assert {fault for fault, _ in HAPPENS} == set(FAULTS)
