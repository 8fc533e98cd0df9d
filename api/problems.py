"""RFC 9457 problem details in the caller's language.

A problem is a code and parameters; title and detail are rendered when it is answered. The type URI is relative,
``/problems/<code>``, and ``GET /problems/<code>`` explains it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from starlette.responses import Response

from hengliu.events.family import Text

__all__ = [
    "MEDIA_TYPE",
    "Problem",
    "ProblemText",
    "Refusal",
    "language_of",
    "problem_response",
    "render",
]

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemText:
    """What one code says to people. ``detail`` may hold ``{parameter}`` places."""

    title: Text
    detail: Text
    status: int = 400


WHOLE: Mapping[str, ProblemText] = {
    "malformed-json": ProblemText(
        Text("不是 JSON", "Not JSON"),
        Text("请求体不是合法的 JSON（UTF-8）：{reason}", "The body is not valid JSON in UTF-8: {reason}"),
        400,
    ),
    "unknown-parameter": ProblemText(
        Text("未知参数", "Unknown parameter"),
        Text("没有名为 {name} 的参数；可用：{known}", "There is no parameter {name}; known: {known}"),
        400,
    ),
    "invalid-parameter": ProblemText(
        Text("参数无效", "Invalid parameter"),
        Text("参数 {name} 的值无效，应为：{expected}", "The value of {name} is invalid; expected: {expected}"),
        400,
    ),
    "repeated-parameter": ProblemText(
        Text("参数重复", "Repeated parameter"),
        Text("参数 {name} 只能出现一次", "The parameter {name} may stand only once"),
        400,
    ),
    "invalid-cursor": ProblemText(
        Text("游标无效", "Invalid cursor"),
        Text("游标不是本查询给出的", "The cursor was not given by this query"),
        400,
    ),
    "malformed-request": ProblemText(
        Text("不是合法的 HTTP 请求", "Not a valid HTTP request"),
        Text("请求无法解析", "The request could not be parsed"),
        400,
    ),
    "unauthenticated": ProblemText(
        Text("需要令牌", "A token is needed"),
        Text("请在 Authorization 头中给出 Bearer 令牌", "Send a bearer token in the Authorization header"),
        401,
    ),
    "invalid-token": ProblemText(
        Text("令牌无效", "Invalid token"),
        Text("令牌未知、过期或格式不对", "The token is unknown, expired or malformed"),
        401,
    ),
    "forbidden": ProblemText(
        Text("权限不足", "Not allowed"), Text("此操作需要角色：{role}", "This needs the role: {role}"), 403
    ),
    "whole-city-only": ProblemText(
        Text("权限不足", "Not allowed"),
        Text("实时画面含全市数据，需要全部范围的权限", "The live view shows the whole city and needs an unrestricted scope"),
        403,
    ),
    "wrong-origin": ProblemText(
        Text("来源网页不被接受", "Origin not accepted"),
        Text("不接受来自其他网站页面的请求", "Requests made by pages of other sites are not accepted"),
        403,
    ),
    "not-found": ProblemText(Text("没有此资源", "Not found"), Text("此地址没有内容", "There is nothing at this address"), 404),
    "method-not-allowed": ProblemText(
        Text("方法不允许", "Method not allowed"), Text("此地址不支持该方法", "This address does not take that method"), 405
    ),
    "slow-request": ProblemText(
        Text("请求过慢", "Request too slow"),
        Text("请求未在 {seconds} 秒内送达", "The request did not arrive within {seconds} s"),
        408,
    ),
    "payload-truncated": ProblemText(
        Text("原文不全", "Payload incomplete"),
        Text(
            "隔离区只保存了前 {kept} 字节（共 {size} 字节），不能重新提交",
            "Quarantine holds only the first {kept} of {size} bytes; it cannot be submitted again",
        ),
        409,
    ),
    "body-too-large": ProblemText(
        Text("请求体过大", "Body too large"),
        Text("请求体上限为 {limit} 字节", "A body has at most {limit} bytes"),
        413,
    ),
    "batch-too-large": ProblemText(
        Text("批次过大", "Batch too large"),
        Text("一批最多 {limit} 个事件，收到 {count} 个", "A batch has at most {limit} events, this one has {count}"),
        413,
    ),
    "unsupported-media-type": ProblemText(
        Text("不支持的内容类型", "Unsupported media type"),
        Text("Content-Type 应为：{expected}", "Content-Type must be one of: {expected}"),
        415,
    ),
    "wrong-host": ProblemText(
        Text("主机名不被接受", "Host not accepted"),
        Text("本服务不以此 Host 名应答", "This server does not answer for that Host name"),
        421,
    ),
    "overloaded": ProblemText(
        Text("请求过多", "Too many requests"),
        Text("处理不过来，请在 {seconds} 秒后重试", "The platform is busy; try again in {seconds} s"),
        429,
    ),
    "headers-too-large": ProblemText(
        Text("请求头过大", "Headers too large"), Text("请求头超过上限", "The request headers exceed the limit"), 431
    ),
    "unavailable": ProblemText(
        Text("暂不可用", "Not available now"),
        Text("平台暂不能应答，请在 {seconds} 秒后重试", "The platform cannot answer now; try again in {seconds} s"),
        503,
    ),
    "position-not-reached": ProblemText(
        Text("尚未处理到该位置", "Position not reached"),
        Text("查询尚未包含位置 {position}，请稍后重试", "The tables do not yet include position {position}; try again"),
        503,
    ),
    "too-many-connections": ProblemText(
        Text("连接过多", "Too many connections"),
        Text("连接数已满，请在 {seconds} 秒后重试", "All connections are taken; try again in {seconds} s"),
        503,
    ),
    "internal-fault": ProblemText(
        Text("意外错误", "Unexpected fault"),
        Text(
            "平台出现意外错误，已记录为 {incident}；请稍后重试",
            "The platform met an unexpected fault, logged as {incident}; try again later",
        ),
        503,
    ),
}
"""Problems of a whole request. Problems of one event are intake's (``hengliu.intake``)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A code with what fills its sentence. ``pointer`` is a JSON pointer (RFC 6901) into the event, or empty."""

    code: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    pointer: str = ""


class Refusal(Exception):
    """Ends a request with a problem document.

    Args:
        problem: code of ``WHOLE`` and its parameters.
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


class _Known(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "?"


def render(problem: Problem, language: str, texts: Mapping[str, ProblemText], status: int | None = None) -> dict[str, Any]:
    """The problem document. An unknown code is answered under its own name: a missing text never hides a refusal."""
    text = texts.get(problem.code)
    document: dict[str, Any] = {"type": f"/problems/{problem.code}"}
    if text is None:
        document["title"] = problem.code
        document["detail"] = ", ".join(f"{name}: {value}" for name, value in problem.parameters.items())
    else:
        document["title"] = text.title.in_language(language)
        document["detail"] = text.detail.in_language(language).format_map(_Known(problem.parameters))
    if status is not None:
        document["status"] = status
    document["code"] = problem.code
    if problem.pointer:
        document["pointer"] = problem.pointer
    if problem.parameters:
        document["parameters"] = dict(problem.parameters)
    return document


def problem_response(refusal: Refusal, language: str) -> Response:
    """The HTTP response of a refused request."""
    text = WHOLE[refusal.problem.code]
    headers = {"Cache-Control": "no-store", "Content-Language": language, "Vary": "Accept-Language", **refusal.headers}
    if text.status in (429, 503):
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s or 1)))
    if refusal.close:
        headers["Connection"] = "close"
    document = render(refusal.problem, language, WHOLE, text.status)
    return Response(orjson.dumps(document), text.status, headers, MEDIA_TYPE)
