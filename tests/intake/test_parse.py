"""Strict parsing: what is refused, where, and that nothing a sender can write ends in an exception."""

import contextlib
import json
import random
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hengliu.events.catalog import Catalog
from hengliu.events.envelope import encode_event
from hengliu.intake.parse import (
    Accepted,
    Envelope,
    NotABatch,
    NotJson,
    ParsePolicy,
    Refusal,
    TooManyEvents,
    encode_envelope,
    parse,
    parse_envelope,
    split_batch,
)
from hengliu.reference.problems import FIELD_FAULTS, PROBLEMS
from tests.intake.city import NOW, SOURCE, weighing

CATALOG = Catalog()
POLICY = ParsePolicy()


def refused(value: bytes, policy: ParsePolicy = POLICY) -> Refusal:
    found = parse(value, CATALOG, policy, NOW)
    assert isinstance(found, Refusal), found
    for fault in found.errors:
        assert fault.code in FIELD_FAULTS
    assert found.code in PROBLEMS
    return found


def event(**changes: Any) -> bytes:
    """A good weighing with members changed; ``...`` leaves a member out."""
    body = orjson.loads(weighing(1)) | changes
    return orjson.dumps({name: content for name, content in body.items() if content is not ...})


def data(**changes: Any) -> bytes:
    return event(data={name: v for name, v in (orjson.loads(weighing(1))["data"] | changes).items() if v is not ...})


def test_every_example_of_the_catalogue_is_accepted() -> None:
    for family in CATALOG.accepted.values():
        value = encode_event(family.type, family.example_source, "1", NOW, dict(family.example_data))
        found = parse(value, CATALOG, POLICY, NOW)
        assert isinstance(found, Accepted), (family.type, found)
        assert found.value == value
        assert (found.id, found.source, found.time_ms) == ("1", family.example_source, NOW)


# CloudEvents 1.0.2, formats/json-format.md, 3.2 and 4.3 (Apache-2.0), and the primer's GitHub example.
SPEC_EXAMPLES = [
    """{"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "subject": null,
        "id": "C234-1234-1234", "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value",
        "comexampleothervalue": 5, "datacontenttype": "application/json",
        "data": {"appinfoA": "abc", "appinfoB": 123, "appinfoC": true}}""",
    """{"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": "A234-1234-1234",
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        "unsetextension": null, "datacontenttype": "application/xml", "data": "<much wow=\\"xml\\"/>"}""",
    """{"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": "B234-1234-1234",
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        "unsetextension": null, "datacontenttype": "application/vnd.apache.thrift.binary",
        "data_base64": "... base64 encoded string ..."}""",
    """{"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": "D234-1234-1234",
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        "datacontenttype": "application/json", "data": 1.5}""",
    """{"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": "E234-1234-1234",
        "datacontenttype": "application/json", "data": "I'm just a string"}""",
    """{"specversion": "1.0", "type": "com.example.someotherevent", "source": "/mycontext/9", "id": "C234-1234-1234",
        "time": "2018-04-05T17:31:05Z", "data": [1, null, {"a": []}]}""",
    """{"specversion": "1.0", "type": "com.github.pull_request.opened",
        "source": "https://github.com/cloudevents/spec/pull", "subject": "123", "id": "A234-1234-1234",
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        "datacontenttype": "text/xml", "data": "<much wow=\\"xml\\"/>"}""",
]


@pytest.mark.parametrize("text", SPEC_EXAMPLES)
def test_the_specification_s_own_examples_round_trip(text: str) -> None:
    first = parse_envelope(text.encode(), POLICY)
    assert isinstance(first, Envelope), first
    again = parse_envelope(encode_envelope(first), POLICY)
    assert isinstance(again, Envelope), again
    sent = {name: content for name, content in json.loads(text).items() if content is not None}
    assert json.loads(encode_envelope(first)) == sent
    assert (again.id, again.source, again.extensions, again.data) == (first.id, first.source, first.extensions, first.data)


def test_examples_of_the_specification_as_a_batch() -> None:
    body = ("[" + ",\n".join(SPEC_EXAMPLES) + "]").encode()
    assert [e.decode() for e in split_batch(body)] == SPEC_EXAMPLES
    assert split_batch(b"[]") == split_batch(b" [ \n]\t") == []


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b'{"a": 1}}', "not-json"),
        (b"{'a': 1}", "not-json"),
        (b"\xef\xbb\xbf{}", "not-json"),
        (weighing(1).replace(b"48920", b"NaN"), "not-json"),
        (weighing(1).replace(b"48920", b"-Infinity"), "not-json"),
        (weighing(1).replace(b"48920", b"048920"), "not-json"),
        (weighing(1).replace("蒙".encode(), b"\xff\xfe"), "not-utf8"),
        (weighing(1).replace("蒙".encode(), b"\xed\xa0\x80"), "not-utf8"),
        (weighing(1).replace("蒙".encode(), b"\\ud800"), "lone-surrogate"),
        (weighing(1).replace("蒙".encode(), b"\\udc00\\ud800"), "lone-surrogate"),
        (b"[]", "not-an-object"),
        (b"null", "not-an-object"),
        (b'"x"', "not-an-object"),
        (b"12", "not-an-object"),
        (weighing(1).replace(b'"axles":6', b'"axles":6,"axles":6'), "duplicate-member"),
        (weighing(1).replace(b'"axles":6', b'"axles":6,"a\\u0078les":6'), "duplicate-member"),
        (weighing(1).replace(b'"id":"1"', b'"id":"1" , "id":"1"'), "duplicate-member"),
        (weighing(1).replace(b'"axles":6', b'"axles":[{"\\u00e9":1,"\xc3\xa9":2}]'), "duplicate-member"),
        (weighing(1).replace(b'"data":{', b'"data": {} , "data":{'), "duplicate-member"),
        (weighing(1).replace(b"48920", b"9223372036854775808"), "number-out-of-range"),
        (weighing(1).replace(b"48920", b"9" * 5000), "number-out-of-range"),
        (weighing(1).replace(b"48920", b"1e400"), "number-out-of-range"),
        (weighing(1).replace(b"48920", b"[" * 40 + b"]" * 40), "too-deep"),
        (b"[" * 5000, "too-deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "too-deep"),
        (b'{"a":"' + b"x" * 65_536 + b'"}', "too-large"),
        (event(specversion="0.3"), "specversion-unsupported"),
        (event(specversion=1.0), "attribute-type"),
        (event(specversion=...), "attribute-missing"),
        (event(id=...), "attribute-missing"),
        (event(id=None), "attribute-missing"),
        (event(id=""), "attribute-length"),
        (event(id="x" * 257), "attribute-length"),
        (event(id=7), "attribute-type"),
        (event(id="a\x00b"), "attribute-form"),
        (event(id="a\x85b"), "attribute-form"),
        (event(id="a\ufffeb"), "attribute-form"),
        (event(id="a\U0001ffffb"), "attribute-form"),
        (event(source=""), "attribute-length"),
        (event(source="a b"), "attribute-form"),
        (event(source="煤"), "attribute-form"),
        (event(source="x" * 257), "attribute-length"),
        (event(type=...), "attribute-missing"),
        (event(type=["weighing.measured"]), "attribute-type"),
        (event(type="weighing.imagined"), "unknown-type"),
        (event(type="weighing.recorded"), "type-not-writable"),
        (event(type="event.refused"), "type-not-writable"),
        (event(time=...), "attribute-missing"),
        (event(time="2026-03-01T02:10:00"), "attribute-form"),
        (event(time="2026-03-01 02:10:00Z"), "attribute-form"),
        (event(time="2026-02-30T02:10:00Z"), "attribute-form"),
        (event(time="2026-03-01T24:00:00Z"), "attribute-form"),
        (event(time="2026-03-01T02:10:60Z"), "attribute-form"),
        (event(time="1772330000"), "attribute-form"),
        (event(time=1772330000), "attribute-type"),
        (event(time="1989-12-31T23:59:59Z"), "time-too-early"),
        (event(time="0001-01-01T00:00:00+14:00"), "time-too-early"),
        (event(time="2026-03-02T01:53:21Z"), "time-too-late"),
        (event(time="9999-12-31T23:59:59-14:00"), "time-too-late"),
        (event(Upper="x"), "attribute-name"),
        (event(**{"with-dash": "x"}), "attribute-name"),
        (event(**{"": "x"}), "attribute-name"),
        (event(**{"x" * 65: "x"}), "attribute-name"),
        (event(ext={}), "attribute-type"),
        (event(ext=1.5), "attribute-type"),
        (event(ext=2**31), "attribute-type"),
        (event(ext="x" * 513), "attribute-length"),
        (event(ext="\x07"), "attribute-form"),
        (event(**{f"x{n}": "x" for n in range(33)}), "too-many-attributes"),
        (event(datacontenttype="text/xml"), "content-type"),
        (event(data=...), "data-missing"),
        (event(data=..., data_base64="e30="), "data-base64"),
        (event(data_base64="e30="), "data-twice"),
        (event(data=..., data_base64=5), "attribute-type"),
        (event(data=None), "data-invalid"),
        (event(data=[]), "data-invalid"),
        (event(data="{}"), "data-invalid"),
    ],
)  # fmt: skip
def test_refusals(value: bytes, code: str) -> None:
    assert refused(value).code == code


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"mass_kg": ...}, "/data/mass_kg", "field-missing"),
        ({"mass_kg": "48920"}, "/data/mass_kg", "field-type"),
        ({"mass_kg": 1.0}, "/data/mass_kg", "field-type"),
        ({"mass_kg": True}, "/data/mass_kg", "field-type"),
        ({"mass_kg": -1}, "/data/mass_kg", "field-range"),
        ({"mass_kg": 1_000_001}, "/data/mass_kg", "field-range"),
        ({"plate": ""}, "/data/plate", "field-length"),
        ({"plate": "x" * 17}, "/data/plate", "field-length"),
        ({"origin": "1503"}, "/data/origin", "field-form"),
        ({"commodity": "gold"}, "/data/commodity", "field-value"),
        ({"a/b~c": 1}, "/data/a~1b~0c", "field-unexpected"),
    ],
)
def test_a_fault_of_the_payload_names_field_and_cause(changes: dict[str, Any], pointer: str, code: str) -> None:
    found = refused(data(**changes))
    assert (found.code, found.pointer) == ("data-invalid", pointer)
    assert [(fault.pointer, fault.code) for fault in found.errors] == [(pointer, code)]
    assert (found.id, found.source, found.type) == ("1", SOURCE, "weighing.measured")


def meter(**changes: Any) -> bytes:
    good = {"meter": "em-1", "quantity": "electricity", "reading": "interval", "value": "1.5", "unit": "kWh",
            "start": "2026-03-01T00:00:00Z", "end": "2026-03-01T00:15:00+00:00"}  # fmt: skip
    return encode_event("meter.read", SOURCE, "1", NOW, {k: v for k, v in (good | changes).items() if v is not ...})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"value": 1.5}, "decimal-not-string"),
        ({"value": "1e3"}, "decimal-form"),
        ({"value": "NaN"}, "decimal-form"),
        ({"value": "1."}, "decimal-form"),
        ({"value": "٣"}, "decimal-form"),
        ({"value": "1.1234567"}, "field-digits"),
        ({"value": "9" * 25}, "field-digits"),
        ({"start": "1772330000"}, "time-form"),
        ({"start": "2026-03-01 00:00:00Z"}, "time-form"),
        ({"start": "2026-03-01T00:00Z"}, "time-form"),
        ({"start": "2026-13-01T00:00:00Z"}, "time-form"),
        ({"start": 1772330000}, "field-time"),
        ({"start": "0001-01-01T00:00:00Z"}, "time-range"),
        ({"end": ...}, "interval-incomplete"),
        ({"end": "2026-03-01T00:00:00Z"}, "interval-order"),
        ({"reading": "register"}, "register-with-interval"),
        ({"unit": "m3"}, "unit-mismatch"),
    ],
)
def test_decimals_times_and_coherence(changes: dict[str, Any], code: str) -> None:
    assert isinstance(parse(meter(), CATALOG, POLICY, NOW), Accepted)
    found = refused(meter(**changes))
    assert [fault.code for fault in found.errors] == [code]


def test_only_the_first_few_faults_are_reported_and_all_are_counted() -> None:
    found = refused(data(**{f"x{n}": n for n in range(40)}))
    assert len(found.errors) == POLICY.max_faults
    assert found.parameters == {"count": "40"}


def test_limits_are_exact() -> None:
    value = weighing(1)
    assert isinstance(parse(value, CATALOG, ParsePolicy(max_event_bytes=len(value)), NOW), Accepted)
    assert refused(value, ParsePolicy(max_event_bytes=len(value) - 1)).code == "too-large"
    deep = event(data={"a": json.loads("[" * 30 + "]" * 30)})
    assert refused(deep).code == "data-invalid"  # 32 levels: the event, data, and thirty more
    assert refused(event(data={"a": json.loads("[" * 31 + "]" * 31)})).code == "too-deep"
    edge = NOW + POLICY.future_ms
    assert isinstance(parse(weighing(1, time_ms=edge), CATALOG, POLICY, NOW), Accepted)
    assert refused(weighing(1, time_ms=edge + 1)).code == "time-too-late"
    assert isinstance(parse(weighing(1, time_ms=POLICY.earliest_ms), CATALOG, POLICY, NOW), Accepted)
    assert isinstance(parse(weighing(1).replace(b"48920", b"48920" + b" " * 99), CATALOG, POLICY, NOW), Accepted)


def test_digest_covers_the_parsed_json_and_not_its_spelling() -> None:
    def digest(value: bytes) -> bytes:
        found = parse(value, CATALOG, POLICY, NOW)
        assert isinstance(found, Accepted), found
        return found.digest

    value = weighing(1)
    body = json.loads(value)
    assert digest(json.dumps(body, indent=3).encode()) == digest(value)
    assert digest(json.dumps(dict(reversed(body.items()))).encode()) == digest(value)
    assert digest(weighing(1, mass_kg=48_921)) != digest(value)
    assert digest(event(extra="x")) != digest(value)


def test_a_deep_list_of_many_brackets_is_not_deep() -> None:
    wide = event(data={"a": [[] for _ in range(500)]})
    assert refused(wide).code == "data-invalid"


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[1,]", b"[,1]", b"[1]]", b"[1] x", b"[NaN]", b'["\xff\xfe]', b"{", b"nul", b'[{"a":tru}]', b'["', b'["\\'],
)
def test_a_body_that_is_not_json(body: bytes) -> None:
    with pytest.raises(NotJson):
        split_batch(body)


@pytest.mark.parametrize("body", [b"{}", b"1", b' "x" ', b"null", weighing(1), b'"\\ud800"'])
def test_a_body_that_is_json_but_no_array(body: bytes) -> None:
    with pytest.raises(NotABatch):
        split_batch(body)


def test_elements_are_sliced_verbatim() -> None:
    one, two = b'{"a" : [1,  2.0e1, "\\u0041,]"]}', b'  {"b":{"c":"}"}} '
    assert split_batch(b" [ " + one + b" ,\n" + two + b",3]") == [one, two.strip(), b"3"]


def test_one_bad_element_does_not_take_the_others_along() -> None:
    bad = [b'{"a":"\\ud800"}', b"[" * 3000 + b"]" * 3000, b'{"a":1e999}']
    for element in bad:
        assert split_batch(b"[" + weighing(1) + b"," + element + b"," + weighing(2) + b"]") == [
            weighing(1),
            element,
            weighing(2),
        ]


def test_count_is_bounded_before_memory_is() -> None:
    assert len(split_batch(b"[" + b"1," * 4999 + b"1]")) == 5000
    for body in (b"[" + b"1," * 5000 + b"1]", b"[" + b"0," * 2_000_000 + b"0]", b"[" + b"[]," * 1_000_000 + b"0]"):
        with pytest.raises(TooManyEvents):
            split_batch(body)


@pytest.mark.parametrize(
    "body",
    [
        b'["' + b'\\"' * 1_000_000,
        b'["' + b"\\" * 1_000_001,
        b"[" * 2_000_000,
        b"[" + b'{"a":' * 300_000,
        b'["' + b'","' * 700_000,
        b"[1" + b"1" * 2_000_000 + b"]",
        b"[" + b" " * 2_000_000 + b"x]",
    ],
)
def test_no_body_takes_quadratic_time(body: bytes) -> None:
    start = time.process_time()
    with contextlib.suppress(NotJson, TooManyEvents):
        for element in split_batch(body):
            refused(element)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":"' + b'\\"' * 32_000 + b'"}',
        b"{" + b",".join(b'"\\u0061%d":1' % n for n in range(4000)) + b"}",
        b"[" + b"1234567890123456789," * 3000 + b"1]",
        b"[" + b"1" * 65_000 + b"]",
        b"[" + b"0." + b"1" * 65_000 + b"]",
        b"[" + b"[]," * 20_000 + b"1]",
    ],
)
def test_no_element_takes_quadratic_time(value: bytes) -> None:
    start = time.process_time()
    refused(value)
    assert time.process_time() - start < 1


# ---- laws ------------------------------------------------------------------------------------------------------------

Pairs = list[tuple[str, Any]]


def _spell(value: Any, draw: random.Random) -> str:
    """JSON text of a value whose objects are lists of pairs, in one of many spellings."""
    space = draw.choice(["", " ", "\n", "\t "])
    if isinstance(value, tuple):
        inner = ",".join(f"{space}{_spell(k, draw)}{space}:{_spell(v, draw)}" for k, v in value)
        return "{" + inner + space + "}"
    if isinstance(value, list):
        return "[" + ",".join(_spell(v, draw) for v in value) + space + "]"
    if isinstance(value, str):
        return "".join(
            json.dumps(c, ensure_ascii=draw.random() < 0.5)[1:-1] if draw.random() < 0.9 else f"\\u{ord(c):04x}" for c in value
        ).join('""')
    return json.dumps(value)


def _repeats(value: Any) -> bool:
    if isinstance(value, tuple):
        names = [k for k, _ in value]
        return len(set(names)) < len(names) or any(_repeats(v) for _, v in value)
    return isinstance(value, list) and any(_repeats(v) for v in value)


_names = st.text(st.sampled_from('ab"\\:{},é蒙 '), max_size=2)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _names,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_names, inner), max_size=4).map(tuple),
    max_leaves=12,
)


@settings(max_examples=600, deadline=None)
@given(_values, st.integers(0, 2**32))
def test_duplicate_names_are_found_exactly(value: Any, seed: int) -> None:
    text = _spell((("x", value),), random.Random(seed)).encode()
    assert json.loads(text) is not None
    assert (refused(text).code == "duplicate-member") == _repeats(value)


def _mutations(seed: int, count: int) -> Any:
    draw = random.Random(seed)
    good = [
        encode_event(f.type, f.example_source, "e1-1", NOW, dict(f.example_data), traceparent="00-ab")
        for f in CATALOG.accepted.values()
    ]
    pieces = [b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"null", b"1e9", b"-", b"\x00", b"\xff",
              b"\xe8", b"NaN", b"9" * 30, b'"data":', b'{"a":1}', b"[" * 50, b"2026-03-01T00:00:00Z", b"\xef\xbf\xbe",
    ]  # fmt: skip
    for _ in range(count):
        value = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 4)):
            at, to = sorted((draw.randrange(len(value) + 1), draw.randrange(len(value) + 1)))
            match draw.randrange(6):
                case 0 if value:
                    value[at % len(value)] = draw.randrange(256)
                case 1:
                    value[at:at] = draw.choice(pieces)
                case 2:
                    del value[at : min(to, at + 20)]
                case 3:
                    value[at:at] = value[at : min(to, at + 40)]
                case 4:
                    value[at:to] = draw.choice(good)[at:to]
                case _:
                    value[at : at + 5] = draw.choice(pieces)
        yield bytes(value)


def test_ten_thousand_mutations_end_in_an_event_or_a_refusal() -> None:
    codes: dict[str, int] = {}
    for value in _mutations(20_260_301, 10_000):
        found = parse(value, CATALOG, POLICY, NOW)
        if isinstance(found, Accepted):
            # What is accepted must be JSON to an independent parser too, with every name once.
            json.loads(value)
            codes["accepted"] = codes.get("accepted", 0) + 1
        else:
            assert found.code in PROBLEMS
            assert all(fault.code in FIELD_FAULTS for fault in found.errors)
            codes[found.code] = codes.get(found.code, 0) + 1
        for body in (b"[" + value + b"]", value):
            with contextlib.suppress(NotJson, NotABatch, TooManyEvents):
                split_batch(body)
    assert len(codes) > 12, codes


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_typed_answer(value: bytes) -> None:
    refused(value)
    with contextlib.suppress(NotJson, NotABatch, TooManyEvents):
        split_batch(value)


@settings(max_examples=200, deadline=None)
@given(st.lists(_values, max_size=6), st.integers(0, 2**32))
def test_split_elements_are_the_body_s_elements(values: list[Any], seed: int) -> None:
    draw = random.Random(seed)
    spelled = [_spell(value, draw) for value in values]
    body = " [" + " , ".join(spelled) + "\n] "
    elements = split_batch(body.encode())
    assert [json.loads(e) for e in elements] == json.loads(body)
    assert [e.decode() for e in elements] == [text.strip() for text in spelled]
