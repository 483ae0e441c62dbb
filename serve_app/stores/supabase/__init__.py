"""The store on a Supabase project: rows through PostgREST, files in Storage.

It knows how a process gets at a project; the environment is filled in by `serve_app.settings`, and
the tables and buckets are made by `supabase/migrations`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx

from pipeline.errors import InvalidOption
from serve_app.proxies import proxy_for
from serve_app.stores.opened import Pace, ServedStore
from serve_app.stores.supabase.transport import Patience, SteadyTransport

__all__ = ["SupabaseSettings", "key_headers"]

_MAX_CONNECTIONS = 32
#: Secret keys are refused to whoever looks like a browser.
_USER_AGENT = {"User-Agent": "glimpse3d"}


def key_headers(key: str) -> dict[str, str]:
    """What a request says of itself, with the key in two places as Supabase's own clients send it.

    The gateway reads `apikey`. In `Authorization` it lets a secret key pass only where it is the
    same, and puts a token in its place; without that header Storage refuses what a gateway has not
    completed.
    """
    return {"apikey": key, "Authorization": f"Bearer {key}", **_USER_AGENT}


@dataclass(frozen=True)
class SupabaseSettings:
    """Which Supabase project to use: plain values, picklable, a
    `deployments.jobs.store.StoreSource`.

    Attributes:
        url: of the project, `https://{ref}.supabase.co`.
        key: the secret key (`sb_secret_...`), or the old service role's JWT.
        files_url: prefix of links of files: a path of the service, or an absolute URL.
        url_lifetime_s: how long such a link works at most; at least half of it.
        patience: how long requests may take.
    """

    url: str
    key: str = field(repr=False)
    files_url: str = "/files"
    url_lifetime_s: float = 3600.0
    patience: Patience = field(default_factory=Patience)

    #: A request goes over the network, and the plan counts its bytes.
    pace = Pace(poll_s=1.0, tidy_s=10.0)

    def prepare(self) -> SupabaseSettings:
        """Settings that `open` takes. Asks nobody: a project that is away is waited for.

        Raises:
            InvalidOption: URL or key cannot be right.
        """
        url = self.url.strip().rstrip("/")
        # What stands there instead may hold a password: it is not repeated.
        if not re.fullmatch(r"https?://[^\s/?#@]+", url):
            raise InvalidOption(
                "SUPABASE_URL must be like https://abcd.supabase.co, without anything behind it."
            )
        if re.fullmatch(r"http://.*\.supabase\.(co|in)", url):
            raise InvalidOption("SUPABASE_URL must begin with https: the key goes there.")
        if not self.key.strip():
            raise InvalidOption("SUPABASE_URL is set, but SUPABASE_SERVICE_ROLE_KEY is not.")
        if not self.key.strip().isascii() or re.search(r"\s", self.key.strip()):
            raise InvalidOption("SUPABASE_SERVICE_ROLE_KEY holds characters that no key has.")
        return replace(self, url=url, key=self.key.strip())

    def for_keeper(self) -> SupabaseSettings:
        """Nothing of ours has to be kept."""
        return self

    @property
    def is_of_one_node(self) -> bool:
        """Everybody reaches the project."""
        return False

    def stop(self) -> None:
        """Nothing of ours runs."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ServedStore]:
        """Does not fail when the project is away: its calls do."""
        # Imported here: the client is large, and other stores do without it.
        from supabase import AsyncClientOptions, create_async_client

        from serve_app.stores.supabase.resumable import Resumable
        from serve_app.stores.supabase.supabase_blobs import SupabaseBlobs
        from serve_app.stores.supabase.supabase_records import SupabaseRecords

        limits = httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=60.0)
        # Not HTTP/2: all of a process's requests would share one connection, where a download that
        # is given up takes the window of the others, and one time-out ends them all.
        inner = httpx.AsyncHTTPTransport(limits=limits, proxy=proxy_for(self.url))
        transport = SteadyTransport(inner, self.patience)
        async with httpx.AsyncClient(transport=transport, headers=_USER_AGENT) as http:
            client = await create_async_client(
                self.url,
                self.key,
                AsyncClientOptions(
                    httpx_client=http,
                    # The transport repeats, once for all parts of the client.
                    postgrest_client_retry=False,
                    auto_refresh_token=False,
                    persist_session=False,
                ),
            )
            blobs = SupabaseBlobs(
                client,
                Resumable(http, self.url, key_headers(self.key)),
                url=self.url,
                key=self.key,
                files_url=self.files_url,
                url_lifetime_s=self.url_lifetime_s,
            )
            learning = asyncio.create_task(blobs.learn())
            try:
                yield ServedStore(SupabaseRecords(client), blobs, files=blobs)
            finally:
                learning.cancel()
                await asyncio.gather(learning, return_exceptions=True)
