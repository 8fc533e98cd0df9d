"""The working pages in Chromium: every table, filters with and without JavaScript, paging, the desk, errors."""

import re

import pytest
from playwright.sync_api import Browser, expect

from api.pages import PAGES
from hengliu.events import topics
from hengliu.events.catalog import FAMILIES, Catalog
from hengliu.events.families.common import labelled
from hengliu.events.family import EventData, Family, Text
from tests.browser.conftest import PHONE, WIDE, Stage, Visitor

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_table_page_shows_rows_and_fits(visitor: Visitor, language: str, size: tuple[int, int]) -> None:
    page = visitor.open("/about", language, size)
    for declared in PAGES:
        page.goto(visitor.address + declared.path)
        expect(page.locator("#rows > *").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == size[0], declared.name
        assert not re.search(r"\b(None|undefined|NaN|\[object)\b", page.locator("main").inner_text()), declared.name


def test_every_family_has_a_page_with_its_labels(visitor: Visitor) -> None:
    page = visitor.open("/about", "en")
    for family in FAMILIES:
        page.goto(f"{visitor.address}/events/{family.type}")
        expect(page.get_by_role("heading", level=1)).to_have_text(family.title.en)
        labels = [label.replace("(kg)", "(t)") for label in _labels(family.data)]
        heads = [head.removesuffix(" (as sent)") for head in page.locator("thead th").all_inner_texts()]
        for label in labels:
            assert label in heads, f"{family.type}: no column {label} in {heads}"


class RailLoaded(EventData):
    """A family that only this test knows."""

    wagon: str = labelled("车号", "Wagon")
    load_kg: int = labelled("装载（千克）", "Load (kg)")


RAIL = Family("rail.loaded", Text("装车", "Rail loading"), RailLoaded, topics.WEIGHING, example_source="urn:dev:org:32473-x")


def test_a_family_that_is_declared_elsewhere_has_its_page(chromium: Browser) -> None:
    with Stage(catalog=Catalog().extended(RAIL)) as other:
        page = chromium.new_page()
        page.goto(f"{other.address}/events/rail.loaded?lang=en")
        expect(page.get_by_role("heading", level=1)).to_have_text("Rail loading")
        expect(page.locator("thead th").nth(1)).to_have_text("Wagon")
        expect(page.locator("thead th").nth(2)).to_have_text("Load (t)")
        page.goto(f"{other.address}/about?lang=zh")
        expect(page.get_by_role("link", name="装车")).to_be_visible()
        page.close()


def _labels(data: type) -> list[str]:
    return [field.json_schema_extra["x-title-en"] for field in data.model_fields.values()]  # type: ignore[attr-defined]


def test_a_filter_is_applied_without_a_reload_and_stands_in_the_address(visitor: Visitor) -> None:
    page = visitor.open("/flows", "en")
    page.evaluate("window.stayed = true")
    page.get_by_label("Direction").first.select_option("in")
    expect(page).to_have_url(re.compile("direction=in"))
    expect(page.locator("#rows td").filter(has_text=re.compile("^Dispatched$"))).to_have_count(0)
    assert page.evaluate("window.stayed") is True
    page.get_by_role("checkbox", name="Enterprise").uncheck()
    expect(page.locator("thead th").filter(has_text="Enterprise")).to_have_count(0)


def test_several_values_of_a_filter_are_kept_and_named(visitor: Visitor) -> None:
    page = visitor.open("/warnings?state=raised,updated", "en")
    expect(page.get_by_label("State")).to_have_value("raised,updated")
    expect(page.get_by_label("State").locator("option:checked")).to_have_text("Open, Open, updated")
    expect(page.locator("#rows tr").first).to_be_visible()


def test_earlier_rows_are_added_below(visitor: Visitor) -> None:
    page = visitor.open("/tickets", "en")
    assert page.locator("#rows tr").count() == 51
    page.get_by_role("link", name="Earlier rows").click()
    expect(page.locator("#rows tr")).to_have_count(101)


def test_everything_works_without_javascript(visitor: Visitor) -> None:
    page = visitor.open("/tickets", "en", java_script_enabled=False)
    page.get_by_label("Direction").select_option("out")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("direction=out"))
    page.get_by_role("link", name="Earlier rows").click()
    expect(page.get_by_role("link", name="Back to newest")).to_be_visible()
    page.goto(f"{visitor.address}/flows?group=division&group=commodity&lang=zh")
    expect(page.locator("thead th")).to_have_text(["行政区划", "煤种", "净重（吨）", "单数"])


@pytest.mark.parametrize(("language", "word"), [("zh", "时间无效"), ("en", "Not a time")])
def test_a_wrong_filter_is_marked_and_explained(visitor: Visitor, language: str, word: str) -> None:
    visitor.seen.allowed = ("400",)
    page = visitor.open("/weighings?from=yesterday", language)
    expect(page.get_by_role("alert").filter(has_text=word)).to_be_visible()
    expect(page.locator("#f-from")).to_have_attribute("aria-invalid", "true")


def test_the_desk_says_what_why_and_shows_the_payload_as_text(visitor: Visitor, stage: Stage) -> None:
    page = visitor.open("/quarantine", "en")
    item = page.locator(".item").first
    expect(item).to_contain_text("weighing.measured")
    expect(item.locator(".faults")).to_have_text("/data/mass_kg Mass (t): of a wrong type")
    item.locator("summary").click()
    expect(item.locator("pre")).to_contain_text('"mass_kg": "48,920"')
    markup = page.locator(".item").nth(1)
    markup.locator("summary").click()
    expect(markup.locator("pre")).to_have_text("<xml>not json</xml>")
    expect(markup.get_by_role("button")).to_be_hidden()
    page.get_by_label("Administrator's token").fill("secret")
    expect(markup.get_by_role("button", name="Submit again")).to_be_visible()
    expect(page.locator(".item").nth(2).get_by_role("button")).to_have_count(0)  # only its beginning is kept


def test_submitting_again_sends_the_token_in_the_header_and_says_what_became_of_it(visitor: Visitor) -> None:
    page = visitor.open("/quarantine", "en")
    sent = []
    answer = {"results": [{"id": "17", "source": "x", "status": "accepted"}]}

    def release(route: object) -> None:
        sent.append(route.request.headers["authorization"])  # type: ignore[attr-defined]
        route.fulfill(json=answer)  # type: ignore[attr-defined]

    page.route("**/v1/quarantine/*/release", release)
    page.get_by_label("Administrator's token").fill("secret")
    page.locator(".item").first.get_by_role("button", name="Submit again").click()
    expect(page.locator(".item").first.locator(".outcome")).to_have_text("accepted")
    assert sent == ["Bearer secret"]
    assert "secret" not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie + location")


@pytest.mark.parametrize(("language", "words"), [("zh", "没有这个页面"), ("en", "There is no such page")])
def test_an_unknown_address_is_a_page(visitor: Visitor, language: str, words: str) -> None:
    visitor.seen.allowed = ("404",)
    page = visitor.open("/nothing-here", language)
    expect(page.get_by_role("heading", name=words)).to_be_visible()
    page.goto(f"{visitor.address}/events/no.such")
    expect(page.get_by_role("heading", name=words)).to_be_visible()


@pytest.mark.parametrize(("language", "words"), [("zh", "暂时无法读取"), ("en", "Not available now")])
def test_a_warehouse_that_is_away_is_a_503_page(own_visitor: Visitor, own_stage: Stage, language: str, words: str) -> None:
    own_visitor.seen.allowed = ("503",)
    own_stage.recorded.failing = True
    page = own_visitor.open("/tickets", language, goto=False)
    response = page.goto(own_visitor.address + "/tickets")
    assert response is not None
    assert response.status == 503
    assert response.headers["retry-after"] == "5"
    expect(page.get_by_role("heading", name=words)).to_be_visible()


def test_print_leaves_the_tools_out(visitor: Visitor) -> None:
    page = visitor.open("/tickets", "en")
    page.emulate_media(media="print")
    expect(page.locator(".filters")).to_be_hidden()
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.locator("#rows tr").first).to_be_visible()
