"""One server for a directory: what other hosts, containers and dead servers may do to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import Unavailable
from serve_app.stores import EmbeddedPostgres, server_owner
from serve_app.stores.server_owner import Host

from .fixtures import on_server, server_directory

#: Starts the server or says why not, and ends when its standard input does.
_STARTER = """
import sys
from pathlib import Path
from pipeline.errors import Unavailable
from serve_app.stores import EmbeddedPostgres, embedded
embedded._OTHERS_TIMEOUT_S = 0.5
try:
    EmbeddedPostgres(Path(sys.argv[1])).start()
    print("started", flush=True)
except Unavailable as error:
    print(error.detail, flush=True)
sys.stdin.read()
"""
_CONTAINER = ["unshare", "--pid", "--ipc", "--mount", "--mount-proc", "--fork", "--kill-child"]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory whose database exists, with a row in it; its server does not run."""
    with server_directory() as root:
        with EmbeddedPostgres(root / "server") as server:
            on_server(server.dsn, lambda c: c.execute("create table kept as select 1 as value"))
        yield root / "server"


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    """Not running, and nobody's."""
    server = EmbeddedPostgres(home)
    yield server
    if not server.running:
        for left in (home / "owner.json", pid_file(server)):
            left.unlink(missing_ok=True)
    server.stop()


@pytest.fixture
def container() -> list[str]:
    """Words before a command that give it process ids of its own."""
    tried = None
    if shutil.which("unshare"):
        tried = subprocess.run([*_CONTAINER, "true"], check=False, capture_output=True, text=True)
    if tried is None or tried.returncode:
        pytest.skip(f"no name space of its own: {tried.stderr if tried else 'no unshare'}")
    return _CONTAINER


def pid_file(server: EmbeddedPostgres) -> Path:
    return server.directory / "pgdata" / "postmaster.pid"


def owner(server: EmbeddedPostgres) -> dict[str, str]:
    found: dict[str, str] = json.loads((server.directory / "owner.json").read_text())
    return found


def own(server: EmbeddedPostgres, **changes: str) -> None:
    """Make the server one of a host that differs from this one in so much."""
    here = {name: getattr(Host.here(), name) for name in Host.__dataclass_fields__}
    (server.directory / "owner.json").write_text(json.dumps(here | changes))


def die(server: EmbeddedPostgres) -> None:
    """Leave what a server leaves behind whose machine was switched off."""
    server.start()
    os.kill(int(pid_file(server).read_text().split()[0]), signal.SIGKILL)
    while server.running:
        pass


def kept_value(server: EmbeddedPostgres) -> object:
    return on_server(server.dsn, lambda c: c.fetchval("select value from kept"))


def run(words: list[str], server: EmbeddedPostgres) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*words, sys.executable, "-c", _STARTER, str(server.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def test_a_running_server_names_its_host_and_a_stopped_one_nobody(
    server: EmbeddedPostgres,
) -> None:
    server.start()
    assert owner(server)["boot"] == Host.here().boot != ""
    server.stop()
    assert not (server.directory / "owner.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "far", "machine": "another", "boot": "another"},
        {"name": "far", "boot": "another"},  # cloned, or a container
        {"machine": "another", "boot": "another"},
        {"boot": ""},  # a system that does not say
    ],
)
@pytest.mark.parametrize("left", ["killed", "clean"])
def test_a_server_of_another_host_is_neither_recovered_nor_joined(
    server: EmbeddedPostgres, changes: dict[str, str], left: str
) -> None:
    if left == "killed":
        die(server)
    own(server, **changes)
    before = pid_file(server).read_text() if left == "killed" else None
    for take in (server.start, server.join):
        with pytest.raises(Unavailable, match=r"One host at a time.*delete .*owner\.json"):
            take()
    assert owner(server)["boot"] == changes["boot"]
    assert (pid_file(server).read_text() if left == "killed" else None) == before
    assert not server.running


def test_a_host_that_was_started_again_recovers_its_server(server: EmbeddedPostgres) -> None:
    die(server)
    own(server, boot="the one before", processes="pid:[1]")
    server.start()
    assert kept_value(server) == 1
    assert owner(server)["boot"] == Host.here().boot


def test_a_system_without_proc_recovers_its_own_server(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_BOOT", "_MACHINE", "_PROCESSES"):
        monkeypatch.setattr(server_owner, name, tmp_path / "none")
    monkeypatch.setattr("uuid.getnode", lambda: 0x02_00_00_00_00_01)
    die(server)
    assert owner(server)["boot"] == ""
    server.start()
    assert kept_value(server) == 1
    server.stop()
    monkeypatch.setattr("uuid.getnode", lambda: 0x02_00_00_00_00_02)
    own(server, machine="020000000001")
    with pytest.raises(Unavailable, match="One host at a time"):
        server.start()


@pytest.mark.parametrize("boot", [None, "the one before"])
def test_a_start_that_is_killed_while_it_takes_a_dead_server_up_can_be_repeated(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, boot: str | None
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    die(server)
    own(server, **({} if boot is None else {"boot": boot}))
    with monkeypatch.context() as patch:
        for step in ("link", "rename", "replace"):
            patch.setattr(os, step, killed)
        with pytest.raises(Killed):
            server.start()
    server.start()
    assert kept_value(server) == 1


def test_a_server_that_nobody_can_name_is_not_recovered(server: EmbeddedPostgres) -> None:
    die(server)
    (server.directory / "owner.json").unlink()
    with pytest.raises(Unavailable, match="nothing says where it runs"):
        server.start()
    assert pid_file(server).exists()


def test_a_damaged_owner_file_says_what_to_do(server: EmbeddedPostgres) -> None:
    (server.directory / "owner.json").write_text("{")
    with pytest.raises(Unavailable, match="delete the file"):
        server.start()


def test_a_container_that_cannot_reach_the_server_starts_no_second_one(
    server: EmbeddedPostgres, container: list[str]
) -> None:
    server.start()
    socket = server.directory / "run" / ".s.PGSQL.5432"
    before = pid_file(server).read_text()
    socket.rename(socket.with_suffix(".hidden"))
    try:
        other = run(container, server)
        assert "another container of this host" in said(other)
        end(other)
    finally:
        socket.with_suffix(".hidden").rename(socket)
    assert pid_file(server).read_text() == before
    assert kept_value(server) == 1


def test_a_container_uses_the_server_of_another_and_does_not_stop_it(
    server: EmbeddedPostgres, container: list[str]
) -> None:
    first = run([], server)
    assert said(first) == "started\n"
    other = run(container, server)
    assert said(other) == "started\n"
    end(first)
    assert server.running, "the other container uses it"
    end(other)
    # Its number means another process there: a signal could hit anybody.
    assert server.running
    assert kept_value(server) == 1


def test_the_server_of_a_killed_container_is_recovered(
    server: EmbeddedPostgres, container: list[str]
) -> None:
    other = run(container, server)
    assert said(other) == "started\n"
    assert owner(server)["processes"] != Host.here().processes
    other.kill()  # with all processes in it
    other.communicate()
    while server.running:
        pass
    server.start()
    assert kept_value(server) == 1
    assert owner(server)["processes"] == Host.here().processes
