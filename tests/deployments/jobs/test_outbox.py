"""Messages to a real receiver on loopback; the outbox is a small stand-in for the records."""

import asyncio
import base64
import json
import pickle
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import standardwebhooks

from deployments.jobs.outbox import RETRY_AFTER_S, WebhookRules, WebhookSender, send_due
from deployments.jobs.outbox import Outbox as Service
from deployments.jobs.rows import JobError, JobState, Webhook
from pipeline.errors import InvalidOption, Unavailable
from tests.deployments.jobs.receiver import (
    AT,
    JOB,
    LOOPBACK,
    PUBLIC,
    SECRET,
    deliver,
    receiving,
    resolver,
    to,
)


@dataclass
class Outbox:
    """One message, due at once after every failed try; `notes` says how the tries ended."""

    webhook: Webhook | None
    leases: list[float] = field(default_factory=list)
    notes: list[tuple[str | None, float | None]] = field(default_factory=list)

    async def claim_webhook(self, lease_s: float) -> Webhook | None:
        self.leases.append(lease_s)
        return self.webhook

    async def finish_webhook(self, job_id, attempt, *, error=None, retry_in_s=None) -> None:
        assert self.webhook is not None
        assert (job_id, attempt) == (self.webhook.job.id, self.webhook.attempt)
        self.notes.append((error, retry_in_s))
        again = replace(self.webhook, attempt=self.webhook.attempt + 1)
        self.webhook = None if retry_in_s is None else again


# -- what is sent --------------------------------------------------------------------------------


async def test_a_message_is_signed_and_says_how_the_job_ended():
    async with receiving(204) as receiver:
        await deliver(f"http://127.0.0.1:{receiver.port}/hook?for=me")
    ((first, headers, body),) = receiver.requests
    assert first == "POST /hook?for=me HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "glimpse3d"
    assert headers["webhook-id"] == "job-1"
    message = standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert message["type"] == "job.succeeded"
    assert message["timestamp"] == AT.isoformat()
    assert message["data"]["id"] == "job-1"
    assert message["data"]["project_id"] == "project-1"
    assert message["data"]["timings"] == {"views": 1.5}
    assert message["data"]["error"] is None
    assert b"secret/path" not in body


async def test_a_changed_body_or_another_secret_does_not_verify():
    async with receiving(200) as receiver:
        await deliver(f"http://127.0.0.1:{receiver.port}/")
    ((_, headers, body),) = receiver.requests
    other = standardwebhooks.Webhook(base64.b64encode(bytes(32)).decode())
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        other.verify(body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(body.replace(b"job-1", b"job-2"), headers)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (JobState.FAILED, JobError("model_failed", "Ünlucky.", "views", False)),
        (JobState.CANCELLED, None),
    ],
)
async def test_every_end_has_a_type_of_its_own(state, error):
    async with receiving(200) as receiver:
        job = replace(JOB, state=state, error=error, started_at=None)
        await deliver(f"http://127.0.0.1:{receiver.port}/", job=job)
    ((_, headers, body),) = receiver.requests
    message = standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert message["type"] == f"job.{state.value}"
    assert message["data"]["started_at"] is None
    detail = message["data"]["error"]
    assert detail == (None if error is None else json.loads(json.dumps(error.__dict__)))


# -- tries ---------------------------------------------------------------------------------------


async def test_there_is_nothing_to_do_when_nothing_is_due():
    outbox = Outbox(None)
    async with WebhookSender(LOOPBACK) as sender:
        assert not await send_due(outbox, sender)
    assert outbox.leases[0] > LOOPBACK.timeout_s
    assert outbox.notes == []


async def test_it_is_tried_again_until_the_receiver_takes_it():
    async with receiving(500, 503, 200) as receiver, WebhookSender(LOOPBACK) as sender:
        outbox = Outbox(to(f"http://127.0.0.1:{receiver.port}/"))
        while await send_due(outbox, sender):
            pass
    (first, again), (second, later), delivered = outbox.notes
    assert "answered 500" in first
    assert "answered 503" in second
    assert 0.8 * RETRY_AFTER_S[0] <= again <= 1.2 * RETRY_AFTER_S[0]
    assert 0.8 * RETRY_AFTER_S[1] <= later <= 1.2 * RETRY_AFTER_S[1]
    assert delivered == (None, None)
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {"job-1"}


async def test_it_is_given_up_after_the_last_pause():
    async with receiving(500) as receiver, WebhookSender(LOOPBACK) as sender:
        outbox = Outbox(to(f"http://127.0.0.1:{receiver.port}/"))
        while await send_due(outbox, sender):
            pass
    assert len(receiver.requests) == len(RETRY_AFTER_S) + 1
    error, retry_in_s = outbox.notes[-1]
    assert "answered 500" in error
    assert retry_in_s is None


async def test_a_receiver_that_is_gone_is_not_asked_again():
    async with receiving(410) as receiver, WebhookSender(LOOPBACK) as sender:
        outbox = Outbox(to(f"http://127.0.0.1:{receiver.port}/"))
        assert await send_due(outbox, sender)
    ((error, retry_in_s),) = outbox.notes
    assert "wants no messages" in error
    assert retry_in_s is None


async def test_a_url_that_is_not_allowed_any_more_is_given_up():
    outbox = Outbox(to("http://127.0.0.1:9/"))
    async with WebhookSender(PUBLIC) as sender:
        assert await send_due(outbox, sender)
    ((error, retry_in_s),) = outbox.notes
    assert "private" in error
    assert retry_in_s is None


async def test_a_fault_of_ours_does_not_stop_the_others(monkeypatch):
    outbox = Outbox(to("http://127.0.0.1:9/"))

    async def broken(webhook: Webhook) -> None:
        raise KeyError("bug")

    async with WebhookSender(LOOPBACK) as sender:
        monkeypatch.setattr(sender, "deliver", broken)
        assert await send_due(outbox, sender)
    ((error, retry_in_s),) = outbox.notes
    assert error == "The message could not be sent: KeyError."
    assert retry_in_s is not None


async def test_a_message_that_nobody_can_read_does_not_stop_the_others():
    @dataclass
    class OneUnreadable(Outbox):
        async def claim_webhook(self, lease_s: float) -> Webhook | None:
            await super().claim_webhook(lease_s)
            if len(self.leases) == 1:
                raise ValueError("a row of another release")
            return self.webhook

    async with receiving(204) as receiver:
        records: Any = OneUnreadable(to(f"http://127.0.0.1:{receiver.port}/"))
        service = asyncio.create_task(Service(records, LOOPBACK, 0.01).run())
        async with asyncio.timeout(20):
            while not records.notes:
                await asyncio.sleep(0.01)
        assert not service.done()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
    assert records.notes == [(None, None)]


async def test_a_message_is_signed_with_the_clock_of_the_store():
    store_time = datetime.now(UTC) - timedelta(seconds=200)
    async with receiving(204) as receiver, WebhookSender(LOOPBACK) as sender:
        webhook = to(f"http://127.0.0.1:{receiver.port}/")
        await sender.deliver(replace(webhook, claimed_at=store_time))
    ((_, headers, body),) = receiver.requests
    assert headers["webhook-timestamp"] == str(int(store_time.timestamp()))
    standardwebhooks.Webhook(SECRET).verify(body, headers)


async def test_a_try_that_is_cancelled_is_left_to_the_lease():
    async with receiving(None) as receiver, WebhookSender(LOOPBACK) as sender:
        outbox = Outbox(to(f"http://127.0.0.1:{receiver.port}/"))
        task = asyncio.create_task(send_due(outbox, sender))
        while not receiver.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert outbox.notes == []


# -- receivers that are slow, gone or odd --------------------------------------------------------


async def test_a_receiver_that_never_answers_is_left():
    rules = replace(LOOPBACK, timeout_s=0.2)
    async with receiving(None) as receiver:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"):
            await deliver(f"http://127.0.0.1:{receiver.port}/", rules)


async def test_nobody_there_is_a_failure_that_may_pass():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match="could not be reached"):
        await deliver(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000]
)
async def test_what_does_not_speak_http_is_a_failure(answer):
    async with receiving(answer) as receiver:
        with pytest.raises(Unavailable, match="could not be reached"):
            await deliver(f"http://127.0.0.1:{receiver.port}/")


@pytest.mark.parametrize(
    "body",
    [
        b"content-length: 1000000000\r\n\r\n" + b"x" * 1_000_000,
        b"content-length: 10\r\n\r\nshort",
        b"transfer-encoding: chunked\r\n\r\nnonsense\r\n",
        b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nnone",
    ],
)
async def test_the_body_of_an_answer_does_not_matter(body):
    async with receiving(b"HTTP/1.1 200 OK\r\n" + body) as receiver:
        await deliver(f"http://127.0.0.1:{receiver.port}/")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status):
    async with receiving(200) as inner:
        to_inner = f"location: http://127.0.0.1:{inner.port}/\r\ncontent-length: 0\r\n\r\n"
        async with receiving(f"HTTP/1.1 {status} X\r\n{to_inner}".encode()) as receiver:
            with pytest.raises(Unavailable, match=f"answered {status}"):
                await deliver(f"http://127.0.0.1:{receiver.port}/")
    assert inner.connections == 0


# -- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> tuple[ssl.SSLContext, Callable[[], ssl.SSLContext]]:
    """A server's context for hooks.example.com, and a maker of clients' that trust it."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = "-subj /CN=hooks.example.com -addext subjectAltName=DNS:hooks.example.com"
    subprocess.run(
        [*make.split(), *names.split(), "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, lambda: ssl.create_default_context(cafile=str(cert))


async def test_tls_proves_the_name_although_the_address_is_connected_to(monkeypatch, certificate):
    server, client = certificate
    async with receiving(200, tls=server) as receiver:
        with resolver(monkeypatch, ["127.0.0.1"]):
            await deliver(f"https://hooks.example.com:{receiver.port}/", tls=client())
            with pytest.raises(Unavailable, match="could not be reached"):
                await deliver(f"https://other.example.com:{receiver.port}/", tls=client())
            with pytest.raises(Unavailable, match="could not be reached"):
                await deliver(f"https://hooks.example.com:{receiver.port}/")
    assert len(receiver.requests) == 1
    assert receiver.requests[0][1]["host"] == f"hooks.example.com:{receiver.port}"


# -- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        base64.b64encode(bytes(32)).decode(),
        "whsec_not base64 but long enough for it",
        "whsec_" + base64.b64encode(bytes(8)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_a_secret_that_protects_nothing_is_refused(secret):
    with pytest.raises(InvalidOption, match="openssl rand") as error:
        WebhookRules(secret)
    assert len(secret) < 7 or secret not in str(error.value)


def test_other_wrong_rules_are_refused_too():
    with pytest.raises(InvalidOption, match=r"networks: .*10\.0\.0\.1/8"):
        WebhookRules(SECRET, allowed_networks=("10.0.0.1/8",))
    for timeout_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidOption, match="above 0 s"):
            WebhookRules(SECRET, timeout_s=timeout_s)


def test_rules_travel_and_keep_their_secret():
    assert pickle.loads(pickle.dumps(LOOPBACK)) == LOOPBACK
    assert SECRET not in repr(LOOPBACK)
