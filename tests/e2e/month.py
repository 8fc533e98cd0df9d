"""A simulated month through the whole platform: every figure equals the simulator's ledger.

``python -m tests.e2e.month --engine local|kafka [--days 30]``; tests/e2e/test_city.py is the short form.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from simulator.city import City, registry
from simulator.cli import progress_line
from simulator.run import Feeder, Progress, wall_ms
from tests.e2e.figures import settled
from tests.kill.platform import deployed

DAY_MS = 86_400_000


async def main(engine: str, days: int, seed: int) -> int:
    began = time.monotonic()
    told = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told > 15:
            told = time.monotonic()
            print(progress_line(progress), flush=True)

    with tempfile.TemporaryDirectory(prefix="hengliu-month-") as folder:
        async with deployed(engine, Path(folder)) as (deployment, _):
            await deployment.start()
            city = City(seed, "month")
            await deployment.register(registry(city))
            until = wall_ms() // DAY_MS * DAY_MS
            start = until - days * DAY_MS
            feeder = Feeder(city, deployment.url, deployment.token, start=start, until=until, progress=tell)
            report = await feeder.run()
            fed = time.monotonic() - began
            balance = feeder.world.ledger.as_of(until, time_outs=False)
            async with deployment.client(timeout=120) as client:
                faults = await settled(client, lambda: balance, start, until, 300)
    print(
        f"{engine}: {days} days, {report.accepted} events accepted in {fed:.0f} s, {len(balance.tickets)} tickets, "
        f"{len(balance.flows)} flow cells, {len(balance.stock)} stocks, {len(balance.consumption)} intervals, "
        f"{len(balance.overloads)} overloads; unexpected answers: {report.unexpected_count}; differences: {faults or 'none'}; "
        f"{time.monotonic() - began:.0f} s in all"
    )
    return 1 if faults or report.unexpected_count else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "kafka"), default="local")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    sys.exit(asyncio.run(main(arguments.engine, arguments.days, arguments.seed)))
