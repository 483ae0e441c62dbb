"""Messages to a real receiver on loopback; the outbox is a small stand-in for the records."""

import asyncio
import base64
import contextlib
import json
import pickle
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
import standardwebhooks

from deployments.jobs.rows import Job, JobError, JobKind, JobState, Webhook
from deployments.jobs.webhooks import RETRY_AFTER_S, WebhookRules, WebhookSender, send_due
from pipeline.errors import InvalidOption, Unavailable

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PUBLIC = WebhookRules(SECRET)
LOOPBACK = WebhookRules(SECRET, allowed_networks=("127.0.0.0/8", "::1/128"))

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = Job(
    id="job-1",
    project_id="project-1",
    kind=JobKind.GENERATE,
    state=JobState.SUCCEEDED,
    options={"preset": "draft"},
    stage="previews",
    step="",
    progress=1.0,
    attempt=2,
    max_attempts=3,
    fence=2,
    cancel_requested=False,
    timings={"views": 1.5},
    memory={},
    expected={},
    error=None,
    last_error=None,
    result={"model_path": "secret/path.ply"},
    queue_position=None,
    ordinal=1,
    number=7,
    created_at=AT,
    step_started_at=AT,
    started_at=AT,
    finished_at=AT,
)


@dataclass
class Outbox:
    """One message, due at once after every failed try; tells how the tries were noted."""

    webhook: Webhook | None
    leases: list[float] = field(default_factory=list)
    notes: list[tuple[str | None, float | None]] = field(default_factory=list)

    async def claim_webhook(self, lease_s: float) -> Webhook | None:
        self.leases.append(lease_s)
        return self.webhook

    async def finish_webhook(self, job_id, *, error=None, retry_in_s=None) -> None:
        assert self.webhook is not None
        assert job_id == self.webhook.job.id
        self.notes.append((error, retry_in_s))
        again = replace(self.webhook, attempt=self.webhook.attempt + 1)
        self.webhook = None if retry_in_s is None else again


@dataclass
class Receiver:
    """Answers every request with the next of `answers` (the last one for ever).

    An answer is a status, whole bytes, or None for a receiver that never answers.
    """

    answers: list[int | bytes | None]
    tls: ssl.SSLContext | None = None
    port: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((first, headers, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                await reader.read()
            elif isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                writer.write(f"HTTP/1.1 {answer} X\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving(*answers: int | bytes | None, tls=None) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(answers), tls)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()


@contextmanager
def resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Iterator[list[str]]:
    """The system's resolver, which answers a name differently each time; the names asked for."""
    asked: list[str] = []

    async def getaddrinfo(self, host, port, **_):
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in found]

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        yield asked


def to(url: str, job: Job = JOB) -> Webhook:
    return Webhook(job, url, 1)


async def deliver(url: str, rules: WebhookRules = LOOPBACK, tls=None, job: Job = JOB) -> None:
    async with WebhookSender(rules, tls) as sender:
        await sender.deliver(to(url, job))


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


# -- where messages may go -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        ["nonsense"],
        ["93.184.215.14", "127.0.0.1"],
    ],
)
async def test_a_name_with_a_private_address_is_refused(monkeypatch, addresses):
    async with receiving(200) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        PUBLIC.check_url(url)
        with (
            resolver(monkeypatch, addresses) as asked,
            pytest.raises(Unavailable, match="not on the public internet") as told,
        ):
            await deliver(url, PUBLIC)
    assert asked == ["hooks.example.com"]
    assert receiver.connections == 0
    assert not any(address in str(told.value) for address in addresses)


async def test_a_name_that_changes_its_address_gains_nothing(monkeypatch):
    """The address that was looked at is connected to: 127.0.0.2 plays the public one here."""
    rules = WebhookRules(SECRET, allowed_networks=("127.0.0.2/32",), timeout_s=2)
    async with receiving(200) as private:
        url = f"https://hooks.example.com:{private.port}/"
        with resolver(monkeypatch, ["127.0.0.2"], ["127.0.0.1"]) as asked:
            with pytest.raises(Unavailable):
                await deliver(url, rules)
            assert asked == ["hooks.example.com"]
            # The second message asks anew, and refuses what it is told.
            with pytest.raises(Unavailable, match="not on the public internet"):
                await deliver(url, rules)
    assert private.connections == 0


async def test_a_name_without_an_address_may_have_one_later(monkeypatch):
    async def getaddrinfo(self, host, port, **_):
        raise socket.gaierror(-2, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
        with pytest.raises(Unavailable, match=r"hooks\.example\.com has no address"):
            await deliver("https://hooks.example.com/", PUBLIC)


async def test_the_next_address_is_tried_when_one_is_dead(monkeypatch):
    async with receiving(200) as receiver:
        with resolver(monkeypatch, ["127.0.0.9", "127.0.0.1"]):
            await deliver(f"http://localhost:{receiver.port}/")
    assert len(receiver.requests) == 1


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
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d#e",
        "https://EXAMPLE.com/%C3%BC",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://[::ffff:8.8.8.8]/",
        "https://1.example/",
        "https://localhost.example.com/",
    ],
)
def test_public_urls_are_taken(url):
    PUBLIC.check_url(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "must begin with https"),
        ("example.com", "must begin with https"),
        ("//example.com/", "must begin with https"),
        ("ftp://example.com/", "must begin with https"),
        ("file:///etc/passwd", "must begin with https"),
        ("http://example.com/", "must begin with https"),
        ("http://8.8.8.8/", "must begin with https"),
        ("https://", "names no host"),
        ("https:///path", "names no host"),
        ("https://:8000/", "names no host"),
        ("https://user:pw@example.com/", "user name or password"),
        ("https://@example.com/", "user name or password"),
        ("https://example.com:0/", "port 0"),
        ("https://example.com:65536/", "not a URL"),
        ("https://example.com:x/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://exa mple.com/", "ASCII"),
        ("https://example.com/\n", "ASCII"),
        ("https://example.com\t/", "ASCII"),
        ("https://bücher.example/", "xn--"),
        ("https://127。0。0。1/", "ASCII"),
        ("https://example.com\\@127.0.0.1/", "ASCII"),
        ("https://example..com/", "which is none"),
        ("https://%31%32%37.0.0.1/", "which is none"),
        ("https://" + "a" * 64 + ".com/", "which is none"),
        ("https://example.com/" + "a" * 2048, "are allowed"),
        ("https://2130706433/", "which is none"),
        ("https://0x7f.1/", "which is none"),
        ("https://0x7f000001/", "which is none"),
        ("https://017700000001/", "which is none"),
        ("https://0177.0.0.1/", "which is none"),
        ("https://127.1/", "which is none"),
        ("https://127.0.0.1./", "which is none"),
        ("https://0/", "which is none"),
        ("https://127.0.0.1/", "private"),
        ("https://0.0.0.0/", "private"),
        ("https://10.0.0.1/", "private"),
        ("https://172.16.0.1/", "private"),
        ("https://192.168.1.1/", "private"),
        ("https://100.64.0.1/", "private"),
        ("https://169.254.169.254/", "private"),
        ("https://192.0.0.192/", "private"),
        ("https://192.88.99.1/", "private"),
        ("https://224.0.0.1/", "private"),
        ("https://255.255.255.255/", "private"),
        ("https://[::]/", "private"),
        ("https://[::1]/", "private"),
        ("https://[::127.0.0.1]/", "private"),
        ("https://[::ffff:127.0.0.1]/", "private"),
        ("https://[::ffff:7f00:1]/", "private"),
        ("https://[64:ff9b::7f00:1]/", "private"),
        ("https://[64:ff9b:1::1]/", "private"),
        ("https://[2002:7f00:1::]/", "private"),
        ("https://[2001::1]/", "private"),
        ("https://[2001:db8::1]/", "private"),
        ("https://[3fff::1]/", "private"),
        ("https://[fc00::1]/", "private"),
        ("https://[fec0::1]/", "private"),
        ("https://[fe80::1]/", "private"),
        ("https://[fe80::1%25eth0]/", "network interface"),
        ("https://[ff0e::1]/", "private"),
        ("https://localhost/", "this machine"),
        ("https://LOCALHOST:8000/", "this machine"),
        ("https://a.localhost/", "this machine"),
    ],
)
def test_other_urls_are_refused_with_a_sentence(url, told):
    with pytest.raises(InvalidOption, match=told) as error:
        PUBLIC.check_url(url)
    assert "pw" not in str(error.value)
    assert str(error.value).endswith((".", "..."))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:9000/", True),
        ("https://127.0.0.1:9000/", True),
        ("http://localhost:9000/", True),
        ("http://[::1]:9000/", True),
        ("http://[::ffff:127.0.0.1]/", True),
        ("http://10.0.0.1/", False),
        ("http://example.com/", False),
        ("http://127.1/", False),
    ],
)
def test_allowed_networks_are_reached_also_with_http(url, allowed):
    if allowed:
        LOOPBACK.check_url(url)
    else:
        with pytest.raises(InvalidOption):
            LOOPBACK.check_url(url)


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
