"""Rights and tokens of the demonstration."""

from pathlib import Path
from typing import Any

from hengliu.rights import ALL, TokenStore

__all__ = ["DEMO_RIGHTS", "write_token"]

DEMO_RIGHTS: dict[str, Any] = {
    "roles": ["device", "registrar", "reader", "admin"],
    "sources": ["urn:dev:org:32473-*"],
    "enterprises": ALL,
    "divisions": ALL,
}
"""The devices of the simulated city and of the loaders, and their registration."""


def write_token(store: TokenStore, name: str, path: Path, **rights: Any) -> str:
    """Issue a token into a file that only its owner may read; an existing file that still authenticates is kept."""
    if path.exists():
        text = path.read_text(encoding="ascii").strip()
        if store.authenticate(text) is not None:
            return text
    token = store.issue(name, **rights)
    path.touch(mode=0o600)
    path.write_text(token + "\n", encoding="ascii")
    return token
