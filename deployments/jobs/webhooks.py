"""Tells a receiver that a job has ended: what the message says, where it may go, how often.

It knows the outbox of the records and HTTP, not who wrote the URL nor what is in the files.
Messages are signed as https://www.standardwebhooks.com says and delivered at least once; a
repeated one has the same `webhook-id`.

A URL is a stranger's: it must not lead into the network that the service stands in. The name is
resolved once, every address is looked at, and the connection goes to the address that was looked
at, so that a name whose address changes in between gains nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import json
import logging
import math
import random
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore
import standardwebhooks

from deployments.jobs.rows import Job, Webhook
from deployments.jobs.store import Records
from pipeline.errors import GlimpseError, InvalidOption, Unavailable

__all__ = ["RETRY_AFTER_S", "WebhookRules", "WebhookSender", "send_due"]

log = logging.getLogger("ray.serve")

#: Pauses between tries: about eleven hours in nine tries, so a receiver may be down for a night.
RETRY_AFTER_S = (5, 30, 120, 600, 1800, 3600, 7200, 18000)

#: Messages that failed together must not come back together.
_JITTER = 0.2

#: The lease outlasts the try by the time that the records may take.
_LEASE_MARGIN_S = 30.0

#: Longest URL that is kept.
_MAX_URL = 2048

#: What is read of an answer's body, and for how long: only to end the connection cleanly.
_MAX_ANSWER = 4096
_ANSWER_S = 1.0

#: Addresses of one name that are tried.
_MAX_ADDRESSES = 4

#: Sizes of a key that the specification allows, in bytes.
_KEY_BYTES = range(24, 65)

_GONE = 410

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


@dataclass(frozen=True)
class WebhookRules:
    """Where messages may go and what they are signed with.

    Attributes:
        secret: "whsec_" and 24 to 64 random bytes in base64; the receiver has the same.
        allowed_networks: CIDRs that may be reached although they are not public, there also with
            http. Empty: the public internet, with https.
        timeout_s: of a whole try.
    """

    secret: str = field(repr=False)
    allowed_networks: tuple[str, ...] = ()
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises InvalidOption."""
        _check_secret(self.secret)
        _networks(self.allowed_networks)
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise InvalidOption(f"A webhook's timeout must be above 0 s, not {self.timeout_s}.")

    def check_url(self, url: str) -> None:
        """Refuse with InvalidOption what can never be delivered; no name is resolved."""
        parts, _ = _split(url)
        host = parts.hostname or ""
        address = _literal(host)
        if address is not None:
            inside = self._is_allowed(address)
            if not inside and not _is_global(address):
                raise InvalidOption("webhook_url must not name a private or reserved address.")
        elif _is_localhost(host):
            inside = any(self._is_allowed(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1"))
            if not inside:
                raise InvalidOption("webhook_url must not name this machine.")
        else:
            inside = False
        if parts.scheme == "http" and not inside:
            raise InvalidOption("webhook_url must begin with https://.")

    def may_reach(self, address: str) -> bool:
        """Whether a connection to the address, as a resolver writes it, may be made."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return self._is_allowed(found) or _is_global(found)

    def _is_allowed(self, address: _Address) -> bool:
        address = _unmapped(address)
        return any(address in network for network in _networks(self.allowed_networks))


def _check_secret(secret: str) -> None:
    word = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(word + "=" * (-len(word) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if word == secret or len(key) not in _KEY_BYTES:
        raise InvalidOption(
            "The webhook secret must be whsec_ and 24 to 64 random bytes in base64: "
            'echo "whsec_$(openssl rand -base64 32)" prints one.'
        )


@lru_cache(maxsize=8)
def _networks(names: tuple[str, ...]) -> tuple[_Network, ...]:
    try:
        return tuple(ipaddress.ip_network(name) for name in names)
    except ValueError as error:
        raise InvalidOption(f"Allowed webhook networks: {error}.") from error


# -- URLs ----------------------------------------------------------------------------------------


def _split(url: str) -> tuple[SplitResult, int | None]:
    """The parts and the port of a URL of a form that no two parsers read differently."""
    if len(url) > _MAX_URL:
        raise InvalidOption(f"webhook_url has {len(url)} characters; {_MAX_URL} are allowed.")
    # urlsplit drops line breaks and tabs, others take a backslash for a slash.
    if not all("!" <= letter <= "~" for letter in url) or "\\" in url:
        raise InvalidOption(
            "webhook_url must be ASCII without spaces: percent-encode the path, write a host in "
            "another script as xn--..."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidOption(f"webhook_url is not a URL: {error}.") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidOption("webhook_url must begin with https://.")
    if "@" in parts.netloc:
        raise InvalidOption("webhook_url must not hold a user name or password.")
    host = parts.hostname
    if not host:
        raise InvalidOption("webhook_url names no host.")
    if port == 0:
        raise InvalidOption("webhook_url names port 0.")
    if _literal(host) is None and not _is_name(host):
        raise InvalidOption(f"webhook_url names the host {host!r}, which is none.")
    return parts, port


def _literal(host: str) -> _Address | None:
    """The address that a host is, if it is one in the usual form. Raises InvalidOption."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        raise InvalidOption("webhook_url must not name a network interface.")
    return address


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


# -- addresses -----------------------------------------------------------------------------------


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
    if address.is_multicast or any(address in network for network in _NOT_GLOBAL):
        return False
    return address.is_global


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the rules allow, and to no others."""

    def __init__(self, rules: WebhookRules) -> None:
        self._rules = rules
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
            if not self._rules.may_reach(address):
                # Who asked for the message must not learn our addresses from it.
                log.warning("webhook: %s is %s, which may not be reached", host, address)
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


# -- messages ------------------------------------------------------------------------------------


class WebhookSender:
    """Delivers one message at a time or several; has to be closed.

    Args:
        tls: for https; None trusts the usual authorities.
    """

    def __init__(self, rules: WebhookRules, tls: ssl.SSLContext | None = None) -> None:
        self.rules = rules
        self._signer = standardwebhooks.Webhook(rules.secret)
        # Nothing is kept alive: the next message has its name resolved anew.
        self._pool = httpcore.AsyncConnectionPool(
            # Made here: httpcore would read the authorities' file again for every message.
            ssl_context=tls or httpcore.default_ssl_context(),
            max_keepalive_connections=0,
            network_backend=_Guarded(rules),
        )

    @property
    def lease_s(self) -> float:
        """For so long nobody else may try the same message."""
        return self.rules.timeout_s + _LEASE_MARGIN_S

    async def __aenter__(self) -> WebhookSender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def deliver(self, webhook: Webhook) -> None:
        """Return when the receiver took the message. Redirects are not followed.

        Raises:
            Unavailable: it did not; a later try may succeed.
            InvalidOption: it never will: it answered 410, or the rules do not allow its URL.
        """
        self.rules.check_url(webhook.url)
        parts, _ = _split(webhook.url)
        host = str(parts.hostname)
        try:
            async with asyncio.timeout(self.rules.timeout_s):
                status = await self._post(webhook)
        except TimeoutError as error:
            raise Unavailable(
                f"{host} did not answer within {self.rules.timeout_s:g} s."
            ) from error
        except httpcore.TimeoutException as error:
            raise Unavailable(f"{host} did not accept a connection in time.") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Unavailable(f"{host} could not be reached: {error}.") from error
        if status == _GONE:
            raise InvalidOption(f"{host} answered {status}: it wants no messages.")
        if not 200 <= status < 300:
            raise Unavailable(f"{host} answered {status}.")

    async def _post(self, webhook: Webhook) -> int:
        parts, port = _split(webhook.url)
        path = parts.path or "/"
        url = httpcore.URL(
            scheme=parts.scheme,
            host=str(parts.hostname),
            port=port,
            target=f"{path}?{parts.query}" if parts.query else path,
        )
        body = json.dumps(_message(webhook.job), ensure_ascii=False)
        now = datetime.now(UTC)
        signature = self._signer.sign(msg_id=webhook.job.id, timestamp=now, data=body)
        headers: dict[bytes | str, bytes | str] = {
            "host": parts.netloc,  # httpcore would leave out the brackets of an IPv6 address
            "content-type": "application/json",
            "user-agent": "glimpse3d",
            "webhook-id": webhook.job.id,
            "webhook-timestamp": str(math.floor(now.timestamp())),
            "webhook-signature": signature,
        }
        # For the connection alone; the whole try has its limit in `deliver`.
        limits = {"timeout": {"connect": self.rules.timeout_s}}
        async with self._pool.stream(
            "POST", url, headers=headers, content=body.encode(), extensions=limits
        ) as response:
            # The status has come. A body that ends badly or never changes nothing about it.
            with contextlib.suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
                async with asyncio.timeout(_ANSWER_S):
                    await _read_some(response)
            return int(response.status)


async def _read_some(response: httpcore.Response) -> None:
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        if size >= _MAX_ANSWER:
            return


def _message(job: Job) -> dict[str, Any]:
    """What is sent. Links to files are not: who asks GET /jobs/{id} gets them signed."""

    def iso(moment: datetime | None) -> str | None:
        return None if moment is None else moment.isoformat()

    return {
        "type": f"job.{job.state.value}",
        "timestamp": iso(job.finished_at),
        "data": {
            "id": job.id,
            "project_id": job.project_id,
            "kind": job.kind.value,
            "state": job.state.value,
            "stage": job.stage,
            "attempt": job.attempt,
            "error": None if job.error is None else asdict(job.error),
            "timings": dict(job.timings),
            "created_at": iso(job.created_at),
            "started_at": iso(job.started_at),
            "finished_at": iso(job.finished_at),
        },
    }


async def send_due(records: Records, sender: WebhookSender) -> bool:
    """Try one message that is due; False when there is none.

    Whoever dies in between leaves the message to the next try after the lease.
    """
    webhook = await records.claim_webhook(sender.lease_s)
    if webhook is None:
        return False
    job_id = webhook.job.id
    try:
        await sender.deliver(webhook)
    except GlimpseError as error:
        problem, retryable = str(error), error.retryable
    except Exception as error:
        # A fault of ours: the other messages must not wait behind this one for ever.
        log.exception("webhook of job %s", job_id)
        problem, retryable = f"The message could not be sent: {type(error).__name__}.", True
    else:
        log.info("webhook of job %s: delivered with try %d", job_id, webhook.attempt)
        await records.finish_webhook(job_id)
        return True
    retry_in_s = _pause_s(webhook.attempt) if retryable else None
    log.info("webhook of job %s, try %d: %s", job_id, webhook.attempt, problem)
    await records.finish_webhook(job_id, error=problem, retry_in_s=retry_in_s)
    return True


def _pause_s(attempt: int) -> float | None:
    """Until the try after this one; None after the last."""
    if attempt > len(RETRY_AFTER_S):
        return None
    return RETRY_AFTER_S[attempt - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)
