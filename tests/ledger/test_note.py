"""Signed notes and checkpoints: published ones, and everything that is nearly one."""

import base64
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import SHA256
from hengliu.ledger.keys import ED25519, ED25519_COSIGNER, SUITES, KeyKind, Signature, SigningKey, Suite, VerifierKey
from hengliu.ledger.note import MAX_SIGNATURES, Note, open_note, parse_note
from tests.ledger.test_suites import FOO, PETER, PETER_SECRET

# golang.org/x/mod/sumdb/note, note_test.go
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
ENOCH_LINE = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
# C2SP signed-note, Verifier keys, Example
FOO_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# C2SP tlog-cosignature, the example of a cosigned checkpoint
BEHIND_THE_SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
KEYS = [VerifierKey.parse(PETER), VerifierKey.parse(ENOCH)]
ROOT = SHA256.leaf(b"hello world")


def verified(data: str, keys: list[VerifierKey]) -> list[str]:
    return [key.name for key, _ in open_note(data.encode(), keys).verified]


def test_published_notes_are_opened_and_written_again() -> None:
    assert verified(FOO_NOTE, [VerifierKey.parse(FOO)]) == ["example.com/foo"]
    both = f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}"
    assert verified(both, KEYS) == ["PeterNeumann", "EnochRoot"]
    assert verified(both, KEYS[:1]) == ["PeterNeumann"]
    assert verified(f"{TEXT}\n{PETER_LINE}{PETER_LINE}{ENOCH_LINE}{ENOCH_LINE}", KEYS) == ["PeterNeumann", "EnochRoot"]
    for text in (FOO_NOTE, both, BEHIND_THE_SOFA):
        assert parse_note(text.encode()).to_bytes() == text.encode()
    key = SigningKey.parse(PETER_SECRET)
    assert Note(TEXT.encode(), (key.sign(TEXT.encode()),)).to_bytes().decode() == f"{TEXT}\n{PETER_LINE}"


def test_a_published_checkpoint_is_read() -> None:
    note = parse_note(BEHIND_THE_SOFA.encode())
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert base64.b64encode(checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert checkpoint.to_bytes() == note.text
    assert int.from_bytes(note.signatures[1].value[:8], "big") == 1_679_315_147, "the time of the specification's example"
    # golang.org/x/mod/sumdb/tlog, TestFormatTree
    golden = b"go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n"
    assert Checkpoint("go.sum database tree", 123_456_789_012, ROOT).to_bytes() == golden


def test_a_text_may_hold_empty_lines_and_what_looks_like_signatures() -> None:
    key = SigningKey.parse(PETER_SECRET)
    for text in (b"\n", b"a\n\nb\n", f"a\n\n{ENOCH_LINE}".encode(), "煤\n".encode()):
        data = Note(text, (key.sign(text),)).to_bytes()
        assert open_note(data, KEYS).note.text == text


def test_unknown_keys_are_left_alone_even_where_they_share_a_name_or_an_id() -> None:
    name, key_id = KEYS[0].name, KEYS[0].key_id
    strange = (Signature(name, b"\0\0\0\0", b"x"), Signature("SomebodyElse", key_id, b"y" * 5000))
    data = Note(TEXT.encode(), (*strange, *parse_note(f"{TEXT}\n{PETER_LINE}".encode()).signatures)).to_bytes()
    assert verified(data.decode(), KEYS) == ["PeterNeumann"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (TEXT, "no signatures"),
        (TEXT + "\n", "no signatures"),
        ("", "no signatures"),
        (PETER_LINE, "no signatures"),
        (f"\n{PETER_LINE}", "no signatures"),
        (f"{TEXT}\n{PETER_LINE[:-1]}", "no signatures"),
        (f"{TEXT}\n\n{PETER_LINE}", "does not verify"),
        (f"\x01{TEXT}\n{PETER_LINE}", "control"),
        (f"{TEXT}\n{PETER_LINE}".replace("\n", "\r\n"), "control"),
        (f"{TEXT}\t\n{PETER_LINE}", "control"),
        (f"{TEXT}\n{PETER_LINE}Unexpected line.\n", "line 2"),
        (f"{TEXT}\n{PETER_LINE.replace('— ', '- ')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE.replace('— ', '—')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'Bad Name')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'Bad+Name')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', 'Bad　Name')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE.replace('PeterNeumann', '')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE.replace('=', '')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE.replace('AM=', 'AN=')}", "line 1"),
        (f"{TEXT}\n{PETER_LINE[:-1]} \n", "line 1"),
        (f"{TEXT}\n— PeterNeumann x08go3g=\n", "does not verify"),
        (f"{TEXT}\n— PeterNeumann x08gow==\n", "line 1"),
        (f"{TEXT}\n— PeterNeumann\n", "line 1"),
        (f"{TEXT}\n{PETER_LINE[:60]}ABCD{PETER_LINE[60:]}", "does not verify"),
        (f"{TEXT} \n{PETER_LINE}", "no signatures"),
        (f"{TEXT}more\n\n{PETER_LINE}", "does not verify"),
        (f"{TEXT}\n{PETER_LINE}{ENOCH_LINE.replace('zmZa', 'zmZb')}", "does not verify"),
        (f"{TEXT}\n{ENOCH_LINE.replace('EnochRoot', 'Enoch')}", "No known key"),
    ],
)
def test_what_is_nearly_a_note_is_refused(data: str, why: str) -> None:
    with pytest.raises(LedgerError, match=why):
        open_note(data.encode(), KEYS)


def test_bytes_that_are_no_utf8_and_notes_without_measure_are_refused() -> None:
    with pytest.raises(LedgerError, match="UTF-8"):
        parse_note(b"\xff" + f"{TEXT}\n{PETER_LINE}".encode())
    with pytest.raises(LedgerError, match="262144 are allowed"):
        parse_note(bytes(262_145))
    lines = "".join(f"— other{n} AAAAAAAA\n" for n in range(MAX_SIGNATURES))
    assert len(parse_note(f"{TEXT}\n{lines}".encode()).signatures) == MAX_SIGNATURES >= 16
    with pytest.raises(LedgerError, match="33 signatures; 32 are allowed"):
        parse_note(f"{TEXT}\n{lines}{PETER_LINE}".encode())


def test_two_keys_of_one_name_and_id_are_refused() -> None:
    with pytest.raises(LedgerError, match="same name and id"):
        open_note(f"{TEXT}\n{PETER_LINE}".encode(), [KEYS[0], KEYS[1], KEYS[0]])


def test_a_note_that_could_not_be_read_is_not_written() -> None:
    signature = parse_note(f"{TEXT}\n{PETER_LINE}".encode()).signatures
    for note, why in (
        (Note(b"abc", signature), "newline"),
        (Note(b"", signature), "newline"),
        (Note(b"a\n", ()), "no signatures"),
        (Note(b"a\n", (Signature("a+b", b"1234", b"x"),)), "name"),
        (Note(b"a\n", (Signature("a", b"1234", b""),)), "line 1"),
        (Note(b"a\r\n", signature), "control"),
    ):
        with pytest.raises(LedgerError, match=why):
            note.to_bytes()


def test_a_key_that_signs_again_replaces_its_signature() -> None:
    log, witness = SigningKey.generate("log", ED25519), SigningKey.generate("w", ED25519_COSIGNER)
    note = sign_checkpoint(Checkpoint("log", 1, ROOT), log)
    first, second = (note.signed(witness.sign(note.text, time)) for time in (5, 6))
    again = first.signed(witness.sign(note.text, 6))
    assert again == second
    assert open_checkpoint(again.to_bytes(), log.verifier, [witness.verifier]).cosigned[0].time == 6


def test_a_thousand_changed_notes_are_refused_or_are_the_same_statement() -> None:
    """A changed byte is refused, or it is in the line of a key that nobody here knows: the text is never another."""
    log = SigningKey.generate("log", ED25519)
    witness, other = SigningKey.generate("w", ED25519_COSIGNER), SigningKey.generate("o", ED25519_COSIGNER)
    note = sign_checkpoint(Checkpoint("log", 77, ROOT), log)
    data = note.signed(witness.sign(note.text, 9), other.sign(note.text, 9)).to_bytes()
    known = data.index("— o ".encode())
    random = Random(2026)
    refused = 0
    for n in range(1_100):
        at = random.randrange(known) if n < 1_000 else random.randrange(known, len(data))
        changed = bytearray(data)
        if n % 3 == 0:
            changed[at] ^= 1 << random.randrange(8)
        elif n % 3 == 1:
            del changed[at]
        else:
            changed.insert(at, changed[at - 1] ^ 1)
        try:
            opened = open_checkpoint(bytes(changed), log.verifier, [witness.verifier])
        except LedgerError:
            refused += 1
        else:
            assert opened.checkpoint == Checkpoint("log", 77, ROOT)
            # A line whose name or id was changed is another key's, and then this witness has not signed.
            assert n >= 1_000 or not opened.cosigned
    assert refused > 800


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_checkpoint_of_either_suite_goes_round(suite: Suite) -> None:
    log = SigningKey.generate("hengliu.example/ledger/weighings-0", suite.log)
    witness = SigningKey.generate("hengliu.example/witness", suite.cosigner)
    checkpoint = Checkpoint(log.name, 5, suite.hash.leaf(b""), ("one more line",))
    note = sign_checkpoint(checkpoint, log)
    signed = note.signed(witness.sign(note.text, 1_700_000_000)).to_bytes()
    opened = open_checkpoint(signed, log.verifier, [witness.verifier])
    assert opened.checkpoint == checkpoint
    assert [(c.witness, c.time) for c in opened.cosigned] == [(witness.verifier, 1_700_000_000)]
    assert open_checkpoint(signed, log.verifier).cosigned == ()


def test_a_cosignature_alone_does_not_make_a_checkpoint() -> None:
    log, witness = SigningKey.generate("log", ED25519), SigningKey.generate("w", ED25519_COSIGNER)
    text = Checkpoint("log", 5, ROOT).to_bytes()
    with pytest.raises(LedgerError, match="No known key"):
        open_checkpoint(Note(text, (witness.sign(text, 5),)).to_bytes(), log.verifier, [witness.verifier])


def test_the_origin_is_the_logs() -> None:
    log = SigningKey.generate("log", ED25519)
    with pytest.raises(LedgerError, match="of other, not of log"):
        sign_checkpoint(Checkpoint("other", 5, ROOT), log)
    text = Checkpoint("other", 5, ROOT).to_bytes()
    data = Note(text, (log.sign(text),)).to_bytes()
    with pytest.raises(LedgerError, match="of other, not of log"):
        open_checkpoint(data, log.verifier)
    assert open_checkpoint(data, log.verifier, origin="other").checkpoint.size == 5


B64 = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "three lines"),
        ("log\n5\n", "three lines"),
        (f"log\n5\n{B64}", "three lines"),
        (f"\n5\n{B64}\n", "three lines"),
        (f"log\n5\n{B64}\n\n", "three lines"),
        (f"log\n5\n{B64}\n\nmore\n", "three lines"),
        (f"log\n05\n{B64}\n", "decimal"),
        (f"log\n-5\n{B64}\n", "decimal"),
        (f"log\n+5\n{B64}\n", "decimal"),
        (f"log\n 5\n{B64}\n", "decimal"),
        (f"log\n0x5\n{B64}\n", "decimal"),
        (f"log\n5.0\n{B64}\n", "decimal"),
        (f"log\n٥\n{B64}\n", "decimal"),
        (f"log\n{'9' * 5000}\n{B64}\n", "decimal"),
        (f"log\n9223372036854775808\n{B64}\n", "2\\^63"),
        (f"log\n5\n{B64[:-1]}\n", "root"),
        (f"log\n5\n{B64[:-4]}\n", "root"),
        (f"log\n5\n{B64} \n", "root"),
        (f"log\n5\n{B64.replace('=', 'A')}AAA\n", "root"),
    ],
)
def test_what_is_nearly_a_checkpoint_is_refused(text: str, why: str) -> None:
    with pytest.raises(LedgerError, match=why):
        Checkpoint.parse(text.encode())
    log = SigningKey.generate("log", ED25519)
    if text.endswith("\n") and "\n\n" not in text:
        with pytest.raises(LedgerError, match=why):
            open_checkpoint(Note(text.encode(), (log.sign(text.encode()),)).to_bytes(), log.verifier)


def test_a_checkpoint_that_could_not_be_read_is_not_written() -> None:
    for origin, extensions in (("", ()), ("a\nb", ()), ("a", ("",)), ("a", ("b\nc",))):
        with pytest.raises(LedgerError, match="three lines"):
            Checkpoint(origin, 5, ROOT, extensions).to_bytes()


@settings(deadline=None, max_examples=60)
@given(
    st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.integers(0, (1 << 63) - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1, max_size=20), max_size=3),
)
def test_a_checkpoint_is_read_back(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert Checkpoint.parse(checkpoint.to_bytes()) == checkpoint


@pytest.mark.parametrize(
    ("kind", "time"), [(ED25519, 1), (ED25519_COSIGNER, 0), (ED25519_COSIGNER, -1), (ED25519_COSIGNER, 1 << 63)]
)
def test_a_time_that_does_not_belong_there_is_not_signed(kind: KeyKind, time: int) -> None:
    key = SigningKey.generate("w", kind)
    with pytest.raises(LedgerError, match="out of range"):
        key.sign(b"text\n", time)
