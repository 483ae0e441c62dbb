"""The intrinsics of cropped photos, of outlines that are known exactly."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.engines.deg.camera_token import ObjectCamera
from pipeline.engines.deg.photo_crop import find_crop
from pipeline.geometry.projection import pixel_rays, project, to_camera, to_world
from pipeline.splats.render import render_model
from pipeline.types import Cameras, FloatArray, SplatModel, UInt8Array

#: A token's camera: 30 degrees to the side, 20 up, a field of view of 43 degrees.
CAMERA = ObjectCamera(0.5, 0.35, 2.4, 0.95)
SIZE = 96


def sphere(centre: tuple[float, float, float], radius: float) -> Callable[[Cameras], FloatArray]:
    """Draws a sphere, 2 x 2 rays a pixel."""

    def draw(cameras: Cameras) -> FloatArray:
        twice = cameras.resized(2 * cameras.width, 2 * cameras.height)
        rays = pixel_rays(twice, 0, np.float64)
        at = to_camera(twice, 0, np.array([centre], np.float64))[0]
        along = (rays @ at) / np.linalg.norm(rays, axis=-1)
        hit = at @ at - along**2 < radius**2
        h, w = cameras.height, cameras.width
        return hit.reshape(h, 2, w, 2).mean(axis=(1, 3))[None].astype(np.float32)

    return draw


def box(
    low: tuple[float, float, float], high: tuple[float, float, float]
) -> Callable[[Cameras], FloatArray]:
    """Draws a box, 2 x 2 rays a pixel."""

    def draw(cameras: Cameras) -> FloatArray:
        twice = cameras.resized(2 * cameras.width, 2 * cameras.height)
        rays = pixel_rays(twice, 0, np.float64)
        eye = to_world(twice, 0, np.zeros((1, 3)))[0]
        ways = to_world(twice, 0, rays.reshape(-1, 3)) - eye
        ends = [(np.array(edge) - eye) / ways for edge in (low, high)]
        near, far = np.minimum(*ends).max(axis=1), np.maximum(*ends).min(axis=1)
        h, w = cameras.height, cameras.width
        return (near < far).reshape(h, 2, w, 2).mean(axis=(1, 3))[None].astype(np.float32)

    return draw


SHAPES = {
    "ball": sphere((0.05, -0.1, 0.08), 0.3),
    "box": box((-0.4, -0.15, -0.3), (0.3, 0.2, 0.5)),
    "tall": box((-0.05, -0.08, -0.5), (0.05, 0.05, 0.45)),
}


def cropped(
    draw: Callable[[Cameras], FloatArray], camera: ObjectCamera, size: int = SIZE
) -> tuple[Cameras, UInt8Array]:
    """What a photo of a shape is after its crop: 1.2 times its box, resized.

    Returns:
        the camera by construction, and the photo's alpha, uint8 [size, size].
    """
    pixels = 2 * SIZE
    whole = camera.focal * pixels
    alpha = draw(camera.with_intrinsics(whole, pixels / 2, pixels / 2, pixels))[0]
    columns, rows = (np.flatnonzero((alpha > 0).any(axis=axis)) for axis in (0, 1))
    cx, cy = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
    half = 1.2 * max(columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1) / 2
    zoom = size / (2 * half)
    true = camera.with_intrinsics(
        whole * zoom, (pixels / 2 - cx + half) * zoom, (pixels / 2 - cy + half) * zoom, size
    )
    return true, np.round(255 * draw(true)[0]).astype(np.uint8)


def pixels_apart(found: Cameras, true: Cameras) -> float:
    """How far apart the two draw points of the object, pixels."""
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (100, 3))
    ends = []
    for cameras in (found, true):
        local = to_camera(cameras, 0, points)
        ends.append(np.stack(project(cameras, 0, local, local[:, 2])))
    return float(np.abs(ends[0] - ends[1]).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_camera_of_a_crop_is_found_to_a_part_of_a_pixel(shape: str):
    true, alpha = cropped(SHAPES[shape], CAMERA)
    found = find_crop(CAMERA, alpha, SHAPES[shape])
    assert found.cameras is not None
    assert found.outline_iou is not None
    assert found.outline_iou > 0.9
    assert not found.reason
    # Measured: .09 to .17.
    np.testing.assert_array_equal(found.cameras.viewmats, true.viewmats)
    assert pixels_apart(found.cameras, true) < 0.3


def test_the_focal_length_of_a_sphere_is_the_formula_s():
    """From distance D a sphere's outline has the half width f r / sqrt(D^2 - r^2)."""
    centred = sphere((0, 0, 0), 0.35)
    _, alpha = cropped(centred, CAMERA)
    found = find_crop(CAMERA, alpha, centred)
    assert found.cameras is not None
    K = found.cameras.intrinsics[0]
    half = K[0, 0] * 0.35 / np.sqrt(CAMERA.distance**2 - 0.35**2)
    assert half == pytest.approx(np.sqrt(alpha.sum() / 255 / np.pi), rel=2e-3)
    # The crop is 1.2 times the box, which is whole pixels.
    assert half == pytest.approx(SIZE / 2 / 1.2, rel=1e-2)
    assert K[:2, 2] == pytest.approx([SIZE / 2, SIZE / 2], abs=0.1)
    assert K[0, 0] == K[1, 1]


@pytest.mark.parametrize("half_width", [0.2, 0.5, 1.1, 6.0])
def test_how_wide_the_uncropped_picture_was_does_not_matter(half_width: float):
    """Nor whether the object was whole in it."""
    shape = SHAPES["box"]
    true, alpha = cropped(shape, CAMERA)
    wrong = ObjectCamera(CAMERA.azimuth_rad, CAMERA.elevation_rad, CAMERA.distance, half_width)
    found = find_crop(wrong, alpha, shape)
    assert found.cameras is not None
    assert pixels_apart(found.cameras, true) < 0.25


def test_an_orthographic_camera_is_found():
    far = ObjectCamera(0.5, 0.35, 1000.0, 0.8)
    true, alpha = cropped(SHAPES["ball"], far)
    found = find_crop(far, alpha, SHAPES["ball"])
    assert found.cameras is not None
    assert pixels_apart(found.cameras, true) < 0.25


def test_a_large_photo_is_compared_in_a_small_picture():
    true, alpha = cropped(SHAPES["box"], CAMERA, 192)
    sizes: list[int] = []

    def draw(cameras: Cameras) -> FloatArray:
        sizes.append(cameras.width)
        return SHAPES["box"](cameras)

    found = find_crop(CAMERA, alpha, draw, pixels=64)
    assert found.cameras is not None
    assert found.cameras.width == found.cameras.height == 192
    assert set(sizes) == {64}
    assert len(sizes) <= 5
    assert pixels_apart(found.cameras, true) < 1.0


def test_a_thin_part_that_the_photo_has_not_moves_nothing():
    """The model's box is a third longer than the photo's."""
    shape, spike = SHAPES["box"], box((-0.02, -0.02, 0.3), (0.02, 0.02, 0.8))
    true, alpha = cropped(shape, CAMERA)
    found = find_crop(CAMERA, alpha, lambda cameras: np.maximum(shape(cameras), spike(cameras)))
    assert found.cameras is not None
    assert pixels_apart(found.cameras, true) < 0.7


def test_an_object_that_the_photo_cuts_off_is_placed_by_what_is_there():
    shape = SHAPES["box"]
    true, _ = cropped(shape, CAMERA)
    lower = CAMERA.with_intrinsics(true.intrinsics[0, 0, 0], 48.0, 75.0, SIZE)
    cut = np.round(255 * shape(lower)[0]).astype(np.uint8)
    assert cut[-1].any()
    found = find_crop(CAMERA, cut, shape)
    assert found.cameras is not None
    assert pixels_apart(found.cameras, lower) < 0.7


def test_what_is_translucent_has_an_outline():
    shape = SHAPES["ball"]
    true, alpha = cropped(shape, CAMERA)
    found = find_crop(CAMERA, alpha, lambda cameras: 0.3 * shape(cameras))
    assert found.cameras is not None
    assert pixels_apart(found.cameras, true) < 0.25


def test_a_haze_of_faint_splats_moves_nothing():
    shape = SHAPES["ball"]
    true, alpha = cropped(shape, CAMERA)
    found = find_crop(CAMERA, alpha, lambda cameras: np.maximum(shape(cameras), 0.02))
    assert found.cameras is not None
    assert pixels_apart(found.cameras, true) < 1.5


def test_outlines_that_disagree_leave_the_photo_without_a_camera():
    _, alpha = cropped(SHAPES["tall"], CAMERA)
    found = find_crop(CAMERA, alpha, SHAPES["ball"])
    assert found.cameras is None
    assert found.outline_iou is not None
    assert found.outline_iou < 0.66
    assert f"overlap by {found.outline_iou:.0%}" in found.reason


def test_what_cannot_be_seen_leaves_the_photo_without_a_camera():
    _, alpha = cropped(SHAPES["ball"], CAMERA)

    def nothing(cameras: Cameras) -> FloatArray:
        return np.zeros((1, cameras.height, cameras.width), np.float32)

    found = find_crop(CAMERA, alpha, nothing)
    assert found.cameras is None
    assert "cannot be seen" in found.reason
    found = find_crop(CAMERA, np.zeros_like(alpha), SHAPES["ball"])
    assert found.cameras is None
    assert "is empty" in found.reason


def test_with_our_own_rasteriser():
    """Splats on a sphere: the photo is a picture of them through a camera that is known."""
    points = np.random.default_rng(1).normal(size=(1500, 3))
    points *= 0.3 / np.linalg.norm(points, axis=1, keepdims=True)
    points[:, 2] *= 1.4
    n = len(points)
    model = SplatModel(
        means=points.astype(np.float32),
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
        log_scales=np.full((n, 3), np.log(0.02), np.float32),
        logit_opacities=np.full(n, 4, np.float32),
        sh=np.zeros((n, 1, 3), np.float32),
    )

    def draw(cameras: Cameras) -> FloatArray:
        return render_model(model, cameras).alphas

    true = CAMERA.with_intrinsics(260.0, 62.0, 66.0, 128)
    found = find_crop(CAMERA, np.round(255 * draw(true)[0]).astype(np.uint8), draw)
    assert found.cameras is not None
    assert pixels_apart(found.cameras, true) < 0.2
