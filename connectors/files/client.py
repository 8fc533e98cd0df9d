"""Sending the events of a file: through the API, as any device does.

Rows are read ahead into lanes. All waiting events of one source lie in one lane, each lane has one request in flight, so the
events of a source arrive in the file's order while several sources go at once. At most ``READ_AHEAD`` events wait: memory
does not grow with the file.

A request that finds the platform busy (429, 503), broken (5xx) or gone is repeated, by Retry-After where there is one; an
event whose first answer was lost then comes back as a duplicate, which counts once. A refused event is not repeated.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from connectors.files.convert import Fault, Made, Skipped
from hengliu.events.family import Text

__all__ = ["BATCH", "LANES", "READ_AHEAD", "LoadError", "Loader", "Problem", "Report"]

BATCH: Final = 500
LANES: Final = 4
READ_AHEAD: Final = 40_000
"""Two households of half hours and more, so that a file in order of its meters fills more than one lane."""
KEPT_PROBLEMS: Final = 200
_SLICE: Final = 250
"""Rows converted between two looks at the network: a few tens of milliseconds."""


class LoadError(Exception):
    """The load cannot go on: the platform is not there, or refuses the requests themselves."""

    def __init__(self, text: Text) -> None:
        super().__init__(f"{text.zh} / {text.en}")
        self.text = text


@dataclass(frozen=True, slots=True)
class Problem:
    """An event that was refused, or a row that could not be read. ``errors``: (pointer, words) of each field at fault."""

    line: int
    code: str
    detail: str
    column: str = ""


@dataclass(slots=True)
class Report:
    """What became of the rows. ``rows`` counts events and what made none; the first problems are kept, all are counted."""

    results: int = 0
    accepted: int = 0
    duplicate: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(code, column) of rows that could not be read."""
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(code, column) of rows that hold no event, as the mapping declares."""
    problems: list[Problem] = field(default_factory=list)
    devices: int = 0
    retries: int = 0
    trouble: str = ""
    """What stands in the way just now: empty, ``connection``, ``busy`` or ``server``."""

    @property
    def events(self) -> int:
        return self.accepted + self.duplicate + self.refused.total()

    @property
    def settled(self) -> int:
        """Results of which it is known what became of them."""
        return self.events + self.skipped.total() + self.faults.total()

    @property
    def whole(self) -> bool:
        """Whether nothing went wrong: all rows were read, and none of their events refused."""
        return not self.refused and not self.faults

    def note(self, problem: Problem) -> None:
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)


class _Answer(msgspec.Struct):
    status: str
    problem: dict[str, Any] | None = None


class _Answers(msgspec.Struct):
    results: list[_Answer]


_decode = msgspec.json.Decoder(_Answers).decode


class _Lane:
    __slots__ = ("sources", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Made] = deque()
        self.sources: Counter[str] = Counter()


class Loader:
    """One load.

    Args:
        url: of the platform.
        token: bearer token whose scope covers the sources; with the role registrar if the mapping registers devices.
        results: what the converter made.
        registrations: (path, data) to register before anything, such as the enterprise.
        progress: called about once a second.
        patience_s: how long the platform may be away before the load ends.
        client: an HTTP client to use instead of an own one.
    """

    def __init__(
        self,
        url: str,
        token: str,
        results: Iterator[Made | Skipped | Fault],
        registrations: list[tuple[str, dict[str, Any]]],
        *,
        progress: Callable[[Report], None] | None = None,
        lanes: int = LANES,
        batch: int = BATCH,
        read_ahead: int = READ_AHEAD,
        patience_s: float = 600,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._results = results
        self._registrations = registrations
        self._progress = progress
        self._batch = batch
        self._read_ahead = read_ahead
        self._patience_s = patience_s
        self._client = client
        self._lanes = [_Lane() for _ in range(lanes)]
        self._place: dict[str, _Lane] = {}
        self._registered: dict[str, Mapping[str, Any]] = {}
        self._waiting = 0
        self._ended = False
        self._full = False
        self._changed = asyncio.Condition()
        self._told = 0.0
        self.report = Report()

    async def run(self) -> Report:
        """Register, read and send until the file ends.

        Raises:
            LoadError: it cannot go on; ``report`` says what was done until then.
        """
        if self._client is not None:
            await self._run(self._client)
            return self.report
        limits = httpx.Limits(max_connections=len(self._lanes) + 1)
        async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=10), limits=limits, trust_env=False) as client:
            await self._run(client)
        return self.report

    async def _run(self, client: httpx.AsyncClient) -> None:
        await self._first_contact(client)
        for path, data in self._registrations:
            await self._register(client, path, data)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(client))
                for lane in self._lanes:
                    group.create_task(self._send(client, lane))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        self._tell(force=True)

    async def _first_contact(self, client: httpx.AsyncClient) -> None:
        """A platform that is just starting gets ten seconds; a wrong address is told soon."""
        for remaining in range(20, -1, -1):
            try:
                await client.get(f"{self._url}/healthz", timeout=5)
            except httpx.TransportError as error:
                if not remaining:
                    raise LoadError(
                        Text(f"{self._url} 没有回应：平台在运行吗？", f"no answer from {self._url}: is the platform running?")
                    ) from error
                await asyncio.sleep(0.5)
            else:
                return

    # ---- reading

    async def _read(self, client: httpx.AsyncClient) -> None:
        count = 0
        try:
            for result in self._results:
                count += 1
                self.report.results += 1
                if isinstance(result, Made):
                    if result.device is not None and result.source not in self._registered:
                        await self._register_device(client, result)
                    if self._waiting >= self._read_ahead:
                        await self._wait_for_room()
                    self._put(result)
                elif isinstance(result, Skipped):
                    self.report.skipped[result.code, result.column] += 1
                else:
                    self.report.faults[result.code, result.column] += 1
                    self.report.note(Problem(result.line, result.code, result.value, result.column))
                if count % _SLICE == 0:
                    async with self._changed:
                        self._changed.notify_all()
                    await asyncio.sleep(0)
                    self._tell()
        finally:
            self._ended = True
            async with self._changed:
                self._changed.notify_all()

    async def _wait_for_room(self) -> None:
        async with self._changed:
            self._full = True
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._waiting < self._read_ahead)
            self._full = False

    def _put(self, made: Made) -> None:
        lane = self._place.get(made.source)
        if lane is None:
            lane = self._place[made.source] = min(self._lanes, key=lambda one: len(one.waiting))
        lane.waiting.append(made)
        lane.sources[made.source] += 1
        self._waiting += 1

    # ---- sending

    async def _send(self, client: httpx.AsyncClient, lane: _Lane) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: len(lane.waiting) >= self._batch or self._ended or (self._full and bool(lane.waiting))
                )
            if not lane.waiting:
                return
            batch = [lane.waiting[at] for at in range(min(self._batch, len(lane.waiting)))]
            await self._post(client, batch)
            for made in batch:
                lane.waiting.popleft()
                lane.sources[made.source] -= 1
                if not lane.sources[made.source]:
                    del lane.sources[made.source], self._place[made.source]
            self._waiting -= len(batch)
            async with self._changed:
                self._changed.notify_all()
            self._tell()

    async def _post(self, client: httpx.AsyncClient, batch: list[Made]) -> None:
        body = b"[" + b",".join(made.body for made in batch) + b"]"
        headers = {**self._headers, "Content-Type": "application/cloudevents-batch+json", "Accept-Language": "zh"}
        response = await self._patiently(client, f"{self._url}/v1/events", body, headers)
        if response.status_code == 413 and len(batch) > 1:
            half = len(batch) // 2
            await self._post(client, batch[:half])
            await self._post(client, batch[half:])
            return
        if response.status_code not in (200, 207):
            raise LoadError(_refused(response))
        answers = _decode(response.content).results
        if len(answers) != len(batch):
            raise LoadError(
                Text(
                    f"发送 {len(batch)} 个事件，收到 {len(answers)} 个结果", f"{len(batch)} events sent, {len(answers)} results"
                )
            )
        report = self.report
        for made, answer in zip(batch, answers, strict=True):
            if answer.status == "accepted":
                report.accepted += 1
            elif answer.status == "duplicate":
                report.duplicate += 1
            else:
                problem = answer.problem or {}
                code = str(problem.get("code", "refused"))
                report.refused[code] += 1
                details = "; ".join(f"{e.get('pointer', '')} {e.get('detail', '')}" for e in problem.get("errors", ()))
                report.note(Problem(made.line, code, details or str(problem.get("detail", "")), f"{made.source} {made.id}"))

    async def _patiently(self, client: httpx.AsyncClient, url: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """One request, repeated until it is answered.

        Raises:
            LoadError: the platform was away longer than the patience.
        """
        wait, since = 0.2, time.monotonic()
        while True:
            try:
                response = await client.post(url, content=body, headers=headers)
            except httpx.TransportError:
                self.report.trouble = "connection"
            else:
                if response.status_code != 429 and response.status_code < 500:
                    self.report.trouble = ""
                    return response
                self.report.trouble = "busy" if response.status_code in (429, 503) else "server"
                told = response.headers.get("Retry-After", "")
                wait = min(60.0, max(0.1, float(told))) if told.isdecimal() else wait
            if time.monotonic() - since > self._patience_s:
                raise LoadError(
                    Text(
                        f"平台已有 {self._patience_s:g} 秒不可用",
                        f"the platform has been unavailable for {self._patience_s:g} s",
                    )
                )
            self.report.retries += 1
            self._tell()
            await asyncio.sleep(wait)
            wait = min(10.0, wait * 2)

    # ---- registering

    async def _register_device(self, client: httpx.AsyncClient, made: Made) -> None:
        assert made.device is not None, "the caller looked"
        await self._register(client, "devices", {**made.device, "source": made.source})
        self._registered[made.source] = made.device
        self.report.devices += 1

    async def _register(self, client: httpx.AsyncClient, path: str, data: Mapping[str, Any]) -> None:
        """Registering the same again changes nothing."""
        headers = {**self._headers, "Content-Type": "application/json", "Accept-Language": "zh"}
        response = await self._patiently(client, f"{self._url}/v1/registry/{path}", msgspec.json.encode(data), headers)
        if response.status_code not in (200, 201):
            raise LoadError(_refused(response, data))

    def _tell(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._progress is not None and (force or now - self._told >= 0.5):
            self._told = now
            self._progress(self.report)


def _refused(response: httpx.Response, data: Mapping[str, Any] | None = None) -> Text:
    """Why a whole request was refused, in the platform's own words."""
    try:
        problem = response.json()
        words = f"{problem.get('code', '')}: {problem.get('detail', '')}" + "".join(
            f" {e.get('pointer', '')} {e.get('detail', '')}" for e in problem.get("errors", ())
        )
    except ValueError:
        words = response.text[:200]
    what = f" {dict(data)}" if data is not None else ""
    return Text(
        f"平台拒绝了请求（{response.status_code}）{words}{what}",
        f"the platform refused the request ({response.status_code}) {words}{what}",
    )
