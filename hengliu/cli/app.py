"""All commands, in one list."""

import asyncio
import contextlib
import logging
import os
import sys
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape

from hengliu import __version__
from hengliu.settings import Role, Settings
from simulator.cli import simulate  # light: it speaks HTTP and nothing else

app = typer.Typer(
    help=(
        "衡流 Hengliu：能源与工业实物流的事件账本与流处理平台。\n\n"
        "An event-sourced ledger and stream processor for regulated physical flows.\n\n"
        "Settings come from HENGLIU_… variables or a TOML file named by HENGLIU_CONFIG; docs/generated/settings.md lists them."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
log_app = typer.Typer(help="查看事件日志 / look into the event log.", no_args_is_help=True)
token_app = typer.Typer(help="签发与吊销令牌 / issue and revoke tokens.", no_args_is_help=True)
app.add_typer(log_app, name="log")
app.add_typer(token_app, name="token")
rules_app = typer.Typer(help="查看与变更规则 / list, show, compare and change rules.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")

console = Console(stderr=True, highlight=False, emoji=False)


def read_settings() -> Settings:
    """Settings of this process, or a clear end."""
    config = os.environ.get("HENGLIU_CONFIG")
    if config and not Path(config).is_file():
        console.print(
            f"[red]HENGLIU_CONFIG[/red]: 没有文件 {escape(config)} / there is no file {escape(config)}", soft_wrap=True
        )
        raise typer.Exit(2)
    try:
        return Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "HENGLIU_" + str(fault["loc"][0] if fault["loc"] else "").upper()
            message = escape(str(fault["msg"]).removeprefix("Value error, "))
            console.print(f"[red]{name}[/red]: {message} ({escape(repr(fault['input']))})", soft_wrap=True)
        raise typer.Exit(2) from error
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        console.print(f"[red]设置无法读取[/red] / the settings cannot be read: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error


def configure_logging(settings: Settings) -> None:
    """One line an entry on standard error, with time, level and module."""
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True
    )
    # Faust's services tell each step of their life, "[^-Consumer]: Starting...", in the name of the module that made the class.
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.levelno > logging.INFO or not record.getMessage().startswith("[^"))
    # It retries by itself, and calls each try an error: at the first start of a group there are dozens.
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.CRITICAL)
    for noisy in ("aiokafka", "kafka", "faust", "mode", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


@contextlib.contextmanager
def telling(settings: Settings) -> Iterator[None]:
    """What a person can do something about ends in a line of each language and an exit code, not in a traceback."""
    try:
        yield
    except Exception as error:
        from hengliu.compose.faults import fault_of

        fault = fault_of(error, settings)
        if fault is None:
            raise
        logging.getLogger(__name__).debug("ended by", exc_info=error)
        console.print(f"[red]{escape(fault.text.zh)}[/red]", soft_wrap=True)
        console.print(fault.text.en, markup=False, soft_wrap=True)
        raise typer.Exit(fault.code) from error


def run(main: Callable[[Settings], Coroutine[Any, Any, int]]) -> None:
    """Run a command's coroutine with settings and logging, and exit with what it returns."""
    settings = read_settings()
    configure_logging(settings)
    with telling(settings):
        try:
            code = asyncio.run(main(settings))
        except KeyboardInterrupt:
            code = 130
    raise typer.Exit(code)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def hengliu(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="显示版本 / show the version.")
    ] = False,
) -> None:
    # The log holds every event in clear, and rights are checked by the API alone: what we create is for our user only.
    os.umask(0o077)


def _serve(roles: frozenset[Role]) -> None:
    async def main(settings: Settings) -> int:
        from hengliu.compose.platform import serve

        return await serve(settings, roles)

    run(main)


@app.command()
def up() -> None:
    """在一个进程中运行全部角色 / run every role in this process, until SIGTERM or Ctrl-C."""
    _serve(frozenset(Role))


@app.command()
def api() -> None:
    """运行 HTTP 接口与接入 / run the HTTP API and intake (Kafka deployments)."""
    _serve(frozenset({Role.API}))


@app.command()
def worker() -> None:
    """运行流处理任务 / run stream tasks: the exchange and the operators (Kafka deployments)."""
    _serve(frozenset({Role.WORKER}))


@app.command()
def projector() -> None:
    """把事件写入数据仓库 / write events into the warehouse (Kafka deployments)."""
    _serve(frozenset({Role.PROJECTOR}))


@app.command()
def outbox() -> None:
    """发布登记事件 / publish registrations to intake (Kafka deployments)."""
    _serve(frozenset({Role.OUTBOX}))


@app.command()
def demo(
    engine: Annotated[
        str, typer.Option(help="local：单进程内嵌引擎；kafka：Kafka + ClickHouse + PostgreSQL / deployment.")
    ] = "local",
    size: Annotated[str, typer.Option(help="模拟城市的规模 / size of the simulated city: tiny, demo.")] = "demo",
    history: Annotated[float, typer.Option(help="先载入多少小时历史 / hours of history loaded first.", min=0)] = 14.0,
    speed: Annotated[float, typer.Option(help="实时倍速 / speed of the live part; 1 is real time.", min=0.1)] = 1.0,
    simulate: Annotated[bool, typer.Option(help="是否启动模拟城市 / whether to start the simulated city.")] = True,
) -> None:
    """启动带模拟煤城的完整平台 / start the whole platform with a simulated coal city."""
    if engine not in ("local", "kafka"):
        raise typer.BadParameter("应为 local 或 kafka / is local or kafka", param_hint="--engine")
    if size not in ("tiny", "demo"):
        raise typer.BadParameter("应为 tiny 或 demo / is tiny or demo", param_hint="--size")

    async def main(settings: Settings) -> int:
        from hengliu.cli.demo import Demo

        return await Demo(settings, engine, size, history, speed, simulate).run()

    run(main)


def _look(view: str, *arguments: object) -> None:
    async def main(settings: Settings) -> int:
        from hengliu.cli import log_view

        code: int = await getattr(log_view, view)(settings, *arguments)
        return code

    run(main)


@log_app.command("topics")
def log_topics() -> None:
    """列出主题、类别与分区 / list topics, kinds and partitions."""
    _look("topics")


@log_app.command("offsets")
def log_offsets() -> None:
    """列出各分区的末尾位置 / list the end position of every partition."""
    _look("offsets")


@log_app.command("tail")
def log_tail(
    topic: Annotated[str, typer.Argument(help="主题名 / topic.")],
    last: Annotated[
        int, typer.Option("--last", "-n", help="先显示最近几条 / show this many recent records first.", min=0)
    ] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="持续显示新记录 / keep showing new records.")] = False,
    clocks: Annotated[bool, typer.Option("--clocks", help="同时显示时钟记录 / show clock records too.")] = False,
) -> None:
    """显示一个主题的记录 / show a topic's records."""
    _look("tail", topic, last, follow, clocks)


@app.command(epilog="例 / example:  hengliu backtest overload --from 2026-03-01 --to 2026-03-08 --set combination-6=46000")
def backtest(
    rule: Annotated[str, typer.Argument(help="规则名 / name of the rule.", metavar="RULE")],
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="起（含）：2026-03-01、2026-03-01T08:00（北京时间）、RFC 3339、36h 前 / from."
        ),
    ],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="止（不含），now 为现在 / to, exclusive; now.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="替换的参数，可多次 / another parameter; repeatable."),
    ] = None,
    active: Annotated[bool, typer.Option("--active", help="停用期间按启用重放 / as if active where it was retired.")] = False,
    warm_up: Annotated[
        str,
        typer.Option(
            "--warm-up",
            metavar="DURATION",
            help="预热时长，如 7d；all 为全部 / state made up before; all. [default: the rule's]",
        ),
    ] = "",
    received_until: Annotated[
        str, typer.Option("--received-until", metavar="TIME", help="只重放此前收到的记录 / only what was received before.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="输出一个 JSON 文档 / print one JSON document.")] = False,
) -> None:
    """用历史数据回测规则，只读不写 / what a rule would have raised with other parameters, beside what it raised. It only reads.

    时间是预警的事件时间；记录从其前的预热期开始，按收到的次序重放到日志末尾。
    Times are those of the warnings' causes; records are replayed as received, from the warm-up on to the end of the log.

    退出码 / exit codes: 0 已比较 / compared; 1 日志不可读或没有记录 / no log, nothing in it; 2 要求有误 / cannot be done.
    """

    async def main(settings: Settings) -> int:
        from hengliu.cli.backtest import backtest as command
        from hengliu.ports.clock import SystemClock

        return await command(
            settings, rule, from_, to, set_ or [], active=active, warm_up=warm_up, received_until=received_until,
            as_json=json, now_ms=SystemClock().now_ms(),
        )  # fmt: skip

    run(main)


@app.command(
    "verify-receipt", epilog="例 / example:  hengliu verify-receipt 4711.json --key city.example.key --witness district.key"
)
def verify_receipt(
    file: Annotated[Path, typer.Argument(help="凭证文件 / the receipt.", metavar="FILE")],
    key: Annotated[
        str,
        typer.Option("--key", metavar="KEY", help="日志公钥，文本或文件 / the log's public key: text or file."),
    ],
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", metavar="KEY", help="见证者公钥，可多次 / a witness's public key; repeatable."),
    ] = None,
    least: Annotated[
        int | None, typer.Option("--least", help="至少几个见证；缺省为全部 / cosignatures needed; all by default.", min=0)
    ] = None,
    by_hand: Annotated[bool, typer.Option("--by-hand", help="同时给出手工核对步骤 / also how to check it by hand.")] = False,
    json: Annotated[bool, typer.Option("--json", help="输出一个 JSON 文档 / print one JSON document.")] = False,
) -> None:
    """离线核对凭证 / check offline that a receipt proves its record. Asks nobody: no platform, no network.

    公钥要取自别处：凭证里的公钥谁都能伪造。
    Take the key from elsewhere: whoever forges a receipt writes a key into it, too.

    退出码 / exit codes: 0 成立 / it holds; 1 不成立 / it does not; 2 文件或公钥不可读 / a file or key cannot be read.
    """
    from hengliu.cli.receipts import verify_receipt_command

    raise typer.Exit(verify_receipt_command(file, key, witness or [], least, hand=by_hand, as_json=json))


@token_app.command("issue")
def token_issue(
    name: Annotated[str, typer.Argument(help="持有者名称 / name of the holder.")],
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="可写的事件来源，末尾可用 * / sources it may write; a trailing * is a prefix."),
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option("--role", help="角色 / roles: device, registrar, reader, admin. [default: device]")
    ] = None,
    enterprise: Annotated[
        list[str] | None, typer.Option("--enterprise", help="可读的企业；all 为全部 / enterprises it may read; all.")
    ] = None,
    division: Annotated[
        list[str] | None, typer.Option("--division", help="可读的行政区划代码 / divisions (GB/T 2260) it may read; all.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(help="有效天数；缺省为直到吊销 / days it is valid; else until revoked.", min=1)
    ] = None,
) -> None:
    """签发一个令牌，只显示一次 / issue a token; it is shown once."""
    from hengliu.rights import ALL, TokenStore
    from hengliu.rights import Role as Right

    roles = role or ["device"]
    if unknown := sorted(set(roles) - {r.value for r in Right}):
        raise typer.BadParameter(f"没有角色 / no such role: {', '.join(unknown)}", param_hint="--role")
    settings = read_settings()
    with telling(settings):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        typer.echo(
            TokenStore(settings.data_dir / "tokens.json").issue(
                name,
                roles=roles,
                sources=source or [],
                enterprises=ALL if enterprise == ["all"] else enterprise or [],
                divisions=ALL if division == ["all"] else division or [],
                valid_s=None if days is None else days * 86_400,
            )
        )


@token_app.command("revoke")
def token_revoke(name: Annotated[str, typer.Argument(help="持有者名称 / name of the holder.")]) -> None:
    """吊销一个持有者的全部令牌 / revoke every token of a holder. A running platform sees it at once."""
    from hengliu.rights import TokenStore

    settings = read_settings()
    with telling(settings):
        gone = TokenStore(settings.data_dir / "tokens.json").revoke(name)
    console.print(f"已吊销 {gone} 个令牌 / {gone} tokens revoked")
    if not gone:
        raise typer.Exit(1)


RULE = Annotated[str, typer.Argument(help="规则名 / name of the rule.", metavar="RULE")]
URL = Annotated[str, typer.Option(help="平台地址 / address of the running platform.")]
TOKEN_FILE = Annotated[Path | None, typer.Option(help="令牌文件 / file with the token.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="输出 JSON / print JSON.")]
SET = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="参数，可多次 / parameter; repeatable.")]
UNSET = Annotated[
    list[str] | None, typer.Option("--unset", metavar="NAME", help="恢复缺省，可多次 / back to its default; repeatable.")
]
VALID_FROM = Annotated[
    str, typer.Option("--valid-from", metavar="TIME", help="生效时间；缺省为即刻 / when it holds; at once by default.")
]
CITATION = Annotated[str, typer.Option(help="依据 / what it rests on.")]


def _rules(url: str, token_file: Path | None, command: Callable[[Any], int]) -> None:
    settings = read_settings()
    with telling(settings):
        from hengliu.cli import rules

        address = url or f"http://{settings.host}:{settings.port}"
        code = rules.run(address, token_file or settings.data_dir / "demo.token", command)
    raise typer.Exit(code)


def _now() -> datetime:
    return datetime.now(UTC)


@rules_app.command("list")
def rules_list(url: URL = "", token_file: TOKEN_FILE = None, json: AS_JSON = False) -> None:
    """列出全部规则及现行版本 / list every rule with the version in force."""
    from hengliu.cli import rules

    _rules(url, token_file, lambda client: rules.listed(client, _now(), json))


@rules_app.command("show")
def rules_show(rule: RULE, url: URL = "", token_file: TOKEN_FILE = None, json: AS_JSON = False) -> None:
    """显示一条规则的参数与版本 / show a rule's parameters and versions."""
    from hengliu.cli import rules

    _rules(url, token_file, lambda client: rules.show(client, rule, _now(), json))


@rules_app.command("diff")
def rules_diff(
    rule: RULE,
    from_version: Annotated[int, typer.Option("--from-version", help="较早版本 / earlier version.", min=0)],
    to_version: Annotated[int, typer.Option("--to-version", help="较晚版本 / later version.", min=0)],
    url: URL = "",
    token_file: TOKEN_FILE = None,
    json: AS_JSON = False,
) -> None:
    """比较一条规则的两个版本 / what differs between two versions of a rule."""
    from hengliu.cli import rules

    _rules(url, token_file, lambda client: rules.differ(client, rule, from_version, to_version, json))


def _change(
    rule: str, what: str, url: str, token_file: Path | None, given: list[str], unset: list[str], valid_from: str, citation: str
) -> None:
    from hengliu.cli import rules
    from hengliu.cli.backtest import Wrong, pairs_of, time_of
    from hengliu.events.envelope import iso_ms

    def command(client: rules.RulesClient) -> int:
        try:
            at = iso_ms(time_of(valid_from, 0)) if valid_from else ""
            body = {"parameters": pairs_of(given), "remove": unset, "valid_from": at, "citation": citation}
        except Wrong as wrong:
            raise rules.RulesFault(wrong.text.zh, wrong.text.en, 2) from wrong
        return rules.change(client, rule, what, body)

    _rules(url, token_file, command)


@rules_app.command("change")
def rules_change(
    rule: RULE,
    set_: SET = None,
    unset: UNSET = None,
    valid_from: VALID_FROM = "",
    citation: CITATION = "",
    url: URL = "",
    token_file: TOKEN_FILE = None,
) -> None:
    """变更规则参数，发布下一版本 / change parameters: publish the next version."""
    _change(rule, "change", url, token_file, set_ or [], unset or [], valid_from, citation)


@rules_app.command("activate")
def rules_activate(
    rule: RULE,
    set_: SET = None,
    unset: UNSET = None,
    valid_from: VALID_FROM = "",
    citation: CITATION = "",
    url: URL = "",
    token_file: TOKEN_FILE = None,
) -> None:
    """启用规则 / activate a rule."""
    _change(rule, "activate", url, token_file, set_ or [], unset or [], valid_from, citation)


@rules_app.command("retire")
def rules_retire(
    rule: RULE, valid_from: VALID_FROM = "", citation: CITATION = "", url: URL = "", token_file: TOKEN_FILE = None
) -> None:
    """停用规则，自生效时间起不再发布预警 / retire a rule: it raises nothing from then on."""
    _change(rule, "retire", url, token_file, [], [], valid_from, citation)


@app.command()
def load(
    file: Annotated[Path | None, typer.Argument(help="数据文件：csv、csv.gz、zip、xlsx / data file.")] = None,
    mapping: Annotated[str, typer.Option("--as", help="映射的名称或文件 / name or file of a mapping.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="列出自带的映射 / list the bundled mappings.")] = False,
    url: Annotated[str, typer.Option(help="平台地址 / address of the running platform.")] = "",
    token_file: Annotated[Path | None, typer.Option(help="令牌文件 / file with the token.")] = None,
    limit: Annotated[int, typer.Option(help="最多读多少行，0 为全部 / rows at most; 0 is all.", min=0)] = 0,
) -> None:
    """通过接口载入文件，重复执行不会重复计数 / load a file through the API; run twice it counts nothing twice."""
    settings = read_settings()
    configure_logging(settings)
    with telling(settings):
        from connectors.files.command import load_command

        code = load_command(
            file,
            mapping,
            list_,
            url or f"http://{settings.host}:{settings.port}",
            token_file or settings.data_dir / "demo.token",
            limit,
            console,
        )
    raise typer.Exit(code)


@app.command()
def detect(
    file: Annotated[Path | None, typer.Argument(help="数据文件：csv、csv.gz、zip、xlsx / data file.")] = None,
    detector: Annotated[str, typer.Option(help="检测器名称 / name of a detector; see --list.")] = "combined",
    mapping: Annotated[
        str,
        typer.Option(
            "--as",
            help="映射的名称或文件，或“时间列,数值列” / a mapping's name or file, or TIME,VALUE: two columns. "
            "[default: timestamp,value, or the only two columns]",
        ),
    ] = "",
    out: Annotated[str, typer.Option(help="结果文件，- 为标准输出 / file of scores; - is standard output.")] = "-",
    list_: Annotated[bool, typer.Option("--list", help="列出检测器 / list the detectors.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="参数 名称=值 / a parameter, name=value; see --list.")] = None,
    explain: Annotated[bool, typer.Option(help="加上严重程度与依据 / add severity, code and the numbers behind it.")] = False,
) -> None:
    """给一个文件中的序列打分，按时间一遍读完 / score the series of a file, in one pass in time order."""
    from hengliu.cli.detect import detect_command

    raise typer.Exit(detect_command(file, detector, mapping, out, list_, set_ or [], explain, console))


app.command("simulate")(simulate)
