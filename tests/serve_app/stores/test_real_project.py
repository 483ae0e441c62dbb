"""A real project can be what the contract suite runs on: it is emptied by what its key may do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.jobs.rows import Bucket
from serve_app.stores import SupabaseSettings
from tests.gateway import Gateway

from .fixtures import delete_everything
from .rows import claimed, generated, project, sql

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store_kind() -> str:
    """Not the contract."""
    return "supabase"


async def test_a_project_is_emptied_whatever_was_left_in_it(quiet_gateway: Gateway) -> None:
    settings = SupabaseSettings(quiet_gateway.url, quiet_gateway.keys.secret).prepare()
    async with settings.open() as store:
        await generated(store.records, "project-1")
        lease = await claimed(store.records, await project(store.records, "project-2"))
        # Marked while its job runs: not listed any more, and not purged before the lease is over.
        await store.records.delete_project(lease.job.project_id)
        for bucket, path in (
            (Bucket.VIEWS, "project-1/v0.png"),
            (Bucket.MODELS, "nobody/deep/er/v0.ply"),
            (Bucket.MODELS, "without-folder.ply"),
        ):
            await store.blobs.put(bucket, path, b"left", "")
    for _ in range(2):
        await delete_everything(settings)
        for table in ("projects", "jobs", "deletions", "storage.objects"):
            assert await sql(quiet_gateway.dsn, f"select 1 from {table}") == []


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_the_contract_runs_on_a_project_again_and_again(gateway: Gateway, tmp_path: Path) -> None:
    """As docs/supabase.md says, with nothing but a URL and a key; the second run has a database."""
    variables = {"SUPABASE_TEST_URL": gateway.url, "SUPABASE_TEST_KEY": gateway.keys.secret}
    counts = []
    for more in ({}, {"SUPABASE_TEST_DATABASE_URL": gateway.dsn}):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "project]"),
                f"--basetemp={tmp_path / f'run-{len(counts)}'}",
                "tests/serve_app/stores",
            ],
            check=False,
            cwd=ROOT,
            env=os.environ | variables | more,
            capture_output=True,
            text=True,
            timeout=550,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        counts.append(int(re.findall(r"(\d+) passed", done.stdout)[-1]))
    assert 100 < counts[0] < counts[1]
