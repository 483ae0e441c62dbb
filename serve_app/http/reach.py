"""By which addresses clients come to the service, and whose word counts for it.

It knows no request; `serve_app.http.front_door` goes by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import SplitResult, urlsplit

from pipeline.errors import InvalidOption

#: Schemes of the web, with their ports.
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Reach:
    """How clients come to the service.

    Attributes:
        public_url: address that clients see, with a path where a proxy adds one; no slash at
            its end. None: taken from each request.
        allowed_hosts: further names of the service: of loopback, `public_url` and numeric addresses
            it is called anyway. "*.example.com" are all below that name, "*" are all names.
        trusted_proxies: addresses or networks whose `X-Forwarded-Proto`, `-Host`, `-Prefix` and
            `-For` are believed.
    """

    public_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidOption."""
        url = split_url(self.public_url) if self.public_url else None
        if url is not None and (url.scheme not in PORTS or not url.hostname or url.query):
            raise InvalidOption(f"public_url must be like https://host/path, not {self.public_url}")
        for name in self.allowed_hosts:
            # It would never match, without a word. An IPv6 address has more than one colon.
            wild = name != "*" and "*" in name.removeprefix("*.")
            if wild or "/" in name or name.count(":") == 1:
                raise InvalidOption(
                    "allowed_hosts are names without scheme and port, such as a.example or "
                    f"*.b.example, not {name}"
                )
        _ = self.networks

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Of the trusted proxies."""
        try:
            return tuple(ip_network(proxy) for proxy in self.trusted_proxies)
        except ValueError as error:
            raise InvalidOption(f"trusted_proxies are addresses or networks: {error}.") from error


def split_url(url: str) -> SplitResult:
    """Nothing where it is no URL at all."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts
