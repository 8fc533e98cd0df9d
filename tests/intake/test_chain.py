"""Device hash chains: what joins, what breaks, and that a break is told and nothing is lost."""

from hashlib import sha256
from pathlib import Path

import orjson

from hengliu.intake.service import Status
from hengliu.ledger.chain import GENESIS, Chains, Link
from tests.intake.city import DEVICE, REGISTRAR, City, decoded, registration, running, weighing

CHAINED = "urn:dev:org:32473-chained"


def digest(value: bytes) -> str:
    return sha256(value).hexdigest()


def test_links() -> None:
    chains = Chains()
    assert chains.add("s", None, b"1") is Link.FIRST
    assert chains.add("s", digest(b"1"), b"2") is Link.CONTINUES
    assert chains.add("s", digest(b"2"), b"3") is Link.CONTINUES
    assert chains.add("s", digest(b"1"), b"3x") is Link.FORK
    assert chains.add("s", digest(b"lost"), b"5") is Link.GAP
    assert chains.add("s", digest(b"5"), b"6") is Link.CONTINUES  # it goes on from what broke it
    assert chains.add("s", None, b"7") is Link.MISSING
    assert chains.add("s", GENESIS, b"8") is Link.FORK
    for wrong in ("", "xyz", digest(b"8").upper(), digest(b"8")[:-2], 7, True):
        assert chains.add("s", wrong, b"8").broken
    assert chains.add("t", GENESIS, b"1") is Link.FIRST
    assert chains.add("u", digest(b"0"), b"1") is Link.GAP


def test_ends_survive_a_restart_in_little_state() -> None:
    chains = Chains()
    entries: dict[bytes, bytes] = {}
    for number in range(200):
        chains.add("s", digest(b"%d" % (number - 1)) if number else None, b"%d" % number)
        entries |= chains.take_changes()
    assert chains.take_changes() == {}
    assert len(entries) == 1
    assert sum(map(len, entries.values())) <= 32 + 8 * 32
    again = Chains()
    again.restore({**entries, b"c\0other": b"x"})
    assert again.add("s", digest(b"199"), b"200") is Link.CONTINUES
    assert again.add("s", digest(b"198"), b"200x") is Link.FORK
    assert again.add("s", digest(b"3"), b"200y") is Link.GAP  # further back than is remembered


def linked(number: int, prev: str | None) -> bytes:
    event = orjson.loads(weighing(number, CHAINED))
    return orjson.dumps(event if prev is None else event | {"prev": prev})


async def register(city: City) -> None:
    device = registration("device.registered", 90, device="c", source=CHAINED, kind="weighbridge", site="m01", chained=True)
    await city.intake.submit(REGISTRAR, [device])


async def test_breaks_are_kept_and_the_events_stay_accepted(tmp_path: Path) -> None:
    one = linked(1, None)
    two = linked(2, digest(one))
    lost = linked(3, digest(two))
    four = linked(4, digest(lost))
    async with running(tmp_path / "log") as city:
        await register(city)
        outcomes = await city.intake.submit(DEVICE, [one, one, two, four])
        assert [str(o.status) for o in outcomes] == ["accepted", "duplicate", "accepted", "accepted"]
        assert city.intake.counts.chain_breaks == 1
    async with running(tmp_path / "log", register=False) as city:
        (five,) = await city.intake.submit(DEVICE, [linked(5, digest(two))])
        assert five.status is Status.ACCEPTED
        assert len(await city.records("weighing")) == 4
        found = [decoded(value)["data"] for _, value in await city.records("quarantine")]
        assert [(f["reason"], f["refused_id"]) for f in found] == [("chain-gap", "4"), ("chain-fork", "5")]


async def test_a_device_without_chain_is_not_asked_for_one(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        await city.intake.submit(DEVICE, [weighing(1), weighing(2)])
        assert await city.records("quarantine") == []
