"""What only the Supabase store has: rights, links, resumable uploads, a network between."""

from __future__ import annotations

import asyncio
import json
import random
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import httpx
import pytest
from postgrest import APIError
from storage3.exceptions import StorageApiError
from supabase import AsyncClient, AsyncClientOptions, create_async_client

from deployments.jobs.janitor import delete_files
from deployments.jobs.job_errors import StaleAttempt
from deployments.jobs.rows import Bucket, JobState
from deployments.jobs.store import Store
from pipeline.errors import InvalidInput, NotFound, Unavailable
from serve_app.cli.supabase_command import setup_sql
from serve_app.stores import SupabaseSettings, migrate
from serve_app.stores.migrations import demo_policies
from serve_app.stores.supabase import supabase_blobs as blobs_module
from tests.gateway import Gateway, prepare

from .rows import LEASE_S, VIEWS, claim, claimed, generated, project, sql, submit

PRIVATE_TABLES = ("jobs", "job_events", "job_stages", "webhooks", "deletions")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def store_kind() -> str:
    """Not the contract."""
    return "supabase"


@pytest.fixture
async def anonymous(quiet_gateway: Gateway) -> AsyncIterator[AsyncClient]:
    """Who has the publishable key, which is in every web page."""
    async with client_of(quiet_gateway, quiet_gateway.keys.publishable) as client:
        yield client


@asynccontextmanager
async def client_of(gateway: Gateway, key: str) -> AsyncIterator[AsyncClient]:
    """The plain client library, with none of our code in it."""
    async with httpx.AsyncClient() as http:
        yield await create_async_client(gateway.url, key, AsyncClientOptions(httpx_client=http))


async def refused(client: AsyncClient, function: str, **arguments: Any) -> bool:
    with pytest.raises(APIError) as caught:
        await client.rpc(function, arguments).execute()
    return caught.value.code == "42501"


# ---------------------------------------------------------------------------------------------
# keys and rights


@pytest.mark.parametrize("kind", ["secret", "service_jwt"])
async def test_new_keys_and_old_ones_work(quiet_gateway: Gateway, kind: str) -> None:
    key = getattr(quiet_gateway.keys, kind)
    async with SupabaseSettings(quiet_gateway.url, key).prepare().open() as store:
        await store.records.ping()
        await store.blobs.ping()
        await store.blobs.put(Bucket.VIEWS, "p/a.png", b"x", "image/png")
        assert await store.blobs.get(Bucket.VIEWS, "p/a.png") == b"x"


async def test_anonymous_can_neither_read_nor_write_jobs(
    store: Store, anonymous: AsyncClient
) -> None:
    lease = await claimed(store.records, await project(store.records))
    for table in (*PRIVATE_TABLES, "projects", "project_summary", "refinement_progress"):
        with pytest.raises(APIError) as caught:
            await anonymous.table(table).select("*").execute()
        assert caught.value.code == "42501"
    with pytest.raises(APIError) as caught:
        await anonymous.table("jobs").update({"state": "failed"}).eq("id", lease.job.id).execute()
    assert caught.value.code == "42501"
    with pytest.raises(APIError) as caught:
        await anonymous.table("jobs").insert({"project_id": "project-1"}).execute()
    assert caught.value.code == "42501"
    assert await refused(anonymous, "claim_job_v1", p_worker="w", p_lease_s=60)
    assert await refused(anonymous, "get_job_v1", p_job_id=lease.job.id)
    assert (await store.records.get_job(lease.job.id)).state is JobState.RUNNING


async def test_no_function_is_open_to_others(quiet_gateway: Gateway) -> None:
    """Whatever the platform grants by itself, for every function there is."""
    rows = await sql(
        quiet_gateway.dsn,
        """
        select f.proname, r.rolname
          from pg_proc f cross join pg_roles r
         where f.pronamespace = 'public'::regnamespace
           and r.rolname in ('anon', 'authenticated')
           and has_function_privilege(r.oid, f.oid, 'execute')
        """,
    )
    assert rows == []
    steps = await sql(
        quiet_gateway.dsn,
        """
        select proname, prosecdef,
               has_function_privilege('service_role', oid, 'execute') as callable
          from pg_proc where pronamespace = 'public'::regnamespace
        """,
    )
    called = {row["proname"] for row in steps if row["callable"]}
    assert called == {row["proname"] for row in steps if row["prosecdef"]}
    source = (ROOT / "serve_app/stores/records.py").read_text()
    for row in steps:
        if f'"{row["proname"]}"' in source:
            assert row["callable"], f"{row['proname']} is called and closed"
    assert "guard_functions_v1" not in called


async def test_the_service_role_may_do_everything_by_hand(quiet_gateway: Gateway) -> None:
    """Monitoring reads the tables, and an administrator repairs them."""
    row = {"id": "by-hand"}
    async with client_of(quiet_gateway, quiet_gateway.keys.secret) as client:
        await client.table("projects").insert(row).execute()
        found = await client.table("project_summary").select("id,status").execute()
        assert found.data == [{"id": "by-hand", "status": "ready"}]
        await client.table("projects").delete().eq("id", "by-hand").execute()


async def test_anonymous_sees_no_bucket_and_no_file(store: Store, anonymous: AsyncClient) -> None:
    await store.blobs.put(Bucket.MODELS, "p/v0.ply", b"ply", "")
    assert await anonymous.storage.list_buckets() == []
    bucket = anonymous.storage.from_(Bucket.MODELS)
    for attempt in (
        bucket.download("p/v0.ply"),
        bucket.upload("p/mine.ply", b"x"),
        bucket.upload("p/v0.ply", b"x", {"upsert": "true"}),
        bucket.create_signed_url("p/v0.ply", 60),
    ):
        with pytest.raises(StorageApiError):
            await attempt
    try:
        assert (await bucket.list_v2({"prefix": "p"})).objects == []
    except StorageApiError as error:  # a bucket that is not there, for all it knows
        assert error.message == "Bucket not found"
    assert await bucket.remove(["p/v0.ply"]) == []
    assert await store.blobs.get(Bucket.MODELS, "p/v0.ply") == b"ply"


async def test_policies_of_others_that_are_too_wide_do_not_open_our_buckets(
    fresh_supabase_dsn: str, gateway: Gateway, tmp_path: Path
) -> None:
    await sql(
        fresh_supabase_dsn, "create policy wide on storage.objects for all to anon using (true)"
    )
    await sql(
        fresh_supabase_dsn, "create policy wide on storage.buckets for all to anon using (true)"
    )
    gateway.use(fresh_supabase_dsn, tmp_path)
    async with (
        client_of(gateway, gateway.keys.anon_jwt) as anonymous,
        SupabaseSettings(gateway.url, gateway.keys.secret).open() as store,
    ):
        await store.blobs.put(Bucket.MODELS, "p/v0.ply", b"ply", "")
        assert await anonymous.storage.list_buckets() == []
        with pytest.raises(StorageApiError):
            await anonymous.storage.from_(Bucket.MODELS).download("p/v0.ply")
        with pytest.raises(StorageApiError):
            await anonymous.storage.from_(Bucket.MODELS).upload("p/mine.ply", b"x")


async def test_demo_policies_open_reading_and_the_setup_closes_it(
    fresh_supabase_dsn: str, gateway: Gateway, tmp_path: Path
) -> None:
    gateway.use(fresh_supabase_dsn, tmp_path)
    async with (
        client_of(gateway, gateway.keys.publishable) as anonymous,
        SupabaseSettings(gateway.url, gateway.keys.secret).open() as store,
    ):
        bucket = anonymous.storage.from_(Bucket.MODELS)
        name = await generated(store.records)
        await store.blobs.put(Bucket.MODELS, "p/v0.ply", b"ply", "")
        for _ in range(2):  # it may be pasted twice
            await run_script(fresh_supabase_dsn, demo_policies())

        seen = (await anonymous.table("project_summary").select("*").execute()).data
        assert [row["id"] for row in seen] == [name]
        models = (await anonymous.table("gaussian_splat_models").select("*").execute()).data
        assert [row["version"] for row in models] == [0]
        assert (await anonymous.table("view_edits").select("*").execute()).data == []
        columns = "id,status,progress_percentage,created_at,current_version"
        assert (await anonymous.table("projects").select(columns).execute()).data
        assert await bucket.download("p/v0.ply") == b"ply"
        assert [o.name for o in (await bucket.list_v2({"prefix": "p"})).objects] == ["p/v0.ply"]
        for table in ("webhooks", "job_events", "job_stages", "deletions"):
            with pytest.raises(APIError):
                await anonymous.table(table).select("*").execute()
        for secret in ("idempotency_key", "fingerprint"):
            with pytest.raises(APIError):
                await anonymous.table("projects").select(secret).execute()
        with pytest.raises(APIError):
            await anonymous.table("jobs").select("options").execute()
        with pytest.raises(APIError):
            await anonymous.table("projects").update({"status": "failed"}).eq("id", name).execute()
        with pytest.raises(StorageApiError):
            await bucket.upload("p/mine.ply", b"x")
        assert await refused(anonymous, "claim_job_v1", p_worker="w", p_lease_s=60)
        # Not even where somebody's policy is too wide: a link would outlive the demo.
        await run_script(
            fresh_supabase_dsn, "create policy wide on storage.objects for select using (true)"
        )
        with pytest.raises(StorageApiError, match="not found"):
            await bucket.create_signed_url("p/v0.ply", 315_360_000)
        (several,) = await bucket.create_signed_urls(["p/v0.ply"], 315_360_000)
        assert several["signedURL"] is None
        assert await store.blobs.get(Bucket.MODELS, "p/v0.ply") == b"ply"
        location = await store.files.locate(Bucket.MODELS, "p/v0.ply")
        assert "token=" in location, "the service's own links go on"

        await run_script(fresh_supabase_dsn, setup_sql())
        with pytest.raises(APIError):
            await anonymous.table("project_summary").select("*").execute()
        with pytest.raises(APIError):
            await anonymous.table("projects").select(columns).execute()
        with pytest.raises(StorageApiError):
            await bucket.download("p/v0.ply")
        left = "select 1 from pg_policies where policyname like 'glimpse3d_demo%'"
        assert await sql(fresh_supabase_dsn, left) == []
        await store.records.ping()


async def test_an_old_storage_gets_no_demo(fresh_supabase_dsn: str) -> None:
    await run_script(
        fresh_supabase_dsn, "drop function storage.allow_any_operation(text[]) cascade"
    )
    before = await described(fresh_supabase_dsn)
    with pytest.raises(asyncpg.RaiseError, match="too old for a demo"):
        await run_script(fresh_supabase_dsn, demo_policies())
    assert await described(fresh_supabase_dsn) == before


def test_the_paste_ends_with_what_the_editor_is_to_show() -> None:
    statements = [part.strip() for part in setup_sql().split(";\n") if part.strip()]
    assert statements[-2].endswith("select public.schema_version_v1() as schema_version")
    assert statements[-1] == "commit"


async def run_script(dsn: str, script: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def test_one_paste_sets_an_empty_project_up_and_another_changes_nothing(
    empty_dsn: str,
) -> None:
    dsn = empty_dsn
    await run_prepare(dsn)
    await run_script(dsn, setup_sql())
    first = await described(dsn)
    assert {row["id"] for row in first["buckets"]} == {*Bucket}
    policies = await sql(dsn, "select oid, polname from pg_policy order by oid")
    await run_script(dsn, setup_sql())
    assert await described(dsn) == first
    again = await sql(dsn, "select oid, polname from pg_policy order by oid")
    assert again == policies, "none was made anew: that locks the tables of auth and storage"
    assert await migrate(dsn), "whoever connects with DATABASE_URL may migrate it, too"
    after = await described(dsn)
    (books,) = [table for table in after["tables"] if table["name"] == "glimpse3d_migrations"]
    assert (books["anon"], books["row_security"]) == ([], True)
    after["tables"].remove(books)
    assert after == first


@pytest.mark.parametrize(
    "make",
    [
        "create table projects (id int)",
        "create table webhooks (job_id text, state text, next_at timestamptz)",
        "create function touch_updated_at() returns trigger language plpgsql as "
        "$$begin return new; end$$",
    ],
)
async def test_a_project_with_objects_of_another_program_is_left_alone(
    empty_dsn: str, make: str
) -> None:
    await run_prepare(empty_dsn)
    await sql(empty_dsn, make)
    before = await sql(empty_dsn, "select oid from pg_class union select oid from pg_proc")
    with pytest.raises(asyncpg.PostgresError, match="another program"):
        await run_script(empty_dsn, setup_sql())
    after = await sql(empty_dsn, "select oid from pg_class union select oid from pg_proc")
    assert sorted(after) == sorted(before)
    assert await sql(empty_dsn, "select 1 from storage.buckets") == []


async def described(dsn: str) -> dict[str, Any]:
    ((document,),) = await sql(dsn, "select inspect_v1() - 'now'")
    return dict(json.loads(document))


async def test_buckets_are_as_the_command_line_tool_makes_them(quiet_gateway: Gateway) -> None:
    config = tomllib.loads((ROOT / "supabase/config.toml").read_text())["storage"]["buckets"]
    rows = await sql(quiet_gateway.dsn, "select * from storage.buckets")
    assert {row["id"]: row["file_size_limit"] for row in rows} == {
        name: int(bucket["file_size_limit"].removesuffix("MiB")) * 2**20
        for name, bucket in config.items()
    }
    assert {row["id"]: set(row["allowed_mime_types"]) for row in rows} == {
        name: set(bucket["allowed_mime_types"]) for name, bucket in config.items()
    }
    assert not any(row["public"] or config[row["id"]]["public"] for row in rows)


# ---------------------------------------------------------------------------------------------
# files


async def test_large_files_are_resumed(store: Store, quiet_gateway: Gateway) -> None:
    data = random.Random(1).randbytes(20 * 2**20)
    quiet_gateway.faults.drop(path="/upload/resumable/", times=1)
    quiet_gateway.faults.fail(path="/upload/resumable/", status=502, method="PATCH", times=2)
    await store.blobs.put(Bucket.MODELS, "p/v0.ply", data, "")
    assert await store.blobs.get(Bucket.MODELS, "p/v0.ply") == data
    asked = [request.method for request in quiet_gateway.requests if "resumable" in request.path]
    assert asked.count("POST") == 1, "it went on where it was"
    assert asked.count("PATCH") == 4 + 3
    await store.blobs.put(Bucket.MODELS, "p/v0.ply", data[:-1], "")
    assert await store.blobs.get(Bucket.MODELS, "p/v0.ply") == data[:-1], "it was replaced"


async def test_large_file_whose_last_answer_is_lost_is_there(
    store: Store, quiet_gateway: Gateway
) -> None:
    data = random.Random(2).randbytes(7 * 2**20)
    quiet_gateway.faults.drop(path="/upload/resumable/", method="PATCH", times=2, after_work=True)
    await store.blobs.put(Bucket.MODELS, "p/v0.ply", data, "")
    assert await store.blobs.get(Bucket.MODELS, "p/v0.ply") == data
    begun = [r for r in quiet_gateway.requests if r.path.endswith("/upload/resumable")]
    assert len(begun) == 2, "that all bytes came does not say that the file is there"


async def test_files_of_others_in_a_project_go_with_it(
    store: Store, quiet_gateway: Gateway
) -> None:
    """Somebody put them there with the dashboard."""
    async with client_of(quiet_gateway, quiet_gateway.keys.secret) as client:
        for name in ("p/a b.png", "p/=FF.png"):
            await client.storage.from_(Bucket.VIEWS).upload(
                name, b"x", {"content-type": "image/png"}
            )
    assert await store.blobs.list_prefix(Bucket.VIEWS, "p") == ("p/=FF.png", "p/a b.png")
    assert await store.blobs.delete_prefix(Bucket.VIEWS, "p") == 2
    assert await store.blobs.list_prefix(Bucket.VIEWS, "p") == ()


async def test_files_that_a_bucket_does_not_take_are_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="type"):
        await store.blobs.put(Bucket.ENHANCED, "p/a.mp4", b"x", "video/mp4")
    with pytest.raises(InvalidInput, match="larger"):
        await store.blobs.put(Bucket.MODELS, "p/v1.ply", bytes(200 * 2**20 + 1), "")
    with pytest.raises(InvalidInput, match="larger"):
        await store.blobs.put(Bucket.ENHANCED, "p/a.png", b"x" * (51 * 2**20), "image/png")


async def test_a_name_that_is_too_long_is_refused_before_anything_is_sent(
    store: Store, quiet_gateway: Gateway
) -> None:
    await store.blobs.ping()
    quiet_gateway.requests.clear()
    for path in ("t/" + "\u5199" * 85, "t/" + "~" * 86, "/".join(["a" * 250] * 4)):
        with pytest.raises(InvalidInput, match="too long"):
            await store.blobs.put(Bucket.VIEWS, path, b"x", "image/png")
    assert quiet_gateway.requests == []


async def test_every_request_has_the_key_in_both_places_and_a_plain_user_agent(
    quiet_gateway: Gateway,
) -> None:
    settings = SupabaseSettings(quiet_gateway.url, quiet_gateway.keys.secret).prepare()
    async with settings.open() as store:
        await store.blobs.ping()  # also what is learned in the beginning
        quiet_gateway.requests.clear()
        await project(store.records)
        await store.blobs.put(Bucket.VIEWS, "p/a.png", b"x", "image/png")
        await store.blobs.put(Bucket.MODELS, "p/v0.ply", bytes(7 * 2**20), "")
        assert await store.blobs.list_prefix(Bucket.VIEWS, "p/") == ("p/a.png",)
        assert await store.blobs.delete_prefix(Bucket.MODELS, "p/") == 1
    key = quiet_gateway.keys.secret
    assert len(quiet_gateway.requests) > 6
    for request in quiet_gateway.requests:
        seen = (request.apikey, request.authorization, request.user_agent)
        assert seen == (key, f"Bearer {key}", "glimpse3d"), request.path


async def test_many_files_are_listed_and_deleted_by_the_page(
    store: Store, quiet_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "_PAGE", 7)
    paths = tuple(f"p/views/{number:02}.png" for number in range(30))
    await asyncio.gather(
        *(store.blobs.put(Bucket.VIEWS, path, b"x", "image/png") for path in paths)
    )
    assert await store.blobs.list_prefix(Bucket.VIEWS, "p") == paths
    quiet_gateway.requests.clear()
    await delete_files(store, "p")
    assert await store.blobs.list_prefix(Bucket.VIEWS, "p") == ()
    assert sum(request.method == "DELETE" for request in quiet_gateway.requests) == 5


async def test_links_lead_to_the_bytes_without_a_key(store: Any) -> None:
    path = "p/写真 v0.ply"
    await store.blobs.put(Bucket.MODELS, path, b"0123456789", "model/gltf-binary")
    link = urlsplit(store.blobs.url(Bucket.MODELS, path))
    query = {name: values[0] for name, values in parse_qs(link.query).items()}
    assert store.files.verify(Bucket.MODELS, unquote(link.path).split("/", 3)[3], **query)
    signed = await store.files.locate(Bucket.MODELS, path)
    async with httpx.AsyncClient() as http:
        found = await http.get(signed, headers={"Range": "bytes=2-4"})
    assert (found.status_code, found.content) == (206, b"234")
    assert found.headers["Content-Type"] == "model/gltf-binary"
    assert found.headers["Expires"]
    assert await store.files.locate(Bucket.MODELS, path) == signed, "browsers may cache it"
    with pytest.raises(NotFound):
        await store.files.locate(Bucket.MODELS, "p/none.ply")


async def test_processes_with_one_key_agree_on_links(quiet_gateway: Gateway) -> None:
    settings = SupabaseSettings(quiet_gateway.url, quiet_gateway.keys.secret)
    async with settings.open() as one, settings.open() as other:
        link = one.blobs.url(Bucket.MODELS, "p/v0.ply")
        assert other.blobs.url(Bucket.MODELS, "p/v0.ply") == link
    async with SupabaseSettings(quiet_gateway.url, quiet_gateway.keys.service_jwt).open() as third:
        assert third.blobs.url(Bucket.MODELS, "p/v0.ply") != link


async def test_public_buckets_have_public_urls(
    fresh_supabase_dsn: str, gateway: Gateway, tmp_path: Path
) -> None:
    await sql(fresh_supabase_dsn, "update storage.buckets set public = true where id = '3d-models'")
    gateway.use(fresh_supabase_dsn, tmp_path)
    async with SupabaseSettings(gateway.url, gateway.keys.secret).open() as store:
        await store.blobs.ping()
        await store.blobs.put(Bucket.MODELS, "p/a b.ply", b"ply", "")
        url = store.blobs.url(Bucket.MODELS, "p/a b.ply")
        assert url.startswith(f"{gateway.url}/storage/v1/object/public/3d-models/")
        async with httpx.AsyncClient() as http:
            assert (await http.get(url)).content == b"ply"
        assert store.blobs.url(Bucket.VIEWS, "p/00.png").startswith("/files/")


# ---------------------------------------------------------------------------------------------
# the network


async def test_a_project_is_read_in_one_request(store: Store, quiet_gateway: Gateway) -> None:
    name = await generated(store.records)
    quiet_gateway.requests.clear()
    detail = await store.records.project_detail(name)
    for row in detail.views:
        store.blobs.url(Bucket.VIEWS, row.image_path)
    assert len(quiet_gateway.requests) == 1


async def test_a_stage_is_committed_in_one_request(store: Store, quiet_gateway: Gateway) -> None:
    lease = await claimed(store.records, await project(store.records))
    quiet_gateway.requests.clear()
    await store.records.commit_stage(lease.job.id, lease.fence, VIEWS)
    assert len(quiet_gateway.requests) == 1


async def test_a_commit_whose_answer_is_lost_is_made_once(
    store: Store, quiet_gateway: Gateway
) -> None:
    name = await project(store.records)
    lease = await claimed(store.records, name)
    quiet_gateway.faults.drop(path="commit_stage_v1", after_work=True)
    await store.records.commit_stage(lease.job.id, lease.fence, VIEWS)
    quiet_gateway.faults.fail(path="finish_job_v1", status=504, after_work=True)
    await store.records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED, result={})
    (committed,) = await store.records.committed(lease.job.id)
    assert committed.views == VIEWS.views
    events = await store.records.job_events(lease.job.id)
    assert [event.data.get("state") for event in events].count("succeeded") == 1


async def test_a_claim_whose_answer_is_lost_takes_no_second_job(
    store: Store, quiet_gateway: Gateway
) -> None:
    for number in range(3):
        await submit(store.records, await project(store.records, f"p{number}"))
    quiet_gateway.faults.drop(path="claim_job_v1", after_work=True)
    with pytest.raises(Unavailable):
        await store.records.claim_job("w", LEASE_S)
    assert sum((await store.records.queue()).running.values()) == 1


async def test_a_submission_whose_answer_is_lost_is_found_by_its_key(
    store: Store, quiet_gateway: Gateway
) -> None:
    name = await project(store.records)
    quiet_gateway.faults.drop(path="submit_job_v1", after_work=True)
    job = await submit(store.records, name, key="my key")
    assert (await store.records.queue()).queued == {job.kind: 1}


async def test_too_many_requests_and_gateway_errors_are_sat_out(
    store: Store, quiet_gateway: Gateway
) -> None:
    name = await project(store.records)
    quiet_gateway.faults.fail(status=429, path="claim_job_v1", retry_after="0.2", times=2)
    quiet_gateway.faults.fail(status=503, path="get_project_v1", times=2)
    quiet_gateway.faults.fail(status=500, path="/object/", times=1)
    await submit(store.records, name)
    await claim(store.records)
    assert (await store.records.get_project(name)).id == name
    await store.blobs.put(Bucket.VIEWS, "p/a.png", b"x", "image/png")


async def test_an_expired_key_says_so(quiet_gateway: Gateway) -> None:
    settings = SupabaseSettings(quiet_gateway.url, quiet_gateway.keys.expired_jwt)
    async with settings.open() as store:
        for attempt in (
            store.records.ping(),
            store.records.claim_job("w", 60),
            store.blobs.put(Bucket.VIEWS, "p/a.png", b"x", "image/png"),
            store.blobs.put(Bucket.MODELS, "p/a.ply", b"x" * 7_000_000, ""),
            store.blobs.ping(),
        ):
            with pytest.raises(Unavailable, match=r"expired|exp|SERVICE_ROLE_KEY") as caught:
                await attempt
            assert "SUPABASE_SERVICE_ROLE_KEY" in caught.value.detail


@pytest.mark.parametrize("key", ["anon_jwt", "publishable"])
async def test_the_wrong_key_says_so(quiet_gateway: Gateway, key: str) -> None:
    settings = SupabaseSettings(quiet_gateway.url, getattr(quiet_gateway.keys, key))
    async with settings.open() as store:
        with pytest.raises(Unavailable, match="SUPABASE_SERVICE_ROLE_KEY"):
            await store.records.ping()
        with pytest.raises(Unavailable, match="SUPABASE_SERVICE_ROLE_KEY"):
            await store.blobs.put(Bucket.VIEWS, "p/a.png", b"x", "image/png")
        with pytest.raises(Unavailable, match="SUPABASE_SERVICE_ROLE_KEY"):
            await store.blobs.ping()


async def test_a_missing_bucket_is_named(
    fresh_supabase_dsn: str, gateway: Gateway, tmp_path: Path
) -> None:
    await run_script(
        fresh_supabase_dsn,
        "begin; set local storage.allow_delete_query = 'true'; "
        "delete from storage.buckets where id = 'depth-maps'; commit",
    )
    gateway.use(fresh_supabase_dsn, tmp_path)
    async with SupabaseSettings(gateway.url, gateway.keys.secret).open() as store:
        with pytest.raises(Unavailable, match=r"bucket depth-maps\..*supabase sql"):
            await store.blobs.ping()
        for data in (b"x", b"x" * 7_000_000):
            with pytest.raises(Unavailable, match=r"bucket depth-maps"):
                await store.blobs.put(Bucket.DEPTH, "p/a.npy", data, "")


async def test_a_project_without_migrations_says_so(
    supabase_dsn: str, postgres_dsn: str, gateway: Gateway, tmp_path: Path
) -> None:
    del supabase_dsn
    await sql(postgres_dsn, "create database test_without")
    dsn = postgres_dsn.replace("@/postgres?", "@/test_without?")
    await run_prepare(dsn)
    gateway.use(dsn, tmp_path)
    async with SupabaseSettings(gateway.url, gateway.keys.secret).open() as store:
        with pytest.raises(Unavailable, match="migrations"):
            await store.records.ping()


async def run_prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await prepare(connection)
    finally:
        await connection.close()


async def test_a_store_opens_while_its_project_is_away(quiet_gateway: Gateway) -> None:
    quiet_gateway.faults.down(True)
    settings = SupabaseSettings(quiet_gateway.url, quiet_gateway.keys.secret)
    async with settings.open() as store:
        with pytest.raises(Unavailable):
            await store.records.ping()
        quiet_gateway.faults.down(False)
        await store.records.ping()


async def test_a_fence_holds_over_the_network(store: Store, quiet_gateway: Gateway) -> None:
    lease = await claimed(store.records, await project(store.records))
    quiet_gateway.faults.latency_s = 0.05
    beat, *_ = await asyncio.gather(
        store.records.heartbeat(lease.job.id, 99, lease_s=60, stage="views", progress=0.5),
        store.records.get_job(lease.job.id),
    )
    assert not beat.owned
    with pytest.raises(StaleAttempt):
        await store.records.commit_stage(lease.job.id, 99, VIEWS)
