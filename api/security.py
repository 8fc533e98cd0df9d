"""Who may ask: Host and Origin checks, response headers, bearer tokens.

``Gate`` is the outermost of our layers and takes every request and every WebSocket:

1. Host must be a loopback name or a configured one, so that a page whose name was re-pointed to this address (DNS
   rebinding) reads nothing from a demo on loopback.
2. Origin, where a browser sends one, must be this host, for everything that is not GET or HEAD and for every WebSocket
   (a browser lets any page open one anywhere).
3. Security headers go on every answer, refusals included.
4. An unexpected exception is logged under an id and answered as a 503 problem with Retry-After: to a device the fault is
   transient until someone reads the log, and what it holds it must send again.
"""

import ipaddress
import logging
import time
import uuid
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, Refusal, language_of, problem_response
from hengliu.metrics import Meters

__all__ = ["LOOPBACK_HOSTS", "SECURITY_HEADERS", "Gate", "bearer_token", "is_local"]

logger = logging.getLogger(__name__)

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)

SECURITY_HEADERS: Final = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
"""No Access-Control-Allow-Origin anywhere: no other site's page reads an answer of ours."""

FORWARDING_HEADERS: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def host_name(host: str) -> str:
    """The name of a Host header without its port, in lower case; empty when it is malformed.

    >>> host_name("[::1]:8000"), host_name("LocalHost:80"), host_name("a b")
    ('::1', 'localhost', '')
    """
    if not host or any(c in host for c in " /\\@?#,"):
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header names this host and port."""
    try:
        there, here = urlsplit(origin), urlsplit(f"//{host}")
        if there.scheme not in ("http", "https") or there.hostname is None:
            return False
        default = 443 if there.scheme == "https" else 80
        return there.hostname == here.hostname and (there.port or default) == (here.port or default)
    except ValueError:
        return False


def is_local(connection: HTTPConnection) -> bool:
    """Whether the client is a process of this machine speaking for itself.

    A request that a proxy on this machine forwarded comes from loopback as well, so any forwarding header says no.
    """
    if connection.client is None or any(name in connection.headers for name in FORWARDING_HEADERS):
        return False
    try:
        return ipaddress.ip_address(connection.client.host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def bearer_token(headers: Headers) -> str | None:
    """The bearer token of a request (RFC 6750, 2.1), or None without an Authorization header.

    Raises:
        Refusal: the header is there but is not one bearer token.
    """
    values = headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    token = token.strip()
    if len(values) > 1 or scheme.lower() != "bearer" or not token or len(token) > 4096 or not token.isascii():
        raise unauthorized("invalid-token")
    return token


def unauthorized(code: str) -> Refusal:
    """401 with the challenge that RFC 9110, 11.6.1 asks for."""
    challenge = 'Bearer realm="hengliu"' + (', error="invalid_token"' if code == "invalid-token" else "")
    return Refusal(Problem(code), headers={"WWW-Authenticate": challenge})


class Gate:
    """The ASGI layer described above. ``guards`` switches single checks off in tests."""

    def __init__(
        self,
        app: ASGIApp,
        meters: Meters,
        allowed_hosts: Iterable[str] = (),
        *,
        check_host: bool = True,
        check_origin: bool = True,
        header_bytes: int = 16_384,
    ) -> None:
        self._app = app
        self._meters = meters
        self._hosts = LOOPBACK_HOSTS | {name.lower().strip("[]") for name in allowed_hosts}
        self._check_host = check_host
        self._check_origin = check_origin
        self._header_bytes = header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        status = 0
        began = time.perf_counter()

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                out = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS:
                    out.setdefault(name, value)
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        refusal = self._refusal(scope, headers)
        try:
            if refusal is None:
                await self._app(scope, receive, guarded_send)
            else:
                await self._answer(refusal, headers, scope, receive, guarded_send)
        except Exception as error:
            incident = uuid.uuid4().hex[:12]
            self._meters.count("http_faults_total")
            logger.error("incident %s: %s %s", incident, scope.get("method", "WS"), scope["path"], exc_info=error)
            if status == 0:
                fault = Refusal(Problem("internal-fault", {"incident": incident}), retry_after_s=5, close=True)
                await self._answer(fault, headers, scope, receive, guarded_send)
            elif scope["type"] == "http":
                raise  # the answer is half sent; the server closes the connection
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope.get("method", "WS")
            if method not in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "WS"):
                method = "other"
            self._meters.count("http_requests_total", route=route, method=method, status=str(status))
            if scope["type"] == "http":
                self._meters.observe("http_request_seconds", time.perf_counter() - began, route=route)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        # h11 bounds headers that are still incomplete; those that came whole in one piece are measured here.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._header_bytes:
            return Refusal(Problem("headers-too-large"), close=True)
        host = headers.get("host", "")
        if self._check_host and host_name(host) not in self._hosts:
            return Refusal(Problem("wrong-host"), close=True)
        if self._check_origin and (scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")):
            origin = headers.get("origin")
            if origin is not None and not same_origin(origin, host):
                return Refusal(Problem("wrong-origin"), close=True)
        return None

    @staticmethod
    async def _answer(refusal: Refusal, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem_response(refusal, language_of(headers.get("accept-language", "")))
        await response(scope, receive, send)
