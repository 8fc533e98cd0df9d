"""Takes the pictures of docs/screenshots from a running demo: ``python -m tests.browser.shots http://127.0.0.1:8000``.

Not a test. Pictures are made smaller with pngquant where the machine has it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
WIDE, PHONE = (1600, 900), (390, 844)
SHOTS = (
    ("city-screen-zh", "/", "zh", WIDE),
    ("city-screen-en", "/", "en", WIDE),
    ("city-screen-phone-zh", "/", "zh", PHONE),
    ("city-screen-phone-en", "/", "en", PHONE),
    ("tickets-zh", "/tickets", "zh", WIDE),
    ("warnings-en", "/warnings", "en", WIDE),
    ("warnings-phone-zh", "/warnings", "zh", PHONE),
    ("quarantine-zh", "/quarantine", "zh", WIDE),
    ("flows-en", "/flows?group=division&group=commodity&group=direction", "en", WIDE),
)
"""File, address, language, size."""


def main(base: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, path, language, (width, height) in SHOTS:
            context = browser.new_context(viewport={"width": width, "height": height})
            context.add_cookies([{"name": "lang", "value": language, "url": base}])
            page = context.new_page()
            page.goto(base + path)
            if path == "/":
                for panel in ("hours", "districts", "warnings", "weighings", "stocks", "load"):
                    page.wait_for_selector(f"#panel-{panel}[data-state=full]", timeout=60_000)
                page.wait_for_timeout(2_500)  # the charts' own animation
            elif path == "/quarantine":
                page.locator(".item summary").nth(1).click()
            file = FOLDER / f"{name}.png"
            page.screenshot(path=file)
            context.close()
            if pngquant := shutil.which("pngquant"):
                subprocess.run([pngquant, "--force", "--skip-if-larger", "--output", file, "256", file], check=False)
            print(f"{file.name}: {file.stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
