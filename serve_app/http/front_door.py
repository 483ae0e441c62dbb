"""ASGI middleware: by which address a request came, and whether that address is ours.

Proxies that are trusted may say what the client saw; everybody else is taken by what they sent.
It refuses names that are not the service's and pages of other sites that would change something.
It knows no route.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.http.problems import ForeignOrigin, Refusal, UnknownHost, error_response
from serve_app.http.reach import PORTS, Reach, split_url

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

#: What a proxy may say; anything else is passed over.
_NETLOC = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+){1,16}")

#: Nearly every path of the service begins so, and no address of it is likely to end so.
_OWN = "/api/v1/"


class FrontDoor:
    """Lets requests in that are meant for this service, with the address that their client saw:
    `scheme`, `client`, the header `Host` and `root_path` of the scope say it."""

    def __init__(self, app: ASGIApp, reach: Reach) -> None:
        self._app = app
        self._networks = reach.networks
        self._public = split_url(reach.public_url) if reach.public_url else None
        names = {name.lower().rstrip(".") for name in reach.allowed_hosts}
        self._takes_all = "*" in names
        self._suffixes = tuple(name.removeprefix("*") for name in names if name.startswith("*."))
        self._names = {name for name in names if not name.startswith("*")}
        if self._public is not None and self._public.hostname:
            self._names.add(self._public.hostname)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = self._as_seen(scope)
            try:
                self._check(scope)
            except Refusal as error:
                await error_response(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _as_seen(self, scope: Scope) -> Scope:
        """The scope with what a trusted proxy says, and with the path that stands in front."""
        said = _said(scope) if self._is_trusted(scope.get("client")) else {}
        seen: MutableMapping[str, Any] = dict(scope)
        if said.get("proto") in PORTS:
            seen["scheme"] = said["proto"]
        if _NETLOC.fullmatch(said.get("host", "")):
            kept = [pair for pair in scope["headers"] if pair[0] != b"host"]
            seen["headers"] = [*kept, (b"host", said["host"].encode())]
        if "for" in said and (client := self._farthest(said["for"].split(","))):
            seen["client"] = (client, 0)
        root = scope.get("root_path", "").rstrip("/")
        prefix = said.get("prefix", "").rstrip("/")
        if _PREFIX.fullmatch(prefix):
            self._mount(seen, prefix + root)
        elif self._public is not None:
            self._mount(seen, self._public.path.rstrip("/"))
        return seen

    def _mount(self, seen: Scope, root: str) -> None:
        """Let the application see itself below `root`, whether or not the proxy cut that off."""
        route, old = seen["path"], seen.get("root_path", "").rstrip("/")
        for above in dict.fromkeys((root, old)):
            # A prefix that is cut off already may be one that our own paths begin with.
            if above and f"{route}/".startswith(f"{above}/") and not route.startswith(_OWN):
                route = route.removeprefix(above) or "/"
                break
        seen["root_path"], seen["path"] = root, root + route

    def _is_trusted(self, client: Iterable[Any] | None) -> bool:
        if not self._networks or client is None:
            return False
        host, port = client
        # The server in front of us has replaced a loopback proxy by the client it named.
        return self._is_proxy("127.0.0.1" if port == 0 else str(host))

    def _is_proxy(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        # A server that listens on `::` sees IPv4 clients so.
        seen = getattr(address, "ipv4_mapped", None) or address
        return any(seen in network for network in self._networks)

    def _farthest(self, addresses: list[str]) -> str:
        """The last address that is no proxy's: all before it are the client's own words."""
        for text in reversed(addresses):
            host = _without_port(text.strip())
            if not self._is_proxy(host):
                return host if _is_address(host) else ""
        return ""

    def _check(self, scope: Scope) -> None:
        """Raises UnknownHost or ForeignOrigin."""
        headers = Headers(scope=scope)
        # HTTP/1.0 may leave it out, no browser does.
        host = headers.get("host", "")
        if host and not self._is_ours(_hostname(host)):
            raise UnknownHost(
                f"This service is not called {host[:100]!r}. If it is, who runs it adds the name "
                "to ALLOWED_HOSTS (`allowed_hosts` in a YAML file) or PUBLIC_URL."
            )
        if scope["method"] in _SAFE_METHODS:
            return
        origin = headers.get("origin")
        if origin is not None:
            if not self._is_own_origin(origin, host):
                raise ForeignOrigin(
                    f"A page of {origin[:100]!r} may not change anything here. If it is a page of "
                    "this service, who runs it sets PUBLIC_URL or ALLOWED_HOSTS."
                )
        elif headers.get("sec-fetch-site") == "cross-site":
            raise ForeignOrigin("A page of another site may not change anything here.")

    def _is_ours(self, name: str) -> bool:
        # A page can point a name of its own at our address, never a numeric address.
        return (
            self._takes_all
            or name == "localhost"
            or name.endswith(".localhost")
            or self._is_called(name)
            or _is_address(name)
        )

    def _is_called(self, name: str) -> bool:
        return name in self._names or (bool(self._suffixes) and name.endswith(self._suffixes))

    def _is_own_origin(self, origin: str, host: str) -> bool:
        """Whether a page's origin is the address it asks, or one that we are known by."""
        url = split_url(origin)
        if url.scheme not in PORTS or not url.hostname:  # "null" of a sandbox or a file
            return False
        asked = split_url(f"{url.scheme}://{host}")
        same = (url.hostname, _port(url)) == (asked.hostname, _port(asked))
        return same or self._is_called(url.hostname)


def _said(scope: Scope) -> Mapping[str, str]:
    """What the nearest proxy says: of several values the last, but all of the addresses."""
    headers, said = Headers(scope=scope), {}
    for name in ("proto", "host", "prefix"):
        values = headers.getlist(f"x-forwarded-{name}")
        if values:
            said[name] = values[-1].rpartition(",")[2].strip()
    if addresses := headers.getlist("x-forwarded-for"):
        said["for"] = ",".join(addresses)
    return said


def _port(url: SplitResult) -> int | None:
    return url.port or PORTS.get(url.scheme)


def _hostname(host: str) -> str:
    """Of a `Host` header: without its port, in small letters."""
    return (split_url(f"//{host}").hostname or "").rstrip(".")


def _without_port(address: str) -> str:
    """Some proxies name the port of a client, too."""
    if address.startswith("[") or address.count(":") == 1:
        return split_url(f"//{address}").hostname or ""
    return address


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
