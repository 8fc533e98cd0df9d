"""``hengliu verify-receipt``: what it says of a receipt that holds, of one that does not, and of what is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hengliu.cli import app
from hengliu.ledger.keys import SHA256_ED25519, SUITES, Suite
from tests.ledger.test_receipt import RANK, SIZE, Case

CASE = Case(SHA256_ED25519)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify-receipt", *map(str, arguments)])


def keys_of(case: Case) -> list[str]:
    return ["--key", case.log.verifier.text, *(part for w in case.witnesses for part in ("--witness", w.verifier.text))]


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    path = tmp_path / "receipt.json"
    path.write_bytes(CASE.receipt.to_json())
    return path


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_it_says_what_a_receipt_proves(tmp_path: Path, suite: Suite) -> None:
    case = Case(suite)
    path = tmp_path / "receipt.json"
    path.write_bytes(case.receipt.to_json())
    told = run(path, *keys_of(case))
    assert told.exit_code == 0, told.output
    for words in ("the receipt holds", "凭证成立", case.log.name, suite.name, f"{RANK:,} / {SIZE:,}", case.witnesses[1].name):
        assert words in told.output
    facts = json.loads(run(path, *keys_of(case), "--json").stdout)
    assert (facts["holds"], facts["rank"], facts["size"], len(facts["witnesses"])) == (True, RANK, SIZE, 2)


def test_without_witnesses_it_says_so(receipt: Path) -> None:
    told = run(receipt, "--key", CASE.log.verifier.text)
    assert told.exit_code == 0
    assert "the operator's signature alone" in told.output


def test_a_key_may_lie_in_a_file(receipt: Path, tmp_path: Path) -> None:
    key = tmp_path / "log.key"
    key.write_text(CASE.log.verifier.text + "\n")
    assert run(receipt, "--key", key).exit_code == 0


def test_the_steps_by_hand_are_printed(receipt: Path) -> None:
    told = run(receipt, "--key", CASE.log.verifier.text, "--by-hand")
    assert told.exit_code == 0
    assert "sha256sum" in told.output
    facts = json.loads(run(receipt, "--key", CASE.log.verifier.text, "--by-hand", "--json").stdout)
    assert "sha256sum" in facts["by_hand"]["en"]


def test_an_altered_receipt_does_not_hold(receipt: Path) -> None:
    document = json.loads(receipt.read_bytes())
    document["rank"] += 1
    receipt.write_text(json.dumps(document))
    told = run(receipt, *keys_of(CASE))
    assert told.exit_code == 1
    assert "凭证不成立" in told.output
    assert "does not hold" in told.output
    assert json.loads(run(receipt, *keys_of(CASE), "--json").stdout)["fault"] == "inclusion-root"


def test_anothers_key_and_too_few_witnesses_do_not_hold(receipt: Path) -> None:
    other = Case(SHA256_ED25519)
    assert run(receipt, "--key", other.log.verifier.text).exit_code == 1
    stranger = run(receipt, *keys_of(CASE), "--witness", other.witnesses[0].verifier.text)
    assert stranger.exit_code == 1
    few = run(receipt, "--key", CASE.log.verifier.text, "--witness", CASE.witnesses[0].verifier.text, "--least", 1)
    assert few.exit_code == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", b"[" * 100_000, b'{"format":1}'])
def test_what_is_no_receipt_does_not_hold(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert run(path, "--key", CASE.log.verifier.text).exit_code == 1


def test_what_cannot_be_read_is_told_apart(receipt: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "none.json", "--key", CASE.log.verifier.text).exit_code == 2
    assert run(tmp_path, "--key", CASE.log.verifier.text).exit_code == 2
    for key in ("nothing", "a+b", "a+" + "b" * 5_000, tmp_path, ""):
        told = run(receipt, "--key", key)
        assert told.exit_code == 2, key
        assert "无法核对" in told.output
    many = run(receipt, "--key", CASE.log.verifier.text, "--least", 3, "--json")
    assert many.exit_code == 2
    assert json.loads(many.stdout)["holds"] is False


def test_it_needs_no_part_of_the_platform(receipt: Path) -> None:
    """The base install alone: nothing heavy is imported."""
    heavy = (
        "faust",
        "aiokafka",
        "chdb",
        "fastapi",
        "pyarrow",
        "numpy",
        "confluent_kafka",
        "infra",
        "streams",
        "projections",
        "api",
    )
    script = (
        "import sys\n"
        "from hengliu.cli.receipts import verify_receipt_command\n"
        "from pathlib import Path\n"
        "code = verify_receipt_command(Path(sys.argv[1]), sys.argv[2], [], None, hand=False, as_json=True)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
        "sys.exit(code)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(receipt), CASE.log.verifier.text], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "[]"
