"""Sizes of the DeG networks; the defaults are those of the released weights.

It does not build anything, imports no torch, and does not know how many Gaussians are wanted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import Unavailable

#: Side of a patch of the vision transformer and of a token of the autoencoder, pixels.
PATCH = 16
#: Tokens of the vision transformer before those of the patches: the class and the registers.
REGISTERS = 4
LEADING_TOKENS = 1 + REGISTERS
#: Numbers of a camera: direction (3), 1 / distance, half width of the image plane.
CAMERA_CHANNELS = 5
#: The octree halves its cells so many times: points lie on a grid of 256.
OCTREE_LEVELS = 8


def _fit(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)


@dataclass(frozen=True)
class DinoConfig:
    """DINOv3 ViT-H+/16: width, heads, layers, width of the gated MLP."""

    width: int = 1280
    heads: int = 20
    layers: int = 32
    mlp_width: int = 5120

    def __post_init__(self) -> None:
        _fit(self.width % (4 * self.heads) == 0, "dino: width / heads must be a multiple of 4")


@dataclass(frozen=True)
class VaeConfig:
    """The encoder of the FLUX.2 autoencoder: channels, finest level first, and of the latent."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    latent_channels: int = 32

    def __post_init__(self) -> None:
        _fit(len(self.channels) == 4, "vae: channels must hold 4 numbers")
        _fit(all(n % 32 == 0 for n in self.channels), "vae: channels must be multiples of 32")

    @property
    def token_channels(self) -> int:
        """Of a token: 2 x 2 pixels of the latent."""
        return 4 * self.latent_channels


@dataclass(frozen=True)
class FlowConfig:
    """The flow network.

    Attributes:
        latent_tokens, latent_channels: of the latent that is made of noise.
        camera_channels: of the camera that is made beside it.
        width: channels of a token inside.
        feature1_channels, feature2_channels: of the photo's tokens.
        refiner_blocks: blocks on the latent alone, and as many on the photo alone.
        blocks: blocks on latent, photo and camera together.
        heads: of every attention.
        mlp_ratio: width of the MLPs by that of the tokens.
    """

    latent_tokens: int = 8192
    latent_channels: int = 16
    camera_channels: int = CAMERA_CHANNELS
    width: int = 1024
    feature1_channels: int = 1280
    feature2_channels: int = 128
    refiner_blocks: int = 2
    blocks: int = 24
    heads: int = 16
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        _fit(self.width % (8 * self.heads) == 0, "flow: width must be a multiple of 8 x heads")
        _fit(self.head_width >= 6, "flow: a head needs 6 channels, 2 for each axis")
        _fit(self.blocks > 0 and self.refiner_blocks > 0, "flow: there must be blocks")

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


@dataclass(frozen=True)
class OctreeConfig:
    """The octree network: width, channels of the latent it looks at, blocks, heads, MLP ratio."""

    width: int = 1024
    latent_channels: int = 16
    blocks: int = 4
    heads: int = 16
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        _fit(self.width % self.heads == 0, "octree: width must be a multiple of heads")
        _fit(self.blocks > 0, "octree: there must be blocks")

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


@dataclass(frozen=True)
class GaussianConfig:
    """The Gaussian network: as the octree network, and how many Gaussians it makes of a point."""

    width: int = 1024
    latent_channels: int = 16
    blocks: int = 16
    heads: int = 16
    mlp_ratio: int = 4
    gaussians_per_point: int = 32

    def __post_init__(self) -> None:
        _fit(self.width % self.heads == 0, "gs: width must be a multiple of heads")
        _fit(self.blocks > 0, "gs: there must be blocks")
        _fit(self.gaussians_per_point > 0, "gs: a point needs a Gaussian")

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


@dataclass(frozen=True)
class DegConfig:
    """All networks together; `canvas` is the side of the prepared photo, pixels."""

    canvas: int = 1024
    dino: DinoConfig = field(default_factory=DinoConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    octree: OctreeConfig = field(default_factory=OctreeConfig)
    gaussians: GaussianConfig = field(default_factory=GaussianConfig)

    def __post_init__(self) -> None:
        _fit(self.canvas > 0 and self.canvas % PATCH == 0, f"canvas: a multiple of {PATCH} pixels")
        pairs = {
            "feature1": (self.dino.width, self.flow.feature1_channels),
            "feature2": (self.vae.token_channels, self.flow.feature2_channels),
            "latent of the octree": (self.flow.latent_channels, self.octree.latent_channels),
            "latent of the Gaussians": (self.flow.latent_channels, self.gaussians.latent_channels),
        }
        for name, (made, taken) in pairs.items():
            _fit(made == taken, f"{name}: {made} channels are made and {taken} are taken")

    @property
    def photo_tokens(self) -> int:
        """Tokens of a photo: class, registers, patches."""
        return LEADING_TOKENS + (self.canvas // PATCH) ** 2

    @classmethod
    def released(cls) -> DegConfig:
        """The published weights: 371 million numbers in the flow network, 288 in the decoders."""
        return cls()

    @classmethod
    def from_json(cls, text: str | bytes) -> DegConfig:
        """Read the sizes that `to_json` writes, with the names of TripoSplat's own configuration.

        Names that say nothing about sizes are ignored.

        Raises:
            Unavailable: no JSON object, a size is missing, or sizes do not fit together.
        """
        try:
            values = json.loads(text)
            return cls(
                canvas=int(values["canvas"]),
                dino=_dino(values["dino"]),
                vae=VaeConfig(tuple(values["vae"]["channels"]), int(values["vae"]["latent"])),
                flow=_flow(values["flow"]),
                octree=_octree(values["octree"]),
                gaussians=_gaussians(values["gs"]),
            )
        except KeyError as error:
            raise Unavailable(f"The configuration of the DeG networks lacks {error}.") from error
        except (TypeError, ValueError) as error:
            raise Unavailable(
                f"The configuration of the DeG networks cannot be used: {error}."
            ) from error

    def to_json(self) -> str:
        """Every size, as `from_json` reads it."""
        flow, octree, gs = self.flow, self.octree, self.gaussians
        return json.dumps(
            {
                "canvas": self.canvas,
                "dino": {
                    "hidden_size": self.dino.width,
                    "num_heads": self.dino.heads,
                    "num_layers": self.dino.layers,
                    "intermediate_size": self.dino.mlp_width,
                },
                "vae": {"channels": list(self.vae.channels), "latent": self.vae.latent_channels},
                "flow": {
                    "q_token_length": flow.latent_tokens,
                    "in_channels": flow.latent_channels,
                    "cam_channels": flow.camera_channels,
                    "model_channels": flow.width,
                    "cond_channels": flow.feature1_channels,
                    "cond2_channels": flow.feature2_channels,
                    "num_refiner_blocks": flow.refiner_blocks,
                    "num_blocks": flow.blocks,
                    "num_heads": flow.heads,
                    "mlp_ratio": flow.mlp_ratio,
                },
                "octree": {
                    "model_channels": octree.width,
                    "cond_channels": octree.latent_channels,
                    "num_blocks": octree.blocks,
                    "num_heads": octree.heads,
                    "mlp_ratio": octree.mlp_ratio,
                },
                "gs": {
                    "model_channels": gs.width,
                    "cond_channels": gs.latent_channels,
                    "num_blocks": gs.blocks,
                    "num_heads": gs.heads,
                    "mlp_ratio": gs.mlp_ratio,
                    "num_gaussians": gs.gaussians_per_point,
                },
            }
        )


def _dino(values: Mapping[str, Any]) -> DinoConfig:
    return DinoConfig(
        width=int(values["hidden_size"]),
        heads=int(values["num_heads"]),
        layers=int(values["num_layers"]),
        mlp_width=int(values["intermediate_size"]),
    )


def _flow(values: Mapping[str, Any]) -> FlowConfig:
    return FlowConfig(
        latent_tokens=int(values["q_token_length"]),
        latent_channels=int(values["in_channels"]),
        camera_channels=int(values["cam_channels"]),
        width=int(values["model_channels"]),
        feature1_channels=int(values["cond_channels"]),
        feature2_channels=int(values["cond2_channels"]),
        refiner_blocks=int(values["num_refiner_blocks"]),
        blocks=int(values["num_blocks"]),
        heads=int(values["num_heads"]),
        mlp_ratio=int(values["mlp_ratio"]),
    )


def _octree(values: Mapping[str, Any]) -> OctreeConfig:
    return OctreeConfig(
        width=int(values["model_channels"]),
        latent_channels=int(values["cond_channels"]),
        blocks=int(values["num_blocks"]),
        heads=int(values["num_heads"]),
        mlp_ratio=int(values["mlp_ratio"]),
    )


def _gaussians(values: Mapping[str, Any]) -> GaussianConfig:
    return GaussianConfig(
        width=int(values["model_channels"]),
        latent_channels=int(values["cond_channels"]),
        blocks=int(values["num_blocks"]),
        heads=int(values["num_heads"]),
        # The reference fixes it in its code, so its own configuration does not name it.
        mlp_ratio=int(values.get("mlp_ratio", 4)),
        gaussians_per_point=int(values["num_gaussians"]),
    )
