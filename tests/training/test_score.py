"""How like the truth a thing is, on objects whose every view is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.geometry.cameras import orbit_cameras
from pipeline.imaging.rounding import to_bytes
from pipeline.types import FloatArray, ViewSet
from tests.oracles.shells import shell
from training.prior.primitives import box, lathe
from training.prior.score import Similarity, Thing, likeness, mesh_thing, splat_thing
from training.prior.solids import Solid

CAMERAS = orbit_cameras([20, 90, 135, 250], [50, 0, 20, 20], size=128)
SHIFT = np.array([0.08, -0.06, 0.05])


def colored(solid: Solid) -> tuple[FloatArray, np.ndarray, FloatArray]:
    """A solid of size .6 with colours that are different everywhere."""
    low, high = solid.box
    vertices = 0.6 * (solid.vertices - (low + high) / 2) / (high - low).max()
    colors = 0.5 + 0.4 * np.sin(9 * vertices + np.array([0.0, 1.0, 2.0]))
    return vertices.astype(np.float32), solid.faces.astype(np.int32), colors.astype(np.float32)


VASE = colored(lathe([(0, 0), (0.3, 0), (0.45, 0.4), (0.2, 0.8), (0.25, 1), (0, 1)], 60))
BRICK = colored(box(24).scaled(1.0, 0.5, 0.35))


def views_of(thing: Thing) -> ViewSet:
    images, alphas = thing.draw(CAMERAS)
    return ViewSet(to_bytes(255 * images), to_bytes(255 * alphas), CAMERAS, "truth")


@pytest.mark.parametrize("scale", [1.2, 0.7])
@pytest.mark.parametrize("truth", [VASE, BRICK], ids=["vase", "brick"])
def test_the_true_object_elsewhere_and_larger_is_found(truth, scale):
    vertices, faces, colors = truth
    moved = mesh_thing((vertices * scale + SHIFT).astype(np.float32), faces, colors)
    found = likeness(moved, views_of(mesh_thing(*truth)))
    assert found.psnr >= 30
    assert found.iou > 0.98
    assert found.similarity.scale == pytest.approx(1 / scale, rel=0.01)
    assert found.similarity.shift == pytest.approx(-SHIFT / scale, abs=0.006)


def test_another_object_stays_another_object():
    assert likeness(mesh_thing(*BRICK), views_of(mesh_thing(*VASE))).psnr < 20


def test_an_object_that_is_turned_is_not_turned_back():
    vertices, faces, colors = BRICK
    turned = mesh_thing(np.ascontiguousarray(vertices[:, [1, 0, 2]]), faces, colors)
    assert likeness(turned, views_of(mesh_thing(*BRICK))).psnr < 20


def test_splats_are_found_as_well():
    model = shell("torus", 900)
    # So wide that there is a surface and not a cloud of dots.
    model = replace(model, log_scales=model.log_scales + np.float32(1.2))
    truth = views_of(splat_thing(model))
    moved = replace(
        model,
        means=(1.2 * model.means + SHIFT).astype(np.float32),
        log_scales=model.log_scales + np.float32(np.log(1.2)),
    )
    found = likeness(splat_thing(moved), truth)
    assert found.psnr >= 30
    assert found.similarity.scale == pytest.approx(1 / 1.2, rel=0.01)


def test_a_moved_camera_sees_what_a_moved_object_shows():
    vertices, faces, colors = VASE
    similarity = Similarity(1.3, SHIFT)
    goes_to = (similarity.scale * vertices + similarity.shift).astype(np.float32)
    moved_object = mesh_thing(goes_to, faces, colors).draw(CAMERAS)
    moved_camera = mesh_thing(*VASE).draw(similarity.seen_by(CAMERAS))
    for one, other in zip(moved_object, moved_camera, strict=True):
        # Rounding moves a sample at an edge from one face to the next here and there.
        assert np.abs(one - other).mean() < 1e-4


def test_nothing_to_be_seen_is_a_score_and_no_error():
    vertices, faces, colors = VASE
    far = mesh_thing(vertices + np.float32(40), faces, colors)
    assert np.isfinite(likeness(far, views_of(mesh_thing(*BRICK))).psnr)
