"""Sends the message that a job has ended: what it says, how it is signed, how often it is tried.

It knows the outbox of the records and HTTP; not who wrote the URL nor what is in the files.
Messages are signed as https://www.standardwebhooks.com says and delivered at least once; a
repeated one has the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import math
import random
import ssl
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import httpcore
import standardwebhooks

from deployments.jobs.egress import Egress, GuardedNetwork
from deployments.jobs.rows import Job, Webhook
from deployments.jobs.store import Records
from deployments.jobs.supervision import repeat
from pipeline.errors import GlimpseError, InvalidOption, Unavailable

log = logging.getLogger("ray.serve")

#: Pauses between tries: about eleven hours in nine tries, so a receiver may be down for a night.
RETRY_AFTER_S = (5, 30, 120, 600, 1800, 3600, 7200, 18000)

#: Messages that failed together must not come back together.
_JITTER = 0.2

#: Messages under way at once: a receiver that does not answer must not hold up the others.
_SENDERS = 3

#: So many faults without a message between them are not of one message.
_FAULTS_IN_A_ROW = 3

#: The lease outlasts the try by the time that the records may take.
_LEASE_MARGIN_S = 30.0

#: What is read of an answer's body, and for how long: only to end the connection cleanly.
_MAX_ANSWER = 4096
_ANSWER_S = 1.0

#: Sizes of a key that the specification allows, in bytes.
_KEY_BYTES = range(24, 65)

_GONE = 410


@dataclass(frozen=True)
class WebhookRules:
    """Where messages may go and what they are signed with.

    Attributes:
        secret: "whsec_" and 24 to 64 random bytes in base64; the receiver has the same.
        allowed_networks: of `Egress`.
        timeout_s: of a whole try.
    """

    secret: str = field(repr=False)
    allowed_networks: tuple[str, ...] = ()
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises InvalidOption."""
        _check_secret(self.secret)
        _ = self.egress
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise InvalidOption(f"A webhook's timeout must be above 0 s, not {self.timeout_s}.")

    @property
    def egress(self) -> Egress:
        """Where messages may go."""
        return Egress(self.allowed_networks, "webhook")


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


class WebhookSender:
    """Delivers one message at a time or several, as a context that holds the connections.

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
            network_backend=GuardedNetwork(rules.egress),
        )

    @property
    def lease_s(self) -> float:
        """For so long nobody else may try the same message."""
        return self.rules.timeout_s + _LEASE_MARGIN_S

    async def __aenter__(self) -> WebhookSender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()

    async def deliver(self, webhook: Webhook) -> None:
        """Return when the receiver took the message. Redirects are not followed.

        Raises:
            Unavailable: it did not; a later try may succeed.
            InvalidOption: it never will: it answered 410, or the rules do not allow its URL.
        """
        parts, port = self.rules.egress.check_url(webhook.url)
        host, path = str(parts.hostname), parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        url = httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)
        try:
            async with asyncio.timeout(self.rules.timeout_s):
                status = await self._post(url, parts.netloc, webhook)
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

    async def _post(self, url: httpcore.URL, netloc: str, webhook: Webhook) -> int:
        # Receivers refuse a signature that is five minutes off. The claim was seconds ago.
        job, now = webhook.job, webhook.claimed_at
        body = json.dumps(_message(job), ensure_ascii=False)
        signature = self._signer.sign(msg_id=job.id, timestamp=now, data=body)
        headers: dict[bytes | str, bytes | str] = {
            "host": netloc,  # httpcore would leave out the brackets of an IPv6 address
            "content-type": "application/json",
            "user-agent": "glimpse3d",
            "webhook-id": job.id,
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
                    size = 0
                    async for chunk in response.aiter_stream():
                        size += len(chunk)
                        if size >= _MAX_ANSWER:
                            break
            return int(response.status)


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
        await records.finish_webhook(job_id, webhook.attempt)
        return True
    retry_in_s = _pause_s(webhook.attempt) if retryable else None
    log.info("webhook of job %s, try %d: %s", job_id, webhook.attempt, problem)
    await records.finish_webhook(job_id, webhook.attempt, error=problem, retry_in_s=retry_in_s)
    return True


def _pause_s(attempt: int) -> float | None:
    """Until the try after this one; None after the last."""
    if attempt > len(RETRY_AFTER_S):
        return None
    return RETRY_AFTER_S[attempt - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)


@dataclass(frozen=True)
class Outbox:
    """The service that sends what is due; it looks again after `pause_s`."""

    records: Records
    rules: WebhookRules
    pause_s: float

    async def run(self) -> None:
        """Send for ever. What goes wrong with one message is left to its lease.

        Raises what three claims in a row raised, if that was no error of ours: then it is no
        matter of a message.
        """
        faults = 0
        async with WebhookSender(self.rules) as sender, asyncio.TaskGroup() as group:

            async def send_all() -> None:
                nonlocal faults
                try:
                    while await send_due(self.records, sender):
                        faults = 0
                except GlimpseError:
                    raise
                except Exception:
                    faults += 1
                    if faults >= _FAULTS_IN_A_ROW:
                        raise
                    log.exception("a webhook is left to its lease")
                else:
                    faults = 0

            for _ in range(_SENDERS):
                group.create_task(repeat(send_all, self.pause_s))
