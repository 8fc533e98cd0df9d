"""Load curves: consumption per slot.

An interval that lies in one slot counts there whole. One that spans several is spread over them in proportion to time, in
whole units of the sixth decimal: what falls before a boundary is ``amount * elapsed / length``, cut towards zero, and a slot
has the difference of its two boundaries. So the slots of an interval add up to it exactly, and a correction (the same
interval, negative) takes from every slot exactly what was put there.

Slots begin on multiples of their length in Asia/Shanghai, so a slot of 1440 minutes is a day of people. ``from`` and ``to``
are widened to whole slots. A slot without any reading has no row: missing is not zero.
"""

# ruff: noqa: S608  (the pieces are constants of this package; values are bound by name)

from hengliu.events.family import Text
from projections.queries.parts import DIVISION, ENTERPRISE, SITE, decimal, latest, text, texts, time
from projections.queries.query import SHANGHAI_MS, Bounds, NamedQuery, QueryParameter, ScopeColumns
from projections.table import week

__all__ = ["QUERIES"]

_SLOTS = (15, 30, 60, 1440)


def _pieces(minutes: int) -> str:
    """Array of (start, end) in ms of every slot that the interval ``lo..hi`` touches."""
    length = minutes * 60_000
    index = f"intDiv({{}} + {SHANGHAI_MS}, {length})"
    return (
        f"arrayMap(i -> (i * {length} - {SHANGHAI_MS}, (i + 1) * {length} - {SHANGHAI_MS}), "
        f"range({index.format('lo')}, {index.format('hi - 1')} + 1))"
    )


_SLOT_MS = "greatest(toInt64({p_slot:String}) * 60000, 1)"
_FLOOR = f"(intDiv(toUnixTimestamp64Milli({{at}}) + {SHANGHAI_MS}, {_SLOT_MS}) * {_SLOT_MS} - {SHANGHAI_MS})"
_FROM = _FLOOR.replace("{at}", "$from")
_TO = f"(intDiv(toUnixTimestamp64Milli($to) + {SHANGHAI_MS} + {_SLOT_MS} - 1, {_SLOT_MS}) * {_SLOT_MS} - {SHANGHAI_MS})"

_DAY_BEFORE = "greatest($from, toDateTime64('1900-02-01 00:00:00', 3, 'UTC')) - INTERVAL 1 DAY"
"""At or before the slot in which ``from`` lies; its week bounds the sorting key."""

LOAD_CURVES = NamedQuery(
    name="load-curves",
    title=Text("负荷曲线", "Load curves"),
    sql=f"""
SELECT meter, quantity, unit, flow,
    fromUnixTimestamp64Milli(piece_start, 'UTC') AS start,
    fromUnixTimestamp64Milli(piece_end, 'UTC') AS end,
    toDecimal128(toDecimal256(total, 6) / 1000000, 6) AS amount,
    toDecimal128(toDecimal256(intDiv(total * 3600000, piece_end - piece_start), 6) / 1000000, 6) AS average
FROM
(
    SELECT meter, quantity, unit, flow, piece.1 AS piece_start, piece.2 AS piece_end,
        sum(intDiv(units * (least(piece.2, e) - s), e - s) - intDiv(units * (greatest(piece.1, s) - s), e - s)) AS total,
        sum(if(corrects = '', 1, -1)) AS standing
    FROM
    (
        SELECT meter, quantity, unit, flow, corrects,
            toInt256(amount * 1000000) AS units,
            toUnixTimestamp64Milli(start) AS s,
            greatest(toUnixTimestamp64Milli(end), s + 1) AS e,
            greatest(s, {_FROM}) AS lo,
            least(e, {_TO}) AS hi,
            arrayJoin($slot) AS piece
        FROM consumption_recorded
        WHERE $scope AND $known AND $filters
    )
    GROUP BY meter, quantity, unit, flow, piece_start, piece_end
    HAVING total != 0 OR standing > 0
)""",
    parameters=(
        texts("meter", "计量点", "Meter"),
        texts("quantity", "介质", "Quantity"),
        texts("flow", "流向", "Flow"),
        ENTERPRISE,
        SITE,
        DIVISION,
        QueryParameter(
            "slot",
            "choice",
            Text("时段（分钟；0 为原始区间）", "Slot (minutes; 0: the intervals themselves)"),
            slot="slot",
            choices={"0": "[(s, e)]"} | {str(minutes): _pieces(minutes) for minutes in _SLOTS},
            default="15",
        ),
    ),
    columns=(
        text("meter", "计量点", "Meter"),
        text("quantity", "介质", "Quantity"),
        text("unit", "单位", "Unit"),
        text("flow", "流向", "Flow"),
        time("start", "开始", "Start"),
        time("end", "结束", "End"),
        decimal("amount", "用量", "Amount"),
        decimal("average", "平均（每小时）", "Average (per hour)"),
    ),
    scope=ScopeColumns(),
    keyset=("meter", "quantity", "flow", "unit", "start", "end"),
    bounds=Bounds(
        f"toUnixTimestamp64Milli(end) > {_FROM} AND {week('end')} >= {week(_DAY_BEFORE)}",
        f"toUnixTimestamp64Milli(start) < {_TO}",
        default_days=7,
    ),
)
"""``average`` is amount over the slot's whole length in hours, cut towards zero at the sixth decimal. An interval that was
withdrawn whole by a correction and not replaced leaves no row."""

METERS = NamedQuery(
    name="meters",
    title=Text("计量点", "Meters"),
    sql=f"""
SELECT m.meter AS meter, m.quantity AS quantity, m.unit AS unit, m.flow AS flow, m.enterprise AS enterprise, m.site AS site,
    m.division AS division, s.name AS site_name, s.name_en AS site_name_en, m.first AS first, m.last AS last
FROM
(
    SELECT meter, toString(quantity) AS quantity, toString(unit) AS unit, toString(flow) AS flow,
        toString(scope.1) AS enterprise, toString(scope.2) AS site, toString(scope.3) AS division,
        toNullable(low) AS first, toNullable(high) AS last
    FROM
    (
        SELECT meter, quantity, unit, flow, argMax((enterprise, site, division), known_at) AS scope, min(start) AS low,
            max(end) AS high
        FROM consumption_recorded
        WHERE $known
        GROUP BY meter, quantity, unit, flow
    )
    UNION ALL
    SELECT d.device AS meter, ifNull(toString(d.quantity), '') AS quantity, '' AS unit, '' AS flow,
        toString(p.enterprise) AS enterprise, toString(d.site) AS site, toString(p.division) AS division,
        CAST(NULL AS Nullable(DateTime64(3, 'UTC'))) AS first, CAST(NULL AS Nullable(DateTime64(3, 'UTC'))) AS last
    FROM
    {latest("device_registered", "device", "device, quantity, site, kind")} AS d
    LEFT JOIN
    {latest("site_registered", "site", "site, enterprise, division")} AS p ON d.site = p.site
    WHERE d.kind = 'meter' AND d.device NOT IN (SELECT meter FROM consumption_recorded WHERE $known)
) AS m
LEFT JOIN
{latest("site_registered", "site", "site, name, name_en")} AS s ON m.site = s.site
WHERE $scope AND $filters""",
    parameters=(
        texts("meter", "计量点", "Meter", column="m.meter"),
        texts("quantity", "介质", "Quantity", column="m.quantity"),
        texts("enterprise", "企业", "Enterprise", column="m.enterprise"),
        texts("site", "场所", "Site", column="m.site"),
    ),
    columns=(
        text("meter", "计量点", "Meter"),
        text("quantity", "介质", "Quantity"),
        text("unit", "单位", "Unit"),
        text("flow", "流向", "Flow"),
        text("enterprise", "企业", "Enterprise"),
        text("site", "场所", "Site"),
        text("division", "行政区划", "Division"),
        text("site_name", "场所名称", "Site name"),
        text("site_name_en", "场所英文名称", "Site name (English)"),
        time("first", "最早", "First", nullable=True),
        time("last", "最近", "Last", nullable=True),
    ),
    scope=ScopeColumns("m.enterprise", "m.division"),
    keyset=("meter", "quantity", "flow", "unit"),
)
"""Every meter with consumption, and registered ones that have none yet (``unit`` and ``flow`` empty, ``last`` null)."""

QUERIES = (LOAD_CURVES, METERS)
