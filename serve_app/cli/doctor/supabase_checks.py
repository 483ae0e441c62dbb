"""The checks of a Supabase project.

Rows and files go through the store's own classes; what those hide (who answers, which role a key
has, what the anonymous key may do) is asked over plain HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt

from deployments.jobs.rows import Bucket
from pipeline.errors import GlimpseError, Unavailable
from serve_app.cli.doctor import cycles, schema_checks
from serve_app.cli.doctor.checks import Finding, Round, Status, Step, failed, ok, skipped, warning
from serve_app.proxies import proxy_for
from serve_app.settings import Environment
from serve_app.stores import SupabaseSettings
from serve_app.stores.opened import ServedStore
from serve_app.stores.supabase import key_headers
from serve_app.stores.supabase.transport import Patience

_DASHBOARD = "the dashboard under Project Settings, API Keys"
_SET_KEY = f"Set SUPABASE_SERVICE_ROLE_KEY to the secret key (sb_secret_...) from {_DASHBOARD}."
_SET_ANON = f"Set SUPABASE_ANON_KEY to the publishable key (sb_publishable_...) from {_DASHBOARD}."
_SET_URL = "Set SUPABASE_URL to the project's URL, https://{ref}.supabase.co."
_RUNNING = (
    "Compare SUPABASE_URL with the dashboard, look there whether the project is paused, and check "
    "this machine's network and the certificates it trusts."
)
_LOGS = "Correct the crosses above; without any, look at the project's logs in the dashboard."
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SOON_S = 30 * 24 * 3600
#: The service waits longer; here somebody sits in front of it.
_PATIENCE = Patience(tries=2, file_tries=2, files_s=20.0)

#: PostgREST's word for a function that is not there, and PostgreSQL's for a missing right.
_NO_FUNCTION, _NO_RIGHTS = "PGRST202", "42501"


def check_environment(env: Environment) -> Finding:
    """URL and key are there and look right."""
    if env.database_url:
        return failed(
            "both SUPABASE_URL and DATABASE_URL are set",
            "Unset DATABASE_URL to use the project, or SUPABASE_URL to use the database.",
        )
    for key, fix in (("any", _SET_URL), (env.supabase_service_role_key, _SET_KEY)):
        try:
            url = SupabaseSettings(env.supabase_url, key).prepare().url
        except GlimpseError as error:
            return failed(error.detail, fix)
    if url.startswith("http:") and urlsplit(url).hostname not in _LOCAL:
        return warning(f"{url} is not encrypted", "Use https: the key travels with every request.")
    return ok(url)


def check_key_kind(key: str, url: str) -> Finding:
    """What the key itself says: its kind, and of a JWT the role, the project and the expiry."""
    key = key.strip()
    length = f"{len(key)} characters"
    if key.startswith("sb_secret_"):
        return ok(f"secret key (sb_secret_..., {length})")
    if key.startswith("sb_publishable_"):
        return failed(f"publishable key (sb_publishable_..., {length}): it cannot write", _SET_KEY)
    try:
        claims = jwt.decode(key, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return failed(f"{key[:4]}... ({length}) is no key of Supabase", _SET_KEY)
    return _check_claims(claims, url)


def _check_claims(claims: Mapping[str, Any], url: str) -> Finding:
    role, project = claims.get("role"), claims.get("ref")
    if role != "service_role":
        return failed(f"JWT of the role {role}: it cannot write", _SET_KEY)
    label, _, domain = (urlsplit(url).hostname or "").partition(".")
    if project and domain.startswith("supabase.") and project != label:
        return failed(
            f"JWT of the project {project}, and SUPABASE_URL names {label}",
            f"{_SET_KEY} Or correct SUPABASE_URL.",
        )
    expires = float(claims.get("exp", "inf"))
    if expires < time.time() + _SOON_S:
        date = time.strftime("%Y-%m-%d", time.gmtime(expires))
        if expires < time.time():
            return failed(f"JWT that expired on {date}", _SET_KEY)
        return warning(f"JWT that expires on {date}", _SET_KEY)
    return ok("JWT of the service role")


class _Answer:
    """An answer over HTTP; `body` is None where it is not JSON."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.is_success = response.is_success
        self.body: Any = None
        with suppress(ValueError):
            self.body = response.json()
        error = self.body if isinstance(self.body, dict) else {}
        self.code = str(error.get("code", ""))
        self.message = str(error.get("message", "no reason"))

    def names(self, field: str) -> set[str]:
        """A field of the rows of a listing; nothing of an error."""
        rows = self.body if isinstance(self.body, list) else []
        return {str(row.get(field)) for row in rows}


class SupabaseRound(Round):
    """Of a project: rows and files through the store, the rest over plain HTTP."""

    def __init__(self, env: Environment, stack: AsyncExitStack) -> None:
        super().__init__(env, stack)
        self._key = env.supabase_service_role_key.strip()
        self._url = env.supabase_url.strip().rstrip("/")
        self._http: httpx.AsyncClient | None = None
        self._store: ServedStore | None = None

    def steps(self) -> Sequence[Step]:
        environment, inspected = ("environment",), ("migrations",)
        files = (
            Step(f"files in {bucket}", partial(self._files, bucket), inspected, _LOGS, None)
            for bucket in Bucket
        )
        return (
            Step("environment", lambda: check_environment(self._env)),
            Step("key kind", lambda: check_key_kind(self._key, self._url), environment),
            Step("reachability", self._reachability, environment, _RUNNING),
            Step("key", self._accepted, ("key kind", "reachability"), _RUNNING),
            Step("key headers", self._headers, ("key",), _RUNNING),
            Step("migrations", self._migrations, ("key",), _RUNNING),
            Step("tables", lambda: schema_checks.check_tables(self._inspected), inspected),
            Step("functions", lambda: schema_checks.check_functions(self._inspected), inspected),
            Step("policies", lambda: schema_checks.check_policies(self._inspected), inspected),
            Step("buckets", lambda: schema_checks.check_buckets(self._inspected), inspected),
            Step("rows", self._rows, inspected, _LOGS, None),
            *files,
            Step("anonymous key", self._anonymous, inspected, _LOGS, None),
            Step(
                "clock", lambda: cycles.check_clock(self._inspected["now"], *self._asked), inspected
            ),
        )

    async def _reachability(self) -> Finding:
        """Somebody answers as Supabase does; whether the key is right is the next question."""
        answer = await self._rpc("schema_version_v1")
        status, body = answer.status, answer.body
        if status >= 500:
            return failed(f"HTTP {status} ({answer.message})", _RUNNING)
        # The gateway says `message`, PostgREST `code` too; a 404 of others looks like the former.
        if not isinstance(body, str) and not (
            answer.code
            or ("message" in (body or {}) and status != 404)
            # A key that only one of the services refuses is the next question, too.
            or (status == 401 and isinstance((await self._storage()).body, list))
        ):
            return failed(f"{self._url} answers, and is no Supabase (HTTP {status})", _SET_URL)
        return await cycles.check_latency(self._url, partial(self._rpc, "schema_version_v1"))

    async def _accepted(self) -> Finding:
        before = time.time()
        answer = await self._rpc("inspect_v1")
        self._asked = before, time.time()
        if answer.status == 200:
            self._inspected = answer.body
            if answer.body["role"] != "service_role":
                return failed(f"the key has the role {answer.body['role']}", _SET_KEY)
            return ok("accepted, role service_role")
        if answer.code == _NO_FUNCTION:
            return ok("accepted")
        found = f"refused: {answer.message}"
        with suppress(Unavailable):  # the refusal is what is wrong
            if (await self._storage()).is_success:
                found += "; Storage accepts it"
            if (await self._rpc("inspect_v1", alone=True)).is_success:
                found += "; the Data API accepts it without the header Authorization"
        return failed(found, _SET_KEY)

    async def _headers(self) -> Finding:
        """Storage and the gateway, too, take the key where the service's requests have it."""
        if not self._key.startswith("sb_"):
            return ok("a JWT, as Authorization expects it")
        both, alone = await self._storage(), await self._storage(alone=True)
        if not both.is_success:
            taken = "; it accepts it without the header Authorization" if alone.is_success else ""
            return failed(
                f"Storage refuses the key that the Data API accepts: {both.message}{taken}",
                "Try another secret key, or the legacy service_role key while the project has one. "
                "If that works, this project's gateway does not take secret keys as Supabase's own "
                "clients send them: tell Supabase's support.",
            )
        rows = await self._rpc("inspect_v1", alone=True)
        refusing = [
            f"{name} refuses it without the header Authorization ({answer.message})"
            for name, answer in (("the Data API", rows), ("Storage", alone))
            if not (answer.is_success or answer.code == _NO_FUNCTION)
        ]
        return ok("; ".join(["accepted by the Data API and by Storage", *refusing]))

    async def _migrations(self) -> Finding:
        if self._inspected:
            return schema_checks.check_version(
                self._inspected["schema_version"], schema_checks.PASTE
            )
        version = (await self._rpc("schema_version_v1")).body
        state = f"at migration {version}" if isinstance(version, str) else "there are none"
        return failed(f"{state}; there is no function inspect_v1", schema_checks.PASTE)

    async def _rows(self) -> Finding:
        return await cycles.check_rows((await self._opened()).records)

    async def _files(self, bucket: Bucket) -> Finding:
        store = await self._opened()
        large = bucket is Bucket.MODELS
        return await cycles.check_files(store.blobs, store.files, bucket, large=large)

    async def _anonymous(self) -> Finding:
        key = self._env.supabase_anon_key.strip()
        if not key:
            return skipped("SUPABASE_ANON_KEY is not set")
        if key == self._key or check_key_kind(key, self._url).status is not Status.FAILED:
            return failed("SUPABASE_ANON_KEY holds a key that may do everything", _SET_ANON)
        asked = await self._rpc("inspect_v1", key)
        if asked.status in (401, 403) and asked.code != _NO_RIGHTS:
            return failed(f"refused: {asked.message}", _SET_ANON)
        store, bucket, project_id = await self._opened(), Bucket.UPLOADS, cycles.new_id()
        path = f"{project_id}/private.png"
        async with cycles.removing_files(store.blobs, bucket, project_id):
            await store.blobs.put(bucket, path, b"private", "image/png")
            never, reads = await self._probe(key, bucket, path)
        found = f"anybody who has the key can {', '.join([*never, *reads])}"
        if never or (reads and not schema_checks.has_demo(self._inspected)):
            return failed(found, schema_checks.PASTE_AGAIN)
        if reads:
            return warning(f"{found}: the demo policies are in force", schema_checks.CLOSE_DEMO)
        return ok("it can neither read nor write")

    async def _probe(self, key: str, bucket: Bucket, path: str) -> tuple[list[str], list[str]]:
        """What the key can do that it never should, and what the demo policies open.

        Nothing changes where it can: a row and a lease are such as the database refuses by itself.
        """
        folder, _, name = path.partition("/")
        send = partial(self._send, key=key)
        ids = await send("GET", "/rest/v1/jobs?select=id&limit=1")
        options = await send("GET", "/rest/v1/jobs?select=options&limit=1")
        written = await send("POST", "/rest/v1/jobs", json={"id": folder})
        claimed = await self._rpc("claim_job_v1", key, p_worker="doctor", p_lease_s=0)
        buckets = await send("GET", "/storage/v1/bucket")
        png = {"Content-Type": "image/png"}
        target = f"/storage/v1/object/{bucket}/{folder}/anonymous.png"
        uploaded = await send("POST", target, content=b"anonymous", headers=png)
        asked = {"prefix": folder, "limit": 10}
        listed = await send("POST", f"/storage/v1/object/list/{bucket}", json=asked)
        read = await send("GET", f"/storage/v1/object/authenticated/{bucket}/{path}")
        lasting = {"expiresIn": 60}
        signed = await send("POST", f"/storage/v1/object/sign/{bucket}/{path}", json=lasting)
        never = {
            "read options of jobs": options.is_success,
            "write jobs": written.is_success or written.code.startswith("23"),
            "call claim_job_v1": claimed.is_success or claimed.code.startswith("GL"),
            "list buckets": bool({*Bucket} & buckets.names("id")),
            "upload files": uploaded.is_success,
            "sign links of files": signed.is_success,
        }
        reads = {
            "read jobs": ids.is_success,
            "list files": name in listed.names("name"),
            "read files": read.is_success,
        }
        return [what for what, can in never.items() if can], [w for w, can in reads.items() if can]

    # --- asking ----------------------------------------------------------------------------------

    async def _opened(self) -> ServedStore:
        if self._store is None:
            settings = SupabaseSettings(self._url, self._key, patience=_PATIENCE)
            self._store = await self._stack.enter_async_context(settings.open())
        return self._store

    async def _rpc(
        self, function: str, key: str = "", *, alone: bool = False, **arguments: Any
    ) -> _Answer:
        path = f"/rest/v1/rpc/{function}"
        return await self._send("POST", path, key=key, alone=alone, json=arguments)

    async def _storage(self, *, alone: bool = False) -> _Answer:
        return await self._send("GET", "/storage/v1/bucket", alone=alone)

    async def _send(
        self, method: str, path: str, *, key: str = "", alone: bool = False, **options: Any
    ) -> _Answer:
        """One request; another connection is tried where none came about.

        Args:
            alone: the key is sent as `apikey` only.
        """
        if self._http is None:
            client = httpx.AsyncClient(
                base_url=self._url,
                timeout=httpx.Timeout(8.0, connect=5.0),
                transport=httpx.AsyncHTTPTransport(retries=1, proxy=proxy_for(self._url)),
            )
            self._http = await self._stack.enter_async_context(client)
        headers = key_headers(key or self._key) | options.pop("headers", {})
        if alone:
            del headers["Authorization"]
        try:
            return _Answer(await self._http.request(method, path, headers=headers, **options))
        except httpx.TimeoutException as error:
            raise Unavailable(f"{self._url} does not answer in time.") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{self._url} cannot be reached: {error or repr(error)}") from error
