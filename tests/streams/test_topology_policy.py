"""Who commits sooner: what is on the way to a warning that one event decides."""

from types import SimpleNamespace
from typing import Any, cast

from hengliu.events.catalog import Catalog
from hengliu.ports.log import TaskId
from streams.kernel.task import CommitPolicy
from streams.topology import EXCHANGE, Topology


def test_tasks_on_the_way_to_a_warning_for_which_a_person_waits_commit_sooner() -> None:
    policy, waited = CommitPolicy(interval_ms=100), CommitPolicy(interval_ms=50)

    def intervals(topology: Topology) -> dict[str, int]:
        return {g: topology.build(TaskId(g, 0))._policy.interval_ms for g in topology.group_names}

    catalog = Catalog()
    log = cast("Any", SimpleNamespace(open_reader=None))  # nothing is opened here
    found = intervals(Topology(log, catalog, 1, policy=policy, waited=waited))
    assert {g for g, interval in found.items() if interval == 50} == {EXCHANGE, "vehicle", "device"}
    assert set(intervals(Topology(log, catalog, 1, policy=policy)).values()) == {100}
