"""Every rule, in one explicit list: name, parameters with type, unit, title and citation, and the operators that read it.

A rule is changed by ``rule.published`` with the same name, a higher version and the parameters that differ from what is here;
a warning names the version that it was judged by. ``docs/rules.md`` says how.
"""

from collections.abc import Mapping

from hengliu.events.families.registry import RulePublished
from hengliu.events.family import Text
from hengliu.reference import mass_limits
from hengliu.reference.rules import RuleDeclaration
from streams.operators.anomaly import AnomalyPolicy
from streams.operators.calibration import CalibrationPolicy
from streams.operators.idle_zero import IdleZeroPolicy
from streams.operators.overload import OverloadPolicy
from streams.operators.plates import PlateMatchPolicy
from streams.operators.positions import PositionPolicy
from streams.operators.prices import PricePolicy
from streams.operators.repeated import RepeatedWeighingPolicy
from streams.operators.sales import SalesPolicy
from streams.operators.shipments import ShipmentPolicy
from streams.operators.supply import SupplyCutPolicy
from streams.operators.tare_drift import TareDriftPolicy
from streams.operators.tickets import TicketPolicy
from streams.operators.weight_curve import WeightCurvePolicy
from streams.rules.policy import RulePolicy, parameters_of

__all__ = ["DEFAULT_RULES", "RULES", "RULES_BY_NAME", "rule"]

_DAY_S = 86_400


def rule(
    policy: RulePolicy,
    zh: str,
    en: str,
    *,
    codes: tuple[str, ...],
    operators: tuple[str, ...],
    warm_up_s: int,
    citation: str = "",
    retirable: bool = True,
) -> RuleDeclaration:
    """What a policy declares, with what only a person can say of it.

    Args:
        codes: warning codes that name the rule.
        operators: names of the operators that read it.
        warm_up_s: recorded time that a back-test replays before its beginning, so that their state is what it would have been.
    """
    return RuleDeclaration(
        policy.rule, Text(zh, en), policy.RULE_VERSION, parameters_of(policy), codes, operators, warm_up_s, citation, retirable
    )


RULES: tuple[RuleDeclaration, ...] = (
    rule(TicketPolicy(), "磅单配对", "Pairing of crossings to tickets", codes=("tare-missing", "gross-missing"),
         operators=("tickets",), warm_up_s=3 * _DAY_S, retirable=False),
    rule(OverloadPolicy(), "超限运输", "Overloaded vehicles", codes=("overload",),
         operators=("overload",), warm_up_s=3 * _DAY_S, citation=mass_limits.CITATION),
    rule(ShipmentPolicy(), "装卸比对", "The two ends of a load",
         codes=("shipment-quantity", "shipment-commodity", "shipment-plate", "shipment-late", "shipment-missing"),
         operators=("legs", "shipments"), warm_up_s=5 * _DAY_S),
    rule(PositionPolicy(), "定位比对", "Positions against weighings", codes=("position-contradiction",),
         operators=("positions",), warm_up_s=2 * _DAY_S),
    rule(SalesPolicy(), "销售量异常", "Abnormal sales volume", codes=("sales-abnormal",),
         operators=("sales",), warm_up_s=71 * _DAY_S),
    rule(PricePolicy(), "价格异常", "Abnormal price", codes=("price-abnormal",),
         operators=("prices",), warm_up_s=31 * _DAY_S),
    rule(PlateMatchPolicy(), "车牌比对", "Plates weighed and plates seen", codes=("plate-mismatch",),
         operators=("plate-match",), warm_up_s=2 * _DAY_S),
    rule(RepeatedWeighingPolicy(), "重复过磅", "One load weighed again", codes=("repeated-weighing",),
         operators=("repeated-weighing",), warm_up_s=2 * _DAY_S),
    rule(TareDriftPolicy(), "皮重异常", "Tare against the vehicle's own history", codes=("tare-drift",),
         operators=("tare-drift",), warm_up_s=21 * _DAY_S),
    rule(WeightCurvePolicy(), "称重曲线", "Steps in a standing truck's weight curve", codes=("weight-curve-step",),
         operators=("weight-curve",), warm_up_s=0),
    rule(IdleZeroPolicy(), "空秤归零", "What an idle scale shows", codes=("idle-not-zero",),
         operators=("idle-zero",), warm_up_s=2 * _DAY_S, citation="OIML R 76-1:2006 3.5.1, 3.5.2"),
    rule(CalibrationPolicy(), "衡器检定", "Verification of scales", codes=("scale-not-calibrated",),
         operators=("calibration",), warm_up_s=2 * _DAY_S, citation="《中华人民共和国计量法》第九条"),
    rule(SupplyCutPolicy(), "停秤过车", "Vehicles counted while every scale is dark", codes=("supply-cut",),
         operators=("supply-cut",), warm_up_s=_DAY_S),
    rule(AnomalyPolicy(), "负荷异常", "Abnormal loads of meters", codes=("series-anomaly",),
         operators=("anomaly",), warm_up_s=42 * _DAY_S),
)  # fmt: skip
"""One line a rule."""

RULES_BY_NAME: Mapping[str, RuleDeclaration] = {declared.rule: declared for declared in RULES}

DEFAULT_RULES: tuple[RulePublished, ...] = tuple(
    RulePublished(rule=d.rule, version=max(d.version, 1), parameters=d.defaults, citation=d.citation) for d in RULES
)
"""The events that would publish the defaults. Publishing one as it stands changes no verdict, only the version that warnings
name."""
