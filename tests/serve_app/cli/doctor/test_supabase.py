"""`glimpse3d doctor` on a Supabase project: whole, and damaged in every way it looks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import jwt
import pytest

from deployments.jobs.rows import Bucket
from serve_app.cli.doctor import cycles
from serve_app.cli.doctor.supabase_checks import check_environment, check_key_kind
from serve_app.cli.supabase_command import setup_sql
from serve_app.settings import Environment
from serve_app.stores.migrations import demo_policies, newest_version
from tests.gateway import Gateway, KeyRules, prepare
from tests.serve_app.cli.doctor.conftest import Examined
from tests.serve_app.stores.fixtures import on_server

Examine = Callable[[], Examined]


def run_sql(dsn: str, sql: str) -> None:
    on_server(dsn, lambda connection: connection.execute(sql))


@pytest.fixture
def project(
    quiet_gateway: Gateway, supabase_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gateway]:
    """A whole project that the environment names; a test may not spoil its database."""
    del supabase_dsn
    monkeypatch.setenv("SUPABASE_URL", quiet_gateway.url)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", quiet_gateway.keys.secret)
    monkeypatch.setenv("SUPABASE_ANON_KEY", quiet_gateway.keys.publishable)
    yield quiet_gateway
    quiet_gateway.faults.clear()


@pytest.fixture
def spoilt(
    project: Gateway, fresh_supabase_dsn: str, supabase_dsn: str, tmp_path: Path
) -> Iterator[Callable[[str], None]]:
    """The same with a database of its own; runs SQL in it."""
    project.use(fresh_supabase_dsn, tmp_path / "spoilt")
    yield lambda sql: run_sql(fresh_supabase_dsn, sql)
    project.use(supabase_dsn, tmp_path / "whole")


def left_behind(dsn: str) -> int:
    async def count(connection: asyncpg.Connection) -> int:
        return int(
            await connection.fetchval(
                "select (select count(*) from projects) + (select count(*) from deletions) "
                "+ (select count(*) from jobs) + (select count(*) from storage.objects)"
            )
        )

    return on_server(dsn, count)


@pytest.mark.parametrize("kind", ["secret", "service_jwt"])
def test_whole_project(
    project: Gateway, examine: Examine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", getattr(project.keys, kind))
    examined = examine()
    assert examined.exit_code == 0
    assert examined.store == "supabase"
    assert examined.with_status("ok") == set(examined.checks), examined.text
    assert [*examined.checks] == [
        *("environment", "key kind", "reachability", "key", "key headers", "migrations"),
        *("tables", "functions", "policies", "buckets", "rows"),
        *(f"files in {bucket}" for bucket in Bucket),
        *("anonymous key", "clock", "weights"),
    ]
    assert examined.checks["migrations"]["found"] == newest_version()
    assert left_behind(project.dsn) == 0
    for key in (project.keys.secret, project.keys.service_jwt, project.keys.publishable):
        assert key not in examined.text


def test_one_line_per_check(
    project: Gateway, printed: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUPABASE_ANON_KEY")
    project.faults.fail(path="/storage/v1/object/depth-maps", times=100)
    lines = printed().splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("✓ environment: ")
    assert lines[14].startswith("✗ files in depth-maps: ")
    assert "  Fix: " in lines[14]
    assert lines[17] == "- anonymous key: SUPABASE_ANON_KEY is not set"


def test_runs_of_a_working_service_are_not_disturbed(project: Gateway, examine: Examine) -> None:
    run_sql(
        project.dsn,
        'select begin_upload_v1(\'p1\', \'[{"id": "f1", "original_path": "o", '
        '"processed_path": "p", "background_engine": "x"}]\'); '
        "select finish_upload_v1('p1'); "
        "select submit_job_v1('p1', 'generate', '{}', 'f', null, 3, 100)",
    )
    assert examine().exit_code == 0

    async def state(connection: asyncpg.Connection) -> object:
        return await connection.fetchval("select state from jobs where project_id = 'p1'")

    assert on_server(project.dsn, state) == "queued"


# --- keys and the way there ----------------------------------------------------------------------


def test_no_key(project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPABASE_SERVICE_ROLE_KEY")
    examined = examine()
    assert examined.exit_code == 1
    assert "Project Settings, API Keys" in examined.cross("environment")
    untouched = set(examined.checks) - {"environment", "weights"}
    assert examined.with_status("skipped") == untouched
    assert not project.requests


def test_two_stores(project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hemmelig-ord@h/d")
    examined = examine()
    assert "Unset DATABASE_URL" in examined.cross("environment")
    assert "hemmelig" not in examined.text
    assert not project.requests


@pytest.mark.parametrize("kind", ["publishable", "anon_jwt", "expired_jwt"])
def test_a_key_that_cannot_do_the_work(
    project: Gateway, examine: Examine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", getattr(project.keys, kind))
    examined = examine()
    words = {"publishable": "publishable", "anon_jwt": "role anon", "expired_jwt": "expired"}
    assert words[kind] in examined.cross("key kind")
    assert "sb_secret_" in examined.cross("key kind")
    assert examined.checks["reachability"]["status"] == "ok"
    assert examined.checks["rows"]["found"] == "needs migrations"
    assert getattr(project.keys, kind) not in examined.text


def _jwt(**claims: Any) -> str:
    return jwt.encode({"role": "service_role", **claims}, "x" * 32, "HS256")


def test_a_key_that_one_of_the_services_refuses(project: Gateway, examine: Examine) -> None:
    """What the Data API refuses with nothing in its answer is still a Supabase that refuses."""
    project.faults.fail(status=401, body={"": ""}, path="/rest/v1/rpc/inspect_v1", times=9)
    found = examine().cross("key")
    assert "refused: no reason; Storage accepts it" in found
    project.faults.drop(path="/storage/v1/bucket", times=9)
    assert examine().cross("key").startswith("refused: no reason | ")
    project.faults.clear()
    project.faults.fail(status=401, body={"": ""}, path="/rest/v1/", times=99)
    assert "refused: no reason; Storage accepts it" in examine().cross("key")
    project.faults.clear()
    denied = {"statusCode": "403", "error": "Unauthorized", "message": "Invalid Compact JWS"}
    project.faults.fail(status=400, body=denied, path="/storage/v1/bucket")
    found = examine().cross("key headers")
    assert "Storage refuses the key that the Data API accepts: Invalid Compact JWS" in found
    assert "it accepts it without the header Authorization" in found


@pytest.mark.parametrize(
    ("rules", "check", "words"),
    [
        (
            KeyRules(as_tokens=False),
            "key",
            "couldn't be decoded; the Data API accepts it without the header Authorization",
        ),
        (
            KeyRules(make_tokens=False),
            "key headers",
            "Storage refuses it without the header Authorization (headers must have",
        ),
    ],
)
def test_gateways_that_take_the_key_in_one_place_only(
    project: Gateway, examine: Examine, rules: KeyRules, check: str, words: str
) -> None:
    project.rule_keys(rules)
    assert words in examine().checks[check]["found"]


def test_kinds_of_keys() -> None:
    url, now = "https://abcd.supabase.co", int(time.time())
    assert check_key_kind("sb_secret_0123", url).status == "ok"
    assert check_key_kind(_jwt(ref="abcd", exp=now + 10**8), url).status == "ok"
    assert check_key_kind(_jwt(), url).status == "ok"
    assert check_key_kind(_jwt(ref="abcd"), "https://custom.example.org").status == "ok"
    other = check_key_kind(_jwt(ref="efgh"), url)
    assert other.status == "failed"
    assert "efgh" in other.found
    assert "abcd" in other.found
    soon = check_key_kind(_jwt(exp=now + 86400), url)
    assert soon.status == "warning"
    assert "expires on 20" in soon.found
    password = check_key_kind("correct horse battery", url)
    assert password.status == "failed"
    assert "horse" not in password.found


def test_urls() -> None:
    def status(url: str) -> str:
        env = Environment(supabase_url=url, supabase_service_role_key="sb_secret_1")
        return str(check_environment(env).status)

    assert status("https://abcd.supabase.co/") == "ok"
    assert status("http://127.0.0.1:54321") == "ok"
    assert status("http://example.org") == "warning"
    assert status("abcd") == "failed"
    assert status("https://abcd.supabase.co/rest/v1") == "failed"


def test_a_key_where_the_url_belongs(
    project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", project.keys.secret)
    examined = examine()
    assert "SUPABASE_URL" in examined.cross("environment")
    assert project.keys.secret not in examined.text


def test_the_key_of_another_project(
    project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_of_another_project")
    examined = examine()
    assert "Invalid API key" in examined.cross("key")
    assert examined.with_status("failed") == {"key"}
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", _jwt(exp=int(time.time()) + 10**8))
    assert "refused" in examine().cross("key")


def test_project_is_away(project: Gateway, examine: Examine) -> None:
    project.faults.down(True)
    began = time.monotonic()
    examined = examine()
    assert time.monotonic() - began < 30
    assert "cannot be reached" in examined.cross("reachability")
    assert examined.with_status("failed") == {"reachability"}


def test_nobody_of_that_name(
    project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://nobody.invalid")
    assert "nobody.invalid cannot be reached" in examine().cross("reachability")


def test_project_is_paused(project: Gateway, examine: Examine) -> None:
    project.faults.fail(status=540, times=100)
    assert "HTTP 540" in examine().cross("reachability")


@pytest.mark.parametrize("status", [200, 404])
def test_another_server(project: Gateway, examine: Examine, status: int) -> None:
    project.faults.fail(
        status=status, times=100, body={"message": "hello"} if status > 200 else {"a": 1}
    )
    assert "is no Supabase" in examine().cross("reachability")


def test_far_away(project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycles, "_SLOW_MS", 0.0)
    examined = examine()
    assert "region" in examined.remark("reachability")
    assert examined.exit_code == 0


# --- the schema ----------------------------------------------------------------------------------


def test_no_migrations(
    project: Gateway, examine: Examine, postgres_dsn: str, supabase_dsn: str, tmp_path: Path
) -> None:
    run_sql(postgres_dsn, "create database test_doctor_bare")
    bare = postgres_dsn.replace("@/postgres?", "@/test_doctor_bare?")
    on_server(bare, prepare)
    project.use(bare, tmp_path / "bare")
    try:
        examined = examine()
    finally:
        project.use(supabase_dsn, tmp_path / "whole")
    assert "glimpse3d supabase sql" in examined.cross("migrations")
    assert examined.with_status("failed") == {"migrations"}


_OLD = """
create or replace function public.schema_version_v1() returns text
language sql immutable security definer set search_path = public, pg_temp
as $$ select '20200101000000' $$;
"""


def test_older_and_newer_migrations(spoilt: Callable[[str], None], examine: Examine) -> None:
    spoilt(_OLD)
    assert "20200101000000" in examine().cross("migrations")
    spoilt(_OLD.replace("2020", "2090"))
    examined = examine()
    assert examined.exit_code == 0
    assert "newer than this release" in examined.checks["migrations"]["found"]
    spoilt(_OLD + "drop function inspect_v1")
    assert "inspect_v1" in examine().cross("migrations")


@pytest.mark.parametrize(
    ("check", "sql", "words"),
    [
        ("tables", "drop table contact_sheets", "missing: contact_sheets"),
        ("tables", "drop view project_summary", "missing: project_summary"),
        (
            "tables",
            "alter table webhooks disable row level security",
            "without row-level security: webhooks",
        ),
        ("tables", "grant select on webhooks to anon", "open to anybody: webhooks (select)"),
        ("tables", "grant insert on jobs to authenticated", "jobs (insert)"),
        ("tables", "revoke update on jobs from service_role", "closed to the service role: jobs"),
        ("functions", "drop function queue_v1", "missing: queue_v1"),
        ("functions", "grant execute on function claim_job_v1 to anon", "open to anybody: claim_"),
        (
            "functions",
            "alter function queue_v1 reset search_path",
            "without a fixed search_path: queue_v1",
        ),
        (
            "functions",
            "alter function queue_v1 security invoker",
            "not security definer: queue_v1",
        ),
        (
            "functions",
            "revoke execute on function queue_v1 from service_role",
            "closed to the service role: queue_v1",
        ),
        (
            "policies",
            "drop policy glimpse3d_no_delete on storage.objects",
            "missing: glimpse3d_no_delete on storage.objects",
        ),
        (
            "policies",
            "drop policy glimpse3d_no_buckets on storage.buckets; create policy "
            "glimpse3d_no_buckets on storage.buckets for all to anon using (true)",
            "missing: glimpse3d_no_buckets on storage.buckets",
        ),
        (
            "policies",
            "drop policy glimpse3d_no_select on storage.objects",
            "missing: glimpse3d_no_select",
        ),
    ],
)
def test_damaged_schema(
    spoilt: Callable[[str], None], examine: Examine, check: str, sql: str, words: str
) -> None:
    spoilt(sql)
    cross = examine().cross(check)
    assert words in cross
    assert "glimpse3d supabase sql" in cross


def test_the_fix_of_the_schema_helps(spoilt: Callable[[str], None], examine: Examine) -> None:
    spoilt(
        "drop view project_summary; grant select on webhooks to anon; drop function queue_v1; "
        "grant execute on function claim_job_v1 to anon; "
        "drop policy glimpse3d_no_delete on storage.objects; "
        "update storage.buckets set file_size_limit = 1, allowed_mime_types = '{text/plain}'"
    )
    assert examine().with_status("failed") >= {"tables", "functions", "policies", "buckets"}
    spoilt(setup_sql())
    assert examine().with_status("ok") == set(examine().checks)


def test_demo_policies(project: Gateway, spoilt: Callable[[str], None], examine: Examine) -> None:
    spoilt(demo_policies())
    examined = examine()
    assert examined.exit_code == 0
    assert examined.with_status("warning") == {"tables", "policies", "anonymous key"}
    assert "gaussian_splat_models" in examined.remark("tables")
    assert "it closes them" in examined.remark("policies")
    assert "read jobs, list files, read files" in examined.remark("anonymous key")
    spoilt("drop policy glimpse3d_demo_no_links on storage.objects")
    examined = examine()
    assert "also after the demo was closed" in examined.cross("policies")
    assert "sign links of files" in examined.cross("anonymous key")
    spoilt(demo_policies())
    assert examine().exit_code == 0
    spoilt("grant select on webhooks to anon")
    assert "open to anybody: webhooks" in examine().cross("tables")
    spoilt(setup_sql())
    assert examine().with_status("warning") == set()
    assert left_behind(project.dsn) == 0


# --- buckets and files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("file_size_limit = 2097152", "depth-maps takes 2 MiB, not 50 MiB"),
        ("allowed_mime_types = '{image/png}'", "depth-maps refuses application/octet-stream"),
        ("id = 'other'", "depth-maps is missing"),
    ],
)
def test_damaged_bucket(
    spoilt: Callable[[str], None], examine: Examine, change: str, words: str
) -> None:
    spoilt(f"update storage.buckets set {change} where id = 'depth-maps'")
    examined = examine()
    assert words in examined.cross("buckets")
    assert "glimpse3d supabase sql" in examined.cross("buckets")
    if "missing" in words:
        assert "no bucket" in examined.cross("files in depth-maps")
    spoilt("update storage.buckets set public = true where id = '3d-models'")
    assert "anybody can read 3d-models" in examine().cross("buckets")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("public = true", "anybody can read depth-maps without a key"),
        ("file_size_limit = null", "depth-maps takes files of any size"),
        ("allowed_mime_types = null", "depth-maps takes any type"),
    ],
)
def test_unusual_bucket(
    spoilt: Callable[[str], None], examine: Examine, change: str, words: str
) -> None:
    spoilt(f"update storage.buckets set {change} where id = 'depth-maps'")
    examined = examine()
    assert words in examined.remark("buckets")
    assert examined.exit_code == 0


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/storage/v1/object/3d-models/doctor-", "POST"),  # nothing is written
        ("/storage/v1/upload/resumable/", "PATCH"),  # the small file is
        ("/storage/v1/object/sign/3d-models", "POST"),
    ],
)
def test_storage_fails_in_the_middle(
    project: Gateway, examine: Examine, path: str, method: str
) -> None:
    project.faults.fail(status=500, times=1000, path=path, method=method)
    examined = examine()
    assert examined.with_status("failed") == {"files in 3d-models"}
    assert "logs" in examined.cross("files in 3d-models")
    assert left_behind(project.dsn) == 0


def test_files_that_cannot_be_deleted_are_named(project: Gateway, examine: Examine) -> None:
    project.faults.fail(
        status=500, times=1000, path="/storage/v1/object/depth-maps", method="DELETE"
    )
    cross = examine().cross("files in depth-maps")
    assert "The folder doctor-" in cross
    assert "could not be deleted" in cross


def test_no_limit_cuts_the_removal_off(
    project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cycles, "LONG_S", 0.3)
    project.faults.fail(times=1000, path="/storage/v1/upload/resumable/", method="PATCH")
    assert "more than 0.3 s" in examine().cross("files in 3d-models")
    assert left_behind(project.dsn) == 0


def test_rows_fail_in_the_middle(project: Gateway, examine: Examine) -> None:
    project.faults.fail(status=500, times=1000, path="/rpc/get_project_v1")
    assert examine().with_status("failed") == {"rows"}
    assert left_behind(project.dsn) == 0


def test_lost_answers_leave_nothing(project: Gateway, examine: Examine) -> None:
    project.faults.drop(times=1, path="/rpc/begin_upload_v1", after_work=True)
    project.faults.drop(times=9, path="/storage/v1/object/depth-maps/doctor-", after_work=True)
    assert examine().with_status("failed") == {"rows", "files in depth-maps"}
    assert left_behind(project.dsn) == 0


# --- the anonymous key ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (
            "grant insert on jobs to anon; create policy p on jobs to anon using (true)",
            "write jobs",
        ),
        ("grant select (options) on jobs to anon", "read options of jobs"),
        ("grant execute on function claim_job_v1 to anon", "call claim_job_v1"),
        (
            "drop policy glimpse3d_no_buckets on storage.buckets; "
            "create policy p on storage.buckets for select to anon using (true)",
            "list buckets",
        ),
        (
            "drop policy glimpse3d_no_insert on storage.objects; "
            "create policy p on storage.objects for insert to anon with check (true)",
            "upload files",
        ),
        (
            "drop policy glimpse3d_no_select on storage.objects; "
            "create policy p on storage.objects for select to anon using (true)",
            "sign links of files, list files, read files",
        ),
    ],
)
def test_anonymous_key_that_can_too_much(
    project: Gateway, spoilt: Callable[[str], None], examine: Examine, sql: str, words: str
) -> None:
    spoilt(sql)
    assert words in examine().cross("anonymous key")
    assert left_behind(project.dsn) == 0


def test_wrong_anonymous_keys(
    project: Gateway, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_ANON_KEY", project.keys.service_jwt)
    assert "may do everything" in examine().cross("anonymous key")
    monkeypatch.setenv("SUPABASE_ANON_KEY", "sb_publishable_of_another")
    assert "Invalid API key" in examine().cross("anonymous key")


# --- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("skew_s", "status"), [(-1, "ok"), (10, "warning"), (-3600, "failed")])
def test_clock(
    project: Gateway,
    examine: Examine,
    skew_s: float,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = cycles.check_clock

    def skewed(now: str, before: float, after: float) -> Any:
        return real(now, before + skew_s, after + skew_s)

    monkeypatch.setattr(cycles, "check_clock", skewed)
    check = examine().checks["clock"]
    assert check["status"] == status
    if status != "ok":
        assert ("ahead" if skew_s > 0 else "behind") in check["found"]
        assert "timedatectl" in check["fix"]
