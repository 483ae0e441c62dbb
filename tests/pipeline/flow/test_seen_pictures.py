"""Pictures with a tint where no photo saw the surface."""

from __future__ import annotations

import numpy as np

from pipeline.engines.splats.cpu_splats import CpuSplats
from pipeline.flow.local import Laned
from pipeline.flow.seen_pictures import seen_pictures, tinted
from pipeline.geometry.cameras import orbit_cameras, photo_camera
from pipeline.lane import Lane
from tests.oracles.shells import shell


def test_only_what_was_not_seen_is_tinted_and_the_ground_never() -> None:
    images = np.full((1, 2, 2, 3), 255, np.uint8)
    images[0, 0] = 100
    alphas = np.array([[[255, 255], [0, 0]]], np.uint8)
    seen = np.array([[[True, False], [False, False]]])
    drawn = tinted(images, alphas, seen)
    assert drawn[0, 0, 0].tolist() == [100, 100, 100]
    assert drawn[0, 0, 1].tolist() == [118, 79, 132]
    assert (drawn[0, 1] == 255).all()


async def test_the_photographed_side_is_as_it_is_and_the_back_is_violet() -> None:
    cameras = orbit_cameras([0.0, 180.0], [0.0, 0.0], size=64)
    lane = Lane("pictures")
    splats = Laned(CpuSplats(), lane)
    ball = shell("sphere", 6_000)
    front, back = await seen_pictures(ball, cameras, photo_camera(0.0), splats)
    renders = await splats.render(ball, cameras)
    middle = np.s_[24:40, 24:40]
    same = (front[middle] == renders.images[0][middle]).all(axis=-1)
    assert same.mean() > 0.98
    green = back[middle][..., 1].astype(int) - renders.images[1][middle][..., 1]
    assert green.mean() < -10, "violet has little green"
