"""Generations in one pass over HTTP: chosen, refused before there is a job, another density."""

from dataclasses import replace

import pytest

from tests.fakes import with_fake_generator
from tests.serve_app.http.test_contract import API, photo, upload

GENERATOR = "fake-generator"


@pytest.fixture
def one_pass(service):
    with with_fake_generator() as choice:
        service.app.state.services = replace(service.services, engines=choice)
        yield service


async def generate(service, project_id: str, **body):
    return await service.http.post(f"{API}/generate/{project_id}", json=body)


async def test_a_service_with_a_generator_uses_it_and_views_may_be_asked_for(one_pass):
    project_id = await upload(one_pass)
    answer = await generate(one_pass, project_id, seed=1, steps=10)
    assert answer.status_code == 200, answer.text
    assert answer.json()["engines"]["generator"] == GENERATOR
    assert "generator" in answer.json()["timings"]
    by_views = await generate(one_pass, project_id, seed=1, engine="views")
    assert by_views.json()["engines"]["views"] == "fake-views"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"sampler": "ddim"}, "sampler is of a model made by views"),
        ({"engine": "triposplat"}, "engine must be one of"),
        ({"engine": "views", "shift": 3}, "shift is of an engine"),
        ({"image_type": "drawing"}, ""),
        ({"num_gaussians": 2_000_000}, ""),
    ],
)
async def test_what_an_engine_cannot_do_is_refused_before_there_is_a_job(one_pass, body, told):
    project_id = await upload(one_pass)
    answer = await generate(one_pass, project_id, **body)
    assert answer.status_code == 422, answer.text
    assert told in answer.text
    assert (await one_pass.http.get(f"{API}/status/{project_id}")).json()["job"] is None


async def test_another_density_is_a_version_with_its_parent(one_pass):
    project_id = await upload(one_pass)
    await generate(one_pass, project_id, seed=1)
    answer = await generate(
        one_pass, project_id, **{"from": "latent", "num_gaussians": 90_000, "decode_seed": 2}
    )
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["model_version"], made["parent"], made["splat_count"]) == (1, 0, 90)


async def test_a_seed_of_a_pass_that_is_kept_is_refused(one_pass):
    project_id = await upload(one_pass)
    await generate(one_pass, project_id, seed=1)
    answer = await generate(one_pass, project_id, **{"from": "latent", "seed": 2})
    assert answer.status_code == 422, answer.text
    assert "give decode_seed" in answer.json()["detail"]


async def test_a_version_made_by_views_has_kept_nothing(one_pass):
    project_id = await upload(one_pass)
    await generate(one_pass, project_id, seed=1, engine="views")
    answer = await generate(one_pass, project_id, **{"from": "latent"})
    assert answer.status_code == 409, answer.text
    assert "Version 0 was made by views" in answer.json()["detail"]
    nothing_yet = await generate(one_pass, await upload(one_pass), **{"from": "latent"})
    assert nothing_yet.json()["code"] == "not_generated_yet"


async def test_photos_beyond_a_quarter_turn_are_refused(one_pass):
    project_id = await upload(one_pass)
    another = {"file": ("back.png", photo(size=(80, 60)))}
    added = await one_pass.http.post(
        f"{API}/projects/{project_id}/photos", files=another, data={"side": "back"}
    )
    assert added.status_code in (200, 201), added.text
    answer = await generate(one_pass, project_id)
    assert answer.status_code == 422, answer.text
    assert "Photo 1 is from the back" in answer.json()["detail"]
    assert (await generate(one_pass, project_id, engine="views")).status_code == 200
