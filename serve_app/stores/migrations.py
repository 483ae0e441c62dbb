"""Brings a PostgreSQL database to the newest schema from the files in `supabase/migrations`.

It does not know what the files say; the Supabase CLI applies the same files in its own way.
"""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import asyncpg

from pipeline.errors import GlimpseError, Unavailable

#: `supabase/` of a checkout, and where a wheel puts the same files (pyproject.toml, data-files).
_FOLDERS = (
    Path(__file__).resolve().parents[2] / "supabase",
    Path(sysconfig.get_path("data")) / "share" / "glimpse3d" / "supabase",
)

#: Any constant will do, as long as every release uses the same.
_ADVISORY_LOCK = 0x611D_53D0

#: Longest that a migration waits for a table; as in `supabase/setup/opening.sql`.
LOCK_TIMEOUT_S = 10.0

_BOOKKEEPING = """
create table if not exists public.glimpse3d_migrations (
    version text primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default clock_timestamp()
);
alter table public.glimpse3d_migrations enable row level security;
comment on table public.glimpse3d_migrations is 'Migration files this database has had.';
"""


@dataclass(frozen=True)
class Migration:
    """One file: `{version}_{name}.sql`, where the version is a timestamp."""

    version: str
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the file's text, kept in the database."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def _folder() -> Path:
    """`supabase/`, of the checkout or of the wheel."""
    return next((path for path in _FOLDERS if path.is_dir()), _FOLDERS[0])


@cache
def migration_files(directory: Path | None = None) -> tuple[Migration, ...]:
    """All migrations in order.

    Raises:
        GlimpseError: the directory is missing or empty: the package was copied without its files.
    """
    directory = directory or _folder() / "migrations"
    migrations = []
    for path in sorted(directory.glob("*.sql")):
        version, _, name = path.stem.partition("_")
        migrations.append(Migration(version, name, path.read_text(encoding="utf-8")))
    if not migrations:
        raise GlimpseError(
            f"There are no migrations in {directory}: run from a checkout, installed with "
            "`pip install -e .`."
        )
    return tuple(migrations)


def sql_file(path: str) -> str:
    """Text of a file in `supabase/`."""
    return (_folder() / path).read_text(encoding="utf-8")


@cache
def demo_policies() -> str:
    """The policies that open reading for everybody, which no migration holds."""
    return sql_file("policies/demo_read.sql")


def newest_version() -> str:
    """Timestamp of the newest migration, as `schema_version_v1()` answers it."""
    return migration_files()[-1].version


async def apply_migrations(
    connection: asyncpg.Connection, migrations: tuple[Migration, ...] | None = None
) -> tuple[str, ...]:
    """Apply what the database has not had, all of it or nothing; the versions applied.

    Two processes may do so at once: the second waits and finds nothing to do.

    Raises:
        GlimpseError: a file was edited after this database had it.
        Unavailable: another transaction holds a table for longer than `LOCK_TIMEOUT_S`.
    """
    try:
        return await _apply(connection, migrations)
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable(
            f"A migration waited {LOCK_TIMEOUT_S:g} s for a table that another transaction holds; "
            "nothing was changed. Try again when long transactions (dumps, sessions in an editor) "
            "have ended."
        ) from error


async def _apply(
    connection: asyncpg.Connection, migrations: tuple[Migration, ...] | None
) -> tuple[str, ...]:
    if migrations is None:
        migrations = migration_files()
    applied = []
    async with connection.transaction():
        # Of the transaction, not of the session: it works behind a transaction pooler too.
        await connection.execute("select pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
        await connection.execute("set local client_min_messages = warning")
        # What waits for a table keeps everybody waiting who comes after it. Not for the lock above:
        # who holds that one migrates.
        await connection.execute(f"set local lock_timeout = {LOCK_TIMEOUT_S * 1000:.0f}")
        await connection.execute(_BOOKKEEPING)
        rows = await connection.fetch("select version, sha256 from public.glimpse3d_migrations")
        known = {row["version"]: row["sha256"] for row in rows}
        for migration in migrations:
            if migration.version in known:
                if known[migration.version] != migration.sha256:
                    raise GlimpseError(
                        f"Migration {migration.version}_{migration.name} was edited after this "
                        "database had it. Add a new migration instead."
                    )
                continue
            await connection.execute(migration.sql)
            await connection.execute(
                "insert into public.glimpse3d_migrations (version, name, sha256) "
                "values ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.sha256,
            )
            applied.append(migration.version)
        if await connection.fetchval("select to_regproc('public.guard_tables_v1')"):
            # Supabase opens every new table to everybody.
            await connection.execute("select public.guard_tables_v1(array['glimpse3d_migrations'])")
    return tuple(applied)
