"""Report and manifest say what is in the rows and files, and nothing that a browser would run."""

import asyncio
import hashlib
from dataclasses import replace
from html.parser import HTMLParser

import jsonschema
import pytest

from deployments.jobs.rows import Bucket
from pipeline.control import ignore_progress
from pipeline.errors import ModelFailed, NotFound
from pipeline.flow.manifest import Manifest, State, compare, is_identical
from pipeline.types import CameraEstimate
from serve_app.http.routes.reports import prefers_html
from serve_app.report.assemble import Picture
from serve_app.report.lately import Lately
from serve_app.report.pictures import SmallPictures
from tests.fakes import FakeModels
from tests.serve_app.http.test_contract import API, upload

#: What the fake view engine finds.
CAMERA = {
    "elevation_deg": 17.5,
    "elevation_error_deg": 6.25,
    "focal": 1.1,
    "focal_error": 0.125,
}


async def made(service, **refine) -> str:
    """A project with two versions, and a note that nobody should run."""
    project_id = await upload(service)
    generated = await service.http.post(f"{API}/generate/{project_id}", json={"candidates": 2})
    assert generated.status_code == 200, generated.text
    refined = await service.http.post(f"{API}/refine/{project_id}", json=refine)
    assert refined.status_code == 200, refined.text
    return project_id


async def report(service, project_id: str, **query) -> dict:
    answer = await service.http.get(f"{API}/projects/{project_id}/report", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def page(service, project_id: str, **query) -> str:
    query["format"] = "html"
    answer = await service.http.get(f"{API}/projects/{project_id}/report", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    return answer.text


@pytest.fixture
def models() -> FakeModels:
    # Two candidates and the fit of the better one, then iterations 0, 1 and 2: the second one is
    # rolled back.
    return FakeModels(qualities=[0.4, 0.5, 0.5, 0.5, 0.6, 0.55])


async def test_the_report_has_everything_that_was_measured(service):
    project_id = await made(service, num_iterations=2, prompt="a cup")
    await service.http.get(f"{API}/export/{project_id}?format=glb")
    body = await report(service, project_id)
    schema = (await service.http.get("/openapi.json")).json()
    jsonschema.validate(body, {**schema, "$ref": "#/components/schemas/Report"})

    assert (body["version"], [m["version"] for m in body["models"]]) == (1, [0, 1])
    newest = body["models"][1]["scores"]
    assert (newest["view_agreement"], newest["silhouette_iou"]) == (0.6, 0.9)
    assert [view["view"] for view in newest["views"]] == [5, 11]
    assert newest["extra"] == {"photo_psnr": 20.0}
    (refinement,) = body["refinements"]
    assert (refinement["stop_reason"], refinement["start_version"]) == ("max_iterations", 0)
    assert [i["accepted"] for i in refinement["iterations"]] == [True, True, False]
    assert refinement["iterations"][1]["gain"] == pytest.approx(0.2)
    last = refinement["iterations"][2]
    assert last["note"].startswith("Not better on held-out views")
    assert set(last["view_weights"]) == {str(i) for i in range(16) if i not in (5, 11)}
    for target in last["targets"]:
        assert 0 <= target["weight"] <= 1
        for kind in ("target", "before", "after"):
            picture = await service.http.get(target[kind]["url"])
            assert picture.headers["content-type"] == "image/png"
    assert [c["view_agreement"] for c in body["ranking"]] == [0.5, 0.4]
    assert body["notes"][0] == "A fake." and "LPIPS was not measured" in body["notes"][1]
    assert body["camera"] == CAMERA
    assert [job["kind"] for job in body["jobs"]] == ["generate", "refine", "export"]
    assert {s["stage"] for s in body["jobs"][0]["stages"]} >= {"candidates", "views", "splats"}
    assert all(s["peak_memory_bytes"] > 0 for job in body["jobs"] for s in job["stages"])
    assert body["jobs"][1]["options"]["num_iterations"] == 2
    assert body["jobs"][1]["engines"] == {"splats": "fake-splats", "enhancer": "fake-enhancer"}
    (export,) = body["exports"]
    assert (export["format"], export["model_version"]) == ("glb", 1)


async def test_a_version_can_be_picked(service):
    project_id = await made(service, num_iterations=1)
    assert (await report(service, project_id, version=0))["version"] == 0
    assert "<h1>model version 0</h1>" in await page(service, project_id, version=0)
    url = f"{API}/projects/{project_id}/report"
    for query, status in (
        ("version=2", 404),
        ("version=-1", 422),
        ("format=pdf", 422),
        ("x=1", 422),
    ):
        answer = await service.http.get(f"{url}?{query}")
        assert answer.status_code == status, query
    unknown = await service.http.get(f"{API}/projects/nobody/report")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


class Fetched(HTMLParser):
    """What a browser makes of a page: what it would fetch, run and show."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "xlink:href", "poster"):
                self.urls.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data):
        self.text += data


def read(text: str) -> Fetched:
    """The page, which fetches and runs nothing."""
    parser = Fetched()
    parser.feed(text)
    parser.close()
    assert parser.urls
    assert all(url.startswith("data:image/jpeg;base64,") for url in parser.urls)
    assert not {*parser.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert parser.tags.count("style") == 1
    assert parser.handlers == []
    assert "@import" not in text
    assert "url(" not in text
    return parser


async def test_the_page_loads_nothing_from_outside(service):
    project_id = await made(service, num_iterations=2)
    text = await page(service, project_id)
    assert "http" not in text
    shown = read(text).text
    camera = "17.5 degrees ± 6"
    for words in ("rolled back", "accepted", "Trust in the original views", "Candidates", camera):
        assert words in shown


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>",
        "\"'><svg onload=alert(1)>",
        "{{ 7 * 7 }}{% include 'report.css' %}{# gone #}",
        "</style></title><link rel=stylesheet href=//evil.example>&lt;b&gt;",
    ],
)
async def test_hostile_words_are_shown_as_they_were_written(service, monkeypatch, hostile):
    async def enhance(self, *args, **kwargs):
        images = await FakeModels.enhance(self, *args, **kwargs)
        return type(images)(images.images, hostile, (hostile,))

    monkeypatch.setattr(service.models, "enhance", enhance.__get__(service.models))
    project_id = await made(service, num_iterations=2, prompt=hostile)
    service.models.fail_at, service.models.failure = "improve", ModelFailed(hostile)
    await service.http.post(f"{API}/refine/{project_id}")
    shown = read(await page(service, project_id)).text
    # The prompt; engine and note of an iteration; the error of the job and of the project.
    assert shown.count(hostile) >= 5


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html;q=0.5, application/json", False),
        ("application/json;q=0.5, TEXT/HTML", True),
        ("text/html;q=nonsense", False),
        ("text/html;q=0", False),
    ],
)
def test_a_browser_gets_the_page_and_a_program_the_numbers(accept, html):
    assert prefers_html(accept) is html


async def test_accept_decides_where_the_query_does_not(service):
    project_id = await upload(service)
    url = f"{API}/projects/{project_id}/report"
    browser = {"Accept": "text/html,*/*;q=0.8"}
    assert (await service.http.get(url, headers=browser)).text.startswith("<!DOCTYPE html>")
    assert (await service.http.get(f"{url}?format=json", headers=browser)).json()["version"] is None


async def test_a_new_project_has_a_report_too(idle_service):
    project_id = await upload(idle_service)
    body = await report(idle_service, project_id)
    assert (body["version"], body["models"], body["refinements"], body["jobs"]) == (
        None, [], [], [],
    )  # fmt: skip
    assert "Nothing has been generated yet" in await page(idle_service, project_id)


async def stopped(service, project_id: str) -> None:
    """A refinement that is cancelled in its second iteration."""
    models, improve = service.models, FakeModels.improve

    async def held(request, report=ignore_progress):
        models.hold_at = "improve" if len(models.refinements) >= 1 else None
        return await improve(models, request, report)

    models.improve = held
    waiting = asyncio.create_task(service.http.post(f"{API}/refine/{project_id}"))
    await models.holding.wait()
    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    await service.http.post(f"{API}/jobs/{status['job']['id']}/cancel")
    assert (await waiting).json()["code"] == "cancelled"


async def test_a_cancelled_refinement_says_so_and_keeps_its_iterations(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    service.models.evaluations = 3  # 0.5, then 0.6
    await stopped(service, project_id)
    (refinement,) = (await report(service, project_id))["refinements"]
    assert (refinement["state"], refinement["stop_reason"]) == ("cancelled", "cancelled")
    assert [i["model_version"] for i in refinement["iterations"]] == [0, 1]
    assert "somebody stopped the job" in await page(service, project_id)
    manifest = (await service.http.get(f"{API}/projects/{project_id}/manifest")).json()
    assert [step["kind"] for step in manifest["steps"]] == ["generate"]
    assert "Model version 1 comes from a job that is cancelled" in manifest["notes"][0]


async def test_a_failed_refinement_names_its_reason(service):
    project_id = await upload(service)
    await service.http.post(f"{API}/generate/{project_id}")
    service.models.fail_at = "improve"
    service.models.failure = ModelFailed.openly("it <b>diverged</b>")
    await service.http.post(f"{API}/refine/{project_id}")
    body = await report(service, project_id)
    assert body["refinements"][0]["stop_reason"] == "failed"
    assert body["jobs"][1]["error"]["detail"] == "it <b>diverged</b>"
    assert "it &lt;b&gt;diverged&lt;/b&gt;" in await page(service, project_id)


async def test_the_manifest_has_the_hashes_of_the_files_that_are_downloaded(service):
    project_id = await made(service, num_iterations=2)
    status = (await service.http.get(f"{API}/status/{project_id}")).json()
    body = (await service.http.get(f"{API}/projects/{project_id}/manifest")).json()
    manifest = Manifest.from_json(body)
    assert body["notes"] == []
    generate, refine = manifest.steps
    assert generate.options["candidates"] == 2
    assert generate.engines == {
        "background": "fake-background",
        "views": "fake-views",
        "depth": "fake-depth",
        "splats": "fake-splats",
    }
    assert refine.engines == {"splats": "fake-splats", "enhancer": "fake-enhancer"}
    assert generate.camera == CameraEstimate(**CAMERA)
    assert refine.camera is None
    assert manifest.environment["product"]

    async def sha256(url: str) -> str:
        return f"sha256:{hashlib.sha256((await service.http.get(url)).content).hexdigest()}"

    project = status["project"]
    assert manifest.photo.remove_background is True
    assert manifest.photo.sha256 == await sha256(project["original_url"])
    assert manifest.photo.processed_sha256 == await sha256(project["processed_url"])
    for i, url in enumerate(status["view_urls"]):
        assert generate.artefacts[f"views/{i:02d}.png"] == await sha256(url)
    for i, url in enumerate(status["depth_urls"]):
        assert generate.artefacts[f"depth/{i:02d}.png"] == await sha256(url)
    assert generate.artefacts["models/v0.ply"] == await sha256(status["models"][0]["model_url"])
    assert refine.artefacts["models/v1.ply"] == await sha256(status["models"][1]["model_url"])
    for iteration in (await report(service, project_id))["refinements"][0]["iterations"]:
        for target in iteration["targets"]:
            name = f"enhanced/{iteration['iteration']}/{target['view']:02d}"
            assert refine.artefacts[f"{name}.png"] == await sha256(target["target"]["url"])
            assert refine.artefacts[f"{name}.after.png"] == await sha256(target["after"]["url"])
    names = {*generate.artefacts, *refine.artefacts}
    assert not [name for name in names if name.endswith((".mp4", "contact_sheet.png", "v0.png"))]


async def test_the_same_way_in_two_projects_has_the_same_manifest(service):
    manifests = []
    for _ in range(2):
        service.models.evaluations = 0
        project_id = await upload(service)
        for kind in ("generate", "refine"):
            answer = await service.http.post(f"{API}/{kind}/{project_id}", json={"seed": 7})
            assert answer.status_code == 200, answer.text
        answer = await service.http.get(f"{API}/projects/{project_id}/manifest")
        manifests.append(Manifest.from_json(answer.json()))
    differences = compare(*manifests)
    assert is_identical(differences)
    assert [line for line in differences if line.state is not State.EQUAL] == []


async def test_a_project_without_jobs_has_a_manifest_of_its_photo(idle_service):
    project_id = await upload(idle_service, remove_bg="false")
    answer = await idle_service.http.get(f"{API}/projects/{project_id}/manifest")
    manifest = Manifest.from_json(answer.json())
    assert (manifest.steps, manifest.photo.remove_background) == ((), False)
    unknown = await idle_service.http.get(f"{API}/projects/nobody/manifest")
    assert unknown.status_code == 404


@pytest.fixture
def reads(service, monkeypatch) -> list[str]:
    """Paths of files that were read from the store, in order."""
    paths: list[str] = []
    get = type(service.store.blobs).get

    async def counted(self, bucket, path):
        paths.append(path)
        return await get(self, bucket, path)

    monkeypatch.setattr(type(service.store.blobs), "get", counted)
    return paths


async def test_pictures_of_a_page_are_read_once(service, reads):
    project_id = await made(service, num_iterations=2)
    reads.clear()
    first, *others = await asyncio.gather(*(page(service, project_id) for _ in range(2)))
    assert len(reads) == len(set(reads)) > 40
    assert others == [first]
    await page(service, project_id)
    service.http.base_url = "http://127.0.0.1"  # its links are others
    await page(service, project_id)
    assert len(reads) == len(set(reads)), "what was made lately is not made again"


async def test_only_so_many_pages_are_made_at_once(service, monkeypatch):
    project_id = await made(service)
    impatient = replace(service.limits, download_wait_s=0.05)
    monkeypatch.setattr(service.app.state, "services", replace(service.services, limits=impatient))
    go, making, get = asyncio.Event(), 0, type(service.store.blobs).get

    async def slow(self, *args):
        nonlocal making
        making += 1
        await go.wait()
        making -= 1
        return await get(self, *args)

    monkeypatch.setattr(type(service.store.blobs), "get", slow)
    pages = [asyncio.create_task(page(service, project_id)) for _ in range(2)]
    async with asyncio.timeout(10):
        while service.services.budgets.pages.held < 2 or not making:
            await asyncio.sleep(0.01)
    refused = await service.http.get(
        f"{API}/projects/{project_id}/report", params={"format": "html"}
    )
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_at_once")
    assert (await report(service, project_id))["version"] == 1, "as JSON it is a few rows"
    go.set()
    await asyncio.gather(*pages)
    assert service.services.budgets.pages.held == 0


async def test_pictures_that_nobody_waits_for_any_more_are_not_made():
    reading, go_on = [], asyncio.Event()

    class Held:
        async def get(self, bucket: Bucket, path: str) -> bytes:
            reading.append(path)
            await go_on.wait()
            raise NotFound("No such file.")

    pictures = SmallPictures()
    wanted = {Picture(Bucket.VIEWS, f"{i}.png", ""): 64 for i in range(100)}
    gone = asyncio.create_task(pictures.data_uris(Held(), wanted))
    while len(reading) < 4:
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    go_on.set()
    other = Picture(Bucket.VIEWS, "other.png", "")
    assert await pictures.data_uris(Held(), {other: 64}) == {}
    assert reading[4:] == ["other.png"]


async def test_a_photo_is_hashed_once_for_all_manifests(service, reads):
    project_id = await upload(service)
    url = f"{API}/projects/{project_id}/manifest"
    answers = await asyncio.gather(*(service.http.get(url) for _ in range(5)))
    assert len({answer.text for answer in answers}) == 1
    assert len(reads) == 2, "the photo and the cut-out"


def test_what_is_kept_has_a_limit():
    kept = Lately(10)
    for key in "abc":
        kept.keep(key, "1234")
        kept.get("a")
    assert [kept.get(key) for key in "abc"] == ["1234", None, "1234"]
    kept.keep("a", "12345678901")
    assert kept.get("a") is None, "larger than all that is kept"
