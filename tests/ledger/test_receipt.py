"""Receipts: they verify offline against keys that one has, and nothing in them can be changed."""

import base64
import json
import re
import subprocess
from random import Random
from typing import Any

import msgspec
import pytest

from hengliu.ledger.checkpoint import Checkpoint, sign_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.keys import SHA256_ED25519, SM3_SM2, SUITES, SigningKey, Suite
from hengliu.ledger.leaf import LoggedRecord, leaf_hash
from hengliu.ledger.merkle import prove_inclusion
from hengliu.ledger.receipt import MAX_RECEIPT, Policy, by_hand, make_receipt, read_receipt, verify_receipt
from hengliu.ledger.tiles import nodes_of_tiles
from hengliu.ports.log import Headers
from tests.ledger.trees import Store

SIZE, RANK = 300, 261


def record(n: int) -> LoggedRecord:
    headers = Headers(received=1_700_000_000_000 + n, type="weighing.recorded", principal="device:7", site="S1")
    return LoggedRecord("weighings", 0, b"urn:dev:org:32473-7", json.dumps({"id": str(n), "煤": n}).encode(), headers)


class Case:
    """A log of 300 records, two witnesses, and the receipt of one record."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.log = SigningKey.generate("hengliu.example/ledger/weighings-0", suite.log)
        self.witnesses = [SigningKey.generate(f"hengliu.example/w{n}", suite.cosigner) for n in range(2)]
        store = Store(suite.hash)
        store.append([leaf_hash(suite.hash, record(n)) for n in range(SIZE)])
        signed = sign_checkpoint(Checkpoint(self.log.name, SIZE, store.frontier.root(suite.hash)), self.log)
        self.note = signed.signed(*(w.sign(signed.text, 1_700_000_000) for w in self.witnesses))
        self.proof = prove_inclusion(suite.hash, RANK, SIZE, nodes_of_tiles(suite.hash, SIZE, store.tiles.__getitem__))
        self.policy = Policy(self.log.verifier, tuple(w.verifier for w in self.witnesses), 2)
        self.receipt = make_receipt(suite, record(RANK), RANK, self.proof, self.note.to_bytes(), self.policy)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(SHA256_ED25519)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_receipt_is_written_read_and_verified(suite: Suite) -> None:
    made = Case(suite)
    receipt = read_receipt(made.receipt.to_json())
    assert receipt == made.receipt
    found = verify_receipt(receipt, made.policy)
    assert (found.record, found.rank, found.checkpoint.checkpoint.size) == (record(RANK), RANK, SIZE)
    assert [(c.witness.name, c.time) for c in found.cosigned] == [(w.name, 1_700_000_000) for w in made.witnesses]
    assert verify_receipt(receipt, Policy(made.log.verifier)).cosigned == ()


def changes(document: Any) -> list[Any]:
    """The document with each of its values changed once, one at a time, and with each member left out."""
    made: list[Any] = []
    if isinstance(document, dict):
        for name, value in document.items():
            made += [{**document, name: other} for other in changes(value)]
            made.append({k: v for k, v in document.items() if k != name})
        made.append({**document, "more": 1})
    elif isinstance(document, list):
        made += [[*document[:n], other, *document[n + 1 :]] for n, value in enumerate(document) for other in changes(value)]
        made += [[*document, *document[:1]], document[:-1], document[::-1]]
    elif isinstance(document, int):
        made += [document + 1, document ^ 1 << 40, -1 - document, str(document)]
    else:
        made += [document + "A", document[:-1], document[:1] + "B" + document[2:], document.swapcase(), None]
    return [each for each in made if each != document]


def test_every_member_of_a_receipt_is_covered(case: Case) -> None:
    document = json.loads(case.receipt.to_json())
    verify_receipt(read_receipt(json.dumps(document).encode()), case.policy)
    del document["keys"]
    every = changes(document)
    assert len(every) > 100
    for changed in every:
        with pytest.raises(LedgerError):
            verify_receipt(read_receipt(json.dumps({**changed, "keys": []}).encode()), case.policy)


def test_a_thousand_changed_bytes_never_prove_something_else(case: Case) -> None:
    """A changed byte is refused, or changes what states nothing, such as white space between members."""
    data = case.receipt.to_json()
    end = data.index(b'"keys"')
    random, refused = Random(5), 0
    for _ in range(1_000):
        at = random.randrange(end)
        changed = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        try:
            found = verify_receipt(read_receipt(changed), case.policy)
        except LedgerError:
            refused += 1
        else:
            assert (found.record, found.rank) == (record(RANK), RANK)
            assert len(found.cosigned) == 2
    assert refused > 900


def test_another_records_receipt_is_not_this_ones(case: Case) -> None:
    for rank, other in ((RANK, record(RANK + 1)), (RANK + 1, record(RANK)), (RANK + 1, record(RANK + 1))):
        with pytest.raises(LedgerError, match=r"another root|it has to have"):
            make_receipt(case.suite, other, rank, case.proof, case.note.to_bytes(), case.policy)


def test_whom_one_believes_decides(case: Case) -> None:
    stranger = SigningKey.generate(case.log.name, case.suite.log).verifier
    unheard = SigningKey.generate("hengliu.example/w9", case.suite.cosigner).verifier
    with pytest.raises(LedgerError, match="No known key has signed"):
        verify_receipt(case.receipt, Policy(stranger))
    with pytest.raises(LedgerError, match="No known key has signed"):
        verify_receipt(case.receipt, Policy(stranger, case.policy.witnesses, 2))
    with pytest.raises(LedgerError, match="0 witnesses have cosigned; 1 are asked for"):
        verify_receipt(case.receipt, Policy(case.log.verifier, (unheard,), 1))
    with pytest.raises(LedgerError, match="2 witnesses have cosigned; 3 are asked for"):
        verify_receipt(case.receipt, Policy(case.log.verifier, (*case.policy.witnesses, unheard), 3))
    assert len(verify_receipt(case.receipt, Policy(case.log.verifier, (*case.policy.witnesses, unheard), 2)).cosigned) == 2
    with pytest.raises(LedgerError, match="3 witnesses are asked for; there are 2"):
        Policy(case.log.verifier, case.policy.witnesses, 3)
    with pytest.raises(LedgerError, match="-1 witnesses"):
        Policy(case.log.verifier, case.policy.witnesses, -1)


def test_keys_of_another_suite_or_use_are_refused(case: Case) -> None:
    sm = SigningKey.generate(case.log.name, SM3_SM2.log).verifier
    witness = case.policy.witnesses[0]
    for policy in (
        Policy(sm),
        Policy(witness),
        Policy(case.log.verifier, (sm,)),
        Policy(case.log.verifier, (case.log.verifier,)),
    ):
        with pytest.raises(LedgerError, match="not of the receipt's suite"):
            verify_receipt(case.receipt, policy)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"format": "hengliu-receipt-v1"}', b"[" * 100_000, b'{"format":' * 50_000],
    ids=["nothing", "empty", "array", "null", "no text", "no members", "deep arrays", "deep objects"],
)
def test_what_is_no_receipt_is_refused(data: bytes) -> None:
    with pytest.raises(LedgerError, match="Not a receipt"):
        read_receipt(data)


def test_a_receipt_without_measure_is_refused(case: Case) -> None:
    with pytest.raises(LedgerError, match="are allowed"):
        read_receipt(bytes(MAX_RECEIPT + 1))
    for member, value in (
        ("rank", 1 << 63),
        ("rank", -1),
        ("proof", [""] * 64),
        ("proof", ["A" * 45]),
        ("checkpoint", "A" * 262_145),
    ):
        document = {**json.loads(case.receipt.to_json()), member: value}
        with pytest.raises(LedgerError, match="Not a receipt"):
            read_receipt(json.dumps(document).encode())


def test_a_member_that_stands_twice_is_refused(case: Case) -> None:
    """One reader would take the first and another the last."""
    data = case.receipt.to_json()
    for name in (b'"rank":', b'"topic":', b'"site":'):
        at = data.index(name)
        again = data[at : data.index(b",", at) + 1]
        with pytest.raises(LedgerError, match="stands twice"):
            read_receipt(data[:at] + again + data[at:])


def test_a_receipt_of_another_format_or_suite_is_refused(case: Case) -> None:
    for changed in ({"format": "hengliu-receipt-v2"}, {"suite": "md5"}):
        with pytest.raises(LedgerError, match="Not a receipt: "):
            read_receipt(msgspec.structs.replace(case.receipt, **changed).to_json())


def test_a_damaged_tile_never_becomes_a_receipt(case: Case) -> None:
    with pytest.raises(LedgerError, match="another root"):
        make_receipt(case.suite, record(RANK), RANK, [bytes(32), *case.proof[1:]], case.note.to_bytes(), case.policy)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_the_formula_works_by_hand(suite: Suite) -> None:
    """The text is a script whose remarks tell what each command has to print; both languages have the same commands."""
    made = Case(suite)
    told = by_hand(made.receipt)
    for text in (told.zh, told.en):
        lines = text.splitlines()
        expected = [re.findall(r"[0-9a-f]{64}", lines[n - 1])[-1] for n, line in enumerate(lines) if line.startswith("printf")]
        assert len(expected) == 1 + len(made.proof)
        printed = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout
        assert [line.split()[0] for line in printed.splitlines()] == expected
        root = base64.b64encode(bytes.fromhex(expected[-1])).decode()
        assert made.receipt.checkpoint.splitlines()[2] == root
        assert root in lines[-1]
    commands = [[line for line in text.splitlines() if not line.startswith("#")] for text in (told.zh, told.en)]
    assert commands[0] == commands[1]
