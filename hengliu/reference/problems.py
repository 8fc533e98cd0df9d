"""Why something was refused: every code with its words in both languages, and RFC 9457 problem details made from them.

Events and stored records hold a code and parameters, never a sentence; the sentence is made here when somebody reads it.
A parameter stands in a template as ``{name}``. A test holds that every code in use stands here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hengliu.events.family import Text
from hengliu.reference.rules import FAULT_TEXTS

__all__ = ["FIELD_FAULTS", "PROBLEMS", "TYPE_PREFIX", "Problem", "fill", "problem", "render", "sentence"]

TYPE_PREFIX = "urn:hengliu:problem:"
"""The ``type`` member of RFC 9457 is this and the code: a name, not an address, since nothing is published there."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Words of one code: a title that is always the same, and a sentence with the case's parameters.

    ``status`` is the HTTP status where the whole request is answered with it; 0 for a refusal of one event.
    """

    title: Text
    detail: Text
    status: int = 0


def problem(title_zh: str, title_en: str, zh: str, en: str, status: int = 0) -> Problem:
    """One entry of a table of problems."""
    return Problem(Text(title_zh, title_en), Text(zh, en), status)


PROBLEMS: Mapping[str, Problem] = {
    # One event: its bytes and JSON
    "not-json": problem("不是 JSON", "Not JSON", "内容不是合法的 JSON。", "The content is not valid JSON."),
    "not-utf8": problem("编码错误", "Not UTF-8", "内容不是合法的 UTF-8。", "The content is not valid UTF-8."),
    "lone-surrogate": problem(
        "字符错误", "Lone surrogate", "字符串中有不成对的代理码点。", "A string holds a surrogate code point without its pair."
    ),
    "not-an-object": problem("不是事件", "Not an event", "事件必须是一个 JSON 对象。", "An event is a JSON object."),
    "not-a-batch": problem("不是批次", "Not a batch", "批次必须是一个 JSON 数组。", "A batch is a JSON array."),
    "duplicate-member": problem(
        "成员重复",
        "Member named twice",
        "同一对象中成员“{name}”出现了两次。",
        "The member “{name}” stands twice in one object.",
    ),
    "too-deep": problem("嵌套过深", "Nested too deeply", "嵌套超过 {limit} 层。", "Nesting is deeper than {limit} levels."),
    "too-large": problem(
        "事件过大",
        "Event too large",
        "事件有 {size} 字节，最多 {limit} 字节。",
        "The event has {size} bytes; {limit} are allowed.",
    ),
    "number-out-of-range": problem(
        "数字超界",
        "Number out of range",
        "数字“{value}”超出 64 位整数或双精度浮点数的范围。",
        "The number “{value}” does not fit a 64-bit integer or a double.",
    ),
    # One event: CloudEvents attributes
    "attribute-missing": problem("缺少属性", "Attribute missing", "缺少属性“{name}”。", "The attribute “{name}” is missing."),
    "attribute-type": problem(
        "属性类型错误",
        "Attribute of a wrong type",
        "属性“{name}”的类型不对，应为 {expected}。",
        "The attribute “{name}” is of a wrong type; {expected} is expected.",
    ),
    "attribute-length": problem(
        "属性长度错误",
        "Attribute of a wrong length",
        "属性“{name}”应有 1 至 {limit} 个字符。",
        "The attribute “{name}” has 1 to {limit} characters.",
    ),
    "attribute-form": problem(
        "属性格式错误",
        "Attribute of a wrong form",
        "属性“{name}”的格式不对，应为 {expected}。",
        "The attribute “{name}” is malformed; {expected} is expected.",
    ),
    "attribute-name": problem(
        "属性名错误",
        "Attribute name",
        "属性名“{name}”只能由小写字母和数字组成，最多 {limit} 个字符。",
        "The attribute name “{name}” may hold only lower-case letters and digits, at most {limit} of them.",
    ),
    "too-many-attributes": problem(
        "属性过多", "Too many attributes", "扩展属性超过 {limit} 个。", "There are more than {limit} extension attributes."
    ),
    "specversion-unsupported": problem(
        "版本不支持",
        "Version not supported",
        "specversion 是“{value}”，只接受 1.0。",
        "specversion is “{value}”; only 1.0 is accepted.",
    ),
    "content-type": problem(
        "数据类型不支持",
        "Data content type",
        "datacontenttype 是“{value}”，此类事件只接受 application/json。",
        "datacontenttype is “{value}”; events of this type are application/json.",
    ),
    "data-missing": problem("缺少数据", "Data missing", "事件没有 data。", "The event has no data."),
    "data-base64": problem(
        "不接受二进制数据",
        "Binary data",
        "此类事件的 data 是 JSON，不接受 data_base64。",
        "Data of this type is JSON; data_base64 is not taken.",
    ),
    "data-twice": problem(
        "数据重复", "Data given twice", "data 与 data_base64 不能同时出现。", "data and data_base64 exclude each other."
    ),
    "time-too-early": problem(
        "时间过早", "Time too early", "时间 {value} 早于 {limit}。", "The time {value} is before {limit}."
    ),
    "time-too-late": problem(
        "时间在未来",
        "Time in the future",
        "时间 {value} 比接收时间晚 {limit} 小时以上，请检查设备时钟。",
        "The time {value} is more than {limit} hours after receipt; check the device's clock.",
    ),
    # One event: type, payload, scope
    "unknown-type": problem("未知类型", "Unknown type", "没有类型“{type}”。", "There is no type “{type}”."),
    "type-not-writable": problem(
        "类型不可写入",
        "Type not writable",
        "类型“{type}”由平台计算，不接受写入。",
        "Events of type “{type}” are computed by the platform and are not taken from outside.",
    ),
    "registrar-only": problem(
        "无登记权限",
        "Registrar only",
        "类型“{type}”只能由登记方写入。",
        "Events of type “{type}” are written by registrars only.",
    ),
    "data-invalid": problem("数据不合格", "Data invalid", "数据有 {count} 处不合格。", "The data has {count} faults."),
    "device-unknown": problem(
        "设备未登记", "Device unknown", "来源“{source}”没有登记为设备。", "The source “{source}” is not registered as a device."
    ),
    "device-not-valid": problem(
        "设备当时未登记",
        "Device not registered then",
        "来源“{source}”在 {time} 尚未登记。",
        "The source “{source}” was not yet registered at {time}.",
    ),
    "site-unknown": problem(
        "场所未登记",
        "Site unknown",
        "设备所在场所“{site}”在 {time} 没有登记。",
        "The device's site “{site}” was not registered at {time}.",
    ),
    "out-of-scope": problem(
        "超出权限", "Out of scope", "令牌无权为来源“{source}”写入。", "The token may not write for the source “{source}”."
    ),
    "id-reused": problem(
        "编号重用",
        "Id used again",
        "来源“{source}”已用编号“{id}”发送过不同的内容。",
        "The source “{source}” has already sent other content under the id “{id}”.",
    ),
    "chain-gap": problem(
        "哈希链缺环",
        "Hash chain gap",
        "来源“{source}”的哈希链不连续：prev 指向未收到的事件。",
        "The hash chain of “{source}” has a gap: prev names an event that was not received.",
    ),
    "chain-fork": problem(
        "哈希链分叉",
        "Hash chain fork",
        "来源“{source}”的哈希链分叉：prev 指向较早的事件。",
        "The hash chain of “{source}” forks: prev names an earlier event.",
    ),
    "chain-missing": problem(
        "缺少链属性",
        "Hash chain left out",
        "来源“{source}”登记为链式，事件却没有 prev。",
        "The source “{source}” is registered as chained, but the event has no prev.",
    ),
    # The whole request
    "body-not-json": problem("不是 JSON", "Not JSON", "请求体不是合法的 JSON。", "The body is not valid JSON.", 400),
    "unauthenticated": problem("未认证", "Not authenticated", "需要有效的令牌。", "A valid token is needed.", 401),
    "forbidden": problem("无权限", "Forbidden", "令牌没有此项权限（{role}）。", "The token lacks the role “{role}”.", 403),
    "not-found": problem("不存在", "Not found", "没有“{name}”。", "There is no “{name}”.", 404),
    "body-too-large": problem(
        "请求体过大", "Body too large", "请求体超过 {limit} 字节。", "The body has more than {limit} bytes.", 413
    ),
    "too-many-events": problem(
        "事件过多", "Too many events", "一次最多 {limit} 个事件。", "At most {limit} events are taken at once.", 413
    ),
    "media-type": problem(
        "媒体类型不支持", "Media type", "媒体类型“{value}”不支持。", "The media type “{value}” is not supported.", 415
    ),
    "parameter-invalid": problem(
        "参数错误", "Parameter invalid", "参数“{name}”不合格：{value}。", "The parameter “{name}” is not valid: {value}.", 422
    ),
    "overloaded": problem(
        "过载",
        "Overloaded",
        "待写入的事件过多，请在 {seconds} 秒后重试。",
        "Too many events are waiting; try again in {seconds} seconds.",
        429,
    ),
    "unavailable": problem(
        "暂不可用",
        "Unavailable",
        "暂时不能写入，请在 {seconds} 秒后重试。",
        "Writing is not possible just now; try again in {seconds} seconds.",
        503,
    ),
}
"""Code to words. Codes are stored for ever: never reuse one for something else."""

FIELD_FAULTS: Mapping[str, Text] = {
    "field-missing": Text("缺少此字段", "this field is missing"),
    "field-unexpected": Text("没有此字段", "there is no such field"),
    "field-type": Text("类型不对，应为 {expected}", "of a wrong type; {expected} is expected"),
    "field-value": Text("只能是 {expected}", "must be one of {expected}"),
    "field-range": Text("超出范围（{expected}）", "out of range ({expected})"),
    "field-length": Text("长度不对（{expected}）", "of a wrong length ({expected})"),
    "field-form": Text("格式不对，应符合 {expected}", "malformed; it must match {expected}"),
    "field-digits": Text("位数过多（{expected}）", "has too many digits ({expected})"),
    "field-time": Text("不是带时区的 RFC 3339 时间", "not an RFC 3339 time with an offset"),
    "field-incoherent": Text("与其他字段矛盾", "contradicts other fields"),
    "decimal-not-string": Text('小数须写成 JSON 字符串，如 "12.345"', 'a decimal is a JSON string, such as "12.345"'),
    "decimal-form": Text(
        '小数须写成普通形式，如 "-12.345"', 'a decimal is written plainly, such as "-12.345", without exponent or spaces'
    ),
    "time-form": Text("不是带时区的 RFC 3339 时间", "not an RFC 3339 time with an offset"),
    "time-range": Text("时间须在 1900 年至 2199 年之间", "a time lies between the years 1900 and 2199"),
    "unit-mismatch": Text("{quantity} 不以 {unit} 计量", "{quantity} is not measured in {unit}"),
    "interval-incomplete": Text("区间读数须有开始和结束", "an interval reading has start and end"),
    "interval-order": Text("区间的结束须晚于开始", "an interval ends after it starts"),
    "register-with-interval": Text("表底读数没有开始和结束", "a register reading has neither start nor end"),
    **FAULT_TEXTS,
}
"""Faults of one field inside ``data-invalid``. Families add theirs here with ``PydanticCustomError(code, …)``; those of a
rule's version are ``reference.rules``'."""

_SLOT = re.compile(r"\{([a-z_]+)\}")


def fill(template: str, parameters: Mapping[str, str]) -> str:
    """A template with its ``{name}`` places filled; one without a parameter stays empty.

    Not ``str.format``: codes and parameters are stored for ever, and an old one that lacks what the sentence names today must
    still be readable.
    """
    return _SLOT.sub(lambda slot: parameters.get(slot[1], ""), template)


def sentence(code: str, parameters: Mapping[str, str], language: str, table: Mapping[str, Problem] = PROBLEMS) -> str:
    """The sentence of a code, with its parameters filled in. An unknown code is its own sentence.

    Args:
        language: a language tag; English for ``en…``, else Chinese.
        table: words by code; fields' faults are looked for behind it.
    """
    known = table.get(code)
    if known is not None:
        return fill(known.detail.in_language(language), parameters)
    fault = FIELD_FAULTS.get(code)
    return fill(fault.in_language(language), parameters) if fault is not None else code


def render(
    code: str,
    parameters: Mapping[str, str],
    language: str,
    *,
    pointer: str = "",
    errors: Iterable[tuple[str, str, Mapping[str, str]]] = (),
    status: int | None = None,
    table: Mapping[str, Problem] = PROBLEMS,
    type_prefix: str = TYPE_PREFIX,
) -> dict[str, Any]:
    """Problem details (RFC 9457) of one refusal.

    Args:
        code: a key of ``table``. An unknown one is answered under its own name: a missing text never hides a refusal.
        parameters: what fills the sentence; also given as they are, for machines.
        language: a language tag.
        pointer: JSON pointer (RFC 6901) of the member at fault.
        errors: (pointer, code, parameters) of each field at fault.
        status: HTTP status; default that of the code, left out when it has none.
        table: words by code.
        type_prefix: what stands before the code in ``type``.
    """
    known = table.get(code)
    body: dict[str, Any] = {
        "type": type_prefix + code,
        "title": known.title.in_language(language) if known is not None else code,
        "detail": sentence(code, parameters, language, table),
        "code": code,
        "parameters": dict(parameters),
    }
    number = status if status is not None else (known.status if known is not None else 0)
    if number:
        body["status"] = number
    if pointer:
        body["pointer"] = pointer
    faults = [
        {"pointer": where, "code": fault, "detail": sentence(fault, values, language), "parameters": dict(values)}
        for where, fault, values in errors
    ]
    if faults:
        body["errors"] = faults
        body["detail"] = "; ".join(f"{f['pointer']}: {f['detail']}" for f in faults)
    return body
