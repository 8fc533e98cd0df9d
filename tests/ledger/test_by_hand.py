"""The commands of docs/protocols/ledger.md, typed: with tools that share nothing with this code."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from hengliu.ledger.checkpoint import Checkpoint, sign_checkpoint
from hengliu.ledger.hashes import SHA256
from hengliu.ledger.keys import SHA256_ED25519, SM3_SM2, SigningKey, Suite
from hengliu.ledger.leaf import LoggedRecord, leaf_hash
from hengliu.ledger.merkle import root
from hengliu.ports.log import Headers

PAGE = Path(__file__).parents[2] / "docs/protocols/ledger.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

BYTES = BLOCKS[0].splitlines(keepends=True)[0]


def typed(folder: Path, script: str, key: str = "") -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "KEY": key}
    return subprocess.run(
        ["sh", "-c", script], cwd=folder, env=settings, capture_output=True, text=True, check=False, timeout=60
    )


def test_leaf_and_root_by_hand(tmp_path: Path) -> None:
    record = LoggedRecord("weighings", 0, b"urn:a", b"{}", Headers(received=5, type="weighing.recorded"))
    checkpoint = Checkpoint("log", 2, root(SHA256, [SHA256.leaf(b""), leaf_hash(SHA256, record)]))
    told = typed(tmp_path, BLOCKS[0] + BLOCKS[1])
    assert told.stdout.strip() == checkpoint.to_bytes().decode().splitlines()[2], told.stderr


@pytest.mark.parametrize(("suite", "block"), [(SHA256_ED25519, 2), (SM3_SM2, 3)], ids=lambda each: getattr(each, "name", ""))
def test_a_signature_by_hand(tmp_path: Path, suite: Suite, block: int) -> None:
    """OpenSSL accepts what we sign, and does not accept another text."""
    for n in range(3):
        log = SigningKey.generate("hengliu.example/log", suite.log)
        note = sign_checkpoint(Checkpoint(log.name, n, suite.hash.leaf(b"%d" % n)), log).to_bytes()
        (tmp_path / "checkpoint").write_bytes(note)
        told = typed(tmp_path, BYTES + BLOCKS[block], log.verifier.text)
        assert (told.returncode, told.stdout.strip()) == (0, "Signature Verified Successfully"), told.stderr
    (tmp_path / "checkpoint").write_bytes(note.replace(b"\n2\n", b"\n3\n"))
    assert typed(tmp_path, BYTES + BLOCKS[block], log.verifier.text).returncode != 0
