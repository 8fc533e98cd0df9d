"""What a vehicle's weighings say of it: one load weighed again, a tare that is not its own, a plate that nobody saw."""

import pytest

from hengliu.events.envelope import iso_ms
from hengliu.events.families.registry import DeviceRegistered, RulePublished, VehicleRegistered
from hengliu.events.family import EventData
from streams.operators.plate_match import PlateMatch
from streams.operators.plates import differing
from streams.operators.repeated import RepeatedWeighing
from streams.operators.tare_drift import TareDrift, TareDriftPolicy, drift
from streams.operators.tickets import Tickets
from tests.operators.laws import Input, Run, in_receive_order, run
from tests.operators.passage_strategies import source
from tests.operators.strategies import BASE, DAY, HOUR, MINUTE

PLATE = "蒙C12345"
SITE = ("m01", "m01", "150303")
ELSEWHERE = ("p01", "p01", "150302")


def weighed(
    time: int,
    mass_kg: int,
    plate: str = PLATE,
    *,
    received: int | None = None,
    at: tuple[str, str, str] = SITE,
    **members: object,
) -> Input:
    data = {"plate": plate, "mass_kg": mass_kg, **members}
    device = members.pop("device", "wb-1")
    data.pop("device", None)
    return Input("weighing.measured", time if received is None else received, time, data, source(f"{at[1]}-{device}"), scope=at)


def seen(
    time: int, plate: str = PLATE, direction: str | None = "out", *, received: int | None = None, device: str = "cam-1",
    confidence: int | None = 97,
) -> Input:  # fmt: skip
    data: dict[str, object] = {"plate": plate, "lane": "l-1"}
    if direction is not None:
        data["direction"] = direction
    if confidence is not None:
        data["confidence_percent"] = confidence
    return Input("plate.captured", time if received is None else received, time, data, source(device))


def changes(found: Run) -> list[tuple[str, int]]:
    """(change, when it was derived) of every warning event, in minutes after the base."""
    return [(e.emit.type.removeprefix("warning."), (e.emit.at - BASE) // MINUTE) for e in found.emitted]


# ---- repeated weighing

KNOWN = VehicleRegistered(plate=PLATE, kind="combination", axles=6, tare_kg=15_000)
USABLE = VehicleRegistered(plate=PLATE, kind="combination", axles=6, tare_kg=15_000, tare_usable=True)


def repeats(*inputs: Input, registered: tuple[EventData, ...] = (KNOWN,)) -> Run:
    ordered = in_receive_order(inputs)
    return run((RepeatedWeighing(),), ordered, ordered[-1].received, registered)


def test_one_load_weighed_again_is_a_warning_that_names_both() -> None:
    found = repeats(weighed(BASE, 48_900), weighed(BASE + 15 * MINUTE, 48_840, device="wb-2"))
    (raised,) = found.emitted
    assert changes(found) == [("raised", 15)]
    assert (raised.emit.data["code"], raised.emit.data["subject"], raised.emit.data["severity"]) == (
        "repeated-weighing", PLATE, "medium",
    )  # fmt: skip
    assert raised.emit.data["parameters"] == {
        "weighings": "2", "first_kg": "48900", "again_kg": "48840", "first_at": iso_ms(BASE),
        "again_at": iso_ms(BASE + 15 * MINUTE),
    }  # fmt: skip
    assert raised.emit.cause == "urn:x:m01-wb-1#e0,urn:x:m01-wb-2#e1"
    assert raised.emit.data["since"] == iso_ms(BASE)


def test_a_third_time_is_the_same_warning() -> None:
    found = repeats(*(weighed(BASE + n * 20 * MINUTE, 48_900 + n) for n in range(3)))
    assert changes(found) == [("raised", 20), ("updated", 40)]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 1
    assert found.emitted[-1].emit.data["parameters"]["weighings"] == "3"


def test_where_the_registered_tare_makes_a_second_ticket_it_is_high() -> None:
    inputs = in_receive_order([weighed(BASE, 48_900), weighed(BASE + 15 * MINUTE, 48_900)])
    found = run((Tickets(), RepeatedWeighing()), inputs, BASE + 2 * DAY, (USABLE,))
    assert len(found.data("weighing.recorded")) == 2, "this is what it is about"
    assert [w["severity"] for w in found.data("warning.raised")] == ["high"]


@pytest.mark.parametrize(
    "between",
    [
        [weighed(BASE + 9 * MINUTE, 15_020)],
        [seen(BASE + 9 * MINUTE)],
        [seen(BASE + 9 * MINUTE, direction="in")],
    ],
    ids=["tare", "way out", "way in"],
)
def test_what_lies_between_two_loads_makes_them_two(between: list[Input]) -> None:
    assert repeats(weighed(BASE, 48_900), *between, weighed(BASE + 15 * MINUTE, 48_900)).emitted == []


@pytest.mark.parametrize(
    "late", [weighed(BASE + 9 * MINUTE, 15_020, received=BASE + HOUR), seen(BASE + 9 * MINUTE, received=BASE + HOUR)]
)
def test_what_lay_between_and_comes_late_clears(late: Input) -> None:
    found = repeats(weighed(BASE, 48_900), weighed(BASE + 15 * MINUTE, 48_900), late)
    assert changes(found) == [("raised", 15), ("cleared", 60)]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 1


@pytest.mark.parametrize(
    "second",
    [
        weighed(BASE + 10 * MINUTE, 48_990),
        weighed(BASE + 15 * MINUTE, 48_600),
        weighed(BASE + 4 * HOUR + 1, 48_900),
        weighed(BASE + 40 * MINUTE, 48_900, at=ELSEWHERE),
        weighed(BASE + 15 * MINUTE, 48_900, "蒙C54321"),
    ],
    ids=["second reading", "another load", "long after", "where it unloads", "another vehicle"],
)
def test_what_only_looks_like_it(second: Input) -> None:
    assert repeats(weighed(BASE, 48_900), second).emitted == []


def test_second_readings_of_both_crossings_are_two_crossings() -> None:
    times = (0, 4 * MINUTE, 20 * MINUTE, 23 * MINUTE)
    found = repeats(*(weighed(BASE + t, 48_900) for t in times))
    assert changes(found) == [("raised", 20)]
    assert found.emitted[0].emit.data["parameters"]["weighings"] == "2"


def test_an_empty_truck_may_be_weighed_as_often_as_it_likes() -> None:
    assert repeats(weighed(BASE, 15_000), weighed(BASE + 15 * MINUTE, 15_020)).emitted == []


def test_whether_an_unknown_vehicle_was_laden_shows_when_it_is_empty() -> None:
    found = repeats(
        weighed(BASE, 48_900), weighed(BASE + 15 * MINUTE, 48_900), weighed(BASE + 40 * MINUTE, 15_000), registered=()
    )
    assert changes(found) == [("raised", 40)]
    told = repeats(weighed(BASE, 48_900), weighed(BASE + 15 * MINUTE, 48_900, commodity="raw"), registered=())
    assert changes(told) == [("raised", 15)]


def test_a_scale_whose_idle_reading_is_off_hides_no_repeat() -> None:
    off = weighed(BASE + 15 * MINUTE, 48_640, device="wb-2", zero_kg=-240)
    assert changes(repeats(weighed(BASE, 48_900, zero_kg=0), off)) == [("raised", 15)]
    assert repeats(weighed(BASE, 48_900, zero_kg=0), weighed(BASE + 15 * MINUTE, 48_640)).emitted == []


def test_a_camera_at_the_scale_is_no_gate() -> None:
    camera = DeviceRegistered(device="cam-1", source=source("cam-1"), kind="camera", site="m01", watches="wb-1")
    inputs = weighed(BASE, 48_900), seen(BASE + 9 * MINUTE), weighed(BASE + 15 * MINUTE, 48_900)
    assert changes(repeats(*inputs, registered=(KNOWN, camera))) == [("raised", 15)]


def test_a_vehicle_is_forgotten_after_a_day() -> None:
    inputs = in_receive_order([weighed(BASE, 48_900), seen(BASE + HOUR)])
    found = run((RepeatedWeighing(),), inputs, BASE + HOUR + DAY)
    assert found.state["repeated-weighing", "lately"] == {}
    assert found.state["repeated-weighing", "timers"] == {}


def test_its_parameters_are_data_and_retired_it_is_silent() -> None:
    wide = RulePublished(rule="repeated-weighing", version=4, parameters={"below_percent": "1.5"})
    (raised,) = repeats(weighed(BASE, 48_900), weighed(BASE + HOUR, 48_300), registered=(KNOWN, wide)).data("warning.raised")
    assert raised["rule_version"] == 4
    retired = RulePublished(rule="repeated-weighing", version=5, parameters={}, status="retired")
    assert repeats(weighed(BASE, 48_900), weighed(BASE + HOUR, 48_900), registered=(KNOWN, retired)).emitted == []


# ---- tare drift


def emptied(number: int, tare_kg: int, *, received: int | None = None, tare_source: str = "measured") -> Input:
    time = BASE + number * 5 * HOUR
    data = {
        "enterprise": "m01", "site": "m01", "division": "150303", "plate": PLATE, "direction": "out", "gross_kg": 48_900,
        "tare_kg": tare_kg, "net_kg": 48_900 - tare_kg, "gross_time": iso_ms(time), "tare_source": tare_source,
        "commodity": "raw", "use": "power", **({"tare_time": iso_ms(time)} if tare_source == "measured" else {}),
    }  # fmt: skip
    return Input("weighing.recorded", time if received is None else received, time, data, "/streams/tickets", f"t{number}")


def drifts(*tares: int | Input, registered: tuple[EventData, ...] = ()) -> Run:
    inputs = in_receive_order([t if isinstance(t, Input) else emptied(n, t) for n, t in enumerate(tares)])
    return run((TareDrift(),), inputs, inputs[-1].received, registered)


USUAL = (15_000, 15_120, 14_900, 15_060, 14_980, 15_140)


def test_a_tare_far_from_the_usual_is_one_warning_until_it_is_usual_again() -> None:
    found = drifts(*USUAL, 15_700, 15_720, 16_300, 15_040, 15_000)
    raised, updated, cleared = found.emitted
    assert [e.emit.type for e in found.emitted] == ["warning.raised", "warning.updated", "warning.cleared"]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 1
    assert (raised.emit.data["code"], raised.emit.data["subject"], raised.emit.data["severity"]) == (
        "tare-drift",
        PLATE,
        "medium",
    )
    assert raised.emit.data["parameters"] == {
        "tare_kg": "15700", "usual_kg": "15000", "off_kg": "700", "allowed_kg": "400", "tares": "6", "ticket": "t6",
    }  # fmt: skip
    assert (raised.emit.cause, updated.emit.cause, cleared.emit.cause) == ("t6", "t8", "t9")
    assert updated.emit.data["severity"] == "high"


def test_lighter_is_drift_as_well() -> None:
    assert drifts(*USUAL, 14_400).data("warning.raised")[0]["parameters"]["off_kg"] == "-600"


def test_half_a_tank_and_mud_are_no_drift() -> None:
    assert drifts(*USUAL, 15_380, 14_680, 15_360).emitted == []


def test_few_tares_give_no_verdict() -> None:
    assert drifts(15_000, 15_000, 15_000, 15_000, 17_000).emitted == []
    assert drift([15_000] * 4, 17_000, TareDriftPolicy()) is None


def test_registered_tares_of_tickets_teach_and_accuse_nothing() -> None:
    assert drifts(*USUAL, emptied(6, 18_000, tare_source="register")).emitted == []


def test_a_new_body_that_is_registered_warns_nobody() -> None:
    old = VehicleRegistered(plate=PLATE, kind="combination", axles=6, tare_kg=15_000)
    new = VehicleRegistered.model_validate({**old.model_dump(), "tare_kg": 16_500, "valid_from": iso_ms(BASE + 29 * HOUR)})
    assert drifts(*USUAL, 16_480, 16_600, registered=(old, new)).emitted == []
    assert len(drifts(*USUAL, 16_480, 16_600, registered=(old,)).data("warning.raised")) == 1


def test_what_stays_becomes_usual() -> None:
    found = drifts(*USUAL, *[16_500] * 12)
    assert [e.emit.type for e in found.emitted] == ["warning.raised", "warning.cleared"]


def test_a_late_odd_tare_is_found_and_a_late_usual_one_clears_nothing() -> None:
    late = 9 * 5 * HOUR + BASE
    assert len(drifts(*USUAL, 15_000, emptied(2, 16_400, received=late)).data("warning.raised")) == 1
    assert drifts(*USUAL, 16_400, emptied(2, 15_000, received=late)).data("warning.cleared") == []


def test_a_vehicle_whose_tares_spread_is_given_more() -> None:
    assert drift([15_000, 15_300, 14_700, 15_250, 14_760], 15_900, TareDriftPolicy()) is not None
    spread = drift([15_000, 15_300, 14_700, 15_250, 14_760], 15_900, TareDriftPolicy())
    assert spread is not None
    assert (spread.usual_kg, spread.off_kg, spread.allowed_kg) == (15_000, 900, 1_000)
    heavy = drift([24_000] * 6, 24_500, TareDriftPolicy())
    assert heavy is not None
    assert heavy.allowed_kg == 600, "2.5 % of 24 t"


# ---- plates


def traffic(count: int, start: int = BASE, plate: str = "蒙C000") -> list[Input]:
    """Vehicles as they should be: in at the gate, weighed, weighed laden, out at the gate; ten minutes apart."""
    found: list[Input] = []
    for n in range(count):
        at, name = start + n * 10 * MINUTE, f"{plate}{n:02d}"
        found += [seen(at, name, "in"), weighed(at + 2 * MINUTE, 15_000 + n, name)]
        found += [weighed(at + 14 * MINUTE, 48_000 + n, name), seen(at + 16 * MINUTE, name, "out")]
    return found


def plates(*inputs: Input, registered: tuple[EventData, ...] = ()) -> Run:
    ordered = in_receive_order(inputs)
    return run((PlateMatch(),), ordered, ordered[-1].received + 3 * HOUR, registered)


AT = BASE + 2 * HOUR


def test_a_weighed_plate_that_nobody_saw_and_a_seen_one_that_nobody_weighed() -> None:
    found = plates(*traffic(20), seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000))
    (raised,) = found.emitted
    assert changes(found) == [("raised", 120 + 40)], "twice as long as its queue may be, after the capture"
    assert (raised.emit.data["code"], raised.emit.data["subject"], raised.emit.data["severity"]) == (
        "plate-mismatch",
        PLATE,
        "high",
    )
    assert raised.emit.data["parameters"] == {"seen": "宁A54321", "weighings": "1", "confidence_percent": "97"}
    assert raised.emit.cause.count("#") == 2
    assert raised.emit.data["since"] == iso_ms(AT + 2 * MINUTE)


def test_one_visit_under_a_false_plate_is_one_warning() -> None:
    found = plates(
        *traffic(20), seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000), weighed(AT + 14 * MINUTE, 48_000),
        seen(AT + 16 * MINUTE, "宁A54321", "out"),
    )  # fmt: skip
    assert [change for change, _ in changes(found)] == ["raised", "updated"]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 1
    assert found.emitted[-1].emit.data["parameters"]["weighings"] == "2"


def test_ordinary_traffic_raises_nothing() -> None:
    assert plates(*traffic(40)).emitted == []


@pytest.mark.parametrize(
    "unusual",
    [
        [weighed(AT, 15_000)],
        [seen(AT, "宁A54321", "in")],
        [seen(AT, "宁A54321", "in"), weighed(AT + 41 * MINUTE, 15_000)],
        [seen(AT, PLATE, "in"), seen(AT, "宁A54321", "in"), weighed(AT + 19 * MINUTE, 15_000)],
        [seen(AT, "宁A54321", "in"), seen(AT, PLATE, "in"), weighed(AT + MINUTE, 48_900), weighed(AT + 12 * MINUTE, 48_920)],
        [seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000, at=ELSEWHERE)],
    ],
    ids=["the camera missed it", "a visitor", "not about the same time", "a long queue", "weighed again", "another site"],
)
def test_what_only_looks_like_a_false_plate(unusual: list[Input]) -> None:
    assert plates(*traffic(20), *unusual).emitted == []


@pytest.mark.parametrize(
    ("read", "confidence", "severity"),
    [
        ("蒙C1234S", 70, None),
        ("蒙C1234S", None, None),
        ("蒙C1234S", 97, "medium"),
        ("蒙C12341", 70, "low"),
        ("蒙C12341", 97, "medium"),
        ("蒙C12354", 70, "high"),
        ("宁A12345", 70, "high"),
        ("蒙C12345D", 70, "high"),
    ],
)
def test_a_misread_character_is_told_from_another_plate(read: str, confidence: int | None, severity: str | None) -> None:
    found = plates(*traffic(20), seen(AT, read, "in", confidence=confidence), weighed(AT + 2 * MINUTE, 15_000))
    assert [e.emit.data["severity"] for e in found.emitted] == ([severity] if severity else [])


def test_differing_characters() -> None:
    assert (differing("蒙C12345", "蒙C12345"), differing("蒙C12345", "蒙C12354"), differing("蒙C12345", "蒙C1234")) == (0, 2, 7)
    assert (differing("B0", "8D", "8B 0D"), differing("B0", "8D")) == (0, 2)


@pytest.mark.parametrize(
    "late", [seen(AT - MINUTE, PLATE, "in", received=AT + HOUR), weighed(AT + MINUTE, 15_000, "宁A54321", received=AT + HOUR)]
)
def test_what_comes_late_and_explains_it_clears_the_warning(late: Input) -> None:
    found = plates(*traffic(20), seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000), late)
    assert changes(found) == [("raised", 160), ("cleared", 180)]
    assert len({e.emit.data["warning"] for e in found.emitted}) == 1


def test_half_a_visit_explained_is_an_update() -> None:
    visit = [
        seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000), weighed(AT + 34 * MINUTE, 48_000),
        seen(AT + 36 * MINUTE, "宁A54321", "out"), seen(AT + MINUTE, PLATE, "in", received=AT + 2 * HOUR),
    ]  # fmt: skip
    assert [change for change, _ in changes(plates(*traffic(20), *visit))] == ["raised", "updated", "updated"]


def test_a_vehicle_that_comes_again_at_once_is_seen_and_weighed_again() -> None:
    """It loads where it has just unloaded: two tares of the same mass, out and in at the gate between them."""
    visits = [
        seen(AT, PLATE, "in"), weighed(AT + 2 * MINUTE, 48_900), weighed(AT + 12 * MINUTE, 15_000),
        seen(AT + 13 * MINUTE, PLATE), seen(AT + 20 * MINUTE, PLATE, "in"),
        weighed(AT + 22 * MINUTE, 15_000), weighed(AT + 32 * MINUTE, 48_000), seen(AT + 33 * MINUTE, PLATE),
    ]  # fmt: skip
    assert plates(*traffic(20), *visits, weighed(AT + 21 * MINUTE, 15_000, "宁A54321")).emitted == [], "a camera missed one"


def queue(count: int, every_s: int = 330, jam: int = 60) -> list[Input]:
    """Vehicles that drive in while nobody is weighed, and are weighed one after another once the jam is over."""
    found: list[Input] = []
    for n in range(count):
        entered, name = AT + n * every_s * 1_000, f"宁Q100{n:02d}"
        first = AT + jam * MINUTE + n * 75_000
        found += [seen(entered, name, "in"), weighed(first, 48_000 + n, name)]
        found += [weighed(first + 15 * MINUTE, 15_000 + n, name), seen(first + 17 * MINUTE, name, "out")]
    return found


WITHOUT_INSIDE = RulePublished(rule="plate-match", version=9, parameters={"inside_s": "0"})


def test_a_queue_behind_a_dead_scale_accuses_nobody() -> None:
    assert plates(*traffic(12), *queue(12)).emitted == []


def test_without_knowing_who_is_inside_a_queue_is_taken_for_false_plates() -> None:
    assert plates(*traffic(12), *queue(12), registered=(WITHOUT_INSIDE,)).data("warning.raised")


@pytest.mark.parametrize("place", [2, 9, 11])
def test_a_false_plate_in_the_queue_is_found_and_nobody_else(place: int) -> None:
    def behind_another(item: Input) -> Input:
        if item.type == "plate.captured" and item.data["plate"] == f"宁Q100{place:02d}":
            return seen(item.time, "蒙L54321", str(item.data["direction"]))
        return item

    raised = plates(*traffic(12), *map(behind_another, queue(12))).data("warning.raised")
    assert [w["subject"] for w in raised] == [f"宁Q100{place:02d}"]


def test_who_drove_out_again_is_not_inside() -> None:
    left = [seen(AT - HOUR, PLATE, "in"), seen(AT - 50 * MINUTE, PLATE, "out")]
    visit = [seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000)]
    assert len(plates(*traffic(20), *left, *visit).data("warning.raised")) == 1
    assert plates(*traffic(20), left[0], *visit).emitted == [], "an hour ago it drove in"
    done = [weighed(AT - 58 * MINUTE, 48_900), weighed(AT - 45 * MINUTE, 15_000)]
    assert len(plates(*traffic(20), left[0], *done, *visit).data("warning.raised")) == 1, "a camera missed it on its way out"


def test_a_camera_on_one_side_only_accuses_nobody() -> None:
    entrance = [i for i in traffic(20) if i.data.get("direction") != "out"]
    assert plates(*entrance, seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000)).emitted == []


def test_a_camera_whose_clock_runs_ahead_saw_it_when_it_was_received() -> None:
    def ahead(item: Input) -> Input:
        if item.type == "weighing.measured":
            return item
        return seen(item.time + 5 * HOUR, item.data["plate"], item.data["direction"], received=item.received)

    inputs = [ahead(i) for i in traffic(20)]
    assert plates(*inputs).emitted == []
    assert len(plates(*inputs, ahead(seen(AT, "宁A54321", "in")), weighed(AT + 2 * MINUTE, 15_000)).emitted) == 1


def test_a_clock_that_ran_ahead_shows_itself_when_old_files_are_loaded() -> None:
    """The entrance camera was an hour ahead while five came in, and missed two later; all is received at the end, by device."""
    day = traffic(30)
    end = BASE + 2 * DAY

    def loaded(wrong_ms: int) -> Run:
        found: list[Input] = []
        for item in day:
            n, direction = int(str(item.data["plate"])[-2:]), item.data.get("direction")
            if direction is None:
                found.append(Input(item.type, end + 1, item.time, item.data, item.source))
            elif direction == "out":
                found.append(seen(item.time, str(item.data["plate"]), "out", device="cam-out", received=end))
            elif n not in (14, 15):
                time = item.time + (wrong_ms if 5 <= n < 10 else 0)
                found.append(seen(time, str(item.data["plate"]), "in", device="cam-in", received=end))
        return plates(*found, registered=(RulePublished(rule="plate-match", version=2, parameters={"heard_percent": "50"}),))

    assert loaded(0).emitted == []
    assert loaded(HOUR).emitted == []


def test_a_site_that_was_off_line_accuses_nobody() -> None:
    """Its scale's buffer comes before the cameras', all after it has been back for some time."""
    back = BASE + 5 * HOUR
    off = [
        Input(i.type, back + (i.type == "plate.captured") * 60_000, i.time, i.data, i.source) for i in traffic(20, AT, "宁B000")
    ]
    assert plates(*traffic(10), *off).emitted == []


SCALE_CAMERA = (
    DeviceRegistered(device="wb-1", source=source("m01-wb-1"), kind="weighbridge", site="m01"),
    DeviceRegistered(device="cam-s", source=source("cam-s"), kind="camera", site="m01", watches="wb-1"),
)


def test_a_scale_with_a_camera_of_its_own_is_judged_by_that() -> None:
    on_scale = [
        seen(i.time - 10_000, i.data["plate"], None, device="cam-s") for i in traffic(20) if i.type == "weighing.measured"
    ]
    # The gate knows the plate: it was changed inside.
    visit = [seen(AT, PLATE, "in"), seen(AT + 110_000, "宁A54321", None, device="cam-s"), weighed(AT + 2 * MINUTE, 15_000)]
    found = plates(*traffic(20), *on_scale, *visit, registered=SCALE_CAMERA)
    assert changes(found) == [("raised", 124)], "three minutes after the capture"
    assert plates(*traffic(20), *on_scale, *visit[:1], *visit[2:], registered=SCALE_CAMERA).emitted == []


def test_plates_are_judged_by_the_published_rule_and_not_by_a_retired_one() -> None:
    inputs = [*traffic(20), seen(AT, "宁A54321", "in"), weighed(AT + 6 * MINUTE, 15_000)]
    short = RulePublished(rule="plate-match", version=9, parameters={"gate_within_s": "300"})
    assert plates(*inputs, registered=(short,)).emitted == []
    wide = RulePublished(rule="plate-match", version=9, parameters={"gate_within_s": "900"})
    (raised,) = plates(*inputs, registered=(wide,)).data("warning.raised")
    assert raised["rule_version"] == 9
    retired = RulePublished(rule="plate-match", version=10, parameters={}, status="retired")
    assert plates(*inputs, registered=(retired,)).emitted == []


def test_what_is_held_of_plates_goes_with_time() -> None:
    inputs = in_receive_order([*traffic(20), seen(AT, "宁A54321", "in"), weighed(AT + 2 * MINUTE, 15_000)])
    found = run((PlateMatch(),), inputs, inputs[-1].received + 9 * HOUR, ())
    left = {table: rows for (_, table), rows in found.state.items() if table not in ("witness", "clocks")}
    assert left == {"same": {}, "other": {}, "passed": {}, "inside": {}, "timers": {}}
