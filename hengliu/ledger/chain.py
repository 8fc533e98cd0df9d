"""Hash chains of devices: each event names the SHA-256 of the event before it, so a missing or second one shows.

A device that is registered as chained sends the extension attribute ``prev``: 64 lower-case hexadecimal digits, SHA-256 over
the bytes of its previous event exactly as sent. Its first event has no ``prev``, or 64 zeros. The chain covers the sender's
bytes, so any change of a stored value breaks it at the next event.

What breaks the chain is still accepted, and the break is recorded beside it: a device on a bad network that drops one event
for good must not lose all that follow. The chain goes on from the event that broke it.
"""

from collections.abc import Mapping
from enum import Enum
from hashlib import sha256

__all__ = ["CHAIN_KEY", "GENESIS", "Chains", "Link"]

CHAIN_KEY = b"h\0"
"""Prefix of the state entries: then the source."""
GENESIS = "0" * 64
"""``prev`` of a first event, where a device sends one."""
_DIGEST = 32
_SHORT = 8
_REMEMBERED = 32
"""Earlier events by which a fork is told from a gap; a fork from further back shows as a gap."""


class Link(Enum):
    """How an event joins the chain of its source. The values are the codes of ``reference.problems``."""

    FIRST = "chain-first"
    CONTINUES = "chain-continues"
    GAP = "chain-gap"
    """It names an event that never came."""
    FORK = "chain-fork"
    """It names an earlier event than the last, or none although there is one: two histories."""
    MISSING = "chain-missing"
    """It names nothing."""

    @property
    def broken(self) -> bool:
        return self in (Link.GAP, Link.FORK, Link.MISSING)


class Chains:
    """The ends of all chains of one intake task. Changes go into the same commit as the events."""

    def __init__(self) -> None:
        self._ends: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take the state of the task's last commit; entries of others are left alone."""
        for key, value in entries.items():
            if key[:2] == CHAIN_KEY:
                self._ends[key[2:].decode()] = value

    def add(self, source: str, prev: object, value: bytes) -> Link:
        """Join an accepted event, in the order of acceptance; duplicates are not passed here.

        Args:
            source: CloudEvents source.
            prev: the extension attribute, or None.
            value: the event's bytes as sent.
        """
        end = self._ends.get(source)
        link = self._link(end, prev)
        digest = sha256(value).digest()
        earlier = b"" if end is None else end[:_SHORT] + end[_DIGEST:]
        self._ends[source] = digest + earlier[: _SHORT * _REMEMBERED]
        self._changed[source] = None
        return link

    @staticmethod
    def _link(end: bytes | None, prev: object) -> Link:
        if end is None:
            return Link.FIRST if prev is None or prev == GENESIS else Link.GAP
        if prev is None:
            return Link.MISSING
        if prev == end[:_DIGEST].hex():
            return Link.CONTINUES
        if prev == GENESIS:
            return Link.FORK
        try:
            named = bytes.fromhex(prev)[:_SHORT] if isinstance(prev, str) else b""
        except ValueError:
            named = b""
        earlier = end[_DIGEST:]
        known = len(named) == _SHORT and any(named == earlier[n : n + _SHORT] for n in range(0, len(earlier), _SHORT))
        return Link.FORK if known else Link.GAP

    def take_changes(self) -> dict[bytes, bytes]:
        """State entries that changed since the last call."""
        changes = {CHAIN_KEY + source.encode(): self._ends[source] for source in self._changed}
        self._changed.clear()
        return changes
