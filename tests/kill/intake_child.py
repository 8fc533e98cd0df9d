"""A process that sends events through intake and dies at a numbered step; run by ``test_intake_protocol``.

Arguments: ``local`` and the log's path, or ``kafka`` and the broker's address; a tag of this test's sources; file of
acknowledged ids; step to die at or ``-``, and at which occurrence; guard to switch off or ``-``. Beside intake's own steps
there is ``client.heard``: the answer has reached the sender, on a disk that takes its time.
Whatever is not in the file of acknowledged ids is sent, in submissions of seven, several in flight.
"""

import asyncio
import os
import sys
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from hengliu.intake.guards import Guards
from hengliu.intake.service import Status
from hengliu.ports.log import EventLog
from infra.local_log import LocalLog
from infra.log_guards import StepHook, no_hook
from tests.intake.city import DEVICE, REGISTRAR, city_events, eventually, running, weighing


def prefix_of(tag: str) -> str:
    return f"urn:dev:org:32473-{tag}-"


def events_of(tag: str) -> list[tuple[str, str]]:
    """(source, id) of everything that is to be sent."""
    return [(f"{prefix_of(tag)}{1 + n % 8}", f"e1-{n // 8}") for n in range(280)]


def open_log(kind: str, place: str, tag: str, hook: StepHook = no_hook) -> AbstractAsyncContextManager[EventLog]:
    """Topics of a broker are shared by all tests; the tag keeps task state and sources apart."""
    if kind == "local":
        return LocalLog.open(Path(place), hook=hook)
    from infra.kafka_log import KafkaLog  # imports that a child on the local log need not pay

    return KafkaLog.open(place, prefix=tag, state_partitions=8, hook=hook)


HEARD = "client.heard"


def known_of(acknowledged: Path) -> set[str]:
    return set(acknowledged.read_text(encoding="utf-8").split("\n")) if acknowledged.exists() else set()


async def main(kind: str, place: str, tag: str, acknowledged: Path, step: str, occurrence: int, guard: str) -> None:
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
    async with running(open_log(kind, place, tag, slow_disk), register=False, guards=guards) as city:
        outcomes = await city.intake.submit(REGISTRAR, city_events(prefix=prefix_of(tag)))
        assert all(o.status is not Status.REFUSED for o in outcomes)
        await eventually(lambda: len(city.directory) >= 8)  # with an early answer the registration comes after it
        city.intake.faults = faults
        left = [pair for pair in events_of(tag) if " ".join(pair) not in known]

        async def send(pairs: list[tuple[str, str]]) -> None:
            answers = await city.intake.submit(DEVICE, [weighing(id_, source) for source, id_ in pairs])
            with acknowledged.open("a", encoding="utf-8") as file:
                file.writelines(f"{answer.source} {answer.id}\n" for answer in answers if answer.status is not Status.REFUSED)
            faults(HEARD)

        for first in range(0, len(left), 28):
            part = left[first : first + 28]
            await asyncio.gather(*(send(part[n : n + 7]) for n in range(0, len(part), 7)))


if __name__ == "__main__":
    log, address, name, heard, *rest = sys.argv[1:]
    asyncio.run(main(log, address, name, Path(heard), rest[0], int(rest[1]), rest[2]))
