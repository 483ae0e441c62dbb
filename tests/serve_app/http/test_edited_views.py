"""Editing views over HTTP, and going on from the depth with what was edited."""

import asyncio
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from deployments.jobs.rows import Bucket
from pipeline.errors import Unavailable
from tests.fakes import SIZE, FakeModels
from tests.serve_app.http.test_contract import API, upload
from tests.serve_app.http.test_versions import post, status


@pytest.fixture
def models() -> FakeModels:
    return FakeModels()


def picture(mode: str = "RGBA", size: int = SIZE, height: int | None = None) -> bytes:
    """A blue square on a transparent (or white) ground."""
    rgba = np.zeros((height or size, size, 4), np.uint8)
    rgba[..., :3] = 255
    rgba[size // 4 : -size // 4, size // 4 : -size // 4] = (0, 0, 200, 255)
    buffer = io.BytesIO()
    Image.fromarray(rgba).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


async def put(service, project_id: str, view: int, data: bytes, **form) -> dict:
    answer = await service.http.put(
        f"{API}/projects/{project_id}/views/{view}", files={"file": ("view.png", data)}, data=form
    )
    return {"status": answer.status_code, **answer.json()}


async def ask(service, method: str, project_id: str, path: str, **query) -> dict:
    url = f"{API}/projects/{project_id}/views/{path}"
    answer = await service.http.request(method, url, params=query)
    return {"status": answer.status_code, **answer.json()}


async def generated(service) -> str:
    project_id = await upload(service)
    await post(service, f"generate/{project_id}", seed=1)
    return project_id


async def pixels(service, url: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO((await service.http.get(url)).content)))


async def test_views_are_edited_and_the_next_generation_from_depth_uses_them(service):
    project_id = await generated(service)
    before = await status(service, project_id)
    assert {view["edit"] for view in before["views"]} == {""}
    body = await put(service, project_id, 3, picture(size=2 * SIZE))
    assert (body["status"], body["version"], len(body["edits"])) == (200, 0, 1)
    (edit,) = body["edits"]
    assert (edit["view"], edit["kind"], edit["applied_by"]) == (3, "replace", None)
    assert "resampled from 64 to 32" in edit["notes"][0]
    stored = (await service.http.get(edit["image_url"])).content
    assert f"sha256:{hashlib.sha256(stored).hexdigest()}" == edit["sha256"]
    body = await ask(service, "DELETE", project_id, "7")
    assert [(e["view"], e["kind"]) for e in body["edits"]] == [(3, "replace"), (7, "strike")]
    waiting = await status(service, project_id)
    assert [e["view"] for e in waiting["edits"]] == [3, 7]
    assert [v["edit"] for v in waiting["views"]] == [v["edit"] for v in before["views"]]

    service.models.calls.clear()
    made = await post(service, f"generate/{project_id}", **{"from": "depth"}, seed=2)
    assert "views" not in service.models.calls
    assert made["parent"] == 0
    assert {"View 3 is replaced.", "View 7 is struck out."} <= set(made["notes"])
    assert service.models.fits[-1].held_out == (5, 7, 11)
    now = await status(service, project_id)
    assert {v["view"]: v["edit"] for v in now["views"] if v["edit"]} == {3: "replaced", 7: "struck"}
    assert [e["applied_by"] for e in now["edits"]] == [made["job_id"]] * 2
    np.testing.assert_array_equal((await pixels(service, now["view_urls"][3]))[16, 16], (0, 0, 200))

    def path(url: str) -> str:
        return url.partition("?")[0]

    for view, (old, new) in enumerate(zip(before["view_urls"], now["view_urls"], strict=True)):
        assert (path(old) == path(new)) == (view != 3), "no other file was written"
    assert (await pixels(service, before["view_urls"][3]))[16, 16].tolist() != [0, 0, 200]

    manifest = (await service.http.get(f"{API}/projects/{project_id}/manifest")).json()
    step = manifest["steps"][1]
    assert [(e["view"], e["kind"], e["sha256"]) for e in step["edits"]] == [
        (3, "replace", edit["sha256"]),
        (7, "strike", None),
    ]
    written = {name for name in step["artefacts"] if name.startswith("views/")}
    assert written == {"views/03.png", "views/geometry.npz", "views/registered.npz"}

    # What was struck out or replaced in a version comes back as the engine made it.
    for view in (3, 7):
        body = await ask(service, "POST", project_id, f"{view}/restore")
        assert body["edits"][-1]["kind"] == "restore"
        assert body["edits"][-1]["source_version"] == 0
    again = await post(service, f"generate/{project_id}", **{"from": "depth"}, seed=2)
    last = await status(service, project_id)
    assert {view["edit"] for view in last["views"]} == {""}
    assert service.models.fits[-1].held_out == (5, 11)
    for old, new in zip(before["view_urls"], last["view_urls"], strict=True):
        np.testing.assert_array_equal(await pixels(service, new), await pixels(service, old))
    assert again["parent"] == 1
    refined = await post(service, f"refine/{project_id}", num_iterations=1, version=1)
    assert refined["metrics"]
    assert len(service.models.refinements[-1].originals) == 13, "without view 7"


async def test_what_waits_is_taken_back_with_its_file(service):
    project_id = await generated(service)
    first = await put(service, project_id, 3, picture())
    second = await put(service, project_id, 3, picture(size=48))
    assert len(second["edits"]) == 1
    assert (await service.http.get(first["edits"][0]["image_url"])).status_code == 404
    assert (await ask(service, "DELETE", project_id, "4"))["status"] == 200
    assert (await ask(service, "DELETE", project_id, "4"))["status"] == 200, "once more is no harm"
    for view in (3, 4, 9):
        body = await ask(service, "POST", project_id, f"{view}/restore")
        assert body["status"] == 200
    assert body["edits"] == []
    edits = await service.store.blobs.list_prefix(Bucket.VIEWS, f"{project_id}/edits")
    assert edits == ()


async def test_edits_are_of_a_generation_and_wait_where_another_stage_is_asked_for(service):
    service.models.qualities = [0.5, 0.5, 0.6]
    project_id = await generated(service)
    refined = await post(service, f"refine/{project_id}", num_iterations=1)
    assert refined["model_version"] == 1
    body = await ask(service, "DELETE", project_id, "7", version=1)
    assert body["version"] == 0, "of the views that version 1 comes from"
    made = await post(service, f"generate/{project_id}", **{"from": "splats"}, seed=3)
    assert any("wait, and were not used: 1" in note for note in made["notes"])
    assert service.models.fits[-1].held_out == (5, 11)
    other = await ask(service, "POST", project_id, "7/restore")
    assert (other["version"], other["edits"]) == (2, []), "the current one has views of its own"
    assert [e["applied_by"] for e in (await status(service, project_id))["edits"]] == [None]


async def test_a_picture_without_alpha_is_cut_out_or_refused(service):
    project_id = await generated(service)
    body = await put(service, project_id, 3, picture("RGB"))
    assert body["status"] == 200
    assert body["edits"][0]["engine"] == "fake-background"
    assert "its outline is what fake-background found" in body["edits"][0]["notes"][0]
    refused = await put(service, project_id, 3, picture("RGB"), remove_bg="false")
    assert (refused["status"], refused["code"]) == (422, "invalid_image")
    assert "save it as PNG with alpha, or leave out remove_bg=false" in refused["detail"]
    assert len((await status(service, project_id))["edits"]) == 1


async def test_what_is_no_view_is_refused_with_the_way_out(service):
    project_id = await upload(service)
    early = await ask(service, "DELETE", project_id, "3")
    assert (early["status"], early["code"]) == (409, "not_generated_yet")
    await post(service, f"generate/{project_id}", seed=1)
    for method, path in (("DELETE", "16"), ("POST", "16/restore"), ("DELETE", "-1")):
        assert (await ask(service, method, project_id, path))["status"] == 422, path
    oblong = await put(service, project_id, 3, picture(size=64, height=40))
    assert oblong["status"] == 422
    assert "64 x 40 pixels: a view is square, 32 x 32" in oblong["detail"]
    large = await put(service, project_id, 3, picture(size=2100))
    assert large["edits"][0]["notes"] == [
        "The picture is resampled from 2100 to 32 pixels along each side."
    ]
    assert (await ask(service, "POST", project_id, "3/restore"))["edits"] == []
    assert (await put(service, project_id, 16, picture()))["status"] == 422
    assert (await put(service, project_id, 3, b"no picture"))["code"] == "invalid_image"
    unknown = await ask(service, "DELETE", project_id, "3", version=4)
    assert unknown["status"] == 404
    assert "it has 0" in unknown["detail"]

    for view in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10):
        assert (await ask(service, "DELETE", project_id, str(view)))["status"] == 200
    last = await ask(service, "DELETE", project_id, "12")
    assert (last["status"], last["code"]) == (422, "invalid_option")
    assert "Too few views would be left to fit: 3 of at least 4" in last["detail"]
    assert (await ask(service, "DELETE", project_id, "5"))["status"] == 200
    scored = await ask(service, "DELETE", project_id, "11")
    assert scored["status"] == 422
    assert "one of them must stay" in scored["detail"]
    assert (await put(service, project_id, 5, picture()))["status"] == 200
    assert (await ask(service, "DELETE", project_id, "11"))["status"] == 200


@pytest.mark.parametrize("at_once", [(5, 11), (10, 12)], ids=["scored", "fitted"])
async def test_strikes_that_come_at_once_leave_as_many_views_as_there_must_be(service, at_once):
    project_id = await generated(service)
    for view in (0, 1, 2, 3, 4, 6, 7, 8, 9) if 10 in at_once else ():
        assert (await ask(service, "DELETE", project_id, str(view)))["status"] == 200
    bodies = await asyncio.gather(
        *(ask(service, "DELETE", project_id, str(view)) for view in at_once)
    )
    assert sorted(body["status"] for body in bodies) == [200, 422]
    struck = {edit["view"] for edit in (await status(service, project_id))["edits"]}
    assert len(struck & set(at_once)) == 1


async def test_what_was_struck_is_not_brought_back_to_that_beside_others(service):
    project_id = await generated(service)
    await ask(service, "DELETE", project_id, "5")
    await post(service, f"generate/{project_id}", **{"from": "depth"}, seed=2)
    assert (await put(service, project_id, 5, picture()))["status"] == 200
    assert (await ask(service, "DELETE", project_id, "11"))["status"] == 200
    refused = await ask(service, "POST", project_id, "5/restore")
    assert (refused["status"], refused["code"]) == (422, "invalid_option")
    assert "one of them must stay" in refused["detail"]
    assert (await ask(service, "POST", project_id, "11/restore"))["status"] == 200
    assert (await ask(service, "POST", project_id, "5/restore"))["edits"] == [], "as it was: struck"


async def test_nothing_is_edited_while_a_job_runs(service):
    project_id = await generated(service)
    service.models.hold_at = "enhance"
    answer = await service.http.post(
        f"{API}/refine/{project_id}", headers={"Prefer": "respond-async"}
    )
    job = answer.json()["id"]
    refused = await put(service, project_id, 3, picture())
    assert (refused["status"], refused["code"], refused["job_id"]) == (409, "project_busy", job)
    assert await service.store.blobs.list_prefix(Bucket.VIEWS, f"{project_id}/edits") == ()
    assert (await ask(service, "DELETE", project_id, "3"))["code"] == "project_busy"
    service.models.release.set()
    await service.http.get(f"{API}/jobs/{job}?wait=20")
    assert (await put(service, project_id, 3, picture()))["status"] == 200


async def test_an_answer_that_was_lost_leaves_the_edit_and_its_picture(service, monkeypatch):
    project_id = await generated(service)
    done = type(service.store.records).put_view_edit

    async def lost(self, *args, **kwargs):
        await done(self, *args, **kwargs)
        raise Unavailable("The connection was lost.")

    with monkeypatch.context() as broken:
        broken.setattr(type(service.store.records), "put_view_edit", lost)
        body = await put(service, project_id, 3, picture())
    assert body["status"] == 200
    (edit,) = body["edits"]
    assert (await service.http.get(edit["image_url"])).status_code == 200
