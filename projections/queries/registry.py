"""The registry as it stands: the latest version of every registration, for labels and pickers.

Latest is the greatest ``valid_from`` (absent: since always), then the greatest receive time.
"""

# ruff: noqa: S608  (the pieces are constants of this package; values are bound by name)

from hengliu.events.family import Text
from projections.queries.parts import DIVISION, boolean, decimal, divisions, integer, json, latest, text, texts, time
from projections.queries.query import NamedQuery, ScopeColumns

__all__ = ["QUERIES"]

_ENTERPRISE = text("enterprise", "企业", "Enterprise")
_SITE = text("site", "场所", "Site")
_DIVISION = text("division", "行政区划", "Division")
_KIND = text("kind", "类别", "Kind")
_NAMES = (text("name", "名称", "Name"), text("name_en", "英文名称", "English name"))
_VALID = time("valid_from", "生效时间", "Valid from", nullable=True)


DISTRICTS = NamedQuery(
    "districts",
    Text("行政区划", "Districts"),
    f"""
SELECT division, name, name_en, inside, valid_from
FROM {latest("district_registered", "division", "division, name, name_en, inside, valid_from")}
WHERE $filters""",
    (DIVISION,),
    (_DIVISION, *_NAMES, boolean("inside", "本市", "Inside the city"), _VALID),
    ScopeColumns(public=True),
    ("division",),
)

ENTERPRISES = NamedQuery(
    "enterprises",
    Text("企业", "Enterprises"),
    f"""
SELECT enterprise, name, name_en, credit_code, kind, division, valid_from
FROM {latest("enterprise_registered", "enterprise", "enterprise, name, name_en, credit_code, kind, division, valid_from")}
WHERE $scope AND $filters""",
    (texts("enterprise", "企业", "Enterprise"), texts("kind", "类别", "Kind"), DIVISION),
    (
        _ENTERPRISE,
        *_NAMES,
        text("credit_code", "统一社会信用代码", "Unified social credit code"),
        _KIND,
        _DIVISION,
        _VALID,
    ),
    ScopeColumns(),
    ("enterprise",),
)

SITES = NamedQuery(
    "sites",
    Text("场所", "Sites"),
    f"""
SELECT s.site AS site, s.enterprise AS enterprise, s.name AS name, s.name_en AS name_en, e.name AS enterprise_name,
    e.name_en AS enterprise_name_en, s.division AS division, s.kind AS kind, s.use AS use, s.latitude AS latitude,
    s.longitude AS longitude, s.valid_from AS valid_from
FROM {
        latest(
            "site_registered", "site", "site, enterprise, name, name_en, division, kind, use, latitude, longitude, valid_from"
        )
    } AS s
LEFT JOIN {latest("enterprise_registered", "enterprise", "enterprise, name, name_en")} AS e ON s.enterprise = e.enterprise
WHERE $scope AND $filters""",
    (
        texts("site", "场所", "Site", column="s.site"),
        texts("enterprise", "企业", "Enterprise", column="s.enterprise"),
        texts("kind", "类别", "Kind", column="s.kind"),
        divisions("s.division"),
    ),
    (
        _SITE,
        _ENTERPRISE,
        *_NAMES,
        text("enterprise_name", "企业名称", "Enterprise name"),
        text("enterprise_name_en", "企业英文名称", "Enterprise name (English)"),
        _DIVISION,
        _KIND,
        text("use", "用途", "Use"),
        decimal("latitude", "纬度", "Latitude", nullable=True),
        decimal("longitude", "经度", "Longitude", nullable=True),
        _VALID,
    ),
    ScopeColumns("s.enterprise", "s.division"),
    ("site",),
)

DEVICES = NamedQuery(
    "devices",
    Text("设备", "Devices"),
    f"""
SELECT d.device AS device, d.data_source AS source, d.kind AS kind, d.site AS site, s.name AS site_name,
    s.name_en AS site_name_en, s.enterprise AS enterprise, s.division AS division, d.quantity AS quantity,
    d.silence_after_s AS silence_after_s, d.belt_role AS belt_role, d.valid_from AS valid_from
FROM {
        latest(
            "device_registered", "device", "device, data_source, kind, site, quantity, silence_after_s, belt_role, valid_from"
        )
    } AS d
LEFT JOIN {latest("site_registered", "site", "site, enterprise, division, name, name_en")} AS s ON d.site = s.site
WHERE $scope AND $filters""",
    (
        texts("device", "设备", "Device", column="d.device"),
        texts("source", "事件来源", "Event source", column="d.data_source"),
        texts("kind", "类别", "Kind", column="d.kind"),
        texts("site", "场所", "Site", column="d.site"),
        texts("enterprise", "企业", "Enterprise", column="s.enterprise"),
        divisions("s.division"),
    ),
    (
        text("device", "设备", "Device"),
        text("source", "事件来源", "Event source"),
        _KIND,
        _SITE,
        text("site_name", "场所名称", "Site name"),
        text("site_name_en", "场所英文名称", "Site name (English)"),
        _ENTERPRISE,
        _DIVISION,
        text("quantity", "介质", "Quantity", nullable=True),
        integer("silence_after_s", "静默告警（秒）", "Silent after (s)", nullable=True),
        text("belt_role", "皮带用途", "Belt role", nullable=True),
        _VALID,
    ),
    ScopeColumns("s.enterprise", "s.division"),
    ("device",),
)

_VEHICLE = (
    "plate, kind, axles, single_drive_axle, single_tyre, air_suspension, licence_mass_kg, tare_kg, tare_usable, new_energy, "
    "valid_from"
)

VEHICLES = NamedQuery(
    "vehicles",
    Text("车辆", "Vehicles"),
    f"""
SELECT {_VEHICLE}
FROM {latest("vehicle_registered", "plate", _VEHICLE)}
WHERE $scope AND $filters""",
    (texts("plate", "车牌号", "Plate"), texts("kind", "车型", "Kind")),
    (
        text("plate", "车牌号", "Plate"),
        text("kind", "车型", "Kind"),
        integer("axles", "轴数", "Axles"),
        boolean("single_drive_axle", "单驱动轴", "Single drive axle"),
        boolean("single_tyre", "单轮胎", "Single tyres"),
        boolean("air_suspension", "空气悬架", "Air suspension"),
        integer("licence_mass_kg", "行驶证总质量（千克）", "Licensed gross mass (kg)", nullable=True),
        integer("tare_kg", "登记皮重（千克）", "Registered tare (kg)", nullable=True),
        boolean("tare_usable", "可用登记皮重", "Registered tare may be used"),
        boolean("new_energy", "新能源", "New energy"),
        _VALID,
    ),
    ScopeColumns("", ""),
    ("plate",),
)
"""A vehicle belongs to no enterprise or division here, so only a reader of everything sees the list."""

RULES = NamedQuery(
    "rules",
    Text("规则版本", "Rule versions"),
    """
SELECT rule, version, valid_from, status, parameters, citation, known_at
FROM rule_published
WHERE $known AND $filters""",
    (texts("rule", "规则", "Rule"),),
    (
        text("rule", "规则", "Rule"),
        integer("version", "版本", "Version"),
        _VALID,
        text("status", "状态", "Status"),
        json("parameters", "参数", "Parameters"),
        text("citation", "依据", "Citation"),
        time("known_at", "获知时间", "Known at"),
    ),
    ScopeColumns(public=True),
    ("rule", "version"),
)
"""Every version that was published, not only the latest: which one holds depends on the time that is asked about. What the
code declares, and with it the defaults, is ``GET /v1/rules``."""

QUERIES = (DISTRICTS, ENTERPRISES, SITES, DEVICES, VEHICLES, RULES)
