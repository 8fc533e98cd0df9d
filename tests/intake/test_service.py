"""Intake on the local log: what is written, what is answered."""

from pathlib import Path

from hengliu.intake.service import Status
from tests.intake.city import DEVICE, NOW, SOURCE, running, weighing


async def test_an_accepted_event_is_stored_verbatim_with_its_scope(tmp_path: Path) -> None:
    async with running(tmp_path / "log") as city:
        value = weighing("e1-1").replace(b'"data"', b' "data" ')
        (outcome,) = await city.intake.submit(DEVICE, [value])
        assert outcome.status is Status.ACCEPTED
        assert (outcome.id, outcome.source) == ("e1-1", SOURCE)
        ((headers, stored),) = await city.records("weighing")
        assert stored == value
        assert (headers.received, headers.type, headers.principal) == (NOW, "weighing.measured", "tester")
        assert (headers.enterprise, headers.site, headers.division) == ("m01", "m01", "150303")
