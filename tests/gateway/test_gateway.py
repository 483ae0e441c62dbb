"""The gateway, with the client library that it is made for."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import AsyncClientOptions, create_async_client

from serve_app.stores import EmbeddedPostgres
from tests.gateway import Gateway, KeyRules, prepare
from tests.gateway.resumable import PIECE
from tests.serve_app.stores.fixtures import on_server

_names = (f"test_gateway_{number}" for number in count(1))

_SCHEMA = """
create table public.notes (
    id bigint generated always as identity primary key,
    owner uuid default auth.uid(),
    body text not null unique
);
alter table public.notes enable row level security;
create policy own on public.notes to authenticated
    using (owner = (select auth.uid())) with check (owner = (select auth.uid()));

create table public.unprotected (id int primary key);
insert into public.unprotected values (1);
create table public.pairs (
    id int primary key,
    other int references public.pairs deferrable initially deferred
);

create function public.add(a int, b int default 1) returns int language sql immutable
    as 'select a + b';
create function public.pack(p jsonb, names text[]) returns jsonb language sql stable
    as $$ select jsonb_build_object('p', p, 'names', names) $$;
create function public.several(n int) returns table (i int, t text) language sql stable
    as $$ select i, i::text from generate_series(1, n) i $$;
create function public.nothing() returns void language sql as '';
create function public.nobody() returns text language sql as 'select null::text';
create function public.fails(code text) returns void language plpgsql
    as $$ begin raise exception 'as asked' using errcode = code, hint = 'h', detail = 'd'; end $$;
create function public.internal() returns text language sql security definer as $$ select 'in' $$;
revoke execute on function public.internal from public, anon, authenticated;
create function public.half_closed() returns text language sql as $$ select 'open' $$;
revoke execute on function public.half_closed from public;
create function public.sneaky() returns void language sql stable
    as $$ select setval('public.notes_id_seq', 7) $$;

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
    ('private', 'private', false, null, null),
    ('open', 'open', true, null, null),
    ('pictures', 'pictures', false, 100, '{image/png}');
create policy own_folder on storage.objects to authenticated
    using (bucket_id = 'private' and (storage.foldername(name))[1] = (select auth.uid())::text)
    with check (bucket_id = 'private' and starts_with(name, (select auth.uid()) || '/'));
"""

USER = "5a9a4f3c-63a5-4b08-94a4-f4f4f8d7a111"
OTHER = "5a9a4f3c-63a5-4b08-94a4-f4f4f8d7a222"


@pytest.fixture(scope="module")
def template(postgres_server: EmbeddedPostgres) -> str:
    """A prepared database with some tables and functions of a project."""
    return _new_database(postgres_server.dsn)


def _new_database(dsn: str) -> str:
    name = next(_names)
    on_server(dsn, lambda connection: connection.execute(f"create database {name}"))
    dsn = dsn.replace("@/postgres?", f"@/{name}?")

    async def fill(connection: asyncpg.Connection) -> None:
        await prepare(connection)
        await connection.execute(_SCHEMA)

    on_server(dsn, fill)
    return dsn


@pytest.fixture(scope="module")
def running(template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway.running(template, tmp_path_factory.mktemp("blobs")) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway, template: str, tmp_path: Path) -> Gateway:
    """Without objects, notes, faults and history."""

    async def clean(connection: asyncpg.Connection) -> None:
        await connection.execute(
            "set storage.allow_delete_query = 'true'; delete from storage.objects; "
            "delete from public.notes"
        )

    running.faults.clear()
    running.use(template, tmp_path)
    running.requests.clear()
    on_server(template, clean)
    return running


@asynccontextmanager
async def client(gateway: Gateway, key: str, token: str | None = None) -> AsyncIterator[Any]:
    """The client library; `Any`, as its annotations are of no use for rows and options."""
    async with httpx.AsyncClient(timeout=20) as http:
        options = AsyncClientOptions(
            httpx_client=http, headers={"Authorization": f"Bearer {token or key}"}
        )
        yield await create_async_client(gateway.url, key, options)


def service(gateway: Gateway) -> Any:
    return client(gateway, gateway.keys.secret)


def headers(gateway: Gateway, **more: str) -> dict[str, str]:
    key = gateway.keys.service_jwt
    return {"apikey": key, "Authorization": f"Bearer {key}"} | more


async def failure(work: Any) -> Any:
    """The error of the client library."""
    with pytest.raises((APIError, StorageApiError)) as caught:
        await (work.execute() if hasattr(work, "execute") else work)
    return caught.value


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- PostgREST ---------------------------------------------------------------------------------


async def test_functions_return_scalars_json_rows_and_nothing(gateway: Gateway) -> None:
    async with service(gateway) as supabase:

        async def call(name: str, **arguments: Any) -> Any:
            return (await supabase.rpc(name, arguments).execute()).data

        assert await call("add", a=2) == 3
        assert await call("add", a=2, b=40) == 42
        packed = {"p": {"a": [1, None]}, "names": ["x", "ü'"]}
        assert await call("pack", **packed) == packed
        assert await call("several", n=2) == [{"i": 1, "t": "1"}, {"i": 2, "t": "2"}]
        assert await call("several", n=0) == []
        assert await call("nobody") is None
        assert await call("nothing") == []
        assert len(await call("several", n=2000)) == 1000, "longer results are cut"
    assert [r.path for r in gateway.requests][:2] == ["/rest/v1/rpc/add"] * 2
    assert {r.role for r in gateway.requests} == {"service_role"}


@pytest.mark.parametrize("arguments", [{}, {"a": 1, "c": 2}, {"b": 1}])
async def test_a_function_is_known_by_its_arguments(
    gateway: Gateway, arguments: dict[str, int]
) -> None:
    async with service(gateway) as supabase:
        error = await failure(supabase.rpc("add", arguments))
    assert error.code == "PGRST202"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("P0001", 400),
        ("GL404", 400),
        ("PT418", 418),
        ("P0002", 500),
        ("23505", 409),
        ("23503", 409),
        ("23514", 400),
        ("22023", 400),
        ("40001", 500),
        ("57014", 500),
        ("53300", 503),
        ("08006", 503),
        ("55P03", 500),
        ("42501", 403),
        ("42P01", 404),
    ],
)
async def test_errors_have_the_status_of_their_sqlstate(
    gateway: Gateway, code: str, status: int
) -> None:
    async with httpx.AsyncClient() as http:
        url = f"{gateway.url}/rest/v1/rpc/fails"
        answer = await http.post(url, json={"code": code}, headers=headers(gateway))
    assert answer.status_code == status
    assert answer.json() == {"code": code, "message": "as asked", "details": "d", "hint": "h"}
    async with service(gateway) as supabase:
        error = await failure(supabase.rpc("fails", {"code": code}))
    assert (error.code, error.message, error.details) == (code, "as asked", "d")


async def test_a_stable_function_may_not_write(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        assert (await failure(supabase.rpc("sneaky", {}))).code == "25006"


async def test_grants_decide_who_calls(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        assert (await supabase.rpc("internal", {}).execute()).data == "in"
    async with client(gateway, gateway.keys.publishable) as supabase:
        error = await failure(supabase.rpc("internal", {}))
        assert error.code == "42501"
        assert "permission denied for function internal" in error.message
        # The trap of the platform: anon has a grant of its own, from the default privileges.
        assert (await supabase.rpc("half_closed", {}).execute()).data == "open"
        assert (await supabase.table("unprotected").select("*").execute()).data == [{"id": 1}]
        await supabase.table("unprotected").delete().eq("id", 2).execute()
    assert gateway.requests[-1].role == "anon"


async def test_an_error_of_the_commit_is_an_answer(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        error = await failure(supabase.table("pairs").insert({"id": 1, "other": 2}))
        assert error.code == "23503"
        assert (await supabase.table("pairs").select("*").execute()).data == []


async def test_row_level_security_decides_who_sees(gateway: Gateway) -> None:
    token = gateway.authenticated_jwt(USER)
    async with client(gateway, gateway.keys.anon_jwt, token) as supabase:
        notes = supabase.table("notes")
        made = await notes.insert({"body": "mine"}).execute()
        assert made.data[0]["owner"] == USER
        await notes.insert([{"body": "b"}, {"body": "a"}]).execute()
        duplicate = await failure(notes.insert({"body": "mine"}))
        assert duplicate.code == "23505"
        refused = await failure(notes.insert({"body": "x", "owner": OTHER}))
        assert refused.code == "42501"
        assert "row-level security" in refused.message
        found = await notes.select("body").order("body", desc=True).limit(2).execute()
        assert found.data == [{"body": "mine"}, {"body": "b"}]
        changed = await notes.update({"body": "it's"}).eq("body", "mine").execute()
        assert changed.data[0]["body"] == "it's"
    for key, other in (
        (gateway.keys.anon_jwt, None),
        (gateway.keys.anon_jwt, gateway.authenticated_jwt(OTHER)),
    ):
        async with client(gateway, key, other) as supabase:
            notes = supabase.table("notes")
            assert (await notes.select("*").execute()).data == []
            assert (await notes.delete().eq("body", "it's").execute()).data == []
    async with service(gateway) as supabase:
        notes = supabase.table("notes")
        assert len((await notes.select("*").execute()).data) == 3
        assert len((await notes.delete().eq("owner", USER).execute()).data) == 3
        assert (await failure(notes.delete())).code == "21000"
        assert (await failure(supabase.table("nothing").select("*"))).code == "PGRST205"


@pytest.mark.parametrize(
    ("method", "path", "more", "code"),
    [
        ("GET", "notes?body=like.a", {}, "PGRST100"),
        ("GET", "notes?limit=many", {}, "PGRST100"),
        ("GET", "notes?order=body.up", {}, "PGRST100"),
        ("GET", "notes", {"Range": "0-1"}, "PGRST103"),
        ("GET", "notes", {"Prefer": "count=exact"}, "PGRST122"),
        ("GET", "notes", {"Accept-Profile": "storage"}, "PGRST106"),
        ("GET", "notes", {"Accept": "text/csv"}, "PGRST107"),
        ("GET", "notes?select=missing", {}, "42703"),
        ("POST", "rpc/nothing?select=a", {}, "PGRST100"),
        ("POST", "rpc/nothing", {"Prefer": "params=single-object"}, "PGRST122"),
        ("POST", "rpc/nothing", {"Content-Type": "text/plain"}, "PGRST102"),
    ],
)
async def test_rest_refuses_what_it_does_not_know(
    gateway: Gateway, method: str, path: str, more: dict[str, str], code: str
) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.request(
            method,
            f"{gateway.url}/rest/v1/{path}",
            headers={"Content-Type": "application/json"} | headers(gateway, **more),
        )
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"] == code


# --- keys --------------------------------------------------------------------------------------


async def test_a_secret_key_is_refused_to_browsers(gateway: Gateway) -> None:
    async with httpx.AsyncClient() as http:
        for key, status in ((gateway.keys.secret, 401), (gateway.keys.publishable, 200)):
            sent = {"apikey": key, "User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}
            answer = await http.get(f"{gateway.url}/storage/v1/bucket", headers=sent)
            assert (answer.status_code, bool(answer.content)) == (status, status == 200)


@pytest.mark.parametrize(
    ("rules", "token", "told"),
    [
        (KeyRules(), True, None),
        (KeyRules(), False, None),
        (KeyRules(as_tokens=False), True, "Invalid Compact JWS"),
        (KeyRules(as_tokens=False), False, None),
        (KeyRules(make_tokens=False), True, None),
        (
            KeyRules(make_tokens=False),
            False,
            "headers must have required property 'authorization'",
        ),
    ],
)
async def test_gateways_differ_in_what_they_do_with_keys(
    gateway: Gateway, rules: KeyRules, token: bool, told: str | None
) -> None:
    key = gateway.keys.secret
    sent = {"apikey": key} | ({"Authorization": f"Bearer {key}"} if token else {})
    gateway.rule_keys(rules)
    try:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{gateway.url}/storage/v1/bucket", headers=sent)
    finally:
        gateway.rule_keys(KeyRules())
    assert answer.is_success == (told is None)
    assert told is None or answer.json()["message"] == told


@pytest.mark.parametrize(
    ("key", "token", "expected"),
    [
        ("service_jwt", None, "service_role"),
        ("service_jwt", "service_jwt", "service_role"),
        ("anon_jwt", "anon_jwt", "anon"),
        ("secret", "secret", "service_role"),
        ("secret", None, "service_role"),
        ("publishable", "publishable", "anon"),
        ("publishable", "service_jwt", "service_role"),
        ("publishable", "secret", 401),
        ("service_jwt", "secret", 401),
        (None, "service_jwt", 401),
        ("wrong", "service_jwt", 401),
        ("service_jwt", "expired_jwt", "PGRST303"),
        ("expired_jwt", "expired_jwt", "PGRST303"),
        ("service_jwt", "wrong", "PGRST301"),
    ],
)
async def test_keys_decide_the_role(
    gateway: Gateway, key: str | None, token: str | None, expected: str | int
) -> None:
    sent = {}
    if key is not None:
        sent["apikey"] = getattr(gateway.keys, key, "sb_secret_wrong")
    if token is not None:
        sent["Authorization"] = f"Bearer {getattr(gateway.keys, token, 'not.a.token')}"
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{gateway.url}/rest/v1/rpc/nothing", json={}, headers=sent)
        if key == "service_jwt" and token is None:
            assert gateway.requests[-1].role == "anon", "a legacy key alone carries no role"
        elif expected == 401:
            assert answer.status_code == 401
            assert answer.json()["message"] in ("Invalid API key", "No API key found in request")
        elif str(expected).startswith("PGRST"):
            assert (answer.status_code, answer.json()["code"]) == (401, expected)
        else:
            assert answer.status_code == 204
            assert gateway.requests[-1].role == expected


async def test_an_expired_token_at_the_storage(gateway: Gateway) -> None:
    async with client(gateway, gateway.keys.anon_jwt, gateway.keys.expired_jwt) as supabase:
        bucket = supabase.storage.from_("private")
        error = await failure(bucket.upload("a", b"1"))
        assert (error.status, error.code) == ("403", "Unauthorized")
        assert error.message == '"exp" claim timestamp check failed'
        # A download takes a bad token for none, and then knows no private bucket.
        error = await failure(bucket.download("a"))
        assert (error.status, error.message) == ("404", "Bucket not found")


# --- storage -----------------------------------------------------------------------------------


async def test_an_object_from_upload_to_removal(gateway: Gateway, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    async with service(gateway) as supabase, httpx.AsyncClient() as http:
        bucket = supabase.storage.from_("private")
        options = {"content-type": "image/png", "cache-control": "31536000"}
        made = await bucket.upload("a/b c.png", path, options)
        assert made.full_path == "private/a/b c.png"
        assert await bucket.download("a/b c.png") == data
        info = await bucket.info("a/b c.png")
        assert (info["size"], info["content_type"]) == (len(data), "image/png")
        assert info["cache_control"] == "max-age=31536000"
        url = f"{gateway.url}/storage/v1/object/private/a/b c.png"

        async def get(method: str = "GET", **more: str) -> httpx.Response:
            return await http.request(method, url, headers=headers(gateway, **more))

        whole = await get()
        assert whole.headers["cache-control"] == "max-age=31536000"
        assert whole.headers["content-type"] == "image/png"
        assert whole.headers["etag"] == info["etag"]
        assert (await get(**{"If-None-Match": info["etag"]})).status_code == 304
        head = await get("HEAD")
        assert (head.headers["content-length"], head.content) == (str(len(data)), b"")
        part = await get(Range="bytes=100-199")
        assert (part.status_code, part.content) == (206, data[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
        assert (await get(Range="bytes=-5")).content == data[-5:]
        assert (await get(Range="bytes=10000-")).content == data[10000:]
        assert (await get(Range=f"bytes={len(data)}-")).status_code == 416

        error = await failure(bucket.upload("a/b c.png", b"new"))
        assert (error.status, error.code) == ("409", "Duplicate")
        await bucket.upload("a/b c.png", b"new", {"upsert": "true"})
        assert await bucket.download("a/b c.png") == b"new"
        await bucket.update("a/b c.png", b"newer")
        assert await bucket.download("a/b c.png") == b"newer"
        assert len(files(tmp_path)) == 2, "one version is left, next to our own file"

        removed = await bucket.remove(["a/b c.png", "missing"])
        assert [row["name"] for row in removed] == ["a/b c.png"]
        assert await bucket.remove(["a/b c.png"]) == []
        assert not await bucket.exists("a/b c.png")
        error = await failure(bucket.download("a/b c.png"))
        assert (error.status, error.code, error.message) == ("404", "not_found", "Object not found")
    assert files(tmp_path) == [path]


async def test_empty_objects(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        bucket = supabase.storage.from_("private")
        await bucket.upload("empty", b"")
        assert await bucket.download("empty") == b""
        assert (await bucket.info("empty"))["size"] == 0


async def test_uploads_that_are_refused(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        pictures = supabase.storage.from_("pictures")
        png = {"content-type": "image/png"}
        await pictures.upload("limit.png", b"x" * 100, png)
        error = await failure(pictures.upload("big.png", b"x" * 101, png))
        assert (error.status, error.code) == ("413", "Payload too large")
        error = await failure(pictures.upload("a.txt", b"x", {"content-type": "text/plain"}))
        assert (error.status, error.code) == ("415", "invalid_mime_type")
        for key in ("ä.png", "a#.png", "a\\b", "a%25b"):
            error = await failure(pictures.upload(key, b"x", png))
            assert (error.status, error.code) == ("400", "InvalidKey")
        error = await failure(supabase.storage.from_("missing").upload("a", b""))
        assert (error.status, error.message) == ("404", "Bucket not found")
        assert await pictures.remove(["limit.png"])
        assert await pictures.remove([f"{number}" for number in range(1001)]) == []


async def test_policies_decide_about_objects(gateway: Gateway) -> None:
    token = gateway.authenticated_jwt(USER)
    async with client(gateway, gateway.keys.publishable, token) as supabase:
        bucket = supabase.storage.from_("private")
        await bucket.upload(f"{USER}/mine", b"1")
        await bucket.upload(f"{USER}/mine", b"2", {"upsert": "true"})
        for options in ({}, {"upsert": "true"}):
            error = await failure(bucket.upload(f"{OTHER}/theirs", b"1", options))
            assert (error.status, error.code) == ("403", "Unauthorized")
            assert error.message == "new row violates row-level security policy"
        assert await bucket.download(f"{USER}/mine") == b"2"
        assert await supabase.storage.list_buckets() == []
        error = await failure(supabase.storage.get_bucket("private"))
        assert error.message == "Bucket not found"
    async with client(gateway, gateway.keys.publishable) as supabase:
        bucket = supabase.storage.from_("private")
        assert (await failure(bucket.download(f"{USER}/mine"))).code == "not_found"
        assert (await failure(bucket.upload("a", b""))).status == "403"
        assert await bucket.remove([f"{USER}/mine"]) == []
        assert (await bucket.list_v2()).objects == []
    async with service(gateway) as supabase:
        assert {b.id for b in await supabase.storage.list_buckets()} == {
            "private",
            "open",
            "pictures",
        }
        assert (await supabase.storage.get_bucket("pictures")).file_size_limit == 100
        assert await supabase.storage.from_("private").remove([f"{USER}/mine"])


async def test_listings(gateway: Gateway) -> None:
    names = ["a/1", "a/2", "a/b/3", "a/b/4", "c", "Z"]
    async with service(gateway) as supabase:
        bucket = supabase.storage.from_("private")
        for name in names:
            await bucket.upload(name, name.encode(), {"content-type": "text/plain"})
        seen: list[str] = []
        options: dict[str, Any] = {"limit": 4}
        while True:
            page = await bucket.list_v2(options)
            assert page.folders == []
            seen += [entry.name for entry in page.objects]
            if not page.hasNext:
                break
            options["cursor"] = page.nextCursor
        assert seen == sorted(names)
        page = await bucket.list_v2({"prefix": "a/", "with_delimiter": True})
        assert [(folder.name, folder.key) for folder in page.folders] == [("a/b/", "b")]
        assert [entry.name for entry in page.objects] == ["a/1", "a/2"]
        assert (await bucket.list_v2({"prefix": "a_"})).objects == []
        first = (await bucket.list_v2({"prefix": "a/1"})).objects[0]
        assert first.metadata is not None
        assert first.metadata["size"] == 3
        # The first version of the listing has names below the folder, and folders without an id.
        old = await bucket.list("a")
        assert [(row["name"], row["id"] is None) for row in old] == [
            ("1", False),
            ("2", False),
            ("b", True),
        ]
        assert [row["name"] for row in await bucket.list("a", {"limit": 1, "offset": 1})] == ["2"]
        assert (await supabase.storage.from_("missing").list_v2()).objects == []


async def test_signed_and_public_urls(gateway: Gateway) -> None:
    async with service(gateway) as supabase, httpx.AsyncClient() as http:
        bucket = supabase.storage.from_("private")
        await bucket.upload("a/b c", b"0123456789")
        url = (await bucket.create_signed_url("a/b c", 60))["signedURL"]
        answer = await http.get(url, headers={"Range": "bytes=2-3"})
        assert (answer.status_code, answer.content) == (206, b"23")
        assert "expires" in answer.headers
        assert "cache-control" not in answer.headers
        for unsatisfiable in ("bytes=10-", "bytes=0-1,4-5"):
            assert (await http.get(url, headers={"Range": unsatisfiable})).status_code == 416
        assert (await http.head(url)).headers["content-length"] == "10"
        named = await bucket.create_signed_url("a/b c", 60, {"download": "x y.bin"})
        disposition = (await http.get(named["signedURL"])).headers["content-disposition"]
        assert disposition == "attachment; filename=x%20y.bin; filename*=UTF-8''x%20y.bin"

        other = await http.get(url.replace("/a/", "/b/"))
        assert (other.status_code, other.json()["code"]) == (400, "InvalidSignature")
        short = (await bucket.create_signed_url("a/b c", 1))["signedURL"]
        await asyncio.sleep(1.1)
        expired = (await http.get(short)).json()
        assert (expired["statusCode"], expired["code"]) == ("400", "InvalidJWT")
        assert "exp" in expired["message"]

        assert (await failure(bucket.create_signed_url("missing", 60))).code == "not_found"
        several = await bucket.create_signed_urls(["a/b c", "missing"], 60)
        assert [item["signedURL"] is None for item in several] == [False, True]
        assert several[1]["error"]
        assert (await http.get(several[0]["signedURL"])).content == b"0123456789"

        hidden = await http.get(await bucket.get_public_url("a/b c"))
        assert (hidden.status_code, hidden.json()["message"]) == (400, "Bucket not found")
        shown = supabase.storage.from_("open")
        await shown.upload("a", b"1")
        assert (await http.get(await shown.get_public_url("a"))).content == b"1"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "object/list-v2/private", {"prefx": "a"}),
        ("POST", "object/list-v2/private", {"sortBy": {"column": "created_at"}}),
        ("POST", "object/list/private", {"prefix": "", "more": 1}),
        ("POST", "object/list/private", {}),
        ("DELETE", "object/private", {"prefixes": ["a"], "more": 1}),
        ("DELETE", "object/private", {"prefixes": []}),
        ("POST", "object/sign/private/a", {"expiresIn": 0}),
        ("GET", "object/private/a?width=3", None),
        ("GET", "bucket?limit=1", None),
        ("POST", "bucket", {"id": "a"}),
        ("POST", "object/copy", {"bucketId": "a"}),
        ("GET", "render/image/authenticated/private/a", None),
        ("PATCH", "object/private/a", None),
        ("GET", "nothing", None),
    ],
)
async def test_storage_refuses_what_it_does_not_know(
    gateway: Gateway, method: str, path: str, body: dict[str, Any] | None
) -> None:
    async with httpx.AsyncClient() as http:
        url = f"{gateway.url}/storage/v1/{path}"
        answer = await http.request(method, url, json=body, headers=headers(gateway))
    assert 400 <= answer.status_code < 500


# --- resumable uploads -------------------------------------------------------------------------


def _pairs(**pairs: str) -> str:
    return ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in pairs.items())


async def _begin(
    http: httpx.AsyncClient, gateway: Gateway, length: int, **more: str
) -> httpx.Response:
    pairs = {"bucketName": "private", "objectName": "big", "contentType": "model/ply"} | {
        key: value for key, value in more.items() if not key.startswith("x-")
    }
    return await http.post(
        f"{gateway.url}/storage/v1/upload/resumable",
        headers=headers(gateway)
        | {"Tus-Resumable": "1.0.0", "Upload-Length": str(length)}
        | {"Upload-Metadata": _pairs(**pairs)}
        | {key: value for key, value in more.items() if key.startswith("x-")},
    )


def _location(begun: httpx.Response) -> str:
    """Where the upload goes on, by the way that leads here: behind the platform's is TLS."""
    return begun.headers["location"].replace("https:", "http:")


async def _append(
    http: httpx.AsyncClient, gateway: Gateway, url: str, offset: int, data: bytes, **more: str
) -> httpx.Response:
    sent = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset)}
    sent["Content-Type"] = "application/offset+octet-stream"
    return await http.patch(url, content=data, headers=headers(gateway) | sent | more)


async def _where(http: httpx.AsyncClient, gateway: Gateway, url: str) -> int:
    sent = headers(gateway) | {"Tus-Resumable": "1.0.0"}
    return int((await http.head(url, headers=sent)).headers["upload-offset"])


async def test_a_resumable_upload_that_is_interrupted(gateway: Gateway) -> None:
    data = bytes(range(251)) * 53_000  # two pieces and a bit
    async with service(gateway) as supabase, httpx.AsyncClient() as http:
        begun = await _begin(http, gateway, len(data), cacheControl="60")
        assert begun.status_code == 201
        secure = gateway.url.replace("http:", "https:")
        assert begun.headers["location"].startswith(f"{secure}/storage/v1/upload/resumable/")
        url = _location(begun)
        assert "upload-expires" in begun.headers

        gateway.faults.drop(path="resumable/")
        with pytest.raises(httpx.TransportError):
            await _append(http, gateway, url, 0, data[:PIECE])
        assert await _where(http, gateway, url) == 0

        gateway.faults.drop(path="resumable/", method="PATCH", after_work=True)
        with pytest.raises(httpx.TransportError):
            await _append(http, gateway, url, 0, data[:PIECE])
        assert await _where(http, gateway, url) == PIECE
        conflict = await _append(http, gateway, url, 0, data[:PIECE])
        assert (conflict.status_code, conflict.text) == (409, "Upload-Offset conflict\n")

        more = await _append(http, gateway, url, PIECE, data[PIECE : 2 * PIECE])
        assert (more.status_code, more.headers["upload-offset"]) == (204, str(2 * PIECE))
        assert not await supabase.storage.from_("private").exists("big")
        last = await _append(http, gateway, url, 2 * PIECE, data[2 * PIECE :])
        assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(data)))
        assert last.headers["tus-complete"] == "1"
        assert await _where(http, gateway, url) == len(data)
        assert await supabase.storage.from_("private").download("big") == data
        info = await supabase.storage.from_("private").info("big")
        assert (info["cache_control"], info["content_type"]) == ("max-age=60", "model/ply")

        # The object is there now: both a new upload and a piece of the old need x-upsert.
        assert (await _begin(http, gateway, 3)).status_code == 409
        again = await _append(http, gateway, url, 2 * PIECE, data[2 * PIECE :])
        assert (again.status_code, again.text) == (409, "The resource already exists")
        begun = await _begin(http, gateway, 3, **{"x-upsert": "true"})
        refused = await _append(http, gateway, _location(begun), 0, b"abc")
        assert refused.status_code == 409
        upsert = {"x-upsert": "true"}
        done = await _append(http, gateway, _location(begun), 0, b"abc", **upsert)
        assert done.status_code == 204
        assert await supabase.storage.from_("private").download("big") == b"abc"


async def test_half_a_piece_stays(gateway: Gateway) -> None:
    """The connection breaks while a piece is on its way."""
    async with httpx.AsyncClient() as http:
        url = _location(await _begin(http, gateway, PIECE))

        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 1_000_000
            await asyncio.sleep(0.3)
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await _append(http, gateway, url, 0, broken())  # type: ignore[arg-type]
        offset = await _where(http, gateway, url)
        assert 0 < offset <= 1_000_000
        done = await _append(http, gateway, url, offset, b"x" * (PIECE - offset))
        assert done.status_code == 204


async def test_resumable_uploads_without_a_byte_and_with_more_metadata(gateway: Gateway) -> None:
    async with service(gateway) as supabase, httpx.AsyncClient() as http:
        empty = await _begin(http, gateway, 0, objectName="none", unknown="1")
        assert empty.status_code == 201
        assert await _where(http, gateway, _location(empty)) == 0
        assert await supabase.storage.from_("private").download("none") == b""


async def test_resumable_uploads_that_are_refused(gateway: Gateway) -> None:
    async with httpx.AsyncClient() as http:
        for status, length, more in (
            (400, 1, {"objectName": "ä"}),
            (400, 1, {"bucketName": ""}),
            (404, 1, {"bucketName": "missing"}),
            (413, 101, {"bucketName": "pictures"}),
            (415, 100, {"bucketName": "pictures"}),
        ):
            answer = await _begin(http, gateway, length, **more)
            assert (answer.status_code, bool(answer.text)) == (status, True), answer.text
        url = f"{gateway.url}/storage/v1/upload/resumable"
        options = await http.options(url)
        assert (options.status_code, options.headers["tus-version"]) == (204, "1.0.0")
        assert (await http.post(url, headers=headers(gateway))).status_code == 412
        sent = headers(gateway, **{"Tus-Resumable": "1.0.0"})
        unknown = await http.head(f"{url}/YS9iL2M", headers=sent)
        assert unknown.status_code == 404
        location = _location(await _begin(http, gateway, 2 * PIECE))
        small = await _append(http, gateway, location, 0, b"small")
        assert small.status_code == 400
        sent = {"apikey": gateway.keys.publishable, "Tus-Resumable": "1.0.0"}
        sent |= {"Upload-Length": "1"}
        sent |= {"Upload-Metadata": _pairs(bucketName="private", objectName="a")}
        refused = await http.post(url, headers=sent)
        assert refused.status_code == 403
        assert refused.text == "new row violates row-level security policy"


# --- faults ------------------------------------------------------------------------------------


async def test_failures_before_and_after_the_work(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        notes = supabase.table("notes")
        gateway.faults.fail(path="notes", method="POST", retry_after="3")
        error = await failure(notes.insert({"body": "a"}))
        assert error.message == "An invalid response was received from the upstream server"
        assert (await notes.select("*").execute()).data == []
        gateway.faults.fail(status=502, times=2, path="notes", method="POST", after_work=True)
        await failure(notes.insert({"body": "a"}))
        await failure(notes.insert({"body": "b"}))
        assert (await failure(notes.insert({"body": "a"}))).code == "23505"
        assert len((await notes.select("*").execute()).data) == 2
        gateway.faults.fail(path="object", body={"message": "m", "error": "e", "statusCode": "503"})
        error = await failure(supabase.storage.from_("private").upload("a", b"1"))
        assert (error.message, error.code, error.status) == ("m", "e", "503")


async def test_dropped_connections(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        notes = supabase.table("notes")
        gateway.faults.drop(path="notes")
        with pytest.raises(httpx.TransportError):
            await notes.insert({"body": "a"}).execute()
        gateway.faults.drop(path="notes", after_work=True)
        with pytest.raises(httpx.TransportError):
            await notes.insert({"body": "b"}).execute()
        assert [row["body"] for row in (await notes.select("*").execute()).data] == ["b"]


async def test_down_and_up_again(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        call = supabase.rpc("add", {"a": 1})
        assert (await call.execute()).data == 2
        gateway.faults.down(True)
        for _ in range(2):
            with pytest.raises(httpx.TransportError):
                await call.execute()
        gateway.faults.down(False)
        assert (await call.execute()).data == 2


async def test_latency(gateway: Gateway) -> None:
    async with service(gateway) as supabase:
        gateway.faults.latency_s = 0.3
        started = time.monotonic()
        await supabase.rpc("add", {"a": 1}).execute()
        assert time.monotonic() - started >= 0.3


# --- the project -------------------------------------------------------------------------------


async def test_another_database_without_a_restart(
    gateway: Gateway, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    other = _new_database(postgres_server.dsn)
    async with service(gateway) as supabase:
        await supabase.storage.from_("private").upload("a", b"1")
        gateway.use(other, tmp_path / "other")
        assert gateway.dsn == other
        assert not await supabase.storage.from_("private").exists("a")


def test_databases_are_prepared_at_the_same_time(postgres_server: EmbeddedPostgres) -> None:
    """Roles belong to the server; test runs share one."""
    with ThreadPoolExecutor(3) as threads:
        assert len(set(threads.map(_new_database, [postgres_server.dsn] * 3))) == 3


def test_a_prepared_database_refuses_what_a_project_may_not_do(template: str) -> None:
    async def work(connection: asyncpg.Connection) -> None:
        for statement in (
            "alter table storage.objects enable row level security",
            "create index on storage.objects (owner)",
            "comment on policy own_folder on storage.objects is 'x'",
            "create table storage.mine ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="Direct deletion"):
            await connection.execute("delete from storage.objects")
        await connection.execute(
            "begin; drop policy own_folder on storage.objects; "
            "create policy mine on storage.objects for select to anon using (true); rollback"
        )

    on_server(template, work)
