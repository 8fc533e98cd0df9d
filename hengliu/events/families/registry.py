"""The registry: enterprises, sites, devices, vehicles, districts and rules, as broadcast reference events.

Joined by ``valid_from`` at the event's time, never by arrival. ``valid_from`` absent means valid since always, which only a
first registration may say.
"""

from typing import Literal

from hengliu.events import topics
from hengliu.events.families.common import Degrees, Quantity, Use, UtcTime, labelled
from hengliu.events.family import EventData, Family, Text, Writer
from hengliu.events.quantities import DivisionCode, Identifier, Kilograms, Plate

EnterpriseKind = Literal["mine", "washing", "coking", "power", "chemical", "trader", "water", "other"]
DeviceKind = Literal["weighbridge", "belt-scale", "camera", "meter", "gps", "yard", "market", "loader", "other"]


REGISTRAR = "registrar"
"""Extension attribute of a reference event: the name of whoever registered it. The registry's outbox sends it, and intake
stamps it as the record's principal, since the sender is the platform itself."""


class Registered(EventData):
    """Base of reference events."""

    valid_from: UtcTime | None = labelled("生效时间", "Valid from", None)


class DistrictRegistered(Registered):
    division: DivisionCode = labelled("行政区划", "Division")
    name: str = labelled("名称", "Name", max_length=64)
    name_en: str = labelled("英文名称", "English name", "", max_length=64)
    inside: bool = labelled("本市", "Inside the city", True)


class EnterpriseRegistered(Registered):
    enterprise: Identifier = labelled("企业", "Enterprise")
    name: str = labelled("名称", "Name", max_length=150)
    name_en: str = labelled("英文名称", "English name", "", max_length=150)
    credit_code: str = labelled("统一社会信用代码", "Unified social credit code", "", max_length=18)
    kind: EnterpriseKind = labelled("类别", "Kind")
    division: DivisionCode = labelled("行政区划", "Division")


class SiteRegistered(Registered):
    site: Identifier = labelled("场所", "Site")
    enterprise: Identifier = labelled("企业", "Enterprise")
    name: str = labelled("名称", "Name", max_length=150)
    name_en: str = labelled("英文名称", "English name", "", max_length=150)
    division: DivisionCode = labelled("行政区划", "Division")
    kind: EnterpriseKind = labelled("类别", "Kind")
    use: Use = labelled("用途", "Use", "other")
    latitude: Degrees | None = labelled("纬度", "Latitude", None)
    longitude: Degrees | None = labelled("经度", "Longitude", None)


class DeviceRegistered(Registered):
    """A device is known by its CloudEvents ``source``; scope and keys follow from here, never from the sender's claim."""

    device: Identifier = labelled("设备", "Device")
    source: str = labelled("事件来源", "Event source", min_length=1, max_length=256)
    kind: DeviceKind = labelled("类别", "Kind")
    site: Identifier = labelled("场所", "Site")
    quantity: Quantity | None = labelled("介质", "Quantity", None)
    silence_after_s: int | None = labelled("静默告警（秒）", "Silent after (s)", None, ge=1, le=10**7)
    """None: no silence warning."""
    register_digits: int | None = labelled("表底位数", "Register digits", None, ge=3, le=15)
    """Whole digits of a totaliser, in the unit it is read in; it wraps at 10**digits. None: does not wrap."""
    belt_role: Literal["produced", "consumed", "transfer"] | None = labelled("皮带用途", "Belt role", None)
    chained: bool = labelled("链式签名", "Hash-chained", False)
    calibrated_until: UtcTime | None = labelled("检定有效期至", "Verified until", None)
    """Of a scale: the last instant at which its verification holds. None: no certificate is registered."""
    watches: Identifier | None = labelled("所对准的设备", "Watches", None)
    """Of a camera: the scale that it looks at. None: a gate, or a yard."""


class VehicleRegistered(Registered):
    """A vehicle with what the gross-mass limits need (交通运输部令2016年第62号, Article 3)."""

    plate: Plate = labelled("车牌号", "Plate")
    kind: Literal["rigid", "combination"] = labelled("车型", "Kind")
    axles: int = labelled("轴数", "Axles", ge=2, le=12)
    single_drive_axle: bool = labelled("单驱动轴", "Single drive axle", False)
    single_tyre: bool = labelled("单轮胎", "Single tyres", False)
    air_suspension: bool = labelled("空气悬架", "Air suspension", False)
    licence_mass_kg: Kilograms | None = labelled("行驶证总质量（千克）", "Licensed gross mass (kg)", None)
    tare_kg: Kilograms | None = labelled("登记皮重（千克）", "Registered tare (kg)", None)
    tare_usable: bool = labelled("可用登记皮重", "Registered tare may be used", False)
    new_energy: bool = labelled("新能源", "New energy", False)


class RulePublished(Registered):
    """A version of a rule: its parameters, as strings, from when on. A retired rule raises nothing from then on."""

    rule: Identifier = labelled("规则", "Rule")
    version: int = labelled("版本", "Version", ge=1)
    parameters: dict[str, str] = labelled("参数", "Parameters")
    citation: str = labelled("依据", "Citation", "", max_length=512)
    status: Literal["active", "retired"] = labelled("状态", "Status", "active")


def _family(type_: str, zh: str, en: str, data: type[EventData], example: dict[str, object]) -> Family:
    return Family(
        type=type_,
        title=Text(zh, en),
        data=data,
        topic=topics.REGISTRY,
        writer=Writer.PLATFORM,
        example_source="/aggregates/registry",
        example_data=example,
    )


FAMILIES = (
    _family("district.registered", "行政区划登记", "District", DistrictRegistered,
            {"division": "150302", "name": "海勃湾区", "name_en": "Haibowan"}),
    _family("enterprise.registered", "企业登记", "Enterprise", EnterpriseRegistered,
            {"enterprise": "m01", "name": "示例煤矿", "kind": "mine", "division": "150303"}),
    _family("site.registered", "场所登记", "Site", SiteRegistered,
            {"site": "m01", "enterprise": "m01", "name": "示例煤矿", "division": "150303", "kind": "mine"}),
    _family("device.registered", "设备登记", "Device", DeviceRegistered,
            {"device": "wb-m01-1", "source": "urn:dev:org:32473-wb-m01-1", "kind": "weighbridge", "site": "m01"}),
    _family("vehicle.registered", "车辆登记", "Vehicle", VehicleRegistered,
            {"plate": "蒙C12345", "kind": "combination", "axles": 6}),
    _family("rule.published", "规则发布", "Rule", RulePublished,
            {"rule": "overload", "version": 1, "parameters": {"rigid-2": "18000"}}),
)  # fmt: skip
