"""What a telephone and a background remover do to a clean picture of an object, for training.

It does not know what the object is, how it was rendered, or where its surface lies; it moves no
outline as a whole: a cut-out is not framed again after a tip is lost or a shadow kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
Picture = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

#: Lengths are in pixels of the frame as the network looks at it (128, the object 100 long); what it
#: sees is the middle of it, this many of them wide.
MIDDLE = 112
#: One picture in three stays as a good photo and a good matte leave it.
NEARLY_CLEAN_SHARE = 1 / 3
#: A matte that agrees with the true outline less than this is taken back: the remover would have
#: missed the object, and the user would have taken another photo.
LEAST_OVERLAP = 0.7
#: Pixels at least this opaque show the object's own colour; the product believes no others.
SURE_ALPHA = 240 / 255


def spoil(rgb: Picture, alpha: Plane, rng: np.random.Generator) -> tuple[Picture, Plane]:
    """A clean cut-out as it would have come from a photo of the object.

    Everything random is drawn from `rng`. How often and how far the matte errs follows what
    `matte_statistics` measures of the product's remover.

    Args:
        rgb: float32 [S, S, 3] in 0..1, the object's colours; only those where alpha is at least
            1/255 are looked at.
        alpha: float32 [S, S] in 0..1, the true share of each pixel that the object covers.
        rng: where everything random comes from.

    Returns:
        Colours and alpha of the same shapes and types, in 0..1. Transparent pixels carry the
        nearest object colour, as the product's framing leaves them. An object stays an object:
        where alpha was at least 1/2 somewhere, `LEAST_OVERLAP` of it still is.
    """
    colours, matte, _ = spoil_both(rgb, alpha, rgb[:1, :1], rng)
    return colours, matte


def spoil_both(
    rgb: Picture, alpha: Plane, back: Picture, rng: np.random.Generator
) -> tuple[Picture, Plane, Picture]:
    """`spoil`, and the object's back in the colours that the same photo would have given it.

    What is told of an object's back is seen beside its photo: it has the photo's exposure, white
    balance and tones, but none of its blur, noise and faults.

    Args:
        back: float32 [B, B, 3] in 0..1, of any size.

    Returns:
        Colours and alpha as of `spoil`, and the back.
    """
    solid = alpha >= 0.5
    if not solid.any():
        return rgb.copy(), alpha.copy(), back.copy()
    unit = alpha.shape[0] / MIDDLE
    clean = rng.random() < NEARLY_CLEAN_SHARE
    shadow = _contact_shadow(solid, unit, rng)
    ground = _ground(shadow, rng)
    photo = cv2.blendLinear(rgb, ground, alpha, 1 - alpha)
    strength = 0.3 if clean else 1.0
    tones = _draw_tones(rng, strength)
    photo = _photographed(tones.of(photo), rng, strength)
    if clean:
        shift, width = rng.normal(0.02, 0.06), rng.uniform(1.0, 1.6)
        matte = _soft_edges(_depth(solid, alpha), shift * unit, width * unit)
    else:
        matte = _removed(alpha, solid, shadow, unit, rng)
    if _overlap(matte, solid) < LEAST_OVERLAP:
        matte = alpha.copy()
    return _extended(photo, matte), matte, np.clip(tones.of(back), 0, 1)


# ------------------------------------------------------------------ what the telephone does
def _ground(shadow: Plane, rng: np.random.Generator) -> Picture:
    """A plain ground of slowly changing brightness with the object's shadow, float32 [S, S, 3]."""
    colour = np.clip(rng.uniform(0.15, 0.95) + rng.normal(0, 0.08, 3), 0, 1).astype(np.float32)
    light = 1 + np.float32(rng.uniform(0, 0.15)) * _slow_noise(shadow.shape[0], 3, rng)
    light *= 1 - np.float32(rng.uniform(0.2, 0.8)) * shadow
    ground: Picture = cv2.merge([light * part for part in colour])
    return ground


@dataclass(frozen=True)
class _Tones:
    """Exposure, white balance and curve of a telephone, and how colourful its pictures are.

    Attributes:
        table: float32 [256, 1, 3], what becomes of 256 levels.
        mixing: float32 [3, 3], of the three colours after that.
    """

    table: Picture
    mixing: Picture

    def of(self, picture: Picture) -> Picture:
        """A picture [H, W, 3] of 0..1 in these tones; a little below 0 or above 1 in places."""
        levels: Bytes = cv2.convertScaleAbs(picture, alpha=255)
        toned: Picture = cv2.transform(cv2.LUT(levels, self.table), self.mixing)
        return toned


def _draw_tones(rng: np.random.Generator, strength: float) -> _Tones:
    table = _tone_table(rng, strength)
    grey = np.float32(rng.normal(0, 0.15) * strength)
    return _Tones(table, (1 - grey) * np.eye(3, dtype=np.float32) + grey / 3)


def _photographed(values: Picture, rng: np.random.Generator, strength: float) -> Picture:
    """Blur or sharpening, noise and JPEG of a picture in its tones; float32 0..1.

    `strength` 1 is an ordinary telephone in a room, less is kinder.
    """
    optics = rng.random()
    if optics < 0.45 * strength:
        values = cv2.GaussianBlur(values, (5, 5), rng.uniform(0.3, 0.9))
    noise = max(0.0, rng.normal(0.0, 0.018)) * strength
    if noise > 0.002:
        grain = rng.standard_normal(values.shape, np.float32)
        grain *= np.float32(noise)
        if rng.random() < 0.5:  # denoised by the telephone: blotches instead of points
            grain = 2 * cv2.GaussianBlur(grain, (5, 5), 0.9)
        values += grain
    if optics > 1 - 0.3 * strength:
        amount = rng.uniform(0.2, 0.9)
        soft = cv2.GaussianBlur(values, (5, 5), 1.0)
        values = cv2.addWeighted(values, 1 + amount, soft, -amount, 0)
    if rng.random() < 0.35 * strength:
        quality = int(rng.integers(45, 92))
        coded = cv2.convertScaleAbs(np.maximum(values, 0), alpha=255)
        _, stream = cv2.imencode(".jpg", coded, [cv2.IMWRITE_JPEG_QUALITY, quality])
        values = np.asarray(cv2.imdecode(stream, cv2.IMREAD_COLOR), np.float32)
        values /= 255
    np.clip(values, 0, 1, out=values)
    return values


def _tone_table(rng: np.random.Generator, strength: float) -> Picture:
    """What exposure, white balance and the camera's curve make of 256 levels, [256, 1, 3]."""
    levels = np.linspace(0, 1, 256)[:, None]
    # The camera's errors are of light, the picture's values are roots of it.
    gains = 2.0 ** ((rng.normal(0, 0.35) + rng.normal(0, 0.10, 3)) * strength / 2.2)
    curve = np.clip(levels * gains, 0, 1) ** np.exp(rng.normal(0, 0.15) * strength)
    bend = rng.uniform(-0.3, 0.6) * strength
    curve = (1 - bend) * curve + bend * curve * curve * (3 - 2 * curve)
    curve = curve + rng.uniform(-0.02, 0.05) * strength * (1 - curve)
    table: Picture = np.clip(curve, 0, 1).astype(np.float32)[:, None]
    return table


# ------------------------------------------------------------------ what the remover does
@dataclass(frozen=True)
class _Chances:
    """How often each fault is made in a picture that is not nearly clean."""

    holes_filled: float = 0.35
    thin_parts_lost: float = 0.25
    tip_lost: float = 0.08
    bitten: float = 0.06
    shadow_kept: float = 0.12
    faint_inside: float = 0.1
    haze: float = 0.12
    outline_uncertain: float = 0.25


CHANCES = _Chances()


def _removed(
    alpha: Plane, solid: Mask, shadow: Plane, unit: float, rng: np.random.Generator
) -> Plane:
    """The true alpha with the faults of a small network's matte."""
    side = alpha.shape[0]
    found = solid.astype(np.uint8)
    if rng.random() < CHANCES.holes_filled:
        found = _without_small_holes(found, rng.uniform(0.005, 0.08))
        size = rng.uniform(0, 2.5) * unit
        found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, _disc(size))
    if rng.random() < CHANCES.thin_parts_lost:
        found = _without_thin_parts(found, rng.uniform(0.6, 2.6) * unit, rng)
    if rng.random() < CHANCES.shadow_kept:
        found |= (shadow > rng.uniform(0.3, 0.8)).astype(np.uint8)

    depth = _depth(found.astype(bool), alpha)
    # Where object and ground differ the outline is good to a fifth of a pixel, else to one.
    doubt = rng.uniform(1.5, 4.0) if rng.random() < CHANCES.outline_uncertain else 1.0
    depth += np.float32(rng.normal(0.05, 0.17) * doubt * unit)
    wave = np.float32(abs(rng.normal(0, 0.2)) * doubt * unit)
    depth += wave * _slow_noise(side, int(rng.integers(8, 28)), rng)
    width = 1.2 * np.exp(abs(rng.normal(0, 0.18)) * doubt)
    matte = _soft_edges(depth, 0.0, min(width, 4.5) * unit)

    if rng.random() < CHANCES.tip_lost:
        matte *= _fading_end(solid, unit, rng)
    if rng.random() < CHANCES.bitten:
        matte *= 1 - _spot(solid, rng.uniform(0.03, 0.11), rng)
    if rng.random() < CHANCES.faint_inside:
        matte *= 1 - np.float32(rng.uniform(0.05, 0.5)) * _spot(solid, rng.uniform(0.1, 0.3), rng)
    if rng.random() < CHANCES.haze:
        matte = np.maximum(matte, _haze(solid, unit, rng))
    return np.clip(matte, 0, 1).astype(np.float32, copy=False)


def _depth(solid: Mask, alpha: Plane) -> Plane:
    """Signed distance to the outline in pixels, positive inside, float32 [S, S].

    Where the outline is the true one, alpha places it between the pixels.
    """
    inner = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5)
    outer = cv2.distanceTransform((~solid).astype(np.uint8), cv2.DIST_L2, 5)
    depth = np.where(solid, inner - 0.5, 0.5 - outer).astype(np.float32)
    rim = (np.abs(depth) < 1) & ((alpha >= 0.5) == solid)
    finer = np.where(rim, alpha - np.float32(0.5), depth)
    smooth: Plane = cv2.GaussianBlur(finer, (3, 3), 0.5)
    return smooth


def _soft_edges(depth: Plane, shift: float, width: float) -> Plane:
    """Alpha that rises over `width` pixels round the outline moved outwards by `shift`."""
    ramp = np.clip((depth + np.float32(shift)) / np.float32(width) + np.float32(0.5), 0, 1)
    soft: Plane = ramp.astype(np.float32, copy=False)
    return soft


def _without_small_holes(found: Bytes, largest_share: float) -> Bytes:
    """Holes up to this share of the object become object: handles, gaps between legs."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - found, connectivity=4)
    side = found.shape[0]
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    inside = (left > 0) & (top > 0) & (right < side) & (bottom < side)
    filled = inside & (stats[:, cv2.CC_STAT_AREA] <= largest_share * found.sum())
    filled[0] = False  # label 0 is what is no hole: the object
    return found | filled[labels].astype(np.uint8) if count > 1 else found


def _without_thin_parts(found: Bytes, radius: float, rng: np.random.Generator) -> Bytes:
    """What is thinner than `radius` to either side goes, everywhere or on one side only."""
    thick = cv2.morphologyEx(found, cv2.MORPH_OPEN, _disc(radius))
    if rng.random() < 0.5:
        near = _slow_noise(found.shape[0], 3, rng) > rng.uniform(-1, 1)
        thick = np.where(near, thick, found)
    return _without_litter(thick) if thick.any() else found


def _without_litter(found: Bytes) -> Bytes:
    """Parts below a tenth of the largest are dropped, as the product does."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    if count <= 2:
        return found
    sizes = stats[:, cv2.CC_STAT_AREA].copy()
    sizes[0] = 0
    kept: Bytes = (sizes >= 0.1 * sizes.max())[labels].astype(np.uint8)
    return kept


def _fading_end(solid: Mask, unit: float, rng: np.random.Generator) -> Plane:
    """0 beyond a line that cuts a tip off, 1 before it, with a soft step."""
    rows, columns = np.nonzero(solid)
    angle = rng.uniform(0, 2 * np.pi)
    across, down = np.cos(angle), np.sin(angle)
    reach = columns * across + rows * down
    end = np.quantile(reach, 1 - rng.uniform(0.005, 0.04))
    index = np.arange(solid.shape[0], dtype=np.float32)
    place = index[None, :] * np.float32(across) + index[:, None] * np.float32(down)
    return _soft_edges((end - place).astype(np.float32), 0.0, rng.uniform(1, 6) * unit)


def _spot(solid: Mask, radius_share: float, rng: np.random.Generator) -> Plane:
    """A soft irregular spot somewhere on the object, 0..1; its radius in sides of the picture."""
    side = solid.shape[0]
    places = np.flatnonzero(solid)
    row, column = divmod(int(places[rng.integers(len(places))]), side)
    index = np.arange(side, dtype=np.float32)
    stretch = rng.uniform(0.5, 1.0, 2)
    radius = np.hypot(
        (index[:, None] - row) * np.float32(stretch[0]),
        (index[None, :] - column) * np.float32(stretch[1]),
    )
    size = radius_share * side
    uneven = 0.4 * size * _slow_noise(side, 6, rng)
    return _soft_edges((0.6 * size - radius + 0.5 * uneven).astype(np.float32), 0.0, 0.4 * size)


def _haze(solid: Mask, unit: float, rng: np.random.Generator) -> Plane:
    """Faint alpha around the object: mostly below one half, sometimes above on one side."""
    reach = rng.uniform(2.0, 7.0) * unit
    near = _blurred(solid.astype(np.float32), reach)
    level = rng.uniform(0.03, 0.45) if rng.random() < 0.8 else rng.uniform(0.4, 0.9)
    patch = np.clip(0.3 + 0.7 * _slow_noise(solid.shape[0], int(rng.integers(3, 7)), rng), 0, 1)
    faint: Plane = (np.float32(level) * np.minimum(2 * near, 1) * patch).astype(np.float32)
    return faint


# ------------------------------------------------------------------ what both need
def _contact_shadow(solid: Mask, unit: float, rng: np.random.Generator) -> Plane:
    """How dark the ground below the object is, float32 [S, S] in 0..1, also under the object."""
    side = solid.shape[0]
    rows = np.flatnonzero(solid.any(1))
    top, bottom = int(rows[0]), int(rows[-1])
    # The lower part of the object, moved down and aside: where it stands is where it is dark.
    share = rng.uniform(0.05, 0.3)
    foot = np.zeros((side, side), np.float32)
    start = bottom - max(1, round(share * (bottom - top)))
    foot[start : bottom + 1] = solid[start : bottom + 1]
    aside, down = rng.normal(0, 4) * unit, rng.uniform(0, 3) * unit
    move = np.array([[1, 0, aside], [0, 1, down]], np.float32)
    foot = cv2.warpAffine(foot, move, (side, side))
    dark: Plane = np.minimum(1.5 * _blurred(foot, rng.uniform(1.5, 4.0) * unit), 1)
    return dark


def _extended(rgb: Picture, alpha: Plane) -> Picture:
    """Colours of surely opaque pixels inside the rim, elsewhere the nearest of them."""
    sure = (alpha >= SURE_ALPHA).astype(np.uint8)
    inner = (cv2.distanceTransform(sure, cv2.DIST_L2, 3) > 1.0).astype(np.uint8)
    # A part thinner than the rim keeps its colours.
    known = inner | (sure & (1 - cv2.dilate(inner, np.ones((5, 5), np.uint8))))
    if not known.any():
        known = (alpha >= min(0.5, float(alpha.max()))).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        1 - known, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Labels count the known pixels from 1, in an order of OpenCV's own.
    places = np.zeros(int(nearest.max()) + 1, np.int64)
    flat = np.flatnonzero(known)
    places[nearest.ravel()[flat]] = flat
    return np.take(rgb.reshape(-1, 3), places[nearest], axis=0)


def _slow_noise(side: int, cells: int, rng: np.random.Generator) -> Plane:
    """Smooth noise of about unit size, float32 [side, side], with `cells` hills across."""
    coarse = rng.standard_normal((cells + 1, cells + 1), np.float32)
    smooth: Plane = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return smooth


def _blurred(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur, made at half size where it is wide: it is the dearest step else."""
    if sigma < 2:
        soft: Plane = cv2.GaussianBlur(plane, (0, 0), sigma)
        return soft
    side = plane.shape[0]
    half = cv2.resize(plane, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
    half = cv2.GaussianBlur(half, (0, 0), sigma / 2)
    wide: Plane = cv2.resize(half, (side, side), interpolation=cv2.INTER_LINEAR)
    return wide


def _disc(radius: float) -> Bytes:
    """Structuring element of a real-valued radius in pixels, uint8 [2k + 1, 2k + 1]."""
    k = int(np.ceil(radius))
    index = np.arange(-k, k + 1)
    disc: Bytes = (np.hypot(index[:, None], index[None, :]) <= radius + 0.25).astype(np.uint8)
    return disc


def _overlap(matte: Plane, solid: Mask) -> float:
    """Intersection over union of the outlines at one half."""
    found = matte >= 0.5
    return float((found & solid).sum()) / float((found | solid).sum())
