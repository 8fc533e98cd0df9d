"""The city screen in Chromium: panels, live rows, drill-down, states, both languages, desk and phone."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import PHONE, WIDE, Stage, Visitor

pytestmark = pytest.mark.browser

PANELS = ("hours", "districts", "warnings", "weighings", "stocks", "load")
HEADINGS = {
    "zh": ("每小时发出煤量", "各区今日收发", "预警", "过磅实况", "各场所库存", "负荷曲线"),
    "en": ("Coal dispatched per hour", "Districts today", "Warnings", "Weighings arriving", "Stock per site", "Load curve"),
}
WIDTH = "document.documentElement.scrollWidth"


def wait_full(page: Page) -> None:
    for name in PANELS:
        expect(page.locator(f"#panel-{name}")).to_have_attribute("data-state", "full")
    expect(page.locator("#kpis")).to_have_attribute("data-state", "full")


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_screen_fills_live_without_overflow(visitor: Visitor, language: str, size: tuple[int, int]) -> None:
    page = visitor.open("/", language, size)
    wait_full(page)
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    for heading in HEADINGS[language]:
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    assert page.locator("canvas").count() == 2
    assert page.evaluate(WIDTH) == size[0]
    if size == WIDE:
        assert page.evaluate("document.documentElement.scrollHeight") == size[1], "the screen fits one display"
    assert page.locator("html").get_attribute("lang") == ("zh-CN" if language == "zh" else "en")


def test_weighings_arrive_while_one_looks(visitor: Visitor) -> None:
    page = visitor.open("/")
    wait_full(page)
    first = page.locator("#panel-weighings tbody tr").first
    before = first.get_attribute("data-id")
    expect(first).not_to_have_attribute("data-id", before or "", timeout=10_000)
    expect(page.locator("#panel-weighings tbody tr.fresh").first).to_be_visible()


def test_masses_are_exact_tonnes(visitor: Visitor, stage: Stage) -> None:
    page = visitor.open("/")
    wait_full(page)
    kilograms = stage.recorded.overview({})[0]["net_out_kg_today"]
    whole, rest = divmod(kilograms, 1000)
    expect(page.locator("[data-kpi=out]")).to_have_text(f"{whole:,}.{rest:03d} 吨")


def test_unknown_stock_is_not_zero(visitor: Visitor) -> None:
    page = visitor.open("/", "en")
    wait_full(page)
    row = page.locator("#panel-stocks li", has_text="Kabuqi mine")
    expect(row).to_have_class("bar-unknown")
    expect(row.locator(".bar-value")).to_have_text("Unknown")


def test_a_bar_leads_to_its_tickets(visitor: Visitor) -> None:
    page = visitor.open("/", "en")
    wait_full(page)
    page.locator(".wing-out").nth(1).click()
    page.wait_for_url(re.compile(r"/tickets\?division=150303&direction=out&gross_from=\d{4}-\d{2}-\d{2}$"))
    expect(page.get_by_label("Direction")).to_have_value("out")
    page.go_back()
    wait_full(page)
    # The highest bar of raw coal: which hour that is, and whether any place has one, depends on the time of day.
    x, y = page.evaluate(
        """() => {
            const chart = echarts.getInstanceByDom(document.querySelector("#panel-hours [data-chart]"));
            const raw = chart.getOption().series[0].data.map((kg) => (typeof kg === "number" ? kg : 0));
            const most = raw.indexOf(Math.max(...raw));
            return chart.convertToPixel({ seriesIndex: 0 }, [most, raw[most] / 2]);
        }"""
    )
    page.locator("#panel-hours [data-chart]").click(position={"x": x, "y": y})
    page.wait_for_url(re.compile(r"/tickets\?direction=out&commodity=raw&gross_from=[0-9+:%A-]+&gross_to="))
    expect(page.get_by_label("Gross from")).to_be_visible()
    expect(page.get_by_label("Commodity")).to_have_value("raw")


def test_pointing_at_a_bar_tells_its_parts(visitor: Visitor) -> None:
    """ECharts writes its tooltip into the page: under the Content-Security-Policy, without a console error."""
    page = visitor.open("/", "en")
    wait_full(page)
    chart = page.locator("#panel-hours [data-chart]")
    box = chart.bounding_box()
    assert box is not None
    chart.hover(position={"x": box["width"] * 0.55, "y": box["height"] * 0.6})
    expect(page.locator(".tip-row").filter(has_text="Raw coal")).to_contain_text(re.compile(r"\d\.\d{3} t$"))
    page.locator("#panel-load [data-chart]").hover()
    expect(page.locator(".tip-row").filter(has_text="Electricity")).to_contain_text(re.compile(r"[\d,.]+ kW$"))


def test_another_meter_is_chosen(visitor: Visitor) -> None:
    page = visitor.open("/", "en")
    wait_full(page)
    page.get_by_label("Choose a meter").select_option("em-p01-1")
    expect(page.locator("#panel-load")).to_have_attribute("data-state", "full")
    expect(page.locator("#panel-load [data-chart]")).to_have_attribute("aria-label", re.compile("^Haibowan power station"))


def test_the_language_switch_keeps_the_choice(visitor: Visitor) -> None:
    page = visitor.open("/")
    page.get_by_role("link", name="Switch to English").click()
    expect(page.get_by_role("heading", name="Stock per site")).to_be_visible()
    page.goto(visitor.address + "/stocks")
    expect(page.get_by_role("heading", name="Stocks")).to_be_visible()
    page.get_by_role("link", name="切换为中文").click()
    expect(page.get_by_role("heading", name="库存")).to_be_visible()


@pytest.mark.parametrize(("language", "word"), [("zh", "正在读取"), ("en", "Loading")])
def test_loading_is_said(own_visitor: Visitor, own_stage: Stage, language: str, word: str) -> None:
    own_stage.recorded.slow = True
    page = own_visitor.open("/", language)
    for name in PANELS:
        expect(page.locator(f"#panel-{name} .state-loading")).to_contain_text(word)
        expect(page.locator(f"#panel-{name}")).to_have_attribute("aria-busy", "true")
    own_stage.recorded.slow = False
    wait_full(page)


EMPTY = {
    "zh": ("没有未解除的预警", "尚无库存数据", "尚无过磅记录"),
    "en": ("No open warnings", "No stock yet", "No weighings yet"),
}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_empty_is_said_and_is_not_zero(own_visitor: Visitor, own_stage: Stage, language: str) -> None:
    own_stage.recorded.empty = True
    page = own_visitor.open("/", language)
    for name in ("hours", "warnings", "weighings", "stocks", "load"):
        expect(page.locator(f"#panel-{name}")).to_have_attribute("data-state", "empty")
    for word in EMPTY[language]:
        expect(page.get_by_text(word)).to_be_visible()
    # Districts are registered, so their names stand, with dashes.
    expect(page.locator("#panel-districts .wing-value").first).to_have_text("—")
    expect(page.locator("[data-kpi=as_of]")).to_have_text("—")


@pytest.mark.parametrize(("language", "retry"), [("zh", "重试"), ("en", "Try again")])
def test_failing_is_said_and_can_be_tried_again(visitor: Visitor, language: str, retry: str) -> None:
    visitor.seen.allowed = ("503",)
    page = visitor.open("/", language, goto=False)
    page.route("**/screen/*", lambda route: route.fulfill(status=503))
    page.goto(visitor.address)
    for name in PANELS:
        expect(page.locator(f"#panel-{name}")).to_have_attribute("data-state", "failed")
    page.unroute("**/screen/*")
    page.locator("#panel-stocks").get_by_role("button", name=retry).click()
    expect(page.locator("#panel-stocks")).to_have_attribute("data-state", "full")


def test_what_was_shown_stays_and_is_marked_when_reading_fails_later(visitor: Visitor) -> None:
    visitor.seen.allowed = ("503", "WebSocket")
    page = visitor.open("/", "en")
    wait_full(page)

    def refuse(route: Route) -> None:
        route.fulfill(status=503)

    page.route("**/screen/stocks*", refuse)
    expect(page.locator("#panel-stocks")).to_have_attribute("data-stale", "", timeout=20_000)
    expect(page.locator("#panel-stocks .panel-time")).to_contain_text("Not updated")
    expect(page.locator("#panel-stocks")).to_have_attribute("data-state", "full")


def test_a_lost_live_line_is_said(visitor: Visitor) -> None:
    page = visitor.open("/", "en", goto=False)
    page.route_web_socket("**/v1/live", lambda socket: socket.close())
    page.goto(visitor.address)
    expect(page.locator("#live")).to_have_text("Disconnected, retrying")


def test_a_line_that_falls_silent_is_taken_for_lost(visitor: Visitor) -> None:
    page = visitor.open("/", "en", goto=False)
    page.clock.install()
    page.route_web_socket("**/v1/live", lambda socket: None)  # opens, and says nothing
    page.goto(visitor.address)
    expect(page.locator("#live")).to_have_text("Live")
    script = "new MutationObserver(() => (window.said ??= []).push(live.textContent)).observe(live, { attributes: true })"
    page.evaluate(f"const live = document.getElementById('live'); {script}")
    page.clock.run_for(30_000)
    assert "Disconnected, retrying" in page.evaluate("window.said.join()")


def test_old_figures_are_marked(visitor: Visitor) -> None:
    page = visitor.open("/", "en", goto=False)

    def age(route: Route) -> None:
        answer = route.fetch()
        document = answer.json()
        document["known_at"] -= 700_000
        route.fulfill(response=answer, json=document)

    page.route("**/screen/overview*", age)
    page.goto(visitor.address)
    expect(page.locator(".kpi-time")).to_have_attribute("data-old", "")


def test_the_keyboard_reaches_everything(visitor: Visitor) -> None:
    page = visitor.open("/", "en")
    wait_full(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    reached = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.className + '#' + document.activeElement.id"))
    for wanted in ("panel-source#", "wing-out#", "#meter", "language#", "#full"):
        assert any(wanted in one for one in reached), f"{wanted} is not reached by Tab"


def test_reduced_motion_is_honoured(visitor: Visitor) -> None:
    page = visitor.open("/", "en", reduced_motion="reduce")
    wait_full(page)
    assert page.evaluate("getComputedStyle(document.querySelector('.live i')).animationName") == "none"


def test_without_javascript_the_screen_leads_to_the_tables(visitor: Visitor) -> None:
    page = visitor.open("/", "en", java_script_enabled=False)
    expect(page.get_by_text("The table pages do not:")).to_be_visible()
    expect(page.locator(".board")).to_be_hidden()
    page.locator(".without-script").get_by_role("link", name="Tickets").click()
    expect(page.get_by_role("heading", name="Tickets")).to_be_visible()


def test_text_has_contrast(visitor: Visitor) -> None:
    """WCAG 2.1, 1.4.3 (AA): 4.5:1 for normal text, 3:1 for large, over the nearest painted background colour."""
    script = """() => {
      const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
      const light = ([r, g, b]) => { const f = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
      const behind = (node) => { for (let n = node; n; n = n.parentElement) { const c = rgb(getComputedStyle(n).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return rgb(getComputedStyle(document.documentElement).backgroundColor); };
      const faults = [];
      const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) {
        const node = walk.currentNode.parentElement;
        if (!walk.currentNode.textContent.trim() || !node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || node.closest(".visually-hidden, script, noscript, option")) continue;
        const style = getComputedStyle(node);
        const a = light(rgb(style.color)), b = light(behind(node));
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
        if (ratio < (large ? 3 : 4.5)) faults.push(`${ratio.toFixed(2)} ${node.className} ${node.textContent.trim().slice(0, 30)}`);
      }
      return faults;
    }"""  # noqa: E501
    for path in ("/", "/tickets", "/warnings", "/quarantine", "/about"):
        page = visitor.open(path, "en")
        if path == "/":
            wait_full(page)
        assert page.evaluate(script) == [], path
