import io
import time
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import ModelFailed, OutOfMemory
from pipeline.file_types import media_type
from pipeline.flow.artifacts import (
    decode_depths,
    decode_registered,
    decode_views,
    encode_depths,
    encode_registered,
    encode_views,
)
from pipeline.imaging.decoding import encode_png
from pipeline.requests import RegisteredPhotos
from pipeline.types import DepthMaps, PhotoRegistration
from tests.fakes import some_views


def test_views_come_back_bit_for_bit():
    views = replace(
        some_views(), auxiliary=some_views().select([1, 2]), photos=some_views().select([7])
    )
    files = encode_views(views)
    assert {f"{i:02d}.png" for i in range(16)} < set(files)
    back = decode_views(files)
    np.testing.assert_array_equal(back.images, views.images)
    np.testing.assert_array_equal(back.alphas, views.alphas)
    np.testing.assert_array_equal(back.surface_depth, views.surface_depth)
    np.testing.assert_array_equal(back.cameras.viewmats, views.cameras.viewmats)
    assert (back.engine, back.notes, back.estimate) == (views.engine, views.notes, views.estimate)
    np.testing.assert_array_equal(back.surface_confidence, views.surface_confidence)
    assert views.auxiliary is not None
    assert back.auxiliary is not None
    np.testing.assert_array_equal(back.auxiliary.images, views.auxiliary.images)
    np.testing.assert_array_equal(back.auxiliary.surface_depth, views.auxiliary.surface_depth)
    assert back.photos is not None
    np.testing.assert_array_equal(back.photos.images, some_views().images[7:8])
    np.testing.assert_array_equal(back.photos.alphas, some_views().alphas[7:8])
    np.testing.assert_array_equal(back.photos.cameras.viewmats, some_views().cameras.viewmats[7:8])
    np.testing.assert_array_equal(back.auxiliary.surface_confidence, depth_of([1, 2]) / 2)
    assert some_views().estimate is not None
    given = replace(some_views().estimate, elevation_error_deg=None)
    assert decode_views(encode_views(replace(views, estimate=given))).estimate == given


def test_how_the_photos_were_registered_comes_back():
    found = PhotoRegistration(0, True, 0.8, 0.0, 12.5, 0.0, 1.1, 0.97, 0.02, None, 2.0, 0.01)
    lost = replace(found, photo=1, accepted=False, trust=0.0, note="Photo 1 was left out.")
    views = replace(some_views(), photos=some_views().select([7]), registrations=(found, lost))
    back = decode_views(encode_views(views))
    assert back.registrations == (found, lost)
    np.testing.assert_allclose(back.photo_trust, [0.8])
    assert decode_views(encode_views(replace(views, registrations=()))).photo_trust == [1.0]


def test_registered_photos_come_back_and_take_the_place_of_those_of_the_engine():
    found = PhotoRegistration(0, True, 0.8, 0.0, 12.5, 0.0, 1.1, 0.97, 0.02, None, 2.0, 0.01)
    seen = some_views().estimate
    registered = RegisteredPhotos(some_views().select([3]), (found,), ("A note.",), seen)
    files = encode_registered(registered)
    back = decode_registered(files)
    assert (back.registrations, back.notes, back.estimate) == ((found,), ("A note.",), seen)
    views = replace(some_views(), photos=some_views().select([7]), estimate=None)
    shown = decode_views(encode_views(views) | files)
    assert shown.photos is not None
    np.testing.assert_array_equal(shown.photos.images, some_views().images[3:4])
    assert shown.notes == (*views.notes, "A note.")
    assert shown.estimate == seen


def depth_of(indices):
    depth = some_views().surface_depth
    assert depth is not None
    return depth[indices]


def test_what_views_lack_has_no_entry_and_files_of_before_are_read():
    bare = replace(some_views(), surface_confidence=None, estimate=None)
    with np.load(io.BytesIO(encode_views(bare)["geometry.npz"])) as archive:
        assert sorted(archive.files) == sorted(
            ["alphas", "viewmats", "intrinsics", "size", "surface_depth", "engine", "notes"]
        )
    back = decode_views(encode_views(bare))
    assert back.auxiliary is back.photos is back.surface_confidence is back.estimate is None


def test_equal_values_make_equal_bytes_at_any_time_and_in_any_order_in_memory(monkeypatch):
    views = replace(some_views(), photos=some_views().select([7]))
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
    assert back.notes == ()
    noted = encode_depths(replace(maps, notes=("View 3 has no depth.",)))
    assert decode_depths(noted).notes == ("View 3 has no depth.",)
    assert {name for name in files if noted[name] != files[name]} == {"confidence.npz"}


@pytest.mark.parametrize("gone", ["05.png", "geometry.npz"])
def test_a_missing_file_is_named(gone):
    files = encode_views(some_views())
    del files[gone]
    with pytest.raises(ModelFailed, match=gone):
        decode_views(files)


VIEWS = encode_registered(RegisteredPhotos(some_views().select([3]), ())) | encode_views(
    replace(some_views(), auxiliary=some_views().select([1]), photos=some_views().select([7]))
)
DEPTHS = encode_depths(DepthMaps(np.ones((2, 8, 8), "f4"), np.ones((2, 8, 8), "f4"), "test"))


def spoil(data: bytes, how: str) -> bytes:
    if how == "empty":
        return b""
    if how == "foreign":
        return b"<html>502 Bad Gateway</html>"
    if how == "changed":
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
    return data[: -int(how)]


@pytest.mark.parametrize("how", ["empty", "foreign", "changed", "1", "4", "13", "20", "200"])
@pytest.mark.parametrize(
    ("decode", "files", "name"),
    [(decode_views, VIEWS, name) for name in ("03.png", *(n for n in VIEWS if "npz" in n))]
    + [(decode_depths, DEPTHS, name) for name in ("01.npy", "confidence.npz")],
)
def test_a_damaged_file_is_an_error_of_the_store_and_named(decode, files, name, how):
    damaged = spoil(files[name], how)
    if how == "changed" and name.endswith("npy"):
        pytest.skip("a .npy has no checksum")
    with pytest.raises(ModelFailed, match=f"stored {name} is damaged"):
        decode(files | {name: damaged})


@pytest.mark.parametrize(
    ("place", "name"),
    [("numpy.load", "geometry.npz"), ("PIL.PngImagePlugin.PngImageFile.load", "00.png")],
)
def test_a_full_machine_says_nothing_about_a_file(monkeypatch, place, name):
    def full(*_args, **_kwargs):
        raise MemoryError

    files = encode_views(some_views())
    monkeypatch.setattr(place, full)
    with pytest.raises(OutOfMemory, match=f"stored {name} did not fit"):
        decode_views(files)


def test_files_that_do_not_belong_together_are_an_error_of_the_store():
    with pytest.raises(ModelFailed, match=r"geometry.npz is damaged: images .* and alphas"):
        small = {f"{i:02d}.png": encode_png(np.zeros((8, 8, 3), np.uint8)) for i in range(16)}
        decode_views(VIEWS | small)
    odd = replace(some_views(), surface_confidence=np.ones((16, 8, 8), np.float32))
    with pytest.raises(
        ModelFailed, match=r"geometry.npz is damaged: surface_confidence \(16, 8, 8"
    ):
        decode_views(encode_views(odd))
    with pytest.raises(ModelFailed, match=r"confidence.npz is damaged"):
        decode_depths(DEPTHS | {"confidence.npz": VIEWS["geometry.npz"]})
    wide = encode_depths(DepthMaps(np.ones((2, 8, 9), "f4"), np.ones((2, 8, 9), "f4"), "test"))
    with pytest.raises(ModelFailed, match=r"00.npy is damaged: depth"):
        decode_depths(DEPTHS | {"00.npy": wide["00.npy"]})


def test_every_file_has_a_media_type():
    for name in encode_views(some_views()):
        assert media_type(name) in ("image/png", "application/octet-stream")
    assert media_type("v0.ply") == media_type("unknown") == "application/octet-stream"
