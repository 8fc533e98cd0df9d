"""Both suites against published examples, and their keys as text."""

import hashlib

import pytest
from gmalg import SM2
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import SHA256, SM3, sm3_digest
from hengliu.ledger.keys import (
    ED25519,
    ED25519_COSIGNER,
    KINDS,
    SM2_SM3,
    SUITES,
    SigningKey,
    Suite,
    VerifierKey,
    fixed_length,
)

# GB/T 32918.2-2016 on the curve of GB/T 32918.5-2017 (the same example as GM/T 0003.5-2012, annex A).
SM2_SECRET = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8"
SM2_PUBLIC = (
    "0409F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
SM2_NONCE = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
SM2_SIGNATURE = (
    "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
    "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
)


@pytest.mark.parametrize("available", ["sm3" in hashlib.algorithms_available, False])
def test_sm3_gives_the_examples_of_its_standard(available: bool) -> None:
    digest = sm3_digest(available)
    # GB/T 32905-2016 annex A, examples 1 and 2
    assert digest(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert digest(b"abcd" * 16).hex() == "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"
    assert digest(b"").hex() == "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"


def test_sm2_gives_the_example_of_its_standard() -> None:
    secret, public, signature = map(bytes.fromhex, (SM2_SECRET, SM2_PUBLIC, SM2_SIGNATURE))
    made = SM2(secret, b"1234567812345678", rnd_fn=lambda bits: SM2_NONCE).sign(b"message digest")
    assert fixed_length(*made) == signature
    assert SM2_SM3.public(secret) == public
    assert SM2_SM3.check(public, b"message digest", signature)
    assert not SM2_SM3.check(public, b"message digests", signature)


def test_sm2_numbers_with_leading_zeros_keep_their_length() -> None:
    assert fixed_length(b"\x01", b"\x02\x03") == bytes(31) + b"\x01" + bytes(30) + b"\x02\x03"


def test_ed25519_gives_the_examples_of_rfc_8032() -> None:
    # RFC 8032 section 7.1, tests 1 and 2
    for secret, public, message, signature in (
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ):
        assert ED25519.public(bytes.fromhex(secret)).hex() == public
        assert ED25519.sign(bytes.fromhex(secret), bytes.fromhex(message)).hex() == signature
        assert ED25519.check(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_suite_signs_and_verifies(suite: Suite) -> None:
    for kind, time in ((suite.log, 0), (suite.cosigner, 1_700_000_000)):
        key = SigningKey.generate("example.com/log", kind)
        signature = key.sign(b"text\n", time)
        assert SigningKey.parse(key.text) == key
        assert VerifierKey.parse(key.verifier.text) == key.verifier
        assert key.verifier.verifies(b"text\n", signature.value)
        assert not key.verifier.verifies(b"texts\n", signature.value)
        assert not key.verifier.verifies(b"text\n", signature.value + b"\0")
        assert not key.verifier.verifies(b"text\n", b"\xff" + signature.value[1:])
        assert key.secret.hex() not in repr(key)


def test_ids_of_a_key_differ_by_its_use() -> None:
    key = SigningKey.generate("example.com/log", ED25519)
    assert VerifierKey("example.com/log", ED25519_COSIGNER, key.verifier.public).key_id != key.verifier.key_id


# golang.org/x/mod/sumdb/note, note_test.go and example_test.go
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
SUM_GOLANG_ORG = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
"""C2SP signed-note, Verifier keys, Example."""


def test_published_keys_are_read_and_written() -> None:
    for text in (PETER, SUM_GOLANG_ORG, FOO):
        key = VerifierKey.parse(text)
        assert (key.text, key.kind) == (text, ED25519)
    signing = SigningKey.parse(PETER_SECRET)
    assert (signing.text, signing.verifier.text) == (PETER_SECRET, PETER)


def test_no_part_and_no_changed_byte_of_a_key_is_a_key() -> None:
    """The manglings of Go's TestNewVerifier and TestNewSigner."""
    for text, parse in ((PETER, VerifierKey.parse), (PETER_SECRET, SigningKey.parse)):
        parts = {text[i:j] for i in range(len(text)) for j in range(i, len(text) + 1)} - {text}
        changed = {text[:i] + chr(ord(text[i]) + 1) + text[i + 1 :] for i in range(len(text))}
        for bad in parts | changed:
            with pytest.raises(LedgerError):
                parse(bad)


@given(st.integers(0, 64 * 8 - 1))
@settings(deadline=None, max_examples=60)
def test_a_changed_sm2_public_key_is_no_point(bit: int) -> None:
    public = bytearray(bytes.fromhex(SM2_PUBLIC))
    public[1 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(LedgerError, match="no point"):
        VerifierKey("name", SM2_SM3, bytes(public))


def test_signature_types_are_told_apart() -> None:
    assert [kind.prefix[:1] for kind in KINDS] == [b"\x01", b"\x04", b"\xff", b"\xff"]
    assert not any(a.prefix.startswith(b.prefix) for a in KINDS for b in KINDS if a is not b)
    assert (SHA256.name, SM3.name) == ("SHA-256", "SM3")
