"""A process that sends events through intake and dies at a numbered step; run by ``test_intake_protocol``.

Arguments: log path, file of acknowledged ids, step to die at or ``-``, at which occurrence, guard to switch off or ``-``.
Beside intake's own steps there is ``client.heard``: the answer has reached the sender, on a disk that takes its time.
Whatever is not in the file of acknowledged ids is sent, in submissions of seven, several in flight.
"""

import asyncio
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from hengliu.intake.guards import Guards
from hengliu.intake.service import Status
from tests.intake.city import DEVICE, REGISTRAR, city_events, running, weighing

EVENTS = [(f"urn:dev:org:32473-wb-m01-{1 + n % 8}", f"e1-{n // 8}") for n in range(280)]


HEARD = "client.heard"


def known_of(acknowledged: Path) -> set[str]:
    return set(acknowledged.read_text(encoding="utf-8").split("\n")) if acknowledged.exists() else set()


async def main(log: Path, acknowledged: Path, step: str, occurrence: int, guard: str) -> None:
    seen = 0
    known = known_of(acknowledged)

    def faults(reached: str) -> None:
        nonlocal seen
        if reached == step:
            seen += 1
            if seen == occurrence:
                os._exit(9)

    def slow_disk(_: str) -> None:
        if step == HEARD:
            time.sleep(0.05)

    guards = Guards() if guard == "-" else replace(Guards(), **{guard: False})
    async with running(log, register=False, guards=guards, log_hook=slow_disk) as city:
        outcomes = await city.intake.submit(REGISTRAR, city_events())
        assert all(o.status is not Status.REFUSED for o in outcomes)
        city.intake.faults = faults
        left = [pair for pair in EVENTS if " ".join(pair) not in known]

        async def send(pairs: list[tuple[str, str]]) -> None:
            answers = await city.intake.submit(DEVICE, [weighing(id_, source) for source, id_ in pairs])
            with acknowledged.open("a", encoding="utf-8") as file:
                file.writelines(f"{answer.source} {answer.id}\n" for answer in answers if answer.status is not Status.REFUSED)
            faults(HEARD)

        for first in range(0, len(left), 28):
            part = left[first : first + 28]
            await asyncio.gather(*(send(part[n : n + 7]) for n in range(0, len(part), 7)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]))
