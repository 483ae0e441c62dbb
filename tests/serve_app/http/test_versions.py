"""Going on from a version: restored, refined, exported, or generated from one of its stages."""

import pytest

from tests.fakes import FakeModels
from tests.serve_app.http.test_contract import API, upload


@pytest.fixture
def models() -> FakeModels:
    # Generations have .5; every iteration is better than the one before.
    return FakeModels(qualities=[0.5, 0.5, 0.6, 0.5, 0.61, 0.5, 0.5, 0.5])


async def post(service, path: str, **body) -> dict:
    answer = await service.http.post(f"{API}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status(service, project_id: str) -> dict:
    return (await service.http.get(f"{API}/status/{project_id}")).json()


async def tree(service, project_id: str) -> list[tuple]:
    models = (await status(service, project_id))["models"]
    return [(model["version"], model["origin"], model["parent"]) for model in models]


async def made(service) -> str:
    """A project with a generated and a refined version."""
    project_id = await upload(service)
    await post(service, f"generate/{project_id}", seed=1)
    refined = await post(service, f"refine/{project_id}", num_iterations=1)
    assert refined["model_version"] == 1
    return project_id


async def test_an_older_version_is_restored_and_worked_on(service):
    project_id = await made(service)
    assert (await status(service, project_id))["project"]["current_version"] == 1
    back = await post(service, f"projects/{project_id}/versions/0/restore")
    assert (back["id"], back["current_version"]) == (project_id, 0)
    assert await tree(service, project_id) == [(0, "generate", None), (1, "refine", 0)]

    exported = (await service.http.get(f"{API}/export/{project_id}")).json()
    assert exported["model_version"] == 0
    assert "version" not in exported["options"]
    other = (await service.http.get(f"{API}/export/{project_id}?version=1")).json()
    assert other["model_version"] == 1
    again = (await service.http.get(f"{API}/export/{project_id}?version=0")).json()
    assert again == exported, "it is there already"

    refined = await post(service, f"refine/{project_id}", num_iterations=1)
    assert refined["model_version"] == 2
    assert await tree(service, project_id) == [
        (0, "generate", None),
        (1, "refine", 0),
        (2, "refine", 0),
    ]
    jobs = {model["job_id"] for model in (await status(service, project_id))["models"]}
    assert refined["job_id"] in jobs
    assert len(jobs) == 3


async def test_a_refinement_that_helps_nothing_ends_with_the_version_it_began_with(service):
    project_id = await made(service)
    service.models.qualities = [0.5]
    refined = await post(service, f"refine/{project_id}", num_iterations=1, version=0)
    assert refined["model_version"] == 0
    assert (await status(service, project_id))["project"]["current_version"] == 1


async def test_later_stages_are_made_anew_from_what_a_version_has(service):
    project_id = await made(service)
    models, before = service.models, await status(service, project_id)
    for stage, calls in (
        ("splats", ["splats", "evaluate"]),
        ("depth", ["depth", "photos", "splats", "evaluate"]),
        ("views", ["views", "depth", "photos", "splats", "evaluate"]),
    ):
        models.calls.clear()
        body = await post(
            service, f"generate/{project_id}", **{"from": stage}, seed=2, num_gaussians=700
        )
        assert [call for call in models.calls if call != "render"] == calls, stage
        assert models.fits[-1].num_gaussians == 700
        assert body["parent"] in (0, 2, 3), "the generation, not its refinement"
    now = await status(service, project_id)
    assert await tree(service, project_id) == [
        (0, "generate", None),
        (1, "refine", 0),
        (2, "generate", 0),
        (3, "generate", 2),
        (4, "generate", 3),
    ]
    assert now["view_urls"] != before["view_urls"]
    await post(service, f"projects/{project_id}/versions/2/restore")
    kept = await status(service, project_id)

    def path(url: str) -> str:
        return url.partition("?")[0]

    assert [*map(path, kept["view_urls"])] == [*map(path, before["view_urls"])]
    assert [*map(path, kept["depth_urls"])] == [*map(path, before["depth_urls"])]
    refined = await post(service, f"refine/{project_id}", num_iterations=1, version=2)
    assert refined["metrics"][0]["iteration"] == 0


async def test_a_model_from_the_splats_looks_at_photos_as_large_as_its_own_preset(service):
    project_id, models = await upload(service), service.models
    await post(service, f"generate/{project_id}", seed=1, preset="draft")
    for preset, size, registered in (("draft", 256, 1), ("standard", 512, 2), ("draft", 256, 2)):
        body = {"from": "splats", "version": 0, "seed": 2, "preset": preset}
        made = await post(service, f"generate/{project_id}", **body)
        assert models.fits[-1].views.photos.cameras.width == size
        assert len(models.registered) == registered, "kept where they are as large"
        version = made["model_version"]
        await post(service, f"refine/{project_id}", num_iterations=1, version=version)
        assert models.refinements[-1].originals.photos.cameras.width == size


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"from": "depth", "candidates": 2}, "leave out candidates, or from"),
        ({"from": "depth", "steps": 20}, "steps is of what from=depth keeps"),
        ({"from": "splats", "elevation_deg": 5.0}, "or begin with the views"),
        ({"version": 0}, "say with from at which stage to begin"),
        ({"from": "photos"}, "from: "),
        ({"from_stage": "views"}, "from_stage: "),
        ({"from": "views", "version": -1}, "version: "),
    ],
)
async def test_what_cannot_begin_there_is_refused_with_the_way_out(service, body, sentence):
    project_id = await upload(service)
    await post(service, f"generate/{project_id}", seed=1)
    answer = await service.http.post(f"{API}/generate/{project_id}", json=body)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    told = [problem["detail"], *(f"{e['field']}: {e['fault']}" for e in problem.get("errors", ()))]
    assert any(sentence in one for one in told), told


async def test_a_stage_that_was_never_made_and_a_version_of_another_project_are_refused(service):
    project_id = await upload(service)
    answer = await service.http.post(f"{API}/generate/{project_id}", json={"from": "depth"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_generated_yet")
    assert "generate one without from" in answer.json()["detail"]
    other = await made(service)
    await post(service, f"generate/{project_id}", seed=1)
    body = {"from": "splats", "version": 1}
    answer = await service.http.post(f"{API}/generate/{project_id}", json=body)
    assert answer.status_code == 404
    assert "has no model version 1: it has 0" in answer.json()["detail"]
    for path in (f"export/{project_id}?version=1", f"projects/{project_id}/report?version=1"):
        assert (await service.http.get(f"{API}/{path}")).status_code == 404, path
    answer = await service.http.post(f"{API}/projects/{other}/versions/2/restore")
    assert answer.status_code == 404
    assert "it has 0, 1" in answer.json()["detail"]
    assert len((await status(service, project_id))["models"]) == 1


async def test_a_key_stands_for_the_stage_and_the_version_too(service):
    project_id = await made(service)

    async def keyed(**body) -> tuple[int, str]:
        answer = await service.http.post(
            f"{API}/generate/{project_id}", json=body, headers={"Idempotency-Key": "k"}
        )
        return answer.status_code, answer.json().get("job_id", answer.json().get("code"))

    first = await keyed(**{"from": "splats", "version": 0})
    assert first[0] == 200
    assert await keyed(**{"from": "splats", "version": 0}) == first
    assert await keyed(**{"from": "depth", "version": 0}) == (422, "idempotency_key_reused")
    assert await keyed(**{"from": "splats", "version": 1}) == (422, "idempotency_key_reused")


async def test_report_and_manifest_show_the_branches(service):
    project_id = await made(service)
    await post(service, f"generate/{project_id}", **{"from": "depth"}, seed=4)
    await post(service, f"projects/{project_id}/versions/1/restore")
    report = (await service.http.get(f"{API}/projects/{project_id}/report?format=json")).json()
    assert report["version"] == 1
    assert [(m["version"], m["parent"], m["current"]) for m in report["models"]] == [
        (0, None, False),
        (1, 0, True),
        (2, 0, False),
    ]
    page = (await service.http.get(f"{API}/projects/{project_id}/report?format=html")).text
    assert "version 1, refine, <b>current</b>" in " ".join(page.split())
    manifest = (await service.http.get(f"{API}/projects/{project_id}/manifest")).json()
    assert manifest["current_version"] == 1
    assert [step["parent"] for step in manifest["steps"]] == [None, 0, 0]
    branch = manifest["steps"][2]
    assert (branch["options"]["from_stage"], branch["options"]["version"]) == ("depth", 1)
    made_anew = {name for name in branch["artefacts"] if not name.startswith("depth/")}
    assert made_anew == {"views/registered.npz", "models/v2.ply"}
