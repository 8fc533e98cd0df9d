"""Names of the closed code lists in both languages: what a person reads where an event holds a code.

The lists are those of ``hengliu.events.families`` (``Literal`` types there say what is allowed; a test compares the two).
Coal names follow the product groups of GB/T 17608-2022 (煤炭产品品种和等级划分) and GB/T 5751-2009 (anthracite, lignite).
"""

from collections.abc import Collection, Mapping

from hengliu.events.family import Text

__all__ = ["CODES", "COLOUR_ORDER", "list_of", "name_of"]

COMMODITY: Mapping[str, Text] = {
    "raw": Text("原煤", "Raw coal"),
    "cleaned": Text("洗精煤", "Cleaned coal"),
    "middlings": Text("中煤", "Middlings"),
    "slime": Text("煤泥", "Coal slime"),
    "gangue": Text("矸石", "Gangue"),
    "coke": Text("焦炭", "Coke"),
    "anthracite": Text("无烟煤", "Anthracite"),
    "lignite": Text("褐煤", "Lignite"),
    "other": Text("其他", "Other"),
}

COLOUR_ORDER: tuple[str, ...] = tuple(COMMODITY)
"""A commodity keeps its colour on every chart, whichever others are on it."""

USE: Mapping[str, Text] = {
    "power": Text("发电", "Power"),
    "coking": Text("炼焦", "Coking"),
    "chemical": Text("化工", "Chemicals"),
    "heating": Text("供热", "Heating"),
    "washing": Text("洗选", "Washing"),
    "trade": Text("贸易", "Trade"),
    "building": Text("建材", "Building materials"),
    "other": Text("其他", "Other"),
}

DIRECTION: Mapping[str, Text] = {
    "in": Text("收入", "Received"),
    "out": Text("发出", "Dispatched"),
}

CITY: Mapping[str, Text] = {
    "in": Text("市外进入", "Into the city"),
    "out": Text("运往市外", "Out of the city"),
}

QUANTITY: Mapping[str, Text] = {
    "electricity": Text("电", "Electricity"),
    "water": Text("水", "Water"),
    "gas": Text("燃气", "Gas"),
    "heat": Text("热力", "Heat"),
    "steam": Text("蒸汽", "Steam"),
}

UNIT: Mapping[str, Text] = {
    "kWh": Text("kWh", "kWh"),
    "m3": Text("m³", "m³"),
    "L": Text("L", "L"),
    "GJ": Text("GJ", "GJ"),
    "MJ": Text("MJ", "MJ"),
    "t": Text("t", "t"),
    "kg": Text("kg", "kg"),
}

METER_FLOW: Mapping[str, Text] = {
    "import": Text("用入", "Import"),
    "export": Text("送出", "Export"),
}

READING: Mapping[str, Text] = {
    "interval": Text("区间值", "Interval"),
    "register": Text("表底", "Register"),
}

QUALITY: Mapping[str, Text] = {
    "measured": Text("实测", "Measured"),
    "estimated": Text("估算", "Estimated"),
}

TARE_SOURCE: Mapping[str, Text] = {
    "measured": Text("过磅", "Weighed"),
    "register": Text("登记皮重", "Register"),
}

RULE_STATUS: Mapping[str, Text] = {
    "active": Text("启用", "Active"),
    "retired": Text("停用", "Retired"),
}

PRICE_KIND: Mapping[str, Text] = {
    "quote": Text("报价", "Quote"),
    "index": Text("指数", "Index"),
}

LOAD_STAGE: Mapping[str, Text] = {
    "loaded": Text("装车", "Loaded"),
    "unloaded": Text("卸车", "Unloaded"),
    "arrived": Text("到达未回皮", "Arrived, not weighed empty"),
}

ENTERPRISE_KIND: Mapping[str, Text] = {
    "mine": Text("煤矿", "Mine"),
    "washing": Text("洗煤厂", "Washing plant"),
    "coking": Text("焦化厂", "Coking plant"),
    "power": Text("电厂", "Power plant"),
    "chemical": Text("化工厂", "Chemical works"),
    "trader": Text("贸易商", "Trader"),
    "water": Text("水务", "Water works"),
    "other": Text("其他", "Other"),
}

DEVICE_KIND: Mapping[str, Text] = {
    "weighbridge": Text("地磅", "Weighbridge"),
    "belt-scale": Text("皮带秤", "Belt scale"),
    "camera": Text("摄像机", "Camera"),
    "meter": Text("计量表", "Meter"),
    "gps": Text("定位终端", "Positioning unit"),
    "yard": Text("煤场", "Yard"),
    "market": Text("市场", "Market"),
    "loader": Text("数据装载", "Loader"),
    "other": Text("其他", "Other"),
}

REPORT_KIND: Mapping[str, Text] = {
    "heartbeat": Text("心跳", "Heartbeat"),
    "power": Text("供电", "Power supply"),
    "network": Text("网络", "Network"),
}

REPORT_STATE: Mapping[str, Text] = {
    "ok": Text("正常", "OK"),
    "backup": Text("备用", "On backup"),
    "lost": Text("中断", "Lost"),
}

VEHICLE_KIND: Mapping[str, Text] = {
    "rigid": Text("货车", "Rigid"),
    "combination": Text("汽车列车", "Combination"),
}

SURVEY_METHOD: Mapping[str, Text] = {
    "laser": Text("激光盘煤", "Laser"),
    "drone": Text("无人机", "Drone"),
    "manual": Text("人工", "Manual"),
    "opening": Text("期初", "Opening"),
}

STOCK_REASON: Mapping[str, Text] = {
    "received": Text("收煤", "Received"),
    "dispatched": Text("发煤", "Dispatched"),
    "produced": Text("产出", "Produced"),
    "consumed": Text("耗用", "Consumed"),
    "survey": Text("盘点调整", "Survey"),
}

PRICE_BASIS: Mapping[str, Text] = {
    "ex-mine": Text("坑口价", "Ex mine"),
    "delivered": Text("到厂价", "Delivered"),
    "futures-close": Text("期货收盘", "Futures close"),
}

SEVERITY: Mapping[str, Text] = {
    "high": Text("高", "High"),
    "medium": Text("中", "Medium"),
    "low": Text("低", "Low"),
}

WARNING_STATE: Mapping[str, Text] = {
    "raised": Text("未解除", "Open"),
    "updated": Text("未解除·有更新", "Open, updated"),
    "cleared": Text("已解除", "Cleared"),
}

STAGE: Mapping[str, Text] = {
    "intake": Text("接收", "Intake"),
    "stream": Text("计算", "Stream"),
}

BELT_ROLE: Mapping[str, Text] = {
    "produced": Text("产出", "Produced"),
    "consumed": Text("耗用", "Consumed"),
    "transfer": Text("转运", "Transfer"),
}

DATUM: Mapping[str, Text] = {
    "wgs84": Text("WGS-84", "WGS-84"),
    "gcj02": Text("GCJ-02", "GCJ-02"),
    "bd09": Text("BD-09", "BD-09"),
}

FINDING: Mapping[str, Text] = {
    "extreme": Text("超出历史范围", "outside the range of the past"),
    "level-shift": Text("水平突变", "another level"),
    "spike": Text("尖峰或骤降", "spike or drop"),
    "off-season": Text("偏离同时段基线", "off what is usual at this hour"),
    "unrest": Text("波动异常增大", "unusually restless"),
    "stillness": Text("波动异常减小", "unusually still"),
    "flat-line": Text("数值停滞", "standing still"),
    "drift": Text("缓慢漂移", "drifting"),
    "missing": Text("数据缺失", "without data"),
}
"""What a detector of anomalies saw."""

BASELINE: Mapping[str, Text] = {
    "long-run": Text("长期中位数", "long-run median"),
    "around": Text("此前 12 点中位数", "median of the 12 before"),
    "hour-of-week": Text("周内同时段中位数", "median of this hour of the week"),
    "hour-of-day": Text("每日同时段中位数", "median of this hour of the day"),
    "mean-step": Text("平均变幅", "usual mean step"),
    "third-run": Text("以往第三长的停滞点数", "third longest run so far"),
    "oldest-third": Text("较早三分之一的中位数", "median of the oldest third"),
    "cadence": Text("通常间隔（秒）", "usual distance (s)"),
}
"""What it compared with."""

CODES: Mapping[str, Mapping[str, Text]] = {
    "commodity": COMMODITY,
    "finding": FINDING,
    "baseline": BASELINE,
    "use": USE,
    "direction": DIRECTION,
    "city": CITY,
    "quantity": QUANTITY,
    "unit": UNIT,
    "flow": METER_FLOW,
    "reading": READING,
    "quality": QUALITY,
    "tare_source": TARE_SOURCE,
    "rule_status": RULE_STATUS,
    "price_kind": PRICE_KIND,
    "load_stage": LOAD_STAGE,
    "enterprise_kind": ENTERPRISE_KIND,
    "device_kind": DEVICE_KIND,
    "report_kind": REPORT_KIND,
    "report_state": REPORT_STATE,
    "vehicle_kind": VEHICLE_KIND,
    "method": SURVEY_METHOD,
    "stock_reason": STOCK_REASON,
    "basis": PRICE_BASIS,
    "severity": SEVERITY,
    "warning_state": WARNING_STATE,
    "stage": STAGE,
    "belt_role": BELT_ROLE,
    "datum": DATUM,
}
"""List name to code to text. A list is named after the member that holds it, unless several members share a name."""


def list_of(member: str, codes: Collection[str]) -> str:
    """Name of the list that holds all these codes, the one with the fewest others; empty if there is none.

    Of lists with the same codes the one named like the member counts.
    """
    wanted = set(codes)
    names = [name for name, held in CODES.items() if wanted <= set(held)]
    return min(names, key=lambda name: (len(CODES[name]), name != member), default="")


def name_of(list_name: str, code: str, language: str) -> str:
    """The code's name; the code itself if the list does not hold it (a newer peer may have sent it)."""
    text = CODES.get(list_name, {}).get(code)
    return text.in_language(language) if text else code
