"""A page server on a free port in a thread of its own, and a Chromium page that fails on what a person would not see.

Playwright's synchronous driver keeps an event loop in this thread, so browser and server live for one module only.
"""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from api.server import ApiServer
from tests.browser.stage import Recorded, stage_app

WIDE = (1600, 900)
PHONE = (390, 844)


class Stage:
    """The server: its address, its recorded rows, and a way to stop it."""

    def __init__(self, **options: Any) -> None:
        self.recorded = Recorded()
        self._options = options
        self._started = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="page server")
        self._fault: BaseException | None = None
        self.address = ""

    def __enter__(self) -> "Stage":
        self._thread.start()
        assert self._started.wait(20), "the page server did not start"
        if self._fault:
            raise self._fault
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join(15)
        assert not self._thread.is_alive(), "the page server did not stop"

    async def _serve(self) -> None:
        try:
            app, hub = stage_app(self.recorded, **self._options)
            server = ApiServer(app, "127.0.0.1", 0)
            await server.start()
        except BaseException as error:
            self._fault = error
            self._started.set()
            raise
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        self.address = f"http://127.0.0.1:{server.port}"
        live = asyncio.create_task(hub.run())
        self._started.set()
        await stopped.wait()
        live.cancel()
        await asyncio.gather(live, return_exceptions=True)
        await server.stop()


@dataclass
class Seen:
    """What a page did that no page may do."""

    faults: list[str] = field(default_factory=list)
    allowed: tuple[str, ...] = ()
    """Parts of console messages that a test causes on purpose."""

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in self.allowed):
            self.faults.append(f"console {message.type}: {message.text}")


@dataclass
class Visitor:
    """Opens pages as somebody with a language and a screen."""

    browser: Browser
    address: str
    seen: Seen
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, path: str, language: str = "zh", size: tuple[int, int] = WIDE, *, goto: bool = True, **options: Any) -> Page:
        context = self.browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        self.contexts.append(context)
        if language != "zh":
            context.add_cookies([{"name": "lang", "value": language, "url": self.address}])
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", self.seen.console)
        page.on("pageerror", lambda error: self.seen.faults.append(f"page error: {error}"))

        def requested(request: Request) -> None:
            own = (self.address, self.address.replace("http", "ws"), "data:", "about:")
            if not request.url.startswith(own):
                self.seen.faults.append(f"external request: {request.url}")

        page.on("request", requested)
        if goto:
            page.goto(self.address + path)
        return page


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert executable, "these tests drive Chromium: install Debian's package chromium (make install-tests does)"
    expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextlib.contextmanager
def visiting(stage: Stage, chromium: Browser) -> Iterator[Visitor]:
    made = Visitor(chromium, stage.address, Seen())
    yield made
    for context in made.contexts:
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")  # a handler that is still at work when the page goes is no fault
        context.close()
    assert made.seen.faults == []


@pytest.fixture
def visitor(stage: Stage, chromium: Browser) -> Iterator[Visitor]:
    """Fails the test on any external request, console message of weight or script error."""
    with visiting(stage, chromium) as made:
        yield made


@pytest.fixture
def own_stage() -> Iterator[Stage]:
    """A server of this test alone, whose rows it may change: answers are shared among askers for a while."""
    with Stage() as running:
        yield running


@pytest.fixture
def own_visitor(own_stage: Stage, chromium: Browser) -> Iterator[Visitor]:
    """A visitor of ``own_stage``."""
    with visiting(own_stage, chromium) as made:
        yield made
