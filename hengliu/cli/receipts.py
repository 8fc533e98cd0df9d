"""``hengliu verify-receipt``: whether a receipt proves its record, asked of nobody but the keys that one has."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from hengliu.events.envelope import iso_ms
from hengliu.events.family import Text
from hengliu.ledger.faults import LedgerError
from hengliu.ledger.keys import VerifierKey
from hengliu.ledger.receipt import MAX_RECEIPT, Policy, Receipt, Verified, by_hand, read_receipt, verify_receipt

__all__ = ["verify_receipt_command"]

console = Console(stderr=True, highlight=False, emoji=False)

HOLDS, DOES_NOT, CANNOT = 0, 1, 2
"""Exit codes: it proves the record; it does not; a file or key cannot be read, so nothing is known."""


class _Unreadable(Exception):
    """A file or a key that cannot be read."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.en)
        self.text = text


def verify_receipt_command(
    path: Path, key: str, witnesses: Sequence[str], least: int | None, *, hand: bool, as_json: bool
) -> int:
    """Print what the receipt proves, or the first thing that does not fit; returns the exit code.

    Args:
        key: the log's public key, as text or the name of a file that holds it; ``witnesses`` likewise.
        least: how many of the witnesses have to have cosigned; None: all of them.
        hand: also print how to check it with ``printf`` and ``sha256sum``.
    """
    try:
        policy = _policy(key, witnesses, least)
        data = _read(path)
    except _Unreadable as fault:
        _tell(fault.text, as_json, CANNOT)
        return CANNOT
    try:
        receipt = read_receipt(data)
        found = verify_receipt(receipt, policy)
    except LedgerError as error:
        _tell(error.words, as_json, DOES_NOT, error.fault)
        return DOES_NOT
    steps = by_hand(receipt) if hand else None
    if as_json:
        typed = {} if steps is None else {"by_hand": {"zh": steps.zh, "en": steps.en}}
        typer.echo(msgspec.json.encode(_facts(receipt, found, policy) | typed).decode())
        return HOLDS
    _show(receipt, found)
    if steps is not None:
        typer.echo(f"{steps.zh}\n{steps.en}", nl=False)
    return HOLDS


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_RECEIPT + 1)  # one that is longer is refused by its length
    except OSError as error:
        raise _Unreadable(Text(f"无法读取 {path}：{error.strerror}。", f"{path} cannot be read: {error.strerror}.")) from error


def _key(given: str) -> VerifierKey:
    """Of its text, or of a file that holds nothing else."""
    text = given.strip()
    try:
        return VerifierKey.parse(text)
    except LedgerError as error:
        wrong = error.words
    try:
        return VerifierKey.parse(_read(Path(text)).decode(errors="replace").strip())
    except LedgerError as error:
        wrong = error.words
    except _Unreadable:
        if "+" not in text:  # meant as a file; else the key itself is what is wrong
            raise
    raise _Unreadable(Text(f"密钥 {given}：{wrong.zh}", f"Key {given}: {wrong.en}"))


def _policy(key: str, witnesses: Sequence[str], least: int | None) -> Policy:
    known = tuple(_key(one) for one in witnesses)
    try:
        return Policy(_key(key), known, len(known) if least is None else least)
    except LedgerError as error:
        raise _Unreadable(error.words) from error


def _tell(text: Text, as_json: bool, code: int, fault: str = "unreadable") -> None:
    if as_json:
        typer.echo(msgspec.json.encode({"holds": False, "fault": fault, "zh": text.zh, "en": text.en}).decode())
        return
    head = Text("凭证不成立", "The receipt does not hold") if code == DOES_NOT else Text("无法核对", "It cannot be checked")
    console.print(f"[red]{head.zh}：{escape(text.zh)}[/red]", soft_wrap=True)
    console.print(f"{head.en}: {text.en}", markup=False, soft_wrap=True)


def _facts(receipt: Receipt, found: Verified, policy: Policy) -> dict[str, object]:
    checkpoint = found.checkpoint.checkpoint
    headers = found.record.headers
    return {
        "holds": True,
        "suite": receipt.suite,
        "log": checkpoint.origin,
        "rank": found.rank,
        "size": checkpoint.size,
        "topic": found.record.topic,
        "partition": found.record.partition,
        "type": headers.type,
        "received": iso_ms(headers.received),
        "witnesses": [{"name": one.witness.name, "time": iso_ms(one.time * 1_000)} for one in found.cosigned],
        "least": policy.least,
        "value": found.record.value.decode(errors="replace"),
    }


def _show(receipt: Receipt, found: Verified) -> None:
    checkpoint = found.checkpoint.checkpoint
    headers = found.record.headers
    typer.echo("凭证成立 / the receipt holds")
    lines: list[tuple[str, str]] = [
        ("日志 / log", f"{checkpoint.origin} ({receipt.suite})"),
        ("记录 / record", f"{found.record.topic}/{found.record.partition}, {headers.type}, {iso_ms(headers.received)}"),
        ("序号 / rank", f"{found.rank:,} / {checkpoint.size:,}"),
        *(("见证 / witness", f"{one.witness.name}, {iso_ms(one.time * 1_000)}") for one in found.cosigned),
        ("内容 / value", found.record.value.decode(errors="replace")),
    ]
    if not found.cosigned:
        lines.insert(3, ("见证 / witness", "无；只有运营者的签名 / none; the operator's signature alone"))
    for name, text in lines:
        typer.echo(f"  {name}: {text}")
