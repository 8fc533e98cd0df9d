"""What the pages are made of: no foreign address, no missing text, no inline script or style, and all of it in the wheel."""

import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest

import streams.operators
from api import i18n, pages
from api.i18n import LANGUAGES, TEXTS, WARNINGS, fill, page_text, warning_text
from api.pages import PAGES, SCRIPT_TEXTS, literal_codes
from api.screen import PANELS, Names, warning_place
from hengliu.events.catalog import FAMILIES
from hengliu.reference.codes import CODES, list_of
from hengliu.reference.problems import FIELD_FAULTS
from projections.queries import QUERIES
from streams.operators.catalog import GROUPS
from streams.rules.catalog import RULES

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "api" / "templates").iterdir())
OWN = [p for p in sorted((ROOT / "api" / "static").iterdir()) if p.is_file()]


@pytest.mark.parametrize("path", [*TEMPLATES, *OWN], ids=lambda p: p.name)
def test_nothing_names_another_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = [u for u in re.findall(r"(?:https?:)?//[A-Za-z0-9-]+\.[A-Za-z0-9./-]+", text) if u != "http://www.w3.org/2000/svg"]
    assert found == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.name)
def test_no_inline_script_or_style(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=", text)
    for attributes in re.findall(r"<script([^>]*)>", text):
        assert "src=" in attributes or 'type="application/json"' in attributes


def test_templates_hold_no_words_of_their_own() -> None:
    """Every word that a person reads comes from the catalogues."""
    for path in TEMPLATES:
        text = re.sub(
            r"\{#.*?#\}|\{% block (?:theme|scheme) %\}[a-z]+|\{%.*?%\}|\{\{.*?\}\}|<(?:'[^']*'|\"[^\"]*\"|[^>'\"])*>",
            " ",
            path.read_text(encoding="utf-8"),
            flags=re.S,
        )
        assert re.findall(r"[A-Za-z\u4e00-\u9fff]{2,}", text) == [], path.name


def _used_keys() -> set[str]:
    names = {declared.name for declared in PAGES}
    keys = set(SCRIPT_TEXTS)
    for path in TEMPLATES:
        text = path.read_text(encoding="utf-8")
        keys |= set(re.findall(r"\bt\('([a-z0-9._-]+)'[,)]", text))
    for panel in set(PANELS) - {"overview", "labels"}:
        keys |= {f"panel.{panel}", f"panel.{panel}.note", f"empty.{panel}", f"empty.{panel}.means", f"about.{panel}.origin"}
    keys |= {f"nav.{name}" for name in names} | {f"page.{name}.intro" for name in names}
    keys |= {f"about.{part}{end}" for part in ("what", "times", "missing", "units") for end in ("", ".text")}
    keys |= {f"error.{status}{end}" for status in (400, 403, 404, 503) for end in ("", ".means")}
    keys |= {f"status.{status}" for status in ("accepted", "duplicate", "refused")}
    for query in QUERIES.values():
        for parameter in query.parameters:
            if parameter.name in ("slot", "group"):
                keys |= {f"{parameter.name}.{choice}" for choice in parameter.choices or {}}
    keys |= set(re.findall(r'page_text\("([a-z0-9._-]+)"', inspect.getsource(pages)))
    return keys


def test_every_text_that_is_used_is_in_both_languages_and_none_is_unused() -> None:
    used = _used_keys()
    assert used - set(TEXTS) == set()
    for key, text in TEXTS.items():
        assert text.zh, key
        assert text.en, key
        places = [sorted(re.findall(r"\{[a-z_:]+\}", text.in_language(language))) for language in LANGUAGES]
        assert places[0] == places[1], f"{key}: the languages hold different places"
    computed = re.compile(r"^(filter|direction|fault)\.|^(yes|no)$|^column\.text$")
    unused = {
        key for key in TEXTS if key not in used and not computed.match(key) and f'"{key}"' not in inspect.getsource(pages)
    }
    assert unused == set()


def test_a_missing_key_is_a_fault_and_not_a_word_on_the_page() -> None:
    with pytest.raises(KeyError):
        page_text("no.such.key", "zh")


def test_script_texts_are_those_that_the_script_uses() -> None:
    script = (ROOT / "api" / "static" / "screen.js").read_text(encoding="utf-8")
    used = set(re.findall(r'(?:\bt\(|texts\[)"([a-z0-9._-]+)"', script))
    computed = {f"direction.{d}" for d in ("in", "out")} | {f"live.{s}" for s in ("connecting", "on", "off", "polling")}
    assert used | computed == set(SCRIPT_TEXTS)


OTHER_TEXTS = {"derived-from", "by-vehicle", "by-meter", "by-device", "by-site", "ex-mine"}
"""Texts with a hyphen in the operators that are no warning codes."""


def test_every_warning_that_an_operator_raises_has_words() -> None:
    folder = Path(inspect.getfile(streams.operators)).parent
    found = {"power-lost", "network-lost", "overload"}
    for path in folder.glob("*.py"):
        found |= set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', path.read_text(encoding="utf-8")))
    named = {n for d in RULES for n in (d.rule, *d.defaults)} | {o.name for g in GROUPS for o in g.operators}
    assert found - OTHER_TEXTS - named - set(WARNINGS) == set()


def test_faults_of_fields_are_shown_without_open_places() -> None:
    for code, text in FIELD_FAULTS.items():
        shown = TEXTS.get(f"fault.{code}", text)
        assert "{" not in shown.zh + shown.en, (
            f"{code}: quarantine keeps no parameters of field faults; give it a text fault.{code}"
        )


def test_warning_sentences_have_known_places_in_both_languages() -> None:
    values = {"state": "lost", "commodity": "raw", "unit": "kWh", "since": "2026-03-01T00:00:00Z"}
    for code, words in WARNINGS.items():
        for sentence in words.sentences:
            places = [sorted(re.findall(r"\{([a-z_]+)", sentence.in_language(language))) for language in LANGUAGES]
            assert places[0] == places[1], code
            given = {name: values.get(name, "1000") for name in places[0]}
            for language in LANGUAGES:
                assert i18n.DASH not in fill(sentence.in_language(language), given, language), code


def test_a_load_is_told_with_the_names_of_where_it_went() -> None:
    names = Names(sites={"p01": "一号电厂"}, divisions={"150302": "海勃湾区"})
    short = {"shipment": "W1", "from": "m01", "to": "p01", "loaded_kg": "33000", "unloaded_kg": "31000", "short_kg": "2000",
             "tolerance_kg": "330"}  # fmt: skip
    row = {"subject": "蒙C12345", "site": "m01", "since": None, "parameters": short}
    told = warning_text("shipment-quantity", short, "zh", warning_place(row, names))[1]
    assert told == "蒙C12345 装 33.000 吨，一号电厂 卸 31.000 吨，亏 2.000 吨，允差 0.330 吨"
    lost = {"shipment": "W1", "from": "m01", "net_kg": "33000", "loaded_at": "2026-03-01T02:00:00Z", "destination": "150302",
            "limit_s": "129600"}  # fmt: skip
    told = warning_text("shipment-missing", lost, "en", warning_place({**row, "parameters": lost}, names))[1]
    assert told == "蒙C12345 loaded 33.000 t for 海勃湾区 at 2026-03-01 10:00:00; nothing arrived within 1 d 12 h"
    came = {**lost, "to": "p01"}
    told = warning_text("shipment-missing", came, "en", warning_place({**row, "parameters": came}, names))[1]
    assert told == "蒙C12345 loaded 33.000 t for 海勃湾区 at 2026-03-01 10:00:00, and came to 一号电厂 since"


def test_an_unknown_warning_hides_nothing() -> None:
    assert warning_text("new-code", {"b": "2", "a": "1"}, "zh") == ("new-code", "a = 1, b = 2")


def test_a_missing_parameter_is_a_dash_and_never_zero() -> None:
    assert fill("{mass_kg:t}", {}, "zh") == "—"
    assert fill("{mass_kg:t}", {"mass_kg": "0"}, "zh") == "0.000"
    assert fill("{mass_kg:t}", {"mass_kg": "strange"}, "zh") == "strange"


TONNES = [(0, "0.000"), (7, "0.007"), (48_920, "48.920"), (-1_204_560, "−1,204.560"), (10**15, "1,000,000,000,000.000")]


@pytest.mark.parametrize(("kilograms", "text"), TONNES)
def test_tonnes_are_exact(kilograms: int, text: str) -> None:
    assert i18n.tonnes(kilograms) == text


def test_every_closed_list_of_the_families_has_names() -> None:
    for family in FAMILIES:
        for name, declared in family.data.model_fields.items():
            codes = literal_codes(declared.annotation)
            if codes:
                assert list_of(name, codes), f"{family.type}.{name}: no list holds {codes}"
    for name, held in CODES.items():
        for code, text in held.items():
            assert text.zh, (name, code)
            assert text.en, (name, code)


def test_literal_codes_look_into_optional_types() -> None:
    from hengliu.events.families.common import Commodity

    assert set(literal_codes(Commodity | None)) == set(get_args(Commodity))
    assert literal_codes(int) == ()


def test_pages_name_columns_and_filters_that_their_queries_have() -> None:
    for declared in PAGES:
        query = QUERIES[declared.query]
        columns = {column.name for column in query.columns} | ({"text"} if declared.name == "warnings" else set())
        assert set(declared.columns) <= columns, declared.name
        assert set(declared.filters) <= set(query.accepted), declared.name


def test_the_lock_file_names_no_registry() -> None:
    text = (ROOT / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in text
    assert "://" not in text


def test_the_assets_are_in_place_and_fetching_again_does_nothing() -> None:
    done = subprocess.run([sys.executable, "tools/fetch_assets.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "in place" in done.stdout
    assert "npm ci" not in done.stdout


def test_the_wheel_holds_templates_styles_scripts_and_licences(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"api/templates/{path.name}" for path in TEMPLATES} | {f"api/static/{path.name}" for path in OWN}
    for name in ("echarts.min.js", "htmx.min.js"):
        wanted |= {f"api/static/vendor/{name}", f"api/static/vendor/{name}.gz"}
    wanted |= {
        "api/static/vendor/echarts.LICENSE.txt",
        "api/static/vendor/echarts.NOTICE.txt",
        "api/static/vendor/manifest.json",
    }
    assert wanted - names == set()
    assert not [name for name in names if "node_modules" in name]
