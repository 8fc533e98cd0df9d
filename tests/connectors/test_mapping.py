"""Mappings: what is wrong with one is told, all of it, with its place, in both languages."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from connectors.files.command import load_command
from connectors.files.mapping import MappingFault, Template, bundled, find_mapping, read_mapping

GOOD = """
name = "heat"
title = { zh = "热量", en = "Heat" }
[file]
delimiter = ";"
[time]
column = "when"
format = "%Y-%m-%d %H:%M"
zone = "Asia/Shanghai"
[interval]
minutes = 60
stamped = "end"
[event]
type = "meter.read"
source = "urn:dev:org:32473-heat-{no}"
id = { from = "interval" }
[event.data]
meter = "heat-{no}"
quantity = "heat"
reading = "interval"
unit = "MJ"
value = { column = "heat" }
[event.device]
device = "heat-{no}"
kind = "meter"
site = "plant"
"""


def test_the_bundled_mappings_are_sound() -> None:
    names = {mapping.name for mapping in bundled()}
    assert names >= {"london-electricity", "steelworks", "alicante-water", "jersey-positions", "blantyre-gate", "metro-loads"}


def test_a_good_mapping_names_its_columns() -> None:
    assert read_mapping(GOOD, "heat.toml").columns() == {"when", "no", "heat"}


@pytest.mark.parametrize(
    ("old", "new", "place", "zh", "en"),
    [
        ('delimiter = ";"', 'delimter = ";"', "file.delimter", "没有这个键", "unknown key"),
        ("minutes = 60", "minutes = 7", "interval", "minutes（须整除一天）", "a divisor of a day"),
        ('stamped = "end"', "", "interval.stamped", "缺少这个键", "missing"),
        ('stamped = "end"', 'stamped = "middle"', "interval.stamped", "值不合适", "not acceptable"),
        ('zone = "Asia/Shanghai"', 'zone = "Asia/Shangai"', "time", "不是 IANA 时区", "no IANA time zone"),
        ('zone = "Asia/Shanghai"', "", "time", "须写 zone", "zone is needed"),
        ('column = "when"', "", "time", "须恰有一个", "exactly one"),
        ('type = "meter.read"', 'type = "meter.red"', "event 1.type", "没有这种设备事件", "no such event type"),
        ('type = "meter.read"', 'type = "weighing.recorded"', "event 1.type", "没有这种设备事件", "no such event type"),
        ('quantity = "heat"', 'quantty = "heat"', "event 1.data.quantty", "没有这个成员", "no such member"),
        ('unit = "MJ"\n', "", "event 1.data.unit", "必须有这个成员", "needs this member"),
        ('column = "heat"', 'column = "heat", unit = { from = "lb", to = "kWh" }', "value.unit", "不能换算", "do not convert"),
        ('{ column = "heat" }', '{ column = "heat", rounding = "nearest" }', "value.rounding", "值不合适", "not acceptable"),
        ('{ column = "heat" }', '{ colum = "heat" }', "value.colum", "没有这个键", "unknown key"),
        ('site = "plant"', 'place = "plant"', "event 1.device.place", "没有这个成员", "no such member"),
        ('meter = "heat-{no}"', 'meter = "heat-{no"', "event 1.data.meter", "模板写法不对", "not a template"),
        ('[interval]\nminutes = 60\nstamped = "end"', "", "event 1.id.from", "须有 [interval]", "[interval] is needed"),
        ("[time]", "[time", "", "不是 TOML", "not TOML"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_in_both_languages(old: str, new: str, place: str, zh: str, en: str) -> None:
    assert old in GOOD
    with pytest.raises(MappingFault) as caught:
        read_mapping(GOOD.replace(old, new, 1), "heat.toml")
    assert any(place in where and zh in text.zh and en in text.en for where, text in caught.value.faults), caught.value.faults


def test_all_faults_are_told_at_once() -> None:
    text = GOOD.replace('quantity = "heat"', 'quantty = "heat"').replace('unit = "MJ"\n', "")
    with pytest.raises(MappingFault) as caught:
        read_mapping(text, "heat.toml")
    assert {place for place, _ in caught.value.faults} == {
        "event 1.data.quantty", "event 1.data.quantity", "event 1.data.unit",
    }  # fmt: skip


def test_a_template_of_nothing_is_none() -> None:
    assert Template("a-{b:slug}-{{c}}").columns == ("b",)
    for text in ("{}", "{a!r}", "{a:>9}", "{"):
        with pytest.raises(ValueError, match="not a template"):
            Template(text)


def _run(tmp_path: Path, file: str, mapping: str, *, list_: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    token = tmp_path / "token"
    token.write_text("secret\n")
    console = Console(file=out, width=120)
    code = load_command(tmp_path / file if file else None, mapping, list_, "http://127.0.0.1:9", token, 0, console)
    return code, out.getvalue()


def test_the_command_lists_and_explains(tmp_path: Path) -> None:
    code, shown = _run(tmp_path, "", "", list_=True)
    assert code == 0
    for mapping in bundled():
        assert mapping.name in shown
        assert mapping.example in shown
        assert mapping.title.zh in shown
    assert _run(tmp_path, "", "")[0] == 2
    code, shown = _run(tmp_path, "a.csv", "nothing-like-it")
    assert code == 2
    assert "没有映射" in shown
    assert "no mapping" in shown
    (tmp_path / "bad.toml").write_text(GOOD.replace("delimiter", "delimter"), "utf-8")
    code, shown = _run(tmp_path, "a.csv", str(tmp_path / "bad.toml"))
    assert code == 2
    assert "file.delimter" in shown
    assert "没有这个键" in shown
    assert "unknown key" in shown


def test_a_file_without_the_columns_is_told(tmp_path: Path) -> None:
    (tmp_path / "heat.toml").write_text(GOOD, "utf-8")
    (tmp_path / "a.csv").write_text("when;nr\n2024-01-01 01:00;3\n", "utf-8")
    code, shown = _run(tmp_path, "a.csv", str(tmp_path / "heat.toml"))
    assert code == 2
    assert "没有这些列：heat, no" in shown
    assert "no column heat, no" in shown
    assert find_mapping(str(tmp_path / "heat.toml")).name == "heat"
    code, shown = _run(tmp_path, "missing.csv", str(tmp_path / "heat.toml"))
    assert code == 2
    assert "无法打开文件" in shown
