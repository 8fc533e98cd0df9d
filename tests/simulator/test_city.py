"""The plan: plates, registry, roads, holidays."""

from datetime import UTC, datetime

import pytest

from hengliu.events.catalog import Catalog
from simulator import almanac
from simulator.city import DISTRICTS, EXAMPLE_SITE, SIZES, SOURCE_PREFIX, City, registry
from simulator.plates import EXAMPLE_PLATE, PLATE_FORM
from simulator.roads import straight_m

CATALOG = Catalog()


@pytest.mark.parametrize("size", SIZES)
def test_every_registration_is_valid_and_names_what_came_before(size: str) -> None:
    known: dict[str, set[str]] = {"division": set(), "enterprise": set(), "site": set()}
    sources: set[str] = set()
    for type_, data in registry(City(7, size)):
        CATALOG[type_].data.model_validate(data)
        if type_ == "district.registered":
            known["division"].add(data["division"])
        for name in ("division", "enterprise", "site"):
            if name in data and type_ != f"{name}.registered" and not (name == "division" and type_ == "district.registered"):
                assert data[name] in known[name]
        if type_ in ("enterprise.registered", "site.registered"):
            known[type_.split(".")[0]].add(data[type_.split(".")[0]])
        if type_ == "device.registered":
            assert data["source"] not in sources
            sources.add(data["source"])
            assert data["source"] == SOURCE_PREFIX + data["device"]


def test_the_families_examples_can_be_posted_and_belong_to_the_example_mine_alone() -> None:
    city = City(1, "demo")
    rows = registry(city)
    site_of = {d["source"]: d["site"] for t, d in rows if t == "device.registered"}
    for type_ in ("weighing.measured", "plate.captured", "meter.read", "belt.metered", "device.reported", "vehicle.located",
                  "stock.surveyed", "price.quoted"):  # fmt: skip
        family = CATALOG[type_]
        assert site_of[family.example_source] == EXAMPLE_SITE
        assert family.example_source not in {d.source for d in city.devices()}
        assert family.example_data.get("site", EXAMPLE_SITE) == EXAMPLE_SITE
    assert EXAMPLE_SITE not in city.sites
    assert EXAMPLE_PLATE in {d["plate"] for t, d in rows if t == "vehicle.registered"}


def test_plates_are_well_formed_and_all_different() -> None:
    city = City(3, "demo")
    plates = [t.plate for t in city.trucks] + [t.trailer_plate for t in city.trucks if t.trailer_plate]
    assert len(set(plates)) == len(plates)
    assert EXAMPLE_PLATE not in plates
    assert all(PLATE_FORM.match(p) for p in plates), [p for p in plates if not PLATE_FORM.match(p)]
    new_energy = [t.plate for t in city.trucks if t.new_energy]
    assert new_energy
    assert all(len(p) == 8 for p in new_energy)


def test_another_seed_is_another_city_and_the_same_seed_the_same() -> None:
    assert registry(City(1, "demo")) == registry(City(1, "demo"))
    assert registry(City(1, "demo")) != registry(City(2, "demo"))


def test_every_delivery_has_a_way_and_ways_are_the_same_length_in_both_directions() -> None:
    city = City(5, "demo")
    for line in city.lines:
        there, back = city.roads.way(line.start, line.end), city.roads.way(line.end, line.start)
        assert there.length_m == back.length_m
        straight = straight_m(city.roads.nodes[line.start], city.roads.nodes[line.end])
        assert straight <= there.length_m < 20 * straight + 100_000
    way = city.roads.way("640221", next(iter(city.sites)))
    assert way.at(0)[:2] == (way.nodes[0].latitude_e7, way.nodes[0].longitude_e7)
    assert way.at(way.length_m)[:2] == (way.nodes[-1].latitude_e7, way.nodes[-1].longitude_e7)


def test_three_districts_of_the_city_and_others_outside() -> None:
    assert {code for code, _, _, inside in DISTRICTS if inside} == {"150302", "150303", "150304"}
    assert {s.division for s in City(1, "demo").sites.values()} == {"150302", "150303", "150304"}


@pytest.mark.parametrize(
    ("text", "holiday"),
    [
        ("2026-02-14T15:59:59Z", False),
        ("2026-02-14T16:00:00Z", True),
        ("2026-02-23T15:59:59Z", True),
        ("2026-02-23T16:00:00Z", False),
        ("2026-10-07T00:00:00Z", True),
        ("2026-03-02T00:00:00Z", False),
    ],
)
def test_holidays_begin_and_end_at_local_midnight(text: str, holiday: bool) -> None:
    ms = int(datetime.fromisoformat(text).timestamp() * 1000)
    assert almanac.is_holiday(ms) is holiday


def test_local_days_and_hours() -> None:
    ms = int(datetime(2026, 3, 1, 17, 30, tzinfo=UTC).timestamp() * 1000)
    assert almanac.local_hour(ms) == 1
    assert almanac.local_date(ms).isoformat() == "2026-03-02"
    assert almanac.local_date(almanac.day_start(ms)).isoformat() == "2026-03-02"
    assert almanac.day_start(ms) <= ms < almanac.day_start(ms) + almanac.DAY_MS
    assert almanac.works_percent("mine", ms) == 115
