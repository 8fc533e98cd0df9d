"""The Principal of a request: from its bearer token, or anyone on this machine where reading is open (the demo).

Every handler takes its principal in its first line, through one of the functions below; each raises ``Refusal`` (401, 403).
"""

from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection

from api.deps import Deps
from api.problems import Problem, Refusal
from api.security import bearer_token, is_local, unauthorized
from hengliu.rights import ALL, Principal, Role, Scope

__all__ = ["ANYONE_HERE", "Reading", "deps_of", "reading_scope", "require", "require_reader"]

ANYONE_HERE: Final = Principal("local", frozenset({Role.READER}), enterprises=ALL, divisions=ALL)
"""Whoever reads an open demo on loopback. May read everything and write nothing."""


def deps_of(connection: HTTPConnection) -> Deps:
    """What the application was made with."""
    deps = connection.app.state.deps
    assert isinstance(deps, Deps)
    return deps


def _authenticated(connection: HTTPConnection, deps: Deps) -> Principal | None:
    token = bearer_token(connection.headers)
    if token is None:
        return None
    principal = deps.tokens.authenticate(token)
    if principal is None:
        deps.meters.count("auth_refused_total", reason="invalid-token")
        raise unauthorized("invalid-token")
    return principal


def require(connection: HTTPConnection, *roles: Role) -> Principal:
    """The principal of a token that has one of the roles."""
    deps = deps_of(connection)
    principal = _authenticated(connection, deps)
    if principal is None:
        deps.meters.count("auth_refused_total", reason="unauthenticated")
        raise unauthorized("unauthenticated")
    if not any(principal.has(role) for role in roles):
        deps.meters.count("auth_refused_total", reason="forbidden")
        raise Refusal(Problem("forbidden", {"role": ", ".join(roles)}))
    return principal


def require_reader(connection: HTTPConnection) -> Principal:
    """Who reads: a token's reader or admin, or anyone on this machine where reading is open."""
    deps = deps_of(connection)
    if deps.open_reading and "authorization" not in connection.headers and is_local(connection):
        return ANYONE_HERE
    return require(connection, Role.READER, Role.ADMIN)


def reading_scope(principal: Principal) -> Scope:
    """The rights filter of a reader; an administrator sees everything."""
    return Scope(everything=True) if principal.has(Role.ADMIN) else principal.scope()


@dataclass(frozen=True, slots=True)
class Reading:
    """A reader and what they may see.

    Attributes:
        key: the same for all who see the same, so that their readings may be shared.
    """

    principal: Principal
    scope: Scope

    @classmethod
    async def of(cls, connection: HTTPConnection, deps: Deps) -> "Reading":
        """Who reads here. Raises Refusal (401, 403)."""
        principal = require_reader(connection)
        return cls(principal, reading_scope(principal))

    @property
    def key(self) -> str:
        if self.scope.everything:
            return "*"
        return "|".join((",".join(sorted(self.scope.enterprises)), ",".join(sorted(self.scope.divisions))))
