"""The decoders of the golden run, and its draws. It knows no tolerances."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from pipeline.engines.deg.gaussian_network import GaussianNetwork
from pipeline.engines.deg.octree_network import OctreeNetwork
from tests.pipeline.engines.deg.golden_files import golden_config, golden_tensors, tiny_weights


def decoder_weights(prefix: str) -> dict[str, Tensor]:
    """Copies of the weights whose names begin with "octree." or "gs.", without it."""
    return {
        name.removeprefix(prefix): tensor.clone()
        for name, tensor in tiny_weights("decoder").items()
        if name.startswith(prefix)
    }


def build_octree() -> OctreeNetwork:
    network = OctreeNetwork(golden_config().octree)
    network.load_state_dict(decoder_weights("octree."), strict=True)
    return network.requires_grad_(False).eval()


def build_gaussians() -> GaussianNetwork:
    network = GaussianNetwork(golden_config().gaussians)
    network.load_state_dict(decoder_weights("gs."), strict=True)
    return network.requires_grad_(False).eval()


@cache
def tiny_octree() -> OctreeNetwork:
    """Shared: whoever changes one builds its own."""
    return build_octree()


@cache
def tiny_gaussians() -> GaussianNetwork:
    """Shared: whoever changes one builds its own."""
    return build_gaussians()


class GoldenDraws:
    """The numbers that the golden run drew."""

    def offsets(self, level: int, cells: int) -> Tensor:
        drawn = golden_tensors()[f"in.octree.u.{level}"]
        assert len(drawn) == cells
        return drawn

    def jitter(self, points: int) -> Tensor:
        drawn = golden_tensors()["in.octree.jitter"][0]
        assert len(drawn) == points
        return drawn
