# ruff: noqa: E501 - rows are tables of values
"""A page server over recorded rows, for states that a real platform does not show on demand: empty, slow, failing.

Everything but the answers of the named queries is the product's own: application, rights, live hub, pages. The rows have the
columns of the queries and follow a small seeded city; they prove nothing about figures, which the end-to-end tests do.
"""

import asyncio
import base64
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from fastapi import FastAPI

from api.app import create_app
from api.deps import Deps
from api.health import Monitor
from api.live import Hub, Panel
from hengliu.events.catalog import Catalog
from hengliu.metrics import Meters
from hengliu.ports.clock import Clock, SystemClock
from hengliu.ports.log import TopicPartition
from hengliu.ports.warehouse import WarehouseUnavailable
from hengliu.rights import Scope
from projections.queries import QUERIES, family_query
from projections.queries.query import NamedQuery, Page

__all__ = ["Recorded", "stage_app"]

DISTRICTS = [
    ("150300", "乌海市", "Wuhai"),
    ("150302", "海勃湾区", "Haibowan"),
    ("150303", "海南区", "Hainan"),
    ("150304", "乌达区", "Wuda"),
]
SITES = [
    ("m01", "mine", "150303", "棋盘井一号矿", "Qipanjing No. 1 mine"),
    ("m02", "mine", "150303", "公乌素露天矿", "Gongwusu open pit"),
    ("m03", "mine", "150304", "五虎山煤矿", "Wuhushan mine"),
    ("m04", "mine", "150302", "卡布其煤矿", "Kabuqi mine"),
    ("w01", "washing", "150303", "海南洗选中心", "Hainan washery"),
    ("w02", "washing", "150304", "乌达洗煤厂", "Wuda washery"),
    ("k01", "coking", "150304", "乌达焦化园", "Wuda coking park"),
    ("k02", "coking", "150302", "海勃湾焦化厂", "Haibowan coking plant"),
    ("p01", "power", "150302", "海勃湾电厂", "Haibowan power station"),
    ("p02", "power", "150303", "蒙西热电厂", "Mengxi heat and power"),
    ("t01", "trader", "150302", "千里山集运站", "Qianlishan rail yard"),
]  # fmt: skip
COMMODITIES = ["raw", "cleaned", "middlings", "slime", "coke", "gangue"]
HOUR = timedelta(hours=1)


class Recorded:
    """Answers of named queries. ``rows_of`` may be replaced by a test."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.random = random.Random(7)
        self.empty = False
        self.failing = False
        self.slow = False
        """Answers wait until this is false again."""
        self.asked: list[str] = []
        self.started = self.now()
        self.flow = self._flow()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)

    def _flow(self) -> list[dict[str, Any]]:
        first = self.started.replace(minute=0, second=0, microsecond=0) - 47 * HOUR
        rows = []
        for hour in range(48):
            start = first + hour * HOUR
            night = 0.35 if (start.hour + 8) % 24 < 6 else 1.0
            for site, kind, division, _, _ in SITES:
                for direction in ("out", "in"):
                    if (kind == "mine" and direction == "in") or (kind == "power" and direction == "out"):
                        continue
                    goods = {"mine": ["raw"], "washing": ["cleaned", "middlings", "slime", "gangue"], "coking": ["coke"]}.get(
                        kind, ["raw", "cleaned"]
                    )
                    for commodity in goods if direction == "out" else ["raw" if kind in ("washing", "power") else "cleaned"]:
                        tickets = int(self.random.randint(0, 9) * night)
                        if tickets:
                            rows.append(
                                {"start": start, "enterprise": site, "division": division, "commodity": commodity, "use": "coking" if commodity == "cleaned" else "power",
                                 "direction": direction, "origin": division, "destination": "150302", "net_kg": sum(self.random.randint(29_500, 34_400) for _ in range(tickets)), "tickets": tickets}
                            )  # fmt: skip
        return rows

    async def run(
        self,
        warehouse: Any,
        query: NamedQuery,
        scope: Scope,
        parameters: Mapping[str, object],
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        for name in parameters:
            assert name in query.accepted, f"{query.name} takes no {name}"
        self.asked.append(query.name)
        while self.slow:  # noqa: ASYNC110 - set by the test's thread, which an asyncio.Event may not be
            await asyncio.sleep(0.05)
        if self.failing:
            raise WarehouseUnavailable("the warehouse is away")
        method = getattr(self, query.name.replace("-", "_").split("/")[0])
        rows = (
            []
            if self.empty and query.name not in ("overview", "sites", "districts", "enterprises", "meters")
            else method(parameters)
        )
        names = [column.name for column in query.columns]
        rows = [{name: row.get(name) for name in names} for row in rows]
        first = int(cursor or 0)
        more = len(rows) > first + limit
        return Page(rows[first : first + limit], str(first + limit) if more else None)

    def districts(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [{"division": code, "name": zh, "name_en": en, "inside": True} for code, zh, en in DISTRICTS]

    def sites(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [{"site": s, "enterprise": s, "name": zh, "name_en": en, "division": d, "kind": k} for s, k, d, zh, en in SITES]

    def enterprises(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [
            {"enterprise": s, "name": zh + "有限公司", "name_en": en + " Ltd", "division": d, "kind": k}
            for s, k, d, zh, en in SITES
        ]

    def devices(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [
            {"device": f"wb-{s}-1", "source": f"urn:dev:org:32473-wb-{s}-1", "kind": "weighbridge", "site": s}
            for s, *_ in SITES
        ]

    def meters(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [
            {"meter": f"em-{s}-1", "quantity": "electricity", "unit": "kWh", "flow": "import", "enterprise": s, "site": s, "division": d}
            for s, k, d, _, _ in SITES
        ] + [{"meter": "wm-p01-1", "quantity": "water", "unit": "m3", "flow": "import", "enterprise": "p01", "site": "p01", "division": "150302"}]  # fmt: skip

    def vehicles(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [{"plate": "蒙C12345", "kind": "combination", "axles": 6, "single_tyre": False, "tare_kg": 15_300}]

    def rules(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [
            {
                "rule": "overload",
                "version": 2,
                "valid_from": self.now(),
                "status": "retired",
                "parameters": "{}",
                "citation": "",
            }
        ]

    def overview(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        if self.empty:
            return [
                {
                    "tickets_today": 0,
                    "net_out_kg_today": 0,
                    "net_in_kg_today": 0,
                    "weighings_today": 0,
                    "warnings_open": 0,
                    "devices": 34,
                    "sites": 11,
                    "last_known_at": None,
                }
            ]
        day = self.now() - timedelta(hours=(self.now().hour + 8) % 24, minutes=self.now().minute)
        today = [row for row in self.flow if row["start"] >= day - HOUR / 2]
        total = {d: sum(r["net_kg"] for r in today if r["direction"] == d) for d in ("in", "out")}
        tickets = sum(r["tickets"] for r in today)
        return [{"tickets_today": tickets, "net_out_kg_today": total["out"], "net_in_kg_today": total["in"], "weighings_today": tickets * 2 + int(self._seconds()),
                 "warnings_open": 9, "devices": 34, "sites": 11, "last_known_at": self.now() - timedelta(seconds=1)}]  # fmt: skip

    def _seconds(self) -> float:
        return (self.now() - self.started).total_seconds()

    def flows(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        group = (
            str(parameters.get("group") or "hour,enterprise,division,commodity,use,direction")
            .replace("hour", "start")
            .split(",")
        )
        since = datetime.fromtimestamp(cast("int", parameters.get("from", 0)) / 1000, UTC)
        sums: dict[tuple[Any, ...], list[int]] = {}
        for row in self.flow:
            if row["start"] < since or parameters.get("direction", row["direction"]) != row["direction"]:
                continue
            held = sums.setdefault(tuple(row[g] for g in group), [0, 0])
            held[0] += row["net_kg"]
            held[1] += row["tickets"]
        rows = [{**dict(zip(group, key, strict=True)), "net_kg": kg, "tickets": n} for key, (kg, n) in sums.items()]
        return sorted(rows, key=lambda r: str(r.get("start")), reverse=True)

    def weighings(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        rows = []
        for n in range(int(self._seconds() / 3) + 130, 0, -1):
            r = random.Random(n)
            site, _, division, _, _ = r.choice(SITES)
            laden = r.random() < 0.55
            rows.append(
                {"id": str(n), "source": f"urn:dev:org:32473-wb-{site}-1", "time": self.started - timedelta(seconds=(130 - n) * 3 + 1), "known_at": self.started - timedelta(seconds=(130 - n) * 3),
                 "plate": r.choice("蒙宁陕甘") + r.choice("ABC") + "".join(r.choice("0123456789ABCDEFGH") for _ in range(5)), "mass_kg": r.randint(43_000, 49_900) if laden else r.randint(13_600, 16_200),
                 "axles": 6 if r.random() < 0.9 else None, "commodity": r.choice(COMMODITIES) if laden else None, "use": "power" if laden else None, "enterprise": site, "site": site, "division": division}
            )  # fmt: skip
        return rows

    def tickets(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [
            {**row, "direction": "out", "gross_kg": 48_920, "tare_kg": 15_300, "net_kg": 33_620, "gross_time": row["time"], "tare_time": row["time"] - HOUR, "tare_source": "measured",
             "commodity": row["commodity"] or "raw", "use": "power", "origin": "150303", "destination": None, "cause": "a", "corrects": ""}
            for row in self.weighings(parameters)[:120]
        ]  # fmt: skip

    def shipments(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        def row(number: int, unloaded_kg: int | None) -> dict[str, Any]:
            began = self.now() - number * HOUR
            met = unloaded_kg is not None
            return {
                "shipment": f"yd{number:07d}", "began": began, "loaded_at": began, "loaded_site": "m01", "loaded_plate": "蒙C12345",
                "loaded_kg": 33_620, "loaded_commodity": "raw", "to_division": "150302", "unloaded_at": began + HOUR if met else None,
                "unloaded_site": "p01" if met else None, "unloaded_plate": "蒙C12345" if met else None, "unloaded_kg": unloaded_kg,
                "unloaded_commodity": None, "difference_kg": unloaded_kg - 33_620 if unloaded_kg is not None else None,
                "loadings": 1, "unloadings": int(met), "loaded_ticket": "ab" * 16, "unloaded_ticket": None,
            }  # fmt: skip

        return [row(1, None), row(2, 33_580), row(3, 31_240)]

    def stocks(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        rows = []
        for i, (site, kind, division, _, _) in enumerate(SITES):
            goods = {
                "washing": ["raw", "cleaned", "middlings", "slime"],
                "coking": ["cleaned", "coke"],
                "trader": ["raw", "cleaned"],
            }.get(kind, ["raw"])
            for j, commodity in enumerate(goods):
                known = site not in ("m04", "t01")
                rows.append({"site": site, "enterprise": site, "division": division, "commodity": commodity, "mass_kg": (92_345_678 - i * 6_543_210) // (j + 1) if known else -1_204_560,
                             "known": known, "as_of": self.now()})  # fmt: skip
        return rows

    def load_curves(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        rows = []
        now = self.now()
        first = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0) - 24 * HOUR
        for slot in range(1, 96):
            if 30 <= slot < 35:
                continue  # a gap
            start = first + timedelta(minutes=15 * slot)
            shift = 1.0 if 8 <= (start.hour + 8) % 24 < 20 else 0.62
            amount = Decimal(int(shift * 2_400_000 + random.Random(slot).randint(-180_000, 180_000))) / 4000
            rows.append({"meter": parameters.get("meter", "em-m01-1"), "quantity": "electricity", "unit": "kWh", "flow": "import", "start": start, "end": start + timedelta(minutes=15),
                         "amount": amount, "average": amount * 4})  # fmt: skip
        return rows

    def warnings(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        cases: list[tuple[str, str, str, str, str, dict[str, str]]] = [
            ("overload", "high", "raised", "蒙C3F218", "m02", {"gross_kg": "52340", "limit_kg": "49000", "over_kg": "3340", "axles": "6", "kind": "combination", "ticket": "ab" * 16}),
            ("overload", "medium", "raised", "宁B7A906", "m01", {"gross_kg": "49620", "limit_kg": "49000", "over_kg": "620", "axles": "6", "kind": "combination", "ticket": "ab" * 16}),
            ("device-silent", "high", "raised", "urn:dev:org:32473-wb-w02-1", "w02", {"silence_after_s": "900"}),
            ("tare-missing", "medium", "raised", "陕K88D02", "t01", {"mass_kg": "48320", "weighed_at": "2026-02-28T02:10:00.000Z"}),
            ("gross-missing", "low", "raised", "蒙C0H551", "w01", {"mass_kg": "15240", "weighed_at": "2026-02-28T04:41:00.000Z"}),
            ("some-new-code", "low", "raised", "x", "", {"a": "1"}),
            ("shipment-quantity", "high", "raised", "蒙C12345", "m01", {"shipment": "yd0000003", "from": "m01", "to": "p01", "loaded_kg": "33620", "unloaded_kg": "31240", "short_kg": "2380", "tolerance_kg": "336"}),
        ]  # fmt: skip
        wanted = str(parameters.get("state", "raised,updated,cleared")).split(",")
        return [
            {"warning": f"{n:032x}", "code": code, "severity": severity, "state": state, "subject": subject, "enterprise": site, "site": site, "division": "150303", "parameters": values,
             "rule": code, "rule_version": 1, "since": self.now() - timedelta(minutes=17 * n + 3), "time": self.now() - timedelta(minutes=17 * n + 2), "known_at": self.now() - timedelta(minutes=17 * n + 2)}
            for n, (code, severity, state, subject, site, values) in enumerate(cases)
            if state in wanted
        ]  # fmt: skip

    def quarantine(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        bodies = [
            (b'{"specversion":"1.0","type":"weighing.measured","data":{"mass_kg":"48,920"}}', "data-invalid", "/data/mass_kg", "weighing.measured", {"count": "1", "/data/mass_kg": "field-type"}),
            (b"<xml>not json</xml>", "not-json", "", None, {}),
            (b"\xff\xfe\x00\x01", "not-utf8", "", None, {}),
        ]  # fmt: skip
        return [
            {"id": f"{n:032x}", "time": self.now() - timedelta(minutes=n), "known_at": self.now(), "reason": reason, "pointer": pointer, "parameters": values,
             "refused_source": "urn:dev:org:32473-wb-m01-1" if kind else None, "refused_id": "17" if kind else None, "refused_type": kind, "principal": "demo-devices", "digest": "4" * 64,
             "size_bytes": len(body) + (100_000 if n == 2 else 0), "payload_base64": base64.b64encode(body).decode(), "stage": "intake", "enterprise": "", "site": "", "division": ""}
            for n, (body, reason, pointer, kind, values) in enumerate(bodies)
        ]  # fmt: skip

    def events(self, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
        return [
            {"id": str(n), "source": "urn:dev:org:32473-x", "time": self.now() - timedelta(minutes=n), "known_at": self.now(), "enterprise": "m01", "site": "m01", "division": "150303",
             "kind": "heartbeat", "state": "ok", "uptime_s": 86_400 + n, "firmware": None, "plate": "蒙C12345", "latitude": Decimal("39.4123456")}
            for n in range(60)
        ]  # fmt: skip


class Moving:
    """Progress that moves every second."""

    def positions(self) -> Mapping[TopicPartition, int]:
        return {}

    async def wait_for(self, tp: TopicPartition, position: int, timeout_s: float) -> bool:
        return True

    async def wait_change(self, seen: int, timeout_s: float) -> int:
        await asyncio.sleep(1)
        return seen + 1


def stage_app(recorded: Recorded, catalog: Catalog | None = None) -> tuple[FastAPI, Hub]:
    """The application over recorded rows, and its live hub."""
    meters = Meters()

    async def run_panel(panel: Panel, now_ms: int) -> list[dict[str, Any]]:
        parameters = dict(panel.parameters(now_ms))
        return (await recorded.run(None, QUERIES[panel.query], Scope(everything=True), parameters, None, panel.limit)).rows

    hub = Hub(run_panel, Moving(), recorded.clock, meters)
    unused: Any = None
    deps = Deps(
        catalog=catalog or Catalog(),
        intake=unused,
        warehouse=unused,
        log=unused,
        tokens=unused,
        clock=recorded.clock,
        queries=QUERIES,
        family_query=family_query,
        run_query=recorded.run,
        progress=Moving(),
        hub=hub,
        monitor=Monitor(unused, (), meters),
        partitions=4,
        meters=meters,
        open_reading=True,
        version="0.1.0",
        city=("乌海市", "Wuhai"),
    )
    return create_app(deps), hub
