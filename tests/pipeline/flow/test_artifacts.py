import time
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import ModelFailed
from pipeline.file_types import media_type
from pipeline.flow.artifacts import (
    decode_depths,
    decode_views,
    encode_depths,
    encode_views,
)
from pipeline.types import DepthMaps
from tests.fakes import some_views


def test_views_come_back_bit_for_bit():
    views = replace(
        some_views(), auxiliary=some_views().select([1, 2]), photo=some_views().select([7])
    )
    files = encode_views(views)
    assert {f"{i:02d}.png" for i in range(16)} < set(files)
    back = decode_views(files)
    np.testing.assert_array_equal(back.images, views.images)
    np.testing.assert_array_equal(back.alphas, views.alphas)
    np.testing.assert_array_equal(back.surface_depth, views.surface_depth)
    np.testing.assert_array_equal(back.cameras.viewmats, views.cameras.viewmats)
    assert (back.engine, back.notes) == (views.engine, views.notes)
    assert views.auxiliary is not None
    assert back.auxiliary is not None
    np.testing.assert_array_equal(back.auxiliary.images, views.auxiliary.images)
    np.testing.assert_array_equal(back.auxiliary.surface_depth, views.auxiliary.surface_depth)
    assert back.photo is not None
    np.testing.assert_array_equal(back.photo.images, some_views().images[7:8])
    np.testing.assert_array_equal(back.photo.alphas, some_views().alphas[7:8])
    np.testing.assert_array_equal(back.photo.cameras.viewmats, some_views().cameras.viewmats[7:8])
    bare = decode_views(encode_views(some_views()))
    assert bare.auxiliary is None
    assert bare.photo is None


def test_equal_values_make_equal_bytes_at_any_time_and_in_any_order_in_memory(monkeypatch):
    views = replace(some_views(), photo=some_views().select([7]))
    depth = np.random.default_rng(0).random((2, 16, 12)).astype(np.float32)
    maps = DepthMaps(depth, depth, "test")
    first = encode_views(views) | encode_depths(maps)
    turned = np.ascontiguousarray(depth.transpose(0, 2, 1)).transpose(0, 2, 1)
    alphas = np.asfortranarray(views.alphas)
    with monkeypatch.context() as later:
        later.setattr(time, "localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
        second = encode_views(replace(views, alphas=alphas))
        second |= encode_depths(DepthMaps(turned, turned, "test"))
    assert first == second


def test_depth_maps_come_back_bit_for_bit_and_have_a_heat_map_each():
    rng = np.random.default_rng(0)
    depth = rng.random((3, 16, 16), np.float32)
    maps = DepthMaps(depth, (depth > 0.5).astype(np.float32), "test")
    files = encode_depths(maps)
    assert {"00.png", "01.png", "02.png"} < set(files)
    back = decode_depths(files)
    np.testing.assert_array_equal(back.depth, depth)
    np.testing.assert_array_equal(back.confidence, maps.confidence)


@pytest.mark.parametrize("gone", ["05.png", "geometry.npz"])
def test_a_missing_file_is_named(gone):
    files = encode_views(some_views())
    del files[gone]
    with pytest.raises(ModelFailed, match=gone):
        decode_views(files)


def test_every_file_has_a_media_type():
    for name in encode_views(some_views()):
        assert media_type(name) in ("image/png", "application/octet-stream")
    assert media_type("v0.ply") == media_type("unknown") == "application/octet-stream"
