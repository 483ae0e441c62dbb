"""The runner, and what the migrations promise."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import asyncpg
import pytest

from deployments.jobs.rows import Bucket
from pipeline.errors import Unavailable
from serve_app.cli.doctor.checks import Check, Finding, Step, ok, run_steps, skipped, warning
from serve_app.cli.doctor.schema_checks import promised
from tests.serve_app.stores.fixtures import on_server

_CONFIG = Path(__file__).resolve().parents[4] / "supabase" / "config.toml"


async def _run(*steps: Step) -> list[Check]:
    return [check async for check in run_steps(steps)]


async def test_a_step_waits_for_those_it_needs() -> None:
    async def away() -> Finding:
        raise Unavailable("Nobody is there.")

    checks = await _run(
        Step("a", lambda: warning("slow", "Hurry.")),
        Step("b", away, ("a",), "Look there."),
        Step("c", lambda: ok("never"), ("a", "b")),
        Step("d", lambda: ok("never"), ("c",)),
        Step("e", lambda: skipped("nothing to do")),
    )
    assert [check.status for check in checks] == [
        "warning",
        "failed",
        "skipped",
        "skipped",
        "skipped",
    ]
    assert (checks[1].found, checks[1].fix) == ("Nobody is there.", "Look there.")
    assert (checks[2].found, checks[3].found) == ("needs b", "needs c")


async def test_a_step_has_its_time() -> None:
    async def slow() -> Finding:
        await asyncio.sleep(60)
        return ok("late")

    (check,) = await _run(Step("a", slow, (), "Wait.", limit_s=0.05))
    assert (check.status, check.found, check.fix) == (
        "failed",
        "It took more than 0.05 s.",
        "Wait.",
    )
    assert 0.04 < check.seconds < 5


async def test_errors_that_nobody_meant_come_out() -> None:
    async def mistaken() -> Finding:
        raise TimeoutError

    def also() -> Finding:
        raise AttributeError

    with pytest.raises(TimeoutError):
        await _run(Step("a", mistaken))
    with pytest.raises(AttributeError):
        await _run(Step("a", also))


def test_promises_are_what_the_files_make(supabase_dsn: str) -> None:
    """The names that are read from the files are all that applying them makes."""

    async def names(connection: asyncpg.Connection) -> tuple[set[str], set[str]]:
        tables = await connection.fetch(
            "select relname::text from pg_class where relnamespace = 'public'::regnamespace "
            "and relkind in ('r', 'v') and relname <> 'glimpse3d_migrations'"
        )
        functions = await connection.fetch(
            "select distinct proname::text from pg_proc where pronamespace = 'public'::regnamespace"
        )
        return {row[0] for row in tables}, {row[0] for row in functions}

    tables, functions = on_server(supabase_dsn, names)
    assert promised().tables == tables
    assert promised().functions == functions
    assert promised().steps < functions
    assert "claim_job_v1" in promised().steps
    assert "guard_tables_v1" not in promised().steps
    assert "projects" in promised().demo
    assert "webhooks" not in promised().demo


def test_buckets_are_those_of_the_configuration() -> None:
    config = tomllib.loads(_CONFIG.read_text(encoding="utf-8"))["storage"]["buckets"]
    assert set(promised().buckets) == {*Bucket} == set(config)
    for name, rules in promised().buckets.items():
        assert config[name]["file_size_limit"] == f"{rules.size_limit // 2**20}MiB"
        assert set(config[name]["allowed_mime_types"]) == rules.mime_types
        assert config[name]["public"] is False
