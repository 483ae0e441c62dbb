"""Supabase's own programs set a project up: its CLI pushes, what is behind its SQL editor pastes.

Both are packages of npm, pinned in tests/tools. They work on a database as a project has it, as a
role that is no superuser, through a TCP port: neither takes the folder of a socket.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.schema import pg_dump
from serve_app.cli.supabase_command import setup_sql
from serve_app.stores import EmbeddedPostgres
from serve_app.stores.migrations import demo_policies, newest_version
from tests.gateway import prepare
from tests.gateway.relay import relayed

from .fixtures import on_server

pytestmark = pytest.mark.configurations

ROOT = Path(__file__).parents[3]
PACKAGES = ROOT / "tests/tools/node_modules"
_TIMEOUT_S = 120

#: Migrates as the platform's `postgres` does: no superuser, and what it makes is everybody's.
OWNER = """
do $$
begin
    if to_regrole('pusher') is null then
        create role pusher login nosuperuser bypassrls createrole;
        grant supabase_storage_admin to pusher;
    end if;
    execute format('grant create, connect on database %I to pusher', current_database());
end
$$;
grant usage, create on schema public to pusher with grant option;
grant all on all tables in schema storage to pusher with grant option;
alter default privileges for role pusher in schema public
    grant all on tables to anon, authenticated, service_role;
alter default privileges for role pusher in schema public
    grant all on functions to anon, authenticated, service_role;
"""

OTHERS = {
    "function touch_updated_at": "create function touch_updated_at() returns trigger language "
    "plpgsql as $$begin return new; end$$",
    "table projects": "create table projects (id int)",
    "table webhooks": "create table webhooks (job_id text, state text, next_at timestamptz)",
}


def program(*path: str) -> Path:
    """A file of a package; skips the test where it is not installed."""
    if not (PACKAGES / ".ready").exists() or not (PACKAGES / Path(*path)).exists():
        pytest.skip("Supabase's programs are not installed: `make test` does it where npm is")
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    return PACKAGES / Path(*path)


@dataclass(frozen=True)
class Project:
    """A new project's database.

    Attributes:
        dsn: as superuser, through the socket.
        url: as the owner of what is to be made, through a port.
        folder: with our files, for the CLI.
        stack: ends what was started for it.
    """

    dsn: str
    url: str
    folder: Path
    stack: ExitStack

    def cli(self, *words: str, fails: bool = False) -> str:
        """What the CLI says when it works on the project."""
        told = {"SUPABASE_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1", "HOME": str(self.folder)}
        done = subprocess.run(
            [program(".bin", "supabase"), *words, "--db-url", self.url, "--agent", "no"],
            cwd=self.folder,
            env=os.environ | told,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def push(self) -> str:
        """What it says of `supabase db push`."""
        return self.cli("db", "push", "--yes")

    @cached_property
    def editor(self) -> httpx.Client:
        """What is behind the dashboard's SQL editor."""
        main = program("@supabase", "postgres-meta", "dist", "server", "server.js")
        port = first_of_two_free_ports()
        variables = {"PG_META_HOST": "127.0.0.1", "PG_META_PORT": str(port)}
        variables |= {"PG_META_DB_URL": self.url, "PG_META_DB_SSL_MODE": "disable"}
        log = self.stack.enter_context((self.folder / "meta.log").open("wb"))
        server = subprocess.Popen(
            ["node", main], env=os.environ | variables, stdout=log, stderr=log
        )
        self.stack.callback(server.wait, 30)
        self.stack.callback(server.terminate)
        http = self.stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_TIMEOUT_S)
        )
        for _ in range(600):
            with suppress(httpx.TransportError):
                http.get("/health")
                return http
            assert server.poll() is None, (self.folder / "meta.log").read_text()
            time.sleep(0.1)
        raise AssertionError((self.folder / "meta.log").read_text())

    def paste(self, sql: str, status: int = 200) -> Any:
        """What the editor shows."""
        answer = self.editor.post("/query", json={"query": sql})
        assert answer.status_code == status, answer.text
        return answer.json()

    def schema(self) -> str:
        """All there is, without what differs from call to call."""
        return re.sub(r"^\\(un)?restrict .*$", "", pg_dump(self.dsn), flags=re.MULTILINE)


@pytest.fixture
def new_project(
    empty_dsns: Callable[[], str], postgres_server: EmbeddedPostgres, tmp_path: Path
) -> Iterator[Callable[[], Project]]:
    """Makes projects."""
    socket_path = Path(postgres_server.dsn.partition("host=")[2]) / ".s.PGSQL.5432"

    with ExitStack() as stack:
        port = stack.enter_context(relayed(socket_path))

        def make() -> Project:
            dsn = empty_dsns()
            on_server(dsn, prepare)
            on_server(dsn, lambda connection: connection.execute(OWNER))
            name = re.findall(r"@/(\w+)\?", dsn)[0]
            shutil.copytree(ROOT / "supabase", tmp_path / name / "supabase")
            url = f"postgresql://pusher:none@127.0.0.1:{port}/{name}?sslmode=disable"
            return Project(dsn, url, tmp_path / name, stack)

        yield make


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    """One."""
    return new_project()


def first_of_two_free_ports() -> int:
    """The second, its neighbour, is for the server's own numbers."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first, suppress(OSError):
            port = int(first.getsockname()[1])
            socket.create_server(("127.0.0.1", port + 1)).close()
            return port


def test_a_push_does_all_and_a_second_one_nothing(project: Project) -> None:
    project.push()
    pushed = project.schema()
    assert "up to date" in project.push()
    assert project.schema() == pushed
    assert project.cli("migration", "list").count(newest_version()) >= 2, "here and there"
    project.cli("db", "advisors", "--level", "warn", "--fail-on", "warn")


def test_a_project_that_an_earlier_checkout_pushed_is_repaired_and_pushed(project: Project) -> None:
    project.push()
    pushed = project.schema()
    older = "update supabase_migrations.schema_migrations set version = '20261129000001'"
    on_server(project.dsn, lambda connection: connection.execute(older))
    told = project.cli("db", "push", "--yes", fails=True)
    assert "supabase migration repair --status reverted 20261129000001" in told
    project.cli("migration", "repair", "--status", "reverted", "20261129000001")
    assert newest_version() in project.push()
    assert project.schema() == pushed


def test_push_and_paste_make_the_same_in_any_order(new_project: Callable[[], Project]) -> None:
    one, other = new_project(), new_project()
    shown = [{"schema_version": newest_version()}]
    for _ in range(2):
        one.push()
        assert one.paste(setup_sql()) == shown
    for _ in range(2):
        assert other.paste(setup_sql()) == shown
    for _ in range(2):
        other.push()
    assert one.schema() == other.schema()


@pytest.mark.parametrize("found", OTHERS)
def test_objects_of_another_program_are_in_the_way_of_both(project: Project, found: str) -> None:
    on_server(project.dsn, lambda connection: connection.execute(OTHERS[found]))
    before = project.schema()
    told = f"another program under names that Glimpse3D needs: {found}. Nothing was changed"
    assert told in str(project.paste(setup_sql(), status=400))
    assert project.schema() == before
    assert told in " ".join(project.cli("db", "push", "--yes", fails=True).split())
    # But for the CLI's own list of what was pushed, which it makes first.
    on_server(
        project.dsn,
        lambda connection: connection.execute("drop schema supabase_migrations cascade"),
    )
    assert project.schema() == before


def test_a_demo_is_pasted_open_and_closed(project: Project) -> None:
    project.paste(setup_sql())
    closed = project.schema()
    for _ in range(2):
        project.paste(demo_policies())
    assert project.schema() != closed
    project.paste(setup_sql())
    assert project.schema() == closed
