"""How views and depth maps become files and come back, bit for bit; equal ones make equal files.

It knows file names relative to a project and their bytes, not where they are stored.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import GlimpseError, ModelFailed, OutOfMemory
from pipeline.imaging.decoding import decode_png, encode_png
from pipeline.imaging.heat_map import heat_map
from pipeline.requests import Generated, KeptLatent, RegisteredPhotos
from pipeline.types import (
    CameraEstimate,
    Cameras,
    DepthMaps,
    PhotoRegistration,
    SplatModel,
    UInt8Array,
    ViewSet,
)

_AUXILIARY = "auxiliary.npz"
_PHOTOS = "photos.npz"
_REGISTERED = "registered.npz"

#: What a generator keeps of its pass; `models/` holds it beside the model.
LATENT_FILE = "latent.npz"

#: What an engine knows of its own surface, float32 [V, H, W].
_SURFACE = ("surface_depth", "surface_confidence")

#: Of every entry of an .npz: the first moment that a zip can hold.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def encode_views(views: ViewSet) -> dict[str, bytes]:
    """`00.png`.. (on white), `geometry.npz` (alphas, cameras, surface depth and its confidence, the
    estimate of the photo's camera), and `auxiliary.npz` and `photos.npz` (the same with images,
    of the auxiliary views and the photos, where there are any, and how these were registered)."""
    files = {f"{i:02d}.png": encode_png(image) for i, image in enumerate(views.images)}
    files["geometry.npz"] = _npz(
        **_geometry(views),
        **_estimate(views.estimate),
        **({"struck": np.array(views.struck, np.int64)} if views.struck else {}),
        **({"drawn": np.array(True)} if views.drawn else {}),
        engine=np.array(views.engine),
        notes=np.array(views.notes, np.str_),
    )
    if views.auxiliary is not None:
        files[_AUXILIARY] = _npz(**_geometry(views.auxiliary), images=views.auxiliary.images)
    return files | encode_photos(views)


def encode_photos(views: ViewSet) -> dict[str, bytes]:
    """`photos.npz`: the photos with their cameras and how they were registered; nothing where there
    is no photo."""
    if views.photos is None:
        return {}
    return {_PHOTOS: _npz(**_photos(views.photos, views.registrations))}


def encode_registered(found: RegisteredPhotos) -> dict[str, bytes]:
    """`registered.npz`: as `photos.npz`, after the registration, with its notes and estimate."""
    arrays = _photos(found.photos, found.registrations)
    notes = np.array(found.notes, np.str_)
    engine = np.array(found.photos.engine)
    return {_REGISTERED: _npz(**arrays, **_estimate(found.estimate), notes=notes, engine=engine)}


def decode_registered(files: Mapping[str, bytes]) -> RegisteredPhotos:
    """Inverse of `encode_registered`. Raises ModelFailed when the file is missing or damaged."""
    stored = _load_npz(files, _REGISTERED)
    with _reading(_REGISTERED):
        photos = _views(stored["images"].astype(np.uint8), stored, str(stored["engine"]))
        notes = tuple(str(note) for note in stored["notes"])
        estimate = _read_estimate(stored.get("estimate"))
    return RegisteredPhotos(photos, _registrations(files, _REGISTERED), notes, estimate)


def encode_generated(made: Generated) -> dict[str, bytes]:
    """`latent.npz`: everything of a generator's pass but the model, which has a file of its own."""
    kept, photos = made.latent, made.photos
    of_photos: dict[str, npt.NDArray[Any]] = {}
    if photos is not None:
        of_photos = _photos(photos.photos, photos.registrations)
        of_photos |= _estimate(photos.estimate)
        of_photos["photo_notes"] = np.array(photos.notes, np.str_)
    said = {"engine": kept.engine, "decode_seed": kept.decode_seed, "settings": kept.settings}
    return {
        LATENT_FILE: _npz(
            latent=kept.latent,
            latent_cameras=kept.cameras,
            latent_said=np.array(json.dumps(said, sort_keys=True)),
            engine=np.array(made.engine),
            notes=np.array(made.notes, np.str_),
            **of_photos,
        )
    }


def decode_generated(files: Mapping[str, bytes], model: SplatModel) -> Generated:
    """Inverse of `encode_generated`. Raises ModelFailed when the file is missing or damaged."""
    stored = _load_npz(files, LATENT_FILE)
    latent, photos = _latent(stored), None
    with _reading(LATENT_FILE):
        engine, notes = str(stored["engine"]), tuple(str(note) for note in stored["notes"])
        if "images" in stored:
            photos = RegisteredPhotos(
                _views(stored["images"].astype(np.uint8), stored, engine),
                _registrations(files, LATENT_FILE),
                tuple(str(note) for note in stored["photo_notes"]),
                _read_estimate(stored.get("estimate")),
            )
    return Generated(model, latent, photos, engine, notes)


def decode_latent(files: Mapping[str, bytes]) -> KeptLatent:
    """What another model can be made of. Raises ModelFailed as `decode_generated`."""
    return _latent(_load_npz(files, LATENT_FILE))


def _latent(stored: Mapping[str, npt.NDArray[Any]]) -> KeptLatent:
    with _reading(LATENT_FILE):
        said = json.loads(str(stored["latent_said"]))
        return KeptLatent(
            latent=stored["latent"].astype(np.float32),
            cameras=stored["latent_cameras"].astype(np.float32),
            **said,
        )


def _photos(
    photos: ViewSet, registrations: tuple[PhotoRegistration, ...]
) -> dict[str, npt.NDArray[Any]]:
    said = json.dumps([asdict(found) for found in registrations], sort_keys=True)
    registered = {"registrations": np.array(said)} if registrations else {}
    return {**_geometry(photos), "images": photos.images, **registered}


def decode_views(files: Mapping[str, bytes]) -> ViewSet:
    """Inverse of `encode_views`; with `registered.npz` the photos are those.

    Raises ModelFailed when a file is missing or damaged.
    """
    geometry = _load_npz(files, "geometry.npz")
    with _reading("geometry.npz"):
        names = [f"{i:02d}.png" for i in range(len(geometry["alphas"]))]
        engine, notes = str(geometry["engine"]), tuple(str(note) for note in geometry["notes"])
    missing = [name for name in names if name not in files]
    if missing:
        raise ModelFailed.openly(f"The stored views are incomplete: {missing[0]} is missing.")
    images = []
    for name in names:
        with _reading(name):
            images.append(decode_png(files[name]))
    with _reading("geometry.npz"):
        views = _views(np.stack(images), geometry, engine)
        estimate = _read_estimate(geometry.get("estimate"))
        struck = tuple(int(view) for view in geometry.get("struck", ()))
        drawn = bool(geometry.get("drawn", False))
    views = replace(
        views,
        notes=notes,
        estimate=estimate,
        struck=struck,
        drawn=drawn,
        auxiliary=_further(files, _AUXILIARY, engine),
        photos=_further(files, _PHOTOS, engine),
        registrations=_registrations(files, _PHOTOS),
    )
    return decode_registered(files).on(views) if _REGISTERED in files else views


def _further(files: Mapping[str, bytes], name: str, engine: str) -> ViewSet | None:
    """Views that only some projects have."""
    if name not in files:
        return None
    extra = _load_npz(files, name)
    with _reading(name):
        return _views(extra["images"].astype(np.uint8), extra, engine)


def _registrations(files: Mapping[str, bytes], name: str) -> tuple[PhotoRegistration, ...]:
    if name not in files:
        return ()
    said = _load_npz(files, name).get("registrations")
    with _reading(name):
        found = () if said is None else json.loads(str(said))
        return tuple(PhotoRegistration(**numbers) for numbers in found)


#: Files with the photos' cameras, beside the views: as they were registered, and as an engine said.
PHOTO_FILES = (_REGISTERED, _PHOTOS)


def decode_photo_cameras(data: bytes, name: str) -> Cameras:
    """The cameras of one of `PHOTO_FILES`. Raises ModelFailed when it is damaged."""
    photos = _further({name: data}, name, "")
    assert photos is not None, "it was given"
    return photos.cameras


# What only some views have has no entry where it is missing.


def _geometry(views: ViewSet) -> dict[str, npt.NDArray[Any]]:
    surface = {name: getattr(views, name) for name in _SURFACE}
    return {
        "alphas": views.alphas,
        "viewmats": views.cameras.viewmats,
        "intrinsics": views.cameras.intrinsics,
        "size": np.array([views.cameras.width, views.cameras.height]),
        **{name: plane for name, plane in surface.items() if plane is not None},
    }


def _estimate(estimate: CameraEstimate | None) -> dict[str, npt.NDArray[Any]]:
    """Its numbers in the order of its fields; NaN stands for None."""
    if estimate is None:
        return {}
    return {"estimate": np.array([*asdict(estimate).values()], np.float64)}


def _read_estimate(numbers: npt.NDArray[Any] | None) -> CameraEstimate | None:
    """Raises ValueError for another count of numbers."""
    if numbers is None:
        return None
    elevation, elevation_error, focal, focal_error = (float(number) for number in numbers)
    known = None if math.isnan(elevation_error) else elevation_error
    return CameraEstimate(elevation, known, focal, focal_error)


def _views(images: UInt8Array, geometry: dict[str, npt.NDArray[Any]], engine: str) -> ViewSet:
    """Raises ValueError where images and geometry do not belong together."""
    width, height = (int(v) for v in geometry["size"])
    surface = {name: geometry[name].astype(np.float32) for name in _SURFACE if name in geometry}
    alphas = geometry["alphas"]
    shape = (len(geometry["viewmats"]), height, width)
    if images.shape != (*shape, 3) or alphas.shape != shape:
        raise ValueError(f"images {images.shape} and alphas {alphas.shape} of {shape} pixels")
    for name, plane in surface.items():
        if plane.shape != shape:
            raise ValueError(f"{name} {plane.shape} of {shape} pixels")
    return ViewSet(
        images=images,
        alphas=alphas.astype(np.uint8),
        cameras=Cameras(
            geometry["viewmats"].astype(np.float32),
            geometry["intrinsics"].astype(np.float32),
            width,
            height,
        ),
        engine=engine,
        surface_depth=surface.get("surface_depth"),
        surface_confidence=surface.get("surface_confidence"),
    )


def encode_depths(depths: DepthMaps) -> dict[str, bytes]:
    """`00.npy` (float32, world units), `00.png` (heat map) per view, `confidence.npz`."""
    files: dict[str, bytes] = {}
    for i, depth in enumerate(depths.depth):
        buffer = io.BytesIO()
        np.save(buffer, _in_c_order(depth), allow_pickle=False)
        files[f"{i:02d}.npy"] = buffer.getvalue()
        known = np.where(depths.confidence[i] > 0, 255, 0).astype(np.uint8)
        files[f"{i:02d}.png"] = encode_png(heat_map(depth, known))
    # Without notes there is no entry: the file is the one that it was before there were any.
    notes = {"notes": np.array(depths.notes, np.str_)} if depths.notes else {}
    files["confidence.npz"] = _npz(
        confidence=depths.confidence, engine=np.array(depths.engine), **notes
    )
    return files


def decode_depths(files: Mapping[str, bytes]) -> DepthMaps:
    """Inverse of `encode_depths`. Raises ModelFailed when a file is missing or damaged."""
    extra = _load_npz(files, "confidence.npz")
    with _reading("confidence.npz"):
        names = [f"{i:02d}.npy" for i in range(len(extra["confidence"]))]
        confidence, engine = extra["confidence"].astype(np.float32), str(extra["engine"])
        notes = tuple(str(note) for note in extra.get("notes", ()))
    missing = [name for name in names if name not in files]
    if missing:
        raise ModelFailed.openly(f"The stored depth maps are incomplete: {missing[0]} is missing.")
    maps = []
    for name, known in zip(names, confidence, strict=True):
        with _reading(name):
            maps.append(np.load(io.BytesIO(files[name]), allow_pickle=False).astype(np.float32))
            if maps[-1].shape != known.shape:
                raise ValueError(f"depth {maps[-1].shape}, confidence {known.shape}")
    depth = np.stack(maps) if maps else np.zeros_like(confidence)
    return DepthMaps(depth, confidence, engine, notes)


def _npz(**arrays: npt.NDArray[Any]) -> bytes:
    """What `np.savez_compressed` writes, with nothing in it of the clock or the machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o600 << 16
            member = io.BytesIO()
            np.lib.format.write_array(member, _in_c_order(array), allow_pickle=False)
            archive.writestr(entry, member.getvalue())
    return buffer.getvalue()


def _in_c_order(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The format keeps the order in memory, which is no part of the content."""
    return np.asarray(array, order="C")


def _load_npz(files: Mapping[str, bytes], name: str) -> dict[str, npt.NDArray[Any]]:
    if name not in files:
        raise ModelFailed.openly(f"The stored artefacts are incomplete: {name} is missing.")
    with (
        _reading(name),
        np.load(io.BytesIO(files[name]), allow_pickle=False) as archive,
    ):
        return {key: archive[key] for key in archive.files}


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Whatever a damaged file makes of its readers (BadZipFile, zlib.error, KeyError, ValueError,
    ...) leaves the block as ModelFailed that names it; a full machine, which says nothing about the
    file, as OutOfMemory."""
    try:
        yield
    except (OutOfMemory, MemoryError) as error:
        raise OutOfMemory.openly(
            f"The stored {name} did not fit into this machine's memory."
        ) from (error)
    except Exception as error:
        said = error.detail if isinstance(error, GlimpseError) else str(error)
        damaged = f"The stored {name} is damaged"
        raise ModelFailed(f"{damaged}: {said}", public=f"{damaged}.") from error
