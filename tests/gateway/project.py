"""The database and the folder behind the gateway, and transactions under a caller's role."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from starlette.requests import Request

from .keys import SERVICE, Caller, Secrets

if TYPE_CHECKING:
    from .resumable import Upload

__all__ = ["Connection", "Project", "of"]

#: What a pool hands out has the methods of a connection.
Connection = asyncpg.pool.PoolConnectionProxy


@dataclass
class Project:
    """What `Gateway.use` switches: a pool of connections as `authenticator`, and the bytes."""

    dsn: str
    blobs: Path
    secrets: Secrets
    pool: asyncpg.Pool
    uploads: dict[str, Upload] = field(default_factory=dict)

    @classmethod
    async def open(cls, dsn: str, blobs: Path, secrets: Secrets) -> Project:
        """Connects by the socket's trust: the DSN's server asks `authenticator` for no password."""
        pool = await asyncpg.create_pool(
            dsn, user="authenticator", min_size=0, max_size=10, statement_cache_size=0
        )
        (blobs / ".incoming").mkdir(parents=True, exist_ok=True)
        return cls(dsn, blobs, secrets, pool)

    @asynccontextmanager
    async def transaction(
        self,
        request: Request,
        caller: Caller = SERVICE,
        settings: Mapping[str, str] = {},
        readonly: bool = False,
    ) -> AsyncIterator[Connection]:
        """A transaction with the role and the claims of `caller`; it commits at the end.

        The default caller is the one that sees everything: the Storage API looks up buckets and
        completes uploads with the service key.
        """
        local = dict(settings) | {
            "role": caller.role,
            "request.jwt.claims": json.dumps(dict(caller.claims)),
            "request.method": request.method,
            "request.path": request.url.path,
            "request.headers": json.dumps(dict(request.headers)),
        }
        async with self.pool.acquire() as connection, connection.transaction(readonly=readonly):
            # One statement per setting would be as many round trips.
            await connection.execute(
                "select set_config(name, value, true) from unnest($1::text[], $2::text[]) "
                "as s (name, value)",
                list(local),
                list(local.values()),
            )
            yield connection


def of(request: Request) -> tuple[Project, Caller]:
    """What the gateway put into the request."""
    state: Any = request.state
    return state.project, state.caller
