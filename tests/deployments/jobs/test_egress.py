"""Which URLs may be called, and which addresses are connected to."""

import asyncio
import socket

import pytest

from deployments.jobs.egress import Egress
from deployments.jobs.outbox import WebhookRules
from pipeline.errors import InvalidOption, Unavailable
from tests.deployments.jobs.receiver import LOOPBACK, PUBLIC, SECRET, deliver, receiving, resolver

# -- addresses -----------------------------------------------------------------------------------


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
        PUBLIC.egress.check_url(url)
        with (
            resolver(monkeypatch, addresses) as asked,
            pytest.raises(Unavailable, match="not on the public internet") as refusal,
        ):
            await deliver(url, PUBLIC)
    assert asked == ["hooks.example.com"]
    assert receiver.connections == 0
    assert not any(address in str(refusal.value) for address in addresses)


async def test_a_name_that_changes_its_address_gains_nothing(monkeypatch):
    """The address that was looked at is connected to: 127.0.0.2 plays the public one here."""
    rules = WebhookRules(SECRET, allowed_networks=("127.0.0.2/32",), timeout_s=2)
    async with receiving(200) as private:
        url = f"https://hooks.example.com:{private.port}/"
        with resolver(monkeypatch, ["127.0.0.2"], ["127.0.0.1"]) as asked:
            with pytest.raises(Unavailable):
                await deliver(url, rules)
            assert asked == ["hooks.example.com"]
            # The second message asks anew, and refuses what it gets.
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


# -- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d#e",
        "https://EXAMPLE.com/%C3%BC",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "https://168.63.129.17/",
        "https://199.36.153.12/",
        "https://[2606:4700:4700::1111]/",
        "https://[::ffff:8.8.8.8]/",
        "https://1.example/",
        "https://localhost.example.com/",
    ],
)
def test_public_urls_are_taken(url):
    PUBLIC.egress.check_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
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
        ("https://168.63.129.16/", "private"),
        ("https://[::ffff:168.63.129.16]/", "private"),
        ("https://[64:ff9b::a83f:8110]/", "private"),
        ("https://[2002:a83f:8110::1]/", "private"),
        ("https://100.100.100.200/", "private"),
        ("https://161.26.0.10/", "private"),
        ("https://166.11.255.255/", "private"),
        ("https://192.80.8.124/", "private"),
        ("https://199.36.153.4/", "private"),
        ("https://199.36.153.11/", "private"),
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
def test_other_urls_are_refused_with_a_sentence(url, reason):
    with pytest.raises(InvalidOption, match=reason) as error:
        PUBLIC.egress.check_url(url)
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
        LOOPBACK.egress.check_url(url)
    else:
        with pytest.raises(InvalidOption):
            LOOPBACK.egress.check_url(url)


def test_messages_name_the_option_that_they_are_about():
    with pytest.raises(InvalidOption, match=r"^photo_url must not name this machine\.$"):
        Egress((), "photo").check_url("https://localhost/")
    with pytest.raises(InvalidOption, match="Allowed photo networks: "):
        Egress(("nonsense",), "photo")
