import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from deployments.jobs.job_errors import StaleAttempt
from pipeline.errors import Cancelled, ModelFailed, OutOfMemory
from pipeline.flow.artifacts import decode_views, encode_views
from pipeline.flow.generate import STAGE_SPANS, generate
from pipeline.flow.given_photos import photo_view
from pipeline.geometry.cameras import photo_camera
from pipeline.options import GenerateOptions, Preset
from pipeline.rig import HELD_OUT_VIEWS
from pipeline.seeds import SEED_LIMIT
from pipeline.types import CameraEstimate, Cutout, DepthMaps, FurtherPhoto, PhotoRegistration
from tests.fakes import SIZE, FakeModels, MemoryJournal, some_cutout, some_model, some_views

OPTIONS = GenerateOptions(seed=7, num_gaussians=600)


async def test_every_stage_is_saved_before_the_next_begins():
    models, journal = FakeModels(), MemoryJournal()
    result = await generate(some_cutout(), OPTIONS, models.ports(), journal)
    assert models.calls == ["views", "depth", "photos", "splats", "evaluate"]
    assert journal.stages == ["views", "depth", "photos", "splats"]
    assert journal.saved == ["views", "depth", "photos", "model"]
    assert len(result.views) == 16
    assert result.scores.lpips is None, "no weights, no number"


async def test_a_second_attempt_goes_on_at_the_first_unsaved_stage():
    journal = MemoryJournal()
    broken = FakeModels(fail_at="splats", failure=ModelFailed("boom"))
    with pytest.raises(ModelFailed, match="boom"):
        await generate(some_cutout(), OPTIONS, broken.ports(), journal)
    assert journal.saved == ["views", "depth", "photos"], "what was finished stays"

    models = FakeModels()
    await generate(some_cutout(), OPTIONS, models.ports(), journal)
    assert models.calls == ["splats", "evaluate"]


async def test_the_optimiser_is_told_which_views_are_kept_for_the_scores():
    models = FakeModels()
    await generate(some_cutout(), OPTIONS, models.ports(), MemoryJournal())
    (request,) = models.fits
    assert request.held_out == HELD_OUT_VIEWS
    assert (request.num_gaussians, request.seed) == (600, 7)


async def test_the_photo_travels_with_the_views():
    journal = MemoryJournal()
    options = GenerateOptions(seed=7, elevation_deg=10)
    result = await generate(some_cutout(), options, FakeModels().ports(), journal)
    photo = result.views.photos
    assert photo is not None
    assert journal.photos is not None
    assert journal.photos.photos is photo
    assert len(photo) == 1
    np.testing.assert_array_equal(photo.cameras.viewmats, photo_camera(10).viewmats)
    assert photo.cameras.width == result.views.cameras.width
    assert photo.images.shape == (1, *result.views.images.shape[1:])
    again = await generate(some_cutout(), options, FakeModels().ports(), journal)
    assert again.views.photos is photo, "a resumed attempt finds it stored"


class OwnCamera(FakeModels):
    """Finds out which camera took the photo, and returns the photo with it. `asked` is what views
    were asked for with."""

    size = SIZE

    async def synthesize_views(self, request, report=None):
        self.asked = request.elevation_deg
        photo = photo_view(request.cutout, 17.0, some_views())
        cameras = photo.cameras
        own = replace(cameras, intrinsics=cameras.intrinsics * np.float32([1.5, 1.5, 1])[:, None])
        cut = slice(self.size)
        pixels = {"images": photo.images[:, cut], "alphas": photo.alphas[:, cut]}
        return replace(some_views(), photos=replace(photo, cameras=own, **pixels))


async def test_an_engine_is_asked_for_what_is_open_and_its_camera_is_the_photos():
    models, journal = OwnCamera(), MemoryJournal()
    result = await generate(some_cutout(), OPTIONS, models.ports(), journal)
    assert models.asked is None
    photo = result.views.photos
    assert photo is not None
    np.testing.assert_array_equal(photo.cameras.viewmats, photo_camera(17).viewmats)
    assert photo.cameras.intrinsics[0, 0, 0] == 1.5 * photo_camera(17, SIZE).intrinsics[0, 0, 0]
    (fit,) = models.fits
    assert fit.views.photos is photo
    back = decode_views(encode_views(result.views)).photos
    assert back is not None
    np.testing.assert_array_equal(back.cameras.intrinsics, photo.cameras.intrinsics)


async def test_an_engine_that_finds_no_camera_has_the_rigs_elevation():
    class Unseeing(FakeModels):
        async def synthesize_views(self, request, report):
            return replace(await super().synthesize_views(request, report), estimate=None)

    result = await generate(some_cutout(), OPTIONS, Unseeing().ports(), MemoryJournal())
    assert result.views.photos is not None
    np.testing.assert_array_equal(result.views.photos.cameras.viewmats, photo_camera(30).viewmats)


async def test_the_photo_is_sought_from_the_elevation_that_the_engine_estimated():
    estimate = CameraEstimate(12.0, 5.0, 1.5, 0.1)

    class Seeing(FakeModels):
        async def synthesize_views(self, request, report):
            return replace(await super().synthesize_views(request, report), estimate=estimate)

    models = Seeing()
    result = await generate(some_cutout(), OPTIONS, models.ports(), MemoryJournal())
    (asked,) = models.registered
    np.testing.assert_array_equal(asked.assumed.viewmats, photo_camera(12).viewmats)
    assert asked.elevation_deg is None and not asked.known
    assert result.views.estimate == estimate


async def test_further_photos_are_handed_to_the_engine_and_it_is_said_where_they_are_not_used():
    class Watching(FakeModels):
        async def synthesize_views(self, request, report):
            self.given = request.photos
            return await super().synthesize_views(request, report)

    models, behind = Watching(), FurtherPhoto.from_side(some_cutout(), "back")
    result = await generate(
        some_cutout(), OPTIONS, models.ports(), MemoryJournal(), photos=(behind,)
    )
    assert models.given == (behind,)
    assert any("the first photo alone" in note for note in result.notes)
    (asked,) = models.registered
    assert (asked.photos, asked.known, asked.elevation_deg) == ((behind,), False, None)
    assert "A fake registration." in result.notes


async def test_an_engine_that_registered_the_photos_itself_is_believed():
    found = PhotoRegistration(0, True, 1.0, 0.0, 17.0, 0.0, 1.1, 0.97, 0.02)
    lost = replace(found, photo=1, accepted=False, trust=0.0)

    class Registers(OwnCamera):
        async def synthesize_views(self, request, report=None):
            views = await super().synthesize_views(request, report)
            return replace(views, registrations=(found, lost))

    models, behind = Registers(), FurtherPhoto.from_side(some_cutout(), "back")
    result = await generate(
        some_cutout(), OPTIONS, models.ports(), MemoryJournal(), photos=(behind,)
    )
    assert models.registered == []
    assert result.views.registrations == (found, lost)
    assert not any("the first photo alone" in note for note in result.notes)


async def test_a_photo_of_another_size_than_the_views_is_a_failure_of_the_engine():
    models = OwnCamera()
    models.size = SIZE // 2
    with pytest.raises(ModelFailed, match=r"engine returned the photos as \(1, 16, 32, 3"):
        await generate(some_cutout(), OPTIONS, models.ports(), MemoryJournal())


@pytest.mark.parametrize("size", [16, 32, 64, 80])
def test_the_photo_is_the_cut_out_on_white_at_the_views_size(size):
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[..., :3] = 77  # what is transparent has a colour, too
    rgba[size // 4 : -size // 4, size // 4 : -size // 4] = (200, 80, 40, 255)
    photo = photo_view(Cutout(rgba, "given"), 30.0, some_views())
    assert photo.images.dtype == photo.alphas.dtype == np.uint8
    np.testing.assert_array_equal(photo.images[0, 16, 16], (200, 80, 40))
    np.testing.assert_array_equal(photo.images[0, 1, 1], (255, 255, 255))
    assert (photo.alphas[0, 16, 16], photo.alphas[0, 1, 1]) == (255, 0)
    # On white, colour and alpha say the same of every pixel, also of those at the rim.
    mixed = 255 + photo.alphas[0, ..., None] / 255 * (np.array([200, 80, 40]) - 255.0)
    np.testing.assert_allclose(photo.images[0], mixed, atol=2)


async def test_an_empty_view_is_a_failure_of_the_engine_not_a_grey_model():
    class Blind(FakeModels):
        async def synthesize_views(self, request, report=None):
            views = some_views()
            views.alphas[3] = 0
            return views

    with pytest.raises(ModelFailed, match="fake-views engine returned an empty view"):
        await generate(some_cutout(), OPTIONS, Blind().ports(), MemoryJournal())


async def test_what_a_model_lacks_is_told_in_notes():
    class DepthLess(FakeModels):
        async def estimate_depth(self, views, report=None):
            known = np.zeros(views.alphas.shape, np.float32)
            return DepthMaps(known, known, "fake-depth", ("View 3 is odd.",))

    journal = MemoryJournal()
    result = await generate(some_cutout(), OPTIONS, DepthLess().ports(), journal)
    fake, odd, depth, lpips = result.notes
    assert (fake, odd) == ("A fake.", "View 3 is odd.")
    assert "No depth was found in any view" in depth
    assert "LPIPS was not measured" in lpips
    again = await generate(some_cutout(), OPTIONS, FakeModels().ports(), journal)
    assert again.notes == result.notes, "a resumed attempt finds them in what is stored"


def test_stages_follow_each_other_and_leave_room_for_the_pictures():
    spans = list(STAGE_SPANS.values())
    assert list(STAGE_SPANS) == ["views", "depth", "photos", "splats"]
    assert spans[0][0] == 0
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert spans[-1][1] < 0.98


BEST_OF_4 = GenerateOptions(seed=7, num_gaussians=600, candidates=4)
QUALITIES = {7: 0.5, 8: 0.7, 9: 0.9, 10: 0.6}


async def test_the_best_of_several_becomes_the_model():
    models, journal = FakeModels(qualities_by_seed=QUALITIES), MemoryJournal()
    result = await generate(some_cutout(), BEST_OF_4, models.ports(), journal)
    *trials, last = models.fits
    assert sorted(request.seed for request in trials) == [7, 8, 9, 10]
    assert all(request.views.photos is None for request in trials), "they judge afterwards"
    assert last.seed == 9 and last.views.photos is not None
    assert [(c.seed, c.view_agreement, c.chosen) for c in result.ranking] == [
        (9, 0.9, True),
        (8, 0.7, False),
        (10, 0.6, False),
        (7, 0.5, False),
    ]
    assert all(c.note == "" and c.lpips is None and c.psnr is not None for c in result.ranking)
    assert [c.photo_psnr for c in result.ranking] == [27.0, 21.0, 18.0, 15.0]
    assert all(c.like_others is not None for c in result.ranking)
    assert all(c.picture.startswith("data:image/jpeg;base64,") for c in result.ranking)
    assert journal.saved == ["ranking", "views", "depth", "photos", "model"]
    assert journal.stages == ["candidates", "views", "depth", "photos", "splats"]
    assert journal.ranking == result.ranking
    assert journal.model is result.model
    np.testing.assert_array_equal(result.model.means, some_model(seed=9).means)
    assert result.scores.view_agreement == 0.9
    assert result.views.photos is not None


async def test_the_chosen_one_is_what_its_seed_alone_gives():
    models = FakeModels(qualities_by_seed=QUALITIES)
    alone = GenerateOptions(seed=9, num_gaussians=600)
    await generate(some_cutout(), BEST_OF_4, models.ports(), MemoryJournal())
    await generate(some_cutout(), alone, models.ports(), MemoryJournal())
    chosen, single = models.fits[-2:]
    assert replace(chosen, views=single.views, depths=single.depths) == single


async def test_trials_are_no_larger_than_a_draft():
    models = FakeModels()
    options = GenerateOptions(seed=1, preset=Preset.HIGH, candidates=2)
    await generate(some_cutout(), options, models.ports(), MemoryJournal())
    sizes = [(request.num_gaussians, request.iterations) for request in models.fits]
    assert sizes == [(8_000, 100)] * 2 + [(options.splat_count, options.fit_iterations)]


async def test_of_equals_the_first_seed_is_kept():
    models = FakeModels(qualities_by_seed=dict.fromkeys(QUALITIES, 0.5))
    result = await generate(some_cutout(), BEST_OF_4, models.ports(), MemoryJournal())
    assert [c.seed for c in result.ranking] == [7, 8, 9, 10]
    assert [c.chosen for c in result.ranking] == [True, False, False, False]
    np.testing.assert_array_equal(result.model.means, some_model(seed=7).means)


async def test_the_seed_after_the_last_is_the_first():
    models = FakeModels()
    options = GenerateOptions(seed=SEED_LIMIT - 1, candidates=2)
    await generate(some_cutout(), options, models.ports(), MemoryJournal())
    assert {request.seed for request in models.fits} == {SEED_LIMIT - 1, 0}


async def test_one_candidate_asks_for_no_ranking():
    class Journal(MemoryJournal):
        async def load_ranking(self):
            raise AssertionError("not asked")

    result = await generate(some_cutout(), OPTIONS, FakeModels().ports(), Journal())
    assert result.ranking == ()


class SomeFail(FakeModels):
    """Fits with these seeds raise these errors."""

    def __init__(self, errors: dict[int, Exception], **kwargs):
        super().__init__(**kwargs)
        self.errors = errors

    async def reconstruct(self, request, report=None):
        if request.seed in self.errors:
            raise self.errors[request.seed]
        return await super().reconstruct(request, report)


async def test_a_candidate_that_fails_is_left_out_and_named():
    models = SomeFail(
        {9: OutOfMemory.openly("too small"), 7: ModelFailed("/srv/boom", public="boom")}
    )
    models.qualities_by_seed = QUALITIES
    result = await generate(some_cutout(), BEST_OF_4, models.ports(), MemoryJournal())
    assert [(c.seed, c.view_agreement, c.note) for c in result.ranking] == [
        (8, 0.7, ""),
        (10, 0.6, ""),
        (7, None, "model_failed: boom"),
        (9, None, "out_of_memory: too small"),
    ]
    assert result.ranking[0].chosen


async def test_when_all_fail_the_first_error_is_told_and_nothing_is_saved():
    errors: dict[int, Exception] = {seed: ModelFailed(f"boom {seed}") for seed in QUALITIES}
    journal = MemoryJournal()
    with pytest.raises(ModelFailed, match="boom 7"):
        await generate(some_cutout(), BEST_OF_4, SomeFail(errors).ports(), journal)
    assert journal.saved == []


@pytest.mark.parametrize("error", [Cancelled("stop"), StaleAttempt("newer"), ValueError("bug")])
async def test_a_stop_or_a_fault_of_ours_ends_all_candidates(error):
    models, journal = SomeFail({8: error}, hold_at="evaluate"), MemoryJournal()
    with pytest.raises(type(error)):
        await generate(some_cutout(), BEST_OF_4, models.ports(), journal)
    assert models.cancelled == ["evaluate"], "the one beside it was under way"
    assert journal.saved == []


async def test_cancelling_stops_every_candidate_and_begins_no_further_one():
    models, journal = FakeModels(hold_at="splats"), MemoryJournal()
    work = asyncio.ensure_future(generate(some_cutout(), BEST_OF_4, models.ports(), journal))
    async with asyncio.timeout(5):
        while models.calls.count("splats") < 2:
            await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert models.cancelled == ["splats", "splats"]
    assert models.calls.count("views") == 2, "two at once, and nobody after them"
    assert journal.saved == []


async def test_an_attempt_interrupted_before_the_choice_begins_anew():
    journal = MemoryJournal()
    with pytest.raises(StaleAttempt):
        models = SomeFail({10: StaleAttempt("killed")})
        await generate(some_cutout(), BEST_OF_4, models.ports(), journal)
    models = FakeModels(qualities_by_seed=QUALITIES)
    await generate(some_cutout(), BEST_OF_4, models.ports(), journal)
    assert sorted(request.seed for request in models.fits[:4]) == [7, 8, 9, 10]


@pytest.mark.parametrize("saved", ["ranking", "views", "depth", "photos", "model"])
async def test_an_attempt_interrupted_after_the_choice_goes_on_with_the_chosen_seed(saved):
    class Dies(MemoryJournal):
        async def _die_after(self, name):
            if name == saved:
                raise StaleAttempt("killed")

        async def save_ranking(self, *values):
            await super().save_ranking(*values)
            await self._die_after("ranking")

        async def save_views(self, *values):
            await super().save_views(*values)
            await self._die_after("views")

        async def save_depths(self, *values):
            await super().save_depths(*values)
            await self._die_after("depth")

        async def save_photos(self, *values):
            await super().save_photos(*values)
            await self._die_after("photos")

        async def save_model(self, *values):
            await super().save_model(*values)
            await self._die_after("model")

    dead = Dies()
    models = FakeModels(qualities_by_seed=QUALITIES)
    with pytest.raises(StaleAttempt):
        await generate(some_cutout(), BEST_OF_4, models.ports(), dead)
    journal = MemoryJournal(dead.views, dead.depths, dead.model, dead.ranking, photos=dead.photos)
    models = FakeModels(qualities_by_seed=QUALITIES)
    result = await generate(some_cutout(), BEST_OF_4, models.ports(), journal)
    assert [request.seed for request in models.fits] == ([] if saved == "model" else [9])
    assert result.ranking == dead.ranking
    np.testing.assert_array_equal(result.model.means, some_model(seed=9).means)
    assert result.scores.view_agreement == 0.9


async def test_progress_of_several_candidates_only_grows():
    models, journal = FakeModels(qualities_by_seed=QUALITIES), MemoryJournal()
    await generate(some_cutout(), BEST_OF_4, models.ports(), journal)
    fractions = [progress.fraction for progress in journal.progress]
    tried = fractions[: 1 + max(i for i, share in enumerate(fractions) if share > 0.99)]
    assert tried == sorted(tried)
    assert tried[-1] == pytest.approx(1.0)
    assert any("candidate 3 of 4" in progress.message for progress in journal.progress)
