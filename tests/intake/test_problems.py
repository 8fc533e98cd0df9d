"""Every code has words in both languages, and what strangers sent never becomes a format string."""

import re
from pathlib import Path

import pytest

from hengliu.events.family import Text
from hengliu.reference.problems import FIELD_FAULTS, PROBLEMS, render, sentence

ROOT = Path(__file__).parents[2]
CJK = re.compile("[\u4e00-\u9fff]")


def _texts() -> list[tuple[str, Text]]:
    texts = [(code, text) for code, problem in PROBLEMS.items() for text in (problem.title, problem.detail)]
    return texts + list(FIELD_FAULTS.items())


def test_every_code_is_written_in_both_languages_with_the_same_slots() -> None:
    for code, text in _texts():
        assert re.fullmatch(r"[a-z][a-z0-9-]*", code)
        assert CJK.search(text.zh), code
        assert not CJK.search(text.en), code
        # What only one language has ends in its name: {expected_zh} and {expected_en}.
        slots = [set(re.findall(r"\{([a-z_]+?)(?:_zh|_en)?\}", t)) for t in (text.zh, text.en)]
        assert slots[0] == slots[1], code


def test_every_code_in_the_source_has_words() -> None:
    used: set[str] = set()
    pattern = re.compile(
        r"(?:_refuse|Refusal|Unscoped)\(\s*\"([a-z-]+)\"|PydanticCustomError\(\s*\"([a-z-]+)\"|FieldFault\([^,]+, \"([a-z-]+)\""
    )
    for folder in ("hengliu/intake", "hengliu/events"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            used |= {code for groups in pattern.findall(file.read_text(encoding="utf-8")) for code in groups if code}
    assert {"not-json", "device-unknown", "unit-mismatch", "field-missing"} <= used
    assert used <= set(PROBLEMS) | set(FIELD_FAULTS)


@pytest.mark.parametrize(("language", "expected"), [("zh-CN", "类型“x.y”"), ("en-GB", "type “x.y”"), ("", "类型“x.y”")])
def test_a_sentence_in_the_caller_s_language(language: str, expected: str) -> None:
    assert expected in sentence("unknown-type", {"type": "x.y"}, language)


def test_parameters_are_text_and_nothing_else() -> None:
    hostile = "{0.__class__} {type} %s {source!r}"
    text = sentence("unknown-type", {"type": hostile}, "en")
    assert hostile in text
    assert "“”" in sentence("unknown-type", {}, "en")
    assert sentence("no-such-code", {}, "en") == "no-such-code"


def test_problem_details() -> None:
    body = render(
        "data-invalid", {"count": "1"}, "en", pointer="/data/mass_kg",
        errors=[("/data/mass_kg", "field-range", {"expected": "≥ 0"})],
    )  # fmt: skip
    assert body == {
        "type": "urn:hengliu:problem:data-invalid",
        "title": "Data invalid",
        "detail": "/data/mass_kg: out of range (≥ 0)",
        "code": "data-invalid",
        "parameters": {"count": "1"},
        "pointer": "/data/mass_kg",
        "errors": [
            {
                "pointer": "/data/mass_kg",
                "code": "field-range",
                "detail": "out of range (≥ 0)",
                "parameters": {"expected": "≥ 0"},
            }
        ],
    }
    assert render("overloaded", {"seconds": "2"}, "zh")["status"] == 429
    assert render("overloaded", {}, "zh", status=503)["status"] == 503
