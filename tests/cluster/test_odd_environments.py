"""`glimpse3d serve` where the environment is against it: proxies, a long TMPDIR, ascii, IPv6."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from serve_app.server import free_port
from tests.serve_app.stores.fixtures import server_directory

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.faults]

ROOT = Path(__file__).parents[2]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_serve_starts_behind_proxies_with_a_long_tmpdir_on_ipv6(tmp_path: Path) -> None:
    host, shown = ("::1", "[::1]") if _has_ipv6() else ("127.0.0.1", "127.0.0.1")
    port = free_port(host)
    long = tmp_path / (60 * "x")
    long.mkdir()
    proxies = {
        name: value
        for lower, value in (
            ("http_proxy", "http://127.0.0.1:9"),
            ("https_proxy", "http://127.0.0.1:9"),
            ("all_proxy", "socks5://127.0.0.1:9"),
        )
        for name in (lower, lower.upper())
    }
    with server_directory() as directory:
        environment = os.environ | proxies
        environment |= {
            "TMPDIR": str(long),
            "PYTHONIOENCODING": "ascii",
            "ASSET_DIR": str(directory),
            "NO_PROXY": "",
            "no_proxy": "",
        }
        command = [sys.executable, "-m", "serve_app.cli.main", "serve", "--no-dashboard"]
        command += ["--host", host, "--port", str(port)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        ) as serving:
            assert serving.stdout is not None
            try:
                said = []
                for line in serving.stdout:
                    said.append(line)
                    if "Ctrl-C stops" in line:
                        break
                assert f"at http://{shown}:{port}" in "".join(said), said
                answer = httpx.get(f"http://{shown}:{port}/ready", trust_env=False, timeout=60)
                assert answer.json()["ready"]
            finally:
                serving.send_signal(signal.SIGINT)
                serving.wait(60)
        assert serving.returncode == 0
