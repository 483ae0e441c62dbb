"""Requests to this machine take no proxy, whatever the environment names; others take theirs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from pipeline.errors import Unavailable
from serve_app.cli.client import Client
from serve_app.proxies import ProxyByUrl, proxy_for

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


class _Answers(BaseHTTPRequestHandler):
    """Tells where it was asked for; a proxy is asked for whole URLs."""

    def do_GET(self) -> None:
        if self.path == "/api/v1/away":
            self.send_response(307)
            self.send_header("Location", "http://elsewhere.example/file")
            self.end_headers()
            return
        body = json.dumps({"asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """A server on loopback that answers as a service and as a proxy."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("variables", "url", "found"),
    [
        ({"https_proxy": "http://proxy:3128"}, "https://a.example", "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "https://a.example", "http://proxy:3128"),
        ({"https_proxy": "proxy:3128", "no_proxy": "a.example"}, "https://a.example", None),
        ({"all_proxy": "http://proxy:1"}, "https://a.example", "http://proxy:1"),
        ({"all_proxy": "http://a:1", "http_proxy": "http://b:2"}, "http://a.example", "http://b:2"),
        ({}, "https://a.example", None),
        *(
            ({"all_proxy": "socks5://proxy:1", "http_proxy": "http://proxy:1"}, url, None)
            for url in (
                "http://127.0.0.1:8000/x",
                "http://127.8.0.1",
                "http://[::1]:8000",
                "http://localhost:8000",
                "http://LOCALHOST.",
                "http://a.localhost",
            )
        ),
    ],
)
def test_a_proxy_is_taken_from_the_environment(
    proxies: pytest.MonkeyPatch, variables: dict[str, str], url: str, found: str | None
) -> None:
    for name, value in variables.items():
        proxies.setenv(name, value)
    assert proxy_for(url) == found


@pytest.mark.parametrize(
    ("proxy", "told"),
    [("socks5://me:secret@p:1", "pip install socksio"), ("ftp://me:secret@p:1", "'ftp'")],
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    proxies: pytest.MonkeyPatch, proxy: str, told: str
) -> None:
    proxies.setenv("all_proxy", proxy)
    proxies.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=told) as caught:
        httpx.Client(transport=ProxyByUrl()).get("https://a.example")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_the_client_reaches_this_machine_past_every_proxy(
    proxies: pytest.MonkeyPatch, server: str, proxy: str
) -> None:
    for name in NAMES[:3]:
        proxies.setenv(name, proxy)
    assert Client.of(server).status("p") == {"asked": "/api/v1/status/p"}


def test_a_file_elsewhere_is_fetched_through_the_proxy(
    proxies: pytest.MonkeyPatch, server: str
) -> None:
    proxies.setenv("http_proxy", server)
    fetched = Client.of(server).download("away")
    assert fetched == b'{"asked": "http://elsewhere.example/file"}'
