"""RFC 9457 problem details in the caller's language.

A problem is a code and parameters; title and detail are rendered when it is answered. The type URI is relative,
``/problems/<code>``, and ``GET /problems/<code>`` explains it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.responses import Response

from hengliu.events.family import Text
from hengliu.reference import problems
from hengliu.reference.problems import PROBLEMS, problem
from hengliu.reference.problems import Problem as Words
from hengliu.reference.rules import FAULT_TEXTS
from projections.queries.query import ERRORS

__all__ = [
    "ALL_PROBLEMS",
    "API_PROBLEMS",
    "MEDIA_TYPE",
    "Problem",
    "Refusal",
    "language_of",
    "problem_response",
    "render",
]

MEDIA_TYPE: Final = "application/problem+json"

API_PROBLEMS: Mapping[str, Words] = {
    "invalid-parameter": problem(
        "参数无效",
        "Invalid parameter",
        "参数“{name}”的值无效，应为 {expected}。",
        "The value of “{name}” is invalid; {expected} is expected.",
        400,
    ),
    "repeated-parameter": problem(
        "参数重复", "Repeated parameter", "参数“{name}”只能出现一次。", "The parameter “{name}” may stand only once.", 400
    ),
    "malformed-request": problem(
        "不是合法的 HTTP 请求", "Not a valid HTTP request", "请求无法解析。", "The request could not be parsed.", 400
    ),
    "invalid-token": problem(
        "令牌无效", "Invalid token", "令牌未知、过期或格式不对。", "The token is unknown, expired or malformed.", 401
    ),
    "whole-city-only": problem(
        "范围不足",
        "Scope too narrow",
        "此内容含全市数据，令牌的范围须不受限。",
        "This shows the whole city; the token's scope must be unrestricted.",
        403,
    ),
    "wrong-origin": problem(
        "来源网页不被接受",
        "Origin not accepted",
        "不接受来自其他网站页面的请求。",
        "Requests made by pages of other sites are not accepted.",
        403,
    ),
    "method-not-allowed": problem(
        "方法不允许", "Method not allowed", "此地址不支持该方法。", "This address does not take that method.", 405
    ),
    "slow-request": problem(
        "请求过慢",
        "Request too slow",
        "请求未在 {seconds} 秒内送达。",
        "The request did not arrive within {seconds} s.",
        408,
    ),
    "payload-truncated": problem(
        "原文不全",
        "Payload incomplete",
        "隔离区只保存了前 {kept} 字节（共 {size} 字节），不能重新提交。",
        "Quarantine holds only the first {kept} of {size} bytes; it cannot be submitted again.",
        409,
    ),
    "content-encoding": problem(
        "不支持的编码", "Content encoding", "请求体不得压缩。", "The body must not be compressed.", 415
    ),
    "wrong-host": problem(
        "主机名不被接受",
        "Host not accepted",
        "本服务不以此 Host 名应答。",
        "This server does not answer for that Host name.",
        421,
    ),
    "headers-too-large": problem(
        "请求头过大", "Headers too large", "请求头超过上限。", "The request headers exceed the limit.", 431
    ),
    "reading-unavailable": problem(
        "暂不可查询",
        "Reading not available",
        "暂时不能查询，请在 {seconds} 秒后重试。",
        "Reading is not possible just now; try again in {seconds} seconds.",
        503,
    ),
    "position-not-reached": problem(
        "尚未处理到该位置",
        "Position not reached",
        "表中尚未包含位置 {position}，请稍后重试。",
        "The tables do not yet include position {position}; try again.",
        503,
    ),
    "too-many-connections": problem(
        "连接过多",
        "Too many connections",
        "连接数已满，请在 {seconds} 秒后重试。",
        "All connections are taken; try again in {seconds} seconds.",
        503,
    ),
    "too-many-viewers": problem(
        "实时连接过多",
        "Too many live views",
        "实时连接数已满，请在 {seconds} 秒后重试。",
        "All live views are taken; try again in {seconds} seconds.",
        503,
    ),
    "internal-fault": problem(
        "意外错误",
        "Unexpected fault",
        "平台出现意外错误，已记录为 {incident}；请稍后重试。",
        "The platform met an unexpected fault, logged as {incident}; try again later.",
        503,
    ),
}
"""Problems that only the HTTP surface has. Those of events stand in ``hengliu.reference.problems``."""

REGISTRATION_PROBLEMS: Mapping[str, Words] = {
    "registration-not-object": problem(
        "不是登记内容", "Not a registration", "登记内容必须是一个 JSON 对象。", "A registration is a JSON object.", 400
    ),
    "registration-invalid": problem(
        "登记内容不合格", "Registration invalid", "登记内容有 {count} 处不合格。", "The registration has {count} faults.", 400
    ),
    "registration-valid-from-missing": problem(
        "缺少生效时间",
        "Valid-from missing",
        "“{key}”已登记，变更必须给出生效时间 valid_from。",
        "“{key}” is registered already; a change needs valid_from.",
        409,
    ),
    "registration-valid-from-past": problem(
        "生效时间已过",
        "Valid-from in the past",
        "“{key}”的变更不能自过去的 {valid_from} 起生效。",
        "A change of “{key}” cannot be valid from {valid_from}, which is past.",
        409,
    ),
    "registration-unknown-registration": problem(
        "不可登记", "Cannot be registered", "类型“{type}”不可登记。", "The type “{type}” cannot be registered.", 409
    ),
    "registration-site-owner-fixed": problem(
        "场所所属企业不可变更",
        "Owner of a site is fixed",
        "场所“{site}”属于企业“{enterprise}”，不可变更。",
        "The site “{site}” belongs to the enterprise “{enterprise}” for good.",
        409,
    ),
    "registration-device-name-fixed": problem(
        "设备编号不可变更",
        "Name of a device is fixed",
        "来源“{source}”已登记为设备“{device}”，不可变更。",
        "The source “{source}” is registered as the device “{device}” for good.",
        409,
    ),
    "registration-rule-version": problem(
        "规则版本不连续",
        "Rule version out of order",
        "规则“{rule}”的下一版本应为 {expected}，收到 {version}。",
        "The next version of the rule “{rule}” is {expected}, not {version}.",
        409,
    ),
    "registration-rule-unknown": problem(
        "没有这条规则",
        "No such rule",
        f"{FAULT_TEXTS['rule-unknown'].zh}。",
        f"{FAULT_TEXTS['rule-unknown'].en}.",
        409,
    ),
    "registration-rule-not-retirable": problem(
        "规则不可停用",
        "Rule cannot be retired",
        f"{FAULT_TEXTS['rule-not-retirable'].zh}。",
        f"{FAULT_TEXTS['rule-not-retirable'].en}.",
        409,
    ),
    "registration-rule-parameter-unknown": problem(
        "没有这个参数",
        "No such parameter",
        f"{FAULT_TEXTS['rule-parameter-unknown'].zh}。",
        f"{FAULT_TEXTS['rule-parameter-unknown'].en}.",
        409,
    ),
    "registration-rule-parameter-value": problem(
        "参数值不合格",
        "Parameter value",
        f"{FAULT_TEXTS['rule-parameter-value'].zh}。",
        f"{FAULT_TEXTS['rule-parameter-value'].en}.",
        409,
    ),
    "registration-enterprise-unknown": problem(
        "企业未登记",
        "Enterprise unknown",
        "“{registering}”所属的企业“{enterprise}”尚未登记。",
        "The enterprise “{enterprise}” of “{registering}” is not registered.",
        409,
    ),
    "registration-site-unknown": problem(
        "场所未登记",
        "Site unknown",
        "“{registering}”所在的场所“{site}”尚未登记。",
        "The site “{site}” of “{registering}” is not registered.",
        409,
    ),
}
"""What the registry refuses: ``registration-`` and the code of ``aggregates.registration.InvariantViolated``."""

QUERY_PROBLEMS: Mapping[str, Words] = {
    code: Words(Text("查询参数错误", "Query parameter"), text, 400) for code, text in ERRORS.items()
}
"""What ``projections.queries`` says of a parameter; their texts are its own."""

ALL_PROBLEMS: Mapping[str, Words] = {**PROBLEMS, **QUERY_PROBLEMS, **REGISTRATION_PROBLEMS, **API_PROBLEMS}


@dataclass(frozen=True, slots=True)
class Problem:
    """A code with what fills its sentence. ``pointer`` is a JSON pointer (RFC 6901) into the event, or empty."""

    code: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    pointer: str = ""
    errors: tuple[tuple[str, str, Mapping[str, str]], ...] = ()
    """(pointer, code of ``FIELD_FAULTS``, parameters) of each field at fault."""


class Refusal(Exception):
    """Ends a request with a problem document.

    Args:
        problem: code of ``ALL_PROBLEMS`` and its parameters.
        retry_after_s: for 429 and 503, seconds until a retry makes sense; at least 1 is sent.
        headers: more response headers.
        close: whether the connection is closed after the answer (the body was not read to its end).
    """

    def __init__(
        self,
        problem: Problem,
        *,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        self.close = close


def language_of(accept_language: str) -> str:
    """``zh`` or ``en`` by Accept-Language (RFC 9110, 12.5.4); Chinese when neither is asked for."""
    best, best_weight = "zh", 0.0
    for item in accept_language[:512].lower().split(","):
        tag, _, parameters = item.strip().partition(";")
        weight = 1.0
        name, _, value = parameters.strip().partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
        language = tag.split("-")[0].strip()
        if language in ("zh", "en") and weight > best_weight:
            best, best_weight = language, weight
    return best


def render(
    code: str,
    parameters: Mapping[str, str],
    language: str,
    *,
    pointer: str = "",
    errors: Iterable[tuple[str, str, Mapping[str, str]]] = (),
    status: int | None = None,
) -> dict[str, Any]:
    """The problem document of one code of ``ALL_PROBLEMS``; ``parameters`` are left out where there are none."""
    document = problems.render(
        code, parameters, language, pointer=pointer, errors=errors, status=status, table=ALL_PROBLEMS, type_prefix="/problems/"
    )
    if not document["parameters"]:
        del document["parameters"]
    return document


def problem_response(refusal: Refusal, language: str) -> Response:
    """The HTTP response of a refused request."""
    words = ALL_PROBLEMS.get(refusal.problem.code)
    status = words.status if words is not None and words.status else 400
    headers = {"Cache-Control": "no-store", "Content-Language": language, "Vary": "Accept-Language", **refusal.headers}
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s or 1)))
    if refusal.close:
        headers["Connection"] = "close"
    said = refusal.problem
    document = render(said.code, said.parameters, language, pointer=said.pointer, errors=said.errors, status=status)
    return Response(orjson.dumps(document), status, headers, MEDIA_TYPE)
