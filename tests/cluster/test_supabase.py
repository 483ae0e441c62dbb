"""The application on a real cluster over a Supabase project that comes and goes."""

import time
from collections.abc import Iterator

import asyncpg
import httpx
import pytest
from ray import serve

from pipeline.ports import PortName
from serve_app.cli.supabase_command import setup_sql
from serve_app.server import RunningService
from serve_app.settings import AppArgs
from tests.cluster.test_faults import API, LEASE_S, Faults, all_replicas_run, eventually
from tests.gateway import Gateway
from tests.serve_app.stores.fixtures import on_server

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.faults]

NAME, PREFIX = "supabase", "/supabase"


@pytest.fixture(scope="module")
def project(supabase_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Not the session's: it is away when the application starts."""
    with Gateway.running(supabase_dsn, tmp_path_factory.mktemp("buckets")) as gateway:
        gateway.faults.down(True)
        yield gateway


@pytest.fixture(scope="module")
def app(service: RunningService, project: Gateway, tmp_path_factory) -> Iterator[Faults]:
    """Deployed while its project cannot be reached."""
    folder = tmp_path_factory.mktemp("engines")
    args = AppArgs(
        asset_dir=folder / "assets",
        supabase_url=project.url,
        supabase_key=project.keys.secret,
        model_dir=folder,
        lease_s=LEASE_S,
        hosts={"Models": tuple(PortName)},
    )
    with httpx.Client(base_url=f"{service.url}{PREFIX}", timeout=60, follow_redirects=True) as http:
        app = Faults(service.url, http, folder, args, None, name=NAME, prefix=PREFIX)
        try:
            app.deploy()
            all_replicas_run(NAME)
            yield app
        finally:
            serve.delete(NAME)


def checks(app: Faults) -> dict[str, str]:
    return app.http.get("/ready").json()["checks"]


def test_a_service_starts_while_its_project_is_away_and_says_so(app: Faults, project: Gateway):
    answer = app.http.get("/ready")
    assert answer.status_code == 503
    assert "Supabase cannot be reached" in answer.json()["checks"]["store"]
    with pytest.raises(AssertionError, match="unavailable"):
        app.upload()
    project.faults.down(False)
    eventually(lambda: checks(app), lambda found: set(found.values()) == {"ok"})


def test_a_photo_becomes_a_model_whose_links_work(app: Faults, project: Gateway):
    project.faults.down(False)
    project_id = app.upload()
    job = app.ended(app.start(project_id))
    assert (job["state"], job["attempt"]) == ("succeeded", 1), job
    status = app.http.get(f"{API}/status/{project_id}").json()
    for url in (*status["view_urls"], status["contact_sheet_url"]):
        file = app.http.get(url)
        assert (file.status_code, file.headers["Content-Type"]) == (200, "image/png")
        assert str(file.url).startswith(project.url), "the bytes come from Storage"
    assert app.http.delete(f"{API}/projects/{project_id}").status_code == 204
    assert app.http.get(f"{API}/status/{project_id}").status_code == 404


def test_a_project_that_goes_away_in_the_middle_loses_nothing(app: Faults, project: Gateway):
    project.faults.down(False)
    app.naps(splats=2.0)
    before = len(app.calls())
    project_id = app.upload()
    job_id = app.start(project_id)
    app.in_call(job_id, "splats", after=before)
    project.faults.down(True)
    time.sleep(6.0)  # two leases
    project.faults.down(False)
    job = app.ended(job_id)
    assert job["state"] == "succeeded", job
    views = [name for _, name, _ in app.calls()[before:] if name == "views"]
    assert views == ["views"], "no stage that was committed was computed again"


def test_a_bucket_that_is_missing_is_named_and_waited_for(app: Faults, project: Gateway):
    project.faults.down(False)
    app.naps()
    on(
        project,
        "begin; set local storage.allow_delete_query = 'true'; "
        "delete from storage.objects where bucket_id = 'depth-maps'; "
        "delete from storage.buckets where id = 'depth-maps'; commit",
    )
    assert "bucket depth-maps" in checks(app)["store"]
    job_id = app.start(app.upload())
    waiting = f"select last_error ->> 'detail' from jobs where id = '{job_id}'"
    eventually(lambda: on(project, waiting), lambda detail: "bucket depth-maps" in detail)
    on(project, setup_sql())
    assert app.ended(job_id)["state"] == "succeeded"
    assert app.job(job_id)["attempt"] == 1, "nobody could have begun it"


def on(project: Gateway, script: str) -> str:
    """The last value of a script run by the database's owner."""

    async def run(connection: asyncpg.Connection) -> str:
        if script.startswith("select"):
            return str(await connection.fetchval(script))
        return str(await connection.execute(script))

    return on_server(project.dsn, run)
