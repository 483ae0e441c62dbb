"""A mask for a photo over HTTP: another cut-out of the same photo, and the older one stays."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import Unavailable
from pipeline.flow.manifest import Manifest, content_hash
from tests.serve_app.http.test_bad_input import left_behind
from tests.serve_app.http.test_contract import API, upload
from tests.serve_app.http.test_library import rows
from tests.serve_app.http.test_photos import add, of_three, photos, put, several, tidy

#: Of the photos of these tests.
WIDE, HIGH = 64, 48


def drawn(size=(WIDE, HIGH), inside=255, outside=0, mode="L") -> bytes:
    """A mask that keeps an upright box, narrower than what the fake remover finds."""
    pixels = np.full((size[1], size[0]), outside, np.uint8)
    pixels[size[1] // 4 : -size[1] // 4, size[0] // 3 : -size[0] // 3] = inside
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def coloured() -> bytes:
    buffer = io.BytesIO()
    rgb = np.random.default_rng(3).integers(0, 255, (HIGH, WIDE, 3), np.uint8)
    Image.fromarray(rgb).save(buffer, "PNG")
    return buffer.getvalue()


async def put_mask(service, project_id: str, n: int, data: bytes, **headers):
    return await service.http.put(
        f"{API}/projects/{project_id}/photos/{n}/mask",
        files={"file": ("mask.png", data)},
        headers=headers,
    )


async def alpha_of(service, photo: dict) -> np.ndarray:
    content = (await service.http.get(photo["processed_url"])).content
    return np.array(Image.open(io.BytesIO(content)))[..., 3]


async def test_a_mask_makes_another_cut_out_of_the_same_photo(idle_service):
    project_id, before = await of_three(idle_service)
    answer = await put_mask(idle_service, project_id, 1, drawn())
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"]
    after = answer.json()["photos"]
    assert [after[0], after[2]] == [before[0], before[2]]
    new, old = after[1], before[1]
    assert new["id"] != old["id"]
    assert (new["side"], new["background_engine"], new["notes"]) == ("back", "mask", [])
    assert new["original_url"].partition("?")[0] == old["original_url"].partition("?")[0]
    assert new["processed_url"].partition("?")[0] != old["processed_url"].partition("?")[0]
    wanted = np.array(Image.open(io.BytesIO(drawn())))
    assert np.array_equal(await alpha_of(idle_service, new), wanted)
    assert not np.array_equal(await alpha_of(idle_service, old), wanted)
    assert idle_service.models.calls.count("background") == 3, "nobody is asked"


async def test_the_files_of_an_older_cut_out_go_and_the_photo_stays(idle_service):
    project_id, before = await of_three(idle_service)
    for inside in (255, 250):
        assert (await put_mask(idle_service, project_id, 0, drawn(inside=inside))).is_success
    await tidy(idle_service)
    (first, *_others) = await photos(idle_service, project_id)
    assert (await idle_service.http.get(before[0]["processed_url"])).status_code == 404
    for name in ("original_url", "processed_url"):
        assert (await idle_service.http.get(first[name])).status_code == 200
    assert len((await left_behind(idle_service))[1]) == 6
    assert (await rows(idle_service))["project_photos"] == 3
    # Nor does the photo go while the other cut-out of it does.
    assert (await idle_service.http.delete(f"{API}/projects/{project_id}/photos/0")).is_success
    await tidy(idle_service)
    assert (await idle_service.http.get(first["original_url"])).status_code == 404
    assert len((await left_behind(idle_service))[1]) == 4


async def test_the_same_photo_is_known_again_under_its_mask(idle_service):
    project_id, _ = await of_three(idle_service)
    assert (await put_mask(idle_service, project_id, 1, drawn())).status_code == 200
    answer = await add(idle_service, project_id, 1, side="right")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "Photo 3 is the same picture as photo 1" in answer.json()["detail"]
    assert (await put(idle_service, project_id, 1, 1)).status_code == 200, "the way back"
    assert (await photos(idle_service, project_id))[1]["background_engine"] == "fake-background"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"no picture", "not an image that can be read"),
        (drawn((WIDE, WIDE)), f"The mask has {WIDE} x {WIDE} pixels and the photo {WIDE} x {HIGH}"),
        (drawn(inside=0), "The mask is empty"),
        (drawn(inside=120), "no contrast"),
        (drawn(outside=255), "no contrast"),
        (drawn(inside=0, outside=255), "inverted"),
        (coloured(), "has colours"),
        (b"", "empty (zero bytes)"),
    ],
    ids=["no picture", "size", "black", "dark", "white", "inverted", "coloured", "nothing"],
)
async def test_what_is_no_mask_is_refused_and_nothing_is_lost(idle_service, data, told):
    project_id, before = await of_three(idle_service)
    _, files = await left_behind(idle_service)
    answer = await put_mask(idle_service, project_id, 1, data)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image"), answer.text
    assert told in answer.json()["detail"]
    assert await photos(idle_service, project_id) == before
    assert (await left_behind(idle_service))[1] == files
    assert (await rows(idle_service))["project_photos"] == 3


async def test_a_mask_that_is_too_large_or_no_form_is_refused_unread(idle_service):
    project_id = await upload(idle_service)
    answer = await put_mask(idle_service, project_id, 0, b"x" * (1024 * 1024 + 50_000))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    place = f"{API}/projects/{project_id}/photos/0/mask"
    answer = await idle_service.http.put(place, json={})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    answer = await idle_service.http.put(place, files={"other": b"x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option"), answer.text
    assert "file: Send a file: a part that has a filename" in answer.json()["detail"]


async def test_a_mask_of_no_photo_is_404_with_what_there_is(idle_service):
    project_id, _ = await of_three(idle_service)
    answer = await put_mask(idle_service, project_id, 3, drawn())
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "There is no photo 3: the project has photos 0 to 2" in answer.json()["detail"]
    assert (await put_mask(idle_service, "none", 0, drawn())).status_code == 404


async def test_a_mask_for_other_photos_than_were_seen_changes_nothing(idle_service):
    project_id, before = await of_three(idle_service)
    seen = await idle_service.http.get(f"{API}/projects/{project_id}/photos")
    assert (await add(idle_service, project_id, 7)).status_code == 200
    answer = await put_mask(
        idle_service, project_id, 1, drawn(), **{"If-Match": seen.headers["etag"]}
    )
    assert (answer.status_code, answer.json()["code"]) == (412, "changed")
    assert (await photos(idle_service, project_id))[:3] == before


@pytest.mark.parametrize("step", ["begin_photo", "arrange_photos"])
async def test_a_store_that_is_away_leaves_the_photo_and_its_cut_out(
    idle_service, monkeypatch, step
):
    project_id = await upload(idle_service)
    before = await photos(idle_service, project_id)

    async def away(*_args, **_kwargs):
        raise Unavailable("The database does not answer now.")

    with monkeypatch.context() as broken:
        broken.setattr(type(idle_service.store.records), step, away)
        answer = await put_mask(idle_service, project_id, 0, drawn())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    await tidy(idle_service)
    assert await photos(idle_service, project_id) == before
    for name in ("original_url", "processed_url"):
        assert (await idle_service.http.get(before[0][name])).status_code == 200
    assert len((await left_behind(idle_service))[1]) == 2


async def test_versions_keep_the_cut_out_that_they_were_made_from(service):
    answer = await several(service, 0, 1, sides=("unknown", "back"))
    project_id, before = answer.json()["project_id"], answer.json()["photos"]
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 200
    for n in (0, 1):
        assert (await put_mask(service, project_id, n, drawn())).status_code == 200
    await tidy(service)
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 200
    first, second = service.models.view_requests
    assert second.cutout.engine == "mask"
    assert (first.cutout.rgba[..., 3] > 8).sum() != (second.cutout.rgba[..., 3] > 8).sum()
    after = await photos(service, project_id)
    answer = await service.http.get(f"{API}/projects/{project_id}/manifest")
    manifest = Manifest.from_json(answer.json())
    records = (manifest.photo, *manifest.photos)
    assert [record.masked for record in records] == [False, False, True, True]
    assert [step.engines["background"] for step in manifest.steps] == ["fake-background", "mask"]
    for photo, record in zip([*before, *after], records, strict=True):
        for name, wanted in (
            ("original_url", record.sha256),
            ("processed_url", record.processed_sha256),
        ):
            assert content_hash((await service.http.get(photo[name])).content) == wanted
    # And one that goes on from the first version works with what that one had.
    body = {"from": "views", "version": 0}
    assert (await service.http.post(f"{API}/generate/{project_id}", json=body)).is_success
    assert service.models.view_requests[-1].cutout.engine == "fake-background"
    third = Manifest.from_json(
        (await service.http.get(f"{API}/projects/{project_id}/manifest")).json()
    ).steps[2]
    assert third.photos == manifest.steps[0].photos
