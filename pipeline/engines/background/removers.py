"""Finds the object in a photo: engines that turn RGB into an alpha channel.

It does not know files, HTTP or what the cut-out is used for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from pipeline.control import Control
from pipeline.cores import worker_threads
from pipeline.errors import InvalidImage
from pipeline.imaging.nearest import nearest_known
from pipeline.imaging.rounding import to_bytes
from pipeline.types import UInt8Array

FloatMask = npt.NDArray[np.float32]

#: u2netp was trained on 320 x 320 pictures normalised like ImageNet.
INPUT_SIZE = 320
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# When is there an object? The network's own probability says it; rembg's result does not, because
# it stretches every prediction to 0..1. Share of pixels with p > 0.9, measured on 29 pictures:
#   no object: white, grey, red, black, paper, gradient, grass, gravel, moon, stars 0; bricks .0008;
#   object: disc of 8 px radius in 320 px .0017, rocket .015, motorcycle .24, coffee .47, cat .57.
SURE_PROBABILITY = 0.9
MIN_SURE_SHARE = 0.0012
#: White noise is foreground everywhere (share 1.0); the largest object of those had .73.
MAX_FOREGROUND_SHARE = 0.985

#: Probabilities below the first are ground, above the second object: removes the haze of .1-.2
#: that u2netp leaves between coins and behind fur, and keeps a soft rim about 3 px of 320 wide.
SOFT_RANGE = (0.2, 0.85)

#: A separate part smaller than this share of the largest one is litter.
MIN_PART_SHARE = 0.1
#: A hole smaller than this share of the object is a fault of the matte; the hole of a mug's
#: handle is 2-5%.
MAX_FAULT_SHARE = 0.004

#: Longest side at which edges are aligned with the photo and GrabCut works.
REFINE_SIDE = 1024
GRABCUT_SIDE = 448


class U2Net:
    """rembg's u2netp session on a local weight file; 0.15 s a picture on two cores."""

    name = "rembg-u2netp"

    def __init__(self, weights: Path, *, threads: int | None = None) -> None:
        """Load the network.

        Args:
            weights: verified path of u2netp.onnx.
            threads: of ONNX Runtime; None takes as many as the process may use.
        """
        self._session = _local_session(weights, threads or worker_threads())

    def remove(self, rgb: UInt8Array, control: Control) -> UInt8Array:
        control.check()
        probability = self._predict(rgb)
        control.step(0.7, "object found")
        sure_share = float((probability > SURE_PROBABILITY).mean())
        if sure_share < MIN_SURE_SHARE:
            raise InvalidImage("The image has no foreground: no object stands out from the ground.")
        low, high = SOFT_RANGE
        matte = clean_mask(np.clip((probability - low) / (high - low), 0.0, 1.0))
        _refuse_full_frame(matte)
        alpha = _align_edges(matte, rgb)
        control.step(1.0, "background removed")
        return alpha

    def _predict(self, rgb: UInt8Array) -> FloatMask:
        """The network's probability of "object", float32 [320, 320], not stretched."""
        feed = self._session.normalize(
            Image.fromarray(rgb), IMAGENET_MEAN, IMAGENET_STD, (INPUT_SIZE, INPUT_SIZE)
        )
        outputs = self._session.inner_session.run(None, feed)
        probability: FloatMask = np.asarray(outputs[0], np.float32)[0, 0]
        return probability


def _local_session(weights: Path, threads: int) -> Any:
    """A rembg session that reads `weights` and never downloads."""
    # rembg compiles pymatting's kernels when it is imported for the first time after an
    # installation (40 s once, then 2 s): not at the import of this module.
    import onnxruntime
    from rembg.sessions.u2netp import U2netpSession

    class LocalSession(U2netpSession):  # type: ignore[misc]  # rembg has no types
        @classmethod
        def download_models(cls, *_args: object, **_kwargs: object) -> str:
            return str(weights)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # its operators run one after another
    options.log_severity_level = 3  # errors only
    return LocalSession("u2netp", options, providers=["CPUExecutionProvider"])


class GrabCut:
    """Colour models of ground and object, cut by max-flow; needs no weights.

    It takes the colours along the frame for the ground, so it wants an object that stands free
    on a plain ground. It is the engine of last resort and its name says so in every manifest.
    """

    name = "grabcut"

    #: Share of the shorter side that is taken for ground along the frame.
    border_share = 0.04
    #: Colour distance to the ground (in its standard deviations) from which a pixel may be object.
    min_distance = 4.0
    #: Radius of the ellipse in the middle that starts as object. Without it GrabCut loses the
    #: saucer of scikit-image's coffee cup and half of the cat; plain grounds do not change.
    centre_share = 0.5
    iterations = 5

    def remove(self, rgb: UInt8Array, control: Control) -> UInt8Array:
        control.check()
        small = _shrink(rgb, GRABCUT_SIDE)
        distance = self._distance_to_ground(small)
        object_share = float((distance > self.min_distance).mean())
        if object_share < MIN_SURE_SHARE:
            raise InvalidImage("The image has no foreground: no object stands out from the ground.")
        control.step(0.2, "colours of the ground measured")

        labels = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
        labels[(distance > self.min_distance) | self._centre(*small.shape[:2])] = cv2.GC_PR_FGD
        border = self._border(small.shape[0], small.shape[1])
        labels[border & (distance <= self.min_distance)] = cv2.GC_BGD
        if not (labels == cv2.GC_PR_FGD).any() or not (labels != cv2.GC_PR_FGD).any():
            raise InvalidImage("The image has no foreground: it is the same everywhere.")
        cv2.setRNGSeed(0)  # its k-means start is random, ours must not be
        ground, figure = np.zeros((1, 65)), np.zeros((1, 65))
        for i in range(self.iterations):
            mode = cv2.GC_INIT_WITH_MASK if i == 0 else cv2.GC_EVAL
            cv2.grabCut(small, labels, None, ground, figure, 1, mode)
            control.step(0.2 + 0.7 * (i + 1) / self.iterations, "cutting")
        found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if float(found.mean()) < MIN_SURE_SHARE:
            raise InvalidImage("The image has no foreground: no object stands out from the ground.")
        _refuse_full_frame(found.astype(np.float32))
        matte = clean_mask(ndimage.gaussian_filter(found.astype(np.float32), 0.8))
        alpha = _align_edges(matte, rgb)
        control.step(1.0, "background removed")
        return alpha

    def _border(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        margin = max(2, round(self.border_share * min(height, width)))
        border = np.ones((height, width), bool)
        border[margin:-margin, margin:-margin] = False
        return border

    def _centre(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Where photographers put the object: an ellipse over the middle half of the frame."""
        y, x = np.mgrid[:height, :width]
        middle = (2 * (x + 0.5) / width - 1) ** 2 + (2 * (y + 0.5) / height - 1) ** 2
        centre: npt.NDArray[np.bool_] = middle < self.centre_share**2
        return centre

    def _distance_to_ground(self, rgb: UInt8Array) -> FloatMask:
        """Mahalanobis distance [H, W] to the nearest of three colours along the frame."""
        lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float32)
        samples = lab[self._border(*rgb.shape[:2])]
        cv2.setRNGSeed(0)
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
        _, members, _ = cv2.kmeans(samples, 3, None, criteria, 2, cv2.KMEANS_PP_CENTERS)
        nearest = np.full(rgb.shape[:2], np.inf, np.float32)
        for cluster in range(3):
            chosen = samples[members[:, 0] == cluster]
            # A cluster that holds less than a fifth of the frame may be the object's cut edge.
            if len(chosen) < max(8, 0.2 * len(samples)):
                continue
            # 9 Lab units squared: JPEG noise on a plain ground must not look like an object.
            spread = np.cov(chosen.T) + 9.0 * np.eye(3)
            offset = lab - chosen.mean(0)
            squared = np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(spread), offset)
            nearest = np.minimum(nearest, np.sqrt(squared).astype(np.float32))
        return nearest


def clean_mask(matte: FloatMask) -> FloatMask:
    """Drop litter and fill faults, keep soft edges.

    Parts (matte > 0.5, 8-connected) below 10% of the largest go, with the soft pixels nearest to
    them. Holes below 0.4% of the object are filled. Real holes (a handle) stay.

    Args:
        matte: float32 [H, W] in 0..1.
    """
    solid = matte > 0.5
    parts, count = ndimage.label(solid, np.ones((3, 3)))
    if count == 0:
        return np.zeros_like(matte)
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.concatenate([[False], sizes >= MIN_PART_SHARE * sizes.max()])
    cleaned = np.where(nearest_known(kept[parts], solid), matte, 0.0).astype(np.float32)

    object_area = int(kept[parts].sum())
    holes, _ = ndimage.label(cleaned <= 0.5)
    hole_sizes = np.bincount(holes.ravel())
    faults = hole_sizes < MAX_FAULT_SHARE * object_area
    faults[0] = False
    outer = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    faults[outer] = False
    faulty = faults[holes]
    filled = ndimage.binary_dilation(faulty, np.ones((3, 3), bool), iterations=2)
    cleaned[filled & (kept[parts] | faulty)] = 1.0
    return cleaned


def _refuse_full_frame(matte: FloatMask) -> None:
    if float((matte > 0.5).mean()) > MAX_FOREGROUND_SHARE:
        raise InvalidImage("The image has no background: show the whole object with some ground.")


def _shrink(rgb: UInt8Array, longest: int) -> UInt8Array:
    """The picture with its longest side at most `longest`."""
    height, width = rgb.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(rgb)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: UInt8Array = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return small


def _align_edges(matte: FloatMask, rgb: UInt8Array) -> UInt8Array:
    """Bring a small matte to the photo's size with its edges on the photo's edges.

    A guided filter (He, Sun, Tang: Guided Image Filtering, 2010, grey guide, equations 5, 6 and
    8) acts inside a band around the rim; elsewhere the matte is only enlarged.

    Args:
        matte: float32 [h, w] in 0..1.
        rgb: uint8 [H, W, 3].

    Returns:
        uint8 [H, W].
    """
    height, width = rgb.shape[:2]
    guide_rgb = _shrink(rgb, REFINE_SIDE)
    size = (guide_rgb.shape[1], guide_rgb.shape[0])
    guide = cv2.cvtColor(guide_rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    large = np.clip(cv2.resize(matte, size, interpolation=cv2.INTER_CUBIC), 0.0, 1.0)

    # The rim of a 320 px matte is uncertain by about 2 of its pixels.
    radius = max(1, round(2.0 * max(size) / max(matte.shape)))
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: FloatMask) -> FloatMask:
        averaged: FloatMask = cv2.boxFilter(plane, -1, window, borderType=cv2.BORDER_REFLECT)
        return averaged

    mean_guide, mean_matte = mean(guide), mean(large)
    variance = mean(guide * guide) - mean_guide**2
    covariance = mean(guide * large) - mean_guide * mean_matte
    slope = covariance / (variance + 1e-3)
    offset = mean_matte - slope * mean_guide
    guided = np.clip(mean(slope) * guide + mean(offset), 0.0, 1.0)
    soft = ((large > 0.05) & (large < 0.95)).astype(np.float32)
    band = np.clip(2.0 * mean(soft), 0.0, 1.0)
    aligned = large + band * (guided - large)
    full = cv2.resize(aligned, (width, height), interpolation=cv2.INTER_LINEAR)
    return to_bytes(255.0 * full)
