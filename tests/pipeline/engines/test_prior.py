"""The prior engine: a closed surface from a guess, its colours, its views and its camera."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh

from pipeline.control import Control, Progress
from pipeline.device import Device
from pipeline.engines.depth.surface_depth import SurfaceDepth
from pipeline.engines.views import view_specs
from pipeline.engines.views.outline import silhouette
from pipeline.engines.views.outline_sheet import triangulate
from pipeline.engines.views.prior.guess import GUESS_SIZE, Guess
from pipeline.engines.views.prior.prior_views import (
    GUESS_NOTE,
    PriorViews,
    TwoSidedModel,
    two_sided_model,
)
from pipeline.engines.views.prior.prior_weights import PRIOR_WEIGHTS
from pipeline.engines.views.prior.trained_prior import load_prior
from pipeline.engines.views.prior.two_sided import MIN_THICKNESS, VIEW_MARGIN, sides_of
from pipeline.engines.views.prior.two_sided_paint import HALF_BELIEVED
from pipeline.engines.views.surface_views import ColoredMesh
from pipeline.errors import Cancelled, InvalidImage, InvalidOption, ModelFailed, Unavailable
from pipeline.geometry.cameras import held_out_cameras, rig_cameras
from pipeline.imaging.framing import GIVEN_ALPHA, composite_on_white, frame_object
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.ports import PortName
from pipeline.requests import ViewRequest
from pipeline.types import CameraEstimate, Cameras, Cutout, FloatArray, ViewSet
from pipeline.weights.catalogue import Carried
from pipeline.weights.folders import find
from tests.oracles.objects import Object, bumpy_sphere, mug, printed_box
from tests.oracles.odd_cutouts import KINDS, odd_photo
from tests.oracles.true_guesses import TrueGuess, true_guess
from tests.pipeline.engines.loading import load

SIZE = 256
RED, BLUE, GREEN = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.1, 0.7, 0.2)


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """u, v of pixel centres in frame widths from the middle."""
    v, u = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    return u, v


def cut(inside: np.ndarray, color: tuple[float, float, float] = RED) -> Cutout:
    rgba = np.zeros((*inside.shape, 4), np.uint8)
    rgba[..., :3] = np.round(255 * np.array(color))
    rgba[..., 3] = 255 * inside
    return Cutout(rgba, "given")


def disc(size: int = SIZE) -> Cutout:
    return cut(np.hypot(*grid(size)) < 100 / 256)


def square(size: int = SIZE) -> Cutout:
    return cut(np.abs(grid(size)).max(0) < 100 / 256)


def guessed(half: np.ndarray | float, *, backs: int = 1, **changes: object) -> Guess:
    """A body of so much thickness on both sides of the middle; its backs are blue and green."""
    plane = np.zeros((GUESS_SIZE, GUESS_SIZE), np.float32)
    colors = np.stack([np.broadcast_to(c, (*plane.shape, 3)) for c in (BLUE, GREEN)[:backs]])
    guess = Guess(
        front=(plane - half).astype(np.float32),
        back=(plane + half).astype(np.float32),
        front_error=plane,
        back_error=plane,
        back_colors=colors.astype(np.float32),
        back_copies=np.zeros((backs, *plane.shape), np.float32),
        elevation_deg=30.0,
        elevation_error_deg=5.0,
        focal=280 / 256,
        focal_error=0.1,
    )
    return replace(guess, **changes)  # type: ignore[arg-type]


def ball() -> Guess:
    return guessed(np.sqrt(np.maximum((100 / 256) ** 2 - np.hypot(*grid(GUESS_SIZE)) ** 2, 0)))


class Told:
    """A network that always answers the same, and what it was asked."""

    def __init__(self, guess: Guess) -> None:
        self.answer = guess
        self.asked: list[float | None] = []

    def guess(self, rgba: np.ndarray, elevation_deg: float | None) -> Guess:
        self.asked.append(elevation_deg)
        return self.answer


def seen(mesh: ColoredMesh | Object, cameras: Cameras) -> tuple[FloatArray, FloatArray]:
    """RGB 0..1 on white [C, H, W, 3] and coverage."""
    drawn = rasterize_mesh(mesh.vertices, mesh.faces, mesh.colors, cameras, supersample=2)
    share = drawn.coverage[..., None]
    return drawn.attributes * share + 1 - share, drawn.coverage


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a - b) ** 2).mean()))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5) | (b > 0.5)).sum())


def depths(model: TwoSidedModel) -> FloatArray:
    viewmat = model.camera.viewmats[0]
    return model.mesh.vertices @ viewmat[2, :3] + viewmat[2, 3]


MAKERS = {"ball": bumpy_sphere, "box": printed_box, "mug": mug}


@lru_cache
def truth(name: str) -> TrueGuess:
    return true_guess(MAKERS[name](), 25.0)


@lru_cache
def model_of(name: str) -> TwoSidedModel:
    return two_sided_model(truth(name).cutout, truth(name).guess)


@pytest.mark.parametrize(
    ("name", "least_db", "least_iou"),
    [("ball", 20.5, 0.98), ("box", 22.0, 0.97), ("mug", 18.5, 0.96)],
)
def test_a_true_guess_shows_the_object_from_elsewhere(
    name: str, least_db: float, least_iou: float
) -> None:
    model, thing = model_of(name), MAKERS[name]()
    z = depths(model)
    vertices = truth(name).object_seen_by(thing, model.camera, 0.5 * float(z.min() + z.max()))
    cameras = held_out_cameras(128).select([0, 2, 4, 6])
    image, coverage = seen(model.mesh, cameras)
    true_image, true_coverage = seen(replace(thing, vertices=vertices), cameras)
    assert psnr(image, true_image) > least_db
    assert iou(coverage, true_coverage) > least_iou


@pytest.mark.parametrize("name", MAKERS)
def test_its_own_camera_sees_the_photo_again(name: str) -> None:
    model, cutout = model_of(name), truth(name).cutout
    (image,), (coverage,) = seen(model.mesh, model.camera)
    alpha = cutout.rgba[..., 3] / 255
    assert iou(coverage, alpha) > 0.99
    surely = alpha == 1
    assert psnr(image[surely], composite_on_white(cutout.rgba)[surely] / 255) > 30


@pytest.mark.parametrize(("cutout", "guess"), [(disc(), ball()), (square(), guessed(0.2))])
def test_the_surface_is_closed_and_faces_outwards(cutout: Cutout, guess: Guess) -> None:
    mesh = two_sided_model(cutout, guess).mesh
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0


def test_a_ball_is_round_to_its_rim_and_a_box_is_square_there() -> None:
    for cutout, guess, least, most in (
        (disc(), ball(), 0.0, 0.06),
        (square(), guessed(0.2), 0.4, 0.4001),
    ):
        outline = silhouette(cutout.rgba[..., 3])
        sheet = triangulate(outline)
        sides = sides_of(guess, outline.inside, sheet)
        at_rim = (sides.back - sides.front)[len(sheet.pixels) :]
        assert at_rim.min() >= max(least - 1e-6, MIN_THICKNESS - 1e-9)
        assert at_rim.max() <= most


def test_what_a_guess_says_beside_the_object_is_not_believed() -> None:
    u, v = grid(GUESS_SIZE)
    inner = np.abs([u, v]).max(0) < 100 / 256
    wild = guessed(np.where(inner, 0.2, 0.9))
    expected = two_sided_model(square(), guessed(0.2)).mesh
    np.testing.assert_allclose(
        two_sided_model(square(), wild).mesh.vertices, expected.vertices, atol=1e-5
    )


def test_the_rim_of_a_plate_that_leans_has_no_steps() -> None:
    leaning = (-1.5 * grid(GUESS_SIZE)[1]).astype(np.float32)
    outline = silhouette(disc().rgba[..., 3])
    sheet = triangulate(outline)
    plate = guessed(0.0, front=leaning - 0.02, back=leaning + 0.02)
    sides = sides_of(plate, outline.inside, sheet)
    plane = -1.5 * (sheet.points[:, 1] / SIZE - 0.5)
    np.testing.assert_allclose(0.5 * (sides.front + sides.back), plane, atol=0.005)


def test_the_back_is_never_in_front() -> None:
    turned = guessed(-0.1)
    model = two_sided_model(square(), turned)
    z = depths(model)
    solid = trimesh.Trimesh(model.mesh.vertices, model.mesh.faces, process=False)
    assert solid.is_watertight
    assert solid.volume > 0
    assert 0 < np.ptp(z) < 0.01


@pytest.mark.parametrize("half", [0.05, 0.39, 2.0])
@pytest.mark.parametrize("elevation", [-10.0, 20.0, 60.0])
@pytest.mark.parametrize("focal", [0.7, 280 / 256, 2.0])
def test_every_view_and_the_unit_box_hold_all_of_it(
    half: float, elevation: float, focal: float
) -> None:
    guess = guessed(half, elevation_deg=elevation, focal=focal)
    model = two_sided_model(square(96), guess)
    vertices = model.mesh.vertices
    assert np.abs(vertices).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(vertices.min(0) + vertices.max(0), 0, atol=1e-5)
    rig = rig_cameras()
    local = np.einsum("vij,pj->vpi", rig.viewmats[:, :3, :3], vertices)
    local += rig.viewmats[:, None, :3, 3]
    beside = np.abs(local[..., :2] / local[..., 2:]).max() * rig.intrinsics[0, 0, 0]
    assert beside <= rig.width / 2 - VIEW_MARGIN + 1e-3
    (_,), (coverage,) = seen(model.mesh, model.camera)
    assert iou(coverage, square(96).rgba[..., 3] / 255) > 0.99


def test_a_part_that_is_thinner_than_a_pixel_of_the_guess_is_there() -> None:
    inside = np.abs(grid(SIZE)[0]) < 1 / SIZE
    inside &= np.abs(grid(SIZE)[1]) < 100 / 256
    model = two_sided_model(cut(inside), guessed(0.05))
    (_,), (coverage,) = seen(model.mesh, model.camera)
    assert iou(coverage, inside) > 0.9


def wild_guess(seed: int) -> Guess:
    """Maps without sense, such as no network gives: noise, waves, planes, a back in front."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((2, *rng.choice([1, 3, 40], 2))) * rng.choice([0.01, 0.2, 3.0])
    sides = [cv2.resize(side, (GUESS_SIZE,) * 2).astype(np.float32) for side in coarse]
    colors = rng.uniform(-0.2, 1.2, (2, GUESS_SIZE, GUESS_SIZE, 3)).astype(np.float32)
    return Guess(
        front=sides[0],
        back=sides[1],
        front_error=np.abs(sides[0]),
        back_error=np.abs(sides[1]),
        back_colors=colors,
        back_copies=colors[..., 0],
        elevation_deg=float(rng.uniform(-90, 90)),
        elevation_error_deg=float(rng.uniform(0, 40)),
        focal=float(rng.uniform(0.5, 4)),
        focal_error=0.1,
    )


def test_whatever_is_guessed_of_whatever_outline_the_surface_is_closed_and_within_bounds() -> None:
    for seed in range(2 * len(KINDS)):
        photo = odd_photo(seed)
        try:
            cutout = frame_object(photo.rgb, photo.alpha, engine=GIVEN_ALPHA, size=96)
            model = two_sided_model(cutout, wild_guess(seed))
        except InvalidImage:
            continue
        mesh, eye = model.mesh, model.camera
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert solid.is_watertight, photo.name
        assert solid.is_winding_consistent, photo.name
        assert 0 <= mesh.colors.min() <= mesh.colors.max() <= 1, photo.name
        assert 0 <= model.confidence.min() <= model.confidence.max() <= 1, photo.name
        assert np.abs(mesh.vertices).max() <= 0.5 + 1e-5, photo.name
        local = mesh.vertices @ eye.viewmats[0, :3, :3].T + eye.viewmats[0, :3, 3]
        assert local[:, 2].min() > 0, photo.name


@pytest.mark.parametrize(
    "broken",
    [
        guessed(np.nan),
        guessed(0.1, back_colors=np.full((1, GUESS_SIZE, GUESS_SIZE, 3), np.nan, np.float32)),
        guessed(0.1, focal=0.0),
        guessed(0.1, elevation_deg=np.nan),
        guessed(0.1, back_error=np.full((GUESS_SIZE, GUESS_SIZE), np.inf, np.float32)),
    ],
)
def test_a_guess_that_is_no_number_is_the_models_fault(broken: Guess) -> None:
    with pytest.raises(ModelFailed, match="prior"):
        views_of(square(64), broken)


def test_an_empty_cut_out_is_refused() -> None:
    with pytest.raises(InvalidImage):
        two_sided_model(cut(np.zeros((64, 64), bool)), guessed(0.1))


def views_of(cutout: Cutout, guess: Guess, *, elevation: float | None = None, **options) -> ViewSet:  # type: ignore[no-untyped-def]
    request = ViewRequest(cutout, elevation, **{"seed": 0, **options})
    return PriorViews(Told(guess)).synthesize(request, Control())


@lru_cache
def square_views() -> ViewSet:
    return views_of(square(), guessed(0.2, backs=2))


def test_the_front_is_the_photo_and_the_back_is_guessed() -> None:
    views = square_views()
    centre = np.s_[118:138, 118:138]
    np.testing.assert_allclose(views.images[0][centre] / 255, np.full((20, 20, 3), RED), atol=0.01)
    np.testing.assert_allclose(views.images[8][centre] / 255, np.full((20, 20, 3), BLUE), atol=0.01)


def test_seeds_choose_among_the_backs_and_nothing_else() -> None:
    centre = np.s_[118:138, 118:138]
    for seed, color in ((1, GREEN), (2, BLUE), (2**31 - 1, GREEN)):
        views = views_of(square(), guessed(0.2, backs=2), seed=seed)
        np.testing.assert_allclose(views.images[8][centre][0, 0] / 255, color, atol=0.01)
        assert np.array_equal(views.alphas, square_views().alphas)
        assert np.array_equal(views.images[0][centre], square_views().images[0][centre])


def test_equal_requests_give_equal_views() -> None:
    again, views = views_of(square(), guessed(0.2, backs=2)), square_views()
    for name in ("images", "alphas", "surface_depth", "surface_confidence"):
        assert np.array_equal(getattr(again, name), getattr(views, name))


def test_fine_patterns_of_the_back_are_copied_from_the_photo() -> None:
    stripes = square()
    stripes.rgba[:, ::8, :3] = 255
    whole = np.ones((1, GUESS_SIZE, GUESS_SIZE), np.float32)
    copied = two_sided_model(stripes, guessed(0.2, back_copies=whole)).mesh.colors
    pixels = len(triangulate(silhouette(stripes.rgba[..., 3])).points)
    front, back = copied[:pixels], copied[pixels : 2 * pixels]
    inner = np.abs(front - back).max(1) < 0.02
    assert inner.mean() > 0.85
    assert copied[pixels : 2 * pixels][inner].std() > 0.2


def test_views_come_with_their_surface_the_photo_and_the_underside() -> None:
    views = square_views()
    assert views.engine == "prior"
    assert len(views) == 16
    assert views.auxiliary is not None
    assert len(views.auxiliary) == 6
    assert views.surface_depth is not None
    assert views.surface_confidence is not None
    known = views.surface_depth > 0
    assert np.array_equal(known, views.surface_confidence > 0)
    assert (known & (views.alphas == 255)).sum() > 0.95 * known.sum()
    maps = SurfaceDepth().estimate(views, Control())
    assert (maps.confidence > 0).any()
    photo = views.photos
    assert photo is not None
    assert photo.images.shape == (1, 256, 256, 3)
    model = two_sided_model(square(), guessed(0.2))
    image, coverage = seen(model.mesh, photo.cameras)
    assert iou(coverage[0], photo.alphas[0] / 255) > 0.99
    np.testing.assert_allclose(image[0][128, 128], photo.images[0][128, 128] / 255, atol=0.01)


def test_errors_that_are_expected_lower_the_confidence() -> None:
    error = np.full((GUESS_SIZE, GUESS_SIZE), HALF_BELIEVED, np.float32)
    views = views_of(square(128), guessed(0.2, back_error=error))
    assert views.surface_confidence is not None
    assert views.surface_confidence[0][128, 128] == pytest.approx(1, abs=1e-3)
    assert views.surface_confidence[8][128, 128] == pytest.approx(0.5, abs=0.01)
    # Walls go from one to the other.
    assert 0.55 < views.surface_confidence[4][128, 128] < 0.95


def test_an_elevation_that_is_given_is_told_to_the_network_and_not_spoken_of() -> None:
    network = Told(guessed(0.2))
    views = PriorViews(network).synthesize(ViewRequest(square(64), 12.0, seed=0), Control())
    assert network.asked == [12.0]
    assert views.notes == (GUESS_NOTE,)
    assert views.estimate is not None
    assert views.estimate.elevation_error_deg is None


def test_an_elevation_that_is_estimated_is_told_with_its_error() -> None:
    views = views_of(square(64), guessed(0.2, elevation_deg=23.4))
    sure = views.notes
    assert views.estimate == CameraEstimate(23.4, 5.0, 280 / 256, 0.1)
    assert len(sure) == 2
    assert "about 23 degrees" in sure[1]
    assert "give or take 5" in sure[1]
    assert "elevation_deg" not in sure[1]
    unsure = views_of(square(64), guessed(0.2, elevation_error_deg=15.0)).notes
    assert "give elevation_deg" in unsure[1]
    level = views_of(square(64), guessed(0.2, elevation_deg=-0.3)).notes
    assert "about 0 degrees" in level[1]


def test_options_without_use_are_told() -> None:
    notes = views_of(square(64), guessed(0.2), elevation=30.0, steps=20, sampler="ddim").notes
    assert notes[1:] == (
        "The prior engine has no use for steps.",
        "The prior engine has no use for sampler.",
    )


@pytest.mark.parametrize("elevation", [81.0, -90.0, np.nan])
def test_a_camera_above_the_object_is_refused(elevation: float) -> None:
    with pytest.raises(InvalidOption, match="80"):
        views_of(square(64), guessed(0.2), elevation=elevation)


def test_a_stop_is_heard_between_the_views() -> None:
    control = Control()
    reports: list[Progress] = []

    def stop_at_a_view(progress: Progress) -> None:
        reports.append(progress)
        if progress.message.startswith("view"):
            control.stop.set()

    request = ViewRequest(square(64), None, seed=0)
    with pytest.raises(Cancelled):
        PriorViews(Told(guessed(0.2))).synthesize(request, Control(control.stop, stop_at_a_view))
    assert sum(report.message.startswith("view") for report in reports) == 1
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions)


def test_weights_that_are_missing_or_damaged_are_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(PRIOR_WEIGHTS.source, Carried)
    elsewhere = replace(PRIOR_WEIGHTS.source, module=None, resource=None)
    not_in_the_package = replace(PRIOR_WEIGHTS, source=elsewhere)
    monkeypatch.setattr(view_specs, "PRIOR_WEIGHTS", not_in_the_package)
    (tmp_path / "prior.npz").write_bytes(b"not what was trained")
    with pytest.raises(Unavailable) as caught:
        load(PortName.VIEWS, "prior", tmp_path)
    for words in ("prior.npz", "wrong checksum", "make prior", "VIEWS_ENGINE=relief"):
        assert words in caught.value.detail
    assert str(tmp_path) not in caught.value.public
    for damaged in (b"not what was trained", b""):
        (tmp_path / "prior.npz").write_bytes(damaged)
        with pytest.raises(Unavailable, match="cannot be read"):
            PriorViews.load(tmp_path / "prior.npz", Device.choose("cpu"))
    (tmp_path / "prior.npz").unlink()
    with pytest.raises(Unavailable, match="prior"):
        load(PortName.VIEWS, "prior", tmp_path)


def test_a_guess_is_the_same_for_any_number_of_threads() -> None:
    trained = load_prior(find(PRIOR_WEIGHTS), Device.choose("cpu"))
    photo = disc(512)
    photo.rgba[..., :3] = np.random.default_rng(0).integers(0, 255, (512, 512, 3))
    before, guesses = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            guesses.append(vars(trained.guess(photo.rgba, None)))
    finally:
        torch.set_num_threads(before)
    for name, value in guesses[0].items():
        assert all(np.array_equal(value, other[name]) for other in guesses[1:]), name


def test_a_damaged_file_in_the_model_directory_does_not_hide_that_of_the_package(
    tmp_path: Path,
) -> None:
    (tmp_path / "prior.npz").write_bytes(b"not what was trained")
    assert find(PRIOR_WEIGHTS, tmp_path).parent.name == "weights"
