"""Principals and the token store."""

import json
from pathlib import Path

import pytest

from hengliu.ports.clock import ManualClock
from hengliu.rights import ALL, PLATFORM, Principal, Role, Scope, TokenStore, TokenStoreError


def store(path: Path, now_ms: int = 0) -> tuple[TokenStore, ManualClock]:
    clock = ManualClock(now_ms)
    return TokenStore(path / "tokens.json", clock), clock


def test_a_token_is_its_principal_and_the_file_does_not_hold_it(tmp_path: Path) -> None:
    tokens, _ = store(tmp_path)
    token = tokens.issue("gate", ["device"], sources=["urn:dev:org:32473-wb-*"], enterprises=["m01"], divisions=["150303"])
    assert tokens.authenticate(token) == Principal(
        "gate", frozenset({Role.DEVICE}), ("urn:dev:org:32473-wb-*",), frozenset({"m01"}), frozenset({"150303"})
    )
    file = tmp_path / "tokens.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert token not in file.read_text(encoding="utf-8")
    assert len(token) >= 43  # 256 bits in base64
    assert tokens.issue("gate", ["device"]) != token
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.json"]


@pytest.mark.parametrize("wrong", ["", "hl_", "x", "\ud800", "é" * 5000])
def test_another_token_is_nobody(tmp_path: Path, wrong: str) -> None:
    tokens, _ = store(tmp_path)
    assert tokens.authenticate(wrong) is None
    token = tokens.issue("gate", [Role.DEVICE])
    assert tokens.authenticate(wrong) is None
    assert tokens.authenticate(token + " ") is None
    assert tokens.authenticate(token[:-1]) is None


def test_a_token_expires(tmp_path: Path) -> None:
    tokens, clock = store(tmp_path, 1_000)
    token = tokens.issue("gate", ["device"], valid_s=10)
    clock.advance(9_999)
    assert tokens.authenticate(token) is not None
    clock.advance(1)
    assert tokens.authenticate(token) is None


def test_another_process_s_changes_are_seen(tmp_path: Path) -> None:
    (one, _), (other, _) = store(tmp_path), store(tmp_path)
    first = one.issue("gate", ["device"])
    assert other.authenticate(first) is not None
    second = other.issue("city", ["reader"], enterprises=ALL, divisions=ALL)
    assert [one.authenticate(t) is not None for t in (first, second)] == [True, True]
    assert one.revoke("gate") == 1
    assert [other.authenticate(t) is not None for t in (first, second)] == [False, True]
    assert one.revoke("gate") == 0
    (tmp_path / "tokens.json").unlink()
    assert other.authenticate(second) is None


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    tokens, _ = store(tmp_path)
    token = tokens.issue("gate", ["device"])
    file = tmp_path / "tokens.json"
    file.chmod(0o640)
    with pytest.raises(TokenStoreError, match="chmod 600"):
        store(tmp_path)[0].authenticate(token)


GOOD = {"digest": "0" * 64, "name": "x", "roles": [], "sources": [], "enterprises": [], "divisions": []}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"tokens": [{}]}']
    + [json.dumps({"tokens": [GOOD | bad]}) for bad in ({"digest": "00"}, {"roles": ["king"]}, {"enterprises": "al"})],
)
def test_a_damaged_file_is_refused_and_never_read_as_rights(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(TokenStoreError):
        store(tmp_path)[0].authenticate("x")


def test_an_unknown_role_is_not_issued(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="king"):
        store(tmp_path)[0].issue("x", ["king"])
    assert list(tmp_path.iterdir()) == []


def test_everything_survives_the_file(tmp_path: Path) -> None:
    tokens, _ = store(tmp_path)
    token = tokens.issue("甲", ["reader", "admin"], enterprises=ALL, divisions=["150300", "150302"], valid_s=5)
    again = store(tmp_path)[0].authenticate(token)
    assert again == Principal("甲", frozenset({Role.READER, Role.ADMIN}), (), ALL, frozenset({"150300", "150302"}))
    stored = json.loads((tmp_path / "tokens.json").read_text(encoding="utf-8"))
    assert stored["tokens"][0]["expires_ms"] == 5_000


def test_sources_are_exact_or_prefixes() -> None:
    one = Principal("x", frozenset(), ("urn:a", "urn:b-*"))
    assert [one.may_send_for(s) for s in ("urn:a", "urn:a1", "urn:b-", "urn:b-7", "urn:b", "")] == [
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    assert not Principal("x", frozenset()).may_send_for("")
    assert not Principal("x", frozenset()).may_send_for("urn:a")
    assert Principal("x", frozenset(), ("*",)).may_send_for("anything")


def test_reading_needs_the_role_and_follows_the_sets() -> None:
    reader = frozenset({Role.READER})
    assert Principal("x", frozenset({Role.ADMIN}), (), ALL, ALL).scope() == Scope()
    assert Principal("x", reader).scope() == Scope()
    assert Principal("x", reader, (), frozenset({"m01"})).scope() == Scope(False, frozenset({"m01"}), frozenset())
    assert Principal("x", reader, (), ALL).scope() == Scope(everything=True)
    assert PLATFORM.scope() == Scope(everything=True)
    assert PLATFORM.may_send_for("/aggregates/registry")
    assert not PLATFORM.has(Role.DEVICE)
