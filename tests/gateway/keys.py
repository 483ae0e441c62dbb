"""API keys and tokens: which role a request has."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from starlette.datastructures import Headers

__all__ = ["Caller", "KeyRefused", "KeyRules", "Keys", "Secrets"]

_FAR = 10 * 365 * 24 * 3600


@dataclass(frozen=True)
class Keys:
    """The keys of the project: two legacy JWTs, their two successors, and one that has expired."""

    service_jwt: str
    anon_jwt: str
    secret: str
    publishable: str
    expired_jwt: str


@dataclass(frozen=True)
class KeyRules:
    """What the API gateway does with keys that are no JWT; the default is the platform's.

    Attributes:
        as_tokens: one may stand in Authorization, too, where it is the same as in `apikey`.
        make_tokens: one that stands in `apikey` alone becomes a token of its role.
    """

    as_tokens: bool = True
    make_tokens: bool = True


class KeyRefused(Exception):
    """The API gateway answers 401 with this body, if any."""

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.body = {"message": message, "hint": hint} if message else None


@dataclass(frozen=True)
class Caller:
    """Whose request it is.

    Attributes:
        claims: of the token; `{"role": "anon"}` without a valid one.
        authenticated: the token is there and valid.
        has_token: an Authorization header reached the service.
        error: why the token is not valid.
    """

    claims: Mapping[str, Any]
    authenticated: bool = False
    has_token: bool = False
    error: jwt.InvalidTokenError | None = None

    @property
    def role(self) -> str:
        """The role in the database."""
        return str(self.claims.get("role") or "anon")

    @property
    def owner(self) -> str | None:
        """The user the token was made for."""
        sub = self.claims.get("sub")
        return None if sub is None else str(sub)


ANONYMOUS = Caller({"role": "anon"})
SERVICE = Caller({"role": "service_role"}, authenticated=True, has_token=True)


class Secrets:
    """The project's JWT secret, and everything signed with it."""

    def __init__(self) -> None:
        self.rules = KeyRules()
        self._secret = secrets.token_hex(32)
        self.keys = Keys(
            service_jwt=self.sign({"role": "service_role"}, _FAR),
            anon_jwt=self.sign({"role": "anon"}, _FAR),
            secret="sb_secret_" + secrets.token_urlsafe(24),
            publishable="sb_publishable_" + secrets.token_urlsafe(24),
            expired_jwt=self.sign({"role": "service_role"}, -3600),
        )
        self._opaque = {
            self.keys.secret: self.keys.service_jwt,
            self.keys.publishable: self.keys.anon_jwt,
        }

    def sign(self, claims: dict[str, Any], lifetime_s: int) -> str:
        """A JWT with these claims that expires."""
        now = int(time.time())
        issued = {"iss": "supabase", "iat": min(now, now + lifetime_s), "exp": now + lifetime_s}
        return jwt.encode(issued | claims, self._secret, "HS256")

    def verify(self, token: str, *, expiry: bool = True) -> dict[str, Any]:
        """The claims of a JWT.

        Raises:
            jwt.InvalidTokenError: forged, expired or no JWT at all.
        """
        claims: dict[str, Any] = jwt.decode(
            token,
            self._secret,
            ["HS256"],
            options={"verify_exp": expiry, "verify_aud": False},
        )
        return claims

    def caller(self, headers: Headers) -> Caller:
        """Whose request it is; a token that is not valid is for the service to refuse.

        Raises:
            KeyRefused: the API gateway lets it not pass.
        """
        key = headers.get("apikey")
        if not key:
            raise KeyRefused(
                "No API key found in request",
                "No `apikey` request header or url param was found.",
            )
        unknown = KeyRefused("Invalid API key", "Double check your Supabase API key.")
        if key not in self._opaque:
            try:
                self.verify(key, expiry=False)
            except jwt.InvalidTokenError:
                raise unknown from None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if key == self.keys.secret and "Mozilla/" in headers.get("user-agent", ""):
            raise KeyRefused  # a browser
        if key in self._opaque and token in ("", key):
            if self.rules.as_tokens if token else self.rules.make_tokens:
                token = self._opaque[key]
        elif token.startswith("sb_"):
            raise unknown
        if not token:
            return ANONYMOUS
        if scheme and scheme.lower() != "bearer":
            raise unknown
        try:
            claims = self.verify(token)
        except jwt.InvalidTokenError as error:
            return Caller(ANONYMOUS.claims, has_token=True, error=error)
        return Caller(claims, authenticated=True, has_token=True)
