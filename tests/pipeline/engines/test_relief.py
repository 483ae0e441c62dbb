"""The relief engine: a solid from a silhouette, its views, and its depth maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy import ndimage

from pipeline.control import Control, Progress
from pipeline.engines.depth.surface_depth import SurfaceDepth
from pipeline.engines.views.outline import silhouette
from pipeline.engines.views.relief.relief_shape import inflate, local_half_width
from pipeline.engines.views.relief.relief_views import Relief, relief_mesh, relief_views
from pipeline.engines.views.surface_views import CAMERAS_PER_CALL, ColoredMesh
from pipeline.errors import Cancelled, InvalidImage, InvalidOption, ModelFailed
from pipeline.geometry.cameras import photo_camera, rig_cameras
from pipeline.imaging.framing import GIVEN_ALPHA, composite_on_white, frame_object
from pipeline.imaging.heat_map import HEAT_GROUND, heat_map
from pipeline.mesh.mesh_raster import rasterize_mesh
from pipeline.requests import ViewRequest
from pipeline.rig import RADIUS
from pipeline.types import Cutout, UInt8Array, ViewSet

SIZE = 256


def grid(size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres (x, y) relative to the middle, in units of a 256 px picture."""
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    return x * 256 / size, y * 256 / size


def cover(inside: np.ndarray, size: int = SIZE) -> UInt8Array:
    """Signed distance in 256 px units (positive inside) -> anti-aliased alpha."""
    return np.rint(np.clip(inside * size / 256 + 0.5, 0, 1) * 255).astype(np.uint8)


X, Y = grid()
SHAPES = {
    "disc": 100 - np.hypot(X, Y),
    "ring": np.minimum(100 - np.hypot(X, Y), np.hypot(X, Y) - 60),
    "square": 100 - np.maximum(abs(X), abs(Y)),
    "cross": np.maximum(
        np.minimum(100 - abs(X), 30 - abs(Y)), np.minimum(30 - abs(X), 100 - abs(Y))
    ),
    "two discs": np.maximum(45 - np.hypot(X - 55, Y), 40 - np.hypot(X + 55, Y)),
    "hair": np.minimum(0.5 - abs(X + 0.5), 100 - abs(Y)),
    "mug": np.maximum(
        np.minimum(60 - abs(X + 20), 90 - abs(Y)),
        np.minimum(45 - np.hypot(X - 45, Y), np.hypot(X - 45, Y) - 28),
    ),
}


def colours(size: int = SIZE) -> np.ndarray:
    """Dark, smooth, red at the top and blue at the bottom, green on the right."""
    x, y = grid(size)
    red, blue = 90 - y * 0.6, 90 + y * 0.6
    green = 60 + x * 0.4 + 20 * np.sin(y / 9)
    return np.clip(np.stack([red, green, blue], -1), 0, 170)


def cutout(shape: str) -> Cutout:
    rgba = np.dstack([colours(), cover(SHAPES[shape])]).astype(np.uint8)
    rgba.setflags(write=False)  # as it arrives from another process
    return Cutout(rgba, GIVEN_ALPHA)


def photographed(mesh: ColoredMesh, elevation_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """What the photo's camera sees of a mesh: RGB 0..1 on white, coverage."""
    seen = rasterize_mesh(
        mesh.vertices, mesh.faces, mesh.colors, photo_camera(elevation_deg), supersample=3
    )
    share = seen.coverage[0, ..., None]
    return seen.attributes[0] * share + 1.0 - share, seen.coverage[0]


@pytest.fixture(scope="module")
def disc_views() -> ViewSet:
    return relief_views(cutout("disc"), 30.0, Control())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_solid_is_closed_and_has_a_volume(shape: str) -> None:
    mesh = relief_mesh(cutout(shape), 20.0)
    edges = np.sort(np.concatenate([mesh.faces[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0
    assert np.isfinite(mesh.vertices).all()
    assert mesh.colors.min() >= 0
    assert mesh.colors.max() <= 1


@pytest.mark.parametrize("elevation_deg", [-10.0, 0.0, 30.0])
def test_a_disc_becomes_a_ball_around_the_origin(elevation_deg: float) -> None:
    vertices = relief_mesh(cutout("disc"), elevation_deg).vertices
    # The ball whose outline has a radius of 100 px: sin(angle) = R / 1.5, tan(angle) = 100 / 280.
    radius = RADIUS * np.sin(np.arctan(100 / 280))
    assert np.abs(np.linalg.norm(vertices, axis=1) - radius).max() < 0.04 * radius


def test_a_mugs_handle_keeps_its_hole() -> None:
    for shape, genus in (("ring", 1), ("mug", 1), ("disc", 0)):
        mesh = relief_mesh(cutout(shape), 30.0)
        assert trimesh.Trimesh(mesh.vertices, mesh.faces).euler_number == 2 - 2 * genus


def test_every_large_part_is_kept() -> None:
    mesh = relief_mesh(cutout("two discs"), 30.0)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).body_count == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_thickness_is_bounded_by_the_local_width(shape: str) -> None:
    inside = silhouette(cover(SHAPES[shape])).inside
    thickness = inflate(inside)
    bound = ndimage.maximum_filter(local_half_width(inside), 5)
    assert (thickness[inside] > 0).all()
    assert (thickness[~inside] == 0).all()
    assert (thickness <= 1.15 * bound + 1.0).all()


def test_a_long_strip_is_round() -> None:
    thickness = inflate(np.minimum(20 - abs(X), 100 - abs(Y)) > 0)
    assert thickness[SIZE // 2, SIZE // 2] == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize("shape", ["disc", "ring", "square", "cross", "two discs", "mug"])
@pytest.mark.parametrize("elevation_deg", [-10.0, 30.0])
def test_the_photos_camera_sees_the_photo(shape: str, elevation_deg: float) -> None:
    given = cutout(shape)
    seen, coverage = photographed(relief_mesh(given, elevation_deg), elevation_deg)
    inside = given.rgba[..., 3] > 127
    both, either = (coverage > 0.5) & inside, (coverage > 0.5) | inside
    assert both.sum() / either.sum() > 0.97
    photo = composite_on_white(given.rgba) / 255.0
    assert -10 * np.log10(((seen - photo)[both] ** 2).mean()) > 30


def test_fine_detail_survives_in_a_large_cutout() -> None:
    x, y = grid(512)
    checks = 60 + 90 * ((np.floor(x / 4) + np.floor(y / 4)) % 2)
    rgba = np.dstack([np.repeat(checks[..., None], 3, 2), cover(100 - np.hypot(x, y), 512)])
    seen, _ = photographed(relief_mesh(Cutout(rgba.astype(np.uint8), GIVEN_ALPHA), 30.0), 30.0)
    middle = np.hypot(X, Y) < 60
    halved = checks.reshape(256, 2, 256, 2).mean((1, 3)) / 255.0
    assert np.abs(seen[..., 0] - halved)[middle].mean() < 0.04


def test_the_photographed_side_faces_x_and_its_top_points_up() -> None:
    for elevation_deg in (0.0, 30.0):
        mesh = relief_mesh(cutout("square"), elevation_deg)
        red, blue = mesh.colors[:, 0] - mesh.colors[:, 2] > 0.2, mesh.colors[:, 2] > 0.5
        assert mesh.vertices[red, 2].mean() > mesh.vertices[blue, 2].mean() + 0.3
        green = mesh.colors[:, 1] > 0.4  # right in the picture is +y seen from +x
        assert mesh.vertices[green, 1].mean() > 0.1


def test_a_tall_object_stands_nearly_upright_and_a_ball_does_not_care() -> None:
    bottle = np.dstack([colours(), cover(np.minimum(30 - abs(X), 100 - abs(Y)))])
    mesh = relief_mesh(Cutout(bottle.astype(np.uint8), GIVEN_ALPHA), 20.0)
    top, bottom = mesh.vertices[:, 2] > 0.3, mesh.vertices[:, 2] < -0.3
    lean = mesh.vertices[bottom, 0].mean() - mesh.vertices[top, 0].mean()
    assert abs(np.rad2deg(np.arctan2(lean, 0.8))) < 8


def test_the_elevation_is_honoured() -> None:
    low = relief_views(cutout("mug"), 0.0, Control())
    high = relief_views(cutout("mug"), 30.0, Control())
    # The rig looks down at 30 degrees: only a photo from there reappears in view 0.
    photo = composite_on_white(cutout("mug").rgba).astype(int)
    errors = [np.abs(views.images[0].astype(int) - photo).mean() for views in (low, high)]
    assert errors[1] < 0.25 * errors[0]
    assert np.abs(low.images.astype(int) - high.images).mean() > 2


def test_an_elevation_that_nobody_gave_is_the_rigs_and_told(disc_views: ViewSet) -> None:
    assumed = Relief().synthesize(ViewRequest(cutout("disc"), None, seed=0), Control())
    assert np.array_equal(assumed.images, disc_views.images)
    (note,) = set(assumed.notes) - set(disc_views.notes)
    assert "30 degrees were assumed" in note


def test_the_views_are_those_of_the_rig(disc_views: ViewSet) -> None:
    assert len(disc_views) == 16
    assert disc_views.images.shape == (16, SIZE, SIZE, 3)
    assert disc_views.alphas.shape == (16, SIZE, SIZE)
    assert disc_views.engine == "relief"
    assert np.array_equal(disc_views.cameras.viewmats, rig_cameras().viewmats)
    assert any("preview" in note for note in disc_views.notes)
    assert (disc_views.images[disc_views.alphas == 0] == 255).all()
    assert relief_views(cutout("hair"), 30.0, Control(), size=64).images.shape[1] == 64


@pytest.mark.parametrize(("shape", "least"), [("disc", 0.9), ("mug", 0.5), ("ring", 0.35)])
def test_the_object_is_solid_from_every_side(shape: str, least: float) -> None:
    views = relief_views(cutout(shape), 30.0, Control(), size=128)
    areas = (views.alphas > 127).sum((1, 2))
    assert areas.min() > least * areas[0]
    assert not views.alphas[:, [0, -1]].any()
    assert not views.alphas[:, :, [0, -1]].any()


@pytest.mark.parametrize("ground", [255, 0])
def test_a_dark_object_shows_no_seam_of_its_old_ground(ground: int) -> None:
    """The photo's rim is mixed with its ground and the mask is a pixel too wide."""
    alpha = cover(SHAPES["cross"])[..., None] / 255.0
    rgb = np.rint(60 * alpha + ground * (1 - alpha)).astype(np.uint8) * np.ones(3, np.uint8)
    wide = cover(SHAPES["cross"] + 1.0)
    views = relief_views(frame_object(rgb, wide, engine="rembg-u2netp", size=512), 30.0, Control())
    inner = ndimage.binary_erosion(views.alphas == 255, np.ones((1, 3, 3)))
    shades = views.images[inner]
    assert shades.max() < 75
    assert shades.min() > 45


def test_the_same_photo_gives_the_same_views(disc_views: ViewSet) -> None:
    again = relief_views(cutout("disc"), 30.0, Control())
    assert np.array_equal(again.images, disc_views.images)
    assert again.surface_depth is not None
    assert np.array_equal(again.surface_depth, disc_views.surface_depth)


def test_a_view_does_not_depend_on_the_cameras_drawn_with_it(disc_views: ViewSet) -> None:
    view = CAMERAS_PER_CALL + 1
    mesh = relief_mesh(cutout("disc"), 30.0)
    camera = rig_cameras().select([view])
    seen = rasterize_mesh(mesh.vertices, mesh.faces, mesh.colors, camera, supersample=3)
    share = seen.coverage[0, ..., None]
    alone = np.rint((seen.attributes[0] * share + (1.0 - share)) * 255.0).astype(np.uint8)
    assert np.array_equal(disc_views.images[view], alone)
    exact = rasterize_mesh(mesh.vertices, mesh.faces, mesh.colors, camera, supersample=1)
    assert disc_views.surface_depth is not None
    assert np.array_equal(disc_views.surface_depth[view], exact.depth[0])


def test_progress_rises_to_one() -> None:
    seen: list[Progress] = []
    relief_views(cutout("ring"), 30.0, Control(report_to=seen.append), size=64)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_a_stop_is_obeyed_between_views() -> None:
    control = Control()
    reports: list[Progress] = []

    def stop_at_a_view(progress: Progress) -> None:
        reports.append(progress)
        if progress.message.startswith("view"):
            control.stop.set()

    watched = Control(control.stop, stop_at_a_view)
    with pytest.raises(Cancelled):
        relief_views(cutout("disc"), 30.0, watched, size=64)
    assert sum(progress.message.startswith("view") for progress in reports) == 1


def test_an_empty_cutout_is_refused() -> None:
    with pytest.raises(InvalidImage, match="no foreground"):
        relief_mesh(Cutout(np.zeros((64, 64, 4), np.uint8), GIVEN_ALPHA), 30.0)


@pytest.mark.parametrize("elevation_deg", [90.0, -81.0, float("nan")])
def test_an_elevation_out_of_range_is_refused(elevation_deg: float) -> None:
    with pytest.raises(InvalidOption, match="elevation_deg"):
        relief_mesh(cutout("disc"), elevation_deg)


def test_a_mask_of_noise_does_not_break_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    mesh = relief_mesh(Cutout(noise, GIVEN_ALPHA), 30.0)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).is_watertight
    full = np.full((64, 64, 4), 255, np.uint8)
    mesh = relief_mesh(Cutout(full, GIVEN_ALPHA), 30.0)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).is_watertight


def test_surface_depth_is_the_balls_own(disc_views: ViewSet) -> None:
    depths = SurfaceDepth().estimate(disc_views, Control())
    assert depths.engine == "surface"
    centre = depths.depth[:, SIZE // 2, SIZE // 2]
    radius = RADIUS * np.sin(np.arctan(100 / 280))
    assert np.abs(centre - (RADIUS - radius)).max() < 0.03
    assert ((depths.depth > 0) == (depths.confidence > 0)).mean() > 0.999


def test_confidence_is_high_where_the_surface_faces_the_camera(disc_views: ViewSet) -> None:
    confidence = SurfaceDepth().estimate(disc_views, Control()).confidence
    rim = (disc_views.alphas > 127) & ~ndimage.binary_erosion(
        disc_views.alphas > 127, np.ones((1, 5, 5))
    )
    assert confidence[:, 118:138, 118:138].min() > 0.9
    assert confidence[rim].max() < 0.5
    assert confidence.min() >= 0
    assert confidence.max() <= 1


def test_a_surface_is_believed_as_far_as_its_engine_does(disc_views: ViewSet) -> None:
    whole = SurfaceDepth().estimate(disc_views, Control())
    belief = np.ones(disc_views.alphas.shape, np.float32)
    belief[3:5] = 0.25
    doubtful = replace(disc_views, surface_confidence=belief)
    less = SurfaceDepth().estimate(doubtful, Control())
    np.testing.assert_array_equal(less.depth, whole.depth)
    np.testing.assert_allclose(less.confidence, whole.confidence * belief, atol=1e-6)
    two = doubtful.select([4, 0]).surface_confidence
    assert two is not None
    assert (two[0] == 0.25).all()
    assert (two[1] == 1).all()
    for damaged in (belief[1:], belief * np.nan, belief * 2):
        with pytest.raises(ModelFailed, match=r"confidence.*damaged"):
            SurfaceDepth().estimate(replace(disc_views, surface_confidence=damaged), Control())


def test_views_without_a_surface_are_refused(disc_views: ViewSet) -> None:
    blind = ViewSet(disc_views.images, disc_views.alphas, disc_views.cameras, "syncdreamer")
    with pytest.raises(ModelFailed, match="syncdreamer"):
        SurfaceDepth().estimate(blind, Control())


def test_a_heat_map_is_warm_near_and_cold_far() -> None:
    depth = np.tile(np.linspace(1.0, 2.0, 50, dtype=np.float32), (40, 1))
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:5], depth[5:8] = 0, 0
    picture = heat_map(depth, alpha).astype(int)
    assert (picture[:8] == HEAT_GROUND).all()
    assert picture[20, 1, 0] > picture[20, 1, 2] + 50
    assert picture[20, -2, 2] > picture[20, -2, 0] + 50
    assert (heat_map(np.zeros((4, 4), np.float32), alpha[:4, :4]) == HEAT_GROUND).all()
    flat = heat_map(np.full((4, 4), 1.5, np.float32), np.full((4, 4), 255, np.uint8))
    assert (flat == flat[0, 0]).all()


def test_an_object_that_smoothing_would_erase_keeps_its_pixels():
    alpha = np.zeros((32, 32), np.uint8)
    alpha[10:13, 10:13] = 135
    assert silhouette(alpha).inside.sum() == 9


def test_an_object_on_the_border_alone_is_refused():
    alpha = np.zeros((32, 32), np.uint8)
    alpha[0, 5:9] = 255
    with pytest.raises(InvalidImage, match="no foreground"):
        silhouette(alpha)
