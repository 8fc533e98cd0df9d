"""``hengliu token``: what is issued is what was asked for, and revoking takes it away."""

import stat
from pathlib import Path

from hengliu.rights import ALL, Role, TokenStore
from tests.cli.test_faults import hengliu, told


def test_a_token_has_what_was_asked_for_and_is_shown_once(tmp_path: Path) -> None:
    made = hengliu(
        tmp_path, "token", "issue", "bureau", "--role", "reader", "--role", "device", "--source", "urn:dev:org:32473-*",
        "--enterprise", "all", "--division", "150600", "--days", "30",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    file = tmp_path / "tokens.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    principal = TokenStore(file).authenticate(token)
    assert principal is not None
    assert principal.roles == {Role.READER, Role.DEVICE}
    assert principal.sources == ("urn:dev:org:32473-*",)
    assert principal.enterprises is ALL
    assert principal.divisions == frozenset({"150600"})


def test_a_plain_token_may_send_and_read_nothing(tmp_path: Path) -> None:
    token = hengliu(tmp_path, "token", "issue", "gate", "--source", "urn:dev:org:32473-gate").stdout.strip()
    principal = TokenStore(tmp_path / "tokens.json").authenticate(token)
    assert principal is not None
    assert principal.roles == {Role.DEVICE}
    assert principal.scope().enterprises == frozenset()


def test_revoking_takes_every_token_of_the_name(tmp_path: Path) -> None:
    tokens = [hengliu(tmp_path, "token", "issue", "gate").stdout.strip() for _ in range(2)]
    other = hengliu(tmp_path, "token", "issue", "belt").stdout.strip()
    told(hengliu(tmp_path, "token", "revoke", "gate"), 0, "2")
    store = TokenStore(tmp_path / "tokens.json")
    assert [store.authenticate(t) for t in tokens] == [None, None]
    assert store.authenticate(other) is not None
    told(hengliu(tmp_path, "token", "revoke", "gate"), 1, "0")


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    run = hengliu(tmp_path, "token", "issue", "gate", "--role", "king")
    assert run.returncode == 2
    assert "king" in run.stderr
    assert not (tmp_path / "tokens.json").exists()
