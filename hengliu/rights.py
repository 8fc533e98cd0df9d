"""Who a caller is and what they may: the principal, and the store of bearer tokens.

A token is 256 random bits, so one fast SHA-256 is what its digest needs: a slow hash protects guessable secrets, and nobody
guesses these. Local accounts with passwords are another matter and not here.
"""

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any

from hengliu.ports.clock import Clock, SystemClock

__all__ = ["ALL", "PLATFORM", "Principal", "Role", "Scope", "TokenStore", "TokenStoreError"]


class Role(StrEnum):
    """What a principal may do. One may have several; none includes another."""

    DEVICE = "device"
    """Send device events for its sources."""
    REGISTRAR = "registrar"
    """Send registry events and rules."""
    READER = "reader"
    """Read within its scope."""
    ADMIN = "admin"
    """Look after tokens, quarantine and the platform itself."""


class _All:
    """Everything, as opposed to a set that happens to be large."""

    def __repr__(self) -> str:
        return "ALL"


ALL = _All()


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be read: rows whose enterprise **or** division is named; both are sets, or everything is open.

    An empty scope sees nothing.
    """

    everything: bool = False
    enterprises: frozenset[str] = frozenset()
    divisions: frozenset[str] = frozenset()
    """Division codes of GB/T 2260; a code that ends in ``00`` covers what lies in it."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, made from a token and taken by every handler from its first line.

    Attributes:
        name: who; goes into record headers and logs, never a secret.
        roles: what they may do.
        sources: CloudEvents sources they may send for: exact, or a prefix with ``*`` at the end.
        enterprises: enterprises they may read, or ``ALL``.
        divisions: divisions they may read, or ``ALL``.
    """

    name: str
    roles: frozenset[Role]
    sources: tuple[str, ...] = ()
    enterprises: frozenset[str] | _All = frozenset()
    divisions: frozenset[str] | _All = frozenset()
    _exact: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    _prefixes: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exact", frozenset(s for s in self.sources if not s.endswith("*")))
        object.__setattr__(self, "_prefixes", tuple(s[:-1] for s in self.sources if s.endswith("*")))

    def may_send_for(self, source: str) -> bool:
        """Whether the sources cover this one. Says nothing about roles."""
        return source in self._exact or source.startswith(self._prefixes)

    def has(self, role: Role) -> bool:
        return role in self.roles

    def scope(self) -> Scope:
        """What they may read; nothing without the role ``reader``."""
        if Role.READER not in self.roles:
            return Scope()
        if isinstance(self.enterprises, _All) or isinstance(self.divisions, _All):
            return Scope(everything=True)
        return Scope(False, self.enterprises, self.divisions)


PLATFORM = Principal(
    "platform", frozenset({Role.REGISTRAR, Role.READER, Role.ADMIN}), ("/aggregates/*",), enterprises=ALL, divisions=ALL
)
"""The platform itself: its outbox and its own page. Not a device, so no figure can come from here."""


class TokenStoreError(Exception):
    """The file cannot be used: not ours alone, or not readable as a token store."""


@dataclass(frozen=True, slots=True)
class _Entry:
    digest: bytes
    principal: Principal
    expires_ms: int | None


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


class TokenStore:
    """Digests of tokens in one JSON file, readable by its owner alone.

    The file is replaced as a whole and read again when it changes, so another process may issue or revoke. A file that
    others may read or write is refused: whoever writes it makes principals.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._stamp: tuple[int, int, int] | None = None
        self._entries: dict[bytes, _Entry] = {}

    def issue(
        self,
        name: str,
        roles: Iterable[Role | str],
        *,
        sources: Iterable[str] = (),
        enterprises: Iterable[str] | _All = (),
        divisions: Iterable[str] | _All = (),
        valid_s: int | None = None,
    ) -> str:
        """Make a token and return its text, which is nowhere kept.

        Args:
            name: the principal's name.
            roles: roles; unknown names raise ValueError.
            sources: exact sources or ``prefix*``.
            enterprises: enterprises that may be read, or ``ALL``.
            divisions: divisions that may be read, or ``ALL``.
            valid_s: seconds until it expires; None: until revoked.
        """
        self._reload()
        token = "hl_" + secrets.token_urlsafe(32)
        principal = Principal(
            name,
            frozenset(Role(role) for role in roles),
            tuple(sources),
            enterprises if isinstance(enterprises, _All) else frozenset(enterprises),
            divisions if isinstance(divisions, _All) else frozenset(divisions),
        )
        expires = None if valid_s is None else self._clock.now_ms() + valid_s * 1000
        digest = _digest(token)
        self._write({**self._entries, digest: _Entry(digest, principal, expires)})
        return token

    def revoke(self, name: str) -> int:
        """Forget every token of a name; returns how many there were."""
        self._reload()
        kept = {digest: entry for digest, entry in self._entries.items() if entry.principal.name != name}
        gone = len(self._entries) - len(kept)
        if gone:
            self._write(kept)
        return gone

    def authenticate(self, token: str) -> Principal | None:
        """The principal of a token, or None if it is unknown or expired.

        The digest is looked up, not the token: what a timing difference could tell is a prefix of a digest, which leads
        nobody to 256 random bits. The last comparison takes constant time all the same.
        """
        self._reload()
        digest = _digest(token)
        entry = self._entries.get(digest)
        if entry is None or not compare_digest(entry.digest, digest):
            return None
        if entry.expires_ms is not None and self._clock.now_ms() >= entry.expires_ms:
            return None
        return entry.principal

    def _reload(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._entries = None, {}
            return
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return
        if status.st_mode & 0o077:
            raise TokenStoreError(f"{self._path} is open to others (mode {status.st_mode & 0o777:o}); chmod 600 it")
        try:
            stored = json.loads(self._path.read_bytes())
            entries = [_decode(item) for item in stored["tokens"]]
        except (ValueError, KeyError, TypeError) as error:
            raise TokenStoreError(f"{self._path} is not a token store: {error}") from error
        self._entries = {entry.digest: entry for entry in entries}
        self._stamp = stamp

    def _write(self, entries: dict[bytes, _Entry]) -> None:
        body = json.dumps(
            {"version": 1, "tokens": [_encode(entry) for entry in entries.values()]}, ensure_ascii=False, indent=1
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.new")
        # O_EXCL and the mode in one call: the file is never, not for a moment, readable by others.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._entries = entries
        self._stamp = None


def _encode(entry: _Entry) -> dict[str, Any]:
    principal = entry.principal
    return {
        "digest": entry.digest.hex(),
        "name": principal.name,
        "roles": sorted(principal.roles),
        "sources": list(principal.sources),
        "enterprises": "all" if isinstance(principal.enterprises, _All) else sorted(principal.enterprises),
        "divisions": "all" if isinstance(principal.divisions, _All) else sorted(principal.divisions),
        "expires_ms": entry.expires_ms,
    }


def _decode(item: dict[str, Any]) -> _Entry:
    def names(value: object) -> frozenset[str] | _All:
        if value == "all":
            return ALL
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ValueError('a scope is a list of names or "all"')
        return frozenset(value)

    principal = Principal(
        str(item["name"]),
        frozenset(Role(role) for role in item["roles"]),
        tuple(str(source) for source in item["sources"]),
        names(item["enterprises"]),
        names(item["divisions"]),
    )
    digest = bytes.fromhex(item["digest"])
    if len(digest) != sha256().digest_size:
        raise ValueError("a digest has 64 hexadecimal digits")
    expires = item.get("expires_ms")
    return _Entry(digest, principal, None if expires is None else int(expires))
