"""Which proxy of the environment a request goes through: none to this machine.

Left to itself httpx sends requests to this machine's own service through a proxy, too, and stops
with a traceback at a proxy of a kind for which a package is missing. It does not know who asks.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import urllib.request
from urllib.parse import urlsplit

import httpx

from pipeline.errors import Unavailable

_KINDS = ("http", "https", "socks5", "socks5h")


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == "localhost" or host.lower().endswith(".localhost")


def proxy_for(url: str) -> str | None:
    """What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say of a URL; httpx leaves that to its
    own transports.

    Raises:
        Unavailable: it is a SOCKS proxy and the package for these is not installed.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    known = urllib.request.getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    kind = urlsplit(proxy).scheme
    if kind not in _KINDS:
        raise Unavailable(
            f"The environment names a proxy of kind {kind[:20]!r} for {host}; "
            f"{', '.join(_KINDS)} can be used."
        )
    if kind.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise Unavailable(
            f"The environment names a proxy of kind {kind} for {host}, which needs a package: run "
            f"`pip install socksio`, or set NO_PROXY={host}."
        )
    return proxy


class ProxyByUrl(httpx.BaseTransport):
    """Sends each request through the proxy that is right for its own URL, so that a redirect from
    this machine to another, or back, needs no other client.
    """

    def __init__(self) -> None:
        self._transports: dict[str | None, httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxy = proxy_for(str(request.url))
        if proxy not in self._transports:
            self._transports[proxy] = httpx.HTTPTransport(proxy=proxy)
        return self._transports[proxy].handle_request(request)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()
