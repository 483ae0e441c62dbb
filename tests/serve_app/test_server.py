"""What is looked at before the service starts: ports, addresses, folders for sockets."""

from __future__ import annotations

import socket

import pytest

from pipeline.errors import Unavailable
from serve_app import server
from serve_app.server import free_port, running_service
from serve_app.settings import AppArgs


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        try:
            taken.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(Unavailable, match=f"Port {port} on {host} cannot be used"),
            running_service(AppArgs(), host=host, port=port),
        ):
            pass
    assert free_port(host) > 0


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    with (
        pytest.raises(Unavailable, match=f"on {host} cannot be used"),
        running_service(AppArgs(), host=host),
    ):
        pass


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("name", "name"),
    ],
)
def test_urls_of_every_address(host: str, url: str) -> None:
    assert server._reached_at(host) == url


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_too_long_for_sockets_is_not_given_to_ray(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    assert server._short_folder() is None
    monkeypatch.setenv(variable, "/short")
    assert server._short_folder() is None
    monkeypatch.setenv(variable, "/scratch/" + 60 * "x")
    assert server._short_folder() == f"{server._SHORT_TEMP_DIR}/ray"
    monkeypatch.setattr(server, "_SHORT_TEMP_DIR", "/nowhere")
    with pytest.raises(Unavailable, match=f"{variable} has 69 bytes"):
        server._short_folder()
