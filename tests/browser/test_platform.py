"""The page over the real platform, on both deployments: what devices send stands on it, exact, while one looks."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.e2e.deployment import Deployment, deployment

__all__ = ["deployment"]

pytestmark = pytest.mark.browser

SOURCE = "urn:dev:org:32473-"
REGISTRY: list[tuple[str, dict[str, Any]]] = [
    ("district.registered", {"division": "150302", "name": "海勃湾区", "name_en": "Haibowan", "inside": True}),
    (
        "enterprise.registered",
        {"enterprise": "m1", "name": "一号煤矿", "name_en": "No. 1 Mine", "kind": "mine", "division": "150302"},
    ),
    (
        "site.registered",
        {"site": "m1", "enterprise": "m1", "name": "一号煤矿", "name_en": "No. 1 Mine", "kind": "mine", "division": "150302"},
    ),
    ("device.registered", {"device": "wb-m1", "source": f"{SOURCE}wb-m1", "kind": "weighbridge", "site": "m1"}),
    ("device.registered", {"device": "yard-m1", "source": f"{SOURCE}yard-m1", "kind": "yard", "site": "m1"}),
    (
        "device.registered",
        {"device": "em-m1", "source": f"{SOURCE}em-m1", "kind": "meter", "site": "m1", "quantity": "electricity"},
    ),
]


def event(device: str, number: int, type_: str, time: datetime, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(number),
        "source": SOURCE + device,
        "type": type_,
        "time": time.isoformat(timespec="milliseconds"),
        "data": data,
    }


async def post(deployment: Deployment, *events: dict[str, Any]) -> list[str]:
    async with deployment.client() as client:
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        answer = await client.post("/v1/events", json=list(events), headers=headers)
        assert answer.status_code in (200, 207), answer.text
        return [result["status"] for result in answer.json()["results"]]


async def send_first(deployment: Deployment) -> None:
    """A survey, an hour of load, and the gross of a truck whose tare was weighed a second before."""
    now = datetime.now(UTC)
    start = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0) - timedelta(hours=1)
    slots = [start + timedelta(minutes=15 * n) for n in range(4)]
    readings = [
        event(
            "em-m1", n + 1, "meter.read", slot + timedelta(minutes=15),
            {"meter": "em-m1", "quantity": "electricity", "reading": "interval", "value": "300.5", "unit": "kWh",
             "start": slot.isoformat(), "end": (slot + timedelta(minutes=15)).isoformat()},
        )
        for n, slot in enumerate(slots)
    ]  # fmt: skip
    survey = {"site": "m1", "commodity": "raw", "mass_kg": 9_000_000, "method": "opening"}
    statuses = await post(
        deployment,
        *readings,
        event("yard-m1", 1, "stock.surveyed", now - timedelta(seconds=30), survey),
        event(
            "wb-m1", 1, "weighing.measured", now - timedelta(seconds=2), {"plate": "蒙C11111", "mass_kg": 15_300, "axles": 6}
        ),
        event(
            "wb-m1", 2, "weighing.measured", now - timedelta(seconds=1),
            {"plate": "蒙C11111", "mass_kg": 52_340, "axles": 6, "commodity": "raw", "use": "power"},
        ),
    )  # fmt: skip
    assert statuses == ["accepted"] * 7


async def check_screen(page: Page, deployment: Deployment) -> None:
    for name in ("hours", "districts", "warnings", "weighings", "stocks", "load"):
        await expect(page.locator(f"#panel-{name}")).to_have_attribute("data-state", "full", timeout=40_000)
    await expect(page.locator("[data-kpi=out]")).to_have_text("37.040 t", timeout=40_000)
    await expect(page.locator(".wing-out .wing-value")).to_have_text("37.040")
    await expect(page.locator(".wing-in .wing-value")).to_have_text("—")
    await expect(page.locator("#panel-stocks .bar-value")).to_have_text("8,962.960 t", timeout=40_000)
    await expect(page.locator("#panel-load [data-chart]")).to_have_attribute("aria-label", re.compile("1,202 kW"))
    warning = page.locator("#panel-warnings li").filter(has_text="Overload")
    await expect(warning).to_contain_text("蒙C11111 weighed 52.340 t gross; the limit for 6 axles is 49.000 t, 3.340 t over")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_devices_send_stands_on_the_page_exact_while_one_looks(deployment: Deployment) -> None:
    await deployment.register(REGISTRY)
    await send_first(deployment)
    faults: list[str] = []
    executable = shutil.which("chromium")
    assert executable, "these tests drive Chromium: install Debian's package chromium"
    expect.set_options(timeout=20_000)
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        context = await browser.new_context(viewport={"width": 1600, "height": 900})
        page = await context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        own = (deployment.url, deployment.url.replace("http", "ws"), "data:")
        page.on("request", lambda request: None if request.url.startswith(own) else faults.append(request.url))

        await page.goto(f"{deployment.url}/?lang=en")
        await check_screen(page, deployment)
        await expect(page.locator("#live")).to_have_attribute("data-live", "on")

        # A truck that arrives while one looks: no reload.
        await page.evaluate("window.stayed = true")
        arriving = event(
            "wb-m1", 3, "weighing.measured", datetime.now(UTC), {"plate": "蒙C22222", "mass_kg": 14_820, "axles": 6}
        )
        assert await post(deployment, arriving) == ["accepted"]
        row = page.locator("#panel-weighings tbody tr").first
        await expect(row).to_contain_text("蒙C22222", timeout=20_000)
        await expect(row).to_contain_text("14.820")
        await expect(row).to_contain_text("No. 1 Mine")
        assert await page.evaluate("window.stayed") is True

        await page.goto(f"{deployment.url}/tickets")
        await expect(page.locator("#rows tr")).to_contain_text(["52.340"])
        await expect(page.locator("#rows tr")).to_contain_text(["37.040"])

        # What is refused is on the desk, with its reason and payload.
        spoilt = event("wb-m1", 4, "weighing.measured", datetime.now(UTC), {"plate": "蒙C33333", "mass_kg": "heavy"})
        assert await post(deployment, spoilt) == ["refused"]
        item = page.locator(".item")
        for _ in range(40):
            await page.goto(f"{deployment.url}/quarantine?lang=zh")
            if await item.count():
                break
            await page.wait_for_timeout(250)
        await expect(item).to_contain_text("过磅")
        await expect(item.locator(".faults")).to_contain_text("/data/mass_kg 重量（吨）: 类型不对")
        await item.locator("summary").click()
        await expect(item.locator("pre")).to_contain_text('"mass_kg": "heavy"')

        # An administrator submits again what was refused for want of a registration, once that is made.
        early = event("wb-m2", 1, "weighing.measured", datetime.now(UTC), {"plate": "蒙C44444", "mass_kg": 15_760, "axles": 6})
        assert await post(deployment, early) == ["refused"]
        await deployment.register([("device.registered", {**REGISTRY[3][1], "device": "wb-m2", "source": f"{SOURCE}wb-m2"})])
        item = page.locator(".item").filter(has_text=f"{SOURCE}wb-m2")
        for _ in range(40):
            await page.goto(f"{deployment.url}/quarantine?lang=en")
            if await item.count():
                break
            await page.wait_for_timeout(250)
        await page.get_by_label("Administrator's token").fill(deployment.token)
        await item.get_by_role("button", name="Submit again").click()
        await expect(item.locator(".outcome")).to_have_text("accepted")
        for _ in range(40):
            await page.goto(f"{deployment.url}/weighings?plate=蒙C44444")
            if await page.locator("#rows tr").count():
                break
            await page.wait_for_timeout(250)
        await expect(page.locator("#rows tr")).to_contain_text(["15.760"])

        # Every family has its page from its declaration alone.
        await page.goto(f"{deployment.url}/events/stock.surveyed")
        await expect(page.locator("#rows tr")).to_contain_text(["9,000.000"])
        await expect(page.locator("thead")).to_contain_text("Stock (t)")
        await browser.close()
    assert faults == []
