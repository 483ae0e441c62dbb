"""Requests to addresses that strangers chose: which URLs may be called, and a network that obeys.

A URL must not lead into the network that the service stands in. The name is resolved once, every
address is looked at, and the connection goes to the address that was looked at, so that a name
whose address changes in between gains nothing. It does not know what is sent, nor why.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

import httpcore

from pipeline.errors import InvalidOption, Unavailable

log = logging.getLogger("ray.serve")

#: Longest URL that is kept.
_MAX_URL = 2048

#: Addresses of one name that are tried.
_MAX_ADDRESSES = 4

_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

#: All that has been assigned for the public internet; Python also calls much else global.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")

#: Not global, but not in the tables of every Python 3.11: IETF protocol assignments (a cloud's
#: metadata service answers there), the 6to4 relays, documentation.
_NOT_GLOBAL: tuple[_Network, ...] = (
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv6Network("3fff::/20"),
)


#: Public by the tables, but a cloud answers there from within: it knows its guests by where they
#: ask from, not by a key. Addresses of other clouds are link-local, of carriers (100.64.0.0/10) or
#: among the above.
_OF_A_PLATFORM: tuple[_Network, ...] = (
    ipaddress.IPv4Network("168.63.129.16/32"),  # Azure: agent, DNS, health of a machine
    ipaddress.IPv4Network("161.26.0.0/16"),  # IBM Cloud: services of the private network
    ipaddress.IPv4Network("166.8.0.0/14"),  # IBM Cloud: endpoints of the private network
    ipaddress.IPv4Network("192.80.8.124/32"),  # Equinix Metal: metadata
    ipaddress.IPv4Network("199.36.153.4/30"),  # Google Cloud: APIs, by VPC Service Controls
    ipaddress.IPv4Network("199.36.153.8/30"),  # Google Cloud: APIs, without a public address
)


@dataclass(frozen=True)
class Egress:
    """Where requests may go.

    Attributes:
        allowed_networks: CIDRs that may be reached although they are not public, there also with
            http. Empty: the public internet, with https.
        purpose: one word for messages: what is asked for is an option `{purpose}_url`.
    """

    allowed_networks: tuple[str, ...]
    purpose: str

    def __post_init__(self) -> None:
        """Raises InvalidOption."""
        try:
            _networks(self.allowed_networks)
        except ValueError as error:
            raise InvalidOption(f"Allowed {self.purpose} networks: {error}.") from error

    def check_url(self, url: str) -> tuple[SplitResult, int | None]:
        """The parts and the port of a URL that requests may go to; no name is resolved.

        Raises:
            InvalidOption: nothing can ever be delivered there.
        """
        name = f"{self.purpose}_url"
        parts, port = _split(url, name)
        host = str(parts.hostname)
        address = _literal(host)
        if address is not None:
            inside = self._is_allowed(address)
            if not inside and not _is_global(address):
                raise InvalidOption(f"{name} must not name a private or reserved address.")
        elif _is_localhost(host):
            inside = any(self._is_allowed(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1"))
            if not inside:
                raise InvalidOption(f"{name} must not name this machine.")
        else:
            inside = False
        if parts.scheme == "http" and not inside:
            raise InvalidOption(f"{name} must begin with https://.")
        return parts, port

    def may_reach(self, address: str) -> bool:
        """Whether a connection to the address, as a resolver writes it, may be made."""
        found = _literal(address)
        return found is not None and (self._is_allowed(found) or _is_global(found))

    def _is_allowed(self, address: _Address) -> bool:
        address = _unmapped(address)
        return any(address in network for network in _networks(self.allowed_networks))


@lru_cache(maxsize=8)
def _networks(names: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(name) for name in names)


def _split(url: str, name: str) -> tuple[SplitResult, int | None]:
    """The parts and the port of a URL of a form that no two parsers read differently.

    Raises InvalidOption; `name` is that of the option.
    """
    if len(url) > _MAX_URL:
        raise InvalidOption(f"{name} has {len(url)} characters; {_MAX_URL} are allowed.")
    # urlsplit drops line breaks and tabs, others take a backslash for a slash.
    if not all("!" <= letter <= "~" for letter in url) or "\\" in url:
        raise InvalidOption(
            f"{name} must be ASCII without spaces: percent-encode the path, write a host in "
            "another script as xn--..."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidOption(f"{name} is not a URL: {error}.") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidOption(f"{name} must begin with https://.")
    if "@" in parts.netloc:
        raise InvalidOption(f"{name} must not hold a user name or password.")
    host = parts.hostname
    if not host:
        raise InvalidOption(f"{name} names no host.")
    if port == 0:
        raise InvalidOption(f"{name} names port 0.")
    if _literal(host) is None:
        if not _is_name(host):
            raise InvalidOption(f"{name} names the host {host!r}, which is none.")
    elif "%" in host:
        raise InvalidOption(f"{name} must not name a network interface.")
    return parts, port


def _literal(host: str) -> _Address | None:
    """The address that a host is, if it is one in the usual form."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_name(host: str) -> bool:
    if len(host) > 253 or not _NAME.fullmatch(host):
        return False
    try:
        # 2130706433, 0x7f.1 and 127.1 are 127.0.0.1 for every resolver.
        socket.inet_aton(host)
    except OSError:
        return True
    return False


def _is_localhost(host: str) -> bool:
    return f".{host}".endswith(".localhost")


def _unmapped(address: _Address) -> _Address:
    """::ffff:a.b.c.d is a.b.c.d on the wire."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_global(address: _Address) -> bool:
    """Part of the public internet, also after the translations that routers do."""
    address = _unmapped(address)
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return _is_global(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None and not _is_global(address.sixtofour):
            return False
        if address not in _GLOBAL_V6:
            return False
    if address.is_multicast:
        return False
    if any(address in network for network in (*_NOT_GLOBAL, *_OF_A_PLATFORM)):
        return False
    return address.is_global


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that `egress` allows, and to no others."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As in the base class. Raises Unavailable for a name that may not be reached."""
        addresses = await _resolve(host, port)
        for address in addresses:
            if not self._egress.may_reach(address):
                # Who asked for the message must not learn our addresses from it.
                purpose = self._egress.purpose
                log.warning("%s: %s is %s, which may not be reached", purpose, host, address)
                raise Unavailable(f"{host} has an address that is not on the public internet.")
        tried = addresses[:_MAX_ADDRESSES]
        failure: Exception = Unavailable(f"{host} has no address.")
        for address in tried:
            try:
                return await self._network.connect_tcp(
                    address,
                    port,
                    # One that is silent must not use up the time of the others.
                    timeout=None if timeout is None else timeout / len(tried),
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


async def _resolve(host: str, port: int) -> list[str]:
    """Every address of a name, as the system has them, each once."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{host} has no address.") from error
    return [*dict.fromkeys(str(address[0]) for *_, address in found)]
