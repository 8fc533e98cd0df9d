"""``hengliu rules``: what is declared and published, and the commands that change it, through the API of a running platform.

Exit codes: 0 done; 1 the platform refused or does not answer; 2 what was asked for cannot be done.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hengliu.events.family import Text

__all__ = ["RulesClient", "RulesFault", "change", "differ", "listed", "run", "show"]

CITY_TIME: Final = timezone(timedelta(hours=8))
STATUS: Final[Mapping[str, Text]] = {"active": Text("启用", "active"), "retired": Text("停用", "retired")}


class RulesFault(Exception):
    """The command ends here; the text says why, the code is the process's."""

    def __init__(self, zh: str, en: str, code: int = 1) -> None:
        super().__init__(f"{zh} / {en}")
        self.text = Text(zh, en)
        self.code = code


class RulesClient:
    """The platform's rules over HTTP.

    Args:
        transport: for tests; None: the network.
    """

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url
        self._client = httpx.Client(base_url=url, headers=headers, timeout=30, transport=transport)

    def close(self) -> None:
        self._client.close()

    def declared(self) -> dict[str, dict[str, Any]]:
        """The declared rules by name, in the order of their list."""
        return {rule["rule"]: rule for rule in self._ask("GET", "/v1/rules")["items"]}

    def one(self, rule: str) -> dict[str, Any]:
        """One declared rule. Raises RulesFault."""
        declared = self.declared()
        if rule not in declared:
            known = ", ".join(declared)
            raise RulesFault(f"没有规则“{rule}”，可用：{known}", f"there is no rule {rule!r}; there are: {known}", 2)
        return declared[rule]

    def versions(self, rule: str = "") -> dict[str, list[dict[str, Any]]]:
        """Published versions by rule, ascending."""
        found: dict[str, list[dict[str, Any]]] = {}
        query = {"limit": "1000", **({"rule": rule} if rule else {})}
        cursor: str | None = None
        while True:
            page = self._ask("GET", "/v1/registry/rules", params={**query, **({"cursor": cursor} if cursor else {})})
            for row in page["items"]:
                given = row["parameters"]
                row["parameters"] = msgspec.json.decode(given) if isinstance(given, str) else given
                found.setdefault(row["rule"], []).append(row)
            cursor = page["next"]
            if not cursor:
                return {name: sorted(rows, key=lambda r: r["version"]) for name, rows in found.items()}

    def command(self, rule: str, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """``change``, ``activate`` or ``retire``; the version that stands then."""
        stands: dict[str, Any] = self._ask("POST", f"/v1/registry/rules/{rule}/{what}", json=dict(body))["version"]
        return stands

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answers: list[httpx.Response] = []
        try:
            # A refusal is told in both languages: the second question is asked only to have its words.
            for language in ("zh", "en"):
                answers.append(self._client.request(method, path, headers={"Accept-Language": language}, **more))
                if answers[0].is_success:
                    found: dict[str, Any] = answers[0].json()
                    return found
        except httpx.HTTPError as error:
            raise RulesFault(
                f"平台 {self._url} 没有应答：{error}", f"the platform {self._url} does not answer: {error}"
            ) from error
        zh, en = (_detail(answer) for answer in answers)
        raise RulesFault(zh, en)


def _detail(answer: httpx.Response) -> str:
    try:
        document = answer.json()
        faults = [f"{e['pointer']}: {e['detail']}" for e in document.get("errors", ())]
        return "; ".join([str(document["detail"]), *faults])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def run(url: str, token_file: Path, command: Callable[[RulesClient], int]) -> int:
    """Run one command with the token of a file; none: open reading."""
    err = Console(stderr=True, highlight=False)
    try:
        token = token_file.read_text(encoding="ascii").strip() if token_file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        err.print(f"令牌不可读 / the token cannot be read: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    client = RulesClient(url, token)
    try:
        return command(client)
    except RulesFault as fault:
        err.print(f"[red]{escape(fault.text.zh)}[/red]", soft_wrap=True)
        err.print(fault.text.en, markup=False, soft_wrap=True)
        return fault.code
    finally:
        client.close()


def _local(text: str | None) -> str:
    if not text:
        return "始终 always"
    return datetime.fromisoformat(text).astimezone(CITY_TIME).strftime("%Y-%m-%d %H:%M:%S")


def _in_force(versions: Sequence[Mapping[str, Any]], now: datetime) -> Mapping[str, Any] | None:
    """The version that holds now: the latest valid-from that is not ahead, then the highest number."""
    held = [v for v in versions if not v["valid_from"] or datetime.fromisoformat(v["valid_from"]) <= now]
    return max(held, key=lambda v: (v["valid_from"] or "", v["version"]), default=None)


def listed(client: RulesClient, now: datetime, as_json: bool) -> int:
    """Print every rule with the version in force."""
    declared, versions = client.declared(), client.versions()
    out = Console(highlight=False)
    rows = []
    for name, rule in declared.items():
        held = _in_force(versions.get(name, ()), now)
        rows.append(
            {
                "rule": name,
                "title": rule["title"],
                "status": held["status"] if held else "active",
                "version": held["version"] if held else rule["version"],
                "published": len(versions.get(name, ())),
                "parameters": len(rule["parameters"]),
                "codes": rule["codes"],
            }
        )
    if as_json:
        out.print(msgspec.json.encode(rows).decode(), markup=False, soft_wrap=True)
        return 0
    table = Table("规则 rule", "名称 title", "状态 status", "版本 version", "参数 parameters", "预警 warnings")
    for row in rows:
        status = STATUS[row["status"]]
        title = f"{row['title']['zh']} {row['title']['en']}"
        number = f"{row['version']}" + ("" if row["published"] else " (缺省 default)")
        style = "dim" if row["status"] == "retired" else ""
        codes = ", ".join(row["codes"])
        table.add_row(row["rule"], title, f"{status.zh} {status.en}", number, str(row["parameters"]), codes, style=style)
    out.print(table)
    return 0


def show(client: RulesClient, name: str, now: datetime, as_json: bool) -> int:
    """Print one rule: its parameters with what holds now, and its versions."""
    rule, versions = client.one(name), client.versions(name).get(name, [])
    held = _in_force(versions, now)
    given = dict(held["parameters"]) if held else {}
    out = Console(highlight=False)
    if as_json:
        document = {**rule, "in_force": held, "versions": versions}
        out.print(msgspec.json.encode(document).decode(), markup=False, soft_wrap=True)
        return 0
    status = STATUS[held["status"] if held else "active"]
    number = held["version"] if held else rule["version"]
    out.print(f"{name} {rule['title']['zh']} / {rule['title']['en']}", style="bold", markup=False)
    out.print(f"版本 / version {number}   {status.zh} / {status.en}   {rule['citation']}", markup=False, soft_wrap=True)
    warm_up = f"{rule['warm_up_s'] / 86_400:g}"
    out.print(
        f"回测预热 / warm-up of a back-test {warm_up} d   预警 / warnings {', '.join(rule['codes'])}",
        style="dim",
        soft_wrap=True,
    )
    table = Table("参数 parameter", "现值 value", "缺省 default", "单位 unit", "含义 meaning", "取值 takes", "依据 citation")
    for p in rule["parameters"]:
        value = given.get(p["name"], p["default"])
        cells = (
            p["name"], value, p["default"], p["unit"], f"{p['title']['zh']} {p['title']['en']}",
            f"{p['expected']['zh']} / {p['expected']['en']}", p["citation"],
        )  # fmt: skip
        table.add_row(*(escape(cell) for cell in cells), style="bold" if value != p["default"] else "")
    out.print(table)
    if versions:
        history = Table("版本 version", "生效 valid from (+08:00)", "状态 status", "参数 parameters", "依据 citation")
        for v in versions:
            given_text = " ".join(f"{n}={t}" for n, t in v["parameters"].items())
            told = STATUS[v["status"]]
            row = (str(v["version"]), _local(v["valid_from"]), f"{told.zh} {told.en}", given_text, v["citation"])
            history.add_row(*(escape(cell) for cell in row))
        out.print(history)
    return 0


def differ(client: RulesClient, name: str, first: int, second: int, as_json: bool) -> int:
    """Print what differs between two versions; a version's parameters are those it names over the defaults."""
    rule, versions = client.one(name), {v["version"]: v for v in client.versions(name).get(name, [])}
    defaults = {p["name"]: p["default"] for p in rule["parameters"]}

    def of(number: int) -> dict[str, str]:
        found = versions.get(number)
        if found is not None:
            return {**defaults, **found["parameters"], "(status)": found["status"], "(citation)": found["citation"]}
        if number == rule["version"]:
            return {**defaults, "(status)": "active", "(citation)": rule["citation"]}
        known = ", ".join(str(n) for n in sorted({rule["version"], *versions}))
        raise RulesFault(
            f"规则“{name}”没有版本 {number}，有：{known}", f"rule {name} has no version {number}; it has: {known}", 2
        )

    a, b = of(first), of(second)
    different = {n: (a.get(n, ""), b.get(n, "")) for n in {**a, **b} if a.get(n, "") != b.get(n, "")}
    out = Console(highlight=False)
    if as_json:
        rows = [{"parameter": n, "from": x, "to": y} for n, (x, y) in different.items()]
        out.print(msgspec.json.encode(rows).decode(), markup=False, soft_wrap=True)
    elif not different:
        out.print("没有不同 / nothing differs")
    else:
        table = Table("参数 parameter", f"版本 {first}", f"版本 {second}")
        for n, (x, y) in different.items():
            table.add_row(escape(n), escape(x), escape(y))
        out.print(table)
    return 0


def change(client: RulesClient, name: str, what: str, body: Mapping[str, Any]) -> int:
    """Send a command and print the version that stands then."""
    stands = client.command(name, what, {key: value for key, value in body.items() if value})
    out = Console(highlight=False)
    if not stands:
        out.print("没有变化：缺省参数有效 / nothing changes: the defaults hold")
        return 0
    status = STATUS[stands["status"]]
    given = " ".join(f"{n}={t}" for n, t in stands["parameters"].items())
    since = _local(stands.get("valid_from"))
    text = f"{name} 版本 / version {stands['version']}   {status.zh} / {status.en}   自 / from {since}   {given}"
    out.print(text, markup=False, soft_wrap=True)
    return 0
