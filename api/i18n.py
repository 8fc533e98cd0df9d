# ruff: noqa: E501 - one text a line reads better than one text a paragraph
"""What the pages say, in Chinese and English, and how they write times, masses and counts.

Owns: page texts, sentences of warning codes, and the formats. Does not own: names of code lists
(``hengliu.reference.codes``), field labels (titles in the models of ``hengliu.events.families``), words of refusals
(``hengliu.reference.problems``). No event holds a sentence: a sentence is a code's template filled with the event's parameters when read.

A template's places are ``{name}`` or ``{name:kind}``; kinds are those of ``_PLACES``. A parameter that is missing is shown as
a dash, never as zero.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final
from zoneinfo import ZoneInfo

from hengliu.events.family import Text
from hengliu.reference.codes import name_of

__all__ = [
    "DASH",
    "LANGUAGES",
    "TEXTS",
    "WARNINGS",
    "ZONE",
    "WarningWords",
    "count",
    "decimal_text",
    "duration",
    "fill",
    "language_from",
    "page_text",
    "time_text",
    "tonnes",
    "warning_text",
]

LANGUAGES: Final = ("zh", "en")
ZONE: Final = ZoneInfo("Asia/Shanghai")
DASH: Final = "—"
"""Stands for what is not known; never 0."""

TEXTS: Mapping[str, Text] = {
    # Frame of every page
    "brand": Text("衡流", "Hengliu"),
    "tagline": Text("煤炭、电、水的流向：衡器与计量表所见", "Where coal, power and water went, as scales and meters saw it"),
    "skip": Text("跳到正文", "Skip to content"),
    "nav": Text("主导航", "Main"),
    "nav.screen": Text("城市大屏", "City screen"),
    "nav.weighings": Text("过磅", "Weighings"),
    "nav.tickets": Text("磅单", "Tickets"),
    "nav.shipments": Text("运输", "Shipments"),
    "nav.flows": Text("流量", "Flows"),
    "nav.load-curves": Text("负荷曲线", "Load curves"),
    "nav.stocks": Text("库存", "Stocks"),
    "nav.warnings": Text("预警", "Warnings"),
    "nav.quarantine": Text("隔离区", "Quarantine"),
    "nav.enterprises": Text("企业", "Enterprises"),
    "nav.sites": Text("场所", "Sites"),
    "nav.districts": Text("行政区划", "Districts"),
    "nav.devices": Text("设备", "Devices"),
    "nav.vehicles": Text("车辆", "Vehicles"),
    "nav.rules": Text("规则", "Rules"),
    "nav.meters": Text("计量点", "Meters"),
    "nav.about": Text("说明", "About"),
    "language.other": Text("English", "中文"),
    "language.switch": Text("Switch to English", "切换为中文"),
    "zone": Text("北京时间", "Beijing time"),
    "zone.long": Text("北京时间（UTC+8）", "Beijing time (UTC+8)"),
    "footer.source": Text(
        "所有数字由事件推算，可逐条追溯到原始记录",
        "Every figure is computed from events and can be followed to the raw records",
    ),
    "footer.api": Text("接口文档", "API reference"),
    "no-script": Text(
        "本页的实时图表需要 JavaScript。下列表格页不需要：",
        "The live charts on this page need JavaScript. The table pages do not:",
    ),
    "assets-missing": Text(
        "图表库尚未安装，请在服务器上运行：python tools/fetch_assets.py",
        "The chart library is not installed; on the server, run: python tools/fetch_assets.py",
    ),
    # City screen
    "screen.title": Text("城市大屏", "City screen"),
    "screen.city": Text("煤炭流向与用能监管", "Coal flow and energy supervision"),
    "screen.full": Text("全屏", "Full screen"),
    "kpi": Text("今日概况", "Today at a glance"),
    "kpi.out": Text("今日发出", "Dispatched today"),
    "kpi.in": Text("今日收入", "Received today"),
    "kpi.weighings": Text("今日过磅", "Weighings today"),
    "kpi.warnings": Text("未解除预警", "Open warnings"),
    "kpi.devices": Text("在线设备", "Devices on line"),
    "kpi.as-of": Text("数据截至", "Data as of"),
    "kpi.tickets": Text("{count:count} 张磅单", "{count:count} tickets"),
    "kpi.of": Text("共 {count:count} 台", "of {count:count}"),
    "kpi.high": Text("高级 {count:count} 条", "{count:count} high"),
    "unit.t": Text("吨", "t"),
    "panel.hours": Text("每小时发出煤量", "Coal dispatched per hour"),
    "panel.hours.note": Text("吨，按煤种，最近 24 小时", "tonnes by coal type, last 24 hours"),
    "panel.districts": Text("各区今日收发", "Districts today"),
    "panel.districts.note": Text("收入与发出", "received and dispatched"),
    "panel.weighings": Text("过磅实况", "Weighings arriving"),
    "panel.weighings.note": Text("最新在前", "newest first"),
    "panel.stocks": Text("各场所库存", "Stock per site"),
    "panel.stocks.note": Text("账面库存，按煤种", "book stock by coal type"),
    "panel.load": Text("负荷曲线", "Load curve"),
    "panel.load.note": Text("最近 24 小时", "last 24 hours"),
    "panel.warnings": Text("预警", "Warnings"),
    "panel.warnings.note": Text("未解除，严重者在前", "open, most severe first"),
    "panel.time": Text("数据时间", "Data time"),
    "panel.source": Text("明细", "Table"),
    "panel.meter": Text("选择计量点", "Choose a meter"),
    "panel.more": Text("另有 {count:count} 项，见明细", "{count:count} more in the table"),
    "state.loading": Text("正在读取……", "Loading …"),
    "state.failed": Text("读取失败", "Could not be read"),
    "state.failed.means": Text(
        "平台没有应答。图中数字未更新，不代表数值为零。",
        "The platform did not answer. What is shown is not up to date; it does not mean zero.",
    ),
    "state.retry": Text("重试", "Try again"),
    "state.stale": Text("未更新", "Not updated"),
    "empty.hours": Text("最近 24 小时没有磅单", "No tickets in the last 24 hours"),
    "empty.hours.means": Text("车辆完成毛重与皮重后生成磅单。", "A ticket is made when a vehicle has both gross and tare."),
    "empty.districts": Text("今日尚无收发", "Nothing moved yet today"),
    "empty.districts.means": Text("自零时（北京时间）起计。", "Counted from midnight, Beijing time."),
    "empty.weighings": Text("尚无过磅记录", "No weighings yet"),
    "empty.weighings.means": Text("地磅上传后立即显示在这里。", "They appear here as soon as a weighbridge sends one."),
    "empty.stocks": Text("尚无库存数据", "No stock yet"),
    "empty.stocks.means": Text("有盘点或收发后才能推算库存。", "Stock follows from a survey, receipts and dispatches."),
    "empty.load": Text("该计量点最近 24 小时没有读数", "No readings of this meter in the last 24 hours"),
    "empty.load.means": Text("没有读数不等于没有用量。", "No readings is not the same as no consumption."),
    "empty.warnings": Text("没有未解除的预警", "No open warnings"),
    "empty.warnings.means": Text("规则正在运行，发现问题会立即显示。", "The rules are running; findings appear at once."),
    "stock.unknown": Text("未知", "Unknown"),
    "stock.unknown.means": Text(
        "没有期初或盘点，只知道变化，不知道总量", "No opening or survey: changes are known, the total is not"
    ),
    "stock.changed": Text("已知变化 {mass_kg:t} 吨", "known change {mass_kg:t} t"),
    "stock.cell": Text("未知（变化 {mass_kg:t}）", "unknown (change {mass_kg:t})"),
    "chart.hours": Text("最近 24 小时共发出 {total} 吨：{series}", "{total} t dispatched in the last 24 hours: {series}"),
    "chart.load": Text("{meter}：最近 {last}，最低 {low}，最高 {high}", "{meter}: latest {last}, lowest {low}, highest {high}"),
    "empty.hour": Text("无磅单", "no tickets"),
    "total": Text("合计", "Total"),
    "direction.in": Text("收入", "Received"),
    "direction.out": Text("发出", "Dispatched"),
    # Live line
    "live.connecting": Text("正在连接", "Connecting"),
    "live.on": Text("实时", "Live"),
    "live.off": Text("已断开，重连中", "Disconnected, retrying"),
    "live.polling": Text("定时刷新", "Refreshing on a timer"),
    # Table pages
    "table.filters": Text("筛选", "Filters"),
    "table.apply": Text("查询", "Apply"),
    "table.reset": Text("清除", "Clear"),
    "table.all": Text("全部", "All"),
    "table.print": Text("打印", "Print"),
    "table.json": Text("JSON 接口", "JSON"),
    "table.more": Text("更早的记录", "Earlier rows"),
    "table.newest": Text("回到最新", "Back to newest"),
    "table.end": Text("没有更早的记录", "No earlier rows"),
    "table.empty": Text("没有符合条件的记录", "No rows match"),
    "table.empty.means": Text(
        "换一个时间范围或清除筛选再试。没有记录不代表数值为零。",
        "Try another time range or clear the filters. No rows does not mean zero.",
    ),
    "table.rows": Text("本页 {count:count} 行", "{count:count} rows here"),
    "table.read-at": Text("查询于 {time}", "Read at {time}"),
    "table.known": Text("数据截至 {time}", "Data as of {time}"),
    "table.busy": Text("正在查询……", "Reading …"),
    "table.failed": Text(
        "查询失败，表中仍是上次的结果。请重试。", "The query failed; the table still shows the previous result. Try again."
    ),
    "table.bad-time": Text(
        "时间无效，写法如 2026-03-01 或 2026-03-01 08:00", "Not a time; write 2026-03-01 or 2026-03-01 08:00"
    ),
    "table.span": Text("未选开始时间：最近 {days} 天", "No start chosen: the last {days} days"),
    "table.scroll": Text("可横向滚动的表格", "Table, scrolls sideways"),
    "filter.from": Text("开始时间", "From"),
    "filter.to": Text("结束时间", "To"),
    "filter.enterprise": Text("企业", "Enterprise"),
    "filter.site": Text("场所", "Site"),
    "filter.division": Text("行政区划", "Division"),
    "filter.plate": Text("车牌号", "Plate"),
    "filter.commodity": Text("煤种", "Commodity"),
    "filter.use": Text("用途", "Use"),
    "filter.direction": Text("方向", "Direction"),
    "filter.city": Text("市界", "City boundary"),
    "filter.group": Text("汇总维度", "Group by"),
    "filter.meter": Text("计量点", "Meter"),
    "filter.quantity": Text("介质", "Quantity"),
    "filter.slot": Text("时段", "Slot"),
    "filter.source": Text("事件来源", "Event source"),
    "filter.state": Text("状态", "State"),
    "filter.severity": Text("级别", "Severity"),
    "filter.code": Text("类型", "Code"),
    "filter.reason": Text("原因", "Reason"),
    "filter.principal": Text("发送方", "Sender"),
    "filter.id": Text("编号", "Id"),
    "filter.subject": Text("对象", "Subject"),
    "filter.flow": Text("流向", "Flow"),
    "filter.warning": Text("预警编号", "Warning id"),
    "filter.stage": Text("环节", "Stage"),
    "filter.refused_source": Text("来源", "Source"),
    "filter.refused_type": Text("事件类型", "Event type"),
    "filter.as_of": Text("截至（已知时间）", "As known at"),
    "filter.more": Text("更多条件", "More filters"),
    "filter.time.hint": Text("2026-03-01 08:00", "2026-03-01 08:00"),
    "slot.0": Text("原始区间", "Intervals as read"),
    "slot.15": Text("15 分钟", "15 minutes"),
    "slot.30": Text("30 分钟", "30 minutes"),
    "slot.60": Text("1 小时", "1 hour"),
    "slot.1440": Text("1 天", "1 day"),
    "group.hour": Text("小时", "Hour"),
    "group.enterprise": Text("企业", "Enterprise"),
    "group.division": Text("行政区划", "Division"),
    "group.commodity": Text("煤种", "Commodity"),
    "group.use": Text("用途", "Use"),
    "group.direction": Text("方向", "Direction"),
    "group.origin": Text("起运地", "Origin"),
    "group.destination": Text("到达地", "Destination"),
    "yes": Text("是", "Yes"),
    "no": Text("否", "No"),
    # Column labels that no model field carries
    "column.sent": Text("{label}（上报）", "{label} (as sent)"),
    "column.id": Text("事件编号", "Event id"),
    "column.source": Text("事件来源", "Event source"),
    "column.time": Text("发生时间", "Time"),
    "column.site": Text("场所", "Site"),
    "column.mass_kg": Text("重量", "Mass"),
    "column.text": Text("说明", "What"),
    # Page introductions
    "page.weighings.intro": Text(
        "车辆每次过磅一行。重量由地磅上传，未经改动。",
        "One row per crossing of a scale, as the weighbridge sent it.",
    ),
    "page.tickets.intro": Text(
        "同一车辆在同一场所的毛重与皮重合成一张磅单，净重等于毛重减皮重。",
        "Gross and tare of one vehicle at one site make a ticket; net is gross less tare.",
    ),
    "page.shipments.intro": Text(
        "一车煤的装车与卸车磅单按运单号（没有时按车牌）合为一行。",
        "The loading and unloading tickets of one load in one row: by waybill, or without one by plate.",
    ),
    "page.flows.intro": Text(
        "磅单按小时、企业、区、煤种、用途与方向汇总；选择维度可改变汇总口径。",
        "Tickets summed by hour, enterprise, district, coal type, use and direction; choose what to group by.",
    ),
    "page.load-curves.intro": Text(
        "计量点每个时段的用量与平均负荷。没有读数的时段不出现，不按零计。",
        "Consumption and average load of a meter per slot. A slot without readings is absent, not zero.",
    ),
    "page.stocks.intro": Text(
        "期初或盘点加收发变化。没有期初与盘点的场所，总量未知，只列变化。",
        "An opening or survey plus what moved since. Without either, the total is unknown and only the change is listed.",
    ),
    "page.warnings.intro": Text(
        "由规则发现，注明规则与版本。参数变化会更新，原因消除即解除。",
        "Found by rules; each names rule and version. Updated as parameters change, cleared when the cause is gone.",
    ),
    "page.quarantine.intro": Text(
        "平台拒收或无法处理的来件：是什么、为什么、原文。可核对后重新提交。",
        "What was refused or could not be processed: what, why, and the payload as it came. It can be checked and submitted again.",
    ),
    "page.enterprises.intro": Text("登记的企业，取最新一版。", "Registered enterprises, the latest version of each."),
    "page.sites.intro": Text("登记的场所，取最新一版。", "Registered sites, the latest version of each."),
    "page.districts.intro": Text("登记的行政区划。", "Registered divisions."),
    "page.devices.intro": Text(
        "登记的设备。事件的企业、场所与区划由设备登记决定，不由上报内容决定。",
        "Registered devices. Enterprise, site and division of an event come from its device's registration, never from its claim.",
    ),
    "page.vehicles.intro": Text(
        "登记的车辆，含总质量限值所需的轴数与车型。",
        "Registered vehicles, with the axles and kind that gross-mass limits need.",
    ),
    "page.rules.intro": Text(
        "已发布的规则版本；没有发布过的规则按缺省参数执行。",
        "Published versions of rules; a rule without any goes by its declared defaults.",
    ),
    "page.meters.intro": Text(
        "有用量的计量点，以及已登记、尚无用量的。", "Meters with consumption, and registered ones that have none yet."
    ),
    "page.events.intro": Text("{type} 类事件，最新在前。", "Events of type {type}, newest first."),
    "events.schema": Text("数据结构", "Schema"),
    "events.others": Text("全部事件类型", "All event types"),
    # Quarantine
    "quarantine.field": Text("字段", "Field"),
    "quarantine.payload": Text("原文", "Payload"),
    "quarantine.size": Text("{count:count} 字节", "{count:count} bytes"),
    "quarantine.truncated": Text("只保存了前 {count:count} 字节", "Only the first {count:count} bytes are kept"),
    "quarantine.binary": Text("不是文本，以十六进制显示", "Not text; shown in hexadecimal"),
    "quarantine.no-type": Text("类型不明的来件", "Item of unknown type"),
    "quarantine.from": Text("发送方", "Sent by"),
    "quarantine.digest": Text("摘要", "SHA-256"),
    "quarantine.release": Text("重新提交", "Submit again"),
    "quarantine.release.means": Text(
        "按现在的规则与登记重新检查，通过即入账。", "Checked again under today's rules and registry; accepted if it passes."
    ),
    "fault.field-type": Text("类型不对", "of a wrong type"),
    "fault.field-value": Text("不是允许的值", "not one of the allowed values"),
    "fault.field-range": Text("超出范围", "out of range"),
    "fault.field-length": Text("长度不对", "of a wrong length"),
    "fault.field-form": Text("格式不对", "malformed"),
    "fault.field-digits": Text("位数过多", "has too many digits"),
    "fault.unit-mismatch": Text("单位与介质不符", "the unit does not fit the quantity"),
    "fault.rule-unknown": Text("没有这条规则", "no such rule"),
    "fault.rule-not-retirable": Text("这条规则不可停用", "this rule cannot be retired"),
    "fault.rule-version": Text("此版本号即缺省值，不得另有内容", "this version number stands for the defaults"),
    "fault.rule-parameter-unknown": Text("规则没有这个参数", "the rule has no such parameter"),
    "fault.rule-parameter-value": Text("参数不能取此值", "not a value of this parameter"),
    "quarantine.token": Text("管理员令牌", "Administrator's token"),
    "quarantine.token.means": Text(
        "填入后可重新提交；令牌只用于请求，不保存。",
        "Needed to submit again; it is used for the request alone and kept nowhere.",
    ),
    "quarantine.empty": Text("隔离区是空的", "Quarantine is empty"),
    "quarantine.empty.means": Text("没有来件被拒收。", "Nothing was refused."),
    "status.accepted": Text("已接收", "accepted"),
    "status.duplicate": Text("重复，已有同一事件", "duplicate; the event is already held"),
    "status.refused": Text("仍被拒收", "still refused"),
    # About
    "about.title": Text("说明", "About"),
    "about.what": Text("这里显示什么", "What this shows"),
    "about.what.text": Text(
        "衡流接收地磅、皮带秤、计量表、摄像机和人工盘点的事件，配成磅单，汇总流量，推算库存与负荷，并按规则发出预警。页面上的数字都由事件算出，没有人工填写的数字。",
        "Hengliu takes events from weighbridges, belt scales, meters, cameras and surveys, pairs them into tickets, sums flows, follows stocks and "
        "loads, and raises warnings by rule. Every figure on these pages is computed from events; none is typed in.",
    ),
    "about.times": Text("时间", "Times"),
    "about.times.text": Text(
        "每条记录有两个时间：发生时间与获知时间。页面显示北京时间（UTC+8），日与月按北京时间划分；接口使用 UTC。补传的旧记录计入其发生的时段，不影响当前窗口。",
        "Each record has two times: when it happened and when it became known. Pages show Beijing time (UTC+8), days and months are those of Beijing; "
        "the API speaks UTC. Old records that arrive late count where they happened and disturb no current window.",
    ),
    "about.missing": Text("缺失不是零", "Missing is not zero"),
    "about.missing.text": Text(
        "没有读数、没有盘点、没有应答，都显示为未知或空缺，不显示为零。",
        "No reading, no survey, no answer: each is shown as unknown or absent, never as zero.",
    ),
    "about.units": Text("单位", "Units"),
    "about.units.text": Text(
        "重量以整数千克保存与求和，以吨显示三位小数，不作舍入。用量为定点小数。",
        "Masses are kept and summed in whole kilograms and shown in tonnes with three decimals, unrounded. Consumption is exact decimals.",
    ),
    "about.sources": Text("数据来源", "Where the figures come from"),
    "about.figure": Text("画面", "Figure"),
    "about.origin": Text("来自", "From"),
    "about.refresh": Text("更新", "Updated"),
    "about.hours.origin": Text("磅单按毛重时间所在小时汇总", "Tickets summed by the hour of the gross weighing"),
    "about.districts.origin": Text("磅单按场所所在区汇总，自零时起", "Tickets summed by the site's district since midnight"),
    "about.weighings.origin": Text("地磅上传的过磅", "Crossings sent by weighbridges"),
    "about.stocks.origin": Text("盘点、磅单与皮带秤", "Surveys, tickets and belt scales"),
    "about.load.origin": Text("计量表的区间值与表底差", "Interval readings and register differences"),
    "about.warnings.origin": Text("规则的发布、更新与解除", "Raised, updated and cleared by rules"),
    "about.live": Text("随到随新", "as it arrives"),
    "about.every": Text("有新数据后数秒内", "within seconds of new data"),
    "about.registry": Text("登记", "Registry"),
    "about.events": Text("事件类型", "Event types"),
    "about.licences": Text("第三方组件", "Third-party components"),
    "about.licences.text": Text(
        "图表：Apache ECharts（Apache-2.0）；表格交互：htmx（0BSD）。许可证全文：",
        "Charts: Apache ECharts (Apache-2.0); table interaction: htmx (0BSD). Full licences:",
    ),
    # Errors
    "error.404": Text("没有这个页面", "There is no such page"),
    "error.404.means": Text("地址可能有误，或内容已移走。", "The address may be wrong, or what was here has moved."),
    "error.400": Text("请求无法理解", "The request was not understood"),
    "error.400.means": Text("请检查筛选条件。", "Check the filters."),
    "error.403": Text("没有权限", "Not allowed"),
    "error.403.means": Text("您的权限不包含这些数据。", "Your rights do not cover this data."),
    "error.503": Text("暂时无法读取", "Not available now"),
    "error.503.means": Text(
        "数据仍在，平台正忙或正在启动。请稍后重试。", "The data is safe; the platform is busy or starting. Try again shortly."
    ),
    "error.back": Text("回到城市大屏", "Back to the city screen"),
    "error.again": Text("重试", "Try again"),
}
"""Page texts by key. Keys that JavaScript uses are listed in ``api.pages.SCRIPT_TEXTS``."""


@dataclass(frozen=True, slots=True)
class WarningWords:
    """Words of one warning code: its short name, and sentences.

    Of several sentences the first counts whose parameters the event has (what stands in a warning may differ between raised
    and cleared); without any, the name stands alone.
    """

    name: Text
    sentences: tuple[Text, ...]


WARNINGS: Mapping[str, WarningWords] = {
    "overload": WarningWords(
        Text("超限", "Overload"),
        (
            Text(
                "{subject} 毛重 {gross_kg:t} 吨，{axles} 轴限 {limit_kg:t} 吨，超 {over_kg:t} 吨",
                "{subject} weighed {gross_kg:t} t gross; the limit for {axles} axles is {limit_kg:t} t, {over_kg:t} t over",
            ),
        ),
    ),
    "tare-missing": WarningWords(
        Text("缺皮重", "Tare missing"),
        (
            Text(
                "{subject} 于 {weighed_at:time} 过磅 {mass_kg:t} 吨，未见皮重，不能成单",
                "{subject} weighed {mass_kg:t} t at {weighed_at:time}; no tare followed, so there is no ticket",
            ),
        ),
    ),
    "gross-missing": WarningWords(
        Text("缺毛重", "Gross missing"),
        (
            Text(
                "{subject} 于 {weighed_at:time} 空车过磅 {mass_kg:t} 吨，未见毛重",
                "{subject} weighed {mass_kg:t} t empty at {weighed_at:time}; no gross followed",
            ),
        ),
    ),
    "shipment-quantity": WarningWords(
        Text("装卸量不符", "Load differs"),
        (
            Text(
                "{subject} 装 {loaded_kg:t} 吨，{to_place} 卸 {unloaded_kg:t} 吨，亏 {short_kg:t} 吨，允差 {tolerance_kg:t} 吨",
                "{subject} loaded {loaded_kg:t} t; {to_place} received {unloaded_kg:t} t: {short_kg:t} t short, {tolerance_kg:t} t allowed",
            ),
            Text(
                "{subject} 装 {loaded_kg:t} 吨，{to_place} 卸 {unloaded_kg:t} 吨，涨 {over_kg:t} 吨，允差 {tolerance_kg:t} 吨",
                "{subject} loaded {loaded_kg:t} t; {to_place} received {unloaded_kg:t} t: {over_kg:t} t more, {tolerance_kg:t} t allowed",
            ),
        ),
    ),
    "shipment-commodity": WarningWords(
        Text("装卸煤种不符", "Commodity differs"),
        (
            Text(
                "{subject} 装的是{loaded:commodity}，{to_place} 卸的是{unloaded:commodity}",
                "{subject} loaded {loaded:commodity}; {to_place} received {unloaded:commodity}",
            ),
        ),
    ),
    "shipment-plate": WarningWords(
        Text("装卸车牌不符", "Plate differs"),
        (
            Text(
                "运单 {shipment} 由 {subject} 装车，在 {to_place} 由 {unloaded_plate} 卸车",
                "Waybill {shipment} was loaded by {subject} and unloaded at {to_place} by {unloaded_plate}",
            ),
        ),
    ),
    "shipment-late": WarningWords(
        Text("运输超时", "Late on the way"),
        (
            Text(
                "{subject} 到 {to_place} 用时 {took_s:seconds}，限 {limit_s:seconds}",
                "{subject} took {took_s:seconds} to {to_place}; {limit_s:seconds} are allowed",
            ),
        ),
    ),
    "shipment-missing": WarningWords(
        Text("装车未到", "Load missing"),
        (
            Text(
                "{subject} 于 {loaded_at:time} 装 {net_kg:t} 吨运往 {destination_place}，后到 {to_place}",
                "{subject} loaded {net_kg:t} t for {destination_place} at {loaded_at:time}, and came to {to_place} since",
            ),
            Text(
                "{subject} 于 {loaded_at:time} 装 {net_kg:t} 吨运往 {destination_place}，超过 {limit_s:seconds}未到",
                "{subject} loaded {net_kg:t} t for {destination_place} at {loaded_at:time}; nothing arrived within {limit_s:seconds}",
            ),
        ),
    ),
    "position-contradiction": WarningWords(
        Text("定位不符", "Position contradicts"),
        (
            Text(
                "{subject} 于 {weighed_at:time} 过磅，{located_at:time} 的定位却在 {distance_m:count} 米外",
                "{subject} was weighed at {weighed_at:time}; at {located_at:time} its position was {distance_m:count} m away",
            ),
        ),
    ),
    "device-silent": WarningWords(
        Text("设备静默", "Device silent"),
        (
            Text(
                "{subject} 自 {since:time} 起没有数据，超过 {silence_after_s:seconds}",
                "Nothing from {subject} since {since:time}, longer than {silence_after_s:seconds}",
            ),
            Text("{subject} 自 {since:time} 起静默", "{subject} was silent from {since:time}"),
        ),
    ),
    "supply-cut": WarningWords(
        Text("停秤过车", "Weighing cut off"),
        (
            Text(
                "{subject} 的 {scales} 台衡器自 {since:time} 起没有数据，其间门岗仍过车 {passages} 次，驶出 {left} 次",
                "The {scales} scales of {subject} are dark since {since:time}; the gates counted {passages} passages, {left} leaving",
            ),
        ),
    ),
    "power-lost": WarningWords(
        Text("供电异常", "Power"),
        (Text("{subject} 供电：{state:report}", "{subject}: power supply {state:report}"),),
    ),
    "network-lost": WarningWords(
        Text("网络异常", "Network"),
        (Text("{subject} 网络：{state:report}", "{subject}: network {state:report}"),),
    ),
    "meter-replaced": WarningWords(
        Text("疑似换表", "Meter replaced"),
        (
            Text(
                "{subject} 表底由 {before:decimal} 变为 {after:decimal} {unit:unit}，按换表处理",
                "The register of {subject} went from {before:decimal} to {after:decimal} {unit:unit}; taken for a new meter",
            ),
        ),
    ),
    "totaliser-reset": WarningWords(
        Text("累计清零", "Totaliser reset"),
        (
            Text(
                "{subject} 累计由 {before:t} 变为 {after:t} 吨，按清零处理",
                "The totaliser of {subject} went from {before:t} to {after:t} t; taken for a reset",
            ),
        ),
    ),
    "register-interleaved": WarningWords(
        Text("表底交错", "Registers interleaved"),
        (
            Text(
                "{subject} 交替上传 {registers} 个表底：{values} {unit:unit}",
                "{subject} sends {registers} registers in turn: {values} {unit:unit}",
            ),
            Text(
                "{subject} 的表底 {ended} {unit:unit} 不再出现", "Register {ended} {unit:unit} of {subject} is no longer sent"
            ),
        ),
    ),
    "reading-implausible": WarningWords(
        Text("读数可疑", "Implausible reading"),
        (
            Text(
                "{subject} 有 {readings} 个读数与前后不符，未计入：{values} {unit:unit}",
                "{readings} readings of {subject} fit neither before nor after and are not counted: {values} {unit:unit}",
            ),
        ),
    ),
    "late-beyond-horizon": WarningWords(
        Text("过迟", "Too late"),
        (
            Text(
                "{subject} 有 {readings:count} 个读数到达过迟，未能计入",
                "{readings:count} readings of {subject} came too late to be counted",
            ),
            Text(
                "{subject} {commodity:commodity} 有 {surveys:count} 次盘点到达过迟，最近一次 {mass_kg:t} 吨",
                "{surveys:count} surveys of {commodity:commodity} at {subject} came too late, the latest of {mass_kg:t} t",
            ),
        ),
    ),
    "survey-outside-scope": WarningWords(
        Text("越权盘点", "Survey of another site"),
        (
            Text(
                "登记在 {place} 的设备上报了 {subject} 的{commodity:commodity}盘点 {mass_kg:t} 吨，未采用",
                "A device registered at {place} surveyed {mass_kg:t} t of {commodity:commodity} at {subject}; it is not used",
            ),
        ),
    ),
    "meter-gap": WarningWords(
        Text("读数中断", "Readings interrupted"),
        (
            Text(
                "{subject} 自 {since:time} 起 {seconds:seconds} 没有读数，其间用量为估算",
                "No readings of {subject} for {seconds:seconds} from {since:time}; consumption in between is estimated",
            ),
            Text("{subject} 自 {since:time} 起的中断已补读", "The readings of {subject} missing from {since:time} have come"),
        ),
    ),
    "series-anomaly": WarningWords(
        Text("负荷异常", "Abnormal load"),
        (
            Text(
                "{subject} {quantity:quantity}负荷{finding:finding}：{observed} {unit}，{baseline:baseline} {baseline_value} {unit}，"
                "为离散度的 {deviation} 倍",
                "{subject}, {quantity:quantity} load {finding:finding}: {observed} {unit}, {baseline:baseline} {baseline_value} {unit}, "
                "{deviation} spreads off",
            ),
            Text(
                "{subject} {quantity:quantity}负荷{finding:finding}：{observed}，{baseline:baseline} {baseline_value}",
                "{subject}, {quantity:quantity} load {finding:finding}: {observed}, {baseline:baseline} {baseline_value}",
            ),
            Text("{subject} {quantity:quantity}负荷恢复正常", "The {quantity:quantity} load of {subject} is usual again"),
        ),
    ),
    "sales-abnormal": WarningWords(
        Text("销售量异常", "Abnormal sales"),
        (
            Text(
                "{subject} 于 {day} 售出 {sold_kg:t} 吨，通常 {baseline_kg:t} 吨（{baseline_days} 天的中位数），"
                "偏差 {deviation_percent}%，为离散度的 {score} 倍",
                "{subject} sold {sold_kg:t} t on {day}, usually {baseline_kg:t} t (median of {baseline_days} days): "
                "{deviation_percent} % off, {score} spreads",
            ),
            Text("{subject} 于 {day} 售出 {sold_kg:t} 吨", "{subject} sold {sold_kg:t} t on {day}"),
        ),
    ),
    "price-abnormal": WarningWords(
        Text("价格异常", "Abnormal price"),
        (
            Text(
                "{subject} {commodity:commodity}报价 {price_fen_per_t:fen} 元/吨，同类 {peers} 家中位数 {peers_fen_per_t:fen} 元/吨"
                "（偏差 {peers_percent}%），指数 {index_fen_per_t:fen} 元/吨（偏差 {index_percent}%）",
                "{subject} quotes {price_fen_per_t:fen} CNY/t for {commodity:commodity}; the median of {peers} peers is "
                "{peers_fen_per_t:fen} CNY/t ({peers_percent} % off), the index {index_fen_per_t:fen} CNY/t ({index_percent} % off)",
            ),
            Text(
                "{subject} {commodity:commodity}报价 {price_fen_per_t:fen} 元/吨，同类 {peers} 家中位数 {peers_fen_per_t:fen} 元/吨"
                "（偏差 {peers_percent}%）",
                "{subject} quotes {price_fen_per_t:fen} CNY/t for {commodity:commodity}; the median of {peers} peers is "
                "{peers_fen_per_t:fen} CNY/t ({peers_percent} % off)",
            ),
            Text(
                "{subject} {commodity:commodity}报价 {price_fen_per_t:fen} 元/吨，指数 {index_fen_per_t:fen} 元/吨"
                "（偏差 {index_percent}%）",
                "{subject} quotes {price_fen_per_t:fen} CNY/t for {commodity:commodity}; the index is {index_fen_per_t:fen} CNY/t "
                "({index_percent} % off)",
            ),
            Text(
                "{subject} {commodity:commodity}报价 {price_fen_per_t:fen} 元/吨",
                "{subject} quotes {price_fen_per_t:fen} CNY/t for {commodity:commodity}",
            ),
        ),
    ),
    "plate-mismatch": WarningWords(
        Text("车牌不符", "Plate mismatch"),
        (
            Text(
                "{subject} 过磅 {weighings:count} 次，同时抓拍到的是 {seen}",
                "{subject} was weighed {weighings:count} times; the camera saw {seen}",
            ),
        ),
    ),
    "repeated-weighing": WarningWords(
        Text("重复过磅", "Repeated weighing"),
        (
            Text(
                "{subject} 同一车煤过磅 {weighings:count} 次：{first_at:time} {first_kg:t} 吨，{again_at:time} {again_kg:t} 吨",
                "{subject} was weighed {weighings:count} times with one load: {first_kg:t} t at {first_at:time}, {again_kg:t} t at {again_at:time}",
            ),
            Text("{subject} 两次过磅之间已有空车或出场记录", "{subject} was empty, or outside, between the two weighings"),
        ),
    ),
    "tare-drift": WarningWords(
        Text("皮重异常", "Tare drift"),
        (
            Text(
                "{subject} 皮重 {tare_kg:t} 吨，平常 {usual_kg:t} 吨，相差 {off_kg:t} 吨，允许 {allowed_kg:t} 吨",
                "{subject} weighed {tare_kg:t} t empty; usual are {usual_kg:t} t: {off_kg:t} t off, {allowed_kg:t} t allowed",
            ),
        ),
    ),
    "weight-curve-step": WarningWords(
        Text("称重曲线突变", "Step in the weight curve"),
        (
            Text(
                "{subject} 称 {plate} 时，静止的示值由 {before_kg:t} 吨突变为 {after_kg:t} 吨",
                "While {plate} stood on {subject}, the reading jumped from {before_kg:t} t to {after_kg:t} t",
            ),
        ),
    ),
    "idle-not-zero": WarningWords(
        Text("空秤不归零", "Idle scale not at zero"),
        (
            Text(
                "{subject} 空秤示值 {zero_kg:count} 千克，允许 {tolerance_kg:count} 千克",
                "{subject} shows {zero_kg:count} kg when idle; {tolerance_kg:count} kg are allowed",
            ),
            Text("{subject} 空秤示值 {zero_kg:count} 千克", "{subject} shows {zero_kg:count} kg when idle"),
        ),
    ),
    "scale-not-calibrated": WarningWords(
        Text("衡器未检定", "Scale not verified"),
        (
            Text(
                "{subject} 在用，检定有效期至 {calibrated_until:time}",
                "{subject} is in use; its verification holds until {calibrated_until:time}",
            ),
            Text("{subject} 在用，未登记检定", "{subject} is in use; no verification is registered"),
        ),
    ),
}
"""Warning code to its words. ``subject``, ``since``, ``place`` (the name of its site), ``to_place`` and ``destination_place`` (the
names of a load's site and division) may stand beside the event's parameters. A test holds that every code that an operator raises stands here."""


def page_text(key: str, language: str, **parameters: object) -> str:
    """The text of a key, with its places filled.

    Raises:
        KeyError: no catalogue holds the key; a page never shows a bare key.
    """
    return fill(TEXTS[key].in_language(language), parameters, language)


def language_from(query: str | None, cookie: str | None) -> str:
    """Language of a page: the ``lang`` parameter, else the cookie, else Chinese."""
    for wish in (query, cookie):
        if wish in LANGUAGES:
            return str(wish)
    return "zh"


def tonnes(kilograms: int) -> str:
    """Kilograms as tonnes, exactly: ``48920`` gives ``48.920``, with thousands separators."""
    sign = "−" if kilograms < 0 else ""
    whole, rest = divmod(abs(kilograms), 1000)
    return f"{sign}{whole:,}.{rest:03d}"


def count(value: int) -> str:
    """A count with thousands separators."""
    return f"{value:,}".replace("-", "−")


def decimal_text(value: Decimal, places: int | None = None) -> str:
    """A decimal with thousands separators; trailing zeros cut, or exactly ``places`` fractional digits shown."""
    if places is None:
        text = f"{value:,f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
    else:
        text = f"{value:,.{places}f}"
    return text.replace("-", "−")


def time_text(value: datetime, *, seconds: bool = True) -> str:
    """A UTC time as it reads in Beijing: ``2026-03-01 10:10:00``."""
    local = value.astimezone(ZONE)
    return local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def duration(seconds: int, language: str) -> str:
    """A span in its two largest units: ``1 h 20 min``."""
    units = (
        (86_400, Text("天", "d")),
        (3_600, Text("小时", "h")),
        (60, Text("分", "min")),
        (1, Text("秒", "s")),
    )
    parts: list[str] = []
    rest = abs(seconds)
    for size, name in units:
        amount, rest = divmod(rest, size)
        if amount or (size == 1 and not parts):
            parts.append(f"{amount} {name.in_language(language)}" if language == "en" else f"{amount}{name.zh}")
        if len(parts) == 2:
            break
    return " ".join(parts) if language == "en" else "".join(parts)


def _integer(value: object) -> int:
    return int(str(value))


def _as_time(value: object) -> datetime:
    """A time from an aware datetime, RFC 3339 text or epoch milliseconds."""
    if isinstance(value, datetime):
        return value
    text = str(value)
    if re.fullmatch(r"-?[0-9]{1,17}", text):
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


_PLACES: Mapping[str, Callable[[object, str], str]] = {
    "t": lambda value, _: tonnes(_integer(value)),
    "count": lambda value, _: count(_integer(value)),
    "decimal": lambda value, _: decimal_text(Decimal(str(value))),
    "fen": lambda value, _: decimal_text(Decimal(str(value)) / 100, 2),
    "time": lambda value, _: time_text(_as_time(value)),
    "seconds": lambda value, language: duration(_integer(value), language),
    "milliseconds": lambda value, language: duration(_integer(value) // 1000, language),
    "commodity": lambda value, language: name_of("commodity", str(value), language),
    "direction": lambda value, language: name_of("direction", str(value), language),
    "quantity": lambda value, language: name_of("quantity", str(value), language),
    "unit": lambda value, language: name_of("unit", str(value), language),
    "finding": lambda value, language: name_of("finding", str(value), language),
    "baseline": lambda value, language: name_of("baseline", str(value), language),
    "report": lambda value, language: name_of("report_state", str(value), language),
}
"""Kinds of places. A value that its kind cannot read is shown as it came."""

_PLACE = re.compile(r"\{([a-z_]+)(?::([a-z]+))?\}")


def fill(template: str, parameters: Mapping[str, object], language: str) -> str:
    """A template with its places filled; what is missing becomes a dash."""

    def place(match: re.Match[str]) -> str:
        value = parameters.get(match[1])
        if value is None or value == "":
            return DASH
        if not match[2]:
            return str(value)
        try:
            return _PLACES[match[2]](value, language)
        except (ValueError, InvalidOperation, OverflowError):
            return str(value)

    return _PLACE.sub(place, template)


def warning_text(
    code: str, parameters: Mapping[str, object], language: str, about: Mapping[str, object] | None = None
) -> tuple[str, str]:
    """Short name and sentence of a warning, from its parameters and from ``about`` (subject, since, names of its place).

    An unknown code is shown with its parameters: a missing text hides nothing.
    """
    words = WARNINGS.get(code)
    if words is None:
        return code, ", ".join(f"{name} = {value}" for name, value in sorted(parameters.items()))
    parameters = {**(about or {}), **parameters}
    for sentence in words.sentences:
        template = sentence.in_language(language)
        if all(parameters.get(name) not in (None, "") for name, _ in _PLACE.findall(template)):
            return words.name.in_language(language), fill(template, parameters, language)
    return words.name.in_language(language), ""
