"""Several photos of one object over HTTP: added, replaced, turned, ordered, removed, or refused."""

import asyncio
import io
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments.jobs.janitor import Janitor, JanitorSettings
from pipeline.errors import Unavailable
from pipeline.flow.manifest import Manifest, content_hash
from tests.serve_app.http.test_bad_input import left_behind
from tests.serve_app.http.test_contract import API, upload
from tests.serve_app.http.test_library import rows

PROBLEM = "application/problem+json"


def picture(seed: int, size=(64, 48)) -> bytes:
    """Another photo for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


#: Without anything that the fake remover finds.
PLAIN = io.BytesIO()
Image.new("RGB", (64, 48), "white").save(PLAIN, "PNG")


async def several(service, *seeds: int, sides: tuple[str, ...] = (), key: str | None = None):
    files = [("file", (f"{seed}.png", picture(seed))) for seed in seeds]
    data = {"side": list(sides)} if sides else {}
    headers = {} if key is None else {"Idempotency-Key": key}
    return await service.http.post(f"{API}/upload", files=files, data=data, headers=headers)


async def add(service, project_id: str, seed: int, key: str | None = None, **form):
    headers = {} if key is None else {"Idempotency-Key": key}
    return await service.http.post(
        f"{API}/projects/{project_id}/photos",
        files={"file": ("p.png", picture(seed))},
        data=form,
        headers=headers,
    )


async def photos(service, project_id: str) -> list[dict]:
    answer = await service.http.get(f"{API}/projects/{project_id}/photos")
    assert answer.status_code == 200, answer.text
    found = answer.json()["photos"]
    assert [one["position"] for one in found] == list(range(len(found)))
    return found


async def of_three(service) -> tuple[str, list[dict]]:
    answer = await several(service, 0, 1, 2, sides=("unknown", "back", "left"))
    assert answer.status_code == 200, answer.text
    return answer.json()["project_id"], answer.json()["photos"]


def tidy(service) -> None:
    return Janitor(service.store, JanitorSettings(upload_ttl_s=0)).tidy()


# --- uploads -------------------------------------------------------------------------------------


async def test_an_upload_takes_several_photos_and_their_sides(idle_service):
    project_id, found = await of_three(idle_service)
    assert [one["side"] for one in found] == [None, "back", "left"]
    assert await photos(idle_service, project_id) == found
    status = (await idle_service.http.get(f"{API}/status/{project_id}")).json()
    assert status["photos"] == found
    assert status["project"]["original_url"] == found[0]["original_url"]
    for one in found:
        for name in ("original_url", "processed_url"):
            assert (await idle_service.http.get(one[name])).status_code == 200
        assert one["registration"] is None
    assert (await left_behind(idle_service))[0] == 1


async def test_an_upload_of_several_photos_is_repeated_by_its_key(idle_service):
    first = await several(idle_service, 0, 1, sides=("", "back"), key="k")
    again = await several(idle_service, 0, 1, sides=("", "back"), key="k")
    assert again.json()["project_id"] == first.json()["project_id"]
    assert [one["id"] for one in again.json()["photos"]] == [
        one["id"] for one in first.json()["photos"]
    ]
    for other in (
        await several(idle_service, 0, 1, sides=("", "left"), key="k"),
        await several(idle_service, 1, 0, sides=("", "back"), key="k"),
        await several(idle_service, 0, key="k"),
    ):
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len((await left_behind(idle_service))[1]) == 4


@pytest.mark.parametrize(
    ("seeds", "sides", "code", "told"),
    [
        (range(9), (), "invalid_option", "at most 8 photos of one object, not 9"),
        ((0, 1, 0), (), "invalid_image", "Photo 2 is the same picture as photo 0"),
        (
            (0, 1, 2),
            ("", "left", "left"),
            "invalid_option",
            "Photos 1 and 2 are both from the left",
        ),
        ((0, 1), ("", "below"), "invalid_option", "front, left, back, right, top"),
        ((0, 1), ("top", ""), "invalid_option", "Put another photo first"),
        ((0,), ("", "left"), "invalid_option", "there are 2 of them for 1 files"),
    ],
)
async def test_photos_that_do_not_go_together_are_refused_whole(
    idle_service, seeds, sides, code, told
):
    answer = await several(idle_service, *seeds, sides=sides)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert told in answer.json()["detail"]
    assert await left_behind(idle_service) == (0, [])


@pytest.mark.parametrize("bad", [b"no picture", PLAIN.getvalue()], ids=["undecodable", "no object"])
async def test_one_bad_photo_of_several_is_named_and_nothing_is_kept(idle_service, bad):
    files = [("file", ("a", picture(0))), ("file", ("b", bad)), ("file", ("c", picture(1)))]
    answer = await idle_service.http.post(f"{API}/upload", files=files)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image")
    assert answer.json()["detail"].startswith("Photo 1: ")
    assert await left_behind(idle_service) == (0, [])


async def test_photos_that_are_too_large_together_are_refused(idle_service):
    limits = replace(idle_service.limits, max_upload_bytes=12_000)
    idle_service.app.state.services = replace(idle_service.services, limits=limits)
    assert len(picture(0)) < 12_000 < len(picture(0)) * 4 / 3
    answer = await several(idle_service, 0, 1, 2, 3, 4, 5)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "sum of the files" in answer.json()["detail"]
    assert await left_behind(idle_service) == (0, [])
    assert (await several(idle_service, 0, 1, 2, 3)).status_code == 200


@pytest.mark.parametrize(("tells_its_length", "places"), [(True, 3), (False, 4)])
async def test_a_body_of_several_photos_takes_as_many_places(
    idle_service, tells_its_length, places
):
    idle_service.models.hold_at = "background"
    form = idle_service.http.build_request(
        "POST",
        f"{API}/upload",
        files=[("file", ("a", picture(seed, (640, 480)))) for seed in range(3)],
    )
    if not tells_its_length:
        # As much as there may be in any body.
        form.headers["Transfer-Encoding"] = "chunked"
        del form.headers["Content-Length"]
    sending = asyncio.create_task(idle_service.http.send(form))
    await asyncio.wait_for(idle_service.models.holding.wait(), 20)
    assert idle_service.services.budgets.uploads.held == places
    idle_service.models.release.set()
    assert (await sending).status_code == 200
    assert idle_service.services.budgets.uploads.held == 0


# --- one more ------------------------------------------------------------------------------------


async def test_a_photo_is_added_with_what_is_known_of_it(idle_service):
    project_id = await upload(idle_service)
    for seed, form in enumerate(
        ({"side": "back"}, {"azimuth_deg": "90.5", "elevation_deg": "-5"}, {}, {"side": ""})
    ):
        answer = await add(idle_service, project_id, 10 + seed, **form)
        assert answer.status_code == 200, answer.text
        assert answer.headers["etag"]
    found = await photos(idle_service, project_id)
    assert [(one["side"], one["azimuth_deg"], one["elevation_deg"]) for one in found] == [
        (None, None, None),
        ("back", None, None),
        (None, 90.5, -5.0),
        (None, None, None),
        (None, None, None),
    ]
    assert found[1]["original_url"].split("?")[0].endswith(f"/photos/{found[1]['id']}/original.png")


@pytest.mark.parametrize(
    ("seed", "form", "status", "code", "told"),
    [
        (1, {"side": "right"}, 409, "conflict", "Photo 3 is the same picture as photo 1"),
        (7, {"side": "back"}, 409, "conflict", "Photos 1 and 3 are both from the back"),
        (7, {"azimuth_deg": "180"}, 409, "conflict", "Photos 1 and 3"),
        (7, {"side": "top", "azimuth_deg": "3"}, 422, "invalid_option", "exclude each other"),
        (7, {"side": "below"}, 422, "invalid_option", "front, left, back, right, top"),
        (7, {"azimuth_deg": "east"}, 422, "invalid_option", "azimuth_deg"),
        (7, {"elevation_deg": "91"}, 422, "invalid_option", "elevation_deg"),
        (7, {"azimuth_deg": "nan"}, 422, "invalid_option", "azimuth_deg"),
        (7, {"azimuth_deg": "543"}, 422, "invalid_option", "azimuth_deg: Input should be less"),
    ],
)
async def test_a_photo_that_does_not_go_with_the_others_is_refused(
    idle_service, seed, form, status, code, told
):
    project_id, before = await of_three(idle_service)
    _, files = await left_behind(idle_service)
    answer = await add(idle_service, project_id, seed, **form)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert told in answer.json()["detail"]
    assert await photos(idle_service, project_id) == before
    assert (await left_behind(idle_service))[1] == files
    assert (await rows(idle_service))["project_photos"] == 3


async def test_a_ninth_photo_is_refused_with_a_way_out(idle_service):
    project_id = (await several(idle_service, *range(8))).json()["project_id"]
    answer = await add(idle_service, project_id, 8)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "replace one with PUT, or take one out with DELETE" in answer.json()["detail"]
    assert idle_service.models.calls.count("background") == 8, "known before any work"


async def test_a_photo_of_no_project_is_404(idle_service):
    for answer in (
        await add(idle_service, "none", 1),
        await idle_service.http.get(f"{API}/projects/none/photos"),
        await idle_service.http.delete(f"{API}/projects/none/photos/0"),
        await idle_service.http.put(f"{API}/projects/none/photos/order", json={"order": [0]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await left_behind(idle_service) == (0, [])


async def test_a_photo_that_is_no_form_or_too_large_is_refused_unread(idle_service):
    project_id = await upload(idle_service)
    place = f"{API}/projects/{project_id}/photos"
    answer = await idle_service.http.post(place, json={"side": "back"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    for method, path in (("POST", place), ("PUT", f"{place}/0")):
        answer = await idle_service.http.request(
            method, path, files={"file": ("p", b"x" * (1024 * 1024 + 50_000))}
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert "larger than 1 MB" in answer.json()["detail"]


async def test_the_same_key_adds_a_photo_once(idle_service):
    project_id = await upload(idle_service)
    first = await add(idle_service, project_id, 1, key="k", side="back")
    again = await add(idle_service, project_id, 1, key="k", side="back")
    assert first.status_code == again.status_code == 200
    assert [one["id"] for one in again.json()["photos"]] == [
        one["id"] for one in first.json()["photos"]
    ]
    other = await upload(idle_service)
    for answer in (
        await add(idle_service, project_id, 1, key="k", side="left"),
        await add(idle_service, project_id, 2, key="k", side="back"),
        await add(idle_service, other, 1, key="k", side="back"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert idle_service.models.calls.count("background") == 3


async def test_the_same_photo_sent_twice_at_once_with_a_key_is_added_once(idle_service):
    project_id = await upload(idle_service)
    idle_service.models.hold_at = "background"
    both = [
        asyncio.create_task(add(idle_service, project_id, 1, key="k", side="back"))
        for _ in range(2)
    ]
    async with asyncio.timeout(20):
        while idle_service.models.calls.count("background") < 3:
            await asyncio.sleep(0.01)
    idle_service.models.release.set()
    answers = await asyncio.gather(*both)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(await photos(idle_service, project_id)) == 2
    assert len((await left_behind(idle_service))[1]) == 4


async def test_photos_that_come_at_once_all_stand(idle_service):
    project_id = await upload(idle_service)
    answers = await asyncio.gather(*(add(idle_service, project_id, seed) for seed in range(1, 5)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(await photos(idle_service, project_id)) == 5


# --- another file, another side ------------------------------------------------------------------


async def put(service, project_id: str, n: int, seed: int | None = None, **form):
    files = {"file": ("p.png", picture(seed))} if seed is not None else {"side": (None, "")}
    if seed is None and "side" in form:
        files = {"side": (None, form.pop("side"))}
    elif seed is None:
        name = next(iter(form))
        files = {name: (None, form.pop(name))}
    place = f"{API}/projects/{project_id}/photos/{n}"
    return await service.http.put(place, files=files, data=form)


async def test_a_photo_is_replaced_by_a_file_of_another_path(idle_service):
    project_id, before = await of_three(idle_service)
    answer = await put(idle_service, project_id, 1, 9)
    assert answer.status_code == 200, answer.text
    after = answer.json()["photos"]
    assert [one["id"] for one in after][::2] == [before[0]["id"], before[2]["id"]]
    assert after[1]["side"] == "back", "what is not sent stays"
    assert after[1]["original_url"].split("?")[0] != before[1]["original_url"].split("?")[0]
    assert (await idle_service.http.get(before[1]["original_url"])).status_code == 200
    await tidy(idle_service)
    assert (await idle_service.http.get(before[1]["original_url"])).status_code == 404
    assert (await idle_service.http.get(after[1]["original_url"])).status_code == 200
    assert (await rows(idle_service))["project_photos"] == 3


async def test_a_photo_is_turned_without_a_file(idle_service):
    project_id, before = await of_three(idle_service)
    turned = await put(idle_service, project_id, 1, azimuth_deg="170", elevation_deg="10")
    assert turned.status_code == 200, turned.text
    one = turned.json()["photos"][1]
    assert (one["id"], one["side"], one["azimuth_deg"], one["elevation_deg"]) == (
        before[1]["id"],
        None,
        170.0,
        10.0,
    )
    forgotten = await put(idle_service, project_id, 1, side="unknown")
    assert forgotten.json()["photos"][1]["azimuth_deg"] is None
    assert len((await left_behind(idle_service))[1]) == 6


async def test_the_first_photo_is_replaced_too(idle_service):
    project_id = await upload(idle_service)
    answer = await put(idle_service, project_id, 0, 5)
    (one,) = answer.json()["photos"]
    project = (await idle_service.http.get(f"{API}/projects/{project_id}")).json()
    assert project["original_url"].split("?")[0] == one["original_url"].split("?")[0]


@pytest.mark.parametrize(
    ("n", "seed", "form", "status", "code", "told"),
    [
        (3, 9, {}, 404, "not_found", "There is no photo 3: the project has photos 0 to 2"),
        (3, None, {"side": "back"}, 404, "not_found", "There is no photo 3"),
        (8, 9, {}, 422, "invalid_option", "n"),
        (1, 0, {}, 409, "conflict", "Photo 1 is the same picture as photo 0"),
        (1, None, {"side": "left"}, 409, "conflict", "Photos 1 and 2"),
        (0, None, {"side": "top"}, 409, "conflict", "Put another photo first"),
        (1, None, {"remove_bg": "true"}, 422, "invalid_option", "Send a file, a side, or"),
    ],
)
async def test_what_cannot_be_put_is_refused(idle_service, n, seed, form, status, code, told):
    project_id, before = await of_three(idle_service)
    answer = await put(idle_service, project_id, n, seed, **form)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert told in answer.json()["detail"]
    assert await photos(idle_service, project_id) == before
    assert len((await left_behind(idle_service))[1]) == 6


# --- out, and another order ----------------------------------------------------------------------


async def test_photos_move_up_when_one_is_taken_out(idle_service):
    project_id, before = await of_three(idle_service)
    answer = await idle_service.http.delete(f"{API}/projects/{project_id}/photos/0")
    assert answer.status_code == 200, answer.text
    after = answer.json()["photos"]
    assert [one["id"] for one in after] == [before[1]["id"], before[2]["id"]]
    assert after == await photos(idle_service, project_id)
    await tidy(idle_service)
    assert len((await left_behind(idle_service))[1]) == 4


async def test_the_last_photo_is_not_taken_out(idle_service):
    project_id = await upload(idle_service)
    answer = await idle_service.http.delete(f"{API}/projects/{project_id}/photos/0")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "replace it with PUT, or delete the project" in answer.json()["detail"]
    answer = await idle_service.http.delete(f"{API}/projects/{project_id}/photos/1")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "There is no photo 1: the project has photo 0 alone.",
    )


async def test_the_first_is_not_taken_out_before_one_that_cannot_be_first(idle_service):
    project_id = (await several(idle_service, 0, 1, sides=("", "top"))).json()["project_id"]
    answer = await idle_service.http.delete(f"{API}/projects/{project_id}/photos/0")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "Put another photo first" in answer.json()["detail"]


async def test_photos_are_put_in_another_order(idle_service):
    project_id, before = await of_three(idle_service)
    place = f"{API}/projects/{project_id}/photos/order"
    answer = await idle_service.http.put(place, json={"order": [2, 0, 1]})
    assert answer.status_code == 200, answer.text
    after = answer.json()["photos"]
    assert [one["id"] for one in after] == [before[n]["id"] for n in (2, 0, 1)]
    assert [one["side"] for one in after] == ["left", "front", "back"], "it was the first"
    for order in ([0, 0, 1], [], ["0", 1, 2], [8], 7):
        refused = await idle_service.http.put(place, json={"order": order})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option"), order
    for order in ([0, 1], [0, 1, 3], [0, 1, 2, 3]):
        refused = await idle_service.http.put(place, json={"order": order})
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict"), order
        assert "some order of [0, 1, 2]" in refused.json()["detail"]


async def test_who_names_what_it_has_seen_changes_nothing_else(idle_service):
    project_id, _ = await of_three(idle_service)
    place = f"{API}/projects/{project_id}/photos"
    seen = (await idle_service.http.get(place)).headers["etag"]
    ask = {"If-Match": seen}
    assert (await idle_service.http.delete(f"{place}/1", headers=ask)).status_code == 200
    for answer in (
        await idle_service.http.delete(f"{place}/1", headers=ask),
        await idle_service.http.put(f"{place}/order", json={"order": [1, 0]}, headers=ask),
        await idle_service.http.put(f"{place}/0", files={"side": (None, "back")}, headers=ask),
        await idle_service.http.post(place, files={"file": ("p", picture(9))}, headers=ask),
    ):
        assert (answer.status_code, answer.json()["code"]) == (412, "changed")
    assert len(await photos(idle_service, project_id)) == 2
    anything = {"If-Match": "*"}
    assert (await idle_service.http.delete(f"{place}/1", headers=anything)).status_code == 200


async def test_a_photo_that_was_exchanged_meanwhile_is_not_replaced(idle_service):
    project_id, _ = await of_three(idle_service)
    idle_service.models.hold_at = "background"
    replacing = asyncio.create_task(put(idle_service, project_id, 1, 9))
    await asyncio.wait_for(idle_service.models.holding.wait(), 20)
    place = f"{API}/projects/{project_id}/photos/order"
    await idle_service.http.put(place, json={"order": [0, 2, 1]})
    idle_service.models.release.set()
    answer = await replacing
    assert (answer.status_code, answer.json()["code"]) == (412, "changed")
    assert len((await left_behind(idle_service))[1]) == 6


@pytest.mark.parametrize("ask", ["add", "replace"])
async def test_what_was_seen_holds_until_a_photo_is_ready(idle_service, ask):
    project_id, _ = await of_three(idle_service)
    place = f"{API}/projects/{project_id}/photos"
    headers = {"If-Match": (await idle_service.http.get(place)).headers["etag"]}
    send = idle_service.http.post if ask == "add" else idle_service.http.put
    url = place if ask == "add" else f"{place}/0"
    idle_service.models.hold_at = "background"
    sending = asyncio.create_task(send(url, files={"file": ("p", picture(9))}, headers=headers))
    await asyncio.wait_for(idle_service.models.holding.wait(), 20)
    assert (await idle_service.http.delete(f"{place}/1")).status_code == 200
    idle_service.models.release.set()
    answer = await sending
    assert (answer.status_code, answer.json()["code"]) == (412, "changed")
    assert len(await photos(idle_service, project_id)) == 2
    await tidy(idle_service)
    assert len((await left_behind(idle_service))[1]) == 4


# --- stores that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["begin_photo", "arrange_photos"])
async def test_a_store_that_is_away_keeps_nothing_of_a_photo(idle_service, monkeypatch, step):
    project_id = await upload(idle_service)

    async def away(*_args, **_kwargs):
        raise Unavailable("The database does not answer now.")

    with monkeypatch.context() as broken:
        broken.setattr(type(idle_service.store.records), step, away)
        answer = await add(idle_service, project_id, 1, key="k")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert len((await left_behind(idle_service))[1]) == 2
    assert (await rows(idle_service))["project_photos"] == 1
    assert (await add(idle_service, project_id, 1, key="k")).status_code == 200


async def test_an_answer_that_was_lost_leaves_the_photo(idle_service, monkeypatch):
    project_id = await upload(idle_service)
    done = type(idle_service.store.records).arrange_photos

    async def lost(self, *args, **kwargs):
        await done(self, *args, **kwargs)
        raise Unavailable("The connection was lost.")

    with monkeypatch.context() as broken:
        broken.setattr(type(idle_service.store.records), "arrange_photos", lost)
        answer = await add(idle_service, project_id, 1)
    assert answer.status_code == 200
    assert len(await photos(idle_service, project_id)) == 2


async def test_a_store_that_stays_away_leaves_what_the_janitor_finds(idle_service, monkeypatch):
    project_id = await upload(idle_service)

    async def away(*_args, **_kwargs):
        raise Unavailable("The database does not answer now.")

    with monkeypatch.context() as broken:
        for step in ("arrange_photos", "take_photo_back"):
            broken.setattr(type(idle_service.store.records), step, away)
        assert (await add(idle_service, project_id, 1)).status_code == 503
    assert len((await left_behind(idle_service))[1]) == 4
    await tidy(idle_service)
    assert len((await left_behind(idle_service))[1]) == 2
    assert (await rows(idle_service))["project_photos"] == 1


async def test_a_client_that_goes_away_leaves_a_whole_photo(idle_service, monkeypatch):
    project_id = await upload(idle_service)
    storing, stored = asyncio.Event(), type(idle_service.store.blobs).put

    async def slow(self, *args):
        storing.set()
        await asyncio.sleep(0.05)
        await stored(self, *args)

    monkeypatch.setattr(type(idle_service.store.blobs), "put", slow)
    request = asyncio.create_task(add(idle_service, project_id, 1))
    await storing.wait()
    request.cancel()
    await asyncio.wait({request})
    async with asyncio.timeout(10):
        while len(await photos(idle_service, project_id)) < 2:
            await asyncio.sleep(0.02)
    assert len((await left_behind(idle_service))[1]) == 4


# --- generations ---------------------------------------------------------------------------------


async def test_a_generation_works_with_the_photos_of_its_submission(service):
    project_id, before = await of_three(service)
    service.models.hold_at = "views"
    generating = asyncio.create_task(service.http.post(f"{API}/generate/{project_id}"))
    await asyncio.wait_for(service.models.holding.wait(), 20)
    place = f"{API}/projects/{project_id}/photos"
    assert (await service.http.delete(f"{place}/1")).status_code == 200
    assert (await service.http.put(f"{place}/0", files={"file": ("p", picture(8))})).is_success
    await tidy(service)
    service.models.release.set()
    assert (await generating).status_code == 200
    (asked,) = service.models.view_requests
    assert [photo.azimuth_deg for photo in asked.photos] == [180.0, 90.0]
    for one in before:
        assert (await service.http.get(one["original_url"])).status_code == 200, "it has them"


async def test_azimuths_and_elevation_follow_the_first_photo(service):
    answer = await several(service, 0, 1, 2, sides=("back", "front", "left"))
    project_id = answer.json()["project_id"]
    place = f"{API}/projects/{project_id}/photos/0"
    turned = {"azimuth_deg": (None, "180"), "elevation_deg": (None, "20")}
    assert (await service.http.put(place, files=turned)).status_code == 200
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 200
    (asked,) = service.models.view_requests
    assert [photo.azimuth_deg for photo in asked.photos] == [180.0, 270.0]
    assert asked.elevation_deg == 20.0
    body = {"elevation_deg": 5}
    assert (await service.http.post(f"{API}/generate/{project_id}", json=body)).is_success
    assert service.models.view_requests[1].elevation_deg == 5.0


async def test_what_a_generation_found_out_stands_beside_each_photo(service):
    project_id, _ = await of_three(service)
    service.models.registers = True
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 200
    place = f"{API}/projects/{project_id}/photos"
    assert (await service.http.put(f"{place}/2", files={"file": ("p", picture(8))})).is_success
    found = [one["registration"] for one in await photos(service, project_id)]
    assert [None if one is None else one["photo"] for one in found] == [0, 1, None]
    assert found[1]["accepted"] is True
    assert {"azimuth_deg", "elevation_deg", "azimuth_error_deg", "trust", "note"} < set(found[1])


async def test_the_manifest_names_every_photo_that_a_generation_worked_with(service):
    project_id, before = await of_three(service)
    place = f"{API}/projects/{project_id}"
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 200
    other = {"file": ("p", picture(8))}
    assert (await service.http.put(f"{place}/photos/1", files=other)).status_code == 200
    assert (await service.http.delete(f"{place}/photos/0")).status_code == 200
    assert (await service.http.post(f"{API}/generate/{project_id}")).status_code == 200
    manifest = Manifest.from_json((await service.http.get(f"{place}/manifest")).json())
    assert manifest.photo.file == "original.png"
    assert [photo.file for photo in manifest.photos] == [
        f"photos/{n}/original.png" for n in (1, 2, 3)
    ]
    first, second = manifest.steps
    assert [(photo.file, photo.side) for photo in first.photos] == [
        ("original.png", None),
        ("photos/1/original.png", "back"),
        ("photos/2/original.png", "left"),
    ]
    assert [photo.file for photo in second.photos] == [
        "photos/3/original.png",
        "photos/2/original.png",
    ]
    for one, record in zip(before, (manifest.photo, *manifest.photos), strict=False):
        stored = (await service.http.get(one["original_url"])).content
        assert content_hash(stored) == record.sha256


# --- the page ------------------------------------------------------------------------------------


async def test_the_commands_of_the_page_do_what_it_says(service, serving, tmp_path):
    page = (Path(__file__).parents[3] / "docs/api.md").read_text(encoding="utf-8")
    block = page.partition("### Photos\n```sh\n")[2].partition("```")[0]
    names = ("front", "back", "left", "slanted", "somewhere", "better")
    for seed, name in enumerate(names):
        (tmp_path / f"{name}.jpg").write_bytes(picture(seed))
    mask = np.pad(np.full((24, 32), 255, np.uint8), ((12, 12), (16, 16)))
    Image.fromarray(mask).save(tmp_path / "mask.png")
    project_id, answers = "", []
    for line in block.splitlines():
        words = shlex.split(line.replace("$URL", serving).replace("$PROJECT", project_id))
        done = await asyncio.to_thread(
            subprocess.run, [*words, "-s"], cwd=tmp_path, capture_output=True, check=True
        )
        answers.append(json.loads(done.stdout))
        project_id = answers[-1]["project_id"]
    assert [len(answer["photos"]) for answer in answers] == [2, 3, 4, 5, 5, 5, 5, 5, 4]
    assert [one["side"] for one in answers[-1]["photos"]] == ["back", "front", "right", None]
