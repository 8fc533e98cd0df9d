"""The requests of the README, sent as they stand there."""

import re
from pathlib import Path

import orjson

from tests.api.conftest import running

README = Path(__file__).parents[2] / "README.md"


async def test_the_requests_of_the_readme_are_answered_as_it_says(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    (body,) = re.findall(r"curl -s \S+/v1/events .*? -d '(.*?)'$", text, re.S | re.M)
    (kind,) = re.findall(r"-H 'Content-Type: ([^']+)'", text)
    reads = re.findall(r"curl -s '?localhost:8000(/\S+?)'?$", text, re.M)
    assert len(reads) == 2
    event = orjson.loads(body)
    async with running(tmp_path) as api:
        headers = {**api.bearer("device"), "Content-Type": kind}
        for mass, status in (
            (event["data"]["mass_kg"], "accepted"),
            (event["data"]["mass_kg"], "duplicate"),
            (event["data"]["mass_kg"] + 20, "refused"),
        ):
            sent = orjson.dumps({**event, "data": {**event["data"], "mass_kg": mass}})
            answer = await api.client.post("/v1/events", content=sent, headers=headers)
            assert answer.json()["results"][0]["status"] == status, answer.text
        for path in reads:
            answer = await api.client.get(path, headers=api.bearer("everything"))
            assert answer.status_code == 200, answer.text
        for path in re.findall(r"`GET (/\S+)`", text):
            assert (await api.client.get(path)).status_code == 200, path
