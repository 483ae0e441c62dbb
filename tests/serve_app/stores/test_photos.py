"""Contract of a project's photos: they come, are arranged, go, and a generation keeps its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from deployments.jobs.job_errors import IdempotencyMismatch
from deployments.jobs.photo_rows import NewPhoto, PlacedPhoto
from deployments.jobs.rows import Bucket, JobKind, JobState, ProjectDetail
from deployments.jobs.store import Records, Store
from pipeline.errors import Conflict, InvalidInput, NotFound

from .rows import VIEWS, claimed, project, sql, submit


def new(photo_id: str, project_id: str = "project-1") -> NewPhoto:
    folder = f"{project_id}/photos/{photo_id}"
    return NewPhoto(
        photo_id, f"{folder}/original.png", f"{folder}/processed.png", "grabcut", f"hash {photo_id}"
    )


async def arrange(records: Records, *places: PlacedPhoto, project_id: str = "project-1", **known):
    detail = await records.project_detail(project_id)
    await records.arrange_photos(project_id, detail.project.photos_revision, places, **known)


async def with_photos(records: Records, *ids: str) -> ProjectDetail:
    """A project whose first photo is "project-1", and these."""
    name = await project(records)
    for photo_id in ids:
        await records.begin_photo(name, new(photo_id))
    await arrange(records, PlacedPhoto(name), *map(PlacedPhoto, ids))
    return await records.project_detail(name)


def ids(detail: ProjectDetail) -> list[str]:
    assert [photo.position for photo in detail.photos] == list(range(len(detail.photos)))
    return [photo.id for photo in detail.photos]


async def test_upload_brings_several_photos(store: Store) -> None:
    records = store.records
    first = replace(new("a"), side="front", notes=("Cut off at the edge.",))
    second = replace(new("b"), azimuth_deg=100.5, elevation_deg=-3.0)
    await records.begin_upload("project-1", [first, second])
    uploaded = await records.finish_upload("project-1")
    assert uploaded.photos == (await records.project_detail("project-1")).photos
    one, two = uploaded.photos
    assert (one.id, one.position, one.side, one.notes, one.sha256) == (
        "a",
        0,
        "front",
        ("Cut off at the edge.",),
        "hash a",
    )
    assert (two.position, two.azimuth_deg, two.elevation_deg, two.side) == (1, 100.5, -3.0, None)
    assert uploaded.project.original_path == first.original_path
    assert uploaded.project.background_engine == "grabcut"


@pytest.mark.parametrize("count", [0, 9])
async def test_upload_has_one_to_eight_photos(store: Store, count: int) -> None:
    with pytest.raises(InvalidInput):
        await store.records.begin_upload("p", [new(f"photo-{n}", "p") for n in range(count)])
    with pytest.raises(NotFound):
        await store.records.get_project("p")


async def test_photo_is_none_of_the_project_until_it_stands_among_them(store: Store) -> None:
    records = store.records
    name = await project(records)
    await records.begin_photo(name, new("a"))
    await records.begin_photo(name, new("a"))
    before = await records.project_detail(name)
    assert ids(before) == [name]
    await arrange(records, PlacedPhoto(name), PlacedPhoto("a", side="back"))
    after = await records.project_detail(name)
    assert ids(after) == [name, "a"]
    assert after.photos[1].side == "back"
    assert after.project.photos_revision > before.project.photos_revision


async def test_photos_change_places_and_directions(store: Store) -> None:
    records = store.records
    await with_photos(records, "a", "b")
    await arrange(records, PlacedPhoto("b", None, 10.0), PlacedPhoto("project-1"), PlacedPhoto("a"))
    detail = await records.project_detail("project-1")
    assert ids(detail) == ["b", "project-1", "a"]
    assert detail.photos[0].azimuth_deg == 10.0
    assert detail.project.original_path == new("b").original_path
    assert (await records.list_projects()).projects[0].original_path == new("b").original_path


async def test_who_has_seen_other_photos_changes_nothing(store: Store) -> None:
    records = store.records
    seen = await with_photos(records, "a", "b")
    await arrange(records, PlacedPhoto("a"), PlacedPhoto("b"))
    with pytest.raises(Conflict, match="changed meanwhile"):
        await records.arrange_photos(
            "project-1", seen.project.photos_revision, [PlacedPhoto("project-1")]
        )
    assert ids(await records.project_detail("project-1")) == ["a", "b"]


async def test_of_changes_at_once_one_is_made(store: Store) -> None:
    records = store.records
    seen = await with_photos(records, "a", "b", "c")
    answers = await asyncio.gather(
        *(
            records.arrange_photos("project-1", seen.project.photos_revision, [PlacedPhoto(photo)])
            for photo in ("a", "b", "c")
        ),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == [
        "Conflict",
        "Conflict",
        "NoneType",
    ]
    assert len((await records.project_detail("project-1")).photos) == 1


async def test_only_photos_that_are_there_can_stand(store: Store) -> None:
    records = store.records
    await with_photos(records, "a")
    await project(records, "other")
    for places in (("project-1", "none"), ("project-1", "other"), ("a", "a")):
        with pytest.raises(NotFound):
            await arrange(records, *map(PlacedPhoto, places))
    with pytest.raises(InvalidInput):
        await arrange(records)
    for place in (PlacedPhoto("a", "below"), PlacedPhoto("a", "back", 1.0)):
        with pytest.raises(InvalidInput):
            await arrange(records, PlacedPhoto("project-1"), place)
    assert ids(await records.project_detail("project-1")) == ["project-1", "a"]


async def test_photos_are_of_projects_that_are_there(store: Store) -> None:
    records = store.records
    with pytest.raises(NotFound):
        await records.begin_photo("none", new("a", "none"))
    await records.begin_upload("half", [new("h", "half")])
    with pytest.raises(Conflict):
        await records.begin_photo("half", new("a", "half"))
    await with_photos(records, "b")
    await records.delete_project("project-1")
    with pytest.raises(NotFound):
        await records.begin_photo("project-1", new("c"))
    with pytest.raises(NotFound):
        await records.arrange_photos("project-1", 1, [PlacedPhoto("b")])


# --- keys ----------------------------------------------------------------------------------------


async def test_key_of_a_photo_is_known_with_its_request(store: Store) -> None:
    records = store.records
    name = await project(records)
    await records.begin_photo(name, new("a"))
    known = {"idempotency_key": "key", "fingerprint": "f", "client": "ann"}
    assert await records.find_photo("key", "f", client="ann") is None
    await arrange(records, PlacedPhoto(name), PlacedPhoto("a"), added="a", **known)
    assert await records.find_photo("key", "f", client="ann") == "a"
    assert await records.find_photo("key", "f", client="bob") is None
    with pytest.raises(IdempotencyMismatch):
        await records.find_photo("key", "other", client="ann")
    await records.begin_photo(name, new("b"))
    three = (PlacedPhoto(name), PlacedPhoto("a"), PlacedPhoto("b"))
    with pytest.raises(IdempotencyMismatch):
        await arrange(records, *three, added="b", **{**known, "fingerprint": "other"})
    with pytest.raises(Conflict):
        await arrange(records, *three, added="b", **known)
    assert len((await records.project_detail(name)).photos) == 2


async def test_key_of_a_photo_is_forgotten(store: Store, clean_dsn: str) -> None:
    records = store.records
    name = await project(records)
    await records.begin_photo(name, new("a"))
    await arrange(
        records, PlacedPhoto(name), PlacedPhoto("a"), added="a", idempotency_key="k", client="c"
    )
    assert await records.forget(3600.0) == 0
    await sql(clean_dsn, "update project_photos set created_at = now() - interval '2 hours'")
    assert await records.forget(3600.0) == 1
    assert await records.find_photo("k", "other", client="c") is None


# --- generations ---------------------------------------------------------------------------------


async def test_generation_works_with_the_photos_of_its_submission(store: Store) -> None:
    records = store.records
    before = await with_photos(records, "a", "b")
    job = await submit(records, "project-1")
    await arrange(records, PlacedPhoto("b", "back"), PlacedPhoto("project-1"))
    lease = await records.claim_job("worker-1", 600)
    assert lease is not None
    assert lease.job.photos == before.photos
    assert (await records.get_job(job.id)).photos == before.photos
    commit = replace(VIEWS, detail={"registrations": [{"photo": n} for n in range(3)]})
    await records.commit_stage(job.id, lease.fence, commit)
    detail = await records.project_detail("project-1")
    assert ids(detail) == ["b", "project-1"]
    assert detail.generated_photos == before.photos
    assert [found["photo"] for found in detail.registrations] == [0, 1, 2]
    await records.finish_job(job.id, lease.fence, state=JobState.SUCCEEDED)
    again = await submit(records, "project-1")
    assert again.photos == detail.photos
    assert await records.due_photos(0.0) == ()


async def test_only_generations_have_photos(store: Store) -> None:
    from .rows import generated

    name = await generated(store.records)
    assert (await submit(store.records, name, JobKind.REFINE)).photos == ()


# --- files ---------------------------------------------------------------------------------------


async def test_photo_that_no_job_has_worked_with_is_due_when_it_is_taken_out(store: Store) -> None:
    records = store.records
    await with_photos(records, "a", "b")
    lease = await claimed(records, "project-1")
    await records.finish_job(lease.job.id, lease.fence, state=JobState.SUCCEEDED)
    await records.begin_photo("project-1", new("c"))
    await arrange(records, PlacedPhoto("project-1"), PlacedPhoto("c"))
    await arrange(records, PlacedPhoto("project-1"))
    (due,) = await records.due_photos(3600.0)
    assert (due.id, due.project_id, due.original_path, due.processed_path) == (
        "c",
        "project-1",
        new("c").original_path,
        new("c").processed_path,
    )
    named = await records.referenced_paths("project-1")
    assert named is not None
    assert {new(photo).original_path for photo in ("a", "b", "c")} < named[Bucket.UPLOADS]
    await records.end_photo("c")
    await records.end_photo("c")
    await records.end_photo("a")
    assert await records.due_photos(3600.0) == ()
    named = await records.referenced_paths("project-1")
    assert named is not None
    assert new("c").processed_path not in named[Bucket.PROCESSED]
    assert new("a").processed_path in named[Bucket.PROCESSED], "a generation has it"


async def test_file_that_another_photo_has_too_stays(store: Store) -> None:
    records = store.records
    await with_photos(records, "a")
    await records.begin_photo("project-1", replace(new("b"), original_path=new("a").original_path))
    await arrange(records, PlacedPhoto("project-1"), PlacedPhoto("b"))
    (due,) = await records.due_photos(0.0)
    assert (due.original_path, due.processed_path) == (None, new("a").processed_path)


async def test_photo_that_never_arrives_is_due_after_a_while(store: Store) -> None:
    records = store.records
    name = await project(records)
    await records.begin_photo(name, new("a"))
    assert await records.due_photos(3600.0) == ()
    assert [due.id for due in await records.due_photos(0.0)] == ["a"]
    with pytest.raises(NotFound):
        await arrange(records, PlacedPhoto(name), PlacedPhoto("a"))


async def test_photo_that_is_taken_back_cannot_stand_any_more(store: Store) -> None:
    records = store.records
    name = await project(records)
    for photo in ("a", "b"):
        await records.begin_photo(name, new(photo))
    await arrange(records, PlacedPhoto(name), PlacedPhoto("b"))
    assert await records.take_photo_back("a")
    assert not await records.take_photo_back("b"), "it is one of the project's"
    with pytest.raises(NotFound):
        await arrange(records, PlacedPhoto(name), PlacedPhoto("a"), PlacedPhoto("b"))
    assert [due.id for due in await records.due_photos(3600.0)] == ["a"]


async def test_photos_go_with_their_project(store: Store, clean_dsn: str) -> None:
    records = store.records
    await with_photos(records, "a", "b")
    await arrange(records, PlacedPhoto("a"))
    await records.delete_project("project-1")
    assert await records.due_photos(0.0) == (), "the whole project goes"
    assert await records.purge_project("project-1")
    assert await sql(clean_dsn, "select id from project_photos") == []


async def test_new_photo_keeps_a_project_from_expiring(store: Store, clean_dsn: str) -> None:
    records = store.records
    name = await project(records)
    for table in ("projects", "project_photos"):
        await sql(clean_dsn, f"update {table} set created_at = now() - interval '2 hours'")
    await records.begin_photo(name, new("a"))
    assert await records.expire_projects(3600.0) == ()
    await sql(clean_dsn, "update project_photos set created_at = now() - interval '2 hours'")
    assert await records.expire_projects(3600.0) == (name,)
