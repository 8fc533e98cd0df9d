"""The two hash functions of the ledger, and the leaf and node hash of RFC 6962 section 2.1 over either.

SHA-256 (FIPS 180-4) is what existing clients and witnesses know; SM3 (GB/T 32905-2016) has the same length, so every structure
that is built on hashes is the same in both suites.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives import hashes

__all__ = ["HASH_BYTES", "SHA256", "SM3", "Hash"]

HASH_BYTES = 32
"""Length of a hash in either suite."""


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash function under its name, and what RFC 6962 makes of it."""

    name: str
    digest: Callable[[bytes], bytes] = field(repr=False)
    command: str
    """What a person types to hash standard input; its first word on the line it prints is the hash in hexadecimal."""

    @property
    def empty(self) -> bytes:
        """Root of the tree without leaves: the hash of nothing."""
        return self.digest(b"")

    def leaf(self, entry: bytes) -> bytes:
        return self.digest(b"\x00" + entry)

    def node(self, left: bytes, right: bytes) -> bytes:
        return self.digest(b"\x01" + left + right)

    def fold(self, hashes: bytes) -> bytes:
        """Root over 2^k joined hashes, level by level."""
        digest = self.digest
        while len(hashes) > HASH_BYTES:
            hashes = b"".join([digest(b"\x01" + hashes[n : n + 64]) for n in range(0, len(hashes), 64)])
        return hashes


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _copied(start: "hashlib._Hash", data: bytes) -> bytes:
    # Copying a prepared state takes less than half the time of looking SM3 up by its name for each hash.
    state = start.copy()
    state.update(data)
    return state.digest()


def _sm3_of_cryptography(data: bytes) -> bytes:
    state = hashes.Hash(hashes.SM3())
    state.update(data)
    return state.finalize()


def sm3_digest(available: bool) -> Callable[[bytes], bytes]:
    """SM3 of the interpreter's OpenSSL where it has it, else the slower one of ``cryptography``, which brings its own."""
    return partial(_copied, hashlib.new("sm3")) if available else _sm3_of_cryptography


SHA256 = Hash("SHA-256", _sha256, "sha256sum")
SM3 = Hash("SM3", sm3_digest("sm3" in hashlib.algorithms_available), "openssl dgst -sm3 -r")
