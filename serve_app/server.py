"""Starts the whole service in this process's charge, on this machine, and stops it again.

It is what `glimpse3d serve`, the demo and the tests run; a cluster is run with `serve deploy`
instead. It knows Ray's start-up and not what the application consists of.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# Ray runs whatever its ports receive, so a local cluster must listen on loopback only; by default
# scheduler, object store and agents listen on all interfaces. Ray reads this variable, which it
# sets by itself on macOS, when it is imported.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

# Serve's HTTP server believes X-Forwarded-For and -Proto of whoever comes from loopback, and so of
# all strangers behind a tunnel; `trusted_proxies` says whom we believe.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")

import httpx
import ray
from ray import serve
from ray.serve.config import HTTPOptions

from deployments.handles import reasons_of
from pipeline.errors import Unavailable
from serve_app.builder import build
from serve_app.settings import AppArgs

log = logging.getLogger(__name__)

APP_NAME = "glimpse3d"

#: Of Ray's folder, in bytes.
_LONGEST_TEMP_DIR = 38
_SHORT_TEMP_DIR = "/tmp"

#: Longest wait for the first answer, seconds; it is there in milliseconds on an idle machine.
_READY_LIMIT_S = 30


@dataclass(frozen=True)
class RunningService:
    """A service that answers.

    Attributes:
        lacks: why it is not ready, by name, with what `/ready` keeps from clients; empty where
            it is.
    """

    url: str
    started_in_s: float
    dashboard_url: str | None
    lacks: dict[str, str] = field(default_factory=dict)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on now."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_service(
    args: AppArgs,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    dashboard: bool = False,
    quiet: bool = True,
) -> Iterator[RunningService]:
    """The service, ready to take work; everything it started is stopped on the way out.

    Args:
        host, port: where HTTP is served; port 0 takes a free one.
        dashboard: start the Ray dashboard on loopback, too.
        quiet: keep the log lines of replicas out of this process's output (they stay in Ray's
            log files).

    Raises:
        Unavailable: the port is taken, or a deployment cannot start; the text says why.
    """
    started = time.perf_counter()
    try:
        port = port or free_port(host)
        _require_free(host, port)
    except OSError as error:  # `socket.gaierror` is one
        raise Unavailable(
            f"Port {port} on {host} cannot be used: {error.strerror or error}."
        ) from error
    # Ray reads these when it starts its processes.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Threads of an idle OpenMP pool must sleep, not spin: with torch's pool spinning beside the
    # rasteriser's threads a step took 30 ms instead of 18 ms (two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    context = _start_ray(dashboard=dashboard, quiet=quiet)
    try:
        if quiet:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(http_options=HTTPOptions(host=host, port=port))
        try:
            serve.run(build(args), name=APP_NAME, route_prefix="/")
        except RuntimeError as error:
            raise Unavailable(f"The service could not start: {_reason(error)}") from error
        url = f"http://{_reached_at(host)}:{port}"
        board = context.dashboard_url if dashboard else None
        lacks = _lacks(url)
        yield RunningService(
            url, time.perf_counter() - started, f"http://{board}" if board else None, lacks
        )
    finally:
        # Not `serve.shutdown()`: it would wait for running jobs to end. They are safe: their
        # rows are in the store, and a restarted service goes on with them.
        ray.shutdown()
        args.stores().stop()


def _start_ray(*, dashboard: bool, quiet: bool) -> Any:
    """A cluster of this process's own; never one that happens to run on the machine."""

    start = partial(
        ray.init,
        _temp_dir=_short_folder(),
        address="local",
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=not quiet,
        logging_level=logging.ERROR if quiet else logging.INFO,
        namespace=APP_NAME,
    )
    try:
        return start()
    except Exception as error:  # Ray raises all sorts here, a bare Exception among them
        # On a busy machine Ray's own processes now and then miss their deadline.
        log.warning("Ray did not start, trying once more: %s", error)
        ray.shutdown()
    try:
        return start()
    except Exception as error:
        raise Unavailable(f"Ray could not start: {error}") from error


def _lacks(url: str) -> dict[str, str]:
    """The checks of `/ready` that fail. Raises Unavailable when it does not answer."""
    try:
        # Proxies of the environment are for the world outside, not for this machine.
        answer = httpx.get(f"{url}/ready", timeout=_READY_LIMIT_S, trust_env=False)
        checks: dict[str, str] = answer.json()["checks"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise Unavailable(f"The service started and does not answer: {error!r}") from error
    lacks = {name: state for name, state in checks.items() if state != "ok"}
    if not lacks:
        return lacks
    return lacks | reasons_of(APP_NAME, _READY_LIMIT_S)


def _require_free(host: str, port: int) -> None:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _family(host: str) -> socket.AddressFamily:
    """Of an address; a name is looked up as IPv4, as Serve does it."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _reached_at(host: str) -> str:
    """The host of a URL at which this machine reaches what listens on `host`."""
    if ":" in host:
        return "[::1]" if host == "::" else f"[{host}]"
    return "127.0.0.1" if host == "0.0.0.0" else host


def _short_folder() -> str | None:
    """Where Ray keeps its files if not where it would; None where its own choice is good.

    It appends up to 67 bytes to RAY_TMPDIR or TMPDIR for its sockets, whose path may have 107.

    Raises:
        Unavailable: the folder's name is too long and /tmp cannot be used; the variable is named.
    """
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(variable, "")
    length = len(os.fsencode(Path(folder).absolute()))
    if not folder or length <= _LONGEST_TEMP_DIR:
        return None
    if not os.access(_SHORT_TEMP_DIR, os.W_OK | os.X_OK):
        raise Unavailable(
            f"{variable} has {length} bytes, too many for the sockets of Ray: set "
            f"RAY_TMPDIR to a folder whose name has at most {_LONGEST_TEMP_DIR}."
        )
    log.warning("%s is too long for Ray's sockets; its files are in %s", variable, _SHORT_TEMP_DIR)
    return f"{_SHORT_TEMP_DIR}/ray"


def _reason(error: RuntimeError) -> str:
    """What Serve knows of a deployment that did not become healthy."""
    try:
        application = serve.status().applications[APP_NAME]
    except (KeyError, RuntimeError, ray.exceptions.RayError):
        return str(error)
    messages = [d.message for d in application.deployments.values() if d.message]
    return "\n".join(messages) or application.message or str(error)
