"""A generation by a generator: its stages, what is drawn of the model, where photos stand."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import Conflict, ModelFailed
from pipeline.flow.artifacts import (
    decode_generated,
    decode_latent,
    decode_views,
    encode_generated,
    encode_views,
)
from pipeline.flow.generate import GENERATOR_SPANS, generate
from pipeline.flow.refine import refine
from pipeline.geometry.cameras import rig_cameras
from pipeline.options import GenerateOptions, RefineOptions
from pipeline.requests import GeneratorRequest, Renders, WholePhoto
from pipeline.types import PhotoScore, Scores
from tests.fakes import (
    SIZE,
    FakeModels,
    MemoryJournal,
    some_cutout,
    some_generated,
    some_views,
)

OPTIONS = GenerateOptions(seed=7, num_gaussians=40_000, engine="fake-generator")
WHOLE = (WholePhoto(some_cutout().rgba, 0.0),)


async def made(models, journal, options=OPTIONS, whole=WHOLE):
    return await generate(some_cutout(), options, models.ports(), journal, whole=whole)


async def test_a_pass_then_pictures_of_its_model_and_no_fit():
    models, journal = FakeModels(), MemoryJournal()
    result = await made(models, journal)
    assert models.calls == ["generator", "render", "evaluate"]
    assert journal.stages == ["generator", "views", "depth", "photos", "splats"]
    assert journal.saved == ["generator", "views", "depth", "photos", "model"]
    assert len(result.model) == 40
    np.testing.assert_array_equal(result.views.cameras.viewmats, rig_cameras().viewmats)
    assert result.views.engine == result.depths.engine == "fake-generator"
    assert "A fake model." in result.notes
    assert any("drawn from the model" in note for note in result.notes)
    spans = list(GENERATOR_SPANS.values())
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]


async def test_the_generator_is_asked_for_what_was_said_and_gets_whole_photos():
    options = replace(
        OPTIONS, steps=10, guidance_scale=2.5, shift=4.0, image_type="real", decode_seed=3
    )
    models = FakeModels()
    await made(models, MemoryJournal(), options)
    (request,) = models.generated
    assert request == GeneratorRequest(WHOLE, 40_000, 7, 3, 10, 2.5, 4.0, "real")


async def test_the_photo_is_a_target_from_the_camera_that_the_engine_found():
    models = FakeModels()
    options = replace(OPTIONS, preset="draft")
    result = await made(models, MemoryJournal(), options)
    photos = result.views.photos
    assert models.registered == []
    assert photos is not None and result.views.registrations[0].accepted
    assert photos.images.shape == (1, 256, 256, 3), "at least as large as the views"
    assert photos.cameras.width == 256
    asked = some_generated(models.generated[0]).photos
    np.testing.assert_allclose(
        photos.cameras.intrinsics[0, :2], asked.photos.cameras.intrinsics[0, :2] * 256 / (2 * SIZE)
    )


async def test_a_photo_whose_camera_was_not_found_is_sought_against_the_drawn_views():
    models = FakeModels(finds_cameras=False)
    result = await made(models, MemoryJournal())
    (request,) = models.registered
    assert not request.known
    assert request.views.engine == "fake-generator"
    assert result.views.photos is not None


@pytest.mark.parametrize("stage", ["generator", "views", "depth", "photos"])
async def test_an_attempt_that_follows_makes_no_second_pass(stage):
    class Dying(MemoryJournal):
        async def enter(self, name, start, end):
            await super().enter(name, start, end)
            if self.saved and self.saved[-1] == stage:
                raise ModelFailed("the driver was killed")

    journal = Dying()
    with pytest.raises(ModelFailed):
        await made(FakeModels(), journal)
    whole, again = await made(FakeModels(), MemoryJournal()), FakeModels()
    journal.__class__ = MemoryJournal
    result = await made(again, journal)
    assert "generator" not in again.calls
    assert ("render" in again.calls) == (stage == "generator")
    np.testing.assert_array_equal(result.model.means, whole.model.means)
    np.testing.assert_array_equal(result.depths.confidence, whole.depths.confidence)


async def test_a_latent_is_handed_back_and_its_seed_stays():
    journal = MemoryJournal()
    await made(FakeModels(), journal)
    kept = journal.generated.latent
    dense = replace(OPTIONS, from_stage="latent", version=0, num_gaussians=80_000)
    models = FakeModels()
    result = await made(models, MemoryJournal(latent=kept), dense)
    assert models.generated[0].kept is kept
    assert len(result.model) == 80
    with pytest.raises(Conflict, match="cannot read it"):
        await made(models, MemoryJournal(latent=replace(kept, engine="other")), dense)


async def test_a_model_that_cannot_be_seen_fails_the_stage():
    class Glassy(FakeModels):
        async def render(self, model, cameras, *, with_depth=False):
            renders = await super().render(model, cameras, with_depth=with_depth)
            return Renders(renders.images, 0 * renders.alphas, renders.depth)

    with pytest.raises(ModelFailed, match="another seed"):
        await made(Glassy(), MemoryJournal())


async def test_without_a_generator_the_job_says_so():
    ports = replace(FakeModels().ports(), generator=None)
    with pytest.raises(Conflict, match="has none that makes a model"):
        await generate(some_cutout(), OPTIONS, ports, MemoryJournal(), whole=WHOLE)


@pytest.mark.parametrize("finds_cameras", [True, False])
def test_what_a_pass_found_comes_back_bit_by_bit(finds_cameras):
    made = some_generated(GeneratorRequest(WHOLE, 33_000, 5), finds_cameras=finds_cameras)
    files = encode_generated(made)
    assert encode_generated(made) == files
    back = decode_generated(files, made.model)
    assert (back.engine, back.notes) == (made.engine, made.notes)
    assert (back.photos is None) == (not finds_cameras)
    if finds_cameras:
        assert back.photos.registrations == made.photos.registrations
        np.testing.assert_array_equal(back.photos.photos.images, made.photos.photos.images)
    for kept in (back.latent, decode_latent(files)):
        np.testing.assert_array_equal(kept.latent, made.latent.latent)
        np.testing.assert_array_equal(kept.cameras, made.latent.cameras)
        assert kept.settings == made.latent.settings
        assert kept.decode_seed == made.latent.decode_seed
    with pytest.raises(ModelFailed, match="damaged"):
        decode_latent({"latent.npz": files["latent.npz"][:80]})


def judged(photo_db: float, held_out_db: float = 40.0, **extra) -> Scores:
    return Scores(
        psnr=held_out_db,
        ssim=0.9,
        lpips=None,
        view_agreement=0.9 - photo_db / 1000,
        consistency=0.1,
        extra={"photo_psnr": photo_db, "low_pass_psnr": held_out_db, **extra},
        photos=(PhotoScore(0, photo_db, 0.9),),
    )


class Nearer(FakeModels):
    """Each round shows the photo better and moves away from the pictures of the first model."""

    scores = (judged(20, 60), judged(24, 32), judged(24.05, 31))

    async def evaluate(self, model, references):
        await self._called("evaluate")
        self.evaluations += 1
        return self.scores[min(self.evaluations, len(self.scores)) - 1]


async def refined(models, drawn=True):
    journal = MemoryJournal()
    await made(FakeModels(), journal)
    journal.views = journal.shown = replace(journal.shown, drawn=drawn)
    return await refine(RefineOptions(seed=1), models.ports(), journal)


async def test_a_generated_model_is_refined_towards_the_photo_not_towards_itself():
    result = await refined(Nearer())
    assert [outcome.accepted for outcome in result.outcomes] == [True, True, True]
    assert result.converged, "the second round gained less than a percent"
    of_views = await refined(Nearer(), drawn=False)
    assert [outcome.accepted for outcome in of_views.outcomes] == [True, False, False]


async def test_a_round_that_moves_far_from_the_model_is_rolled_back():
    class Gone(Nearer):
        scores = (judged(20, 60), judged(24, 20))

    result = await refined(Gone())
    assert not result.outcomes[1].accepted
    assert "sides that no photo showed" in result.outcomes[1].guards[0]

    class Farther(Nearer):
        scores = (judged(20, 60), judged(19.9, 50))

    result = await refined(Farther())
    assert result.outcomes[1].note.startswith("Not nearer to the photos")


async def test_a_model_that_is_far_from_the_drawn_views_may_move_no_farther():
    class Fitted(Nearer):
        """By views that were drawn of another model."""

        scores = (judged(20, 22), judged(24, 22.1), judged(26, 21.9))

    result = await refined(Fitted())
    assert [outcome.accepted for outcome in result.outcomes[:3]] == [True, True, False]
    assert "at least 22.1 are to stay" in result.outcomes[2].guards[0]


def test_views_that_were_drawn_say_so_in_their_files():
    views = replace(some_views(), drawn=True)
    assert decode_views(encode_views(views)).drawn
    assert not decode_views(encode_views(some_views())).drawn
