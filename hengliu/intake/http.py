"""The way to intake from another process: the same HTTP interface that devices use."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec

__all__ = ["HttpIntake"]

BACK_OFF_S = 0.5


class _Result(msgspec.Struct):
    status: str


class _Answer(msgspec.Struct):
    results: list[_Result]


_decoder = msgspec.json.Decoder(_Answer)


class HttpIntake:
    """Posts CloudEvents until they are answered. Repeating a request is harmless: intake drops what it has."""

    def __init__(self, url: str, token_path: Path) -> None:
        self._token_path = token_path
        self._client = httpx.AsyncClient(base_url=url, timeout=30)

    async def submit(self, events: Sequence[bytes]) -> Sequence[str]:
        """Status of each event, once all are durable.

        Raises:
            httpx.HTTPStatusError: the platform refuses this client (token, size), which waiting does not mend.
        """
        body = b"[" + b",".join(events) + b"]"
        while True:
            token = self._token_path.read_text(encoding="ascii").strip()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/cloudevents-batch+json"}
            try:
                answer = await self._client.post("/v1/events", content=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(BACK_OFF_S)
                continue
            if answer.status_code in (429, 503):
                await asyncio.sleep(float(answer.headers.get("Retry-After", BACK_OFF_S)))
                continue
            answer.raise_for_status()
            return [result.status for result in _decoder.decode(answer.content).results]

    async def close(self) -> None:
        await self._client.aclose()
