"""The embedded server: shared by processes, found again after a kill, gone when nobody needs it."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import asyncpg
import pytest

from pipeline.errors import GlimpseError, Unavailable
from serve_app.stores import EmbeddedPostgres, StoreSettings
from serve_app.stores.migrations import migration_files

from .fixtures import on_server, server_directory
from .rows import project

#: Starts the server, says so, and ends when its standard input does.
_USER = """
import sys
from pathlib import Path
from serve_app.stores import EmbeddedPostgres
EmbeddedPostgres(Path(sys.argv[1]), keep_running=sys.argv[2] == "keep").start()
print("started", flush=True)
sys.stdin.read()
"""


class User:
    """Another process that uses the server."""

    def __init__(self, directory: Path, *, keep: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _USER, str(directory), "keep" if keep else "share"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_started(self) -> None:
        assert _pipe(self.process.stdout).readline() == "started\n"

    def leave(self) -> None:
        _pipe(self.process.stdin).close()
        assert self.process.wait() == 0
        _pipe(self.process.stdout).close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        _pipe(self.process.stdin).close()
        _pipe(self.process.stdout).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory whose database exists, with a row in it; its server does not run."""
    with server_directory() as root:
        with EmbeddedPostgres(root / "server") as server:
            on_server(server.dsn, lambda c: c.execute("create table kept as select 1 as value"))
        yield root / "server"
        EmbeddedPostgres(root / "server").stop()


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    """Not running."""
    server = EmbeddedPostgres(home)
    server.stop()
    yield server
    server.stop()


def kept_value(server: EmbeddedPostgres) -> object:
    return on_server(server.dsn, lambda c: c.fetchval("select value from kept"))


def postmaster(server: EmbeddedPostgres) -> int:
    return int((server.directory / "pgdata" / "postmaster.pid").read_text().split()[0])


def kill_postmaster(server: EmbeddedPostgres) -> None:
    os.kill(postmaster(server), signal.SIGKILL)
    while server.running:
        pass


def test_start_is_idempotent_and_close_stops(server: EmbeddedPostgres) -> None:
    assert not server.running
    assert server.start() == server.start() == server.dsn
    assert server.running
    server.close()
    server.close()
    assert not server.running


def test_restart_keeps_the_data(server: EmbeddedPostgres) -> None:
    for _ in range(2):
        with server:
            assert kept_value(server) == 1


def test_server_listens_to_no_network_and_has_a_private_socket(server: EmbeddedPostgres) -> None:
    with server:
        setting = on_server(server.dsn, lambda c: c.fetchval("show listen_addresses"))
        assert setting == ""
        directory = server.directory / "run"
        assert oct(directory.stat().st_mode & 0o777) == "0o700"


def test_two_processes_start_one_server_and_the_last_stops_it(server: EmbeddedPostgres) -> None:
    users = [User(server.directory) for _ in range(2)]
    for user in users:
        user.wait_until_started()
    assert kept_value(server) == 1
    users[0].leave()
    assert server.running
    users[1].leave()
    assert not server.running


def test_two_processes_create_one_database(embedded_dir: Path) -> None:
    users = [User(embedded_dir / "server") for _ in range(2)]
    for user in users:
        user.wait_until_started()
    server = EmbeddedPostgres(embedded_dir / "server")
    assert on_server(server.dsn, lambda c: c.fetchval("select 1")) == 1
    for user in users:
        user.leave()
    assert not server.running


def test_server_of_a_killed_process_is_found_and_stopped_by_the_next(
    server: EmbeddedPostgres,
) -> None:
    user = User(server.directory)
    user.wait_until_started()
    before = postmaster(server)
    user.kill()
    assert server.running
    with server:
        assert postmaster(server) == before
        assert kept_value(server) == 1
    assert not server.running


def test_kept_server_outlives_its_users_until_it_is_stopped(server: EmbeddedPostgres) -> None:
    user = User(server.directory, keep=True)
    user.wait_until_started()
    user.leave()
    with server:
        assert kept_value(server) == 1
    assert server.running
    server.stop()
    assert not server.running


def test_a_directory_that_was_removed_is_given_up_without_an_error() -> None:
    with server_directory() as folder:
        server = EmbeddedPostgres(folder / "removed")
        server.start()
        postmaster = int((server.directory / "pgdata" / "postmaster.pid").read_text().split()[0])
        shutil.rmtree(server.directory)
        server.close()
        assert not server.directory.exists()
        os.kill(postmaster, signal.SIGQUIT)  # it would notice by itself within a minute


def test_killed_server_is_started_again(server: EmbeddedPostgres) -> None:
    server.start()
    kill_postmaster(server)
    server.start()
    assert kept_value(server) == 1


def test_pid_file_that_names_another_process_is_no_server(server: EmbeddedPostgres) -> None:
    server.start()
    pid_file = server.directory / "pgdata" / "postmaster.pid"
    owner = pid_file.stat()
    content = pid_file.read_text()
    dead = str(postmaster(server))
    kill_postmaster(server)
    # Of the server's own user, as after a container's restart: PostgreSQL alone would give up.
    with subprocess.Popen(["sleep", "1000"], user=owner.st_uid) as other:
        try:
            pid_file.write_text(content.replace(dead, str(other.pid), 1))
            os.chown(pid_file, owner.st_uid, owner.st_gid)
            server.start()
            assert kept_value(server) == 1
        finally:
            other.kill()


def test_killed_first_start_is_done_over(embedded_dir: Path) -> None:
    # What `initdb` leaves when it is killed: files, and no PG_VERSION yet.
    pgdata = embedded_dir / "server" / "pgdata"
    (pgdata / "base" / "1").mkdir(parents=True)
    (pgdata / "postgresql.conf").touch()
    with EmbeddedPostgres(embedded_dir / "server") as server:
        assert on_server(server.dsn, lambda c: c.fetchval("select 1")) == 1


def test_long_paths_put_the_socket_elsewhere(embedded_dir: Path) -> None:
    with EmbeddedPostgres(embedded_dir / ("ä long näme " * 10) / "server") as server:
        assert not (server.directory / "run").exists()
        assert on_server(server.dsn, lambda c: c.fetchval("select 1")) == 1


def test_names_that_a_shell_would_change_are_taken_as_they_are(embedded_dir: Path) -> None:
    with EmbeddedPostgres(embedded_dir / "a $HOME `b` \"c\" 'd' \\e") as server:
        assert on_server(server.dsn, lambda c: c.fetchval("select 1")) == 1
        assert (server.directory / "server.log").stat().st_size > 0
    assert not server.running


def test_database_of_another_version_is_refused(embedded_dir: Path) -> None:
    pgdata = embedded_dir / "server" / "pgdata"
    pgdata.mkdir(parents=True)
    (pgdata / "PG_VERSION").write_text("9\n")
    with pytest.raises(GlimpseError, match="PostgreSQL 9"):
        EmbeddedPostgres(embedded_dir / "server").start()


def test_server_that_cannot_start_says_why(server: EmbeddedPostgres) -> None:
    config = server.directory / "pgdata" / "postgresql.conf"
    good = config.read_text()
    config.write_text(f"{good}\nno_such_setting = 1\n")
    try:
        with pytest.raises(Unavailable, match="no_such_setting"):
            server.start()
    finally:
        config.write_text(good)


def test_directory_that_cannot_be_made_is_unavailable(embedded_dir: Path) -> None:
    (embedded_dir / "file").touch()
    with pytest.raises(Unavailable):
        EmbeddedPostgres(embedded_dir / "file" / "server").start()


async def test_settings_prepare_a_store_that_any_process_can_open(embedded_dir: Path) -> None:
    settings = StoreSettings(embedded_dir / "data").prepare()
    try:
        assert settings.embedded
        settings = settings.prepare()
        copy = pickle.loads(pickle.dumps(settings))
        async with copy.open() as store:
            await store.records.ping()
            await project(store.records)
        async with asyncpg.create_pool(settings.database_url, min_size=1) as pool:
            applied = await pool.fetchval("select count(*) from glimpse3d_migrations")
            assert applied == len(migration_files())
    finally:
        settings.stop()
    assert not EmbeddedPostgres(embedded_dir / "data" / "postgres").running


async def test_open_store_holds_the_server_and_only_the_keeper_starts_it(
    embedded_dir: Path,
) -> None:
    settings = await asyncio.to_thread(StoreSettings(embedded_dir / "data").prepare)
    async with settings.open() as store:
        await asyncio.to_thread(settings.stop)
        await store.records.ping()
    server = EmbeddedPostgres(embedded_dir / "data" / "postgres")
    assert not server.running
    async with settings.open() as early:
        with pytest.raises(Unavailable, match="database cannot be reached"):
            await early.records.ping()
        async with settings.for_keeper().open() as store:
            await store.records.ping()
            await early.records.ping()
            await early.blobs.ping()
        assert server.running, "somebody uses it"
    assert not server.running


async def test_the_keeper_starts_a_server_again_that_was_killed(
    embedded_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.stores._LOOK_S", 0.05)
    settings = await asyncio.to_thread(StoreSettings(embedded_dir / "data").prepare)
    server = EmbeddedPostgres(embedded_dir / "data" / "postgres")
    try:
        async with settings.for_keeper().open() as store:
            await project(store.records)
            kill_postmaster(server)
            found = None
            while found is None:
                with suppress(Unavailable):
                    found = await store.records.list_projects()
                await asyncio.sleep(0.02)
            assert len(found.projects) == 1
    finally:
        settings.stop()


async def test_a_node_without_the_database_makes_none(embedded_dir: Path) -> None:
    settings = await asyncio.to_thread(StoreSettings(embedded_dir / "data").prepare)
    settings.stop()
    elsewhere = replace(settings, data_dir=embedded_dir / "elsewhere")
    for opened in (elsewhere, elsewhere.for_keeper()):
        with pytest.raises(Unavailable, match="There is no database"):
            async with opened.open():
                pass
    assert not (embedded_dir / "elsewhere").exists()


@pytest.mark.parametrize("name", ["$HOME and `id`", "a, b", "quo\"ted' one"])
def test_no_shell_reads_the_names_of_directories(embedded_dir: Path, name: str) -> None:
    with EmbeddedPostgres(embedded_dir / name / "server") as server:
        assert on_server(server.dsn, lambda c: c.fetchval("select 1")) == 1


def test_a_long_or_odd_tmpdir_is_passed_over(
    embedded_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = embedded_dir / ("a, $x " * 15)
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    with EmbeddedPostgres(embedded_dir / ("long " * 20) / "server") as server:
        assert on_server(server.dsn, lambda c: c.fetchval("select 1")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_folders_of_others_are_not_opened_for_the_servers_user(embedded_dir: Path) -> None:
    closed = embedded_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(Unavailable, match=f"chmod o\\+x {closed}"):
        EmbeddedPostgres(closed / "data" / "server").start()
    assert oct(closed.stat().st_mode & 0o777) == "0o700"
    closed.chmod(0o711)
    with EmbeddedPostgres(closed / "data" / "server") as server:
        assert server.running


def test_settings_hide_the_password() -> None:
    assert "secret" not in repr(StoreSettings(Path("data"), "postgresql://u:secret@host/db"))
