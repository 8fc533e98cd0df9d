"""What quarantine keeps has one form, whoever refuses."""

import re
from hashlib import sha256
from pathlib import Path

import msgspec

from hengliu.events.families.warning import EventRefused
from hengliu.events.refused import REFUSED, Payload, Refused, refused_record

ROOT = Path(__file__).parents[2]


def test_text_of_any_length_gives_a_valid_event() -> None:
    value = b"x" * 100_000
    long = "x" * 5_000
    said = Refused("too-large", Payload.of(value), "p", {"a": long}, long, long, long, long, ("m01", "m01", "150303"), "intake")
    record = refused_record(said, "/intake", "0-1", 1_772_330_000_000, 1_772_330_000_500)
    event = msgspec.json.decode(record.value)
    data = EventRefused.model_validate(event["data"])
    assert (data.reason, data.size_bytes, data.digest) == ("too-large", 100_000, sha256(value).hexdigest())
    assert (record.key, event["type"], record.headers.type) == (b"/intake", REFUSED, REFUSED)
    assert (record.headers.received, record.headers.site, record.headers.principal) == (1_772_330_000_500, "m01", "p")


def test_what_is_not_known_is_absent() -> None:
    record = refused_record(Refused("not-json", Payload.of(b"{"), "p"), "/s", "1", 0, 0, key="k", operatorversion=1)
    event = msgspec.json.decode(record.value)
    assert not {"refused_source", "refused_id", "refused_type"} & set(event["data"])
    assert (record.key, event["operatorversion"], record.headers.enterprise) == (b"k", 1, "")


def test_nobody_else_builds_one() -> None:
    builds = re.compile(r'encode_event\(\s*"event\.refused"')
    files = [
        f for folder in ("hengliu", "projections", "api", "aggregates", "connectors") for f in (ROOT / folder).rglob("*.py")
    ]
    assert [f for f in files if builds.search(f.read_text(encoding="utf-8"))] == []
