"""Keys that sign notes: verifier keys in their text form, signing keys, and the two suites.

A signature type is a ``KeyKind``. Ed25519 for logs (type 0x01) and for witnesses (0x04, timestamped) are those of C2SP
signed-note and tlog-cosignature, byte for byte. SM2 (GB/T 32918.2-2016 on the curve of GB/T 32918.5-2017, SM3, the default user
id of GM/T 0009-2012 section 10) has no assigned type: it takes 0xff and a longer identifier, as signed-note asks, its public
key is the 65 bytes ``04 || x || y``, its signature the 64 bytes ``r || s``, and its key ids come from SM3.

SM2 runs in pure Python (``gmalg``): tens of milliseconds a signature, not in constant time. A log signs a checkpoint at most
once a second; where the key has to stay in a cryptographic module, anything that has ``Signer``'s two members takes its place.
"""

import base64
import binascii
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from gmalg import SM2

from hengliu.ledger.faults import LedgerError
from hengliu.ledger.hashes import SHA256, SM3, Hash

__all__ = [
    "COSIGNATURE_HEADER", "ED25519", "ED25519_COSIGNER", "KINDS", "MAX_TIME", "SHA256_ED25519", "SM2_COSIGNER",
    "SM2_SM3", "SM3_SM2", "SUITES", "KeyKind", "Signature", "Signer", "SigningKey", "Suite", "VerifierKey",
    "checked_name", "cosigned_message", "fixed_length", "strict_base64",
]  # fmt: skip

COSIGNATURE_HEADER = b"cosignature/v1\n"
"""First line of what a witness signs: it keeps cosignatures apart from everything else."""
MAX_TIME = (1 << 63) - 1
"""Greatest time of a cosignature, in seconds since the epoch."""
_ID_BYTES = 4
_SECRET_BYTES = 32
_PRIVATE = "PRIVATE+KEY+"

SM2_USER_ID = b"1234567812345678"
_SM2_P = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_00000000_FFFFFFFF_FFFFFFFF
_SM2_B = 0x28E9FA9E_9D9F5E34_4D5A9E4B_CF6509A7_F39789F5_15AB8F92_DDBCBD41_4D940E93
_SM2_N = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_7203DF6B_21C6052B_53BBF409_39D54123


def strict_base64(text: str) -> bytes | None:
    """Bytes of RFC 4648 section 4 Base64, or None for what an encoder never writes (spaces, loose bits, missing padding)."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def checked_name(name: str) -> str:
    """The key name itself: non-empty, without Unicode spaces, plus or control characters. Raises LedgerError."""
    if not name or "+" in name or any(c.isspace() or c < " " for c in name) or not _encodes(name):
        raise LedgerError("key-name")
    return name


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _sign_ed25519(secret: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).sign(message)


def _public_ed25519(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def _check_sm2(public: bytes, message: bytes, signature: bytes) -> bool:
    return bool(SM2(uid=SM2_USER_ID, pk=public).verify(message, signature[:32], signature[32:]))


def fixed_length(r: bytes, s: bytes) -> bytes:
    """``r || s`` of 32 bytes each: gmalg leaves leading zero bytes out, in one signature of 128."""
    return r.rjust(32, b"\0") + s.rjust(32, b"\0")


def _sign_sm2(secret: bytes, message: bytes) -> bytes:
    return fixed_length(*SM2(secret, SM2_USER_ID).sign(message))


def _public_sm2(secret: bytes) -> bytes:
    if not 1 <= int.from_bytes(secret, "big") <= _SM2_N - 2:
        raise LedgerError("key-range")
    return bytes(SM2().generate_pk(secret))


def _any_point(public: bytes) -> None:
    """RFC 8032 decodes a point when it verifies; a key that is none verifies nothing."""


def _on_curve(public: bytes) -> None:
    # gmalg takes any coordinates for a point. The curve's order is prime, so a point on it is a public key.
    x, y = int.from_bytes(public[1:33], "big"), int.from_bytes(public[33:], "big")
    if public[0] != 4 or max(x, y) >= _SM2_P or (y * y - (x * x * x - 3 * x + _SM2_B)) % _SM2_P:
        raise LedgerError("key-point")


@dataclass(frozen=True, slots=True)
class KeyKind:
    """A signature type: how its keys are told apart, and what they do."""

    name: str
    prefix: bytes
    """Signature type identifier of signed-note, in front of the public key."""
    public_bytes: int
    hash: Hash
    """Makes the key ids."""
    timestamped: bool
    """A witness: what is signed is ``cosignature/v1``, the time and the text, and the signature begins with the time."""
    check: Callable[[bytes, bytes, bytes], bool] = field(repr=False)
    check_public: Callable[[bytes], None] = field(repr=False)
    sign: Callable[[bytes, bytes], bytes] = field(repr=False)
    public: Callable[[bytes], bytes] = field(repr=False)

    @property
    def signature_bytes(self) -> int:
        return 64 + (8 if self.timestamped else 0)


ED25519 = KeyKind("Ed25519", b"\x01", 32, SHA256, False, _check_ed25519, _any_point, _sign_ed25519, _public_ed25519)
ED25519_COSIGNER = KeyKind(
    "Ed25519 cosignature/v1", b"\x04", 32, SHA256, True, _check_ed25519, _any_point, _sign_ed25519, _public_ed25519
)
SM2_SM3 = KeyKind("SM2", b"\xffhengliu-sm2-sm3-v1", 65, SM3, False, _check_sm2, _on_curve, _sign_sm2, _public_sm2)
SM2_COSIGNER = KeyKind(
    "SM2 cosignature/v1", b"\xffhengliu-sm2-sm3-cosignature-v1", 65, SM3, True, _check_sm2, _on_curve, _sign_sm2, _public_sm2
)
KINDS = (ED25519, ED25519_COSIGNER, SM2_SM3, SM2_COSIGNER)


class Signature(NamedTuple):
    """One signature line: the key's name, its id, and what follows the id."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """With its newline."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


def _kind(data: bytes) -> KeyKind:
    for kind in KINDS:
        if data.startswith(kind.prefix):
            return kind
    raise LedgerError("key-kind")


def _parts(text: str) -> tuple[str, bytes, KeyKind, bytes]:
    """Name, id, kind and key material of ``name+id+base64(type || material)``."""
    name, _, rest = text.partition("+")
    number, _, material = rest.partition("+")
    data = strict_base64(material)
    if not data or len(number) != 2 * _ID_BYTES or not set(number) <= set("0123456789abcdef"):
        raise LedgerError("key-text")
    kind = _kind(data)
    return checked_name(name), bytes.fromhex(number), kind, data[len(kind.prefix) :]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: who is trusted for what. Text form: ``name+id+base64(type || public key)``."""

    name: str
    kind: KeyKind
    public: bytes

    def __post_init__(self) -> None:
        checked_name(self.name)
        if len(self.public) != self.kind.public_bytes:
            raise LedgerError("key-length", length=len(self.public), expected=self.kind.public_bytes)
        self.kind.check_public(self.public)

    @property
    def key_id(self) -> bytes:
        """First four bytes of the hash of name, newline, type and public key."""
        return self.kind.hash.digest(self.name.encode() + b"\n" + self.kind.prefix + self.public)[:_ID_BYTES]

    @property
    def text(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self.kind.prefix + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Raises LedgerError for anything but the one text that ``text`` gives."""
        name, number, kind, public = _parts(text)
        key = cls(name, kind, public)
        if key.key_id != number:
            raise LedgerError("key-id")
        return key

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether this is its signature, time included where it has one, of a note's text."""
        if len(signature) != self.kind.signature_bytes:
            return False
        if not self.kind.timestamped:
            return self.kind.check(self.public, text, signature)
        time = int.from_bytes(signature[:8], "big")
        return time <= MAX_TIME and self.kind.check(self.public, cosigned_message(time, text), signature[8:])


def cosigned_message(time: int, text: bytes) -> bytes:
    """What a witness signs of a note's text, at a time in seconds since the epoch."""
    return COSIGNATURE_HEADER + b"time %d\n" % time + text


class Signer(Protocol):
    """Whoever can sign: a key in a file, or one that stays in a cryptographic module."""

    @property
    def verifier(self) -> VerifierKey: ...

    def sign(self, text: bytes, time: int = 0) -> Signature:
        """Sign a note's text. ``time`` in seconds since the epoch is for witnesses alone."""
        ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key in memory. Text form, as of Go's ``note``: ``PRIVATE+KEY+name+id+base64(type || 32 secret bytes)``."""

    name: str
    kind: KeyKind
    secret: bytes = field(repr=False)
    verifier: VerifierKey = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) != _SECRET_BYTES:
            raise LedgerError("key-length", length=len(self.secret), expected=_SECRET_BYTES)
        object.__setattr__(self, "verifier", VerifierKey(self.name, self.kind, self.kind.public(self.secret)))

    @classmethod
    def generate(cls, name: str, kind: KeyKind) -> "SigningKey":
        """A new key from the system's random source."""
        # Above zero and below 2^255, so it is within SM2's range too; Ed25519 hashes its secret and does not mind.
        return cls(name, kind, (secrets.randbelow((1 << 255) - 1) + 1).to_bytes(_SECRET_BYTES, "big"))

    @property
    def text(self) -> str:
        """The secret itself."""
        material = base64.b64encode(self.kind.prefix + self.secret).decode()
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        if not text.startswith(_PRIVATE):
            raise LedgerError("key-text")
        name, number, kind, secret = _parts(text[len(_PRIVATE) :])
        key = cls(name, kind, secret)
        if key.verifier.key_id != number:
            raise LedgerError("key-id")
        return key

    def sign(self, text: bytes, time: int = 0) -> Signature:
        """Raises LedgerError for a witness's time that is not positive, or any other key's that is not zero."""
        if not (1 <= time <= MAX_TIME if self.kind.timestamped else time == 0):
            raise LedgerError("time-range", time=time)
        if self.kind.timestamped:
            value = time.to_bytes(8, "big") + self.kind.sign(self.secret, cosigned_message(time, text))
        else:
            value = self.kind.sign(self.secret, text)
        return Signature(self.name, self.verifier.key_id, value)


@dataclass(frozen=True, slots=True)
class Suite:
    """A hash for tree and leaves, a signature of the log, a signature of witnesses."""

    name: str
    hash: Hash
    log: KeyKind
    cosigner: KeyKind


SHA256_ED25519 = Suite("sha256-ed25519", SHA256, ED25519, ED25519_COSIGNER)
SM3_SM2 = Suite("sm3-sm2", SM3, SM2_SM3, SM2_COSIGNER)
SUITES = {suite.name: suite for suite in (SHA256_ED25519, SM3_SM2)}
